"""The loop that turns: cache, cycle, applier and the watches of the high-volume kinds.

It is what an operator is apart from its process: the same engine runs against a real API server
(`controllers.operator`) and, in virtual time, against a simulated one (`simulator`). Events only
fill the cache and set `wake`. The loop waits for that, or for the time the last cycle asked for,
lets a burst of events come together, takes a snapshot, decides, and hands the result to the
applier.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Protocol

from batch_operator.api import meta
from batch_operator.cluster import decoding
from batch_operator.cluster.applier import Applier
from batch_operator.cluster.backoff import Backoff
from batch_operator.cluster.cache import Cache, counts
from batch_operator.cluster.client import (
    BATCH_JOBS,
    COMPUTE_ENVIRONMENTS,
    CONSUMABLE_RESOURCES,
    CONTROLLER_REVISIONS,
    DAEMON_SETS,
    JOB_DEFINITIONS,
    JOB_QUEUES,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    SCHEDULING_POLICIES,
)
from batch_operator.cluster.events import EventWriter
from batch_operator.cluster.reflector import Reflector
from batch_operator.cluster.statuses import StatusTarget, StatusWriter
from batch_operator.scheduling.cycle import CycleResult, run_cycle
from batch_operator.scheduling.memo import Memo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from batch_operator.api.compute_environment import ProvisionerType
    from batch_operator.cluster.cache import Table
    from batch_operator.cluster.client import ApiClient, Resource
    from batch_operator.cluster.clock import Clock
    from batch_operator.cluster.provisioner import Provisioner
    from batch_operator.lifecycle.stops import Policy
    from batch_operator.scheduling.mutations import WriteStatus
    from batch_operator.scheduling.snapshot import Snapshot

    NewProvisioners = Callable[
        [ApiClient, Clock, Callable[[bytes], None]], Mapping[ProvisionerType, Provisioner]
    ]
    """Makes provisioners, which tell of every Node that they write."""

_LOG = logging.getLogger(__name__)
GATHER_S = 0.02
"""How long a burst of events is let come together before a cycle."""
GATHER_SHARE = 1.0
"""At least as long as the last cycle took is left to everything else before the next."""
HEARTBEAT_S = 5.0
"""The loop turns at least so often, so that a loop that is stuck can be told from an idle one."""


class EngineObserver(Protocol):
    """Told of what the engine did; it can change nothing."""

    def cycle_done(self, result: CycleResult, seconds: float) -> None: ...

    def status_written(self, write: WriteStatus, before: Any, after: Any) -> None: ...


class Engine:
    """Everything between an API client and the decisions about what it holds."""

    def __init__(
        self,
        client: ApiClient,
        clock: Clock,
        policy: Policy,
        observer: EngineObserver,
        new_provisioners: NewProvisioners,
        new_backoff: Callable[[], Backoff] = Backoff,
        decide: Callable[[Snapshot, Memo], CycleResult] = run_cycle,
    ) -> None:
        self.wake = asyncio.Event()
        self.cache = cache = Cache()
        self.has_begun = False
        self.turned_at = clock.monotonic()
        self._client = client
        self._clock = clock
        self._policy = policy
        self._observer = observer
        self._new_backoff = new_backoff
        self._decide = decide
        self._memo = Memo()
        self._events = EventWriter(client, clock)
        jobs = decoding.job_decoder()
        jobs.reuse(cache.jobs.items)
        self.administrators: Mapping[Resource, tuple[Table[Any], decoding.Decoder[Any, Any]]] = {
            JOB_DEFINITIONS: (cache.definitions, decoding.definition_decoder()),
            JOB_QUEUES: (cache.queues, decoding.queue_decoder()),
            COMPUTE_ENVIRONMENTS: (cache.environments, decoding.environment_decoder()),
            SCHEDULING_POLICIES: (cache.policies, decoding.policy_decoder()),
            CONSUMABLE_RESOURCES: (cache.consumables, decoding.consumable_decoder()),
        }
        """The low-volume kinds, whose watches the engine leaves to others."""
        self.statuses = StatusWriter(
            client,
            clock,
            {
                resource.kind: StatusTarget(table, decode)
                for resource, (table, decode) in (
                    (BATCH_JOBS, (cache.jobs, jobs)),
                    *self.administrators.items(),
                )
            },
            wrote=self._wrote,
            wake=self.wake.set,
            touch=cache.touch,
        )
        provisioners = new_provisioners(client, clock, self._saw_node)
        cache.followers = frozenset(kind for kind, one in provisioners.items() if one.follows_pods)
        self._applier = Applier(client, clock, cache, self.statuses, provisioners, self.wake.set)
        self.reflectors: tuple[Reflector[Any], ...] = (
            self.reflector(BATCH_JOBS, cache.jobs, jobs),
            self.reflector(PODS, cache.pods, decoding.attempt, meta.LABEL_TRACKED),
            self.reflector(JOBS, cache.gang_jobs, decoding.group, meta.LABEL_TRACKED),
            self.reflector(NODES, cache.nodes, decoding.node),
            self.reflector(DAEMON_SETS, cache.daemon_sets, decoding.daemon_set),
            self.reflector(NAMESPACES, cache.namespaces, decoding.namespace),
            self.reflector(
                CONTROLLER_REVISIONS,
                cache.revisions,
                decoding.revision,
                f"{meta.LABEL_MANAGED_BY}={meta.MANAGED_BY}",
            ),
        )

    def _wrote(self, write: WriteStatus, before: Any, after: Any) -> None:
        self._observer.status_written(write, before, after)
        if write.kind == COMPUTE_ENVIRONMENTS.kind:
            self._events.tell(before, after)

    def _saw_node(self, raw: bytes) -> None:
        self.cache.nodes.upsert(decoding.node(raw))

    def reflector(
        self, resource: Resource, table: Table[Any], decode: Any, selector: str | None = None
    ) -> Reflector[Any]:
        """A watch that fills one table of the cache."""
        return Reflector(
            self._client,
            self._clock,
            resource,
            decode=decode,
            store=table,
            wake=self.wake.set,
            label_selector=selector,
            backoff=self._new_backoff(),
        )

    async def turn(self, synced: Iterable[asyncio.Event]) -> None:
        """Turn until cancelled, once every watch, and whatever sets `synced`, has listed all."""
        for event in (*synced, *(one.synced for one in self.reflectors)):
            await event.wait()
        _LOG.info("everything has been listed once: %s", dict(counts(self.cache)))
        await self._applier.read_prices()
        self.has_begun = True
        wait_s = 0.0
        while True:
            # Until something happens, or the time that the last cycle asked for, or a heartbeat.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wake.wait(), wait_s)
            self.wake.clear()
            begun = self._clock.monotonic()
            result = self._cycle()
            self.turned_at = self._clock.monotonic()
            took_s = self.turned_at - begun
            self._observer.cycle_done(result, took_s)
            wait_s = 0.0 if result.has_more else HEARTBEAT_S
            if result.wake_at is not None:
                left_s = (result.wake_at - self._clock.now()).total_seconds()
                wait_s = min(wait_s, max(GATHER_S, left_s))
            await asyncio.sleep(max(GATHER_S, GATHER_SHARE * took_s))

    def running_costs(self) -> dict[str, float]:
        """What attempts that run cost in an hour, by queue."""
        return self._memo.ledger.running_costs()

    def _cycle(self) -> CycleResult:
        snapshot = self.cache.snapshot(self._clock.now(), self._policy, self._applier.start_budget)
        result = self._decide(snapshot, self._memo)
        self._applier.submit(result.mutations)
        return result
