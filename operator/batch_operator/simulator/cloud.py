"""The cloud behind MANAGED environments, as a scenario describes it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from batch_operator.api.compute_environment import CapacityType, NodeOverhead
from batch_operator.provisioners.kwok.behaviour import Behaviour, behaviour_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batch_operator.provisioning.pools import PoolKey
    from batch_operator.scheduling.snapshot import Environment
    from batch_operator.simulator.scenario import PoolBehavior, RefuseCapacity


START_UP_S = 40.0
"""What a machine takes until it is ready, when nobody says: Karpenter's usual time on EC2."""


class Cloud:
    """What each pool's machines do, and which pools have none to give at the moment."""

    def __init__(self, pools: Sequence[PoolBehavior], clock_s: Callable[[], float]) -> None:
        self._pools = pools
        self._clock_s = clock_s
        self._refusals: list[tuple[float, RefuseCapacity]] = []

    def refuse(self, refusal: RefuseCapacity) -> None:
        """Give no nodes of certain pools for a while."""
        self._refusals.append((self._clock_s() + refusal.for_, refusal))

    def reserved(self, environment: str, pool: PoolKey) -> NodeOverhead:
        """What the kubelets of a pool keep for their machines."""
        described = self._described(environment, pool)
        return described.system_reserved if described is not None else NodeOverhead()

    def _described(self, environment: str, pool: PoolKey) -> PoolBehavior | None:
        return next((one for one in self._pools if one.matches(environment, pool)), None)

    def behaviour(self, environment: Environment, pool: PoolKey) -> Behaviour:
        """The first description that matches, in place of what the environment says itself."""
        found = behaviour_of(environment, pool) or Behaviour(start_up_s=START_UP_S)
        if one := self._described(environment.name, pool):
            is_spot = pool.capacity_type is CapacityType.SPOT
            found = Behaviour(
                start_up_s=one.start_up,
                limit=one.nodes,
                interruptions_per_hour=one.interruptions_per_hour if is_spot else 0.0,
                notice_s=one.notice,
            )
        for until_s, refusal in self._refusals:
            if self._clock_s() < until_s and refusal.matches(environment.name, pool):
                return replace(found, limit=0, refusal="there is no capacity at the moment")
        return found
