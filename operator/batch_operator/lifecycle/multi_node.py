"""Which node of a multi-node job runs what: AWS Batch's rules for node ranges.

AWS: a range is `first:last`, `first:`, `:last` or one index; ranges together cover all nodes; where
they overlap the narrower one counts. A job may give another number of nodes when a range of its
definition is open-ended.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batch_operator.api.amounts import Amounts
from batch_operator.api.index_set import IndexSet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batch_operator.api.job import ContainerOverride, NodeOverrides
    from batch_operator.api.job_definition import NodeProperties


class LayoutError(ValueError):
    """A mistake in node ranges, as a sentence that says what to write instead."""


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Nodes that run the same; one Indexed Job makes their Pods. The first is the main node alone.

    `target_nodes` is the definition's range that they belong to.
    """

    target_nodes: str
    nodes: tuple[int, ...]
    template: Mapping[str, Any]
    milli_cpu: int = 0
    """What all its nodes ask for together."""
    each: Amounts = field(default_factory=Amounts)
    """What each of them asks for."""


@dataclass(frozen=True, slots=True)
class Part:
    """A `NodeGroup` before the job's overrides are merged into its template."""

    target_nodes: str
    nodes: tuple[int, ...]
    template: Mapping[str, Any]
    overrides: tuple[ContainerOverride, ...] = ()


@dataclass(frozen=True, slots=True)
class _Range:
    text: str
    first: int
    last: int | None

    @property
    def is_open(self) -> bool:
        return self.last is None

    def nodes(self, count: int) -> range:
        last = count - 1 if self.last is None else min(self.last, count - 1)
        return range(self.first, last + 1)


def resolve(properties: NodeProperties, overrides: NodeOverrides | None) -> tuple[Part, ...]:
    """The groups of nodes, the main node first.

    The main node is a group of its own: AWS gives it no MAIN_NODE_PRIVATE_IPV4_ADDRESS, and the
    variables of an Indexed Job's Pods have the same names in all of them.

    Raises:
        LayoutError: the ranges, or what the job changes about them, make no sense.
    """
    asked = overrides.num_nodes if overrides else None
    count, main = asked or properties.num_nodes, properties.main_node
    where = "the definition's nodeRangeProperties"
    ranges = [_parsed(one.target_nodes, where) for one in properties.node_range_properties]
    if asked is None:
        _check_ends(ranges, count, where)
    else:
        _check_count(ranges, count)
    if main >= count:
        raise LayoutError(
            f"the main node is {main}, but nodes are numbered from 0 to {count - 1}: give more "
            f"nodes, or a mainNode below {count}"
        )
    changes = overrides.node_property_overrides if overrides else []
    where = "spec.nodeOverrides.nodePropertyOverrides"
    changed = [_parsed(one.target_nodes, where) for one in changes]
    _check_ends(changed, count, where)
    own, other = _narrowest(ranges, count), _narrowest(changed, count)
    if missing := IndexSet.range(count) - IndexSet.of(own):
        raise LayoutError(
            f"no range of the definition's nodeRangeProperties has node {missing}: the ranges have "
            f"to cover nodes 0 to {count - 1}; `0:` covers all"
        )
    groups: dict[tuple[bool, int, int], list[int]] = defaultdict(list)
    for node in range(count):
        groups[node != main, own[node], other.get(node, -1)].append(node)
    return tuple(
        Part(
            target_nodes=ranges[number].text,
            nodes=tuple(nodes),
            template=properties.node_range_properties[number].pod_template,
            overrides=tuple(changes[change].container_overrides) if change >= 0 else (),
        )
        for (_, number, change), nodes in sorted(groups.items())
    )


def _parsed(text: str, where: str) -> _Range:
    first, colon, last = text.partition(":")
    begin = int(first or "0")
    if not colon:
        return _Range(text, begin, begin)
    end = int(last) if last else None
    if end is not None and end < begin:
        raise LayoutError(f"{where}: targetNodes {text} ends before it begins: write {end}:{begin}")
    return _Range(text, begin, end)


def _check_ends(ranges: Sequence[_Range], count: int, where: str) -> None:
    for one in ranges:
        if max(one.first, one.last or 0) >= count:
            raise LayoutError(
                f"{where}: targetNodes {one.text} reaches beyond the last node, {count - 1}"
            )


def _check_count(ranges: Sequence[_Range], count: int) -> None:
    """AWS: `numNodes` needs an open-ended range that begins below the new number."""
    is_open = [one for one in ranges if one.is_open]
    if not is_open:
        raise LayoutError(
            "spec.nodeOverrides.numNodes needs a range of the definition with an open end, such as "
            "`0:`: leave numNodes out, or change the definition"
        )
    if all(one.first >= count for one in is_open):
        first = min(one.first for one in is_open)
        raise LayoutError(
            f"spec.nodeOverrides.numNodes is {count}, but the definition's open-ended range begins "
            f"at node {first}: give at least {first + 1} nodes"
        )


def _narrowest(ranges: Sequence[_Range], count: int) -> dict[int, int]:
    """By node: which range counts. Of two that are equally narrow the first does."""
    found: dict[int, int] = {}
    order = sorted(range(len(ranges)), key=lambda number: len(ranges[number].nodes(count)))
    for number in order:
        for node in ranges[number].nodes(count):
            found.setdefault(node, number)
    return found
