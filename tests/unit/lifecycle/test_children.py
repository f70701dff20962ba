"""Which set each child is in, and the protocol by which an attempt is counted exactly once."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_operator.api.common import RetryStrategy
from batch_operator.api.index_set import IndexSet
from batch_operator.lifecycle.attempt import Phase, PodAttempt
from batch_operator.lifecycle.children import Children, Counted, children_of, doomed
from support.builders import attempt

FAILED, RUNNING, SUCCEEDED = Phase.FAILED, Phase.RUNNING, Phase.SUCCEEDED
EXITED = "Essential container in task exited"
REQUEUES_MAX = 10


def stored(size: int = 3, **counts: str) -> Counted:
    """What a status has counted, as intervals; `used_2="0-1"` are children with two tries used."""
    return Counted(
        members=IndexSet.range(size),
        succeeded=IndexSet.parse(counts.get("succeeded", "")),
        failed=IndexSet.parse(counts.get("failed", "")),
        attempts={
            int(name.removeprefix("used_")): IndexSet.parse(those)
            for name, those in counts.items()
            if name.startswith("used_")
        },
    )


def sorted_out(counted: Counted, *attempts: PodAttempt, tries: int = 1) -> Children:
    return children_of(counted, attempts, RetryStrategy(attempts=tries), {})


SETS: dict[str, tuple[Counted, list[PodAttempt], dict[str, str]]] = {
    "nothing has begun": (stored(), [], {"waiting": "0-2"}),
    "a create is on its way": (
        stored(),
        [attempt(Phase.ASSUMED, index=1)],
        {"unbound": "1", "waiting": "0,2"},
    ),
    "one in each phase": (
        stored(),
        [
            attempt(Phase.UNBOUND),
            attempt(Phase.STARTING, index=1),
            attempt(RUNNING, index=2),
        ],
        {"unbound": "0", "starting": "1", "running": "2"},
    ),
    "one has succeeded": (
        stored(),
        [attempt(SUCCEEDED, index=1)],
        {"succeeded": "1", "waiting": "0,2"},
    ),
    "one has failed and is tried again": (
        stored(),
        [attempt(FAILED, index=1)],
        {"waiting": "0-2", "retrying": "1"},
    ),
    "one has failed twice and is over": (
        stored(used_1="1"),
        [attempt(FAILED, index=1, number=2)],
        {"failed": "1", "waiting": "0,2"},
    ),
    "one that failed runs again": (
        stored(used_1="1"),
        [attempt(RUNNING, index=1, number=2)],
        {"running": "1", "waiting": "0,2"},
    ),
    "both tries are found after a restart, the second while it runs": (
        stored(),
        [attempt(RUNNING, index=1, number=2), attempt(FAILED, index=1)],
        {"running": "1", "waiting": "0,2"},
    ),
    "both tries are found after a restart, ended": (
        stored(),
        [attempt(SUCCEEDED, index=1, number=2), attempt(FAILED, index=1)],
        {"succeeded": "1", "waiting": "0,2"},
    ),
    "what was counted is not counted again": (
        stored(used_1="1"),
        [attempt(FAILED, index=1)],
        {"waiting": "0-2", "retrying": "1"},
    ),
    "what succeeded does not fail later": (
        stored(succeeded="1"),
        [attempt(FAILED, index=1, number=2)],
        {"succeeded": "1", "waiting": "0,2"},
    ),
    "what failed does not succeed later": (
        stored(failed="1"),
        [attempt(SUCCEEDED, index=1, number=2)],
        {"failed": "1", "waiting": "0,2"},
    ),
    "two Pods of one child, which must not be, are one child": (
        stored(),
        [
            attempt(Phase.STARTING, index=1),
            attempt(RUNNING, index=1, number=2),
            attempt(Phase.STARTING, index=2),
            attempt(Phase.UNBOUND, index=2, number=2),
        ],
        {"running": "1", "starting": "2", "waiting": "0"},
    ),
    "a Pod of an index that the job does not have is none of its children": (
        stored(),
        [attempt(RUNNING, index=7), attempt(SUCCEEDED, index=8), attempt(FAILED, index=9)],
        {"waiting": "0-2"},
    ),
}
NAMES = ("waiting", "retrying", "unbound", "starting", "running")


def sets_of(found: Children) -> dict[str, str]:
    sets = {name: getattr(found, name) for name in NAMES}
    sets |= {"succeeded": found.counted.succeeded, "failed": found.counted.failed}
    return {name: str(those) for name, those in sets.items() if those}


@pytest.mark.parametrize("name", SETS)
def test_every_child_is_in_one_set(name: str) -> None:
    counted, attempts, expected = SETS[name]

    assert sets_of(sorted_out(counted, *attempts, tries=2)) == expected


def test_a_failure_that_another_attempt_followed_was_retried() -> None:
    """A cancel that comes before it is counted does not end the child whose next attempt runs."""
    first = attempt(FAILED, index=1, retryable=False)
    found = sorted_out(stored(), first, attempt(RUNNING, index=1, number=2), tries=2)

    assert found.counted.attempts == {1: IndexSet.of([1])}
    assert (found.running, found.counted.failed) == (IndexSet.of([1]), IndexSet())


def test_tries_that_are_used_up_are_kept_by_their_number() -> None:
    found = sorted_out(
        stored(used_1="0", used_2="1"),
        attempt(FAILED, number=2),
        attempt(FAILED, index=2),
        tries=5,
    )

    assert found.counted.attempts == {1: IndexSet.of([2]), 2: IndexSet.of([0, 1])}
    assert [found.counted.used(index) for index in range(3)] == [2, 2, 1]


def test_children_that_are_over_are_in_no_row_of_used_tries() -> None:
    found = sorted_out(
        stored(used_1="0-2"),
        attempt(FAILED, number=2),
        attempt(SUCCEEDED, index=1, number=2),
        tries=2,
    )

    assert found.counted.attempts == {1: IndexSet.of([2])}


def test_children_that_failed_alike_share_a_row() -> None:
    known = replace(stored(4, failed="3"), failures={(1, None, EXITED): IndexSet.of([3])})
    found = sorted_out(
        known,
        attempt(FAILED),
        attempt(FAILED, index=1, exit_code=2),
        attempt(FAILED, index=2),
    )

    assert found.counted.failures == {
        (1, None, EXITED): IndexSet.of([0, 2, 3]),
        (2, None, EXITED): IndexSet.of([1]),
    }


def test_a_pod_is_released_only_when_the_stored_status_has_counted_it() -> None:
    ended = attempt(SUCCEEDED)
    before = sorted_out(stored(), ended)
    after = sorted_out(before.counted, ended)

    assert (before.newly_ended, before.releasable) == ((ended,), ())
    assert (after.newly_ended, after.releasable) == ((), (ended,))


def test_a_pod_that_was_released_is_left_alone() -> None:
    assert sorted_out(stored(succeeded="0"), attempt(SUCCEEDED, tracked=False)).releasable == ()


def test_an_attempt_that_is_given_up_is_counted_first_and_stopped_then() -> None:
    """Its Pod is not deleted before the reason is stored: nobody could say why any more."""
    stuck = attempt(Phase.STARTING)
    lost = replace(stuck, phase=FAILED, reason="CannotPullContainerError: x")
    first = children_of(stored(), [stuck], RetryStrategy(attempts=2), {stuck.pod_uid: lost})
    then = children_of(first.counted, [stuck], RetryStrategy(attempts=2), {stuck.pod_uid: lost})

    assert (first.newly_ended, first.overdue) == ((lost,), ())
    assert (then.newly_ended, then.overdue) == ((), (stuck,))
    assert 0 not in first.waiting | then.waiting


def test_while_nobody_knows_the_rules_a_failure_is_not_counted_and_stays_where_it_is() -> None:
    """Its definition cannot be read: the child is neither over nor tried again."""
    found = children_of(stored(), [attempt(FAILED, index=1)], None, {})

    assert sets_of(found) == {"running": "1", "waiting": "0,2"}
    assert (found.newly_ended, found.releasable) == ((), ())


def test_while_nobody_knows_the_rules_an_attempt_that_cannot_start_keeps_what_it_holds() -> None:
    stuck = attempt(Phase.STARTING, index=1)
    given_up = {stuck.pod_uid: replace(stuck, phase=FAILED)}
    found = children_of(stored(), [stuck], None, given_up)

    assert sets_of(found) == {"starting": "1", "waiting": "0,2"}
    assert (found.live, found.newly_ended) == ((stuck,), ())


def test_while_nobody_knows_the_rules_a_failure_that_was_counted_is_released() -> None:
    before = attempt(FAILED, index=1)
    found = children_of(stored(used_1="1"), [before], None, {})

    assert found.releasable == (before,)
    assert sets_of(found) == {"waiting": "0-2", "retrying": "1"}


def test_children_are_active_from_when_they_are_asked_for_until_they_end() -> None:
    phases = (Phase.UNBOUND, Phase.STARTING, RUNNING, SUCCEEDED)
    each = [attempt(phase, index=index) for index, phase in enumerate(phases)]

    assert str(sorted_out(stored(5), *each).active) == "0-2"


def test_children_that_are_doomed_fail_beside_those_that_already_did() -> None:
    """They start nothing more, and have no tries and no losses left to be read."""
    key = (None, None, "Dependent Job failed")
    before = replace(
        stored(5, failed="4", used_1="0-1", used_2="2"),
        out_of_memory={1: IndexSet.of([0]), 2: IndexSet.of([2])},
        failures={key: IndexSet.of([4])},
    )
    found = doomed(sorted_out(before, attempt(RUNNING, index=3)), IndexSet.parse("1-3"), key)

    assert sets_of(found) == {"waiting": "0", "retrying": "0", "running": "3", "failed": "1-2,4"}
    assert found.counted.attempts == found.counted.out_of_memory == {1: IndexSet.of([0])}
    assert found.counted.failures == {key: IndexSet.parse("1-2,4")}


MORE_MEMORY = RetryStrategy.model_validate(
    {"attempts": 2, "onOutOfMemory": {"factor": 2, "maxMemory": "1Gi"}}
)
ON_DEMAND = RetryStrategy.model_validate({"attempts": 2, "onHostLost": {"moveToOnDemandAfter": 1}})
OUT_OF_MEMORY = {"reason": "OutOfMemoryError: Container killed due to memory usage"}
HOST_LOST = {"status_reason": "Host EC2 (instance node) terminated."}
LOSSES: dict[str, tuple[RetryStrategy, dict[str, str], tuple[int, int]]] = {
    "memory, and more follows": (MORE_MEMORY, OUT_OF_MEMORY, (1, 0)),
    "memory, and no rule asks": (ON_DEMAND, OUT_OF_MEMORY, (0, 0)),
    "its node, and no spot node follows": (ON_DEMAND, HOST_LOST, (0, 1)),
    "its node, and no rule asks": (MORE_MEMORY, HOST_LOST, (0, 0)),
    "both, and no rule asks": (RetryStrategy(attempts=2), OUT_OF_MEMORY | HOST_LOST, (0, 0)),
}


@pytest.mark.parametrize("what", LOSSES)
def test_what_a_child_lost_is_counted_where_a_rule_asks(what: str) -> None:
    """Beyond AWS Batch: `onOutOfMemory` and `onHostLost` shape the next attempt."""
    retry, why, expected = LOSSES[what]
    counted = children_of(stored(1), [attempt(FAILED, **why)], retry, {}).counted

    assert (counted.times_out_of_memory(0), counted.times_host_lost(0)) == expected
    assert counted.used(0) == 1


def test_a_pod_that_is_being_stopped_is_not_stopped_again() -> None:
    stuck = attempt(Phase.STARTING, deleting=True)

    assert sorted_out(stored(used_1="0"), stuck, tries=2).overdue == ()


def test_a_child_that_is_over_starts_nothing_while_its_pod_lives() -> None:
    found = sorted_out(stored(succeeded="0"), attempt(RUNNING))

    assert 0 not in found.active | found.waiting
    assert [one.index for one in found.live] == [0]


class Play:
    """One job, its Pods, and an operator that may see late, forget everything and be reordered.

    `script` says how each attempt ends: it succeeds, fails, is preempted, or is stuck and has to be
    given up.
    """

    def __init__(self, size: int, tries: int, script: dict[tuple[int, int], str]) -> None:
        self.retry = RetryStrategy(attempts=tries)
        self.script = script
        self.stored = Counted(members=IndexSet.range(size))
        self.pods: dict[tuple[int, int], PodAttempt] = {}
        self.seen: dict[tuple[int, int], PodAttempt] = {}
        self.wanted: Counted | None = None

    def advance(self, key: tuple[int, int]) -> None:
        """Kubelet: a Pod goes one phase on."""
        pod = self.pods[key]
        how = self.script.get(key, "succeeds")
        if pod.phase.ended:
            return
        if pod.deleting:
            phase = FAILED
        elif how == "is stuck" and pod.phase is Phase.STARTING:
            return
        else:
            phase = {
                Phase.UNBOUND: Phase.STARTING,
                Phase.STARTING: RUNNING,
                RUNNING: FAILED if how in {"fails", "is preempted"} else SUCCEEDED,
            }[pod.phase]
        why = "Preempted: for job a" if how == "is preempted" and phase is FAILED else EXITED
        self.pods[key] = replace(
            pod, phase=phase, exit_code=int(phase is FAILED), status_reason=why
        )

    def see(self, key: tuple[int, int]) -> None:
        """A watch event."""
        if self.pods[key].tracked:
            self.seen[key] = self.pods[key]

    def restart(self) -> None:
        """The operator knows the stored status and what it can list, and nothing else."""
        self.wanted = None
        self.seen = {key: pod for key, pod in self.pods.items() if pod.tracked}

    def store(self) -> None:
        """The status that the last look called for reaches the API server."""
        if self.wanted is not None:
            assert not self.stored.succeeded - self.wanted.succeeded
            assert not self.stored.failed - self.wanted.failed
            self.stored = self.wanted

    def look(self, order: st.DataObject | None, *, starts: bool) -> Children:
        attempts = list(self.seen.values())
        if order is not None:
            attempts = order.draw(st.permutations(attempts))
        given_up = {
            one.pod_uid: replace(one, phase=FAILED)
            for one in attempts
            if self.script.get((one.index, one.number)) == "is stuck"
            and one.phase is Phase.STARTING
            and not one.deleting
        }
        found = children_of(self.stored, attempts, self.retry, given_up)
        check_partition(found)
        self.wanted = found.counted
        for pod in found.releasable:
            self.release(pod)
        for pod in found.overdue:
            key = pod.index, pod.number
            self.pods[key] = replace(self.pods[key], deleting=True)
        if starts:
            for index in found.waiting:
                self.start(index, found.counted.used(index) + 1)
        return found

    def release(self, pod: PodAttempt) -> None:
        key = pod.index, pod.number
        final = self.stored.succeeded | self.stored.failed

        assert pod.index in final or pod.number <= self.stored.used(pod.index)

        self.pods[key] = replace(self.pods[key], tracked=False)
        del self.seen[key]

    def start(self, index: int, number: int) -> None:
        key = index, number

        assert key not in self.pods, f"attempt {number} of {index} is started twice"
        assert all(pod.phase.ended for (one, _), pod in self.pods.items() if one == index)

        self.pods[key] = attempt(
            Phase.UNBOUND, index=index, number=number, started_at=None, node_name=None
        )
        self.seen[key] = replace(self.pods[key], phase=Phase.ASSUMED)

    def finish(self) -> None:
        for _ in range(100):
            found = self.look(None, starts=True)
            if found.all_final and not any(pod.tracked for pod in self.pods.values()):
                return
            self.store()
            for key in self.pods:
                self.advance(key)
                self.see(key)
        raise AssertionError("the job does not end")


def check_partition(found: Children) -> None:
    """No index is in two sets, none is in no set, and the rows fit to the sets."""
    counted = found.counted
    done = counted.succeeded | counted.failed
    sets = [
        counted.succeeded,
        counted.failed,
        found.waiting,
        found.unbound,
        found.starting,
        found.running,
    ]

    assert all(not one & other for one, other in combinations(sets, 2))
    assert sum(map(len, sets)) == len(counted.members)
    assert not found.retrying - found.waiting
    for one, other in combinations(counted.attempts.values(), 2):
        assert not one & other
    for those in counted.attempts.values():
        assert not those & done
    for those in counted.failures.values():
        assert not those - counted.failed


def expected_of(play: Play, index: int) -> tuple[bool, int]:
    """Whether the child succeeds in the end, and with how many attempts."""
    tries = 0
    for number in count(1):
        how = play.script.get((index, number), "succeeds")
        if how == "succeeds":
            return True, number
        tries += how != "is preempted"
        if tries == play.retry.attempts:
            return False, number
    raise AssertionError("the script is not infinite")


STEPS = ("advance", "see", "see", "look", "look", "start", "store", "restart")
SCRIPTS = st.dictionaries(
    st.tuples(st.integers(0, 3), st.integers(1, 4)),
    st.sampled_from(("succeeds", "fails", "is stuck", "is preempted")),
    max_size=10,
)


@settings(max_examples=150)
@given(
    size=st.integers(1, 4),
    tries=st.integers(1, 3),
    script=SCRIPTS,
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 11)), max_size=60),
    order=st.data(),
)
def test_every_attempt_is_counted_once_whatever_is_seen_when_and_however_often_it_restarts(
    size: int,
    tries: int,
    script: dict[tuple[int, int], str],
    steps: list[tuple[str, int]],
    order: st.DataObject,
) -> None:
    """A try that is counted twice would be skipped, one that is missed would be started again."""
    play = Play(size, tries, script)
    for step, which in steps:
        keys: list[Any] = sorted(play.pods)
        match step:
            case "advance" | "see" if keys:
                getattr(play, step)(keys[which % len(keys)])
            case "look" | "start":
                play.look(order, starts=step == "start")
            case "store" | "restart":
                getattr(play, step)()
    play.finish()

    for index in range(size):
        succeeds, tried = expected_of(play, index)

        assert (index in play.stored.succeeded) == succeeds
        assert (index in play.stored.failed) != succeeds
        assert sorted(n for one, n in play.pods if one == index) == list(range(1, tried + 1))


@pytest.mark.parametrize(
    "reason",
    [
        "Preempted: made room for job urgent",
        "Moved to the next compute environment: no node in 600 s",
        "Suspended: spec.suspend is true",
    ],
)
def test_attempts_that_the_operator_ended_itself_cost_no_try(reason: str) -> None:
    """Beyond AWS: of two tries, one is left after ten attempts that made room for others."""
    before = Counted(
        members=IndexSet.range(1),
        attempts={REQUEUES_MAX - 1: IndexSet.range(1)},
        preempted={REQUEUES_MAX - 1: IndexSet.range(1)},
    )
    retry = RetryStrategy(attempts=2)
    last = attempt(Phase.FAILED, number=REQUEUES_MAX, status_reason=reason)
    after = children_of(before, [last], retry, {}).counted

    assert after.used(0) == after.times_requeued(0) == REQUEUES_MAX
    failed = attempt(Phase.FAILED, number=REQUEUES_MAX + 1)
    once = children_of(after, [failed], retry, {}).counted
    assert not once.failed
    again = attempt(Phase.FAILED, number=REQUEUES_MAX + 2)
    assert children_of(once, [again], retry, {}).counted.failed == IndexSet.range(1)


def test_neither_a_move_nor_making_room_costs_a_try() -> None:
    only = IndexSet.range(1)
    before = Counted(only, attempts={2: only}, preempted={1: only}, moved={1: only})
    failed = attempt(Phase.FAILED, number=3)

    assert not children_of(before, [failed], RetryStrategy(attempts=2), {}).counted.failed


def test_beyond_a_bound_an_attempt_that_made_room_counts_like_any_failure() -> None:
    before = Counted(
        members=IndexSet.range(1),
        attempts={REQUEUES_MAX: IndexSet.range(1)},
        preempted={REQUEUES_MAX: IndexSet.range(1)},
    )
    forged = attempt(Phase.FAILED, number=REQUEUES_MAX + 1, status_reason="Preempted: by hand")

    assert children_of(before, [forged], RetryStrategy(attempts=1), {}).counted.failed


def test_an_attempt_that_was_to_make_room_and_was_terminated_is_not_followed_by_another() -> None:
    stopped = attempt(Phase.FAILED, status_reason="Preempted: made room for job b", retryable=False)

    assert children_of(Counted(IndexSet.range(1)), [stopped], RetryStrategy(), {}).counted.failed


def test_an_attempt_that_its_node_rejected_costs_no_try_within_the_same_bound() -> None:
    """Such as OutOfcpu: the scheduler took the node to be free already."""
    only = IndexSet.range(1)
    rejected = attempt(
        Phase.FAILED, status_reason="Task failed to start", reason="Rejected by its node: OutOfcpu"
    )
    once = children_of(Counted(only), [rejected], RetryStrategy(attempts=1), {}).counted
    assert not once.failed
    assert once.preempted == {1: only}

    full = Counted(only, attempts={REQUEUES_MAX: only}, preempted={REQUEUES_MAX: only})
    last = replace(rejected, number=REQUEUES_MAX + 1)
    assert children_of(full, [last], RetryStrategy(attempts=1), {}).counted.failed == only


def test_beyond_the_bound_every_rejection_costs_a_try() -> None:
    only = IndexSet.range(1)
    rejected = attempt(
        Phase.FAILED, status_reason="Task failed to start", reason="Rejected by its node: OutOfcpu"
    )
    counted = Counted(only)
    number = 0
    while not counted.failed:
        number += 1
        again = replace(rejected, number=number)
        counted = children_of(counted, [again], RetryStrategy(attempts=3), {}).counted

        assert number <= REQUEUES_MAX + 3
        assert counted.times_requeued(0) <= REQUEUES_MAX
    assert number == REQUEUES_MAX + 3


def test_of_a_job_whose_rows_tell_of_more_rejections_than_the_bound_the_rest_were_tries() -> None:
    only = IndexSet.range(1)
    before = Counted(only, attempts={REQUEUES_MAX + 1: only}, preempted={REQUEUES_MAX + 1: only})
    failed = attempt(Phase.FAILED, number=REQUEUES_MAX + 2)

    assert children_of(before, [failed], RetryStrategy(attempts=2), {}).counted.failed == only


def test_a_move_is_counted_apart_from_making_room() -> None:
    moved = attempt(Phase.FAILED, status_reason="Moved to the next compute environment: too slow")
    counted = children_of(Counted(IndexSet.range(1)), [moved], RetryStrategy(), {}).counted

    assert counted.moved == {1: IndexSet.range(1)}
    assert not counted.preempted


def test_moves_and_preemptions_together_make_that_a_child_is_not_requeued_any_more() -> None:
    counted = Counted(
        IndexSet.range(7),
        preempted={
            3: IndexSet.parse("0-1"),
            REQUEUES_MAX: IndexSet.parse("4"),
            REQUEUES_MAX - 1: IndexSet.parse("5"),
        },
        moved={
            REQUEUES_MAX - 3: IndexSet.parse("1-2"),
            REQUEUES_MAX: IndexSet.parse("3"),
            REQUEUES_MAX - 1: IndexSet.parse("6"),
        },
    )

    assert str(counted.pinned) == "1,3-4"
    assert all(
        (index in counted.pinned) == (counted.times_requeued(index) >= REQUEUES_MAX)
        for index in range(7)
    )
