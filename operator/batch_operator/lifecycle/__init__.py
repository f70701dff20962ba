"""AWS Batch's rules for one job, as pure functions: no clock, no I/O, no randomness.

Given a job, what its definition says, what its Pods show and what it depends on, this package says
which state the job and each of its array children are in, what has been counted, what may start,
and what its status should read. It never decides *where* or *when* a job starts: that is
`scheduling`. One file per family of rules; the AWS rule is cited where it is applied.
"""
