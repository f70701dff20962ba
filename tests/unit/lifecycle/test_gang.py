"""What the Jobs and Pods of one attempt of a multi-node job mean together."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from batch_operator.api import meta
from batch_operator.lifecycle.attempt import Phase, PodAttempt
from batch_operator.lifecycle.gang import (
    Gang,
    failure_to_start,
    gangs_of,
    is_over,
    lingers,
    missing_groups,
    missing_pods,
    node_index,
    openings,
    releasable,
    to_stop,
    usage_of,
)
from batch_operator.lifecycle.multi_node import NodeGroup
from support.builders import START, attempt

ASSUMED, UNBOUND, STARTING = Phase.ASSUMED, Phase.UNBOUND, Phase.STARTING
RUNNING, SUCCEEDED, FAILED = Phase.RUNNING, Phase.SUCCEEDED, Phase.FAILED
NOW = START + timedelta(hours=1, microseconds=7)
GROUPS = (NodeGroup("0:", (1,), {}), NodeGroup("0:", (0, 2), {}))
"""Three nodes, of which node 1 is the main one."""


def node(group: int, member: int = 0, phase: Phase = UNBOUND, **fields: Any) -> PodAttempt:
    """A Pod of a gang; gated as long as no node has it, unless something else is said."""
    name = fields.pop("name", f"p-{group}-{member}")
    fields.setdefault("gated", phase is UNBOUND)
    return attempt(
        phase, pod_name=name, pod_uid=f"uid-{name}", node_group=group, member=member, **fields
    )


def made_by(group: int, members: int, phase: Phase = ASSUMED, **fields: Any) -> PodAttempt:
    """The Job that makes a group's Pods."""
    name = f"job-{group}"
    return attempt(
        phase,
        **{
            "pod_name": name,
            "pod_uid": f"uid-{name}",
            "node_group": group,
            "members": members,
            "milli_cpu": members * 1000,
            "node_name": None,
            **fields,
        },
    )


def gang(*those: PodAttempt) -> Gang:
    (found,) = gangs_of(those)
    return found


JOBS = (made_by(0, 1), made_by(1, 2))
PODS = (node(0), node(1, 0), node(1, 1))
ADDRESS = {meta.ANNOTATION_MAIN_NODE_ADDRESS: "10.0.0.7"}


def whole(main: PodAttempt, *others: PodAttempt) -> Gang:
    return gang(*JOBS, main, *(others or PODS[1:]))


RUNS = node(0, phase=RUNNING, pod_ip="10.0.0.7")


def test_attempts_are_gangs_in_order_and_other_pods_are_none() -> None:
    second, first = node(0, number=2, name="b"), node(0, number=1, name="a")
    found = gangs_of([second, attempt(RUNNING), first, made_by(1, 2, number=2)])

    assert [(one.number, [pod.pod_name for pod in one.pods], set(one.jobs)) for one in found] == [
        (1, ["a"], set()),
        (2, ["b"], {1}),
    ]


def test_pods_are_in_the_order_of_their_places() -> None:
    found = gang(node(1, 1), node(1, 0, name="y"), node(1, 0, name="x"), node(0))

    assert [one.pod_name for one in found.pods] == ["p-0-0", "x", "y", "p-1-1"]


MAINS: dict[str, tuple[list[PodAttempt], str | None]] = {
    "the main node's Pod": ([*JOBS, *PODS], "p-0-0"),
    "its Job before there is one": ([JOBS[1], JOBS[0], node(1)], "job-0"),
    "the one that has ended, not the one in its place": (
        [node(0, name="a"), node(0, phase=FAILED, name="b"), node(0, phase=RUNNING, name="c")],
        "b",
    ),
    "another Job": ([JOBS[1], node(1)], "job-1"),
    "another node that lives": ([node(1, 0, FAILED), node(1, 1, RUNNING)], "p-1-1"),
    "nothing": ([made_by(1, 2, FAILED), node(1, 0, FAILED), node(1, 1, SUCCEEDED)], None),
}


@pytest.mark.parametrize("what", MAINS)
def test_what_stands_for_a_gang(what: str) -> None:
    those, expected = MAINS[what]
    main = gang(*those).main

    assert (main and main.pod_name) == expected


