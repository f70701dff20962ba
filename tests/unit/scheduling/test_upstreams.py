"""Who is looked at when a job that others depend on changes, and how often it is read for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from batch_operator.api.array_rows import ArrayIndexes
from batch_operator.api.index_set import IndexSet
from batch_operator.api.job import ArrayStatus, BatchJobStatus, JobState
from batch_operator.lifecycle.dependencies import gate
from batch_operator.lifecycle.evaluate import upstream_of
from batch_operator.lifecycle.stops import Policy
from batch_operator.lifecycle.stored_counts import passed_in
from batch_operator.scheduling import upstreams
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.upstreams import Upstreams
from support.builders import job
from support.world import World

if TYPE_CHECKING:
    import pytest

    from batch_operator.lifecycle.dependencies import Upstream
    from batch_operator.scheduling.snapshot import Job

SIZE = 4
DEPENDENCIES: dict[str, dict[str, Any]] = {
    "whole": {"job": "up"},
    "any": {"job": "up", "type": "AFTER_ANY"},
    "failure": {"job": "up", "type": "AFTER_FAILED"},
    "child": {"job": "up", "index": 1},
    "same": {"job": "up", "type": "N_TO_N"},
}


def stored(state: JobState, succeeded: str | None = None, failed: str | None = None) -> Job:
    """The array that the others depend on, as it is stored."""
    status = BatchJobStatus(
        observed_generation=1,
        state=state,
        job_definition="work:1",
        array=ArrayStatus(
            size=SIZE,
            status_summary={JobState.PENDING: SIZE} if state is JobState.PENDING else {},
            indexes=ArrayIndexes(succeeded=succeeded, failed=failed),
        ),
    )
    return job("up", status=status, arrayProperties={"size": SIZE})


def dependent(name: str, dependency: dict[str, Any]) -> Job:
    array = {"arrayProperties": {"size": SIZE}} if dependency.get("type") == "N_TO_N" else {}
    return job(name, dependsOn=[dependency], **array)


def settled(*jobs: Job) -> World:
    world = World()
    world.queues = []  # nothing starts, so that nothing but the array changes
    world.restart()
    for one in jobs:
        world.submit(one)
    world.settle()
    return world


def looked_at(world: World, upstream: Job) -> set[str]:
    """Who is looked at because the array has got that status."""
    before = dict(world.memo.looks)
    world.submit(upstream)
    run_cycle(world.cache.snapshot(world.now, Policy(), 1000), world.memo)
    after = world.memo.looks
    return {one.job.name for uid, one in after.items() if one is not before[uid]} - {"up"}


def test_who_depends_on_an_array_is_looked_at_when_what_it_asks_for_has_changed() -> None:
    world = settled(
        stored(JobState.PENDING), *(dependent(name, one) for name, one in DEPENDENCIES.items())
    )
    steps = [
        stored(JobState.RUNNABLE),
        stored(JobState.RUNNING),
        stored(JobState.RUNNING, "0"),
        stored(JobState.RUNNING, "0-1"),
        stored(JobState.RUNNING, "0-1", "2"),
    ]

    assert [looked_at(world, one) for one in steps] == [
        set(),
        set(),
        {"same"},
        {"same", "child"},
        {"same"},
    ]
    world.cache.jobs.remove(world.jobs["uid-up"])
    gone = run_cycle(world.cache.snapshot(world.now, Policy(), 1000), world.memo)
    assert gone.looked_at == 1 + len(DEPENDENCIES)


def test_an_array_is_read_once_for_all_who_wait_for_its_children(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = (dependent(f"d{number}", DEPENDENCIES["same"]) for number in range(20))
    world = settled(stored(JobState.PENDING), *many)
    read: list[str] = []

    def counted(one: Job) -> Upstream:
        read.append(one.name)
        return upstream_of(one)

    monkeypatch.setattr(upstreams, "upstream_of", counted)

    assert len(looked_at(world, stored(JobState.RUNNING, "0"))) == 20
    assert read == ["up"]


def test_what_nobody_waits_for_is_not_kept() -> None:
    known, one = Upstreams(), dependent("d", DEPENDENCIES["child"])
    known.meet(one)
    known.note(("default", "up"), stored(JobState.PENDING))

    assert known.is_awaited(("default", "up"))
    known.forget(one)
    assert not known.is_awaited(("default", "up"))
    assert known.is_other(("default", "up"), stored(JobState.PENDING))


@st.composite
def arrays(draw: st.DrawFn) -> Job | None:
    """The array in any state, or none of that name."""
    outcomes = draw(st.lists(st.sampled_from("sf-"), min_size=SIZE, max_size=SIZE))
    succeeded, failed = (
        str(IndexSet.of(index for index, found in enumerate(outcomes) if found == mark))
        for mark in "sf"
    )
    state = draw(st.sampled_from([*JobState, None]))
    return stored(state, succeeded or None, failed or None) if state is not None else None


@given(st.sampled_from(sorted(DEPENDENCIES)), arrays(), arrays())
def test_who_is_not_told_of_a_change_would_have_found_the_same(
    name: str, before: Job | None, after: Job | None
) -> None:
    one = dependent("d", DEPENDENCIES[name])
    known = Upstreams()
    known.meet(one)
    known.note(("default", "up"), before)
    told = known.tell(("default", "up"), after)
    found = [
        gate(one.spec, upstream_of(one), passed_in(one), {"up": upstream_of(up)} if up else {})
        for up in (before, after)
    ]

    assert told or found[0] == found[1]
