"""The seam between a plan for nodes and whatever can make nodes of it.

A provisioner is told what there should be, not what to do: it compares, and makes the difference.
It is asked again whenever the two differ, and now and then, so it need remember nothing and may be
interrupted anywhere. What it could not get it reports, pool by pool; the core backs off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.plan import CapacityPlan
    from batch_operator.provisioning.pools import PoolKey
    from batch_operator.scheduling.snapshot import Environment, PoolRefusal


@dataclass(frozen=True, slots=True)
class Provided:
    """What came of it. `refused` says in words why a pool gave no more nodes.

    `told` are refusals that others have written down, with their times: one that is told of again
    counts once. `problem` is what somebody has to mend, for the environment's condition; until then
    an environment that is `is_invalid` can have no nodes. `coming` counts nodes that an autoscaler
    has ordered and that are not there yet. `waits` says of pools whose nodes are not all there what
    is known of it where they are made. `refused_gangs` says by name why one gets no nodes now; that
    means nothing for others.
    """

    refused: Mapping[PoolKey, str] = field(default_factory=dict)
    told: Mapping[PoolKey, PoolRefusal] = field(default_factory=dict)
    problem: str | None = None
    is_invalid: bool = False
    coming: Mapping[PoolKey, int] = field(default_factory=dict)
    waits: Mapping[PoolKey, str] = field(default_factory=dict)
    refused_gangs: Mapping[str, str] = field(default_factory=dict)
    is_pending: bool = False
    """There are machines of the environment that are no Nodes yet, or not quite gone: until there
    are none, an environment that is being deleted stays."""


class UnableError(Exception):
    """No node can be made until somebody mends what the message says."""


class Provisioner(Protocol):
    """Adds and removes the nodes of environments of one type."""

    @property
    def follows_pods(self) -> bool:
        """Whether nodes come and go by themselves, as Pods wait for them: none is ordered."""
        ...

    async def provide(
        self, environment: Environment, plan: CapacityPlan, nodes: Sequence[Node]
    ) -> Provided:
        """Make an environment's nodes as planned.

        `plan.remove` has nodes that are cordoned and on which nothing runs; no others may go.

        Raises:
            UnableError: it cannot work as things are.
            ApiError: it could not be done; it is asked again after a while.
        """
        ...