def test_another_node_that_stands_for_the_main_node_does_not_run_in_its_place() -> None:
    main = gang(node(1, 0, RUNNING)).main

    assert main is not None
    assert (main.phase, main.node_name) == (ASSUMED, None)


HELD: dict[str, tuple[Gang, bool]] = {
    "its Job is there": (gang(*JOBS), True),
    "its Pod is gated": (whole(node(0)), True),
    "its Pod was let go": (whole(node(0, gated=False)), False),
    "its Pod is on a node": (whole(node(0, phase=STARTING)), False),
    "its Pod was deleted behind its gate": (whole(node(0, phase=FAILED, gated=True)), False),
    "its Job was suspended": (gang(made_by(0, 1, FAILED)), False),
    "nothing is left": (gang(node(1, 0, FAILED)), False),
}


@pytest.mark.parametrize("what", HELD)
def test_the_rest_is_asked_for_as_long_as_the_main_node_is_held(what: str) -> None:
    found, is_held = HELD[what]
    without_last = replace(found, jobs={0: JOBS[0]})

    assert (found.held is not None) == is_held
    assert missing_groups(without_last, GROUPS) == ((1,) if is_held else ())


def test_no_group_is_missing_whose_job_is_there() -> None:
    assert missing_groups(gang(*JOBS), GROUPS) == ()
    assert missing_groups(gang(JOBS[1]), GROUPS) == (0,)


def test_pods_that_are_still_to_be_made() -> None:
    assert missing_pods(gang(*JOBS), GROUPS) == 3
    assert missing_pods(gang(*JOBS, *PODS), GROUPS) == 0
    assert missing_pods(gang(PODS[0], PODS[1], PODS[1]), GROUPS) == 1
    assert missing_pods(gang(PODS[0], PODS[1], node(1, 1, FAILED)), GROUPS) == 1


def failure(found: Gang, refused: str | None = None, gone: tuple[str, ...] = ()) -> Any:
    failed = failure_to_start(found, GROUPS, refused, gone, NOW)
    return failed and (failed.status_reason, failed.reason, failed.retryable)


LOST = "Pod p-1-1 was lost before the main node started"
GONE = "ComputeEnvironment local was deleted before all its Jobs were made"
FAILURES: dict[str, tuple[Gang, dict[str, Any], object]] = {
    "nothing is wrong": (whole(node(0)), {}, None),
    "a Pod has ended": (
        whole(node(0), PODS[1], node(1, 1, FAILED, gated=True)),
        {},
        ("Task failed to start", LOST, True),
    ),
    "a Pod was let go by somebody": (
        whole(node(0), PODS[1], node(1, 1, gated=False)),
        {"refused": "no", "gone": ("local",)},
        ("Task failed to start", LOST, True),
    ),
    "the same, but the main node has started": (whole(RUNS, node(1, 1, FAILED)), {}, None),
    "the same, but the main node is over": (
        whole(node(0, phase=FAILED, gated=True), node(1, 1, FAILED)),
        {"refused": "no"},
        None,
    ),
    "nothing is left of it": (gang(node(1, 1, FAILED)), {"refused": "no"}, None),
    "its Jobs are refused": (gang(JOBS[0]), {"refused": "no"}, ("no", None, False)),
    "its environment is gone and a Job is missing": (
        gang(JOBS[0]),
        {"gone": ("local",)},
        ("Task failed to start", GONE, True),
    ),
    "another environment is gone": (gang(JOBS[0]), {"gone": ("other",)}, None),
    "its environment is gone, its Jobs are there": (gang(*JOBS), {"gone": ("local",)}, None),
}


@pytest.mark.parametrize("what", FAILURES)
def test_a_gang_that_can_never_be_complete_has_failed(what: str) -> None:
    found, how, expected = FAILURES[what]

    assert failure(found, **how) == expected


def test_a_gang_fails_when_its_last_lost_pod_did_and_its_first_is_named() -> None:
    early, late = START + timedelta(seconds=3), START + timedelta(seconds=5, microseconds=9)
    lost = [node(1, 0, FAILED, stopped_at=late), node(1, 1, FAILED, stopped_at=early)]
    failed = failure_to_start(whole(node(0), *lost), GROUPS, None, (), NOW)

    assert failed is not None
    assert (failed.pod_name, failed.phase) == ("p-0-0", FAILED)
    assert failed.stopped_at == START + timedelta(seconds=5)
    assert (failed.reason or "").startswith("Pod p-1-0 was lost")


