"""What is free, what is taken, and what is kept for the job at the head of a queue."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from batch_operator.scheduling.backlog import Ask
from batch_operator.scheduling.room import NEVER, Room
from support.builders import START, environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from batch_operator.scheduling.room import Release
    from batch_operator.scheduling.snapshot import Environment

SIZES = [1000, 1500, 2000, 4000]
NO_RELEASES: dict[str, list[Release]] = {}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@st.composite
def environments(draw: st.DrawFn) -> list[Environment]:
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    return [environment(f"e{number}", maxvCpus=size) for number, size in enumerate(sizes)]


ENDS = st.none() | st.integers(1, 50)
ASKS = st.builds(
    Ask,
    st.sampled_from(SIZES),
    st.sampled_from([(), (("disk", 1),), (("disk", 1), ("licence", 2)), (("unheard-of", 1),)]),
)


@given(
    environments(),
    st.lists(st.tuples(ASKS, st.integers(0, 6), ENDS, st.sampled_from([0.5, 1.0])), max_size=12),
    st.integers(-2, 5),
    st.integers(0, 5),
)
def test_what_is_taken_is_what_fits_one_after_the_other(
    those: list[Environment],
    takes: list[tuple[Ask, int, int | None, float]],
    disks: int,
    licences: int,
) -> None:
    """Each start goes to the first environment with room, as long as all its units are there.

    Fewer units than none are what a total leaves that was lowered: they are no worse than none.
    """
    units = {"disk": disks, "licence": licences}
    room = Room(Counter(), dict(units))
    used: Counter[str] = Counter()
    for ask, wanted, ends, usable in takes:
        expected: Counter[str] = Counter()
        for _ in range(wanted):
            has_units = all(units.get(name, 0) >= quantity for name, quantity in ask.units)
            fitting = (
                one.name
                for one in those
                if used[one.name] + ask.milli_cpu <= one.spec.max_vcpus * 1000 * usable
            )
            place = next(fitting, None) if has_units else None
            if place is None:
                break
            used[place] += ask.milli_cpu
            expected[place] += 1
            for name, quantity in ask.units:
                units[name] -= quantity
        could_fit = room.could_fit(ask, those, usable)
        ends_at = NEVER if ends is None else at(ends)
        found = room.take(ask, wanted, those, usable, ends_at)

        assert {one.name: count for one, count in found} == expected
        assert [one for one, _ in found] == [one for one in those if expected[one.name]]
        assert not wanted or could_fit == bool(found)
        assert room.used == used
        assert {name: room.units[name] for name in units} == units


def expected_at(
    ask: Ask,
    those: Sequence[Environment],
    used: Counter[str],
    releases: Mapping[str, Sequence[Release]],
) -> tuple[datetime, str] | None:
    """When and where there is room first if nothing else starts: by trying every moment."""
    moments = sorted({START, *(time for those in releases.values() for time, _ in those)})
    for moment in moments:
        for one in those:
            given_back = sum(milli for time, milli in releases.get(one.name, ()) if time <= moment)
            if one.spec.max_vcpus * 1000 - used[one.name] + given_back >= ask.milli_cpu:
                return moment, one.name
    return None


@st.composite
def busy(draw: st.DrawFn, those: Sequence[Environment]) -> dict[str, list[tuple[int | None, int]]]:
    """What runs: by environment, when each attempt ends, if that is known, and what it holds."""
    running: dict[str, list[tuple[int | None, int]]] = {}
    for one in those:
        left = one.spec.max_vcpus * 1000
        running[one.name] = []
        for size in draw(st.lists(st.sampled_from(SIZES), max_size=5)):
            if size <= left:
                left -= size
                running[one.name].append((draw(ENDS), size))
    return running


@given(environments(), st.data())
def test_what_passes_the_head_is_never_in_its_way(
    those: list[Environment], data: st.DataObject
) -> None:
    """EASY: the head has a time and a place, and whatever is taken after it leaves it both.

    When nothing is known of when there will be room, what is free now and could be the head's
    is kept.
    """
    running = data.draw(busy(those))
    used = Counter({name: sum(size for _, size in all_) for name, all_ in running.items()})
    releases = {
        name: [(at(ends), size) for ends, size in all_ if ends is not None]
        for name, all_ in running.items()
    }
    room, head = Room(Counter(used), {}), Ask(data.draw(st.sampled_from(SIZES)))
    expected = expected_at(head, those, used, releases)
    free = {one.name: room.free(one) for one in those}
    room.reserve("head", head, those, 1.0, releases, START)
    ends: dict[str, list[tuple[datetime, int]]] = {one.name: [] for one in those}
    for _ in range(data.draw(st.integers(0, 8))):
        ask, ends_s = Ask(data.draw(st.sampled_from(SIZES))), data.draw(ENDS)
        ends_at = NEVER if ends_s is None else at(ends_s)
        for where, count in room.take(ask, data.draw(st.integers(1, 3)), those, 1.0, ends_at):
            ends[where.name].append((ends_at, count * ask.milli_cpu))

    if expected is not None:
        moment, name = expected
        given_back = sum(milli for time, milli in (*releases[name], *ends[name]) if time <= moment)
        limit = next(one.spec.max_vcpus for one in those if one.name == name) * 1000
        assert limit - room.used[name] + given_back >= head.milli_cpu
    for one in those if expected is None else ():
        if one.spec.max_vcpus * 1000 >= head.milli_cpu:
            assert room.free(one) >= min(head.milli_cpu, free[one.name])


def test_the_head_is_given_the_environment_in_which_there_is_room_first() -> None:
    """And the other stays free for those that pass."""
    first, second = environment("first", maxvCpus=2), environment("second", maxvCpus=2)
    room = Room(Counter(first=1000, second=1000), {})
    releases = {"first": [(at(90), 1000)], "second": [(at(60), 1000)]}
    room.reserve("head", Ask(2000), [first, second], 1.0, releases, START)

    assert room.take(Ask(1000), 2, [first, second], 1.0, NEVER) == [(first, 1)]
    assert room.take(Ask(1000), 1, [first, second], 1.0, at(60)) == [(second, 1)]


def test_a_second_head_reckons_with_the_first() -> None:
    """At 60 s the first takes all that is free then, so the second has to wait until 90 s."""
    local = environment(maxvCpus=3)
    room = Room(Counter(local=2000), {})
    releases = {"local": [(at(60), 1000), (at(90), 1000)]}
    room.reserve("head", Ask(2000), [local], 1.0, releases, START)
    room.reserve("other", Ask(1000), [local], 1.0, releases, START)

    assert room.take(Ask(1000), 1, [local], 1.0, at(61)) == []
    assert room.take(Ask(1000), 1, [local], 1.0, at(60)) == [(local, 1)]


def test_for_whom_room_is_kept_is_known() -> None:
    """Of what there is room for but for that; not of what is over before, or is too large."""
    local = environment(maxvCpus=4)
    room = Room(Counter(local=2000), {"licence": 0})
    room.reserve("head", Ask(4000), [local], 1.0, {"local": [(at(60), 2000)]}, START)

    assert room.kept_for(Ask(1000), [local], 1.0, NEVER) == ("head",)
    assert room.kept_for(Ask(1000), [local], 1.0, at(60)) == ()
    assert room.kept_for(Ask(3000), [local], 1.0, NEVER) == ()
    assert room.kept_for(Ask(1000, (("licence", 1),)), [local], 1.0, NEVER) == ()


def test_what_the_same_cycle_has_placed_is_over_some_day_too() -> None:
    """Else nothing would be known in the cycle in which most is decided."""
    local = environment(maxvCpus=2)
    room = Room(Counter(), {})
    room.take(Ask(1000), 1, [local], 1.0, at(60))
    room.reserve("head", Ask(2000), [local], 1.0, NO_RELEASES, START)

    assert room.take(Ask(1000), 1, [local], 1.0, at(61)) == []
    assert room.take(Ask(1000), 1, [local], 1.0, at(60)) == [(local, 1)]


def test_only_where_the_head_could_run_is_anything_kept_for_it() -> None:
    small, large = environment("small", maxvCpus=2), environment("large", maxvCpus=4)
    room = Room(Counter(large=2000), {})
    room.reserve("head", Ask(4000), [small, large], 1.0, NO_RELEASES, START)

    assert room.take(Ask(1000), 9, [small, large], 1.0, NEVER) == [(small, 2)]


def test_units_that_the_head_waits_for_are_not_taken_by_what_passes_it() -> None:
    """Else those who ask for one unit would keep one who asks for two waiting for ever."""
    local = environment(maxvCpus=9)
    room = Room(Counter(), {"licence": 1, "disk": 3})
    room.reserve("head", Ask(1000, (("disk", 1), ("licence", 2))), [local], 1.0, NO_RELEASES, START)

    assert room.take(Ask(1000, (("licence", 1),)), 1, [local], 1.0, at(1)) == []
    assert room.take(Ask(1000, (("disk", 1),)), 9, [local], 1.0, NEVER) == [(local, 2)]


def test_a_head_that_waits_for_units_keeps_its_vcpus_too() -> None:
    local = environment(maxvCpus=4)
    room = Room(Counter(), {"licence": 0})
    room.reserve("head", Ask(3000, (("licence", 1),)), [local], 1.0, {"local": [(at(9), 1)]}, START)

    assert room.take(Ask(1000), 9, [local], 1.0, at(1)) == [(local, 1)]
