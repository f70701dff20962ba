"""`make bench`: what a job costs in API writes, operator CPU and time, on fake nodes."""
