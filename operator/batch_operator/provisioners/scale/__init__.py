"""Nodes by the replicas of objects with a /scale subresource, such as Cluster API's."""
