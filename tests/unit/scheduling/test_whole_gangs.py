"""For which gangs an autoscaler is asked: complete ones, exactly as their jobs' plans have them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from batch_operator.api.amounts import Amounts
from batch_operator.lifecycle.attempt import Phase, PodAttempt
from batch_operator.lifecycle.plan import Plan, make_plan
from batch_operator.scheduling.snapshot import Snapshot
from batch_operator.scheduling.whole_gangs import whole_gangs
from support.builders import START, attempt, definition, environment, job, multi_node_spec

ATOMIC = "best-effort-atomic-scale-up.autoscaling.x-k8s.io"
TRAIN = job("train")
PLAN = make_plan(TRAIN, definition(spec=multi_node_spec(numNodes=4)), None)
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


def asked_for(*attempts: PodAttempt, provisioner: Any = ASKING, **fields: Any) -> list[list[str]]:
    """The Jobs of each gang that is asked for."""
    assert isinstance(PLAN, Plan)
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
    gangs = whole_gangs(known, attempts, snapshot, {TRAIN.uid: PLAN})
    return [[one.pod_name for _, one in sorted(gang.jobs.items())] for gang in gangs]


def test_a_complete_gang_is_asked_for_with_all_its_jobs() -> None:
    waiting = [stand_in(1), stand_in(0), pod(0, Phase.UNBOUND), pod(1, Phase.STARTING)]

    assert asked_for(*waiting) == [["train-0", "train-1"]]


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
