"""NodePools for Karpenter, which makes nodes of them as Pods wait.

The operator writes the NodePools of an environment and reads what Karpenter says of them, of its
NodeClaims and of launches that failed. It never touches a node: Karpenter adds and removes them.
"""
