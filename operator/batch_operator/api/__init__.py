"""The wire format: every kind's fields, bounds and descriptions, as frozen pydantic models.

These models are the one source of truth: `crds/*.yaml` are generated from them (`api.crd`), the
operator parses what the API server stores with them, and the statuses it writes are theirs.
Nothing here talks to anything.
"""
