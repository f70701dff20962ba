"""Which job starts next, where, and why the others do not: pure functions of a snapshot.

`run_cycle` is the whole of it: it looks at what changed, places what fits, and returns the writes
that follow as data. It reads no clock (the snapshot carries one), asks no API and writes no log;
`cluster.applier` carries its result out and `observability` speaks of it.
"""