def test_a_loss_without_a_time_is_one_of_now_and_a_long_name_fits_into_the_status() -> None:
    lost = node(1, 0, FAILED, stopped_at=None, name="x" * 253)
    failed = failure_to_start(whole(node(0), lost), GROUPS, None, (), NOW)

    assert failed is not None
    assert failed.stopped_at == START + timedelta(hours=1)
    assert len(failed.reason or "") == 255


OPENINGS: dict[str, tuple[Gang, bool, list[tuple[str, dict[str, str]]]]] = {
    "all are there: the main node": (whole(node(0)), True, [("p-0-0", {})]),
    "all are there, but the job may not begin": (whole(node(0)), False, []),
    "one is not there": (gang(*JOBS, *PODS[:2]), True, []),
    "no Pod is there": (gang(*JOBS), True, []),
    "the main node has no node": (whole(node(0, gated=False)), True, []),
    "the main node is pulling its image": (
        whole(node(0, phase=STARTING, pod_ip="10.0.0.7")),
        True,
        [],
    ),
    "the main node's address is not known": (whole(node(0, phase=RUNNING)), True, []),
    "the main node runs: the others": (
        whole(RUNS),
        True,
        [("p-1-0", ADDRESS), ("p-1-1", ADDRESS)],
    ),
    "the same of a job that may not begin: it has begun": (
        whole(RUNS),
        False,
        [("p-1-0", ADDRESS), ("p-1-1", ADDRESS)],
    ),
    "one has been let go, one is deleted": (
        whole(RUNS, node(1, 0, gated=False), node(1, 1, deleting=True)),
        True,
        [],
    ),
    "a second Pod of the main node is not let go": (
        whole(node(0, phase=RUNNING, pod_ip="10.0.0.7", name="a"), node(0, name="b")),
        True,
        [],
    ),
    "a Pod that the job does not have is not let go": (whole(RUNS, node(1, 2)), True, []),
}


@pytest.mark.parametrize("what", OPENINGS)
def test_whose_turn_it_is(what: str) -> None:
    found, may_begin, expected = OPENINGS[what]
    nodes = {"p-0-0": "1", "p-1-0": "0", "p-1-1": "2"}
    opened = openings(found, GROUPS, may_begin=may_begin)

    assert [(one.pod.pod_name, one.annotations) for one in opened] == [
        (name, {meta.ANNOTATION_NODE_INDEX: nodes[name], **more}) for name, more in expected
    ]


def test_which_node_a_pod_is() -> None:
    pods = [node(0), node(1, 0), node(1, 1), node(1, 2), node(2)]

    assert [node_index(one, GROUPS) for one in pods] == [1, 0, 2, None, None]


OVER: dict[str, tuple[Gang, bool]] = {
    "it runs": (whole(RUNS), False),
    "its main node has ended": (whole(node(0, phase=FAILED)), True),
    "its main node is being stopped": (whole(replace(RUNS, stopping=True)), True),
    "its main node is being deleted": (whole(replace(RUNS, deleting=True)), True),
    "nothing is left that decides": (gang(node(1, 0, FAILED)), True),
}


@pytest.mark.parametrize("what", OVER)
def test_when_a_gang_is_over(what: str) -> None:
    found, expected = OVER[what]

    assert is_over(found, 0, {}, []) == expected


def test_a_gang_that_was_counted_or_judged_or_is_to_be_stopped_is_over() -> None:
    found = whole(RUNS)

    assert is_over(found, 1, {}, [])
    assert is_over(found, 0, {RUNS.pod_uid: RUNS}, [])
    assert is_over(found, 0, {}, [RUNS])
    assert not is_over(found, 0, {"another": RUNS}, [PODS[1]])


SUSPENDED = "Suspended: spec.suspend was set before a node had it"


def test_a_main_node_that_is_made_while_its_job_is_being_requeued_is_requeued_with_it() -> None:
    marked = made_by(0, 1, FAILED, requeued=SUSPENDED)
    main = gang(marked, JOBS[1], node(0), node(1, 0)).main

    assert main is not None
    assert (main.pod_name, main.requeued) == ("p-0-0", SUSPENDED)


