"""Which compute environments take a queue's jobs, and what a job says that none takes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.scheduling.backlog import Ask
from batch_operator.scheduling.dispatch import Blocked
from batch_operator.scheduling.environments import (
    capacity_milli,
    max_waits,
    node_selector,
    rotated,
    time_limits,
    usable_environments,
    vcpus,
)
from batch_operator.scheduling.obstacles import capacity_hold, never_fits_hold, queue_hold
from batch_operator.scheduling.suitability import Suitability
from support.builders import environment, job, queue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_operator.lifecycle.holds import Hold
    from batch_operator.scheduling.snapshot import Environment, Queue
    from batch_operator.scheduling.suitability import Needs

LICENCE = (("licence", 1),)


def known(*environments: Environment) -> Mapping[str, Environment]:
    return {one.name: one for one in environments}


def ordered(*names: str) -> list[dict[str, Any]]:
    """computeEnvironmentOrder, written in the wrong order."""
    return [
        {"order": order, "computeEnvironment": name}
        for order, name in reversed([*enumerate(names)])
    ]


def test_environments_are_tried_in_ascending_order() -> None:
    """AWS Batch, job queues: computeEnvironmentOrder, the lowest first."""
    order = queue(computeEnvironmentOrder=ordered("c", "a", "b"))
    found = usable_environments(order, known(*map(environment, "abc")))

    assert [one.name for one in found] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("moves", "expected"), [(0, "abc"), (1, "bca"), (2, "cab"), (3, "abc"), (7, "bca")]
)
def test_each_move_begins_with_the_next_environment(moves: int, expected: str) -> None:
    found = rotated([*map(environment, "abc")], moves)

    assert "".join(one.name for one in found) == expected
    assert rotated([], moves) == []


def test_a_pod_waits_for_so_long_as_its_environment_is_given_unless_none_is_behind_it() -> None:
    rows = [{**one, "maxWaitSeconds": 60 + one["order"]} for one in ordered("a", "b", "off", "c")]
    rows[-1].pop("maxWaitSeconds")
    of = queue(computeEnvironmentOrder=rows)
    a, b, c = map(environment, "abc")

    assert max_waits(of, [a, b, c]) == {"b": 61}
    assert max_waits(of, [a, b]) == {}
    assert max_waits(queue(), [a, b, c]) == {}


def test_a_queue_moves_nothing_where_there_is_nowhere_to_go() -> None:
    move = {"state": "STARTING", "reason": "*", "maxTimeSeconds": 60}
    move["action"] = "NEXT_COMPUTE_ENVIRONMENT"
    tell = {**move, "action": "NOTIFY"}
    main = queue(computeEnvironmentOrder=ordered("a", "b"), jobStateTimeLimitActions=[move, tell])
    a, b = environment("a"), environment("b")

    assert [one.action for one in time_limits(main, [a, b])] == [
        "NEXT_COMPUTE_ENVIRONMENT",
        "NOTIFY",
    ]
    assert [one.action for one in time_limits(main, [a])] == ["NOTIFY"]


UNUSABLE: dict[str, Environment | None] = {
    "does not exist": None,
    "is DISABLED": environment("bad", state="DISABLED"),
    "is being deleted": replace(environment("bad"), deleting=True),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_environment_is_passed_over_that(name: str) -> None:
    """AWS Batch, compute environments: nothing new is placed on one that is not VALID+ENABLED."""
    bad = UNUSABLE[name]
    environments = known(environment("good"), *([bad] if bad else []))
    found = usable_environments(queue(computeEnvironmentOrder=ordered("bad", "good")), environments)

    assert [one.name for one in found] == ["good"]


SELECTORS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "its own label, where nothing is said": (
        {},
        {"batch-operator.io/compute-environment": "local"},
    ),
    "the labels that it names": ({"nodeSelector": {"pool": "batch"}}, {"pool": "batch"}),
    "every node that takes Pods": ({"nodeSelector": {}}, {}),
}


@pytest.mark.parametrize("name", SELECTORS)
def test_an_environment_is_made_of_nodes_with(name: str) -> None:
    spec, expected = SELECTORS[name]

    assert node_selector(environment(**spec)) == expected


def test_an_environment_holds_its_max_vcpus() -> None:
    assert capacity_milli(environment(maxvCpus=3)) == 3000


HOLDS: dict[str, tuple[Queue | None, str, str, bool]] = {
    "it does not exist": (None, "JobQueueNotFound", "there is no JobQueue main: apply it", True),
    "it is being deleted": (
        replace(queue(), deleting=True),
        "JobQueueNotFound",
        "apply it, or name one of `kubectl get jobqueues`",
        True,
    ),
    "the namespace is not allowed": (
        queue(allowedNamespaces={"names": ["team-a", "team-b"]}),
        "NamespaceNotAllowed",
        "takes no jobs from namespace default: add it to the queue's",
        True,
    ),
    "no namespace is allowed": (
        queue(allowedNamespaces={"names": []}),
        "NamespaceNotAllowed",
        "use another queue",
        True,
    ),
    "the namespace has other labels": (
        queue(allowedNamespaces={"names": ["other"], "selector": {"matchLabels": {"team": "b"}}}),
        "NamespaceNotAllowed",
        "label it as the queue's spec.allowedNamespaces.selector asks for, add it to the queue's",
        True,
    ),
    "it is DISABLED": (
        queue(state="DISABLED"),
        "JobQueueDisabled",
        "is DISABLED: it starts nothing new",
        False,
    ),
    "none of its environments takes work": (
        queue(computeEnvironmentOrder=ordered("off", "absent")),
        "NoComputeEnvironment",
        "see `kubectl get computeenvironments`",
        True,
    ),
}
LABELS = {"team": "a"}
ENVIRONMENTS = known(environment("local"), environment("off", state="DISABLED"))


def hold_of(found: Queue | None, environments: Mapping[str, Environment]) -> Hold | None:
    usable = usable_environments(found, environments) if found is not None else []
    return queue_hold("main", found, "default", LABELS, usable, {})


@pytest.mark.parametrize("name", HOLDS)
def test_a_queue_takes_nothing_when(name: str) -> None:
    found, reason, words, stalled = HOLDS[name]
    hold = hold_of(found, ENVIRONMENTS)

    assert hold is not None
    assert hold.reason == reason
    assert words in hold.message
    assert hold.stalled is stalled


def test_a_queue_without_environments_says_so_in_aws_words() -> None:
    """AWS Batch, blocked queues: statusReason of the jobs at their head."""
    bare = HOLDS["none of its environments takes work"][0]
    hold = hold_of(bare, {})

    assert hold is not None
    assert hold.status_reason == (
        "ACTION_REQUIRED - CE(s) associated with the job queue are invalid."
    )


TAKEN: dict[str, Queue] = {
    "any namespace": queue(),
    "a namespace that is named": queue(allowedNamespaces={"names": ["other", "default"]}),
    "a namespace that has the labels": queue(
        allowedNamespaces={"names": ["other"], "selector": {"matchLabels": {"team": "a"}}}
    ),
    "a namespace that is named, whatever its labels": queue(
        allowedNamespaces={"names": ["default"], "selector": {"matchLabels": {"team": "b"}}}
    ),
    "one environment of two": queue(computeEnvironmentOrder=ordered("off", "local")),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_queue_takes_jobs_with(name: str) -> None:
    assert hold_of(TAKEN[name], ENVIRONMENTS) is None


def never_fits(
    of: Queue, environments: Mapping[str, Environment], milli_cpu: int, needs: Needs = ()
) -> Hold | None:
    usable = usable_environments(of, environments)
    return never_fits_hold(of, usable, milli_cpu, needs, Suitability())


def test_a_job_above_every_max_vcpus_says_what_to_change() -> None:
    environments = known(environment("small", maxvCpus=2), environment("large", maxvCpus=8))
    both = queue(computeEnvironmentOrder=ordered("small", "large"))
    hold = never_fits(both, environments, 8001)

    assert never_fits(both, environments, 8000) is None
    assert hold is not None
    assert hold.stalled
    assert "needs 8.001 vCPUs" in hold.message
    assert "maxvCpus above 8: request less, or raise maxvCpus" in hold.message
    assert (hold.status_reason or "").startswith(
        "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"
    )


def test_a_job_does_not_fit_for_ever_into_what_is_disabled_now() -> None:
    environments = known(environment("small", maxvCpus=2), environment("off", state="DISABLED"))
    both = queue(computeEnvironmentOrder=ordered("small", "off"))

    assert never_fits(both, environments, 4000) is not None


def test_a_job_at_the_head_says_how_much_room_there_is() -> None:
    free = ((environment("a", maxvCpus=4), 1500), (environment("b", maxvCpus=2), 2000))
    hold = capacity_hold(Blocked("uid", Ask(3000), free, ()), {}, Suitability(), {})

    assert hold.reason == "InsufficientCapacity"
    assert hold.message == "needs 3 vCPUs: a has 1.5 of 4 free, b has 2 of 2 free"
    assert hold.blocked_by == ("a", "b")
    assert hold.position == 1
    assert not hold.stalled
    assert hold.status_reason == (
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested "
        "for instance type [a, b]"
    )


def test_a_job_that_room_is_kept_from_says_for_whom() -> None:
    """It is no lack of capacity, so AWS has no code for it; tenants are not told others' names."""
    free = ((environment("a", maxvCpus=4), 2000), (environment("b", maxvCpus=2), 0))
    asks = Blocked("uid-small", Ask(1000), free, (), kept_for=("uid-head", "uid-other", "uid-gone"))
    foreign = replace(job("other", jobQueue="urgent"), namespace="theirs")
    jobs = {one.uid: one for one in (job("small", jobQueue="low"), job("head"), foreign)}
    hold = capacity_hold(asks, {}, Suitability(), jobs)

    assert (hold.reason, hold.stalled, hold.status_reason) == ("KeptForOthers", False, None)
    assert hold.message == (
        "needs 1 vCPUs: a has 2 of 4 free, but that is kept for job head of JobQueue main, a job "
        "of JobQueue urgent, which needs more and would start later"
    )
    assert hold.blocked_by == ("head", "urgent")


