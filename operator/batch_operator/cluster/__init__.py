"""The thin shell around the core: API client, watches, cache, and the writes that were decided.

Nothing here decides anything about a job. Watches fill the cache, the cycle turns a snapshot of it
into mutations, and the applier carries these out; `client.ApiClient` is the seam behind which a
simulator can stand in for a cluster.
"""
