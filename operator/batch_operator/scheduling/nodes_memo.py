"""What one cycle leaves for the next of the nodes of MANAGED environments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from batch_operator.provisioning.history import History
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.plan import CapacityPlan
    from batch_operator.provisioning.pools import PoolKey


@dataclass(slots=True)
class Capacity:
    """What is known of one environment's nodes. The lasting part is in its status."""

    histories: dict[PoolKey, History]
    ordered: Mapping[PoolKey, int]
    plan: CapacityPlan | None = None
    planned_at: datetime | None = None
    generation: int = 0
    provided_at: datetime | None = None
    unneeded_since: datetime | None = None
    idle_since: dict[str, datetime] = field(default_factory=dict)
    """By name of a node on which nothing runs; counted anew after a restart."""
    known: dict[str, Node] = field(default_factory=dict)
    """The nodes that the last plan was made with, by uid."""


@dataclass(slots=True)
class NodesMemo:
    """All MANAGED environments, by name."""

    capacities: dict[str, Capacity] = field(default_factory=dict)
    unplanned: set[str] = field(default_factory=set)
    """Those of which something has changed since their nodes were planned."""
    ceilings: dict[str, int] = field(default_factory=dict)
    """Of those that get no more nodes now: the milli-CPU of the nodes that they have."""

    def forget(self, name: str) -> None:
        """The environment is gone, or MANAGED no more."""
        self.capacities.pop(name, None)
        self.ceilings.pop(name, None)
        self.unplanned.discard(name)
