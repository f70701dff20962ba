"""Nothing, where an autoscaler reacts to waiting Pods; but for multi-node jobs it can be asked.

An autoscaler that sees Pods one by one may get nodes for half of a multi-node job. With
cluster-autoscaler's ProvisioningRequest it is asked for all of them at once.
"""
