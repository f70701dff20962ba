"""Who starts, against the rules written down as plainly as can be."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from batch_operator.api.index_set import IndexSet
from batch_operator.scheduling.backlog import FIRST_TRY, RETRY, Ask, Backlog, Lot
from batch_operator.scheduling.consumables import GRANTS_MAX, free_units
from batch_operator.scheduling.dispatch import Dispatch
from batch_operator.scheduling.room import Room
from batch_operator.scheduling.walk import Equal
from support.builders import START, consumable, environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batch_operator.scheduling.snapshot import Consumable, Environment

LICENCE = (("licence", 1),)
Starts = list[tuple[str, int, str]]
"""Job, index and environment, in order."""


def lot(uid: str, ask: Ask, children: int = 1, *, at_s: float = 0, moves: int = 0) -> Lot:
    place = (FIRST_TRY, 0, START + timedelta(seconds=at_s), uid, moves)
    return Lot(place, ask, IndexSet.range(children), moves=moves)


def backlog_of(*lots: Lot) -> Backlog:
    backlog = Backlog()
    for one in lots:
        backlog.set(one.uid, (one,))
    return backlog


def dispatch_of(
    *, resources: Sequence[Consumable] = (), limits: Mapping[str, int] | None = None, **fields: Any
) -> Dispatch:
    known = {one.name: one for one in resources}
    return Dispatch(
        now=START,
        room=Room(Counter(fields.pop("used", {})), free_units(known, fields.pop("held", {}))),
        resources=known,
        limit_of=lambda uid: (limits or {}).get(uid, 1 << 30),
        takes_s=lambda ask: ask.timeout_s,
        releases=dict,
        budget=fields.pop("budget", 1000),
        **fields,
    )


def started(dispatch: Dispatch) -> Starts:
    return [
        (one.lot.uid, index, one.environment.name)
        for one in dispatch.placed
        for index in one.indexes
    ]


SIZES = st.sampled_from([1000, 1500, 2500])
LOTS = st.lists(
    st.tuples(SIZES, st.integers(1, 4), st.integers(0, 2), st.sampled_from([(), LICENCE])),
    max_size=6,
)
ENVIRONMENTS = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(
    lambda sizes: [environment(f"e{number}", maxvCpus=size) for number, size in enumerate(sizes)]
)
LIMITS = st.dictionaries(st.sampled_from([f"job-{number}" for number in range(6)]), st.just(2))


def lots_of(drawn: list[tuple[int, int, int, Any]], prefix: str = "job") -> list[Lot]:
    return [
        lot(f"{prefix}-{number}", Ask(size, units), children, at_s=number, moves=moves)
        for number, (size, children, moves, units) in enumerate(drawn)
    ]


def first_in_first_out(
    lots: Sequence[Lot],
    environments: Sequence[Environment],
    free: Counter[str],
    budget: int,
    limits: Mapping[str, int],
) -> tuple[Starts, list[str]]:
    """AWS Batch's queue: from its front, until the first that has room nowhere; and who is told so.

    `free` is by environment and by resource, and shrinks. A job that was moved on begins behind
    the environments that it was moved on from, of those that are large enough for it. What would
    have no room in an empty environment stands aside, and the first with each request is told so
    beside the one that blocks the queue.
    """
    starts: Starts = []
    asides: dict[Ask, str] = {}
    for one in lots:
        if len(starts) == budget:
            return starts, [*asides.values()]
        if not holds(environments, one.ask):
            asides.setdefault(one.ask, one.uid)
            continue
        large = [e for e in environments if e.spec.max_vcpus * 1000 >= one.ask.milli_cpu]
        moved = one.moves % len(large)
        order = [*large[moved:], *large[:moved]]
        for index in range(min(len(one.indexes), limits.get(one.uid, 99))):
            if len(starts) == budget:
                return starts, [*asides.values()]
            where = next((e.name for e in order if free[e.name] >= one.ask.milli_cpu), None)
            if where is None or any(free[name] < quantity for name, quantity in one.ask.units):
                return starts, [one.uid, *asides.values()]
            free[where] -= one.ask.milli_cpu
            free.subtract(dict(one.ask.units))
            starts.append((one.uid, index, where))
    return starts, [*asides.values()]


def holds(environments: Sequence[Environment], ask: Ask) -> bool:
    return any(one.spec.max_vcpus * 1000 >= ask.milli_cpu for one in environments)


def free_in(environments: Sequence[Environment], licences: int = 0) -> Counter[str]:
    free = {one.name: one.spec.max_vcpus * 1000 for one in environments}
    return Counter({**free, "licence": licences})


@given(ENVIRONMENTS, LOTS, st.integers(1, 12), LIMITS, st.integers(0, 6))
def test_a_queue_starts_what_fits_from_its_front_and_stops_at_the_first_that_does_not(
    environments: list[Environment],
    drawn: list[tuple[int, int, int, Any]],
    budget: int,
    limits: dict[str, int],
    licences: int,
) -> None:
    lots = lots_of(drawn)
    dispatch = dispatch_of(resources=[consumable(total=licences)], limits=limits, budget=budget)
    blocked = dispatch.serve(backlog_of(*lots), environments, Equal(), 1.0, backfill=False)
    free = free_in(environments, licences)
    expected = first_in_first_out(lots, environments, free, budget, limits)

    assert (started(dispatch), [one.uid for one in blocked]) == expected
    assert dispatch.budget == budget - len(expected[0])
    for one in blocked:
        assert one.stands_aside != holds(environments, one.ask)
        if not one.stands_aside:
            assert one.free == tuple((where, free[where.name]) for where, _ in one.free)
            assert dict(one.units) == {name: free[name] for name, _ in one.ask.units}


@given(ENVIRONMENTS, LOTS, LOTS, st.integers(1, 12))
def test_a_queue_takes_what_the_one_before_it_has_left(
    environments: list[Environment],
    first: list[tuple[int, int, int, Any]],
    second: list[tuple[int, int, int, Any]],
    budget: int,
) -> None:
    """Also past a blocked job of the higher queue, as AWS Batch has it, unless that backfills."""
    dispatch = dispatch_of(resources=[consumable(total=3)], budget=budget)
    free, expected = free_in(environments, 3), Starts()
    for lots in (lots_of(first, "first"), lots_of(second, "second")):
        dispatch.serve(backlog_of(*lots), environments, Equal(), 1.0, backfill=False)
        left = budget - len(expected)
        if left:
            expected += first_in_first_out(lots, environments, free, left, {})[0]

    assert started(dispatch) == expected


@given(ENVIRONMENTS, LOTS, st.integers(1, 12), LIMITS, st.integers(0, 6))
def test_backfill_starts_all_that_a_queue_without_it_starts_and_then_more(
    environments: list[Environment],
    drawn: list[tuple[int, int, int, Any]],
    budget: int,
    limits: dict[str, int],
    licences: int,
) -> None:
    """The first that is blocked is the same one, nothing starts twice, and no limit is exceeded."""
    lots, found = lots_of(drawn), []
    for backfill in (False, True):
        dispatch = dispatch_of(resources=[consumable(total=licences)], limits=limits, budget=budget)
        blocked = dispatch.serve(backlog_of(*lots), environments, Equal(), 1.0, backfill=backfill)
        found.append((started(dispatch), blocked))
    (plain, plain_blocked), (more, blocked) = found

    assert more[: len(plain)] == plain
    assert [one for one in blocked if not one.stands_aside] == [
        one for one in plain_blocked if not one.stands_aside
    ]
    children = [(uid, index) for uid, index, _ in more]
    assert len(set(children)) == len(children) <= budget
    by_job = Counter(uid for uid, _ in children)
    for one in lots:
        assert by_job[one.uid] <= min(len(one.indexes), limits.get(one.uid, 99))
        assert {index for uid, index in children if uid == one.uid} <= set(one.indexes)
    sizes = {one.uid: one.ask for one in lots}
    held = Counter[str]()
    for uid, _, where in more:
        held[where] += sizes[uid].milli_cpu
        held.update(dict(sizes[uid].units))
    assert all(held[name] <= free for name, free in free_in(environments, licences).items())


def test_what_blocks_a_queue_leaves_the_next_what_it_needs_if_it_backfills() -> None:
    """A lower queue is among those that pass: what is kept for the higher one's head is kept."""
    local = environment(maxvCpus=4)
    for backfill, expected in ((True, []), (False, ["low"])):
        dispatch = dispatch_of(used={"local": 2000})
        high, low = backlog_of(lot("high", Ask(4000))), backlog_of(lot("low", Ask(1000)))
        dispatch.serve(high, [local], Equal(), 1.0, backfill=backfill)
        dispatch.serve(low, [local], Equal(), 1.0, backfill=False)

        assert [uid for uid, _, _ in started(dispatch)] == expected


