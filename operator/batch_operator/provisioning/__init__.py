"""Which nodes there should be: pools, what was learned of them, and the plan for an environment.

Pure, as all of the core: no I/O, no clock, no randomness. Plans are carried out by `provisioners`.
"""
