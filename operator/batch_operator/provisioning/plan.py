"""The plan of one environment: how many nodes of which pool, and which of them go.

Demand is what attempts ask for that have no node yet; what runs keeps its node. It goes first to
room that there is, then to nodes that were ordered and are not there yet, then to nodes on their
way out, then to new ones, in the order of the allocation strategy. Pods of one multi-node job get
room together or none.

What is not needed any more goes: a node on which nothing runs, and for which nothing waits, for
long enough is cordoned, and removed when nothing has come to it meanwhile. An order is taken back
when it has not been needed for as long. So no pool goes up and down faster than
`minScaleDownDelayMinutes`, however demand does.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

from batch_operator.api.amounts import Amounts
from batch_operator.provisioning.history import history_of
from batch_operator.provisioning.packing import Demand, Place, Taken, in_units, put
from batch_operator.provisioning.pools import Space, pools_of, strategy_of
from batch_operator.provisioning.strategies import can_overshoot, goes_by_price, in_order, waits

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from batch_operator.api.compute_environment import CapacityType, ComputeEnvironmentSpec
    from batch_operator.lifecycle.gang import Gang
    from batch_operator.provisioning.history import History
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.pools import Pool, PoolKey

SETTLE = timedelta(seconds=5)
"""From when a node's cordon is seen to its removal: what was bound to it meanwhile has been seen by
then, too."""
_NOTHING = Space()


@dataclass(frozen=True, slots=True)
class Surplus:
    """Orders of a pool that nothing has needed `since`: the fewest that were over at any time."""

    since: datetime
    count: int


@dataclass(frozen=True, slots=True)
class View:
    """One environment as its plan is made from it.

    `load` is what attempts hold on a node, by its name; `daemons` what DaemonSets take of a node of
    a pool. `to_come` counts what was ordered and is not there; it, `idle_since` and `surplus` are
    what the last plan left, brought up to date.
    """

    spec: ComputeEnvironmentSpec
    nodes: Sequence[Node]
    now: datetime
    load: Mapping[str, Space] = field(default_factory=dict)
    daemons: Mapping[PoolKey | None, Space] = field(default_factory=dict)
    demand: Sequence[Demand] = ()
    to_come: Mapping[PoolKey, int] = field(default_factory=dict)
    idle_since: Mapping[str, datetime] = field(default_factory=dict)
    cordons: Mapping[str, datetime] = field(default_factory=dict)
    """When a node's cordon was seen, by its name: its write may have taken a while."""
    surplus: Mapping[PoolKey, Surplus] = field(default_factory=dict)
    histories: Mapping[PoolKey, History] = field(default_factory=dict)
    is_enabled: bool = True
    """Nothing is added to an environment that is not; minvCpus is kept all the same (AWS)."""

    def history(self, key: PoolKey | None) -> History:
        return history_of(self.histories, key)

    def is_broken(self, node: Node) -> bool:
        return node.is_broken(self.now, self.history(node.pool).patience)

    def room_of_new(self, pool: Pool) -> Space:
        """What a node that is not there yet will have for Pods of jobs."""
        offers = self.history(pool.key).expected(pool.offers)
        return offers - self.daemons.get(pool.key, _NOTHING)

    @property
    def delay(self) -> timedelta:
        """How long a node stays idle before it goes."""
        policy = self.spec.scaling_policy
        return timedelta(minutes=policy.min_scale_down_delay_minutes if policy is not None else 1)


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    """What there should be. `desired` counts nodes by pool, those that stay or are to come."""

    desired: Mapping[PoolKey, int]
    vcpus: int = 0
    """Of all of these."""
    cordon: tuple[Node, ...] = ()
    uncordon: tuple[Node, ...] = ()
    remove: tuple[Node, ...] = ()
    """Cordoned for long enough, and nothing runs there."""
    unmet: tuple[Demand, ...] = ()
    """What no node is ordered for: its pools are refused, or maxvCpus is reached."""
    refused: tuple[Demand, ...] = ()
    """The part of it for which no pool may be asked that is large enough, whatever maxvCpus; gangs
    as a whole."""
    to_come: Mapping[PoolKey, int] = field(default_factory=dict)
    """How many of the desired nodes are not there."""
    idle_since: Mapping[str, datetime] = field(default_factory=dict)
    """By name of a node that stays and that neither jobs nor minvCpus need."""
    surplus: Mapping[PoolKey, Surplus] = field(default_factory=dict)
    look_again_at: datetime | None = None
    preference: tuple[PoolKey, ...] = ()
    """Where nodes follow waiting Pods: all pools, the one to be asked first in front."""
    gangs: tuple[Gang, ...] = ()
    """Where nodes follow waiting Pods: what is to get nodes for all its Pods or for none."""