# What is used up is granted first


def granted(uid: str, indexes: str) -> dict[str, Any]:
    return {"grants": [{"jobUid": uid, "quantity": 1, "indexes": indexes}]}


def tokens(total: int, status: dict[str, Any] | None = None) -> Consumable:
    return consumable("licence", total, kind="NON_REPLENISHABLE", status=status)


def test_nothing_starts_before_its_units_are_granted() -> None:
    """And what they will need is kept for them: those behind get what is left, in their order.

    All that can be asked for is asked for at once, so that it is stored in one write.
    """
    local = environment(maxvCpus=5)
    dispatch = dispatch_of(resources=[tokens(9)])
    ask = Ask(1000, LICENCE)
    first = backlog_of(lot("a", ask, 2), lot("b", ask, at_s=1), lot("c", Ask(1000), at_s=2))
    dispatch.serve(first, [local], Equal(), 1.0, backfill=False)
    dispatch.serve(backlog_of(lot("low", Ask(1000), 9)), [local], Equal(), 1.0, backfill=False)

    assert dispatch.wishes == {
        "licence": {"a": (1, IndexSet.range(2)), "b": (1, IndexSet(1))},
    }
    assert started(dispatch) == [("c", 0, "local"), ("low", 0, "local")]


def test_children_that_were_granted_theirs_start_first_and_use_up_nothing_more() -> None:
    """Nothing is left to be granted, so only these start, and the next of the job is blocked."""
    local = environment(maxvCpus=9)
    dispatch = dispatch_of(resources=[tokens(2, granted("array", "1,3"))])
    [blocked] = dispatch.serve(
        backlog_of(lot("array", Ask(1000, LICENCE), 4)), [local], Equal(), 1.0, backfill=False
    )

    assert started(dispatch) == [("array", 1, "local"), ("array", 3, "local")]
    assert (blocked.uid, blocked.units) == ("array", (("licence", 0),))


