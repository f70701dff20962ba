"""Announcements that a node will be taken away, by the conventions of those who make them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api import meta

if TYPE_CHECKING:
    from batch_operator.api.objects import Node

_TAINTS = frozenset(
    {
        meta.TAINT_INTERRUPTED,
        "aws-node-termination-handler/spot-itn",
        "aws-node-termination-handler/scheduled-maintenance",
        "aws-node-termination-handler/asg-lifecycle-termination",
        "cloud.google.com/impending-node-termination",
        "node.cloudprovider.kubernetes.io/shutdown",
    }
)


def notice_of(node: Node) -> str | None:
    """What announces the node's end: a taint of others, or our own word that we wait no longer."""
    if meta.ANNOTATION_GIVEN_UP in node.metadata.annotations:
        return meta.ANNOTATION_GIVEN_UP
    return next((one.key for one in node.spec.taints if one.key in _TAINTS), None)
