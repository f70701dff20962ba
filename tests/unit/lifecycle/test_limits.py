"""Time limits of a queue: which rule applies to what, from when on, and what is read back of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from batch_operator.api.index_set import IndexSet
from batch_operator.api.job import BatchJobStatus, JobState
from batch_operator.api.job_queue import JobStateTimeLimitAction
from batch_operator.lifecycle.attempt import Phase, PodAttempt
from batch_operator.lifecycle.children import REQUEUES_MAX, Counted
from batch_operator.lifecycle.holds import CAPACITY
from batch_operator.lifecycle.limits import (
    Stay,
    TimeLimits,
    due,
    ended_by,
    is_of_limit,
    is_over_time,
    leaves,
    limit_behind,
    limits_of,
    moves_on_at,
    notice_of,
    stays_due,
    unknown_reason,
    waits_of,
)
from batch_operator.lifecycle.surroundings import Surroundings
from support.builders import START, attempt

S = JobState
NONE, ONE = IndexSet(), IndexSet.of([0])
BLOCKED = Stay(S.RUNNABLE, START, (CAPACITY, "InsufficientCapacity"))
WAITS = {"message": "x", "since": "2026-01-01T00:00:00Z"}


def limit(
    state: str, action: str = "TERMINATE", *, reason: str = "*", after_s: int = 600
) -> JobStateTimeLimitAction:
    wire = {"state": state, "action": action, "reason": reason, "maxTimeSeconds": after_s}
    return JobStateTimeLimitAction.model_validate(wire)


def limits(*rules: JobStateTimeLimitAction) -> TimeLimits:
    return TimeLimits(rules)


ANY_STATE = limits(
    *(limit(one) for one in ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING"))
)


@pytest.mark.parametrize(
    ("state", "reason", "code"),
    [
        ("RUNNABLE", CAPACITY, CAPACITY),
        ("RUNNABLE", "InsufficientCapacity", "InsufficientCapacity"),
        ("RUNNABLE", "*", CAPACITY),
        ("RUNNABLE", "BehindOthers", None),
        ("RUNNABLE", "CAPACITY", None),
        ("PENDING", "*", None),
    ],
)
def test_a_rule_applies_to_its_state_and_its_reason(
    state: str, reason: str, code: str | None
) -> None:
    found = due(limits(limit(state, "CANCEL", reason=reason)), [BLOCKED])

    assert [one.code for one in found] == ([code] if code else [])
    for one in found:
        assert one.at == START + timedelta(seconds=600)
        assert one.ending == f"Canceled by JobStateTimeLimit action due to reason: {code}"


@pytest.mark.parametrize("token", ["Suspended", "JobQueueDisabled"])
def test_what_somebody_holds_back_is_meant_by_its_own_reason_only(token: str) -> None:
    held = Stay(S.RUNNABLE, START, (token,))

    assert not due(limits(limit("RUNNABLE")), [held])
    assert [one.code for one in due(limits(limit("RUNNABLE", reason=token)), [held])] == [token]


def test_what_is_due_first_comes_first() -> None:
    rules = limits(limit("RUNNABLE", after_s=900), limit("RUNNABLE", "NOTIFY", after_s=60))

    assert [one.rule.action for one in due(rules, [BLOCKED])] == ["NOTIFY", "TERMINATE"]


ATTEMPTS: dict[str, tuple[PodAttempt, Stay | None]] = {
    "is on its way": (attempt(Phase.ASSUMED, node_name=None), None),
    "waits for a node": (
        attempt(Phase.UNBOUND, node_name=None, created_at=START),
        Stay(S.RUNNABLE, START, ("WaitingForNode",)),
    ),
    "fits on no node": (
        attempt(Phase.UNBOUND, node_name=None, created_at=START, unschedulable="0/3 nodes"),
        Stay(S.RUNNABLE, START, (CAPACITY, "Unschedulable")),
    ),
    "starts": (
        attempt(Phase.STARTING, created_at=START, bound_at=START + timedelta(seconds=5)),
        Stay(S.STARTING, START + timedelta(seconds=5), ("ContainersStarting",)),
    ),
    "runs": (
        attempt(Phase.RUNNING, created_at=START, bound_at=START),
        Stay(S.RUNNING, START + timedelta(seconds=10), ("Running",)),
    ),
    "is over": (attempt(Phase.FAILED, created_at=START), None),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_the_clock_of_an_attempt_that(name: str) -> None:
    seen, expected = ATTEMPTS[name]

    found = stays_due(ANY_STATE, [seen])

    assert [one.stay for one in found] == ([expected] if expected else [])
    assert stays_due(limits(), [seen]) == []


def waits(status: dict[str, Any], *, waiting: IndexSet = ONE, is_open: IndexSet = ONE) -> Any:
    """State and reason of the stays that any rule finds in a status."""
    stored = BatchJobStatus.model_validate(status)
    gated, ready = bool(waiting - is_open), bool(waiting & is_open)
    found = waits_of(ANY_STATE, stored, is_gated=gated, is_ready=ready)
    return [(one.stay.state, one.code) for one in found]


def test_a_job_without_a_pod_waits_as_its_status_says() -> None:
    pending = {**WAITS, "reason": "InsufficientCapacity"}
    status = {"state": "RUNNABLE", "pending": pending, "statusReason": f"{CAPACITY} - no room"}

    assert waits(status) == [("RUNNABLE", CAPACITY)]
    assert waits({**status, "statusReason": None}) == [("RUNNABLE", "InsufficientCapacity")]
    assert waits(status, waiting=NONE) == []
    assert waits({"state": "RUNNABLE"}) == []


def test_a_job_whose_dependencies_are_over_in_this_look_is_not_pending_any_more() -> None:
    status = {"state": "PENDING", "pending": {**WAITS, "reason": "WaitingForDependencies"}}

    assert waits(status, is_open=NONE) == [("PENDING", "WaitingForDependencies")]
    assert waits(status, is_open=ONE) == []


def test_children_without_a_pod_wait_as_their_arrays_rows_say() -> None:
    rows = [
        {"state": "PENDING", "reason": "WaitingForDependencies", **WAITS},
        {"state": "RUNNABLE", "reason": "BehindOthers", "index": 0, **WAITS},
    ]
    status = {
        "state": "PENDING",
        "pending": {**WAITS, "reason": "ArrayInProgress"},
        "array": {"size": 2, "waiting": [{**row, "message": None} for row in rows]},
    }
    both = IndexSet.range(2)

    assert waits(status, waiting=both) == [
        ("PENDING", "WaitingForDependencies"),
        ("RUNNABLE", "BehindOthers"),
    ]
    assert waits(status, waiting=both, is_open=both) == [("RUNNABLE", "BehindOthers")]
    assert waits(status, waiting=both, is_open=NONE) == [("PENDING", "WaitingForDependencies")]


def test_a_notice_is_that_of_the_first_rule_whichever_was_due_first() -> None:
    rules = limits(
        limit("RUNNABLE", "CANCEL", after_s=60),
        limit("RUNNABLE", "NOTIFY", after_s=900),
        limit("RUNNABLE", "NOTIFY", after_s=300),
    )
    found = due(rules, [BLOCKED])
    told = [
        notice_of(rules, found, START + timedelta(seconds=seconds)) for seconds in (299, 300, 900)
    ]

    assert told[0] is None
    assert [one and one.message for one in told[1:]] == [
        f"RUNNABLE for longer than {seconds} s ({CAPACITY})" for seconds in (300, 900)
    ]
    assert [one and one.token for one in told[1:]] == ["InsufficientCapacity"] * 2


@pytest.mark.parametrize("is_served", [False, True])
def test_who_waits_for_a_node_that_will_be_made_lacks_no_capacity(*, is_served: bool) -> None:
    """Where the operator plans the nodes, that none has room now says nothing."""
    waits = attempt(Phase.UNBOUND, unschedulable="0/3 nodes are available", created_at=START)
    known = replace(
        limits(limit("RUNNABLE", reason=CAPACITY)), served={"local"} if is_served else frozenset()
    )

    assert bool(stays_due(known, [waits])) is not is_served


@pytest.mark.parametrize(
    ("kinds", "is_over"),
    [((), False), (("Reconciling",), False), (("Reconciling", "TimeLimitExceeded"), True)],
)
def test_who_asked_to_be_told_of_a_stay_is_told_by_a_condition(
    kinds: tuple[str, ...], *, is_over: bool
) -> None:
    said = {"status": "True", "reason": "X", "message": "x", "lastTransitionTime": WAITS["since"]}
    conditions = [{"type": one, **said} for one in kinds]

    assert is_over_time(BatchJobStatus.model_validate({"conditions": conditions})) is is_over


def after(seconds: float) -> Any:
    return START + timedelta(seconds=seconds)


ON_NODE = {"created_at": START, "bound_at": after(5), "deadline_exceeded": True}
OFF_NODE = {"created_at": START, "node_name": None, "started_at": None, "deleting": True}
ENDED: dict[str, tuple[PodAttempt, str | None]] = {
    "before it had run for so long": (
        attempt(Phase.FAILED, **ON_NODE, started_at=after(10), stopped_at=after(609)),
        None,
    ),
    "once it had run for so long": (
        attempt(Phase.FAILED, **ON_NODE, started_at=after(10), stopped_at=after(610)),
        "RUNNING",
    ),
    "before it ran, nobody knows when": (
        attempt(Phase.FAILED, **ON_NODE, started_at=None, stopped_at=after(5)),
        "STARTING",
    ),
    "when it had begun to run after so long": (
        attempt(Phase.FAILED, **ON_NODE, started_at=after(605), stopped_at=after(606)),
        "STARTING",
    ),
    "for its mark, before it ran": (
        attempt(
            Phase.FAILED,
            **ON_NODE,
            started_at=None,
            stopped_at=after(5),
            requeued="Moved to the next compute environment: x",
        ),
        None,
    ),
    "by a deletion, before its time was up": (
        attempt(Phase.FAILED, **{**OFF_NODE, "stopped_at": after(599)}),
        None,
    ),
    "by a deletion, once its time was up": (
        attempt(Phase.FAILED, **{**OFF_NODE, "stopped_at": after(600)}),
        "RUNNABLE",
    ),
}


@pytest.mark.parametrize("name", ENDED)
def test_the_rule_that_ended_an_attempt(name: str) -> None:
    ended, expected = ENDED[name]
    rules = limits(
        limit("RUNNABLE", "NEXT_COMPUTE_ENVIRONMENT", after_s=60),
        limit("RUNNABLE", "CANCEL"),
        limit("STARTING"),
        limit("RUNNING", "NOTIFY", after_s=60),
        limit("RUNNING"),
    )
    found = ended_by(rules, ended)

    assert (found and found.stay.state) == expected


AROUND = Surroundings(max_waits={"local": 30}, moves_max=2)


@pytest.mark.parametrize(
    ("seen", "moved", "moves_on"),
    [
        (attempt(Phase.UNBOUND, node_name=None, created_at=START), 0, True),
        (attempt(Phase.UNBOUND, node_name=None, created_at=START), 1, True),
        (attempt(Phase.UNBOUND, node_name=None, created_at=START), 2, False),
        (attempt(Phase.UNBOUND, node_name=None, created_at=START, gated=True), 0, False),
        (attempt(Phase.UNBOUND, node_name=None, created_at=START, environment="b"), 0, False),
        (attempt(Phase.STARTING, created_at=START), 0, False),
        (attempt(Phase.ASSUMED, node_name=None), 0, False),
    ],
)
def test_a_pod_that_no_node_takes_moves_on_so_often_as_there_are_others(
    seen: PodAttempt, moved: int, *, moves_on: bool
) -> None:
    counted = Counted(IndexSet.range(1), moved={moved: IndexSet.range(1)} if moved else {})
    at = moves_on_at(limits_of(AROUND, counted), seen)

    assert at == (START + timedelta(seconds=30) if moves_on else None)


def test_a_child_that_was_requeued_too_often_for_other_reasons_moves_no_more() -> None:
    """Each move would cost it a try."""
    only = IndexSet.range(1)
    seen = attempt(Phase.UNBOUND, node_name=None, created_at=START)
    counted = Counted(only, preempted={REQUEUES_MAX: only})

    assert moves_on_at(limits_of(AROUND, counted), seen) is None


WAITS_UNBOUND = attempt(Phase.UNBOUND, node_name=None, created_at=START)
LEAVES: dict[str, tuple[Surroundings, PodAttempt, tuple[bool, bool]]] = {
    "takes no more work": (Surroundings(closed={"local"}), WAITS_UNBOUND, (True, False)),
    "is being deleted, with no other that suits": (
        Surroundings(ending={"local"}),
        WAITS_UNBOUND,
        (True, True),
    ),
    "is another": (Surroundings(closed={"b"}, ending={"b"}), WAITS_UNBOUND, (False, False)),
    "takes no more work, but a node has it": (
        Surroundings(closed={"local"}, ending={"local"}),
        attempt(Phase.STARTING),
        (False, False),
    ),
    "is being deleted, but its gang is not complete": (
        Surroundings(closed={"local"}, ending={"local"}),
        replace(WAITS_UNBOUND, gated=True),
        (False, False),
    ),
}


@pytest.mark.parametrize("what", LEAVES)
def test_whether_an_attempt_leaves_an_environment_that(what: str) -> None:
    """Before and after it has been requeued so often that it costs a try."""
    around, seen, expected = LEAVES[what]
    only = IndexSet.range(1)
    before, after = Counted(only), Counted(only, preempted={REQUEUES_MAX: only})

    assert (
        leaves(limits_of(around, before), seen),
        leaves(limits_of(around, after), seen),
    ) == expected


def test_only_children_without_an_attempt_tell_of_a_limit_that_ended_their_job() -> None:
    canceled = "Canceled by JobStateTimeLimit action due to reason: x"

    assert limit_behind((None, None, canceled)) == canceled
    assert limit_behind((None, "Pod was deleted before it started", canceled)) is None
    assert limit_behind((143, None, canceled)) is None
    assert limit_behind((None, None, "Dependent Job failed")) is None
    assert limit_behind((None, None, None)) is None
    assert is_of_limit("Terminated by JobStateTimeLimit action due to reason: x")
    assert not is_of_limit(None)


KNOWN = [
    ("RUNNABLE", "*"),
    ("STARTING", "*"),
    ("RUNNABLE", CAPACITY),
    ("RUNNABLE", "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"),
    ("RUNNABLE", "Unschedulable"),
    ("RUNNABLE", "KeptForOthers"),
    ("PENDING", "WaitingForDependencies"),
    ("STARTING", "ContainersStarting"),
    ("SUBMITTED", "JobDefinitionNotFound"),
    ("PENDING", "JobDefinitionNotFound"),
]


@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        ("RUNNABLE", "Capacity", "no job ever has the reason Capacity: write * for any"),
        (
            "RUNNABLE",
            "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED",
            "no job ever has the reason MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED",
        ),
        ("RUNNABLE", "ArrayInProgress", "no job ever has the reason ArrayInProgress"),
        (
            "PENDING",
            "BehindOthers",
            "no PENDING job ever has the reason BehindOthers, only RUNNABLE ones have: limit that "
            "state, or write * for any reason",
        ),
        ("STARTING", CAPACITY, "only RUNNABLE ones have"),
        ("SUBMITTED", "JobQueueDisabled", "only RUNNABLE ones have"),
        ("RUNNABLE", "WaitingForDependencies", "only PENDING ones have"),
        ("STARTING", "Stopping", "only those that have not started have"),
    ],
)
def test_a_reason_that_nothing_ever_has_is_pointed_out(state: str, reason: str, words: str) -> None:
    fine = [limit(one, reason=known) for one, known in KNOWN]

    assert unknown_reason(fine) is None
    assert words in (unknown_reason([*fine, limit(state, reason=reason)]) or "")
