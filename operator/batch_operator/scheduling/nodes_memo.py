"""What one cycle leaves for the next of the nodes of MANAGED environments."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batch_operator.provisioning.history import histories_of, history_of
from batch_operator.provisioning.pools import PoolKey
from batch_operator.scheduling.snapshot import ProvisionerReport
from batch_operator.scheduling.suitability import Suitability

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from batch_operator.api.compute_environment import EnvironmentUpdate
    from batch_operator.provisioning.daemons import Daemons
    from batch_operator.provisioning.history import History
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.plan import CapacityPlan
    from batch_operator.scheduling.awaited import Outlook
    from batch_operator.scheduling.misfits import Misfit
    from batch_operator.scheduling.snapshot import Environment


@dataclass(slots=True)
class Capacity:
    """What is known of one environment's nodes. The lasting part is in its status."""

    histories: dict[PoolKey, History]
    to_come: dict[PoolKey, int]
    """How many nodes were ordered that are not there."""
    uid: str = ""
    """Of the environment: one that is made anew under its name begins anew."""
    plan: CapacityPlan | None = None
    """The last one. How long something has been idle is counted anew after a restart."""
    planned_at: datetime | None = None
    """When a plan was last to be made; `made_at`, when one could be."""
    made_at: datetime | None = None
    outlook: Outlook = ()
    """What those who wait for its nodes have been told of them."""
    generation: int = 0
    provided_at: datetime | None = None
    """When its provisioner was asked last, with the spec of that generation."""
    daemons: Daemons | None = None
    """What DaemonSets take of its nodes."""
    update: EnvironmentUpdate | None = None
    """The infrastructure update that is under way."""
    turnover_at: datetime | None = None
    """When nodes that are to go have been waited for long enough."""
    report: ProvisionerReport = field(default_factory=ProvisionerReport)
    """What its provisioner said last."""
    cordons: dict[str, datetime] = field(default_factory=dict)
    """When those of nodes on their way out were seen, by name."""
    nodes: dict[str, Node] = field(default_factory=dict)
    """The nodes that the last plan was made with, by uid."""
    misfits: dict[str, Misfit] = field(default_factory=dict)
    """By job: nodes that have room for its Pods and do not get them."""
    misfits_at: datetime | None = None
    """When more may be known of these."""

    def history(self, key: PoolKey) -> History:
        return history_of(self.histories, key)


@dataclass(slots=True)
class NodesMemo:
    """What concerns environments, the MANAGED ones above all, by name."""

    capacities: dict[str, Capacity] = field(default_factory=dict)
    unplanned: set[str] = field(default_factory=set)
    """Those of which something has changed since their nodes were planned."""
    ceilings: dict[str, int] = field(default_factory=dict)
    """Of those that get no more nodes now: the milli-CPU of the nodes that they have."""
    named_by: dict[str, frozenset[str]] = field(default_factory=dict)
    """By queue: the environments of any type that it names, as these were told."""
    queues_of: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The same by environment."""
    going: dict[str, frozenset[str]] = field(default_factory=dict)
    """By environment, of either type: nodes whose attempts have been told that these will go."""

    suits: Suitability = field(default_factory=Suitability)

    def note_order(self, queue: str, environments: frozenset[str]) -> frozenset[str]:
        """A queue names these environments from now on; those that it did not name, or named."""
        news = environments ^ self.named_by.pop(queue, frozenset())
        for name in news:
            self.queues_of[name] ^= {queue}
        if environments:
            self.named_by[queue] = environments
        return news

    def forget(self, name: str) -> None:
        """The environment is gone, or MANAGED no more."""
        self.capacities.pop(name, None)
        self.ceilings.pop(name, None)
        self.unplanned.discard(name)


def recalled(environment: Environment, nodes: Iterable[Node]) -> Capacity:
    """What the status of an environment remembers: what was desired and is not there is to come."""
    there = Counter(one.pool for one in nodes if one.stays)
    missing = {
        PoolKey(row.instance_type, row.capacity_type): row.desired
        for row in environment.status.pools
    }
    to_come = {key: count - there[key] for key, count in missing.items() if count > there[key]}
    status = environment.status
    return Capacity(
        histories_of(status),
        to_come,
        uid=environment.uid,
        generation=status.observed_generation,
        update=status.update,
    )
