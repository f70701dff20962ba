"""Batch computing with the semantics of AWS Batch, run by any Kubernetes cluster."""
