"""Fields whose behaviour is not built yet: reported, never silently ignored.

Each finding is a sentence for the object's `Stalled` condition. A queue that uses such a
field waits; it goes on by itself once an operator that knows the field is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_operator.api.job_queue import JobQueueSpec


def unsupported_in_queue(spec: JobQueueSpec) -> str | None:
    return _sentence(
        (
            "spec.allowedNamespaces.selector",
            spec.allowed_namespaces is not None and spec.allowed_namespaces.selector is not None,
        ),
    )


def _sentence(*fields: tuple[str, bool]) -> str | None:
    if not any(is_used for _, is_used in fields):
        return None
    used = [name for name, is_used in fields if is_used]
    verb = "is" if len(used) == 1 else "are"
    return f"{' and '.join(used)} {verb} not supported by this version: leave it out, or upgrade"
