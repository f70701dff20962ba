"""Fair share over hours of virtual time; the figures of docs/scheduling.md are measured here."""

from __future__ import annotations

from itertools import pairwise

import pytest

from batch_operator.simulator.process import Crash, When
from support.fairness import (
    COMES_S,
    FAIR,
    LONGEST_S,
    MEASURED_S,
    NEWCOMER,
    ROOMY,
    RUNTIMES_S,
    SIZES,
    TIGHT,
    WINDOW_S,
    catches_up_after_s,
    day,
    expected,
    newcomer,
    parts,
    policy,
    saturated,
    share_job,
    uses,
)
from support.play import Played, batch_job, play


@pytest.mark.parametrize(("max_vcpus", "deviation"), [(ROOMY, 0.03), (TIGHT, 0.25)])
def test_under_load_every_share_gets_what_its_weight_says(max_vcpus: int, deviation: float) -> None:
    """Whatever the sizes and lengths of its jobs; less exactly where it is not even one job."""
    got = parts(uses(saturated(max_vcpus), SIZES, RUNTIMES_S), *MEASURED_S)

    assert got == pytest.approx(expected(), rel=deviation)


def test_a_newcomer_gets_its_part_within_a_window() -> None:
    """And more at first, because the others have had everything; but not everything for long."""
    found = uses(newcomer(), *NEWCOMER)
    window = parts(found, COMES_S, COMES_S + WINDOW_S)
    second_half = parts(found, COMES_S + WINDOW_S / 2, COMES_S + WINDOW_S)

    assert catches_up_after_s(found) <= 60
    assert 0.5 <= window["new"] <= 0.75
    assert 0.45 <= second_half["new"] <= 0.65


def test_what_is_reserved_stays_free_as_share_after_share_comes() -> None:
    """ComputeReservation 50: 20, 30, 35, 37 and 38 of 40 vCPUs for one to five shares."""
    times = [1, 130, 260, 390, 520, 650]
    events = [
        {"at": f"{at_s}s", "apply": batch_job(share, **share_job(share, size=200))}
        for at_s, share in zip(times, "abcde", strict=False)
    ]
    played = play(
        {},
        queue=FAIR,
        others=[policy(computeReservation=50)],
        max_vcpus=40,
        behaviors=[{"job": "*", "runtime": "60s"}],
        events=events,
        until="650s",
    )
    found = uses(played, dict.fromkeys("abcde", 1), dict.fromkeys("abcde", 60))
    most = [
        max(
            sum(one.since_s <= at_s < one.until_s for one in found)
            for at_s in range(since_s + 10, until_s, 5)
        )
        for since_s, until_s in pairwise(times)
    ]

    assert most == [20, 30, 35, 37, 38]


@pytest.mark.timeout(300)
def test_a_day_of_everything_starves_nobody_and_nobody_overtakes() -> None:
    one = day(1)
    late = {name: wait for name, wait in one.waits_s.items() if wait > one.bounds_s[name]}

    assert late == {}
    assert max(one.waits_s.values()) > LONGEST_S  # there was something to wait for
    assert one.audit.starts == sum(job.size for job in one.jobs)
    assert (one.audit.queue_inversions, one.audit.priority_inversions) == (0, 0)
    assert one.audit.reservation_breaches == 0


PAST_S = {"a": 400, "b": 60, "c": 240, "d": 10}
"""By share: how long its first job runs, of which its jobs later have the order."""


def one_by_one(crash: Crash | None = None, restart_at_s: float | None = None) -> list[str]:
    """Jobs in the order of their starts, where one runs at a time and past use decides.

    What a job has used goes into its queue's status soon after it is deleted: an operator that
    dies in between does not know of it any more. So nothing is deleted where one dies at any write.
    """
    jobs = {f"{share}0": share_job(share) for share in PAST_S}
    events: list[dict[str, object]] = [
        {"at": "700s", "apply": batch_job(f"{share}{n}", **share_job(share))}
        for share in PAST_S
        for n in (1, 2)
    ]
    if restart_at_s is not None:
        events.append({"at": f"{restart_at_s}s", "restartOperator": {"downFor": "3s"}})
    behaviors = [{"job": f"{share}0", "runtime": f"{runs_s}s"} for share, runs_s in PAST_S.items()]
    if crash is None:
        jobs["b0"]["ttlSecondsAfterFinished"] = 5
    played = play(
        jobs,
        queue=FAIR,
        others=[policy({"c": 0.1}, shareDecaySeconds=3600)],
        max_vcpus=1,
        behaviors=[*behaviors, {"job": "*", "runtime": "31s"}],
        events=events,
        crash=crash,
    )
    return [job for job, _ in played.order("STARTING")]


ORDER = ["a0", "b0", "c0", "d0", "d1", "c1", "c2", "d2", "b1", "b2", "a1", "a2"]


def test_past_use_decides_the_order() -> None:
    assert one_by_one() == ORDER  # by submission it would be a1, a2, b1, b2, c1, c2, d1, d2


@pytest.mark.parametrize("at_s", [30, 403, 500, 709, 740, 790])
def test_past_use_decides_the_order_after_a_restart_too(at_s: float) -> None:
    assert one_by_one(restart_at_s=at_s) == ORDER


@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize("number", range(3, 75, 6))
def test_past_use_decides_the_order_whichever_write_the_operator_dies_at(
    number: int, when: When
) -> None:
    assert one_by_one(crash=Crash(number, when)) == ORDER


def served(played: Played, job: str) -> list[int | None]:
    return [index for name, index in played.order("STARTING") if name == job]


def test_arrays_of_two_shares_interleave_within_their_limits() -> None:
    """MaxParallel binds, and what one share may not use goes to the other."""
    jobs = {
        "bound": {**share_job("a"), "arrayProperties": {"size": 20, "maxParallel": 2}},
        "free": share_job("b", size=40),
    }
    played = play(
        jobs,
        queue=FAIR,
        others=[policy()],
        max_vcpus=8,
        behaviors=[{"job": "*", "runtime": "20s"}],
    )
    first = played.order("STARTING")[:8]

    assert sum(job == "bound" for job, _ in first) == 2
    assert sum(job == "free" for job, _ in first) == 6
    assert served(played, "bound") == list(range(20))
    assert served(played, "free") == list(range(40))


@pytest.mark.parametrize("weight", [0.0001, 999.9999])
def test_a_share_of_the_least_or_greatest_weight_starves_nobody(weight: float) -> None:
    played = play(
        {"odd": share_job("odd", size=60), "even": share_job("even", size=60)},
        queue=FAIR,
        others=[policy({"odd": weight})],
        max_vcpus=6,
        behaviors=[{"job": "*", "runtime": "20s"}],
    )
    last = {job: played.at("SUCCEEDED", job) for job in ("odd", "even")}

    assert set(played.outcome.states().values()) == {("SUCCEEDED", 60)}
    assert (last["odd"] < last["even"]) == (weight < 1)
