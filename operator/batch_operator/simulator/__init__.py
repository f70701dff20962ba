"""The operator against a cluster that exists only in memory, in virtual time.

What is simulated is the world around the operator: API server, scheduler, kubelets, garbage
collector and the clock. The operator itself is the real one (`cluster.engine.Engine`): the same
reflectors, cache, cycle and applier that run in production. Checkers read everything that the API
server accepts and know nothing of how the operator works.

The same scenario and seed give the same run, to the byte: there is no thread, no socket, no real
clock and no unseeded randomness in here. Only `cli` (and tests) call this package.
"""