def plan_capacity(view: View) -> CapacityPlan:
    """The nodes that an environment should have now."""
    return _Planner(view).plan()


class _Planner:
    """One plan in the making."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._strategy = strategy_of(view.spec)
        pools = pools_of(view.spec)
        self._pools = in_order(self._strategy, pools, view.histories, view.now)
        self._by_key = {one.key: one for one in pools}
        self._rooms = {one.key: view.room_of_new(one) for one in pools}
        self._whole = frozenset(one.key for one in pools if one.is_whole)
        self._largest = max((one.vcpus for one in pools), default=0)
        self._times: list[datetime] = []
        """When something would change by time alone."""
        places = [(one, self._place_of(one)) for one in view.nodes]
        self._there = [place for node, place in places if self._stays(node)]
        self._leaving = [place for node, place in places if self._can_be_called(node)]
        self._orders = self._still_to_come()
        self._new: list[Place] = []
        self._asked: dict[tuple[object, ...], list[Pool]] = {}
        """The candidates for each kind of Pod: thousands of gangs may ask for the same."""
        self._vcpus = sum(one.vcpus for _, one in places) + sum(one.vcpus for one in self._orders)
        """Of all nodes that exist or are to come, those on their way out among them."""
        self._waiting_milli: Counter[CapacityType | None] = Counter()
        """What is asked for and has no place yet, by what it goes to first: what waits for spot
        will not fill an on-demand node that is ordered for those who take no other."""
        for one in view.demand:
            self._waiting_milli[self._goes_to(one)] += one.amounts.milli_cpu * one.count

    def plan(self) -> CapacityPlan:
        view = self._view
        unmet = self._meet_demand()
        self._keep_min()
        surplus = self._give_up_orders()
        idle_since, cordon = self._to_cordon()
        gone = {one.name for one in cordon}
        self._call_back_to_whole_pools(gone)
        called = [one for one in self._leaving if one.is_used]
        there = [one for one in self._there if one.name not in gone] + called
        to_come = [*self._orders, *self._new]
        if unmet:
            self._times += [one.refused_until or view.now for one in view.histories.values()]
        return CapacityPlan(
            desired=_counted([*there, *to_come]),
            vcpus=sum(one.vcpus for one in (*there, *to_come)),
            cordon=(*cordon, *self._lost()),
            uncordon=tuple(one.node for one in called if one.node is not None),
            remove=tuple(self._to_remove({one.name for one in called if one.name})),
            unmet=tuple(unmet),
            refused=tuple(self._refused(unmet)),
            to_come=_counted(to_come),
            idle_since=idle_since,
            surplus=surplus,
            look_again_at=min((one for one in self._times if one > view.now), default=None),
        )

    def _place_of(self, node: Node) -> Place:
        """A node as far as it is known: one that is starting may not have told of all it has."""
        view, patience = self._view, self._view.history(node.pool).patience
        taken = view.daemons.get(node.pool, _NOTHING)
        left = node.offers - taken - view.load.get(node.name, _NOTHING)
        pool = self._by_key.get(node.pool) if node.pool is not None else None
        if node.is_down(patience):
            left = _NOTHING
        if pool is None:
            return Place(node.pool, -(-node.offers.amounts.milli_cpu // 1000), left, node)
        is_whole = node.ready and node.offers.amounts.gpus >= pool.offers.amounts.gpus
        if not is_whole and view.now < node.created_at + patience:
            left = self._rooms[pool.key] - view.load.get(node.name, _NOTHING)
        return Place(pool.key, pool.vcpus, left, node)

    def _stays(self, node: Node) -> bool:
        if not node.stays or self._view.is_broken(node):
            return False
        broken_at = node.broken_at(self._view.history(node.pool).patience)
        self._times += [broken_at] if broken_at is not None else []
        return True

    def _can_be_called(self, node: Node) -> bool:
        """Whether a node on its way out can be had back."""
        is_ours = node.draining_since is not None and not (node.notice or node.deleting)
        return is_ours and not self._view.is_broken(node)

    def _lost(self) -> list[Node]:
        """Nodes that are to take no more Pods, whatever waits: announced to go, or broken."""
        lost = [one for one in self._view.nodes if one.notice or self._view.is_broken(one)]
        return [one for one in lost if not one.draining_since and not one.deleting]

    def _still_to_come(self) -> list[Place]:
        """Nodes that were ordered and are not there, unless their pool has refused them."""
        return [
            self._new_place(one)
            for one in self._by_key.values()
            if not self._is_refused(one)
            for _ in range(self._view.to_come.get(one.key, 0))
        ]

    def _new_place(self, pool: Pool) -> Place:
        return Place(pool.key, pool.vcpus, self._rooms[pool.key])

    def _is_refused(self, pool: Pool) -> bool:
        return self._view.history(pool.key).is_refused(self._view.now)

    def _meet_demand(self) -> list[Demand]:
        """Find room for what waits, on new nodes if need be; that for which there is none now.

        Full places are left out from time to time: every kind of Pod is tried on all that there
        are, and how many kinds there are is up to those who submit.
        """
        is_enabled = self._view.is_enabled
        amounts = [one.amounts for one in self._view.demand]
        least = Amounts(
            min((one.milli_cpu for one in amounts), default=0),
            min((one.memory for one in amounts), default=0),
        )
        open_ = [one for one in self._there if one.node is not None and not one.node.cordoned]
        places = [*open_, *self._orders, *(self._leaving if is_enabled else ())]
        full = len(places)
        unmet: list[Demand] = []
        for unit in in_units(self._view.demand):
            if 2 * full > len(places):
                places, full = [one for one in places if not one.is_full(least)], 0
            taken: list[Taken] = []
            before = len(places)
            left = []
            for one in unit:
                over = self._find_room(one, places, taken)
                if over:
                    left.append(replace(one, count=over))
            if left and unit[0].gang is not None:
                self._undo(taken, places, before)
                left = unit
            unmet += left
            full += sum(one.place.is_full(least) for one in taken)
        return unmet

    def _find_room(self, demand: Demand, places: list[Place], taken: list[Taken]) -> int:
        """Room for Pods of one kind; new nodes join `places`. How many are left over."""
        wanted_milli, kind = demand.amounts.milli_cpu, self._goes_to(demand)
        over = put(demand, demand.count, places, taken)
        self._waiting_milli[kind] -= wanted_milli * (demand.count - over)
        candidates = self._candidates(demand) if over and self._view.is_enabled else []
        while over:
            chosen = self._choice(candidates, -(-self._waiting_milli[kind] // 1000))
            if chosen is None:
                break
            place = self._new_place(chosen)
            self._add(place)
            places.append(place)
            before, over = over, put(demand, over, [place], taken)
            self._waiting_milli[kind] -= wanted_milli * (before - over)
        self._waiting_milli[kind] -= wanted_milli * over
        return over

    def _undo(self, taken: Sequence[Taken], places: list[Place], before: int) -> None:
        """A gang has no room for all: give back what was found for some."""
        for one in reversed(taken):
            one.undo()
        new = len(places) - before
        self._vcpus -= sum(one.vcpus for one in places[before:])
        del places[before:]
        del self._new[len(self._new) - new :]

    def _add(self, place: Place) -> None:
        self._new.append(place)
        self._vcpus += place.vcpus

    def _candidates(self, demand: Demand) -> list[Pool]:
        """Pools whose nodes are large enough and that may be asked, the first to ask in front."""
        kind = (demand.amounts, demand.on_demand, demand.spot, demand.instance_type)
        if kind not in self._asked:
            rooms = ((one, Place(one.key, 0, self._rooms[one.key])) for one in self._pools)
            self._asked[kind] = self._open(one for one, room in rooms if room.count_of(demand))
        return self._asked[kind]

    def _refused(self, unmet: Iterable[Demand]) -> list[Demand]:
        """What no pool may be asked for now; of a gang all, for a part of it is of no use."""
        alone = {one for one in unmet if not self._candidates(one)}
        gangs = {one.gang for one in alone} - {None}
        return [one for one in unmet if one in alone or one.gang in gangs]

    def _goes_to(self, demand: Demand) -> CapacityType | None:
        """The capacity type of the pool that it asks first; None where it may ask none."""
        return next((one.key.capacity_type for one in self._candidates(demand)), None)

    def _open(self, pools: Iterable[Pool]) -> list[Pool]:
        """Those that do not refuse; AWS: BEST_FIT waits for the first of all."""
        chosen = islice(pools, 1) if waits(self._strategy) else pools
        return [one for one in chosen if not self._is_refused(one)]

    def _choice(self, candidates: Sequence[Pool], wanted_vcpus: int) -> Pool | None:
        """The first that maxvCpus allows; AWS: the last node may exceed it."""
        view = self._view
        if wanted_vcpus < self._largest and goes_by_price(self._strategy):
            candidates = in_order(
                self._strategy, candidates, view.histories, view.now, wanted_vcpus
            )
        limit = view.spec.max_vcpus
        within = next((one for one in candidates if self._vcpus + one.vcpus <= limit), None)
        if within is None and self._vcpus < limit and can_overshoot(self._strategy):
            return min(candidates, key=lambda one: (one.vcpus, one.order), default=None)
        return within

    def _staying(self) -> int:
        """How many vCPUs nodes have that are there or to come and, so far, stay."""
        called = (one for one in self._leaving if one.is_used)
        return sum(one.vcpus for one in (*self._there, *called, *self._orders, *self._new))

    def _keep_min(self) -> None:
        """Keep minvCpus, idle or not: by nodes on their way out first, then by new ones."""
        missing = self._view.spec.min_vcpus - self._staying()
        for one in self._leaving:
            if missing > 0 and not one.is_used:
                one.is_used = True
                missing -= one.vcpus
        candidates = self._open(self._pools)
        while missing > 0:
            chosen = self._choice(candidates, missing)
            if chosen is None:
                return
            place = self._new_place(chosen)
            self._add(place)
            missing -= chosen.vcpus

    def _give_up_orders(self) -> dict[PoolKey, Surplus]:
        """Take back what was ordered, never came, and was not needed for long enough.

        What is over and not given up yet is noted; the time begins anew when all is needed again,
        and with it when more is ordered.
        """
        view, found = self._view, {}
        spare = self._staying() - view.spec.min_vcpus
        unused: dict[PoolKey, list[Place]] = defaultdict(list)
        for one in self._orders:
            if not one.is_used and one.pool is not None:
                unused[one.pool].append(one)
        given_up: list[Place] = []
        for key in sorted(unused):
            vcpus = unused[key][0].vcpus
            over = min(len(unused[key]), spare // vcpus)
            if over <= 0:
                continue
            known = view.surplus.get(key, Surplus(view.now, over))
            known = Surplus(known.since, min(known.count, over))
            if view.now >= known.since + view.delay:
                given_up += unused[key][: known.count]
                spare -= known.count * vcpus
                known = Surplus(view.now, over - known.count)
            if known.count:
                found[key] = known
                self._times.append(known.since + view.delay)
        gone = {id(one) for one in given_up}
        self._orders = [one for one in self._orders if id(one) not in gone]
        return found

    def _to_cordon(self) -> tuple[dict[str, datetime], list[Node]]:
        """Since when nodes are idle; and those that have been for long enough, newest first."""
        view = self._view
        spare = self._staying() - view.spec.min_vcpus
        idle: list[tuple[Node, int]] = [
            (one.node, one.vcpus)
            for one in self._there
            if one.node is not None and not one.is_used and one.node.name not in view.load
            if not one.node.cordoned  # by somebody else, who may have a use for it
        ]
        idle_since = {node.name: view.idle_since.get(node.name, view.now) for node, _ in idle}
        found: list[Node] = []
        for node, vcpus in sorted(
            idle, key=lambda one: (one[0].created_at, one[0].name), reverse=True
        ):
            if vcpus > spare:  # minvCpus needs it
                del idle_since[node.name]
                continue
            due_at = idle_since[node.name] + view.delay
            if view.now < due_at:
                self._times.append(due_at)
                continue
            found.append(node)
            spare -= vcpus
        found = self._unbroken(found, (one.node for one in self._there))
        for node in found:
            del idle_since[node.name]
        return idle_since, found

    def _to_remove(self, called: set[str]) -> list[Node]:
        """Cordoned nodes on which nothing runs, once that is certain."""
        found: list[Node] = []
        for node in self._view.nodes:
            since = node.draining_since
            is_busy = node.name in self._view.load
            if since is None or node.deleting or is_busy or node.name in called:
                continue
            settled_at = max(since, self._view.cordons.get(node.name, since)) + SETTLE
            if self._view.now >= settled_at:
                found.append(node)
            else:
                self._times.append(settled_at)
        left = (one for one in self._view.nodes if not (one.notice or one.deleting))
        return self._unbroken(found, (one for one in left if not self._view.is_broken(one)))

    def _unbroken(self, found: Sequence[Node], nodes: Iterable[Node | None]) -> list[Node]:
        """Without those of a pool that goes as a whole, but not now."""
        uids = {one.uid for one in found}
        held = {one.pool for one in nodes if one is not None and one.uid not in uids}
        return [one for one in found if one.pool not in self._whole & held]

    def _call_back_to_whole_pools(self, gone: Collection[str | None]) -> None:
        """A pool that goes as a whole stays as a whole."""
        staying = {one.pool for one in self._there if one.name not in gone}
        for place in self._leaving:
            if place.pool in self._whole & staying:
                place.is_used = True


def _counted(places: Iterable[Place]) -> dict[PoolKey, int]:
    counts = Counter(one.pool for one in places if one.pool is not None)
    return {key: counts[key] for key in sorted(counts)}
