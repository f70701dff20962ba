"""`make demo`: a cluster, the operator and the examples, watched until every job has ended."""
