"""The plan of one environment: how many nodes of which pool, and which of them go.

Demand is what attempts ask for that have no node yet; what runs keeps its node. It goes first to
room that there is, then to nodes that were ordered and are not there yet, then to nodes on their
way out, then to new ones, pool by pool in the order of the allocation strategy. What is not needed
any more goes: a node that is idle for long enough is cordoned, and removed when nothing has come to
it meanwhile.

Nothing is ordered and taken back in turns: what was ordered counts as there until it has not been
needed for as long as an idle node is kept.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api.amounts import Amounts
from batch_operator.api.compute_environment import CapacityType
from batch_operator.provisioning.history import History
from batch_operator.provisioning.pools import pools_of, strategy_of
from batch_operator.provisioning.strategies import can_overshoot, in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from batch_operator.api.compute_environment import ComputeEnvironmentSpec
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.pools import Pool, PoolKey

SETTLE = timedelta(seconds=5)
"""From a node's cordon to its removal: what was bound to it meanwhile has been seen by then."""
PODS_MAX = 110
"""The kubelet's default, for nodes that are not there yet."""
_NO_HISTORY = History()


@dataclass(frozen=True, slots=True)
class Demand:
    """Pods without a node that ask for the same."""

    amounts: Amounts
    count: int
    on_demand: bool = False
    """They go to on-demand nodes only."""
    instance_type: str | None = None
    """They go to nodes of this type only."""

    def suits(self, key: PoolKey | None) -> bool:
        """Whether its node selector allows nodes of a pool."""
        if key is None:
            return not (self.on_demand or self.instance_type)
        is_type = self.instance_type in {None, key.instance_type}
        return is_type and not (self.on_demand and key.capacity_type is CapacityType.SPOT)


@dataclass(frozen=True, slots=True)
class View:
    """One environment as its plan is made from it.

    `load` is what attempts hold on a node, by its name; a node that is not in it is idle, since
    `idle_since`. `ordered` is how many nodes of a pool there should have been by the last plan,
    and `unneeded_since` since when some of these are not needed although they never came.
    """

    spec: ComputeEnvironmentSpec
    nodes: Sequence[Node]
    now: datetime
    load: Mapping[str, Amounts] = field(default_factory=dict)
    demand: Sequence[Demand] = ()
    idle_since: Mapping[str, datetime] = field(default_factory=dict)
    ordered: Mapping[PoolKey, int] = field(default_factory=dict)
    unneeded_since: datetime | None = None
    histories: Mapping[PoolKey, History] = field(default_factory=dict)
    is_enabled: bool = True
    """Nothing is added to an environment that is not; minvCpus is kept all the same (AWS)."""

    def is_refused(self, key: PoolKey) -> bool:
        return self.histories.get(key, _NO_HISTORY).is_refused(self.now)

    @property
    def delay(self) -> timedelta:
        """How long a node stays idle before it goes."""
        policy = self.spec.scaling_policy
        return timedelta(minutes=policy.min_scale_down_delay_minutes if policy is not None else 1)


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    """What there should be. `desired` counts nodes by pool, those that stay or are to come."""

    desired: Mapping[PoolKey, int]
    cordon: tuple[Node, ...] = ()
    uncordon: tuple[Node, ...] = ()
    remove: tuple[Node, ...] = ()
    """Cordoned for long enough, and nothing runs there."""
    unmet: tuple[Demand, ...] = ()
    """What no node is ordered for: its pools are refused, or maxvCpus is reached."""
    unneeded_since: datetime | None = None
    look_again_at: datetime | None = None


def plan_capacity(view: View) -> CapacityPlan:
    """The nodes that an environment should have now."""
    return _Planner(view).plan()


@dataclass(slots=True)
class _Place:
    """A node, there or to come, and what is left on it for demand."""

    pool: PoolKey | None
    vcpus: int
    left: Amounts
    pods: int
    node: Node | None = None
    is_used: bool = False


