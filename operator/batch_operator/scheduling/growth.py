"""How far memory grows after it ran out: to what the largest node of a queue gives, not beyond.

An attempt that asked for more would wait for a node for ever. So it gets what there is, as with the
rule's own `maxMemory`; one that had that already gets the same again, until its tries run out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from batch_operator.api.quantity import memory_bytes, memory_text
from batch_operator.scheduling.suitability import need_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from batch_operator.lifecycle.plan import Plan
    from batch_operator.scheduling.snapshot import Environment
    from batch_operator.scheduling.suitability import Suitability

_MIB = 1 << 20


def within_nodes(plan: Plan, environments: Sequence[Environment], suits: Suitability) -> Plan:
    """The plan, its memory bounded by the nodes that its queue's environments can have.

    What is not declared is no bound: nodes of UNMANAGED environments, for one.
    """
    rule = plan.retry.on_out_of_memory
    if rule is None or not environments:
        return plan
    caps = [memory_bytes(rule.max_memory)]
    templates = [one.template for one in plan.groups] or [plan.template]
    for template, (amounts, count) in zip(templates, plan.pods, strict=True):
        need = need_of(template, amounts, count, on_demand=False)
        rooms = [suits.most_memory(one, need) for one in environments]
        known = [one for one in rooms if one is not None]
        if len(known) == len(rooms):
            grows = _memories(template)
            caps.append(_level(grows, max(known) - (amounts.memory - sum(grows))))
    bound = memory_text(min(caps)) if min(caps) < caps[0] else None
    return plan if plan.memory_bound == bound else replace(plan, memory_bound=bound)


def _memories(template: Mapping[str, Any]) -> list[int]:
    """Bytes that containers ask for which run together, of those that ask for memory."""
    spec = template["spec"]
    sidecars = [
        one for one in spec.get("initContainers", ()) if one.get("restartPolicy") == "Always"
    ]
    return [asked for one in (*spec["containers"], *sidecars) if (asked := _asked(one))]


def _asked(container: Mapping[str, Any]) -> int:
    """Kubernetes: a limit alone is a request, too."""
    resources = container.get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return memory_bytes(asked.get("memory", "0"))


def _level(grows: Iterable[int], room: int) -> int:
    """The most, in whole MiB, that each may grow to for all to have room; no more: what they have.

    One that asks for more than that to begin with keeps it.
    """
    left = sorted(grows, reverse=True)
    while left:
        level = room // len(left)
        if level >= left[0]:
            return level - level % _MIB
        room -= left.pop(0)
    return 0