def test_one_job_more_than_a_resource_can_keep_grants_of_stands_aside() -> None:
    """It takes no room, those behind it go on, and so does who was granted something before.

    What others ask for in the same cycle counts, in the order of the queue.
    """
    local = environment(maxvCpus=9)
    kept = [{"jobUid": f"j{one}", "quantity": 1, "indexes": "0"} for one in range(GRANTS_MAX - 1)]
    dispatch = dispatch_of(resources=[tokens(5000, {"grants": kept})])
    ask = Ask(1000, LICENCE)
    lots = [lot("last", ask), lot("one-more", ask, at_s=1), lot("j7", ask, 2, at_s=2)]
    lots.append(lot("other", Ask(1000), at_s=3))
    [aside] = dispatch.serve(backlog_of(*lots), [local], Equal(), 1.0, backfill=False)

    assert (aside.uid, aside.stands_aside, aside.full) == ("one-more", True, "licence")
    assert dispatch.wishes == {"licence": {"last": (1, IndexSet(1)), "j7": (1, IndexSet(2))}}
    assert started(dispatch) == [("j7", 0, "local"), ("other", 0, "local")]
    assert dispatch.room.used == {"local": 4000}


def test_what_was_granted_starts_though_no_more_grants_can_be_kept() -> None:
    """Or arrays would wait for one another for ever. Only what is still to be granted waits."""
    local = environment(maxvCpus=9)
    pieces = ",".join(str(number) for number in range(1, 100_000, 2))
    kept = [{"jobUid": f"j{one}", "quantity": 1, "indexes": pieces} for one in range(4)]
    dispatch = dispatch_of(resources=[tokens(500_000, {"grants": kept})])
    array = lot("j3", Ask(1000, LICENCE), 4)
    [aside] = dispatch.serve(backlog_of(array), [local], Equal(), 1.0, backfill=False)

    assert started(dispatch) == [("j3", 1, "local"), ("j3", 3, "local")]
    assert (aside.uid, aside.full) == ("j3", "licence")
    assert dispatch.wishes == {}


