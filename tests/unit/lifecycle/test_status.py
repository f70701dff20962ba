"""The status of a job: its words, its bounds, and that an unchanged world changes nothing in it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_operator.api.crd import structural
from batch_operator.api.index_set import IndexSet
from batch_operator.api.job import BatchJobStatus, JobState
from batch_operator.api.job_queue import JobStateTimeLimitAction
from batch_operator.lifecycle.array_parameters import PerIndex, RecordedLines
from batch_operator.lifecycle.attempt import Phase, PodAttempt, StartError
from batch_operator.lifecycle.dependencies import Doom, Gate
from batch_operator.lifecycle.evaluate import Evaluation, evaluate
from batch_operator.lifecycle.holds import Hold, Reason
from batch_operator.lifecycle.members import members_of
from batch_operator.lifecycle.multi_node import NodeGroup
from batch_operator.lifecycle.plan import Invalid, Plan
from batch_operator.lifecycle.states import FINAL
from batch_operator.lifecycle.status import status_after_fault, status_of
from batch_operator.lifecycle.stops import Policy
from batch_operator.lifecycle.stored_counts import counted_in, passed_in
from batch_operator.lifecycle.surroundings import NOWHERE, Surroundings
from support.builders import START, attempt, job, plan
from support.structural import problems

FAILED, RUNNING, STARTING, SUCCEEDED, UNBOUND = (
    Phase.FAILED,
    Phase.RUNNING,
    Phase.STARTING,
    Phase.SUCCEEDED,
    Phase.UNBOUND,
)
EXITED = "Essential container in task exited"
SCHEMA = structural(BatchJobStatus)
WAITS = Hold(Reason.WAITING_FOR_DEPENDENCIES, "waits for a to succeed", blocked_by=("a",))
NOT_FOUND = Hold(Reason.JOB_DEFINITION_NOT_FOUND, "apply it", stalled=True)
DISABLED = Hold(Reason.JOB_QUEUE_DISABLED, "it starts nothing new")
TOO_LARGE = Hold(
    Reason.COMPUTE_ENVIRONMENT_MAX_RESOURCE,
    "needs 9 vCPUs",
    stalled=True,
    status_reason="MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - x",
)
NO_ROOM = Hold(Reason.INSUFFICIENT_CAPACITY, "needs 2 vCPUs", blocked_by=("local",), position=1)


def behind(position: int) -> Hold:
    return Hold(Reason.BEHIND_OTHERS, f"number {position} in JobQueue main", position=position)


def looked(
    stored: Any,
    attempts: list[PodAttempt],
    now: datetime,
    *,
    of: Plan | Hold | Invalid | None = None,
    gate: Gate | None = None,
    queue_hold: Hold | None = None,
    around: Surroundings = NOWHERE,
) -> Evaluation:
    return evaluate(
        stored,
        attempts,
        plan(attempts=2) if of is None else of,
        gate or Gate(members_of(stored)),
        policy=Policy(),
        now=now,
        queue_hold=queue_hold,
        around=around,
    )


def status(
    *attempts: PodAttempt,
    hold: Hold | None = None,
    at_s: float = 100,
    before: BatchJobStatus | None = None,
    array: dict[str, Any] | None = None,
    spec: dict[str, Any] | None = None,
    node_hold: Hold | None = None,
    **world: Any,
) -> BatchJobStatus:
    """The status of job `job`, tried twice, at `at_s`; `hold` is the scheduler's."""
    stored = job(status=before, arrayProperties=array, **(spec or {}))
    now = START + timedelta(seconds=at_s)
    look = looked(stored, list(attempts), now, **world)
    return status_of(replace(look, node_hold=node_hold), hold, now)


def parsed(written: BatchJobStatus) -> BatchJobStatus:
    """A status as the API server gives it back."""
    return BatchJobStatus.model_validate_json(json.dumps(written.to_wire()))


# States and reasons

ERROR = StartError("CannotPullContainerError: x", "container main: ErrImagePull: x", hopeless=False)
PULLING = attempt(STARTING, started_at=None, bound_at=START + timedelta(seconds=90))

SINGLE: dict[str, tuple[list[PodAttempt], dict[str, Any], str, str | None]] = {
    "it waits for its dependencies": (
        [],
        {"gate": Gate(IndexSet(), hold=WAITS)},
        "PENDING",
        "WaitingForDependencies",
    ),
    "its definition is still to come": (
        [],
        {"of": NOT_FOUND},
        "SUBMITTED",
        "JobDefinitionNotFound",
    ),
    "it waits for its turn": ([], {"hold": behind(3)}, "RUNNABLE", "BehindOthers"),
    "it waits for room": ([], {"hold": NO_ROOM}, "RUNNABLE", "InsufficientCapacity"),
    "its queue takes nothing": ([], {"queue_hold": DISABLED}, "RUNNABLE", "JobQueueDisabled"),
    "its Pod is on its way": ([attempt(Phase.ASSUMED)], {}, "RUNNABLE", "WaitingForNode"),
    "its Pod waits for a node": ([attempt(UNBOUND)], {}, "RUNNABLE", "WaitingForNode"),
    "no node takes its Pod": (
        [attempt(UNBOUND, unschedulable="0/1 nodes")],
        {},
        "RUNNABLE",
        "Unschedulable",
    ),
    "its Pod waits for a node, whatever its queue takes": (
        [attempt(UNBOUND)],
        {"queue_hold": DISABLED},
        "RUNNABLE",
        "WaitingForNode",
    ),
    "it is suspended, and its Pod is to be taken back": (
        [attempt(UNBOUND, node_name=None)],
        {"spec": {"suspend": True}},
        "RUNNABLE",
        "Suspended",
    ),
    "it is suspended, and its Pod has been told to go": (
        [attempt(UNBOUND, node_name=None, requeued="Preempted: it is suspended", deleting=True)],
        {"spec": {"suspend": True}},
        "RUNNABLE",
        "Suspended",
    ),
    "it is suspended, and its Pod has a node": (
        [PULLING],
        {"spec": {"suspend": True}},
        "STARTING",
        "ContainersStarting",
    ),
    "its Pod is being stopped": (
        [attempt(UNBOUND)],
        {"spec": {"terminate": {"reason": "wrong"}}},
        "RUNNABLE",
        "Stopping",
    ),
    "its images are pulled": ([PULLING], {}, "STARTING", "ContainersStarting"),
    "its image cannot be pulled": (
        [replace(PULLING, start_error=ERROR)],
        {},
        "STARTING",
        "ContainersStarting",
    ),
    "its containers run": ([attempt(RUNNING)], {}, "RUNNING", None),
    "it is to be tried again": ([attempt(FAILED)], {"hold": NO_ROOM}, "RUNNABLE", NO_ROOM.reason),
    "it has succeeded": ([attempt(SUCCEEDED)], {}, "SUCCEEDED", None),
    "it can never run": ([], {"of": Invalid("no CPU")}, "FAILED", None),
}


