"""The running operator: kopf's part, the scheduling loop, and how they are put together."""
