"""Times that a kubelet, or somebody else, has made up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from batch_operator.lifecycle.attempt import Phase, observed_attempt
from batch_operator.lifecycle.clocks import later, plausible
from support.builders import START, attempt, job, pod, queue, scheduling_policy
from support.world import World

NOW = START + timedelta(minutes=1)
SKEW = timedelta(minutes=5)
NEVER = datetime(9999, 1, 1, tzinfo=UTC)
BOUND = START + timedelta(seconds=5)
FAR = datetime(9999, 12, 31, tzinfo=UTC)
ODD = [
    pytest.param(datetime(1, 1, 1, tzinfo=UTC), id="year 1"),
    pytest.param(datetime(1970, 1, 1, tzinfo=UTC), id="a clock that was never set"),
    pytest.param(START + timedelta(days=5), id="five days ahead"),
    pytest.param(FAR, id="year 9999"),
]


@pytest.mark.parametrize("odd", ODD)
def test_what_lies_outside_of_a_pods_life_is_not_believed(odd: datetime) -> None:
    told = attempt(Phase.FAILED, created_at=START, bound_at=BOUND, started_at=odd, stopped_at=odd)
    believed = plausible(told, NOW)

    assert (believed.bound_at, believed.started_at, believed.stopped_at) == (BOUND, BOUND, BOUND)
    assert plausible(believed, NOW + timedelta(days=1)) == believed


def test_what_ended_at_a_time_that_nobody_says_has_ended_when_it_is_seen() -> None:
    ended = attempt(
        Phase.FAILED, created_at=START, bound_at=BOUND, started_at=None, stopped_at=None
    )
    runs = attempt(Phase.RUNNING, created_at=START, bound_at=BOUND, started_at=BOUND)

    assert plausible(ended, NOW).stopped_at == NOW
    assert plausible(runs, NOW).stopped_at is None


@pytest.mark.parametrize(
    ("told", "believed"),
    [
        pytest.param(
            {"started_at": None}, {"started_at": None, "stopped_at": BOUND}, id="it never started"
        ),
        pytest.param({"bound_at": None}, {"bound_at": None, "started_at": START}, id="never bound"),
        pytest.param(
            {"bound_at": None, "started_at": None},
            {"bound_at": None, "started_at": None, "stopped_at": START},
            id="neither",
        ),
        pytest.param(
            {"started_at": BOUND + SKEW}, {"stopped_at": BOUND + SKEW}, id="only its end is odd"
        ),
        pytest.param({"bound_at": FAR}, {"bound_at": START, "started_at": START}, id="all is odd"),
    ],
)
def test_what_is_known_stands_for_what_is_not(
    told: dict[str, datetime | None], believed: dict[str, datetime | None]
) -> None:
    odd = {"created_at": START, "bound_at": BOUND, "started_at": FAR, "stopped_at": FAR}
    found = plausible(attempt(Phase.FAILED, **{**odd, **told}), NOW)

    assert {name: getattr(found, name) for name in believed} == believed


def test_what_lies_within_is_told_as_it_is_and_so_is_a_clock_a_little_ahead() -> None:
    ahead = NOW + SKEW
    told = attempt(Phase.FAILED, created_at=START, bound_at=BOUND, stopped_at=ahead)

    assert plausible(told, NOW) is told


def test_a_clock_that_is_further_ahead_is_not_believed() -> None:
    ahead = NOW + SKEW + timedelta(seconds=1)
    told = attempt(Phase.FAILED, created_at=START, bound_at=BOUND, stopped_at=ahead)

    assert plausible(told, NOW).stopped_at == told.started_at


def test_of_an_attempt_that_was_only_asked_for_nothing_is_told_yet() -> None:
    asked_for = attempt(Phase.ASSUMED, node_name=None, started_at=None)

    assert plausible(asked_for, NOW) is asked_for


@pytest.mark.parametrize("odd", ODD)
def test_a_job_with_a_timeout_is_not_stopped_by_a_wrong_clock(odd: datetime) -> None:
    world = World()
    world.submit(job("a", timeout={"attemptDurationSeconds": 600}, ttlSecondsAfterFinished=600))
    world.settle()
    [runs] = world.live()
    world.move(runs, Phase.RUNNING, created_at=START, bound_at=world.now, started_at=odd)
    world.settle()
    [runs] = world.live()
    assert not runs.stopping

    world.move(runs, Phase.SUCCEEDED, stopped_at=odd)
    world.settle()

    assert world.state("a") == "SUCCEEDED"
    assert world.jobs["uid-a"].status.stopped_at == START


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_share_whose_pods_tell_odd_times_stops_nobody(odd: datetime, *, is_deleted: bool) -> None:
    world = World(max_vcpus=10)
    world.queues, world.policies = [queue(schedulingPolicy="fair")], [scheduling_policy()]
    world.restart()
    world.submit(job("a", shareIdentifier="red"))
    world.settle()
    [runs] = world.live()
    world.move(runs, Phase.RUNNING, created_at=START, bound_at=odd, started_at=odd)
    world.settle()
    [runs] = world.live()
    world.move(runs, Phase.SUCCEEDED, stopped_at=odd)
    world.settle()
    if is_deleted:
        world.cache.jobs.remove(world.jobs.pop("uid-a"))
        world.cycle()
    else:
        world.restart()
    world.submit(job("b", shareIdentifier="red", at_s=1))
    world.submit(job("c", shareIdentifier="blue", at_s=1))
    world.settle()

    assert {one.job_uid for one in world.live()} == {"uid-b", "uid-c"}


def test_a_pod_that_is_deleted_while_it_starts_ends_when_that_was_asked_for() -> None:
    """The API server writes when its grace period will be over, which may be in years."""
    told = pod(
        status={"phase": "Failed", "startTime": "2026-01-01T00:00:05Z"},
        deletionTimestamp="2057-01-01T00:00:00Z",
        deletionGracePeriodSeconds=978307200,
    )

    assert observed_attempt(told).stopped_at == datetime(2026, 1, 1, tzinfo=UTC)


def test_no_delay_is_longer_than_calendars_are() -> None:
    assert later(START, timedelta(days=1)) == START + timedelta(days=1)
    assert later(START, timedelta(days=3_000_000)) == NEVER
    assert later(datetime.max.replace(tzinfo=UTC), timedelta(0)) == NEVER