class _Planner:
    """One plan in the making."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._pools = pools_of(view.spec)
        self._by_key = {one.key: one for one in self._pools}
        self._there = [self._place_of(one) for one in view.nodes if one.stays]
        self._leaving = [
            self._place_of(one)
            for one in view.nodes
            if one.draining_since and not (one.notice or one.deleting)
        ]
        self._ordered = self._still_to_come()
        self._new: list[_Place] = []
        self._times: list[datetime] = []
        """When something would change by time alone."""

    def plan(self) -> CapacityPlan:
        view = self._view
        open_ = [one for one in self._there if one.node is not None and not one.node.cordoned]
        left = _packed(view.demand, [*open_, *self._ordered])
        unmet = left
        if view.is_enabled:
            unmet = self._ask_for_more(_packed(left, self._leaving))
        self._keep_min()
        called = [one.node for one in self._leaving if one.is_used and one.node is not None]
        cordon = self._to_cordon()
        self._give_up_orders()
        staying = [one.pool for one in self._there if one.node not in cordon]
        staying += [one.pool for one in self._leaving if one.is_used]
        staying += [one.pool for one in (*self._ordered, *self._new)]
        desired = Counter(one for one in staying if one is not None)
        announced = [one for one in view.nodes if one.notice and not one.draining_since]
        remove = self._to_remove(called)
        if unmet:
            self._times += [
                one.refused_until for one in view.histories.values() if one.refused_until
            ]
        return CapacityPlan(
            desired={key: desired[key] for key in sorted(desired)},
            cordon=(*cordon, *announced),
            uncordon=tuple(called),
            remove=tuple(remove),
            unmet=tuple(unmet),
            unneeded_since=self._unneeded_since(),
            look_again_at=min((one for one in self._times if one > view.now), default=None),
        )

    def _place_of(self, node: Node) -> _Place:
        pool = self._by_key.get(node.pool) if node.pool is not None else None
        vcpus = pool.vcpus if pool is not None else -(-node.offers.milli_cpu // 1000)
        held = self._view.load.get(node.name, Amounts())
        return _Place(node.pool, vcpus, node.offers - held, node.pods, node)

    def _to_come(self, pool: Pool) -> _Place:
        return _Place(pool.key, pool.vcpus, pool.offers, PODS_MAX)

    def _still_to_come(self) -> list[_Place]:
        """Nodes that were ordered and are not there, unless their pool has refused them."""
        there = Counter(one.pool for one in self._there)
        return [
            self._to_come(pool)
            for pool in self._pools
            if not self._view.is_refused(pool.key)
            for _ in range(self._view.ordered.get(pool.key, 0) - there[pool.key])
        ]

    def _vcpus(self) -> int:
        """Of all nodes that exist or are to come, those on their way out among them."""
        existing = sum(self._place_of(one).vcpus for one in self._view.nodes)
        return existing + sum(one.vcpus for one in (*self._ordered, *self._new))

    def _ask_for_more(self, demand: list[Demand]) -> list[Demand]:
        """New nodes for demand; the demand for which there can be none now."""
        vcpus, unmet = self._vcpus(), []
        while demand:
            first = demand[0]
            chosen = self._choice(
                [
                    one
                    for one in self._pools
                    if first.suits(one.key) and first.amounts.fits_into(one.offers)
                ],
                vcpus,
            )
            if chosen is None:
                unmet.append(demand.pop(0))
                continue
            place = self._to_come(chosen)
            demand = _packed(demand, [place])
            vcpus += chosen.vcpus
            self._new.append(place)
        return unmet

    def _choice(self, pools: Iterable[Pool], vcpus: int) -> Pool | None:
        """The first pool that may be asked; AWS: the last node may exceed maxvCpus."""
        view, strategy = self._view, strategy_of(self._view.spec)
        ordered = in_order(strategy, pools, view.histories, view.now)
        open_ = [one for one in ordered if not view.is_refused(one.key)]
        limit = view.spec.max_vcpus
        within = next((one for one in open_ if vcpus + one.vcpus <= limit), None)
        if within is None and open_ and vcpus < limit and can_overshoot(strategy):
            return min(open_, key=lambda one: (one.vcpus, one.key))
        return within

    def _keep_min(self) -> None:
        """Idle nodes up to minvCpus."""
        going = sum(one.vcpus for one in self._leaving if not one.is_used)
        vcpus = self._vcpus() - going
        while vcpus < self._view.spec.min_vcpus:
            chosen = self._choice(self._pools, vcpus)
            if chosen is None:
                return
            place = self._to_come(chosen)
            place.is_used = True
            self._new.append(place)
            vcpus += chosen.vcpus

    def _spare(self) -> int:
        """How many vCPUs could go without falling below minvCpus."""
        staying = sum(one.vcpus for one in (*self._there, *self._ordered, *self._new))
        return staying - self._view.spec.min_vcpus

    def _to_cordon(self) -> list[Node]:
        """Nodes that have been idle for long enough and that nothing needs, the newest first."""
        view, spare = self._view, self._spare()
        idle = [
            (one.node, one.vcpus, view.idle_since[one.node.name])
            for one in self._there
            if one.node is not None and not one.is_used and one.node.name in view.idle_since
        ]
        found: list[Node] = []
        for node, vcpus, since in sorted(
            idle, key=lambda one: (one[0].created_at, one[0].name), reverse=True
        ):
            if vcpus > spare:
                continue
            if view.now < since + view.delay:
                self._times.append(since + view.delay)
                continue
            found.append(node)
            spare -= vcpus
        return found

    def _unneeded_since(self) -> datetime | None:
        if all(one.is_used for one in self._ordered):
            return None
        return self._view.unneeded_since or self._view.now

    def _give_up_orders(self) -> None:
        """Take back what was ordered, never came and is not needed."""
        since = self._unneeded_since()
        if since is None:
            return
        if self._view.now < since + self._view.delay:
            self._times.append(since + self._view.delay)
            return
        spare = self._spare()
        for one in [one for one in reversed(self._ordered) if not one.is_used]:
            if one.vcpus <= spare:
                self._ordered.remove(one)
                spare -= one.vcpus

    def _to_remove(self, called: Sequence[Node]) -> list[Node]:
        """Cordoned nodes on which nothing runs, once that is certain."""
        found: list[Node] = []
        for node in self._view.nodes:
            since = node.draining_since
            if since is None or node.deleting or node.name in self._view.load or node in called:
                continue
            if self._view.now >= since + SETTLE:
                found.append(node)
            else:
                self._times.append(since + SETTLE)
        return found


def _packed(demand: Iterable[Demand], places: Sequence[_Place]) -> list[Demand]:
    """Put demand into places, the largest first, each into the first with room; what is left."""
    left: list[Demand] = []
    for one in sorted(demand, key=_largest_first):
        count = one.count
        for place in places:
            if not count:
                break
            if not one.suits(place.pool):
                continue
            fits = min(count, place.pods, one.amounts.count_in(place.left))
            if fits:
                place.left -= one.amounts.times(fits)
                place.pods -= fits
                place.is_used = True
                count -= fits
        if count:
            left.append(Demand(one.amounts, count, one.on_demand, one.instance_type))
    return left


def _largest_first(demand: Demand) -> tuple[int, int, int, bool, str]:
    amounts = demand.amounts
    return (
        -amounts.gpus,
        -amounts.milli_cpu,
        -amounts.memory,
        not demand.on_demand,
        demand.instance_type or "",
    )
