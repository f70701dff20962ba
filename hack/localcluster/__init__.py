"""A real Kubernetes on one machine, for the demo and the end-to-end tests.

With a Docker engine the cluster is a kind cluster. Elsewhere it is *embedded*: etcd, the control
plane, kwok for fake nodes and (as root) one real node with containerd and a kubelet, all built from
Go modules pinned under `hack/go` and run as ordinary processes of this machine. Nothing is fetched
from a container registry, nothing is written outside one state folder, and the user's own
kubeconfig is never touched.
"""
