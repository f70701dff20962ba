"""Once nothing is left to happen, the operator writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.simulator.checkers.checker import End, title

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_operator.simulator.api_server import Write


class Fixpoint:
    """`run` waits for the world to come to rest and for ten minutes more; these are the writes."""

    name = "fixpoint"

    def see(self, write: Write) -> Iterable[str]:
        del write
        return ()

    def finish(self, end: End) -> Iterable[str]:
        for write in end.late_writes[:3]:
            yield f"{title(write.object)} was written {write.at_s:.1f} s in, when all was quiet"