def test_what_is_reserved_is_named_where_there_is_no_room() -> None:
    """AWS Batch: computeReservation keeps a part of maxvCpus for shares that are not active."""
    free = ((environment("a", maxvCpus=10), 2000),)
    hold = capacity_hold(Blocked("uid", Ask(4000), free, (), usable=0.75), {}, Suitability(), {})

    assert (hold.reason, hold.stalled) == ("InsufficientCapacity", False)
    assert hold.message == (
        "needs 4 vCPUs: a has 2 of 10 free beside 2.5 that computeReservation keeps for other "
        "shares"
    )


def test_a_job_above_what_is_not_reserved_says_what_to_change() -> None:
    free = ((environment("a", maxvCpus=10), 0), (environment("b", maxvCpus=4), 2000))
    asks = Blocked("uid", Ask(6000), free, (), usable=0.5, stands_aside=True)
    hold = capacity_hold(asks, {}, Suitability(), {})

    assert (hold.reason, hold.stalled, hold.position) == ("ComputeReservation", True, None)
    assert hold.message == (
        "needs 6 vCPUs, but computeReservation of the queue's scheduling policy leaves the shares "
        "that are active only 5 of 10 in a, 2 of 4 in b: request less, lower it, or raise maxvCpus"
    )
    assert hold.blocked_by == ("a", "b")
    assert (hold.status_reason or "").startswith("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY")


