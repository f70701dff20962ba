"""Status writes: as few as there can be, as soon as they matter.

Every cycle says what an object's status should read; what is sent is the latest wish when its time
has come. An explanation waits longest, a new state a moment (a short job is over before its
RUNNING is written), counted outcomes and final states go out at once or as soon as the object's
last write is a second ago.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batch_operator.cluster.client import BY_KIND, ApiError
from batch_operator.scheduling.mutations import Urgency, WriteStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from batch_operator.cluster.cache import Table
    from batch_operator.cluster.client import ApiClient
    from batch_operator.cluster.clock import Clock

_LOG = logging.getLogger(__name__)
SETTLE_S = {Urgency.LAZY: 2.0, Urgency.NORMAL: 0.3, Urgency.COUNTED: 0.0, Urgency.FINAL: 0.0}
INTERVAL_S = 1.0
"""Between two writes of one object, unless the second is final."""
CALM_IN_FLIGHT_MAX = 16
"""Writes that nobody waits for, so that a burst of explanations does not stand before outcomes."""
LAST_WRITES_MAX = 10_000
RETRY_S = 2.0
REFUSED_RETRY_S = 30.0


@dataclass(frozen=True, slots=True)
class StatusTarget:
    """How statuses of one kind are sent and where the reply goes."""

    table: Table[Any]
    decode: Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class _Wish:
    write: WriteStatus
    due_s: float


class StatusWriter:
    """One pending wish and at most one request in flight per object."""

    def __init__(
        self,
        client: ApiClient,
        clock: Clock,
        targets: Mapping[str, StatusTarget],
        *,
        wrote: Callable[[WriteStatus, Any, Any], None],
        wake: Callable[[], None],
        touch: Callable[[str], None],
    ) -> None:
        self._client = client
        self._clock = clock
        self._targets = targets
        self._wrote = wrote
        self._wake = wake
        self._touch = touch
        self._wishes: dict[str, _Wish] = {}
        self._in_flight: set[str] = set()
        self._calm_in_flight = 0
        self._calm: deque[str] = deque()
        self._last_s: dict[str, float] = {}
        self._held_until_s: dict[str, float] = {}
        """Objects whose last write failed, until they are looked at again."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        return len(self._wishes)

    def want(self, write: WriteStatus) -> None:
        """Replace what is wished for an object; a wish for nothing withdraws it."""
        if write.status is None:
            self._wishes.pop(write.uid, None)
            return
        now_s = self._clock.monotonic()
        due_s = max(now_s + SETTLE_S[write.urgency], self._earliest_s(write))
        if (before := self._wishes.get(write.uid)) is not None:
            due_s = min(due_s, before.due_s)
        self._wishes[write.uid] = _Wish(write, due_s)
        if before is None or due_s < before.due_s:
            self._schedule(write.uid, due_s - now_s)

    def _earliest_s(self, write: WriteStatus) -> float:
        """When the object's last write allows the next.

        After one that failed that is so for a final state, too: cycles go on wishing for it.
        """
        held_s = self._held_until_s.get(write.uid, float("-inf"))
        if write.urgency is Urgency.FINAL:
            return held_s
        return max(held_s, self._last_s.get(write.uid, float("-inf")) + INTERVAL_S)

    def _schedule(self, uid: str, delay_s: float) -> None:
        asyncio.get_running_loop().call_later(max(0.0, delay_s), self._flush, uid)

    def _flush(self, uid: str) -> None:
        wish = self._wishes.get(uid)
        if wish is None or uid in self._in_flight:
            return
        left_s = wish.due_s - self._clock.monotonic()
        if left_s > 0.005:  # the timer of an earlier wish
            return
        is_calm = wish.write.urgency < Urgency.COUNTED
        if is_calm and self._calm_in_flight >= CALM_IN_FLIGHT_MAX:
            self._calm.append(uid)
            return
        del self._wishes[uid]
        self._in_flight.add(uid)
        self._calm_in_flight += is_calm
        task = asyncio.create_task(self._send(wish.write))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, write: WriteStatus) -> None:
        target, resource = self._targets[write.kind], BY_KIND[write.kind]
        before = target.table.items.get(write.uid)
        try:
            if before is None or write.status is None:
                return
            if before.resource_version != write.decided_on:
                # Decided on what is so no longer: a final state might be overwritten.
                self._touch(write.uid)
                return
            metadata = {
                "name": write.name,
                "uid": write.uid,
                "resourceVersion": str(before.resource_version),
            }
            if write.namespace:
                metadata["namespace"] = write.namespace
            # PUT of the status subresource takes no notice of spec, so none is sent. The version
            # makes a decision that was taken on an outdated object a conflict instead of a loss.
            body = {
                "apiVersion": resource.api_version,
                "kind": resource.kind,
                "metadata": metadata,
                "status": write.status.to_wire(),
            }
            namespace = write.namespace or None
            reply = await self._client.replace_status(resource, namespace, write.name, body)
            after = target.decode(reply)
            target.table.reply(after)
            self._last_s[write.uid] = self._clock.monotonic()
            if write.urgency is Urgency.FINAL:
                del self._last_s[write.uid]
            self._wrote(write, before, after)
        except ApiError as error:
            self._failed(write, error)
        except Exception:  # noqa: BLE001  # lost, it would never be decided again
            _LOG.exception("status of %s %s could not be written", write.kind, write.name)
            self._hold(write.uid, REFUSED_RETRY_S)
        finally:
            self._in_flight.discard(write.uid)
            self._calm_in_flight -= write.urgency < Urgency.COUNTED
            while self._calm and self._calm_in_flight < CALM_IN_FLIGHT_MAX:
                self._flush(self._calm.popleft())
            self._forget_old()
            if wish := self._wishes.get(write.uid):  # made before this write was the last
                due_s = max(wish.due_s, self._earliest_s(wish.write))
                self._wishes[write.uid] = _Wish(wish.write, due_s)
                self._schedule(write.uid, due_s - self._clock.monotonic())
            self._wake()

    def _forget_old(self) -> None:
        """Times of writes that bind nobody any more, now and then."""
        if len(self._last_s) > LAST_WRITES_MAX:
            since_s = self._clock.monotonic() - INTERVAL_S
            self._last_s = {uid: at for uid, at in self._last_s.items() if at > since_s}

    def _failed(self, write: WriteStatus, error: ApiError) -> None:
        name = f"{write.kind} {write.namespace}/{write.name}"
        if error.is_not_found:
            return  # deleted meanwhile; the watch says so too
        if error.is_conflict:
            # Changed meanwhile: the new state is on its way and calls for a new decision.
            self._hold(write.uid, INTERVAL_S)
            return
        _LOG.warning("status of %s could not be written: %s", name, error)
        # What passes soon, or what somebody has to mend (RBAC, say): the object tells of neither.
        self._hold(write.uid, RETRY_S if error.is_retryable else REFUSED_RETRY_S)

    def _hold(self, uid: str, delay_s: float) -> None:
        """Write the object no more for a while, and have it looked at again then."""
        self._held_until_s[uid] = self._clock.monotonic() + delay_s
        asyncio.get_running_loop().call_later(delay_s, self._look_again, uid)

    def _look_again(self, uid: str) -> None:
        self._held_until_s.pop(uid, None)
        self._touch(uid)
        self._wake()
