"""No object comes near the size that etcd refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.simulator.checkers.checker import End, title

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_operator.simulator.api_server import Write

SIZE_MAX = 1_000_000
"""Bytes of JSON."""


class ObjectSize:
    """Whoever wrote it."""

    name = "object_size"

    def see(self, write: Write) -> Iterable[str]:
        if len(write.raw) >= SIZE_MAX:
            yield f"{title(write.object)} has {len(write.raw)} bytes"

    def finish(self, end: End) -> Iterable[str]:
        del end
        return ()