def test_a_gang_that_is_being_requeued_is_not_one_that_lost_a_pod() -> None:
    lost = node(1, 0, FAILED)

    assert failure_to_start(whole(node(0), lost, PODS[2]), GROUPS, None, (), NOW) is not None
    assert (
        failure_to_start(whole(node(0, requeued=SUSPENDED), lost, PODS[2]), GROUPS, None, (), NOW)
        is None
    )


LINGERS: dict[str, tuple[Gang, bool]] = {
    "all have ended": (whole(node(0, phase=FAILED), node(1, 0, FAILED), node(1, 1, FAILED)), False),
    "one runs": (whole(node(0, phase=FAILED), node(1, 0, RUNNING), node(1, 1, FAILED)), True),
    "one may still be made": (whole(node(0, phase=FAILED), node(1, 0, FAILED)), True),
    "one was not made, but its Job is suspended": (
        gang(made_by(1, 2, FAILED), node(1, 0, FAILED)),
        False,
    ),
}


@pytest.mark.parametrize("what", LINGERS)
def test_whether_anything_of_a_gang_may_come_to_run(what: str) -> None:
    found, expected = LINGERS[what]

    assert lingers(found) == expected


def test_what_is_stopped_when_the_main_node_is_over() -> None:
    """A Job that has made all its Pods ends with them; one that has not would make more."""
    main = node(0, phase=FAILED)
    others = [
        node(1, 0, RUNNING),
        node(1, 1, FAILED),
        node(2, 0, RUNNING, deleting=True),
        node(2, 1, RUNNING, stopping=True),
        node(3),
    ]
    jobs = [*JOBS, made_by(2, 3), made_by(3, 2, FAILED), made_by(4, 1, pod_uid="")]
    stopped = to_stop(gang(main, *others, *jobs))

    assert [one.pod_name for one in stopped] == ["p-1-0", "p-3-0", "job-2"]


def test_the_main_node_is_not_stopped_with_the_others() -> None:
    assert to_stop(gang(RUNS, node(1, 0, RUNNING))) == [node(1, 0, RUNNING)]


def test_a_gang_is_let_go_when_its_last_pod_has_ended_its_jobs_first() -> None:
    ended = [node(0, phase=FAILED), node(1, 0, FAILED), node(1, 1, FAILED)]

    assert releasable(whole(ended[0], node(1, 0, RUNNING), ended[2])) == ()
    assert releasable(gang(*JOBS, *ended)) == JOBS
    assert releasable(gang(*ended)) == tuple(ended)


def test_a_pod_that_is_tracked_no_more_is_not_let_go_again() -> None:
    ended = [node(0, phase=FAILED), node(1, 0, FAILED, tracked=False)]

    assert releasable(gang(*ended)) == (ended[0],)


USAGES: dict[str, tuple[Gang, dict[str, int]]] = {
    "before there are Pods": (gang(*JOBS), {"local": 3000}),
    "with its Pods": (gang(*JOBS, *PODS), {"local": 3000}),
    "all of it while one Pod lives": (
        whole(node(0, phase=FAILED), node(1, 0, RUNNING), node(1, 1, FAILED)),
        {"local": 3000},
    ),
    "nothing once all have ended": (
        whole(node(0, phase=FAILED), node(1, 0, FAILED), node(1, 1, FAILED)),
        {},
    ),
    "what lives, where the Job is gone": (
        gang(JOBS[0], node(0), node(1, 0, RUNNING), node(1, 1, FAILED), node(2, 0, FAILED)),
        {"local": 2000},
    ),
    "more than its Job says, when its Pods ask for more": (
        whole(node(0), node(1, 0, RUNNING, milli_cpu=1500), node(1, 1, RUNNING)),
        {"local": 3500},
    ),
    "where each of them is": (
        gang(JOBS[0], node(0), made_by(1, 1, environment="b"), node(2, 0, environment="c")),
        {"local": 1000, "b": 1000, "c": 1000},
    ),
}


@pytest.mark.parametrize("what", USAGES)
def test_what_a_gang_holds(what: str) -> None:
    found, expected = USAGES[what]

    assert usage_of(found) == expected
