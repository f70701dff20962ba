"""Any story of jobs, Pods, requests, lost writes and restarts, beside a small model of the rules.

`support.reference` says what may start and how everything ends. Hypothesis makes up the stories:
writes arrive, arrive late or get lost, the operator dies, Pods fail, are deleted, lose their node.
After every step the promises hold, and whenever all has arrived both have come to the same.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from batch_operator.api.index_set import IndexSet
from batch_operator.api.job import JobState
from batch_operator.lifecycle.attempt import Phase, PodAttempt, StartError
from batch_operator.lifecycle.children import REQUEUES_MAX
from batch_operator.lifecycle.outcomes import FAILED_TO_START
from batch_operator.lifecycle.stops import Policy
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.memo import Memo
from batch_operator.scheduling.mutations import (
    DeletePod,
    Mutation,
    ReleasePod,
    StartAttempt,
    StopPod,
)
from support.builders import START, definition, definition_spec, job, pod_template, queue
from support.reference import Model, Outcome
from support.slow_world import HOST_LOST, SlowWorld
from support.strategies import job_specs

if TYPE_CHECKING:
    from batch_operator.api.job import BatchJobStatus
    from support.reference import Reference

JOBS_MAX, VCPUS, TIMEOUT_S = 6, 3, 60
FINAL = {JobState.SUCCEEDED, JobState.FAILED}
BEGUN = {JobState.STARTING, JobState.RUNNING}
RANK = {state: number for number, state in enumerate(JobState)}
PRIORITY = {"main": 1, "urgent": 2}
CANNOT_PULL = "CannotPullContainerError: no such image"

WHICH = st.integers(0, 11)
JOBS = job_specs(JOBS_MAX, sorted(PRIORITY), ["work", "work", "wide"], timeout_s=TIMEOUT_S)
REQUESTS = st.sampled_from(
    [
        {"suspend": True},
        {"suspend": False},
        {"cancel": {"reason": "not needed"}},
        {"terminate": {"reason": "wrong input"}},
    ]
)
ARRIVES, LATE, LOST = "arrives", "arrives late", "is lost"
FATES = st.lists(st.sampled_from([ARRIVES, ARRIVES, LATE, LOST]), min_size=1, max_size=5)


class Story(RuleBasedStateMachine):
    """The operator's cycle and the model, told the same."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.world = SlowWorld(max_vcpus=VCPUS)
        self.world.queues = [queue(name, priority=PRIORITY[name]) for name in PRIORITY]
        wide = definition_spec(podTemplate=pod_template("2"))
        self.world.definitions = [definition(), definition("wide", wide)]
        self.world.restart()

    # What users do

    @initialize(wanted=st.lists(st.tuples(WHICH, JOBS), min_size=2, max_size=4))
    def begin(self, wanted: list[tuple[int, dict[str, Any]]]) -> None:
        for which, spec in wanted:
            self.submit(which, spec)

    @precondition(lambda self: len(self.model.jobs) < JOBS_MAX)
    @rule(which=WHICH, spec=JOBS)
    def submit(self, which: int, spec: dict[str, Any]) -> None:
        """A job that depends on jobs with lower numbers, which may be there or still to come."""
        free = [one for one in range(JOBS_MAX) if f"j{one}" not in self.model.jobs]
        name = f"j{free[which % len(free)]}"
        depends_on = [one for one in spec["dependsOn"] if one.get("job", "") < name]
        self.world.tick()
        at_s = (self.world.now - START).total_seconds()
        submitted = job(name, at_s=at_s, **{**spec, "dependsOn": depends_on})
        self.world.submit(submitted)
        self.model.submit(name, submitted.spec)

    @precondition(lambda self: self.world.pods)
    @rule(which=WHICH, request=REQUESTS)
    def ask(self, which: int, request: dict[str, Any]) -> None:
        begun = {self.name_of(one) for one in self.on_nodes()}
        still = {name for name, one in self.model.jobs.items() if one.state is None}
        names = sorted(begun or still or self.model.jobs)
        name = names[which % len(names)]
        # What cannot start counts by the request or as it is: by which of them came first.
        stuck = {self.name_of(one) for one in self.world.live() if one.start_error}
        if "suspend" in request or name not in stuck:
            self.model.change(name, self.world.change(name, **request))

    # What becomes of Pods

    @precondition(lambda self: self.world.live())
    @rule(which=WHICH, exit_code=st.sampled_from([0, 1, 42]))
    def a_pod_goes_on(self, which: int, exit_code: int) -> None:
        live = self.world.live()
        self.go_on(live[which % len(live)], exit_code)

    def go_on(self, pod: PodAttempt, exit_code: int) -> None:
        outcome = self.world.run_on(pod, exit_code)
        if outcome is not None and pod.start_error:
            self.model.forget(self.name_of(pod), pod.index)  # it counted when it could not start
        elif outcome is not None:
            self.model.end(self.name_of(pod), pod.index, self.as_marked(pod, outcome))

    def as_marked(self, pod: PodAttempt, outcome: Outcome) -> Outcome:
        """What was ended counts by its mark, if it has one and nothing else was up by then."""
        is_ended = (pod.deleting or outcome.is_stopped) and outcome.exit_code != 0
        if pod.requeued is None or not is_ended or self.is_overdue(pod):
            return outcome
        return replace(outcome, is_stopped=False, is_requeued=True)

    @rule(exit_codes=st.lists(st.sampled_from([0, 0, 1, 42]), min_size=1, max_size=4))
    def all_pods_go_on(self, exit_codes: list[int]) -> None:
        """A step for each; those that are being stopped have no time left to end by themselves."""
        for number, pod in enumerate(self.world.live()):
            self.go_on(pod, 143 if pod.stopping else exit_codes[number % len(exit_codes)])

    def healthy(self) -> list[PodAttempt]:
        return [one for one in self.world.live() if not one.start_error]

    @precondition(lambda self: self.healthy())
    @rule(which=WHICH)
    def a_pod_is_deleted(self, which: int) -> None:
        pod = self.healthy()[which % len(self.healthy())]
        if outcome := self.world.delete(pod):
            requeued = replace(outcome, is_requeued=pod.requeued is not None)
            self.model.end(self.name_of(pod), pod.index, requeued)

    @precondition(lambda self: self.on_nodes())
    @rule(which=WHICH)
    def a_node_is_lost(self, which: int) -> None:
        pod = self.on_nodes()[which % len(self.on_nodes())]
        outcome = Outcome(None, HOST_LOST)
        self.world.over(pod, outcome)
        self.model.end(self.name_of(pod), pod.index, outcome)

    def on_nodes(self) -> list[PodAttempt]:
        return [one for one in self.healthy() if one.node_name]

    @precondition(lambda self: self.startable_pods())
    @rule(which=WHICH)
    def a_container_cannot_start(self, which: int) -> None:
        """Waiting does not mend it: the attempt counts as failed, before its Pod is gone."""
        pod = self.startable_pods()[which % len(self.startable_pods())]
        error = StartError(CANNOT_PULL, CANNOT_PULL, hopeless=True)
        self.world.move(pod, Phase.STARTING, start_error=error)
        outcome = Outcome(None, FAILED_TO_START, CANNOT_PULL)
        self.model.end(self.name_of(pod), pod.index, outcome, lingers=True)

    def startable_pods(self) -> list[PodAttempt]:
        return [
            one
            for one in self.on_nodes()
            if one.phase is Phase.STARTING
            and not (one.deleting or one.stopping)
            and not self.model.jobs[self.name_of(one)].is_stopped
        ]

    @rule()
    def time_passes(self) -> None:
        """Long enough for all to start, and for what ran to run into its timeout."""
        self.world.tick(TIMEOUT_S)
        for pod in self.world.live():
            while self.world.pods[pod.pod_name].phase < Phase.RUNNING and not (
                pod.start_error or pod.deleting or pod.stopping
            ):
                self.go_on(self.world.pods[pod.pod_name], 0)

    # What the operator does

    @rule(fates=FATES)
    def cycle(self, fates: list[str]) -> None:
        mutations = self.world.decide()
        self.check_order([one for one in mutations if isinstance(one, StartAttempt)])
        for one in mutations:
            self.check_decision(one)
            self.world.send(one)
        for number, one in enumerate(mutations):
            fate = fates[number % len(fates)]
            if fate != LATE:
                self.end(one, arrives=fate == ARRIVES)

    def end(self, mutation: Mutation, *, arrives: bool) -> None:
        counts = self.world.end(mutation, arrives=arrives)
        if isinstance(mutation, StartAttempt) and not counts:
            self.model.forget(mutation.job.name, mutation.index)
        is_stop = isinstance(mutation, StopPod) and not mutation.requeue
        if is_stop and counts and mutation.pod.node_name is None:
            is_requeued = mutation.pod.requeued is not None
            outcome = Outcome(
                None, FAILED_TO_START, is_stopped=not is_requeued, is_requeued=is_requeued
            )
            self.model.end(self.name_of(mutation.pod), mutation.pod.index, outcome)
        self.promises_hold()

    @precondition(lambda self: self.world.under_way)
    @rule(which=WHICH, arrives=st.booleans())
    def a_late_write_ends(self, which: int, arrives: bool) -> None:  # noqa: FBT001
        late = list(self.world.under_way.values())
        self.end(late[which % len(late)], arrives=arrives)

    @rule(fates=FATES)
    def restart(self, fates: list[str]) -> None:
        """The operator dies; what it had sent has arrived or not."""
        for number, one in enumerate(list(self.world.under_way.values())):
            self.end(one, arrives=fates[number % len(fates)] != LOST)
        self.world.restart()

    @rule()
    def everything_arrives(self) -> None:
        for _ in range(100):
            for one in list(self.world.under_way.values()):
                self.end(one, arrives=True)
            before = self.world.writes
            self.cycle([ARRIVES])
            if self.world.writes == before:
                break
        else:
            raise AssertionError("the operator never comes to rest")
        for name in self.model.jobs:
            self.agree(name)
        self.check_nothing_is_put_off()
        self.check_looks()

    def teardown(self) -> None:
        """All Pods end, and well; then all is over that does not wait for what never comes."""
        for name in self.model.jobs:
            self.model.change(name, self.world.change(name, suspend=False))
        self.everything_arrives()
        while self.world.live():
            self.all_pods_go_on([0])
            self.everything_arrives()
        assert not any(one.tracked for one in self.world.pods.values())
        assert not any(self.world.memo.used_milli.values())
        before = self.world.writes
        self.world.tick(3600)
        self.world.restart()
        self.everything_arrives()
        assert self.world.writes == before

    # What has to hold

    def name_of(self, pod: PodAttempt) -> str:
        return self.world.jobs[pod.job_uid].name

    @invariant()
    def promises_hold(self) -> None:
        creates = self.world.sent(StartAttempt)
        milli = sum(one.milli_cpu for one in self.world.live())
        assert milli + sum(one.plan.milli_cpu for one in creates) <= VCPUS * 1000

        alive = Counter((one.job_uid, one.index) for one in self.world.live())
        alive += Counter((one.job.uid, one.index) for one in creates)
        assert max(alive.values(), default=0) <= 1

        for before, after in self.world.written:
            check_step(before, after)
        self.world.written.clear()
        for name, known in self.model.jobs.items():
            self.check_counts(known, self.world.jobs[f"uid-{name}"].status)

    def check_counts(self, known: Reference, status: BatchJobStatus) -> None:
        """Nothing has been counted that has not happened."""
        for index, used in used_in(known, status).items():
            assert used <= len(known.attempts[index])
        assert outcomes_in(known, status).items() <= known.ended.items()
        if status.array is not None:
            assert sum(status.array.status_summary.values()) == len(known.members)

    def check_looks(self) -> None:
        """What is remembered of jobs is what a look at them would find."""
        known, cache = self.world.memo, self.world.cache
        self.world.restart()
        snapshot, fresh = self.world.cache.snapshot(self.world.now, Policy(), 0), Memo()
        run_cycle(snapshot, fresh)
        self.world.memo, self.world.cache = known, cache

        assert known.looks == fresh.looks

    def check_decision(self, mutation: Mutation) -> None:
        """Nothing is begun too early or too often, or ended without a reason."""
        match mutation:
            case StartAttempt(job=started, index=index, number=number):
                self.model.start(started.name, index, number)
            case StopPod(pod=pod, requeue=str()):
                assert self.model.jobs[self.name_of(pod)].spec.suspend
                assert pod.node_name is None
            case StopPod(pod=pod):
                known = self.model.jobs[self.name_of(pod)]
                is_spared = known.spec.cancel and not known.spec.terminate and pod.node_name
                is_due = self.is_overdue(pod) or pod.requeued is not None
                assert (known.is_stopped and not is_spared) or is_due
            case ReleasePod(pod=pod):
                name = self.name_of(pod)
                known, status = self.model.jobs[name], self.world.jobs[f"uid-{name}"].status
                is_counted = pod.number <= used_in(known, status).get(pod.index, 0)
                assert is_counted or pod.index in outcomes_in(known, status)
                assert self.world.pods[pod.pod_name].phase.ended
            case DeletePod(pod=pod):
                assert pod.start_error

    def is_overdue(self, pod: PodAttempt) -> bool:
        if pod.started_at is None or self.model.jobs[self.name_of(pod)].spec.timeout is None:
            return False
        return (self.world.now - pod.started_at).total_seconds() >= TIMEOUT_S

    def check_order(self, starts: list[StartAttempt]) -> None:
        """Queues by priority; in a queue retries first, then by time of submission."""
        keys = [self.order_of(one.job.name, one.index) for one in starts]
        assert keys == sorted(keys)

    def order_of(self, name: str, index: int) -> tuple[object, ...]:
        stored = self.world.jobs[f"uid-{name}"]
        is_retry = bool(self.model.jobs[name].attempts[index])
        return -PRIORITY[stored.spec.job_queue], not is_retry, stored.created_at, index

    def agree(self, name: str) -> None:
        known, status = self.model.jobs[name], self.world.jobs[f"uid-{name}"].status
        assert (status.state if status.state in FINAL else None) == known.state
        if known.is_array:
            tried = {one: len(tries) for one, tries in known.attempts.items() if tries}
            assert outcomes_in(known, status) == known.ended
            assert used_in(known, status) == {
                one: count for one, count in tried.items() if one not in known.ended
            }
        else:
            rows = [one.exit_code for one in status.attempts if one.stopped_at]
            assert rows == known.attempts[0]

    def check_nothing_is_put_off(self) -> None:
        """The first of each queue does not fit, and what has to be stopped is."""
        live = self.world.live()
        free = VCPUS * 1000 - sum(one.milli_cpu for one in live)
        heads: dict[str, tuple[tuple[object, ...], str]] = {}
        for name, index in self.model.startable():
            where = self.model.jobs[name].spec.job_queue
            entry = self.order_of(name, index), name
            heads[where] = min(heads.get(where, entry), entry)
        for _, name in heads.values():
            wide = self.model.jobs[name].spec.job_definition == "wide"
            assert free < (2000 if wide else 1000), f"{name} could run"
        for pod in live:
            known = self.model.jobs[self.name_of(pod)]
            spec = known.spec
            may_wait = not spec.suspend or known.requeues[pod.index] >= REQUEUES_MAX
            assert may_wait or pod.node_name is not None
            assert pod.stopping or pod.deleting or not (spec.terminate or self.is_overdue(pod))


