"""What announces that a node will be taken away, and when that counts against its pool."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from batch_operator.api import meta
from batch_operator.api.objects import Condition, Metadata, NodeSpec, NodeStatus, Taint
from batch_operator.api.objects import Node as NodeObject
from batch_operator.provisioning.history import History
from batch_operator.provisioning.interruptions import SCALE_DOWN, notice_of
from batch_operator.provisioning.nodes import Node, is_interruption, observed_node
from support.builders import START

NEVER = History()
OURS = "batch-operator.io/interrupted"


def node_with(taint: str | None = None, **condition: str) -> NodeObject:
    return NodeObject(
        Metadata(name="n-1", uid="uid-1", resource_version="1", creation_timestamp=START),
        NodeSpec(taints=[Taint(taint)] if taint else []),
        NodeStatus(conditions=[Condition(**condition)] if condition else []),
    )


@pytest.mark.parametrize(
    "taint",
    [
        OURS,
        "aws-node-termination-handler/spot-itn",
        "aws-node-termination-handler/scheduled-maintenance",
        "aws-node-termination-handler/asg-lifecycle-termination",
        "cloud.google.com/impending-node-termination",
        "remediator.kubernetes.azure.com/unschedulable",
        "cloudprovider.azure.microsoft.com/draining",
        "ToBeDeletedByClusterAutoscaler",
        "node.cloudprovider.kubernetes.io/shutdown",
    ],
)
def test_taints_that_announce_the_end(taint: str) -> None:
    assert notice_of(node_with(taint)) == taint


CONDITIONS = {
    "AKS, spot": {"type": "PreemptionScheduled", "status": "True"},
    "AKS, of old": {"type": "PreemptScheduled", "status": "True"},
    "AKS, the machine is deleted": {"type": "TerminateScheduled", "status": "True"},
    "AKS, any event": {
        "type": "VMEventScheduled",
        "status": "True",
        "message": "Preempt Scheduled: Mon, 02 Mar 2026 19:01:45 GMT",
    },
    "the kubelet": {
        "type": "Ready",
        "status": "False",
        "reason": "KubeletNotReady",
        "message": "node is shutting down",
    },
}


@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=CONDITIONS.keys())
def test_conditions_that_announce_the_end(condition: dict[str, str]) -> None:
    assert notice_of(node_with(**condition)) == condition["type"]


@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=CONDITIONS.keys())
def test_a_condition_that_is_over_announces_nothing(condition: dict[str, str]) -> None:
    over = "True" if condition["type"] == "Ready" else "False"

    assert notice_of(node_with(**{**condition, "status": over})) is None


@pytest.mark.parametrize(
    "node",
    [
        node_with("aws-node-termination-handler/rebalance-recommendation"),
        node_with("karpenter.sh/disrupted"),
        node_with("DeletionCandidateOfClusterAutoscaler"),
        node_with("node.kubernetes.io/unschedulable"),
        node_with(type="VMEventScheduled", status="True", message="Freeze Scheduled: Mon, 02 Mar"),
        node_with(type="Ready", status="False", reason="KubeletNotReady", message="PLEG"),
    ],
    ids=lambda one: one.spec.taints[0].key if one.spec.taints else one.status.conditions[0].message,
)
def test_what_may_come_to_nothing_announces_nothing(node: NodeObject) -> None:
    assert notice_of(node) is None
    assert not observed_node(node).is_going


def node(**fields: Any) -> Node:
    return replace(observed_node(node_with()), **fields)


NOTICED = node(notice=OURS)
CORDONED = node(notice=OURS, draining_since=START)
COUNTED_AT_START = NEVER.interrupted(START)


@pytest.mark.parametrize(
    ("now", "before", "history", "is_busy", "counts"),
    [
        (NOTICED, node(), NEVER, True, False),  # it counts once its cordon is stored
        (CORDONED, NOTICED, NEVER, True, True),
        (CORDONED, NOTICED, NEVER, False, True),  # an idle spot node tells as much of its pool
        (CORDONED, CORDONED, COUNTED_AT_START, True, False),
        (CORDONED, None, COUNTED_AT_START, True, False),  # restarted after it was counted
        (CORDONED, None, NEVER, True, True),  # restarted before
        (
            node(notice=OURS, draining_since=START + timedelta(seconds=1)),
            None,
            COUNTED_AT_START,
            True,
            True,
        ),
        (node(notice=SCALE_DOWN, draining_since=START), NOTICED, NEVER, True, True),
        (node(notice=SCALE_DOWN, draining_since=START), NOTICED, NEVER, False, False),
        (node(notice=meta.ANNOTATION_GIVEN_UP, draining_since=START), node(), NEVER, True, False),
        (node(deleting=True), node(), NEVER, True, True),
        (node(deleting=True), node(), NEVER, False, False),
        (node(deleting=True), node(deleting=True), NEVER, True, False),
        (node(deleting=True), None, NEVER, True, False),  # a restart must not count it again
        (node(deleting=True, draining_since=START), node(), NEVER, True, False),  # our own doing
        (node(draining_since=START), node(), NEVER, False, False),
    ],
)
def test_each_interruption_counts_once(
    now: Node, before: Node | None, history: History, *, is_busy: bool, counts: bool
) -> None:
    assert is_interruption(now, before, history, is_busy=is_busy) == counts
