"""The operator as a process: everything put together, and the loop that turns.

Events only fill the cache and set `wake`. The loop waits for that, or for the time the last cycle
asked for, lets a burst of events come together, takes a snapshot, decides, and hands the result to
the applier. Any part that ends unexpectedly ends the process, so that its supervisor starts it
afresh: all state is in the API.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batch_operator.api import meta
from batch_operator.cluster import decoding
from batch_operator.cluster.applier import Applier
from batch_operator.cluster.cache import Cache, counts
from batch_operator.cluster.client import BATCH_JOBS, CONTROLLER_REVISIONS, PODS
from batch_operator.cluster.clock import SystemClock
from batch_operator.cluster.http_client import HttpApiClient
from batch_operator.cluster.reflector import Reflector
from batch_operator.cluster.statuses import StatusTarget, StatusWriter
from batch_operator.controllers.administrators import Administrators
from batch_operator.lifecycle.evaluate import Policy
from batch_operator.observability.metrics import Metrics
from batch_operator.observability.server import serve
from batch_operator.scheduling.cycle import CycleResult, run_cycle
from batch_operator.scheduling.memo import Memo

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from batch_operator.cluster.credentials import Credentials
    from batch_operator.scheduling.mutations import WriteStatus

_LOG = logging.getLogger(__name__)
GATHER_S = 0.02
"""How long a burst of events is let come together before a cycle."""
GATHER_SHARE = 1.0
"""At least as long as the last cycle took is left to everything else before the next."""
HEARTBEAT_S = 5.0
"""The loop turns at least so often, so that a loop that is stuck can be told from an idle one."""
STUCK_S = 30.0
SILENT_S = 240.0
"""Three times the longest silence of a healthy watch."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the operator is run. `port` serves probes and metrics; 0 serves none."""

    credentials: Credentials
    port: int = 8080
    policy: Policy = field(default_factory=Policy)


async def run(settings: Settings) -> None:
    """Run until the process is asked to end.

    Raises:
        RuntimeError: a part ended by itself.
    """
    clock, metrics = SystemClock(), Metrics()
    async with HttpApiClient(settings.credentials, clock, metrics) as client:
        operator = Operator(client, clock, metrics, settings)
        await operator.run()