@pytest.mark.parametrize("name", SINGLE)
def test_a_job_that_is_not_running_says_why(name: str) -> None:
    """AWS Batch, job states; the reason is what AWS does not tell."""
    attempts, world, state, reason = SINGLE[name]
    found = status(*attempts, **world)

    assert found.state == state
    assert (found.pending and found.pending.reason) == reason


NODE_COMES = Hold(Reason.WAITING_FOR_NODE, "a node of type big is on its way")
GANG = replace(plan(), groups=(NodeGroup("0", (0,), {}), NodeGroup("1:", (1, 2), {})))
"""Three nodes, of which the first is the main one."""
MAKERS = [
    attempt(
        Phase.ASSUMED,
        pod_name=f"job-{group}",
        pod_uid=f"job-{group}",
        node_group=group,
        members=size,
    )
    for group, size in ((0, 1), (1, 2))
]
"""The Jobs that make their Pods."""
MAIN, *OTHERS = (
    attempt(UNBOUND, pod_name=name, pod_uid=name, node_group=group, member=member, gated=True)
    for name, group, member in (("main", 0, 0), ("b", 1, 0), ("c", 1, 1))
)
MESSAGES: dict[str, tuple[list[PodAttempt], dict[str, Any], str]] = {
    "no node takes its Pod": (
        [attempt(UNBOUND, unschedulable="0/1 nodes are available: 1 Insufficient cpu.")],
        {},
        "Pod job-0-1 fits on no node: 0/1 nodes are available: 1 Insufficient cpu.",
    ),
    "a node is being made for its Pod": (
        [attempt(UNBOUND, unschedulable="0/1 nodes")],
        {"node_hold": NODE_COMES},
        "a node of type big is on its way",
    ),
    "its template has a gate of ours, which nobody takes off": (
        [attempt(UNBOUND, gated=True)],
        {},
        "its Pod waits for a node",
    ),
    "none of its nodes has a Pod": (
        MAKERS,
        {"of": GANG},
        "3 of its 3 Pods are still to be made; if that lasts, `kubectl describe job job-0 job-1` "
        "says what the cluster refuses",
    ),
    "one of its nodes has no Pod": (
        [*MAKERS, MAIN, OTHERS[0]],
        {"of": GANG},
        "1 of its 3 Pods are still to be made; if that lasts, `kubectl describe job job-0 job-1` "
        "says what the cluster refuses",
    ),
    "all of its nodes have Pods": (
        [*MAKERS, MAIN, *OTHERS],
        {"of": GANG},
        "its main node is about to be let go to a node",
    ),
    "no node takes its main node's Pod": (
        [*MAKERS, replace(MAIN, gated=False, unschedulable="0/1 nodes"), *OTHERS],
        {"of": GANG},
        "Pod main fits on no node: 0/1 nodes",
    ),
    "its node prepares it": (
        [PULLING],
        {},
        "node node mounts volumes, pulls images and starts containers; if that lasts, "
        "`kubectl describe pod job-0-1` says what it waits for",
    ),
    "its image cannot be pulled": (
        [replace(PULLING, start_error=ERROR)],
        {},
        "container main: ErrImagePull: x",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_job_whose_pod_does_not_run_says_what_its_pod_says(name: str) -> None:
    attempts, world, message = MESSAGES[name]
    found = status(*attempts, **world)

    assert found.pending is not None
    assert found.pending.message == message


def test_a_job_that_waits_says_since_when_behind_what_and_until_when() -> None:
    found = status(hold=NO_ROOM)

    assert found.pending is not None
    assert found.pending.to_wire() == {
        "reason": "InsufficientCapacity",
        "message": "needs 2 vCPUs",
        "position": 1,
        "queue": "main",
        "blockedBy": ["local"],
        "since": "2026-01-01T00:01:40Z",
    }


def test_a_job_that_is_looked_at_again_says_when() -> None:
    found = status(replace(PULLING, start_error=ERROR))

    assert found.pending is not None
    assert found.pending.next_look_at == START + timedelta(seconds=150)


def test_a_blocked_job_carries_the_reason_of_aws_while_it_is_runnable() -> None:
    """AWS Batch, blocked queues: statusReason of a job in RUNNABLE."""
    blocked = status(queue_hold=TOO_LARGE)
    running = status(attempt(RUNNING), queue_hold=TOO_LARGE)

    assert blocked.status_reason == TOO_LARGE.status_reason
    assert running.status_reason is None


def test_a_pod_that_fits_on_no_node_lacks_capacity_in_aws_words() -> None:
    found = status(attempt(UNBOUND, unschedulable="0/1 nodes"))

    assert found.status_reason == (
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested "
        "for instance type [local]"
    )


ARRAYS: dict[str, tuple[list[PodAttempt], dict[str, Any], str, str | None]] = {
    "none has begun and nothing holds it": ([], {}, "PENDING", None),
    "its definition is still to come": (
        [],
        {"of": NOT_FOUND},
        "SUBMITTED",
        "JobDefinitionNotFound",
    ),
    "they wait for dependencies": (
        [],
        {"gate": Gate(IndexSet(), hold=WAITS)},
        "PENDING",
        "WaitingForDependencies",
    ),
    "they wait for room": ([], {"hold": NO_ROOM}, "PENDING", "InsufficientCapacity"),
    "one runs": ([attempt(RUNNING)], {}, "PENDING", "ArrayInProgress"),
    "some have ended": (
        [attempt(SUCCEEDED), attempt(FAILED, index=1, number=1)],
        {},
        "PENDING",
        "ArrayInProgress",
    ),
    "all have succeeded": (
        [attempt(SUCCEEDED, index=index) for index in range(3)],
        {},
        "SUCCEEDED",
        None,
    ),
    "one has failed for good, and all are over": (
        [
            attempt(SUCCEEDED),
            attempt(SUCCEEDED, index=1),
            attempt(FAILED, index=2),
            attempt(FAILED, index=2, number=2, pod_uid="second"),
        ],
        {},
        "FAILED",
        None,
    ),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_is_pending_until_all_of_its_children_are_over(name: str) -> None:
    """AWS Batch, array jobs: the parent is PENDING while its children run."""
    attempts, world, state, reason = ARRAYS[name]
    found = status(*attempts, array={"size": 3}, **world)

    assert found.state == state
    assert (found.pending and found.pending.reason) == reason


@pytest.mark.parametrize(
    "news",
    [
        {"pod_name": "another"},
        {"pod_uid": "another"},
        {"node_name": "another"},
        {"started_at": START + timedelta(seconds=11)},
        {"environment": "another"},
    ],
)
def test_what_becomes_known_of_an_attempt_that_lives_is_told(news: dict[str, Any]) -> None:
    before = attempt(RUNNING)
    after = replace(before, **news)
    told = [status(after, before=seen).attempts for seen in (status(before), None)]

    assert told[0] == told[1] != status(before).attempts


def test_an_array_says_how_far_it_is_and_what_holds_the_rest() -> None:
    found = status(
        attempt(SUCCEEDED, index=0),
        attempt(RUNNING, index=1),
        attempt(STARTING, index=2),
        attempt(UNBOUND, index=3, unschedulable="0/1 nodes"),
        attempt(FAILED, index=4, retryable=False),
        array={"size": 7},
        hold=NO_ROOM,
    )

    assert found.pending is not None
    assert found.pending.message == (
        "2 of 7 children have ended, 1 running, 1 starting, 3 runnable; needs 2 vCPUs; "
        "index 3: 0/1 nodes"
    )
    assert found.pending.blocked_by == ["local"]


def test_an_array_that_holds_itself_back_says_so() -> None:
    """Beyond AWS Batch: maxParallel."""
    found = status(attempt(RUNNING), array={"size": 3, "maxParallel": 1})

    assert found.pending is not None
    assert found.pending.message == (
        "0 of 3 children have ended, 1 running, 2 runnable (maxParallel 1)"
    )


GATED = Gate(IndexSet.of([0]), hold=WAITS)
"""Only the first child is past its dependencies."""
ONE_AT_A_TIME = {"size": 3, "maxParallel": 1}
TWO_AT_A_TIME = {"size": 3, "maxParallel": 2}
SENTENCES: dict[str, tuple[list[PodAttempt], dict[str, Any], str]] = {
    "it may start more": (
        [attempt(RUNNING)],
        {"array": TWO_AT_A_TIME},
        "1 running, 2 runnable",
    ),
    "it may start more and has no room": (
        [attempt(RUNNING)],
        {"array": TWO_AT_A_TIME, "hold": NO_ROOM},
        "1 running, 2 runnable; needs 2 vCPUs",
    ),
    "it holds itself back, whatever there is room for": (
        [attempt(RUNNING)],
        {"array": ONE_AT_A_TIME, "hold": NO_ROOM},
        "1 running, 2 runnable; needs 2 vCPUs",
    ),
    "nothing of it waits": (
        [attempt(RUNNING), attempt(RUNNING, index=1), attempt(RUNNING, index=2)],
        {"array": {"size": 3, "maxParallel": 3}, "hold": NO_ROOM},
        "3 running",
    ),
    "nothing of it waits, and nothing would hold it": (
        [attempt(RUNNING), attempt(RUNNING, index=1)],
        {"array": {"size": 2, "maxParallel": 2}},
        "2 running",
    ),
    "it is terminated": (
        [attempt(RUNNING)],
        {"array": {"size": 1}, "spec": {"terminate": {"reason": "wrong"}}},
        "1 running; terminated: wrong; its Pods are being stopped",
    ),
    "nodes are made for its Pods": (
        [attempt(UNBOUND, unschedulable="0/1 nodes")],
        {"array": {"size": 1}, "node_hold": NODE_COMES},
        "1 runnable; a node of type big is on its way",
    ),
    "nodes are made for its Pods, which nobody has tried to place": (
        [attempt(UNBOUND)],
        {"array": {"size": 1}, "node_hold": NODE_COMES},
        "1 runnable; a node of type big is on its way",
    ),
    "nodes are made for its Pods, and one cannot start": (
        [replace(PULLING, start_error=ERROR), attempt(UNBOUND, index=1, unschedulable="0/1 nodes")],
        {"array": {"size": 2}, "node_hold": NODE_COMES},
        "1 starting, 1 runnable; index 0: container main: ErrImagePull: x",
    ),
    "all that waits waits for dependencies": (
        [attempt(RUNNING)],
        {"array": ONE_AT_A_TIME, "gate": GATED},
        "1 running, 2 pending; waits for a to succeed",
    ),
    "others are before it": (
        [attempt(RUNNING)],
        {"array": {"size": 3}, "hold": behind(7)},
        "1 running, 2 runnable; others in its queue start first",
    ),
    "a Pod cannot start": (
        [replace(PULLING, start_error=ERROR)],
        {"array": {"size": 1}},
        "1 starting; index 0: container main: ErrImagePull: x",
    ),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_an_array_says_what_holds_it_when(name: str) -> None:
    attempts, world, expected = SENTENCES[name]
    size = world["array"]["size"]
    found = status(*attempts, **world)

    assert found.pending is not None
    assert found.pending.message == f"0 of {size} children have ended, {expected}"


def test_an_array_does_not_say_twice_that_it_waits_for_its_dependencies() -> None:
    found = status(attempt(SUCCEEDED), array={"size": 3}, gate=GATED)

    assert found.pending is not None
    assert found.pending.message == (
        "1 of 3 children have ended, 2 pending; waits for a to succeed"
    )


def test_an_array_whose_children_failed_while_they_waited_does_not_say_for_what() -> None:
    cancelled = {"cancel": {"reason": "not needed"}}
    found = status(attempt(RUNNING), array={"size": 3}, gate=GATED, spec=cancelled)

    assert found.pending is not None
    assert found.pending.message == (
        "2 of 3 children have ended, 1 running; cancelled: not needed; its Pods are being stopped"
    )


def test_an_array_behind_others_does_not_name_them_for_they_change_with_every_start() -> None:
    named = replace(behind(7), blocked_by=("first", "second"))
    found = status(attempt(RUNNING), array={"size": 3}, hold=named)

    assert found.pending is not None
    assert found.pending.blocked_by == []


def test_an_array_that_is_deleted_is_not_held_back_by_a_bound_that_it_does_not_have() -> None:
    deleted = replace(job(arrayProperties={"size": 3}), deleting=True)
    found = status_of(looked(deleted, [attempt(RUNNING)], START), None, START)

    assert found.pending is not None
    assert found.pending.message == "0 of 3 children have ended, 1 running, 2 runnable"


WAITING: dict[str, tuple[list[PodAttempt], dict[str, Any], list[tuple[str, str, int | None]]]] = {
    "some for room and some for their dependencies": (
        [],
        {"array": {"size": 3}, "gate": GATED, "hold": NO_ROOM},
        [("PENDING", "WaitingForDependencies", None), ("RUNNABLE", "InsufficientCapacity", 0)],
    ),
    "those that are tried again before the others": (
        [attempt(FAILED, index=2)],
        {"array": {"size": 3}, "hold": NO_ROOM},
        [("RUNNABLE", "InsufficientCapacity", 2)],
    ),
    "one that is tried again, but is not past its dependencies, not before another": (
        [attempt(FAILED, index=2)],
        {"array": {"size": 3}, "gate": GATED, "hold": NO_ROOM},
        [("PENDING", "WaitingForDependencies", None), ("RUNNABLE", "InsufficientCapacity", 0)],
    ),
    "nobody, for all have Pods": (
        [attempt(RUNNING), attempt(UNBOUND, index=1)],
        {"array": {"size": 2}, "hold": NO_ROOM},
        [],
    ),
    "nobody, for nothing is in their way": ([], {"array": {"size": 2}}, []),
}


@pytest.mark.parametrize("name", WAITING)
def test_of_an_arrays_children_that_have_no_pod_it_is_told_why_they_wait(name: str) -> None:
    attempts, world, expected = WAITING[name]
    limit = JobStateTimeLimitAction(
        reason="*", state="PENDING", max_time_seconds=600, action="CANCEL"
    )
    found = status(*attempts, around=Surroundings(rules=(limit,)), **world)

    assert found.array is not None
    assert [(one.state, one.reason, one.index) for one in found.array.waiting] == expected


def test_an_array_counts_its_children_by_state_and_names_them_by_interval() -> None:
    """AWS Batch, array jobs: statusSummary; one object whatever the size."""
    found = status(
        attempt(SUCCEEDED, index=0),
        attempt(SUCCEEDED, index=1),
        attempt(RUNNING, index=2),
        attempt(STARTING, index=3),
        attempt(UNBOUND, index=4),
        attempt(FAILED, index=5),
        array={"size": 8},
        gate=Gate(IndexSet.range(7), hold=WAITS),
    )

    assert found.array is not None
    assert found.array.to_wire() == {
        "size": 8,
        "statusSummary": {
            "SUBMITTED": 0,
            "PENDING": 1,
            "RUNNABLE": 3,
            "STARTING": 1,
            "RUNNING": 1,
            "SUCCEEDED": 2,
            "FAILED": 0,
        },
        "indexes": {
            "pending": "7",
            "runnable": "4-6",
            "starting": "3",
            "running": "2",
            "succeeded": "0-1",
        },
        "attempts": [{"attempts": 1, "indexes": "5"}],
    }


WAS = [({"runnable": "0-2"}, "RUNNABLE"), ({"pending": "0-2"}, "PENDING"), ({}, "SUBMITTED")]


@pytest.mark.parametrize(("indexes", "state"), WAS)
def test_children_stay_where_they_are_when_their_definition_goes(
    indexes: dict[str, str], state: str
) -> None:
    summary = {"SUBMITTED": 0, "PENDING": 0, "RUNNABLE": 0, state: 3}
    array = {"size": 3, "indexes": indexes, "statusSummary": summary}
    parent = "SUBMITTED" if state == "SUBMITTED" else "PENDING"
    before = BatchJobStatus.model_validate({"state": parent, "array": array})
    found = status(array={"size": 3}, before=before, of=NOT_FOUND)

    assert found.array is not None
    assert {name: count for name, count in found.array.status_summary.items() if count} == {
        state: 3
    }
    assert found.array.indexes.to_wire() == indexes


@pytest.mark.parametrize("state", ["SUBMITTED", "PENDING", "RUNNABLE"])
def test_a_job_stays_where_it_is_when_its_definition_goes(state: str) -> None:
    assert status(before=BatchJobStatus(state=JobState(state)), of=NOT_FOUND).state == state


def test_the_lines_of_an_array_are_recorded_when_children_could_start_with_them() -> None:
    """And not before: until then its ConfigMap may be made anew."""
    recording = Hold(Reason.PARAMETERS_BEING_RECORDED, "the lines are being recorded")
    known = replace(plan(), per_index=PerIndex((), digest="d1e5"), hold=recording)
    ready, gated = (
        status(array={"size": 3}, of=known, gate=gate)
        for gate in (None, Gate(IndexSet(), hold=WAITS))
    )

    later = status(array={"size": 3}, of=known, before=gated)
    found = [one.array.parameters_digest for one in (ready, gated, later) if one.array]

    assert found == ["d1e5", None, "d1e5"]


def test_which_lines_an_array_has_stays_recorded() -> None:
    recorded = {"parametersDigest": "d1e5", "parametersDigestIndexes": "0-8"}
    array = {"size": 3, "indexes": {"runnable": "0-2"}, **recorded}
    before = BatchJobStatus.model_validate({"state": "PENDING", "array": array})
    found = status(array={"size": 3}, before=before)

    assert found.array is not None
    assert found.array.parameters_digest == "d1e5"
    assert found.array.parameters_digest_indexes == "0-8"


@pytest.mark.parametrize(
    ("name", "expected"), [("lines", ("d1e5", "0-8")), ("others", (None, None))]
)
def test_a_rerun_takes_over_which_lines_its_children_failed_with(
    name: str, expected: tuple[str | None, str | None]
) -> None:
    """Unless it takes its own from another ConfigMap."""
    lines = {"configMap": {"name": name, "key": "lines", "parameters": ["file"]}}
    old = RecordedLines(("default", "lines", "lines"), "d1e5", IndexSet.range(9))
    found = status(
        array={"rerunFailedOf": "a", "parameters": lines},
        gate=Gate(IndexSet(), hold=WAITS, members=IndexSet.of([7, 8]), lines=old),
    )

    assert found.array is not None
    assert found.array.members == "7-8"
    assert (found.array.parameters_digest, found.array.parameters_digest_indexes) == expected


def test_the_size_that_a_rerun_tells_its_children_stays_recorded() -> None:
    members = IndexSet.of([7, 8])
    again = {"rerunFailedOf": "a"}
    first = status(array=again, gate=Gate(members, members=members, told_size=100))
    then = status(array=again, before=first)
    ordinary = status(array={"size": 3}, before=status(array={"size": 3}))

    assert [one.array.told_size for one in (first, then, ordinary) if one.array] == [100, 100, None]


# Attempts


def test_every_attempt_of_a_job_has_a_row() -> None:
    """AWS Batch, DescribeJobs: attempts[]."""
    first = status(attempt(FAILED, exit_code=3, reason="r"))
    second = attempt(RUNNING, number=2, started_at=START + timedelta(seconds=30))
    found = status(second, before=first)

    assert [row.to_wire() for row in found.attempts] == [
        {
            "attempt": 1,
            "podName": "job-0-1",
            "podUid": "pod-0-1",
            "nodeName": "node",
            "computeEnvironment": "local",
            "startedAt": "2026-01-01T00:00:10Z",
            "stoppedAt": "2026-01-01T00:00:20Z",
            "exitCode": 3,
            "reason": "r",
            "statusReason": EXITED,
        },
        {
            "attempt": 2,
            "podName": "job-0-2",
            "podUid": "pod-0-2",
            "nodeName": "node",
            "computeEnvironment": "local",
            "startedAt": "2026-01-01T00:00:30Z",
        },
    ]


def test_an_attempt_that_is_on_its_way_has_no_row_yet() -> None:
    assert status(attempt(Phase.ASSUMED)).attempts == []


def test_an_attempt_that_was_given_up_keeps_its_row_while_its_pod_is_being_stopped() -> None:
    """AWS Batch, statusReason: what was counted is not rewritten by what the Pod shows later."""
    stuck = replace(PULLING, start_error=ERROR)
    given_up = status(stuck, at_s=150)
    runs = replace(
        stuck, phase=RUNNING, started_at=START + timedelta(seconds=150), start_error=None
    )

    assert given_up.attempts[0].status_reason == "Task failed to start"
    assert given_up.attempts[0].reason == "CannotPullContainerError: x"
    for later in (replace(stuck, deleting=True), runs):
        assert status(later, before=given_up, at_s=151).attempts == given_up.attempts


def test_a_job_started_with_its_first_attempt_and_stopped_with_its_last() -> None:
    first = status(attempt(FAILED))
    last = attempt(
        SUCCEEDED,
        number=2,
        started_at=START + timedelta(seconds=30),
        stopped_at=START + timedelta(seconds=40),
    )
    found = status(last, before=first, at_s=99)

    assert (found.started_at, found.stopped_at) == (
        START + timedelta(seconds=10),
        START + timedelta(seconds=40),
    )


def test_an_array_stopped_when_the_last_of_its_children_did() -> None:
    ends = [
        attempt(SUCCEEDED, index=index, stopped_at=START + timedelta(seconds=at_s))
        for index, at_s in enumerate((40, 60, 50))
    ]

    assert status(*ends, array={"size": 3}).stopped_at == START + timedelta(seconds=60)


def test_a_job_that_never_ran_stopped_when_that_was_found() -> None:
    found = status(of=Invalid("no CPU"), at_s=99.7)

    assert (found.started_at, found.stopped_at) == (None, START + timedelta(seconds=99))


def test_a_job_names_the_environment_of_its_latest_attempt() -> None:
    first = status(attempt(RUNNING, environment="spot"))
    waiting = status(before=first)
    second = status(attempt(RUNNING, number=2, environment="on-demand"), before=waiting)

    assert (first.compute_environment, waiting.compute_environment) == ("spot", "spot")
    assert second.compute_environment == "on-demand"


def test_a_job_so_short_that_nobody_saw_it_run_names_its_environment_too() -> None:
    """AWS Batch, job states: a very short job may never be seen in RUNNING."""
    assert status(attempt(SUCCEEDED)).compute_environment == "local"


# Conditions


def conditions(found: BatchJobStatus) -> list[tuple[str, str, str]]:
    return [(one.type, one.status, one.reason) for one in found.conditions]


CONDITIONS: dict[str, tuple[list[PodAttempt], dict[str, Any], list[tuple[str, str, str]]]] = {
    "it waits for its turn": ([], {"hold": behind(2)}, [("Reconciling", "True", "Runnable")]),
    "it runs": ([attempt(RUNNING)], {}, [("Reconciling", "True", "Running")]),
    "somebody has to change something": (
        [],
        {"of": NOT_FOUND},
        [("Stalled", "True", "JobDefinitionNotFound")],
    ),
    "somebody has to change something, but it runs": (
        [attempt(RUNNING)],
        {"of": NOT_FOUND},
        [("Reconciling", "True", "Running")],
    ),
    "it has succeeded": ([attempt(SUCCEEDED)], {}, [("Complete", "True", "Succeeded")]),
    "it has failed": (
        [],
        {"of": Invalid("no CPU")},
        [("Failed", "True", "InvalidJob"), ("Stalled", "True", "InvalidJob")],
    ),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_kstatus_and_kubectl_wait_see_when(name: str) -> None:
    """Complete and Failed as batch/v1 Jobs have them; Reconciling and Stalled for kstatus."""
    attempts, world, expected = CONDITIONS[name]

    assert conditions(status(*attempts, **world)) == expected


def test_a_condition_keeps_its_time_until_it_goes() -> None:
    waiting = status(hold=NO_ROOM, at_s=100)
    running = status(attempt(RUNNING), before=waiting, at_s=200)
    done = status(attempt(SUCCEEDED), before=running, at_s=300)

    assert running.conditions[0].reason == "Running"
    assert running.conditions[0].last_transition_time == START + timedelta(seconds=100)
    assert done.conditions[0].last_transition_time == START + timedelta(seconds=300)


def test_a_status_says_for_which_generation_it_was_found() -> None:
    found = status()

    assert found.observed_generation == 1
    assert {one.observed_generation for one in found.conditions} == {1}


# Pending


def test_a_reason_keeps_its_time_while_only_its_words_change() -> None:
    first = status(hold=NO_ROOM, at_s=100)
    found = status(hold=replace(NO_ROOM, message="needs 3 vCPUs"), before=first, at_s=200)

    assert found.pending is not None
    assert found.pending.message == "needs 3 vCPUs"
    assert found.pending.since == START + timedelta(seconds=100)


def test_another_reason_has_another_time() -> None:
    found = status(hold=NO_ROOM, before=status(hold=behind(2), at_s=100), at_s=200)

    assert found.pending is not None
    assert found.pending.since == START + timedelta(seconds=200)


def test_a_job_does_not_report_every_step_of_its_queue() -> None:
    """A queue of n jobs would cost n writes for each that starts."""
    first = status(hold=behind(5000), at_s=100)
    found = status(hold=behind(4999), before=first, at_s=200)

    assert found == first


def test_a_long_reason_is_cut_to_the_length_of_a_message() -> None:
    found = status(queue_hold=Hold(Reason.POD_REFUSED, "x" * 5000, stalled=True))

    assert found.pending is not None
    assert len(found.pending.message) == 1024
    assert len(found.conditions[0].message) == 1024
    assert problems(SCHEMA, found.to_wire()) == []


# A status that is final


@pytest.mark.parametrize("state", sorted(FINAL))
def test_what_is_final_is_never_left(state: JobState) -> None:
    """AWS Batch, job states: SUCCEEDED and FAILED are final."""
    final = BatchJobStatus(state=state, status_reason="as it was", observed_generation=1)
    found = status(
        attempt(RUNNING), attempt(FAILED, number=2, pod_uid="x"), before=final, hold=NO_ROOM
    )

    assert found == final


def test_a_change_of_a_job_that_is_over_is_seen_and_changes_nothing_else() -> None:
    final = BatchJobStatus(state=JobState.FAILED, status_reason="x", observed_generation=1)
    changed = replace(job(status=final, schedulingPriority=3), generation=2)
    now = START + timedelta(seconds=9)

    assert status_of(looked(changed, [], now), None, now) == final.model_copy(
        update={"observed_generation": 2}
    )


# Failures


def failing(kinds: int, *, first: int = 0, each: int = 1) -> list[PodAttempt]:
    """Failed children, `each` of every kind."""
    return [
        attempt(FAILED, index=first + kind * each + number, exit_code=kind + 1)
        for kind in range(kinds)
        for number in range(each)
    ]


def failed_rows(found: BatchJobStatus) -> dict[tuple[int | None, str | None], str]:
    assert found.array is not None
    return {(one.exit_code, one.reason): one.indexes for one in found.array.failures}


def test_children_that_failed_alike_share_a_row_and_the_most_frequent_come_first() -> None:
    found = status(*failing(1), *failing(2, first=1, each=2), array={"size": 9}, of=plan())

    assert list(failed_rows(found).items()) == [((1, None), "0-2"), ((2, None), "3-4")]


def test_kinds_of_failure_that_are_equally_frequent_are_in_the_order_of_their_exit_codes() -> None:
    first, second = failing(2)
    found = status(replace(first, index=1), replace(second, index=0), array={"size": 9}, of=plan())

    assert list(failed_rows(found).items()) == [((1, None), "1"), ((2, None), "0")]


def test_twenty_kinds_of_failure_have_rows_of_their_own() -> None:
    found = status(*failing(20), array={"size": 30}, of=plan())

    assert len(failed_rows(found)) == 20
    assert (None, "further kinds of failure") not in failed_rows(found)


def test_more_kinds_of_failure_share_the_last_row() -> None:
    found = status(*failing(25), array={"size": 30}, of=plan())
    rows = failed_rows(found)

    assert len(rows) == 20
    assert len(IndexSet.parse(rows[None, "further kinds of failure"])) == 6


def test_a_time_limit_that_ended_an_array_is_known_however_its_children_failed() -> None:
    """By its row those that fail later are known not to be tried again."""
    reason = "Canceled by JobStateTimeLimit action due to reason: x"
    limited = {
        "state": "PENDING",
        "array": {
            "size": 100,
            "indexes": {"failed": "0"},
            "failures": [{"statusReason": reason, "indexes": "0"}],
        },
    }
    before = BatchJobStatus.model_validate(limited)
    found = status(*failing(30, first=1, each=2), array={"size": 100}, before=before, of=plan())

    assert found.array is not None
    assert found.array.failures[0].status_reason == reason
    assert len(found.array.failures) == 20


def test_failed_children_stay_in_the_rows_however_many_kinds_come_later() -> None:
    """The row of further kinds is a kind of its own when it is read back."""
    found: BatchJobStatus | None = None
    for turn in range(6):
        attempts = [
            replace(one, exit_code=(one.exit_code or 0) + 30 * turn)
            for one in failing(30, first=30 * turn)
        ]
        found = parsed(status(*attempts, array={"size": 200}, before=found, of=plan()))
        rows = list(failed_rows(found).values())

        assert found.array is not None
        assert len(found.array.failures) == len(rows) == 20
        assert sum(len(IndexSet.parse(one)) for one in rows) == 30 * (turn + 1)
        assert status(array={"size": 200}, before=found, of=plan()).array == found.array


# A large array

SIZE = 10_000
OUTCOMES = 12


def shuffled(count: int) -> list[int]:
    """Numbers without a pattern, the same ones each time (a linear congruential generator)."""
    numbers, state = [], 42
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        numbers.append(state >> 33)
    return numbers


def random_child(index: int, chance: int) -> list[PodAttempt]:
    """A child that waits, is somewhere on its way, or has ended in one of many ways."""
    lost = attempt(FAILED, index=index, exit_code=chance % 7, reason="r" * 40)
    kind = f"CannotPullContainerError: {chance // OUTCOMES % 40:0200}"
    second = {"index": index, "number": 2, "pod_uid": f"second-{index}"}
    outcomes = [
        [],
        [attempt(UNBOUND, index=index)],
        [attempt(STARTING, index=index)],
        [lost],
        [lost, attempt(RUNNING, **second)],
        *[[lost, attempt(FAILED, reason=kind, **second)]] * 3,
        *[[attempt(SUCCEEDED, index=index)]] * 4,
    ]
    return outcomes[chance % OUTCOMES]


def test_ten_thousand_children_with_random_outcomes_stay_below_100_kilobytes() -> None:
    attempts = [
        one for index, chance in enumerate(shuffled(SIZE)) for one in random_child(index, chance)
    ]
    found = status(*attempts, array={"size": SIZE}, hold=NO_ROOM)
    text = json.dumps(found.to_wire())

    assert len(text) < 100_000
    assert parsed(found) == found
    assert problems(SCHEMA, found.to_wire()) == []
    assert found.array is not None
    assert sum(found.array.status_summary.values()) == SIZE
    counted = counted_in(job(status=parsed(found), arrayProperties={"size": SIZE}))
    assert sum(map(len, counted.failures.values())) == len(counted.failed)


# Stories: whatever happens to a job, told to the status step by step


class Story:
    """A job, its Pods and what surrounds it; every status goes through JSON as on the wire."""

    def __init__(self, array: dict[str, Any] | None, tries: int) -> None:
        self.now = START
        self.job = job(arrayProperties=array)
        self.pods: dict[str, PodAttempt] = {}
        self.plan: Plan | Hold | Invalid = plan(attempts=tries)
        self.open = members_of(self.job)
        self.doomed = IndexSet()
        self.queue_hold: Hold | None = None
        self.hold: Hold | None = None

    def look(self) -> Evaluation:
        passed = passed_in(self.job)
        doomed = self.doomed - passed
        gated = members_of(self.job) - self.open - passed - doomed
        gate = Gate(
            (self.open - doomed) | passed,
            doomed,
            Doom("Dependent Job failed", "DependencyFailed", "a failed") if doomed else None,
            WAITS if gated else None,
        )
        return looked(
            self.job,
            list(self.pods.values()),
            self.now,
            of=self.plan,
            gate=gate,
            queue_hold=self.queue_hold,
        )

    def settle(self) -> None:
        """Looks and writes until nothing changes, as cycles do."""
        for _ in range(5):
            if self.job.status.state in FINAL:
                return
            look = self.look()
            found = status_of(look, self.hold, self.now)
            check(self.job.status, found)
            for one in look.children.releasable:
                del self.pods[one.pod_uid]
            if found == self.job.status:
                return
            self.job = replace(self.job, status=parsed(found))
        raise AssertionError("the status never comes to rest")

    def happen(self, event: str, which: int) -> None:
        living = [one for one in self.pods.values() if not one.phase.ended]
        match event:
            case "start":
                look = self.look()
                for index in look.startable.first(min(look.start_limit, 1 + which % 3)):
                    number = look.children.counted.used(index) + 1
                    pod = attempt(
                        Phase.ASSUMED,
                        index=index,
                        number=number,
                        started_at=None,
                        node_name=None,
                    )
                    self.pods[pod.pod_uid] = pod
            case "move" | "fail" if living:
                self.move(living[which % len(living)], fails=event == "fail")
            case "gate":
                self.open = IndexSet.range(which)
            case "doom":
                self.doomed = IndexSet.of([which % 5])
            case "queue":
                self.queue_hold = (None, DISABLED, TOO_LARGE)[which % 3]
            case "scheduler":
                self.hold = (None, NO_ROOM, behind(which + 1))[which % 3]
            case "time":
                self.now += timedelta(seconds=which, microseconds=which)

    def move(self, pod: PodAttempt, *, fails: bool) -> None:
        phase = FAILED if fails else Phase(pod.phase + 1)
        now = self.now.replace(microsecond=0)
        fields: dict[str, Any] = {}
        if phase >= STARTING:
            fields |= {"node_name": "node", "bound_at": now}
        if phase >= RUNNING:
            fields["started_at"] = pod.started_at or now
        if phase.ended:
            fields |= {"stopped_at": now, "exit_code": int(fails), "status_reason": EXITED}
        self.pods[pod.pod_uid] = replace(pod, phase=phase, **fields)


def check(before: BatchJobStatus, after: BatchJobStatus) -> None:
    """What holds between any status and the next."""
    assert problems(SCHEMA, after.to_wire()) == []
    assert parsed(after) == after

    ended = {row.attempt: row for row in before.attempts if row.stopped_at}

    assert {row.attempt: row for row in after.attempts if row.attempt in ended} == ended
    assert [row.attempt for row in after.attempts] == sorted(row.attempt for row in after.attempts)
    assert (after.pending is None) or after.state not in FINAL
    assert after.conditions
    times = {one.type: one.last_transition_time for one in before.conditions}
    for one in after.conditions:
        assert times.get(one.type, one.last_transition_time) == one.last_transition_time
    if after.array is not None:
        sets = [IndexSet.parse(text) for text in after.array.indexes.to_wire().values() if text]

        assert sum(after.array.status_summary.values()) == after.array.size
        assert all(not one & other for one, other in combinations(sets, 2))


EVENTS = (
    "start", "start", "move", "move", "move", "fail", "gate", "doom", "queue", "scheduler", "time",
)  # fmt: skip


@settings(max_examples=100)
@given(
    array=st.sampled_from(
        [None, {"size": 2}, {"size": 5, "maxParallel": 2}, {"size": 5, "maxFailedIndexes": 1}]
    ),
    tries=st.integers(1, 3),
    events=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 9)), max_size=25),
)
def test_an_unchanged_world_gives_an_equal_status_whatever_happened_before(
    array: dict[str, Any] | None, tries: int, events: list[tuple[str, int]]
) -> None:
    """Equal to the second and the letter, or the operator would write for ever."""
    story = Story(array, tries)
    story.settle()
    for event, which in events:
        story.happen(event, which)
        story.settle()
        story.now += timedelta(hours=1, microseconds=5)

        assert status_of(story.look(), story.hold, story.now) == story.job.status


def test_a_child_that_was_runnable_stays_so_when_its_queue_goes_while_others_are_pending() -> None:
    """Its dependencies were met, and are not asked again: it must not be PENDING with the rest."""
    ready, rest = IndexSet.range(1), IndexSet.parse("1-3")
    waits = {"gate": Gate(ready, hold=WAITS), "array": {"size": 4}}
    before = parsed(status(hold=behind(3), **waits))
    after = status(queue_hold=Hold(Reason.JOB_QUEUE_NOT_FOUND, "apply it"), before=before, **waits)

    for one in (before, after):
        assert one.array is not None
        assert (one.array.indexes.runnable, one.array.indexes.pending) == (str(ready), str(rest))


def test_an_array_whose_children_are_at_work_is_pending_whatever_became_of_its_definition() -> None:
    """The first status after a restart may be written when the definition is gone already."""
    for phase in (RUNNING, SUCCEEDED):
        assert status(attempt(phase), array={"size": 2}, of=NOT_FOUND).state is JobState.PENDING


def test_a_job_that_the_operator_stumbles_over_says_so_once() -> None:
    """An error of the operator's own is written once, and not again at every look."""
    waiting = status(gate=Gate(IndexSet(), hold=WAITS))
    first = status_after_fault(job(status=waiting), START + timedelta(hours=1))
    again = status_after_fault(job(status=first), START + timedelta(hours=2))

    assert first.state is waiting.state
    assert first.pending is not None
    assert (first.pending.reason, first.pending.queue) == ("OperatorError", "main")
    assert first.pending.since == START + timedelta(hours=1)
    assert [(one.type, one.reason) for one in first.conditions] == [("Stalled", "OperatorError")]
    assert again == first


def test_a_new_job_that_the_operator_stumbles_over_says_so() -> None:
    said = status_after_fault(job(), START)

    assert said.observed_generation == 1
    assert said.conditions[0].last_transition_time == START
