"""What is read of a Node, whatever it says of itself: its kubelet may write most of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from batch_operator.api import meta
from batch_operator.api.compute_environment import (
    LABEL_INSTANCE_TYPE,
    ComputeEnvironmentSpec,
    ComputeEnvironmentStatus,
)
from batch_operator.api.objects import Condition, Metadata, NodeSpec, NodeStatus
from batch_operator.api.objects import Node as NodeObject
from batch_operator.cluster.cache import Cache
from batch_operator.lifecycle.stops import Policy
from batch_operator.provisioning.nodes import observed_node
from batch_operator.provisioning.plan import View, plan_capacity
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.memo import Memo
from batch_operator.scheduling.mutations import WriteStatus
from support.builders import START, environment
from support.managed import elastic

END_OF_TIME = datetime.max.replace(tzinfo=UTC)


def node_object(
    *,
    ready: bool = True,
    cordoned: bool = False,
    changed_at: datetime = START,
    annotations: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    **allocatable: str,
) -> NodeObject:
    """A Node of pool `small` of `elastic`."""
    own = {meta.LABEL_COMPUTE_ENVIRONMENT: "elastic", LABEL_INSTANCE_TYPE: "small"}
    return NodeObject(
        Metadata(
            name="n-1",
            uid="uid-1",
            resource_version="1",
            creation_timestamp=START,
            labels={**own, **(labels or {})},
            annotations=annotations or {},
        ),
        NodeSpec(unschedulable=cordoned),
        NodeStatus(
            allocatable={"cpu": "4", "memory": "16Gi", "pods": "110", **allocatable},
            conditions=[
                Condition(
                    type="Ready",
                    status="True" if ready else "False",
                    last_transition_time=changed_at,
                )
            ],
        ),
    )


def status_with(node: NodeObject) -> ComputeEnvironmentStatus:
    """The environment's status after a few cycles with that Node."""
    cache, memo = Cache(), Memo()
    cache.environments.replace([environment("elastic", **elastic()["spec"])], 1)
    cache.nodes.replace([observed_node(node)], 2)
    written: list[ComputeEnvironmentStatus] = []
    for seconds in (1, 11, 1000):
        now = START + timedelta(seconds=seconds)
        result = run_cycle(cache.snapshot(now, Policy(), 100), memo)
        assert not result.faults, result.faults
        mutations = [one for one in result.mutations if isinstance(one, WriteStatus)]
        written += [
            one.status for one in mutations if isinstance(one.status, ComputeEnvironmentStatus)
        ]
    return written[-1]


@pytest.mark.parametrize(
    "node",
    [
        pytest.param(node_object(changed_at=END_OF_TIME), id="ready at the end of time"),
        pytest.param(node_object(changed_at=END_OF_TIME, ready=False), id="unready since then"),
        pytest.param(
            node_object(
                cordoned=True, annotations={meta.ANNOTATION_DRAINING: END_OF_TIME.isoformat()}
            ),
            id="cordoned then",
        ),
        pytest.param(node_object(changed_at=datetime(2399, 1, 1, tzinfo=UTC)), id="in centuries"),
        pytest.param(node_object(memory="9E"), id="memory without end"),
        pytest.param(node_object(pods="1000000"), id="room for a million Pods"),
        pytest.param(node_object(**{"virtual.example/gpu": "5000"}), id="5,000 GPUs"),
        pytest.param(
            node_object(labels={LABEL_INSTANCE_TYPE: "other"}, cpu="100M"), id="100 million CPUs"
        ),
    ],
)
def test_a_node_may_say_anything_and_its_environment_still_has_a_status(node: NodeObject) -> None:
    nodes = status_with(node).nodes

    assert nodes is not None
    assert nodes.ready + nodes.draining <= 1


def test_a_count_of_pods_is_a_quantity() -> None:
    assert observed_node(node_object(pods="1k")).offers.pods == 1000


@pytest.mark.parametrize(
    ("cordoned", "removed"),
    [pytest.param(True, ["n-1"], id="cordoned"), pytest.param(False, [], id="uncordoned since")],
)
def test_a_node_that_somebody_uncordons_is_on_its_way_out_no_more(
    *, cordoned: bool, removed: list[str]
) -> None:
    """`kubectl uncordon` leaves our annotation, and Pods may come as soon as it is done."""
    annotations = {meta.ANNOTATION_DRAINING: START.isoformat()}
    node = observed_node(node_object(cordoned=cordoned, annotations=annotations))
    now = START + timedelta(seconds=10)
    plan = plan_capacity(
        View(spec=ComputeEnvironmentSpec.model_validate(elastic()["spec"]), nodes=[node], now=now)
    )

    assert [one.name for one in plan.remove] == removed
    assert list(plan.idle_since) == ([] if cordoned else ["n-1"])


def test_a_node_that_comes_with_a_clock_of_the_past_is_waited_for_as_any_other() -> None:
    """Its machine is an hour behind until it has asked for the time."""
    node = observed_node(node_object(ready=False, changed_at=START - timedelta(hours=1)))
    patience = timedelta(minutes=10)

    assert not node.is_broken(START + patience - timedelta(seconds=1), patience)
    assert node.is_broken(START + patience, patience)


def test_how_long_a_node_took_is_never_more_than_an_hour() -> None:
    """Or else a clock that goes ahead would have orders waited for for years."""
    pools = status_with(node_object(changed_at=START + timedelta(days=300))).pools

    assert [one.ready_seconds for one in pools] == [3600]