def test_a_job_behind_as_many_grants_as_can_be_kept_says_whose_turn_it_is() -> None:
    free = ((environment("a", maxvCpus=10), 9000),)
    asks = Blocked("uid", Ask(1000, LICENCE), free, LICENCE, stands_aside=True, full="licence")
    hold = capacity_hold(asks, {}, Suitability(), {})

    assert (hold.reason, hold.stalled, hold.position) == ("ConsumableResourceBusy", False, None)
    assert hold.blocked_by == ("licence",)
    assert hold.message == (
        "ConsumableResource licence has been granted to as many jobs that are not over as it can "
        "keep (1000, or fewer arrays): this one's turn comes when one of them is over"
    )


def test_of_many_environments_three_are_named_and_the_others_counted() -> None:
    free = tuple((environment(f"e{number}"), 4000) for number in range(20))
    hold = capacity_hold(Blocked("uid", Ask(9000), free, ()), {}, Suitability(), {})

    assert hold.message.count(" free") == 3
    assert hold.message.endswith("e2 has 4 of 4 free and 17 more")
    assert hold.blocked_by == ("e0", "e1", "e2")


VCPUS: dict[str, tuple[int, str]] = {
    "none": (0, "0"),
    "one": (1000, "1"),
    "one and a half": (1500, "1.5"),
    "a thousandth": (1, "0.001"),
    "ten": (10_000, "10"),
    "seven digits": (1_234_567, "1234.567"),
    "a million": (1_000_000_000, "1000000"),
    "the most that an environment may have": (10_000_000_000, "10000000"),
    "one thousandth less": (9_999_999_999, "9999999.999"),
}


@pytest.mark.parametrize("name", VCPUS)
def test_vcpus_are_written_as_plain_decimal_numbers(name: str) -> None:
    milli, expected = VCPUS[name]

    assert vcpus(milli) == expected


def test_a_request_beyond_every_number_of_vcpus_is_still_a_sentence() -> None:
    hold = never_fits(queue(), known(environment()), 2**63 - 1)

    assert hold is not None
    assert "request less" in hold.message
