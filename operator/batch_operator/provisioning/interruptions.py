"""Notices that a node will be taken away, by the conventions of those who give them.

Not among them: what only may come to pass. AWS's rebalance recommendation and the autoscaler's
DeletionCandidate are often followed by nothing; Karpenter taints `karpenter.sh/disrupted` while it
still may change its mind, and once it has not, the Node is being deleted, which needs no notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api import meta

if TYPE_CHECKING:
    from batch_operator.api.objects import Condition, Node

SCALE_DOWN = "ToBeDeletedByClusterAutoscaler"
"""cluster-autoscaler, utils/taints: set right before it drains a node that it has no use for."""
_TAINTS = frozenset(
    {
        meta.TAINT_INTERRUPTED,
        SCALE_DOWN,
        # aws-node-termination-handler, README (TAINT_NODE) and pkg/node.
        "aws-node-termination-handler/asg-lifecycle-termination",
        "aws-node-termination-handler/scheduled-maintenance",
        "aws-node-termination-handler/spot-itn",
        # GKE's node termination handlers: spot VMs, and hosts with GPUs before maintenance.
        "cloud.google.com/impending-node-termination",
        # AKS, "Use node auto-drain": set where a scheduled event has it drain the node.
        "remediator.kubernetes.azure.com/unschedulable",
        # cloud-provider-azure: a Preempt event was seen.
        "cloudprovider.azure.microsoft.com/draining",
        # Kubernetes' cloud node lifecycle controller: the machine has been shut down.
        "node.cloudprovider.kubernetes.io/shutdown",
    }
)
_CONDITIONS = frozenset({"PreemptionScheduled", "PreemptScheduled", "TerminateScheduled"})
"""AKS, node problem detector: one for each kind of scheduled event that ends a machine."""
_VM_EVENT = "VMEventScheduled"
"""AKS, the same for events of every kind. The message begins with which: a Freeze or a Reboot takes
no node away."""
_VM_ENDS = ("Preempt", "Terminate")
_SHUTTING_DOWN = "node is shutting down"
"""The kubelet, graceful node shutdown: so it says in its Ready condition, which is then False."""


def notice_of(node: Node) -> str | None:
    """What announces the node's end: a taint, a condition, or our own word that it is given up."""
    if meta.ANNOTATION_GIVEN_UP in node.metadata.annotations:
        return meta.ANNOTATION_GIVEN_UP
    taint = next((one.key for one in node.spec.taints if one.key in _TAINTS), None)
    if taint is not None:
        return taint
    return next((one.type for one in node.status.conditions if _announces(one)), None)


def _announces(condition: Condition) -> bool:
    if condition.type == "Ready":
        told = f"{condition.reason} {condition.message}"
        return condition.status == "False" and _SHUTTING_DOWN in told
    if condition.status != "True":
        return False
    is_event = condition.type == _VM_EVENT and condition.message.startswith(_VM_ENDS)
    return is_event or condition.type in _CONDITIONS
