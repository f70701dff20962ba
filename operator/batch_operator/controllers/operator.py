"""The operator as a process: engine, kopf's part, probes and metrics put together.

Any part that ends unexpectedly ends the process, so that its supervisor starts it afresh: all state
is in the API.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batch_operator.cluster.cache import counts
from batch_operator.cluster.clock import SystemClock
from batch_operator.cluster.engine import Engine
from batch_operator.cluster.http_client import HttpApiClient
from batch_operator.controllers.administrators import Administrators
from batch_operator.controllers.garbage import (
    collect_now_and_then,
    confine_collector,
    undisturbed,
)
from batch_operator.lifecycle.limits import is_over_time
from batch_operator.lifecycle.stops import Policy
from batch_operator.observability.metrics import Metrics
from batch_operator.observability.server import serve
from batch_operator.provisioners.by_type import provisioners
from batch_operator.scheduling.cycle import run_cycle

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine

    from batch_operator.cluster.clock import Clock
    from batch_operator.cluster.credentials import Credentials
    from batch_operator.scheduling.cycle import CycleResult
    from batch_operator.scheduling.mutations import WriteStatus

_LOG = logging.getLogger(__name__)
STUCK_S = 30.0
SILENT_S = 300.0
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
    confine_collector()
    clock, metrics = SystemClock(), Metrics()
    async with HttpApiClient(settings.credentials, clock, metrics) as client:
        engine = Engine(
            client,
            clock,
            settings.policy,
            Teller(metrics, lambda: engine.cache.queue_names),
            provisioners,
            decide=undisturbed(run_cycle),
        )
        administrators = Administrators(client, settings.credentials, engine)
        await Operator(settings, clock, metrics, engine, administrators).run()


class Operator:
    """The parts of a running operator, and how they fare."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
        engine: Engine,
        administrators: Administrators,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._engine = engine
        self._administrators = administrators
        self._stop = asyncio.Event()

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
            "cycle": self._engine.turn([self._administrators.synced]),
            **{f"watch {one.resource.plural}": one.run() for one in self._engine.reflectors},
            "garbage collection": collect_now_and_then(),
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

    def _dead_because(self) -> str | None:
        engine = self._engine
        if engine.has_begun and self._clock.monotonic() - engine.turned_at > STUCK_S:
            return "the scheduling loop does not turn"
        silent = [one.resource.plural for one in engine.reflectors if one.silence_s > SILENT_S]
        if silent:
            return f"nothing has been heard of {', '.join(silent)} for {SILENT_S:.0f} s"
        return None

    def _unready_because(self) -> str | None:
        if not self._engine.has_begun:
            return "not everything has been listed yet"
        return self._dead_because()

    def _refresh_metrics(self) -> None:
        self._metrics.set_cached(counts(self._engine.cache))
        self._metrics.set_unowned(self._engine.cache.unowned_nodes())
        self._metrics.statuses_waiting.set(self._engine.statuses.waiting)
        self._metrics.costs.set_running(self._engine.running_costs())
        self._metrics.environments.show(self._engine.cache.environments.items.values())
        for one in self._engine.reflectors:
            self._metrics.watch_silence.labels(one.resource.plural).set(one.silence_s)
            self._metrics.relists.labels(one.resource.plural).set(one.relists)


class Teller:
    """Turns what the engine did into metrics and log lines."""

    def __init__(self, metrics: Metrics, queue_names: Callable[[], Collection[str]]) -> None:
        self._metrics = metrics
        self._queue_names = queue_names

    def cycle_done(self, result: CycleResult, seconds: float) -> None:
        self._metrics.cycle_seconds.observe(seconds)
        self._metrics.looks.inc(result.looked_at)
        for mutation in result.mutations:
            self._metrics.mutations.labels(type(mutation).__name__).inc()
        for fault in result.faults:
            self._metrics.faults.inc()
            _LOG.error("%s cannot be seen to", fault.name, exc_info=fault.error)

    def status_written(self, write: WriteStatus, before: Any, after: Any) -> None:
        """Tell of a job's new state, of costs and of nodes, now that they are durable."""
        costs = self._metrics.costs
        if write.kind == "JobQueue":
            costs.count_queue(write.name, before.status.cost, after.status.cost)
        elif write.kind == "ComputeEnvironment":
            costs.count_environment(write.name, before.status.cost, after.status.cost)
            self._metrics.environments.written(write.name, before.status, after.status)
        elif write.kind == "BatchJob":
            self._job_written(before, after)

    def _job_written(self, before: Any, after: Any) -> None:
        status, named = after.status, after.spec.job_queue
        # Who submits names any queue that he likes: what does not exist makes no series of its own.
        queue = named if named in self._queue_names() else ""
        if is_over_time(status) and not is_over_time(before.status):
            self._metrics.over_time.labels(queue).inc()
        if before.status.state is status.state:
            return
        self._metrics.transitions.labels(queue, status.state).inc()
        if before.status.started_at is None and status.started_at is not None:
            waited_s = (status.started_at - after.created_at).total_seconds()
            self._metrics.wait_seconds.labels(queue).observe(max(0.0, waited_s))
        _LOG.info(
            "job %s/%s: %s -> %s%s",
            after.namespace, after.name, before.status.state, status.state,
            f" ({status.status_reason})" if status.status_reason else "",
        )  # fmt: skip
