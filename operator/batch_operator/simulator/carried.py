"""The attempts that were under way at the moment of a snapshot.

A snapshot has no Pods, but statuses say which attempts had one, and how far it had come since when.
They get their Pods back at virtual time 0 as these had been, so that they keep their place, count
as what they have used, and end when they would have ended. Of a child of an array it is in no
status when it started: one is taken to have come for each attempt that has ended, one after the
other, evenly over a run time, and all before these with the first. That is so in the middle of a
large array, and late or early by up to a run time in one that goes in steps.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from batch_operator.api import meta
from batch_operator.api.compute_environment import CapacityType
from batch_operator.api.index_set import MAX_INDEX, IndexSet
from batch_operator.api.job import JobState
from batch_operator.cluster import decoding
from batch_operator.cluster.client import (
    BATCH_JOBS,
    COMPUTE_ENVIRONMENTS,
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    JOB_QUEUES,
    JOBS,
    PODS,
    STRATEGIC_MERGE_PATCH,
)
from batch_operator.lifecycle.array_parameters import Read, lines_of, source_of
from batch_operator.lifecycle.holds import Hold, Reason
from batch_operator.lifecycle.members import told_size
from batch_operator.lifecycle.plan import Definition, Plan, make_plan
from batch_operator.lifecycle.retry import memory_factor, needs_on_demand
from batch_operator.lifecycle.states import FINAL
from batch_operator.lifecycle.stored_counts import counted_in
from batch_operator.manifests.gangs import gang_job
from batch_operator.manifests.pods import pod
from batch_operator.provisioning.serverless import serverless_of
from batch_operator.scheduling.environments import capacity_milli, held_milli, node_selector
from batch_operator.scheduling.mutations import StartAttempt
from batch_operator.scheduling.suitability import needs_of
from batch_operator.simulator.job_controller import node_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from datetime import datetime

    from batch_operator.api.job_definition import JobDefinitionSpec
    from batch_operator.lifecycle.children import Counted
    from batch_operator.scheduling.snapshot import Environment, Job, Queue
    from batch_operator.simulator.api_server import ApiServer
    from batch_operator.simulator.job_controller import JobController
    from batch_operator.simulator.kubelet import Kubelet
    from batch_operator.simulator.pod_scheduler import PodScheduler
    from batch_operator.simulator.virtual_time import Calendar

    Json = dict[str, Any]

ACTOR = "snapshot"


class _Live(NamedTuple):
    child: int
    number: int
    environment: str | None
    state: JobState
    """RUNNING; STARTING, with a node; or RUNNABLE, with a Pod that has none."""
    since_s: float
    """Since when, in virtual seconds."""
    passed: float | None = None
    """Of a child of which only the first's start is known, and that is `since_s`: the part of its
    run time that it is taken to have behind it."""


def carry_on(
    server: ApiServer,
    scheduler: PodScheduler,
    kubelet: Kubelet,
    jobs: JobController,
    to_come: Collection[tuple[str | None, str]],
) -> None:
    """Make the Pods of what was under way.

    What finds no room in its environment or another of its queue waits to start again. `to_come`
    are ConfigMaps, by namespace and name, that somebody will bring: there is no other until then.
    """
    world = _World(server)
    for job in world.jobs:
        source = source_of(job)
        if source is not None and source[:2] not in to_come:
            _stand_in(server, job)
    resumption = _Resumption(server, scheduler, kubelet, jobs)
    # Where a child runs is a guess: what is known to run somewhere has its room there first.
    for job in sorted(world.jobs, key=lambda one: one.status.array is not None):
        counted = counted_in(job)
        lives = list(_lives(job, counted, server.calendar))
        plan = world.plan(job) if lives else None
        if plan is None:
            continue
        for live in lives:
            start_in = partial(_start, job, counted, plan, live)
            has_room = partial(resumption.has_room, start_in)
            environment = world.place(job, live, plan, has_room)
            if environment is not None:
                resumption(start_in(environment), live)


def _stand_in(server: ApiServer, job: Job) -> None:
    """A ConfigMap of as many empty values as an array asks of one, which no snapshot holds.

    What the values are makes no difference to a simulation, so the job may record them anew.
    """
    source, array = source_of(job), job.spec.array_properties
    given = array.parameters.config_map if array and array.parameters else None
    if source is None or given is None or server.find(CONFIG_MAPS, *source[:2]) is not None:
        return
    line = given.separator * (len(given.parameters) - 1)
    body = {
        "metadata": {"namespace": source[0], "name": source[1]},
        "data": {source[2]: f"{line}\n" * (MAX_INDEX + 1)},
        "immutable": True,
    }
    server.create(CONFIG_MAPS, source[0], body, ACTOR)
    server.update_status(BATCH_JOBS, job.namespace, job.name, _without_digest, ACTOR)


def _without_digest(status: dict[str, Any]) -> dict[str, Any]:
    array = {**(status.get("array") or {})}
    for name in ("parametersDigest", "parametersDigestIndexes"):
        array.pop(name, None)
    return {**status, "array": array} if array else status


class _Resumption:
    """Makes the Pods of attempts, as the operator does it, and has those run that did."""

    def __init__(
        self, server: ApiServer, scheduler: PodScheduler, kubelet: Kubelet, jobs: JobController
    ) -> None:
        self._server = server
        self._scheduler = scheduler
        self._kubelet = kubelet
        self._jobs = jobs

    def __call__(self, start: StartAttempt, live: _Live) -> None:
        """What finds no room on the nodes that there are waits for one from now on."""
        namespace, since_s = start.job.namespace, live.since_s
        bodies = [gang_job(start, group) for group in range(len(start.plan.groups))]
        template = bodies[0]["spec"]["template"] if bodies else pod(start)
        if live.passed is not None:
            since_s = max(since_s, -live.passed * self._kubelet.runtime_s(template))
        if live.state is not JobState.RUNNABLE and not self._scheduler.has_room(template["spec"]):
            live, since_s = live._replace(state=JobState.RUNNABLE), 0.0
        if bodies:
            made = [
                self._server.create(JOBS, namespace, one, ACTOR, at_s=since_s) for one in bodies
            ]
            if live.state is JobState.RUNNING:
                self._run_gang([one.object for one in made], since_s)
            return
        alone = self._server.create(PODS, namespace, pod(start), ACTOR, at_s=since_s).object
        if live.state is not JobState.RUNNABLE:
            self._resume(alone, live.state, since_s)

    def has_room(
        self, start_in: Callable[[Environment], StartAttempt], environment: Environment
    ) -> bool:
        """Whether a node of an environment could take such an attempt now."""
        return self._scheduler.has_room(pod(start_in(environment))["spec"])

    def _run_gang(self, jobs: Iterable[Json], since_s: float) -> None:
        """The main node first, as ever: the others are told its address."""
        pods = [one for job in jobs for one in self._jobs.make(job, since_s)]
        told: dict[str, str] = {}
        for one in pods:
            running = self._resume(self._opened(one, told), JobState.RUNNING, since_s)
            told.setdefault(meta.ANNOTATION_MAIN_NODE_ADDRESS, running["status"].get("podIP", ""))

    def _opened(self, gated: Json, told: Mapping[str, str]) -> Json:
        """A gang's Pod without its gate, and with what its containers are to know."""
        metadata = gated["metadata"]
        annotations = {meta.ANNOTATION_NODE_INDEX: str(node_of(gated)), **told}
        body = {
            "metadata": {"annotations": annotations},
            "spec": {"schedulingGates": [{"name": meta.GATE_GANG, "$patch": "delete"}]},
        }
        where = metadata["namespace"], metadata["name"]
        return self._server.patch(PODS, *where, body, STRATEGIC_MERGE_PATCH, ACTOR).object

    def _resume(self, made: Json, state: JobState, since_s: float) -> Json:
        """The Pod on a node since then, if there is one for it."""
        where = made["metadata"]["namespace"], made["metadata"]["name"]
        if self._scheduler.place(made, since_s):
            self._kubelet.admit(self._server.get(PODS, *where).object, since_s)
            if state is JobState.RUNNING:
                self._kubelet.run(self._server.get(PODS, *where).object, since_s)
        return self._server.get(PODS, *where).object


