"""One simulation from beginning to end.

The manifests are applied at 0 s, the events happen at their times, and it goes on until nothing is
left to happen: no container runs, nobody has announced to do anything later, and the operator has
been silent for ten minutes. That silence is itself an invariant.
"""

from __future__ import annotations

import asyncio
import logging
from fnmatch import fnmatchcase
from functools import partial
from random import Random  # noqa: TID251  # seeded: the same seed gives the same run
from typing import TYPE_CHECKING, Any

from batch_operator.api import meta
from batch_operator.cluster.client import (
    BATCH_JOBS,
    COMPUTE_ENVIRONMENTS,
    CONFIG_MAPS,
    CONSUMABLE_RESOURCES,
    JOB_QUEUES,
    MERGE_PATCH,
    NODES,
    SCHEDULING_POLICIES,
    ApiError,
)
from batch_operator.lifecycle.stops import Policy
from batch_operator.provisioners.by_type import simulated_provisioners
from batch_operator.simulator.api_client import SimulatedApiClient
from batch_operator.simulator.api_server import ApiServer
from batch_operator.simulator.carried import carry_on
from batch_operator.simulator.checkers import OPERATOR, End, Panel
from batch_operator.simulator.cloud import Cloud
from batch_operator.simulator.faults import Dice, FaultyApiClient, Janitor
from batch_operator.simulator.garbage_collector import GarbageCollector
from batch_operator.simulator.job_controller import JobController, node_of
from batch_operator.simulator.kubelet import Fate, Kubelet
from batch_operator.simulator.line import Line
from batch_operator.simulator.nodes import Nodes, NodeStarter, PodGarbageCollector
from batch_operator.simulator.pod_scheduler import PodScheduler
from batch_operator.simulator.process import OperatorProcess
from batch_operator.simulator.recorded import definition_of
from batch_operator.simulator.report import Account, Outcome
from batch_operator.simulator.scenario import (
    DELETABLE,
    PATCHABLE,
    Behavior,
    InvalidInputError,
    draw,
)
from batch_operator.simulator.trace import Trace
from batch_operator.simulator.virtual_time import PLAIN, Calendar, VirtualClock, VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from batch_operator.cluster.client import Resource
    from batch_operator.simulator.api_server import Write
    from batch_operator.simulator.calls import CallAnswerer
    from batch_operator.simulator.process import Crash
    from batch_operator.simulator.recorded import Recorded
    from batch_operator.simulator.scenario import (
        Event,
        Manifest,
        Patch,
        Scenario,
        Target,
    )
    from batch_operator.simulator.trace import Transition

    Json = dict[str, Any]

UNTIL_S = 24 * 3600.0
"""How long a simulation goes on at most, when nobody says."""
STEP_S = 5.0
SETTLE_S = 60.0
"""What the operator may take to finish, once the world around it has come to rest."""
SETTLE_AFTER_FAULTS_S = 400.0
"""The same after faults: a job that was refused several times is held back for five minutes."""
QUIET_S = 600.0
ANNOUNCED_S = 2.0
"""A write so soon after the time that a cycle had asked to be woken at was announced."""
NOTICE_S, NOTICE_WITH_FAULTS_S = 5.0, 90.0
STEPS_TO_DIE = 5
"""Turns of the loop in which every task of a killed process has ended."""
USER = "user"
_WITH_STATUS = (
    BATCH_JOBS,
    JOB_QUEUES,
    COMPUTE_ENVIRONMENTS,
    SCHEDULING_POLICIES,
    CONSUMABLE_RESOURCES,
)


def simulate(
    scenario: Scenario,
    *,
    seed: int = 0,
    until_s: float | None = None,
    faults: bool = False,
    crash: Crash | None = None,
) -> Outcome:
    """Run a scenario to its end.

    Args:
        scenario: what there is and what happens.
        seed: decides everything that is left to chance.
        until_s: ends the run at that virtual time at the latest, in place of the scenario's own.
        faults: put a client that fails by seed between operator and API server.
        crash: have the operator die at one of its writes. With this or `faults`, half of the Pods
            are deleted by somebody else as soon as they have ended.

    Raises:
        InvalidInputError: an event asks for what the API server refuses.
    """
    until_s = until_s or scenario.spec.until or UNTIL_S
    loop = VirtualTimeLoop()
    try:
        return loop.run_until_complete(_run(scenario, seed, until_s, faults=faults, crash=crash))
    finally:
        loop.close()


