"""Decisions as Kubernetes objects: dataclasses in, dictionaries out, with deterministic names."""