def used_in(known: Reference, status: BatchJobStatus) -> dict[int, int]:
    """By child that is not over: the attempts that the status has counted."""
    if not known.is_array:
        ended = [one.attempt for one in status.attempts if one.stopped_at]
        assert ended == list(range(1, len(ended) + 1))
        return {0: len(ended)} if ended else {}
    rows = status.array.attempts if status.array else []
    return {index: row.attempts for row in rows for index in IndexSet.parse(row.indexes)}


def outcomes_in(known: Reference, status: BatchJobStatus) -> dict[int, JobState]:
    if not known.is_array:
        return {0: status.state} if status.state in FINAL else {}
    if status.array is None:
        return {}
    indexes = status.array.indexes
    return {
        index: state
        for state, text in (
            (JobState.SUCCEEDED, indexes.succeeded),
            (JobState.FAILED, indexes.failed),
        )
        for index in IndexSet.parse(text)
    }


def check_step(before: BatchJobStatus, after: BatchJobStatus) -> None:
    """From one stored status to the next."""
    if before.state in FINAL:
        ignored = {"observed_generation": None}
        assert before.model_copy(update=ignored) == after.model_copy(update=ignored)
    is_back = before.state in BEGUN and after.state in {JobState.RUNNABLE, JobState.STARTING}
    assert RANK[after.state] >= RANK[before.state] or is_back
    if before.array is not None and after.array is not None:
        was, now = before.array.indexes, after.array.indexes
        assert not IndexSet.parse(was.succeeded) - IndexSet.parse(now.succeeded)
        assert not IndexSet.parse(was.failed) - IndexSet.parse(now.failed)


EXAMPLES = int(os.environ.get("BATCH_OPERATOR_EXAMPLES", "0"))
TestStory = Story.TestCase
TestStory.settings = settings(
    max_examples=EXAMPLES or 100,
    stateful_step_count=50,
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