async def _run(
    scenario: Scenario, seed: int, until_s: float, *, faults: bool, crash: Crash | None
) -> Outcome:
    simulation = _Simulation(scenario, seed, faults=faults, crash=crash)
    with _ErrorsReported(simulation):
        return await simulation.run(until_s)


class _ErrorsReported(logging.Handler):
    """Whatever the operator logs as an error while it runs is an error of the operator."""

    def __init__(self, simulation: _Simulation) -> None:
        super().__init__(logging.ERROR)
        self._report = simulation.report
        self._log = logging.getLogger("batch_operator")

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._report(record.getMessage() + (f": {error!r}" if error else ""))

    def __enter__(self) -> None:
        self._log.addHandler(self)
        self._propagated, self._log.propagate = self._log.propagate, False

    def __exit__(self, *_: object) -> None:
        self._log.propagate = self._propagated
        self._log.removeHandler(self)


class _Simulation:
    """Everything that takes part, put together."""

    def __init__(self, scenario: Scenario, seed: int, *, faults: bool, crash: Crash | None) -> None:
        self._scenario = scenario
        self._loop = loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unhandled)
        self._seed = seed
        recorded = scenario.recorded
        calendar = Calendar(recorded.moment) if recorded else PLAIN
        self._clock = VirtualClock(loop, calendar)
        self._server = server = ApiServer(loop.time, seed, calendar)
        self._line = Line(server, loop)
        cuts = [one.cut_off_operator for one in scenario.spec.events if one.cut_off_operator]
        restarts = [one.restart_operator for one in scenario.spec.events if one.restart_operator]
        is_disturbed = bool(faults or cuts)
        notice_s = NOTICE_WITH_FAULTS_S if is_disturbed else NOTICE_S
        deaf_s = sum(one.for_ for one in cuts) + sum(one.down_for for one in restarts)
        self._panel = Panel(notice_s + deaf_s, calendar)
        self._transitions: list[Transition] = []
        self._account = Account(calendar)
        self._trace = Trace(self._tell)
        for listener in (self._panel.see, self._account.see, self._trace.see, self._watch):
            server.subscribe(listener)
        self._cloud = Cloud(scenario.spec.pools, loop.time)
        self._nodes = Nodes(server, loop, scenario.spec.nodes, self._cloud.reserved)
        self._scheduler = PodScheduler(server, loop, scenario.spec.scoring_strategy)
        self._kubelet = Kubelet(server, loop, self._fate)
        self._jobs = JobController(server, loop)
        self._controllers = (
            self._nodes,
            self._jobs,
            NodeStarter(server, loop, self._cloud.reserved),
            PodGarbageCollector(server, loop),
            GarbageCollector(server, loop),
        )
        self._dice = Dice(seed) if faults else None
        if faults or crash:
            Janitor(server, loop)
        self._settle_s = SETTLE_AFTER_FAULTS_S if is_disturbed else SETTLE_S
        self._operator = OperatorProcess(
            self._client,
            self._clock,
            Policy(),
            Random(f"operator {seed}").uniform,  # noqa: S311  # jitter
            self.report,
            lambda point: point == crash or (self._dice is not None and self._dice.dies()),
            partial(simulated_provisioners, behaviour=self._cloud.behaviour),
        )
        self._events_left = 0
        self._problem: InvalidInputError | None = None
        self._busy_s = 0.0
        self._announced_s = 0.0
        self._late: list[Write] = []

    def report(self, sentence: str) -> None:
        """Something went wrong inside the operator."""
        self._panel.add("no_internal_error", self._loop.time(), sentence)

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        del loop
        self.report(f"{context.get('message')}: {context.get('exception')!r}")

    def _client(self) -> CallAnswerer:
        client = SimulatedApiClient(self._server, OPERATOR, self._line)
        return client if self._dice is None else FaultyApiClient(client, self._dice)

    def _tell(self, transition: Transition) -> None:
        self._transitions.append(transition)
        self._panel.see_transition(transition)

    async def run(self, until_s: float) -> Outcome:
        """Until everything is over, or until the time is."""
        manifests = self._scenario.manifests
        if self._scenario.recorded is not None:
            values = tuple(one for one in manifests if one.resource is CONFIG_MAPS)
            self._go_on(self._scenario.recorded, values)
            manifests = tuple(one for one in manifests if one not in values)
        self._apply_all(manifests)
        for number, event in enumerate(self._scenario.spec.events):
            if event.at < until_s:
                self._events_left += 1
                self._loop.call_at(event.at, self._happen, number, event)
        self._operator.start()
        is_settled = False
        while not is_settled and self._loop.time() < until_s:
            await asyncio.sleep(min(STEP_S, until_s - self._loop.time()))
            if self._problem is not None:
                raise self._problem
            is_settled = self._is_settled()
        outcome = self._outcome(is_settled=is_settled)
        self._operator.kill()
        for _ in range(STEPS_TO_DIE):
            await asyncio.sleep(0)
        return outcome

    def _go_on(self, recorded: Recorded, values: Iterable[Manifest]) -> None:
        """Take over a cluster; with the values that its children got, as far as they are given."""
        for one in recorded.objects:
            self._server.restore(one.resource, dict(one.body), USER)
        self._apply_all(values)
        to_come = {
            (one.namespace, one.name)
            for one in self._scenario.applied.values()
            if one.resource is CONFIG_MAPS
        }
        carry_on(self._server, self._scheduler, self._kubelet, self._jobs, to_come)

    def _apply_all(self, manifests: Iterable[Manifest]) -> None:
        for one in manifests:
            try:
                self._apply(one)
            except ApiError as error:
                refused = f"{one.where}: the API server refuses: {error.message}"
                raise InvalidInputError(refused) from None

    def _is_settled(self) -> bool:
        now_s = self._loop.time()
        wakes_in_s = self._until(self._operator.wake_at)
        due_in_s = self._until(self._operator.due_at)
        if wakes_in_s is not None and wakes_in_s <= STEP_S:
            self._announced_s = now_s + max(0.0, wakes_in_s)
        is_busy = (
            self._events_left > 0
            or self._kubelet.waiting > 0
            or any(one.waiting for one in self._controllers)
            or not self._operator.is_up
            or self._line.is_cut
            or (due_in_s is not None and due_in_s > QUIET_S)
            or (self._dice is not None and now_s <= self._dice.last_s)
        )
        if is_busy:
            self._busy_s = now_s
        return now_s - self._busy_s >= self._settle_s + QUIET_S

    def _until(self, at: datetime | None) -> float | None:
        """Seconds from now."""
        return (at - self._clock.now()).total_seconds() if at else None

    def _watch(self, write: Write) -> None:
        """Notice what the operator writes when it should be silent."""
        is_announced = write.at_s - self._announced_s <= ANNOUNCED_S + STEP_S
        if write.actor != OPERATOR or is_announced:
            self._busy_s = write.at_s
        elif write.at_s - self._busy_s >= self._settle_s:
            self._late.append(write)

    def _outcome(self, *, is_settled: bool) -> Outcome:
        now_s = self._loop.time()
        self._panel.finish(End(self._server, now_s, is_settled, tuple(self._late)))
        summary = {
            **self._account.summary(self._transitions, self._trace.waits(), now_s),
            "virtualSeconds": round(now_s, 3),
            "settled": is_settled,
            "seed": self._seed,
            "writes": _by_kind(self._operator.writes),
            "operatorRestarts": self._operator.restarts,
            "faults": self._dice.count if self._dice else 0,
            "violations": [str(one) for one in self._panel.violations],
        }
        return Outcome(
            tuple(self._transitions),
            tuple(self._account.finals(now_s)),
            summary,
            tuple(self._panel.violations),
            self._operator.writes.total(),
            {
                (resource.kind, *_key(one)): one.get("status") or {}
                for resource in _WITH_STATUS
                for one in self._server.objects(resource)
            },
        )

    # What the scenario does

    def _fate(self, pod: Json) -> Fate:
        """The first behavior that matches an attempt; see `scenario.Behavior`."""
        labels = pod["metadata"].get("labels", {})
        job, attempt = labels.get(meta.LABEL_JOB_NAME, ""), int(labels.get(meta.LABEL_ATTEMPT, 1))
        index = labels.get(meta.LABEL_ARRAY_INDEX)
        child, node = None if index is None else int(index), node_of(pod)
        for one in (*self._scenario.spec.behaviors, self._usual(pod)):
            if one.matches(job, child, node, attempt):
                name = f"{pod['metadata']['namespace']}/{job}"
                exit_code, reason = one.end(draw(self._seed, name, child, attempt))
                return Fate(one.runtime, exit_code, one.pull_time, reason)
        raise AssertionError("unreachable: the last behavior matches everything")

    def _usual(self, pod: Json) -> Behavior:
        """What an attempt does of which the scenario says nothing."""
        recorded, metadata = self._scenario.recorded, pod["metadata"]
        name = metadata.get("labels", {}).get(meta.LABEL_JOB_NAME, "")
        job = self._server.find(BATCH_JOBS, metadata["namespace"], name)
        known = recorded.run_times.get(definition_of(job)) if recorded and job else None
        return Behavior().model_copy(update={"runtime": known.seconds}) if known else Behavior()

    def _happen(self, number: int, event: Event) -> None:
        self._events_left -= 1
        self._busy_s = self._loop.time()
        try:
            if event.apply is not None:
                self._apply(self._scenario.applied[number])
            elif event.patch is not None:
                self._patch(event.patch)
            elif event.delete is not None:
                self._server.delete(*self._named(event.delete), USER)
            elif (lost := event.interrupt_nodes) is not None:
                self._nodes.interrupt(lost.compute_environment, lost.count, lost.notice)
            elif event.refuse_capacity is not None:
                self._cloud.refuse(event.refuse_capacity)
            elif event.restart_operator is not None:
                self._operator.restart(event.restart_operator.down_for)
            elif event.cut_off_operator is not None:
                self._line.cut(event.cut_off_operator.for_)
        except ApiError as error:
            self._problem = InvalidInputError(
                f"spec.events[{number}], at {event.at:g} s: the API server refuses: {error.message}"
            )

    def _apply(self, one: Manifest) -> None:
        """Create the object, or give it what the manifest says beside its metadata."""
        if self._server.find(one.resource, one.namespace, one.name) is None:
            self._server.create(one.resource, one.namespace, one.body, USER)
            return
        said = {name: value for name, value in one.body.items() if name != "metadata"}
        self._server.update(
            one.resource, one.namespace, one.name, lambda old: {**old, **said}, USER
        )

    def _patch(self, patch: Patch) -> None:
        body = {"spec": patch.spec, "metadata": patch.metadata}
        self._server.patch(*self._named(patch), body, MERGE_PATCH, USER)

    def _named(self, target: Target) -> tuple[Resource, str | None, str]:
        """The object; of nodes, whose names nobody knows before, the first that matches."""
        resource = {**PATCHABLE, **DELETABLE}[target.kind]
        if resource is not NODES:
            return resource, target.namespace if resource.namespaced else None, target.name
        names = [one["metadata"]["name"] for one in self._server.objects(NODES)]
        return NODES, None, next((n for n in names if fnmatchcase(n, target.name)), target.name)


def _by_kind(writes: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """The operator's writes as the summary shows them: verbs within kinds."""
    found: dict[str, dict[str, int]] = {}
    for (kind, verb), count in sorted(writes.items()):
        found.setdefault(kind, {})[verb] = count
    return found


def _key(value: Json) -> tuple[str, str]:
    return value["metadata"].get("namespace", ""), value["metadata"]["name"]