class _World:
    """The restored objects as the core knows them, and what has been placed where."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        job = decoding.job_decoder()
        queue = decoding.queue_decoder()
        environment = decoding.environment_decoder()
        encode = msgspec.json.encode
        self.jobs: list[Job] = [
            job(encode(one))
            for one in server.objects(BATCH_JOBS)
            if one["status"]["state"] not in FINAL
        ]
        self._queues: dict[str, Queue] = {
            one["metadata"]["name"]: queue(encode(one)) for one in server.objects(JOB_QUEUES)
        }
        self._environments: dict[str, Environment] = {
            one["metadata"]["name"]: environment(encode(one))
            for one in server.objects(COMPUTE_ENVIRONMENTS)
        }
        self._revisions: dict[tuple[str, str], dict[int, JobDefinitionSpec]] = {}
        for one in server.objects(CONTROLLER_REVISIONS):
            kept = decoding.revision(encode(one))
            known = self._revisions.setdefault((kept.namespace, kept.definition), {})
            known[kept.number] = kept.spec
        self._used: Counter[str] = Counter()

    def plan(self, job: Job) -> Plan | None:
        """What the job's attempts run, if that is still known."""
        name, _, revision = (job.status.job_definition or "").partition(":")
        definition = Definition(None, self._revisions.get((job.namespace, name), {}))
        if not revision.isdecimal():
            return None
        plan = make_plan(job, definition, int(revision), self._read(job))
        return plan if isinstance(plan, Plan) else None

    def _read(self, job: Job) -> Read | None:
        """The values that the job's children take from a ConfigMap."""
        source = source_of(job)
        if source is None:
            return None
        found = self._server.find(CONFIG_MAPS, *source[:2]) or {}
        lines = lines_of(found.get("data", {}).get(source[2], ""))
        return Read(lines or None, Hold(Reason.PARAMETERS_NOT_READY, "it has no such lines"))

    def place(
        self, job: Job, live: _Live, plan: Plan, has_room: Callable[[Environment], bool]
    ) -> Environment | None:
        """Where the attempt runs: where its status says, else where its queue has room.

        An array's says it of the latest child: others are where there is room in front of that.
        """
        queue = self._queues.get(job.spec.job_queue)
        order = queue.spec.compute_environment_order if queue else []
        ordered = [one.compute_environment for one in sorted(order, key=lambda one: one.order)]
        where = live.environment or ""
        is_child = job.status.array is not None and where in ordered
        before = ordered[: ordered.index(where)] if is_child else []
        for name in dict.fromkeys((*before, where, *ordered)):
            environment = self._environments.get(name)
            if environment is None or (name in before and not has_room(environment)):
                continue
            held = held_milli(plan.milli_cpu, needs_of(plan), environment)
            if self._used[environment.name] + held <= capacity_milli(environment):
                self._used[environment.name] += held
                return environment
        return None


