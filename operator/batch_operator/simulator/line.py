"""The line between the operator and the API server, which can be cut for a while.

To the operator that is the same as an API server that is away: every request fails, and watches
break. The rest of the cluster goes on, and when the line is back its history has been compacted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.cluster.client import ApiError
from batch_operator.simulator.api_server import HISTORY_S

if TYPE_CHECKING:
    import asyncio

    from batch_operator.simulator.api_server import ApiServer


class Line:
    """Asked by every client of the operator."""

    def __init__(self, server: ApiServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._cut_until_s = 0.0

    @property
    def is_cut(self) -> bool:
        return self._loop.time() < self._cut_until_s

    def cut(self, for_s: float) -> None:
        """Let nothing through for so long."""
        self._cut_until_s = max(self._cut_until_s, self._loop.time() + for_s)
        for log in self._server.logs():
            log.wake()
        self._loop.call_later(for_s, self._compact)

    def check(self) -> None:
        """Let a request, a reply or an event through.

        Raises:
            ApiError: the line is cut; status 0, as of any request that gets no reply.
        """
        if self.is_cut:
            raise ApiError(0, "NoReply", "the line to the API server is cut")

    def _compact(self) -> None:
        for log in self._server.logs():
            log.compact(before_s=self._loop.time() - HISTORY_S)