class Operator:
    """The parts of a running operator."""

    def __init__(
        self, client: HttpApiClient, clock: SystemClock, metrics: Metrics, settings: Settings
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._turned_at = clock.monotonic()
        self._has_begun = False
        self._memo = Memo()
        self._cache = cache = Cache()
        jobs = decoding.job_decoder()
        jobs.reuse(cache.jobs.items)
        self._statuses = StatusWriter(
            client,
            clock,
            {
                "BatchJob": StatusTarget(cache.jobs, jobs),
                "JobDefinition": StatusTarget(cache.definitions, decoding.definition_decoder()),
                "JobQueue": StatusTarget(cache.queues, decoding.queue_decoder()),
                "ComputeEnvironment": StatusTarget(
                    cache.environments, decoding.environment_decoder()
                ),
            },
            wrote=self._wrote,
            wake=self._wake.set,
            touch=cache.touch,
        )
        self._applier = Applier(client, clock, cache, self._statuses, self._wake.set)
        wake = self._wake.set
        ours = f"{meta.LABEL_MANAGED_BY}={meta.MANAGED_BY}"
        self._reflectors: tuple[Reflector[Any], ...] = (
            Reflector(client, clock, BATCH_JOBS, decode=jobs, store=cache.jobs, wake=wake),
            Reflector(
                client,
                clock,
                PODS,
                decode=decoding.attempt,
                store=cache.pods,
                wake=wake,
                label_selector=meta.LABEL_TRACKED,
            ),
            Reflector(
                client,
                clock,
                CONTROLLER_REVISIONS,
                decode=decoding.revision,
                store=cache.revisions,
                wake=wake,
                label_selector=ours,
            ),
        )
        self._administrators = Administrators(client, settings.credentials, cache, wake)

    async def run(self) -> None:
        """Run every part until the stop flag is set or one of them ends."""
        runner = None
        if self._settings.port:
            runner = await serve(
                self._settings.port,
                self._metrics,
                alive=self._dead_because,
                ready=self._unready_because,
                refresh=self._refresh_metrics,
            )
        parts: dict[str, Coroutine[Any, Any, None]] = {
            "cycle": self._turn(),
            **{f"watch {one.resource.plural}": one.run() for one in self._reflectors},
            # Last: at its end kopf waits for all tasks that were begun after it.
            "kopf": self._administrators.run(self._stop),
        }
        tasks = {asyncio.create_task(part, name=name) for name, part in parts.items()}
        _LOG.info("batch-operator is running")
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not self._stop.is_set():
                    raise RuntimeError(f"{task.get_name()} ended by itself") from task.exception()
        finally:
            self._stop.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if runner is not None:
                await runner.cleanup()
        _LOG.info("batch-operator has stopped")

    async def _turn(self) -> None:
        """The scheduling loop."""
        await asyncio.gather(
            self._administrators.synced.wait(), *(one.synced.wait() for one in self._reflectors)
        )
        _LOG.info("everything has been listed once: %s", dict(counts(self._cache)))
        self._has_begun = True
        wait_s = 0.0
        while True:
            # Until something happens, or the time that the last cycle asked for, or a heartbeat.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), wait_s)
            self._wake.clear()
            begun = self._clock.monotonic()
            result = self._cycle()
            self._turned_at = self._clock.monotonic()
            took_s = self._turned_at - begun
            self._metrics.cycle_seconds.observe(took_s)
            wait_s = HEARTBEAT_S
            if result.wake_at is not None:
                left_s = (result.wake_at - self._clock.now()).total_seconds()
                wait_s = min(wait_s, max(GATHER_S, left_s))
            await asyncio.sleep(max(GATHER_S, GATHER_SHARE * took_s))

    def _cycle(self) -> CycleResult:
        snapshot = self._cache.snapshot(
            self._clock.now(), self._settings.policy, self._applier.start_budget
        )
        result = run_cycle(snapshot, self._memo)
        self._applier.submit(result.mutations)
        self._metrics.looks.inc(result.looked_at)
        for mutation in result.mutations:
            self._metrics.mutations.labels(type(mutation).__name__).inc()
        for fault in result.faults:
            self._metrics.faults.inc()
            _LOG.error("job %s cannot be looked at", fault.name, exc_info=fault.error)
        return result

    def _wrote(self, write: WriteStatus, before: Any, after: Any) -> None:
        """A status has been written: tell of the job's new state, now that it is durable."""
        if write.kind != "BatchJob" or before.status.state is after.status.state:
            return
        status = after.status
        queue = after.spec.job_queue
        self._metrics.transitions.labels(queue, status.state).inc()
        if before.status.started_at is None and status.started_at is not None:
            waited_s = (status.started_at - after.created_at).total_seconds()
            self._metrics.wait_seconds.labels(queue).observe(max(0.0, waited_s))
        _LOG.info(
            "job %s/%s: %s -> %s%s",
            after.namespace, after.name, before.status.state, status.state,
            f" ({status.status_reason})" if status.status_reason else "",
        )  # fmt: skip

    def _dead_because(self) -> str | None:
        if self._has_begun and self._clock.monotonic() - self._turned_at > STUCK_S:
            return "the scheduling loop does not turn"
        silent = [one.resource.plural for one in self._reflectors if one.silence_s > SILENT_S]
        if silent:
            return f"nothing has been heard of {', '.join(silent)} for {SILENT_S:.0f} s"
        return None

    def _unready_because(self) -> str | None:
        if not self._has_begun:
            return "not everything has been listed yet"
        return self._dead_because()

    def _refresh_metrics(self) -> None:
        self._metrics.set_cached(counts(self._cache))
        self._metrics.statuses_waiting.set(self._statuses.waiting)
        for one in self._reflectors:
            self._metrics.watch_silence.labels(one.resource.plural).set(one.silence_s)
            self._metrics.relists.labels(one.resource.plural).set(one.relists)
