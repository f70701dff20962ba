"""Carries out what a cycle decided.

Nothing is remembered here that matters: a write that fails or is lost is decided again by a later
cycle, because its object still looks as it did. What is kept is which writes are in flight, so that
a cycle's repeated wish does not become a second request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, assert_never

from batch_operator.api import meta
from batch_operator.api.names import gang_job_name, pod_name
from batch_operator.cluster import decoding
from batch_operator.cluster.catalogues import Catalogues
from batch_operator.cluster.client import (
    BATCH_JOBS,
    CONTROLLER_REVISIONS,
    JOBS,
    PODS,
    STRATEGIC_MERGE_PATCH,
    ApiError,
    tolerating,
)
from batch_operator.cluster.node_writer import NodeWriter
from batch_operator.cluster.pod_events import PodEvents
from batch_operator.cluster.sources import ParameterSources
from batch_operator.lifecycle.attempt import STOP_DEADLINE_S, Phase, PodAttempt
from batch_operator.lifecycle.evaluate import Refusal
from batch_operator.manifests.gangs import gang_job
from batch_operator.manifests.pods import pod
from batch_operator.manifests.revisions import controller_revision, revision_name
from batch_operator.scheduling.mutations import (
    CordonNode,
    CreateRevision,
    DeleteJob,
    DeletePod,
    DeleteRevision,
    Mutation,
    OpenGate,
    Provide,
    ReadCatalogue,
    ReadConfigMap,
    ReadEvents,
    ReleasePod,
    StartAttempt,
    StartGang,
    StopPod,
    WriteStatus,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from batch_operator.api.compute_environment import ProvisionerType
    from batch_operator.cluster.cache import Cache, Table
    from batch_operator.cluster.client import ApiClient, Resource
    from batch_operator.cluster.clock import Clock
    from batch_operator.cluster.decoding import Revision
    from batch_operator.cluster.provisioner import Provisioner
    from batch_operator.cluster.statuses import StatusWriter
    from batch_operator.scheduling.snapshot import Job

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
CREATES_IN_FLIGHT_MAX = 500
"""Starts that may be decided and not yet answered: the bound of `Snapshot.start_budget`."""
RETRY_S = 5.0
REFUSED_RETRY_S, REFUSED_RETRY_MAX_S = 5.0, 300.0


class Applier:
    """Sends mutations; the replies go into the cache and wake the cycle."""

    def __init__(
        self,
        client: ApiClient,
        clock: Clock,
        cache: Cache,
        statuses: StatusWriter,
        provisioners: Mapping[ProvisionerType, Provisioner],
        wake: Callable[[], None],
    ) -> None:
        self._client = client
        self._clock = clock
        self._cache = cache
        self._statuses = statuses
        self._wake = wake
        self._in_flight: dict[str, asyncio.Task[None]] = {}
        self._creates = 0
        self._sources = ParameterSources(client, clock, cache)
        self._catalogues = Catalogues(client, clock, cache)
        self._pod_events = PodEvents(client, clock, cache)
        self._nodes = NodeWriter(client, clock, cache, provisioners)

    @property
    def start_budget(self) -> int:
        return max(0, CREATES_IN_FLIGHT_MAX - self._creates)

    def submit(self, mutations: Iterable[Mutation]) -> None:
        """Begin to carry out a cycle's mutations; returns at once."""
        for mutation in mutations:
            match mutation:
                case WriteStatus():
                    self._statuses.want(mutation)
                case StartAttempt():
                    self._start(mutation)
                case StartGang():
                    self._start_gang(mutation)
                case OpenGate() | ReleasePod() | DeletePod() | StopPod():
                    self._change_pod(mutation)
                case ReadConfigMap() | ReadCatalogue() | ReadEvents():
                    self._read(mutation)
                case DeleteJob():
                    self._begin(f"delete {mutation.uid}", mutation.uid, self._delete_job, mutation)
                case CreateRevision() | DeleteRevision():
                    self._change_revision(mutation)
                case CordonNode() | Provide():
                    self._change_nodes(mutation)
                case _:
                    assert_never(mutation)

    async def read_prices(self) -> None:
        """Read every catalogue once: what is counted without its price stays without a cost."""
        for key in self._cache.named_catalogues():
            await self._catalogues.read(key)

    def _read(self, mutation: ReadConfigMap | ReadCatalogue | ReadEvents) -> None:
        key = f"{type(mutation).__name__} {mutation.source}"
        match mutation:
            case ReadConfigMap(source=source, job_uid=uid):
                self._begin(key, uid, self._sources.read, source)
            case ReadCatalogue(source=source, environment_uid=uid):
                self._begin(key, uid, self._catalogues.read, source)
            case ReadEvents(source=namespace, job_uid=uid):
                self._begin(key, uid, self._pod_events.read, namespace)

    def _change_pod(self, mutation: OpenGate | ReleasePod | DeletePod | StopPod) -> None:
        target = mutation.pod
        match mutation:
            case OpenGate():
                self._begin(f"open {target.pod_uid}", target.job_uid, self._open, mutation)
            case ReleasePod():
                self._begin(f"release {target.pod_uid}", target.job_uid, self._release, target)
            case DeletePod():
                self._begin(f"delete {target.pod_uid}", target.job_uid, self._delete, target)
            case StopPod():
                self._begin(f"stop {target.pod_uid}", target.job_uid, self._stop, mutation)

    def _change_revision(self, mutation: CreateRevision | DeleteRevision) -> None:
        match mutation:
            case CreateRevision():
                key = f"revision {mutation.definition_uid} {mutation.revision}"
                self._begin(key, mutation.definition_uid, self._record, mutation)
            case DeleteRevision():
                self._delete_revision(mutation)

    def _change_nodes(self, mutation: CordonNode | Provide) -> None:
        match mutation:
            case CordonNode(node=node):
                self._begin(f"cordon {node.uid}", node.uid, self._nodes.cordon, mutation)
            case Provide(environment=environment):
                key = f"provide {environment.uid}"
                self._begin(key, environment.uid, self._nodes.provide, mutation)

    def _begin(
        self, key: str, uid: str, work: Callable[[T], Coroutine[Any, Any, None]], target: T
    ) -> None:
        """Run one write unless the same is under way; after a failure it is decided anew."""
        if key not in self._in_flight:
            self._in_flight[key] = asyncio.create_task(self._run(key, uid, work, target))

    async def _run(
        self, key: str, uid: str, work: Callable[[T], Coroutine[Any, Any, None]], target: T
    ) -> None:
        try:
            await work(target)
        except Exception as error:  # noqa: BLE001  # lost, it would never be decided again
            if not isinstance(error, ApiError):
                _LOG.exception("%s failed, decided again in %.0f s", key, RETRY_S)
            elif not error.is_overtaken:
                _LOG.warning("%s failed, decided again in %.0f s: %s", key, RETRY_S, error)
            await asyncio.sleep(RETRY_S)
            self._cache.touch(uid)
        finally:
            del self._in_flight[key]
            self._wake()

    def _start(self, start: StartAttempt) -> None:
        job = start.job
        index = None if start.array_size is None else start.index
        name = pod_name(job.name, job.uid, index, start.number)
        attempt = assumed(start, name, milli_cpu=start.milli_cpu)
        if start.asks is not None:  # nodes are planned for it from now on
            attempt = replace(
                attempt,
                memory=start.asks.amounts.memory,
                gpus=start.asks.amounts.gpus,
                on_demand=start.asks.on_demand,
                spot=start.asks.spot,
                instance_type=start.asks.instance_type,
            )

        async def create() -> None:
            reply = await self._create_or_find(PODS, job, pod(start))
            self._cache.pods.upsert(decoding.attempt(reply))

        self._begin_create(job, f"Pod {name}", [attempt], create)

    def _start_gang(self, gang: StartGang) -> None:
        job, start = gang.job, gang.start
        attempts: list[PodAttempt] = []
        for group in gang.groups:
            name = gang_job_name(job.name, job.uid, start.number, group)
            nodes = start.plan.groups[group]
            attempt = assumed(start, name, milli_cpu=nodes.milli_cpu)
            attempts.append(replace(attempt, node_group=group, members=len(nodes.nodes)))

        async def create() -> None:
            for group in gang.groups:
                reply = await self._create_or_find(JOBS, job, gang_job(start, group))
                self._cache.gang_jobs.upsert(decoding.group(reply))

        self._begin_create(job, f"the Jobs of attempt {start.number}", attempts, create)

    def _begin_create(
        self,
        job: Job,
        what: str,
        attempts: Sequence[PodAttempt],
        create: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """Create what makes up an attempt, unless that is under way; it counts from now on."""
        key = f"create {job.uid} {what}"
        if key in self._in_flight:
            return
        for one in attempts:
            self._cache.assume(one)
        self._creates += 1
        self._in_flight[key] = asyncio.create_task(self._create(key, job, what, attempts, create))

    async def _create(
        self,
        key: str,
        job: Job,
        what: str,
        attempts: Sequence[PodAttempt],
        create: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        try:
            await create()
            self._accepted(job.uid)
        except ApiError as error:
            self._refused(job.uid, error)
        except Exception as error:  # noqa: BLE001  # at once again would be for ever
            _LOG.exception("%s of %s/%s cannot be made or read", what, job.namespace, job.name)
            message = f"{what} cannot be made or read, see the operator's log: {error!r}"
            self._refused(job.uid, ApiError(0, "Unexpected", message))
        finally:
            self._creates -= 1
            for one in attempts:
                self._cache.unassume(job.uid, one.pod_name)
            del self._in_flight[key]
            self._wake()

    async def _create_or_find(self, resource: Resource, job: Job, body: dict[str, Any]) -> bytes:
        """What was created, or stands there from a create whose reply was lost.

        It returns only when that is known: until then the attempt stays assumed, and with it the
        capacity that its Pod may be holding.

        Raises:
            ApiError: refused; also when what stands under that name is not the job's.
        """
        try:
            return await self._client.create(resource, job.namespace, body)
        except ApiError as error:
            if not (error.leaves_doubt or error.reason == "AlreadyExists"):
                raise
            doubt = error
        name = body["metadata"]["name"]
        found = await self._found(resource, job.namespace, name)
        if found is None:
            raise doubt
        if decoding.controller_uid(found) != job.uid:
            message = f"a {resource.kind} {name} exists that is not this job's: delete it"
            raise ApiError(403, "Forbidden", message)
        return found

    async def _found(self, resource: Resource, namespace: str, name: str) -> bytes | None:
        """The object of that name, or None when there is none; asked until there is an answer."""
        while True:
            try:
                return await self._client.get(resource, namespace, name)
            except ApiError as error:
                if error.is_not_found:
                    return None
                if not error.is_retryable:
                    raise
            await asyncio.sleep(RETRY_S)

    def _accepted(self, job_uid: str) -> None:
        known = self._cache.refusals.get(job_uid)
        if known is None:
            return
        # A quota that let one in may not let in all: those who wait are tried in growing numbers.
        window = known.window * 2
        wider = replace(known, window=window, retry_at=self._clock.now(), times=0)
        self._cache.refuse(job_uid, wider if window < CREATES_IN_FLIGHT_MAX else None)

    def _refused(self, job_uid: str, error: ApiError) -> None:
        """Hold the job back for a while, longer each time; for good when it cannot be mended."""
        now = self._clock.now()
        known = self._cache.refusals.get(job_uid)
        if known is not None and now < known.retry_at:
            return  # one of many creates that were under way together
        times = known.times if known is not None else 0
        delay_s = min(REFUSED_RETRY_MAX_S, REFUSED_RETRY_S * 2 ** min(times, 8))
        self._cache.refuse(
            job_uid,
            Refusal(
                message=error.message,
                retry_at=now + timedelta(seconds=error.retry_after_s or delay_s),
                final=error.status in {400, 422},
                times=times + 1,
            ),
        )

    async def _release(self, target: PodAttempt) -> None:
        """Take finalizer and tracking label off; with these the Pod leaves our watch."""
        body = {
            "metadata": {
                "uid": target.pod_uid,
                "labels": {meta.LABEL_TRACKED: None},
                "$deleteFromPrimitiveList/finalizers": [meta.FINALIZER_TRACKING],
            }
        }
        with tolerating(404):
            await self._patch(target, body)
        self._table(target).forget(target.pod_uid)

    async def _stop(self, stop: StopPod) -> None:
        target = stop.pod
        mark = {"annotations": {meta.ANNOTATION_REQUEUED: stop.requeue}} if stop.requeue else {}
        if target.is_job:
            body = {"metadata": {"uid": target.pod_uid, **mark}, "spec": {"suspend": True}}
            self._cache.gang_jobs.reply(decoding.group(await self._patch(target, body)))
            return
        if target.node_name is None and mark:
            reply = await self._patch(target, {"metadata": {"uid": target.pod_uid, **mark}})
        elif target.node_name is None:
            reply = await self._client.delete(
                PODS,
                target.namespace,
                target.pod_name,
                uid=target.pod_uid,
                resource_version=target.resource_version,
            )
        else:
            body = {
                "metadata": {"uid": target.pod_uid, **mark},
                "spec": {"activeDeadlineSeconds": STOP_DEADLINE_S},
            }
            reply = await self._patch(target, body)
        self._cache.pods.reply(decoding.attempt(reply))

    async def _open(self, opening: OpenGate) -> None:
        """Take the gate off, and in the same write tell the Pod what its containers are to know."""
        body = {
            "metadata": {"uid": opening.pod.pod_uid, "annotations": opening.annotations},
            "spec": {"schedulingGates": [{"name": meta.GATE_GANG, "$patch": "delete"}]},
        }
        self._cache.pods.reply(decoding.attempt(await self._patch(opening.pod, body)))

    async def _patch(self, target: PodAttempt, body: Mapping[str, Any]) -> bytes:
        return await self._client.patch(
            JOBS if target.is_job else PODS,
            target.namespace,
            target.pod_name,
            body,
            content_type=STRATEGIC_MERGE_PATCH,
        )

    def _table(self, target: PodAttempt) -> Table[PodAttempt]:
        return self._cache.gang_jobs if target.is_job else self._cache.pods

    async def _delete(self, target: PodAttempt) -> None:
        reply = await self._client.delete(
            PODS, target.namespace, target.pod_name, uid=target.pod_uid
        )
        self._cache.pods.reply(decoding.attempt(reply))

    async def _delete_job(self, target: DeleteJob) -> None:
        await self._client.delete(BATCH_JOBS, target.namespace, target.name, uid=target.uid)

    async def _record(self, create: CreateRevision) -> None:
        """Keep a revision, or what keeps it from being kept: jobs and their owners wait for it."""
        try:
            await self._create_revision(create)
        except ApiError as error:
            if not error.is_overtaken:
                self._cache.refuse_revision(create.definition_uid, error.message)
            raise

    async def _create_revision(self, create: CreateRevision) -> None:
        """Keep a revision; one that exists is from a create whose reply was lost, or a leftover."""
        body = controller_revision(create)
        name = body["metadata"]["name"]
        kept: Revision | None = None
        try:
            reply = await self._client.create(CONTROLLER_REVISIONS, create.namespace, body)
            kept = decoding.revision(reply)
        except ApiError as error:
            if not (error.is_conflict and error.reason == "AlreadyExists"):
                raise
            reply = await self._client.get(CONTROLLER_REVISIONS, create.namespace, name)
            with contextlib.suppress(KeyError, ValueError):  # not one of ours
                kept = decoding.revision(reply)
        if kept is None or (kept.definition, kept.number, kept.spec) != (
            create.definition,
            create.revision,
            create.spec,
        ):
            message = (
                f"a ControllerRevision {name} exists that is not this JobDefinition's: delete it"
            )
            raise ApiError(403, "Forbidden", message)
        self._cache.revisions.upsert(kept)

    def _delete_revision(self, delete: DeleteRevision) -> None:
        wanted = (delete.namespace, delete.definition, delete.revision)
        for kept in self._cache.revisions.items.values():
            if (kept.namespace, kept.definition, kept.number) == wanted:
                key = f"delete revision {kept.uid}"
                self._begin(key, kept.uid, self._delete_kept, kept)
                return

    async def _delete_kept(self, kept: Revision) -> None:
        name = revision_name(kept.definition, kept.number)
        with tolerating(404):
            await self._client.delete(CONTROLLER_REVISIONS, kept.namespace, name, uid=kept.uid)
        self._cache.revisions.forget(kept.uid)


def assumed(start: StartAttempt, name: str, *, milli_cpu: int) -> PodAttempt:
    """An attempt whose create is on its way."""
    return PodAttempt(
        namespace=start.job.namespace,
        pod_name=name,
        pod_uid="",
        resource_version=0,
        job_uid=start.job.uid,
        index=start.index,
        number=start.number,
        revision=start.plan.revision,
        environment=start.environment,
        milli_cpu=milli_cpu,
        phase=Phase.ASSUMED,
    )
