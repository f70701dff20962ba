"""When will it start? Two plays of what is to come (`scheduling.play`), and what they say.

One play takes what half of all attempts did not exceed, another what nine of ten did not. An
attempt of whose run time nothing is known never ends in a play: what needs its room gets no
estimate, and the sentence says why.

Not in it: failures and their retries, preemption, what is still to be submitted.

A forecast costs what runs and what it plays, which is bounded; and a cycle makes no more than a
piece of it, for it must not keep starts waiting. It is made anew when something has changed that it
rests on, and when a start has not come by its p90; else time alone moves no estimate.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.scheduling.faults import Fault
from batch_operator.scheduling.front import has_past
from batch_operator.scheduling.outlook import Estimate, Forecast
from batch_operator.scheduling.play import STARTING_S, Beginning, Play, take_in

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.outlook import Making
    from batch_operator.scheduling.run_times import RunTime
    from batch_operator.scheduling.snapshot import Key, Snapshot

EVERY = timedelta(seconds=10)
PIECE_STEPS = 200
"""Of both plays together, in one cycle."""
_NAMED_MAX = 2


def look_ahead(snapshot: Snapshot, memo: Memo, faults: list[Fault]) -> datetime | None:
    """Go on with the memo's forecast where it is due, and say when to come back for more."""
    changes, outlook = snapshot.changes, memo.outlook
    if changes.queues or changes.environments or changes.policies or changes.consumables:
        outlook.moves += 1
    known = outlook.forecast
    if outlook.making is None:
        if known is not None and known.moves == outlook.moves and not _is_refuted(known, snapshot):
            return None
        is_waited_for = any(memo.backlogs.values())
        if known is not None and is_waited_for and snapshot.now < known.made_at + EVERY:
            return known.made_at + EVERY
        outlook.making = forecasting(snapshot, memo)
    try:
        made = _next_piece(outlook.making)
    except Exception as error:  # noqa: BLE001  # nobody waits longer for want of a forecast
        faults.append(Fault("forecast", error))
        made = Forecast(snapshot.now, outlook.moves, {}, {})
    if made is None:
        return snapshot.now
    outlook.making, outlook.forecast = None, made
    before = known if known is not None else made
    outlook.fronts_due.update(dict.fromkeys(sorted({*before.fronts, *made.fronts})))
    told = {**before.estimates, **made.estimates}
    past = (
        uid for uid in told if uid in memo.looks and has_past(memo.looks[uid].job, snapshot.now)
    )
    memo.to_compose.update(dict.fromkeys(past))
    return None


def _is_refuted(forecast: Forecast, snapshot: Snapshot) -> bool:
    return forecast.refuted_at is not None and forecast.refuted_at <= snapshot.now


def _next_piece(making: Making) -> Forecast | None:
    """Take as many steps as a cycle may; the forecast, if it is complete with them."""
    steps = 0
    while steps < PIECE_STEPS:
        try:
            steps += next(making)
        except StopIteration as complete:
            made: Forecast = complete.value
            return made
    return None


def forecasting(snapshot: Snapshot, memo: Memo) -> Making:
    """Play what is to come, twice. What starts at once does not wait, and is not in it.

    Both arguments are read before the first step, and never again.
    """
    beginning, moves = Beginning.of(snapshot, memo), memo.outlook.moves
    del snapshot, memo
    usual = Play(beginning, lambda known: known.p50_s)
    slow = Play(beginning, lambda known: known.p90_s)
    yield from take_in(beginning, (usual, slow))
    yield from usual.begin()
    fronts: dict[str, Sequence[str]] = {}
    for name, queue in usual.queues.items():
        if found := usual.front(name):
            fronts[name] = found
        yield queue.steps
    wanted = [uid for front in fronts.values() for uid in front]
    yield from usual.run(wanted)
    yield from slow.begin()
    yield from slow.run(wanted)
    estimates: dict[str, Estimate] = {}
    for name, front in fronts.items():
        estimates |= {uid: _estimate(uid, name, usual, slow) for uid in front}
        yield 1
    latest = min((one.p90 for one in estimates.values() if one.p90 is not None), default=None)
    refuted_at = latest + EVERY if latest is not None else None
    return Forecast(beginning.now, moves, fronts, estimates, refuted_at)


def _estimate(uid: str, queue: str, usual: Play, slow: Play) -> Estimate:
    early, late = usual.started.get(uid), slow.started.get(uid)
    namespace = usual.beginning.jobs[uid].namespace
    if early is not None and late is not None:
        p50, p90 = _told(early.at), _told(max(early.at, late.at))
        used = usual.freed[early.environment][: early.freed]
        return Estimate(p50, p90, _basis(used, namespace))
    if unknown := {**usual.endless_in(queue), **slow.endless_in(queue)}:
        names = _names([(key, key[1]) for key in unknown], namespace)
        return Estimate(None, None, f"no estimate: nothing is known of the run times of {names}")
    return Estimate(None, None, "no estimate: it starts later than a forecast looks ahead")


def _told(at: datetime) -> datetime:
    """In whole seconds, not before it is so."""
    return (at + timedelta(seconds=STARTING_S, microseconds=999_999)).replace(microsecond=0)


def _basis(used: Sequence[tuple[Key, RunTime]], namespace: str) -> str:
    if not used:
        return "there is room for it now"
    words = [
        (
            key,
            f"run times of {known.count} successes of {key[1]}"
            if known.count
            else f"the timeout of {key[1]}",
        )
        for key, known in used
    ]
    return _names(words, namespace)


def _names(words: Sequence[tuple[Key, str]], namespace: str) -> str:
    """The first of the job's own namespace; the others are counted, not named."""
    own = [text for key, text in words if key[0] == namespace][:_NAMED_MAX]
    more = len(words) - len(own)
    if more:
        own.append(f"{more} {'more' if own else 'other'} definition{'s' if more > 1 else ''}")
    return " and ".join([", ".join(own[:-1]), own[-1]] if len(own) > 1 else own)
