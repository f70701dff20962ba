"""For which gangs an autoscaler is asked: complete ones, exactly as their jobs' plans have them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from batch_operator.api.amounts import Amounts
from batch_operator.api.job_definition import JobDefinitionSpec
from batch_operator.cluster import decoding
from batch_operator.lifecycle.attempt import Phase, PodAttempt
from batch_operator.lifecycle.plan import Plan, make_plan
from batch_operator.manifests.gangs import gang_job
from batch_operator.scheduling.mutations import StartAttempt
from batch_operator.scheduling.snapshot import Snapshot
from batch_operator.scheduling.whole_gangs import whole_gangs
from support.builders import START, attempt, definition, environment, job, multi_node_spec

ATOMIC = "best-effort-atomic-scale-up.autoscaling.x-k8s.io"
TRAIN = job("train")
PLAN = make_plan(TRAIN, definition(spec=multi_node_spec(numNodes=4)), None)
LIMITS = {"cpu": "1.7777", "nvidia.com/gpu": "1", "memory": "1Gi"}
ASKING: Any = {"type": "none", "none": {"provisioningClassName": ATOMIC}}


def stand_in(group: int, **fields: Any) -> PodAttempt:
    """The Job of one group: of the main node, or of the three others."""
    members = 3 if group else 1
    known: dict[str, Any] = {
        "pod_name": f"train-{group}",
        "job_uid": TRAIN.uid,
        "environment": "ca",
        "milli_cpu": members * 1000,
        "members": members,
        "node_group": group,
    }
    return attempt(Phase.ASSUMED, **{**known, **fields})


def pod(group: int, phase: Phase) -> PodAttempt:
    return replace(stand_in(group), pod_name=f"pod-{group}", members=0, milli_cpu=1000, phase=phase)


def multi_node(properties: dict[str, Any]) -> JobDefinitionSpec:
    return JobDefinitionSpec.model_validate({"type": "multinode", "nodeProperties": properties})


def stored(body: dict[str, Any]) -> PodAttempt:
    """What is observed of a Job that has been created."""
    metadata = {"uid": "uid", "resourceVersion": "5", "creationTimestamp": "2026-01-01T00:00:00Z"}
    body["metadata"] |= metadata
    return decoding.group(msgspec.json.encode(body))


def asked_for(
    *attempts: PodAttempt, plan: Any = PLAN, provisioner: Any = ASKING, **fields: Any
) -> list[list[str]]:
    """The Jobs of each gang that is asked for."""
    snapshot = Snapshot(
        now=START,
        jobs={TRAIN.uid: TRAIN},
        job_uids={TRAIN.key: TRAIN.uid},
        attempts={TRAIN.uid: {one.pod_name: one for one in attempts}},
        definitions={},
        queues={},
        environments={},
        refusals={},
    )
    known = replace(environment("ca", type="MANAGED", provisioner=provisioner), **fields)
    gangs = whole_gangs(known, attempts, snapshot, {TRAIN.uid: plan})
    return [[one.pod_name for _, one in sorted(gang.jobs.items())] for gang in gangs]


def test_a_complete_gang_is_asked_for_with_all_its_jobs() -> None:
    waiting = [stand_in(1), stand_in(0), pod(0, Phase.UNBOUND), pod(1, Phase.STARTING)]

    assert asked_for(*waiting) == [["train-0", "train-1"]]


def test_jobs_are_as_planned_when_they_are_as_the_operator_makes_them() -> None:
    """Whatever counts besides containers, and with more memory after a lack of it."""
    asked = {"requests": {"cpu": "1500m"}}
    template = {
        "spec": {
            "overhead": {"cpu": "100m"},
            "initContainers": [{"name": "init", "image": "i", "resources": asked}],
            "containers": [{"name": "main", "image": "i", "resources": {"limits": LIMITS}}],
        }
    }
    nodes = {"targetNodes": "0:", "podTemplate": template}
    properties = {"numNodes": 4, "mainNode": 0, "nodeRangeProperties": [nodes]}
    plan = make_plan(TRAIN, definition(spec=multi_node(properties)), None)
    assert isinstance(plan, Plan)
    start = StartAttempt(TRAIN, plan, 0, 1, None, "ca", {}, 2.0, provisioning_class=ATOMIC)
    jobs = [stored(gang_job(start, group)) for group in range(2)]

    assert asked_for(*jobs, plan=plan) == [[one.pod_name for one in jobs]]


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.SUCCEEDED, Phase.FAILED])
def test_a_gang_that_has_begun_is_not(phase: Phase) -> None:
    assert asked_for(stand_in(0), stand_in(1), pod(0, phase)) == []


@pytest.mark.parametrize(
    "jobs",
    [
        pytest.param([stand_in(0)], id="one is still to be asked for"),
        pytest.param([stand_in(0), stand_in(1, pod_uid="")], id="one is on its way"),
        pytest.param(
            [stand_in(0), replace(stand_in(1), phase=Phase.FAILED)], id="one is suspended"
        ),
    ],
)
def test_a_gang_of_which_a_part_does_not_stand_is_not(jobs: list[PodAttempt]) -> None:
    assert asked_for(*jobs) == []


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param({"members": 1000, "milli_cpu": 1_000_000}, id="more nodes"),
        pytest.param({"milli_cpu": 192_000}, id="larger nodes"),
        pytest.param({"gpus": 8}, id="with GPUs"),
        pytest.param({"namespace": "elsewhere"}, id="in another namespace"),
        pytest.param({"environment": "other"}, id="in another environment"),
    ],
)
def test_a_job_that_is_not_as_its_plan_says_is_not(forged: dict[str, Any]) -> None:
    assert asked_for(stand_in(0), stand_in(1, **forged)) == []


def test_memory_that_has_grown_after_a_lack_of_it_is_as_planned() -> None:
    grown = [stand_in(0, memory=1 << 40), stand_in(1, memory=1 << 40)]

    assert stand_in(0).amounts == Amounts(1000, 0, 0)
    assert asked_for(*grown) == [["train-0", "train-1"]]


def test_none_is_asked_for_without_a_class_or_where_nothing_new_may_come() -> None:
    whole = [stand_in(0), stand_in(1)]

    assert asked_for(*whole, provisioner={"type": "none"}) == []
    assert asked_for(*whole, deleting=True) == []
