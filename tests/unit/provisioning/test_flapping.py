"""No pool flaps: plans for whatever demand, played in virtual time against nodes that come and go.

A story is a list of things that happen. Each second something is planned, the world does as it was
told, Pods go to the nodes that are ready, and what must hold is checked.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from batch_operator.api.compute_environment import AllocationStrategy
from batch_operator.provisioning.history import History
from batch_operator.provisioning.plan import SETTLE, View, plan_capacity
from batch_operator.provisioning.pools import PoolKey, Space, pools_of, strategy_of
from batch_operator.provisioning.strategies import can_overshoot
from support.environments import NOON, ask, instance_type, managed, node, space

if TYPE_CHECKING:
    from datetime import datetime

    from batch_operator.api.compute_environment import ComputeEnvironmentSpec
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.packing import Demand
    from batch_operator.provisioning.plan import CapacityPlan

EXAMPLES = int(os.environ.get("BATCH_OPERATOR_EXAMPLES", "0"))
"""So many new stories instead of those that are always the same."""
TYPES = (
    instance_type("small", 2, "8Gi", pricePerHour=0.10, spotPricePerHour=0.04),
    instance_type("medium", 4, "32Gi", pricePerHour=0.19, spotPricePerHour=0.09),
    instance_type("large", 16, "64Gi", pricePerHour=0.70, spotPricePerHour=0.28),
)
SIZES = {one["name"]: space(one["vcpus"], int(one["memory"][:-2])) for one in TYPES}
MAX_VCPUS = 24
SETTLED_S = 250
"""Longer than a refusal, a delay and a removal together."""
ROUNDS = 14
"""So many arrivals and starts, one after the other: a gang takes nodes that others waited for."""
QUIET_S = 150
"""Longer than any delay."""


@dataclass(frozen=True)
class Submit:
    """So many Pods that run for so long, each alone or all together."""

    count: int
    vcpus: int
    memory_gib: int
    lasts_s: int
    is_gang: bool
    on_demand: bool


@dataclass(frozen=True)
class Wait:
    seconds: int


@dataclass(frozen=True)
class Interrupt:
    """A node is announced to go, and does after half a minute."""


@dataclass(frozen=True)
class Refuse:
    """The pool that something was ordered of last refuses."""


@dataclass
class Pod:
    asks: Demand
    lasts_s: int
    on: str | None = None
    ends_at: datetime | None = None


STEPS = st.one_of(
    st.builds(
        Submit,
        count=st.integers(1, 6),
        vcpus=st.sampled_from([1, 2, 4, 12]),
        memory_gib=st.sampled_from([1, 7, 20]),
        lasts_s=st.sampled_from([1, 20, 70, 300]),
        is_gang=st.booleans(),
        on_demand=st.booleans(),
    ),
    st.builds(Wait, st.sampled_from([1, 7, 31, 59, 61, 130])),
    st.builds(Interrupt),
    st.builds(Refuse),
)
SPECS = st.builds(
    lambda strategy, minimum, delay, start: (
        managed(
            *TYPES,
            maxvCpus=MAX_VCPUS,
            minvCpus=minimum,
            allocationStrategy=strategy,
            capacityTypes=["on-demand"] if "ORDERED" in strategy else ["spot", "on-demand"],
            scalingPolicy={"minScaleDownDelayMinutes": delay},
        ),
        start,
    ),
    strategy=st.sampled_from([one.value for one in AllocationStrategy]),
    minimum=st.sampled_from([0, 3, 8]),
    delay=st.sampled_from([0, 1, 2]),
    start=st.sampled_from([0, 5, 90]),
)


@dataclass
class World:
    """An environment's nodes and Pods, and what the operator keeps from one plan to the next."""

    spec: ComputeEnvironmentSpec
    start_s: int
    now: datetime = NOON
    nodes: dict[str, Node] = field(default_factory=dict)
    pods: list[Pod] = field(default_factory=list)
    histories: dict[PoolKey, History] = field(default_factory=dict)
    gone_at: dict[str, datetime] = field(default_factory=dict)
    orders: list[tuple[PoolKey, datetime]] = field(default_factory=list)
    """Machines that are on their way, and when each is a node."""
    plan: CapacityPlan | None = None
    raised_at: dict[PoolKey, datetime] = field(default_factory=dict)
    number: int = 0
    gangs: int = 0
    changes: int = 0

    @property
    def delay(self) -> timedelta:
        assert self.spec.scaling_policy is not None
        return timedelta(minutes=self.spec.scaling_policy.min_scale_down_delay_minutes)

    def tell(self, step: Submit | Wait | Interrupt | Refuse) -> None:
        match step:
            case Submit():
                self.submit(step)
            case Wait(seconds):
                for _ in range(seconds):
                    self.tick()
                return
            case Interrupt():
                self.interrupt()
            case Refuse():
                self.refuse()
        self.tick()

    def submit(self, step: Submit) -> None:
        """Dispatch places no more than maxvCpus; what is too large for all is not placed at all."""
        held = sum(one.asks.amounts.milli_cpu for one in self.pods)
        fits = max(0, MAX_VCPUS * 1000 - held) // (step.vcpus * 1000)
        count = min(step.count, fits)
        if step.is_gang and count < step.count:
            return
        gang = None
        if step.is_gang:
            self.gangs += 1
            gang = f"gang-{self.gangs}"
        asks = ask(1, step.vcpus, step.memory_gib, gang=gang, on_demand=step.on_demand)
        self.pods += [Pod(asks, step.lasts_s) for _ in range(count)]

    def interrupt(self) -> None:
        names = sorted(name for name, one in self.nodes.items() if not one.notice)
        if names:
            one = self.nodes[names[0]]
            self.nodes[one.name] = replace(one, notice="spot")
            self.gone_at[one.name] = self.now + timedelta(seconds=30)
            self.forgive(one.pool)

    def refuse(self) -> None:
        for pool in list(self.plan.to_come if self.plan else ())[:1]:
            self.histories[pool] = History().refused(self.now, "none left")
            self.forgive(pool)

    def forgive(self, pool: PoolKey | None) -> None:
        """What is taken away from outside is not the plan's going up and down."""
        if pool is not None:
            self.raised_at.pop(pool, None)

    def tick(self) -> None:
        self.now += timedelta(seconds=1)
        self.pods = [one for one in self.pods if one.ends_at is None or one.ends_at > self.now]
        self.lose()
        self.arrive()
        self.start()
        self.bind()
        self.decide()

    def arrive(self) -> None:
        due = [one for one in self.orders if one[1] <= self.now]
        for one in due:
            self.orders.remove(one)
            self.create(one[0])

    def lose(self) -> None:
        for name in [name for name, when in self.gone_at.items() if when <= self.now]:
            del self.gone_at[name]
            if self.nodes.pop(name, None):
                self.pods = [one for one in self.pods if one.on != name]

    def start(self) -> None:
        for name, one in self.nodes.items():
            if not one.ready and self.now >= one.created_at + timedelta(seconds=self.start_s):
                self.nodes[name] = replace(one, ready=True, ready_at=self.now, unready_since=None)

    def load(self) -> dict[str, Space]:
        found: dict[str, Space] = {}
        for one in self.pods:
            if one.on is not None:
                found[one.on] = found.get(one.on, Space()) + Space(one.asks.amounts, 1)
        return found

    def bind(self) -> None:
        load = self.load()
        for pod in self.pods:
            if pod.on is not None:
                continue
            for name in sorted(self.nodes):
                there = self.nodes[name]
                left = there.offers - load.get(name, Space())
                if (
                    there.takes_pods
                    and pod.asks.suits(there.pool)
                    and pod.asks.amounts.fits_into(left.amounts)
                ):
                    pod.on, pod.ends_at = name, self.now + timedelta(seconds=pod.lasts_s)
                    load[name] = load.get(name, Space()) + Space(pod.asks.amounts, 1)
                    break

    def decide(self) -> None:
        """Plan once, check what was planned, and do it."""
        before = self.plan
        waiting = Counter(one.asks for one in self.pods if one.on is None)
        to_come = Counter(pool for pool, _ in self.orders)
        view = View(
            spec=self.spec,
            nodes=[self.nodes[name] for name in sorted(self.nodes)],
            now=self.now,
            load=self.load(),
            demand=[replace(asks, count=count) for asks, count in waiting.items()],
            to_come=to_come,
            idle_since=before.idle_since if before else {},
            surplus=before.surplus if before else {},
            histories=self.histories,
        )
        self.plan = plan_capacity(view)
        self.check(view, before, self.plan)
        self.carry_out(self.plan)

    def carry_out(self, plan: CapacityPlan) -> None:
        self.changes += len(plan.cordon) + len(plan.uncordon) + len(plan.remove)
        for one in plan.cordon:
            self.nodes[one.name] = replace(one, cordoned=True, draining_since=self.now)
        for one in plan.uncordon:
            self.nodes[one.name] = replace(one, cordoned=False, draining_since=None)
        for one in plan.remove:
            del self.nodes[one.name]
        for pool in {*plan.to_come, *(one for one, _ in self.orders)}:
            mine = [one for one in self.orders if one[0] == pool]
            wanted = plan.to_come.get(pool, 0)
            for one in mine[wanted:]:
                self.orders.remove(one)
            due = self.now + timedelta(seconds=self.start_s)
            self.orders += [(pool, due)] * (wanted - len(mine))

    def create(self, pool: PoolKey) -> None:
        self.changes += 1
        self.number += 1
        name = f"n{self.number:04}"
        self.nodes[name] = node(
            name,
            of=pool,
            offers=SIZES[pool.instance_type],
            ready=False,
            ready_at=None,
            created_at=self.now,
            unready_since=self.now,
        )

    def check(self, view: View, before: CapacityPlan | None, plan: CapacityPlan) -> None:
        busy = view.load
        assert not [one for one in plan.remove if one.name in busy]
        assert not [one for one in plan.cordon if one.name in busy and not one.notice]
        for one in (*plan.cordon, *plan.remove):
            settled = SETTLE if one.draining_since else timedelta()
            assert one.notice or self.now >= one.created_at + self.delay + settled
        for pool in {*plan.desired, *(before.desired if before else ())}:
            now = plan.desired.get(pool, 0)
            was = before.desired.get(pool, 0) if before else 0
            if now > was:
                self.raised_at[pool] = self.now
            elif now < was and pool in self.raised_at:
                assert self.now >= self.raised_at[pool] + self.delay, pool
        self.check_limits(plan)

    def check_limits(self, plan: CapacityPlan) -> None:
        sizes = {one.key: one.vcpus for one in pools_of(self.spec)}
        existing = sum(sizes[one.pool] for one in self.nodes.values() if one.pool)
        ordered = sum(sizes[pool] * count for pool, count in plan.to_come.items())
        over = max(sizes.values()) - 1 if can_overshoot(strategy_of(self.spec)) else 0
        assert existing + ordered <= MAX_VCPUS + over
        assert plan.vcpus == sum(sizes[pool] * count for pool, count in plan.desired.items())
        is_held_up = plan.unmet or any(one.refused_until for one in self.histories.values())
        room_kept = existing + ordered < MAX_VCPUS or can_overshoot(strategy_of(self.spec))
        if not is_held_up and room_kept and not any(one.notice for one in self.nodes.values()):
            assert plan.vcpus >= self.spec.min_vcpus


@settings(max_examples=EXAMPLES or 100, derandomize=not EXAMPLES)
@given(told=SPECS, story=st.lists(STEPS, max_size=12))
def test_no_story_makes_a_pool_flap(
    told: tuple[ComputeEnvironmentSpec, int], story: list[Submit | Wait | Interrupt | Refuse]
) -> None:
    world = World(*told)
    for step in story:
        world.tell(step)


@settings(max_examples=EXAMPLES or 40, derandomize=not EXAMPLES)
@given(told=SPECS, story=st.lists(STEPS, max_size=8))
def test_demand_that_stays_comes_to_a_rest(
    told: tuple[ComputeEnvironmentSpec, int], story: list[Submit | Wait | Interrupt | Refuse]
) -> None:
    """Nothing ends any more: after a while no node comes or goes, and nothing is ordered."""
    world = World(*told)
    for step in story:
        world.tell(step)
    for pod in world.pods:
        pod.lasts_s = 1_000_000
        pod.ends_at = None
    world.tell(Wait(SETTLED_S + ROUNDS * world.start_s))
    changes = world.changes
    world.tell(Wait(QUIET_S))

    assert world.changes == changes
    assert world.plan is not None
    assert dict(world.plan.to_come) == {}