def _lives(job: Job, counted: Counted, calendar: Calendar) -> Iterator[_Live]:
    """The attempts of a job that had a Pod, as far as its status tells of them."""
    status = job.status
    where = status.compute_environment
    if status.array is not None:
        first_s = _virtual(status.started_at, calendar)
        indexes = status.array.indexes
        running = IndexSet.parse(indexes.running or "")
        later = min(len(running), _ended(counted))
        for place, index in enumerate(running, later - len(running)):
            passed = None if place < 0 else 1 - (place + 0.5) / later
            number = counted.used(index) + 1
            yield _Live(index, number, where, JobState.RUNNING, first_s, passed)
        for index in IndexSet.parse(indexes.starting or ""):
            yield _Live(index, counted.used(index) + 1, where, JobState.STARTING, 0.0)
        return
    alive = next((row for row in status.attempts if row.stopped_at is None), None)
    if status.state is JobState.RUNNING:
        since = alive.started_at if alive else None
    elif status.state is JobState.STARTING or (alive and not status.nodes):
        since = status.pending.since if status.pending else None
    else:
        return
    yield _Live(0, counted.used(0) + 1, where, status.state, _virtual(since, calendar))


def _ended(counted: Counted) -> int:
    """How many attempts of an array have ended."""
    used = sum(times * len(those) for times, those in counted.attempts.items())
    return used + len(counted.succeeded | counted.failed)


def _virtual(since: datetime | None, calendar: Calendar) -> float:
    """A time that is past in virtual seconds; of one that nobody knows, now."""
    return min(0.0, calendar.seconds_at(since)) if since else 0.0


def _start(
    job: Job, counted: Counted, plan: Plan, live: _Live, environment: Environment
) -> StartAttempt:
    selector, serverless = dict(node_selector(environment)), serverless_of(environment.spec)
    on_demand = needs_on_demand(plan.retry, counted.times_host_lost(live.child))
    if on_demand and serverless is None:
        selector[meta.LABEL_CAPACITY_TYPE] = CapacityType.ON_DEMAND.value
    return StartAttempt(
        job=job,
        plan=plan,
        index=live.child,
        number=live.number,
        array_size=told_size(job) if job.spec.array_properties else None,
        environment=environment.name,
        node_selector=selector,
        memory_factor=memory_factor(plan.retry, counted.times_out_of_memory(live.child)),
        serverless=serverless,
    )