def test_of_those_who_lack_the_same_only_who_was_granted_it_is_looked_at() -> None:
    """The first of them is tried, the second shows that there are more, and these are passed."""
    local = environment(maxvCpus=9)
    tried: list[str] = []
    dispatch = dispatch_of(resources=[tokens(1, granted("j77", "0"))])
    dispatch.limit_of = lambda uid: tried.append(uid) or 1
    lots = [lot(f"j{number:02}", Ask(1000, LICENCE), at_s=number) for number in range(100)]
    lots.append(lot("other", Ask(1000), at_s=100))
    [aside] = dispatch.serve(backlog_of(*lots), [local], Equal(), 1.0, backfill=False)

    assert aside.uid == "j00"
    assert started(dispatch) == [("j77", 0, "local"), ("other", 0, "local")]
    assert list(dict.fromkeys(tried)) == ["j00", "j01", "j77", "other"]


def test_no_more_is_asked_for_than_there_is_room_and_units_for() -> None:
    local = environment(maxvCpus=9)
    dispatch = dispatch_of(resources=[tokens(5, granted("array", "0"))], limits={"array": 3})
    dispatch.serve(
        backlog_of(lot("array", Ask(1000, LICENCE), 9)), [local], Equal(), 1.0, backfill=False
    )

    assert started(dispatch) == [("array", 0, "local")]
    assert dispatch.wishes == {"licence": {"array": (1, IndexSet.of([1, 2]))}}


def test_retries_and_first_tries_of_a_job_ask_together_and_within_its_limit() -> None:
    local = environment(maxvCpus=9)
    ask = Ask(1000, LICENCE)
    backlog = Backlog()
    retries = Lot((RETRY, 0, START, "array", 0), ask, IndexSet.of([7]))
    backlog.set("array", (retries, lot("array", ask, 5)))
    dispatch = dispatch_of(resources=[tokens(9)], limits={"array": 3})
    dispatch.serve(backlog, [local], Equal(), 1.0, backfill=False)

    assert dispatch.wishes == {"licence": {"array": (1, IndexSet.of([0, 1, 7]))}}
    assert dispatch.room.used == {"local": 3000}


def test_a_child_starts_when_it_has_both_kinds_of_unit() -> None:
    """Of what is used up it needs a grant of each; of what comes back, a free unit."""
    local = environment(maxvCpus=9)
    units = (("disk", 1), ("licence", 1), ("token", 1))
    ask = Ask(1000, units)
    token = consumable("token", 9, kind="NON_REPLENISHABLE", status=granted("array", "0-2"))
    resources = [consumable("disk", 1), tokens(9, granted("array", "2-4")), token]
    dispatch = dispatch_of(resources=resources)
    [blocked] = dispatch.serve(
        backlog_of(lot("array", ask, 5)), [local], Equal(), 1.0, backfill=False
    )

    assert started(dispatch) == [("array", 2, "local")]
    assert dict(blocked.units)["disk"] == 0
