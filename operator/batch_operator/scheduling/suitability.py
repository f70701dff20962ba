"""Which compute environments could ever run a start: those with nodes for what its Pods ask.

This is judged by what a node of each pool gives to Pods, not by which nodes are there: one that
scales from zero suits what it will have nodes for. (AWS Batch calls such jobs too large while an
environment scales up.) A node gives what its instance type declares until it is known to give less,
for what nodes of the pool had and for DaemonSets: a plan orders none for what fits only on paper.
What is not declared suits everybody: an UNMANAGED environment's nodes, or what a provisioner
without instance types brings.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from batch_operator.api import meta
from batch_operator.api.compute_environment import LABEL_INSTANCE_TYPE, CapacityType
from batch_operator.api.quantity import memory_bytes, memory_text
from batch_operator.api.sentences import listed
from batch_operator.lifecycle.plan import Invalid, requested
from batch_operator.lifecycle.retry import with_grown_memory
from batch_operator.provisioning.packing import Demand
from batch_operator.provisioning.pools import capacity_types, is_managed, pools_of
from batch_operator.provisioning.serverless import LARGEST, rounded, serverless_of
from batch_operator.scheduling.environments import vcpus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from typing import Any

    from batch_operator.api.amounts import Amounts
    from batch_operator.api.compute_environment import ComputeEnvironmentSpec
    from batch_operator.api.serverless import ServerlessProvisioner
    from batch_operator.lifecycle.plan import Plan
    from batch_operator.provisioning.pools import Pool, PoolKey
    from batch_operator.scheduling.snapshot import Environment

    Rooms = Mapping[PoolKey, AbstractSet[Amounts]]
    """By pool: what its nodes give to Pods of jobs, those that are there and those to come."""

ANSWERS_MAX = 4096
"""As many are remembered of one environment: what is asked for is up to those who submit."""
Needs = tuple[Demand, ...]
"""What the Pods of one start ask for: one entry for each kind, in order."""


def needs_of(plan: Plan, *, on_demand: bool = False, memory_factor: float = 1.0) -> Needs:
    """What a start of a job needs, after losses of hosts and of memory that change it."""
    templates = [one.template for one in plan.groups] or [plan.template]
    found = []
    for template, (amounts, count) in zip(templates, plan.pods, strict=True):
        grown = _grown(plan, template, amounts, memory_factor)
        found.append(need_of(template, grown, count, on_demand=on_demand))
    if plan.groups:
        found = [replace(one, gang=plan.definition) for one in found]
    return tuple(dict.fromkeys(found))


def _grown(plan: Plan, template: Mapping[str, Any], amounts: Amounts, factor: float) -> Amounts:
    rule = plan.growth
    if rule is None or factor <= 1:
        return amounts
    found = requested(with_grown_memory(template, factor, rule))
    assert not isinstance(found, Invalid)  # it could be read before
    return found


def need_of(
    template: Mapping[str, Any], amounts: Amounts, count: int, *, on_demand: bool
) -> Demand:
    """What Pods of a template need that ask for these amounts."""
    selector = template["spec"].get("nodeSelector") or {}
    selected = CapacityType.ON_DEMAND if on_demand else selector.get(meta.LABEL_CAPACITY_TYPE)
    return Demand(
        amounts,
        count,
        on_demand=selected == CapacityType.ON_DEMAND,
        instance_type=selector.get(LABEL_INSTANCE_TYPE),
        spot=selected == CapacityType.SPOT,
    )


@dataclass(slots=True)
class _Known:
    """Of one environment, as it is written now."""

    uid: str
    spec: ComputeEnvironmentSpec
    pools: Sequence[Pool]
    rooms: Rooms
    answers: dict[Needs, bool] = field(default_factory=dict)

    def rooms_of(self, pool: Pool) -> AbstractSet[Amounts]:
        return self.rooms.get(pool.key) or {pool.offers.amounts}

    def holding(self, need: Demand) -> list[Pool]:
        return [
            one
            for one in self.pools
            if need.suits(one.key) and _fits(need.amounts, self.rooms_of(one))
        ]


class Suitability:
    """Answers, and remembers them for as long as nothing changes that they hang on."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def pools(self, environment: Environment) -> Sequence[Pool]:
        """All that the environment may have nodes of."""
        return self._state(environment).pools

    def holding(self, environment: Environment, need: Demand) -> list[Pool]:
        """The pools of it that such a Pod may use and whose nodes are large enough for it."""
        return self._state(environment).holding(need)

    def rooms(self, environment: Environment, pool: Pool) -> AbstractSet[Amounts]:
        """What nodes of a pool give to Pods of jobs, as far as is known; one may give more."""
        return self._state(environment).rooms_of(pool)

    def most_memory(self, environment: Environment, need: Demand) -> int | None:
        """The most that a node which is large enough for a Pod gives to it; None: it is not known.

        Where none is large enough it is what the Pod asks for.
        """
        spec = environment.spec
        if (section := serverless_of(spec)) is not None:
            return LARGEST.memory - memory_bytes(section.memory_overhead)
        if not is_managed(spec) or not spec.instance_types:
            return None
        known = self._state(environment)
        rooms = (room for pool in known.holding(need) for room in known.rooms_of(pool))
        large = (room.memory for room in rooms if need.amounts.fits_into(room))
        return max(large, default=need.amounts.memory)

    def learn(self, environment: Environment, rooms: Rooms) -> bool:
        """Note what nodes of each pool give to Pods of jobs; whether an answer is another now."""
        known = self._state(environment)
        if known.rooms == rooms:
            return False
        known.rooms, before = rooms, known.answers
        known.answers = {needs: _suits(environment, known, needs) for needs in before}
        return known.answers != before

    def _state(self, environment: Environment) -> _Known:
        known, spec = self._known.get(environment.name), environment.spec
        is_same = known is not None and known.uid == environment.uid
        if known is None or not is_same or (known.spec is not spec and known.spec != spec):
            # Of one generation there may be several: with other prices of a catalogue.
            rooms = known.rooms if known is not None and is_same else {}
            known = _Known(environment.uid, spec, pools_of(spec), rooms)
            self._known[environment.name] = known
        known.spec = spec
        return known

    def __call__(self, environment: Environment, needs: Needs) -> bool:
        if not is_managed(environment.spec):
            return True
        known = self._state(environment)
        if needs not in known.answers:
            if len(known.answers) >= ANSWERS_MAX:
                known.answers.clear()
            known.answers[needs] = _suits(environment, known, needs)
        return known.answers[needs]


def _fits(amounts: Amounts, rooms: AbstractSet[Amounts]) -> bool:
    return any(amounts.fits_into(one) for one in rooms)


def _suits(environment: Environment, known: _Known, needs: Needs) -> bool:
    spec = environment.spec
    section = serverless_of(spec)
    if section is not None and not _has_sizes(section, needs):
        return False
    if not spec.instance_types:
        wanted = {kind for one in needs if (kind := _capacity_type(one)) is not None}
        return wanted <= {*capacity_types(spec)}
    return all(known.holding(one) for one in needs)


def _capacity_type(need: Demand) -> CapacityType | None:
    """The only capacity type that it goes to."""
    if need.on_demand:
        return CapacityType.ON_DEMAND
    return CapacityType.SPOT if need.spot else None


def _has_sizes(section: ServerlessProvisioner, needs: Needs) -> bool:
    """Whether it is one Pod, with a size for it. AWS: no multi-node job on Fargate."""
    return all(
        one.gang is None and one.instance_type is None and rounded(one.amounts, section) is not None
        for one in needs
    )


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A pool that might have been large enough."""

    environment: Environment
    pool: Pool
    rooms: AbstractSet[Amounts]

    @property
    def room(self) -> Amounts:
        """The most that a node of it gives to jobs."""
        return max(self.rooms)

    @property
    def sentence(self) -> str:
        if self.room == self.pool.offers.amounts:
            return f"has {_text(self.room)} for jobs"
        return f"leaves {_text(self.room)} for jobs beside DaemonSets and what its nodes keep"


def why_unsuited(environments: Sequence[Environment], needs: Needs, suits: Suitability) -> str:
    """A sentence about what no node of these environments has, and what to write instead."""
    pools = [
        _Candidate(one, pool, suits.rooms(one, pool))
        for one in environments
        for pool in suits.pools(one)
    ]
    names = listed(one.name for one in environments)
    sections = [one for one in (serverless_of(each.spec) for each in environments) if one]
    if not pools and any(not _has_sizes(one, needs) for one in sections):
        return _size_problem(needs, names)
    for need in needs:
        large = [one for one in pools if _fits(need.amounts, one.rooms)]
        if large and not any(need.suits(one.pool.key) for one in large):
            return _kind_problem(need, names)
        if pools and not large:
            largest = max(pools, key=lambda one: _size(need.amounts, one))
            return (
                f"a Pod of it asks for {_text(need.amounts)}, and the largest instance type, "
                f"{largest.pool.key.instance_type} of ComputeEnvironment "
                f"{largest.environment.name}, {largest.sentence}: request less, or add a larger "
                f"one to its spec.instanceTypes"
            )
        if not pools and _capacity_type(need):
            return _kind_problem(need, names)
    return (
        f"no single one of the compute environments ({names}) has nodes for all of its Pods: give "
        f"one of them the instance types for that"
    )


def _size_problem(needs: Needs, names: str) -> str:
    other = "add an environment with nodes to the queue"
    if needs[0].gang is not None:
        return f"a multi-node job cannot run where there are no nodes ({names}): {other}"
    if needs[0].instance_type is not None:
        return _kind_problem(needs[0], names)
    return (
        f"its Pod asks for {_text(needs[0].amounts)}, and the largest size of serverless "
        f"environments ({names}) is {_text(LARGEST)}, the overhead included: request less, or "
        f"{other}"
    )


def _kind_problem(need: Demand, names: str) -> str:
    kind = _capacity_type(need)
    if need.instance_type is not None:
        return (
            f"it selects nodes of instance type {need.instance_type}, and none of its compute "
            f"environments ({names}) has that{f' {kind}' if kind else ''}: add it to "
            f"spec.instanceTypes of one, or take it out of the Pod's nodeSelector"
        )
    return (
        f"it goes to {kind} nodes only, and its compute environments ({names}) have none that "
        f"are large enough: add {kind} to spec.capacityTypes of one, or another environment to "
        f"the queue"
    )


def _size(amounts: Amounts, one: _Candidate) -> tuple[bool, bool, int, int, int, PoolKey]:
    """How near a pool comes: one with GPUs where these are asked for, then by CPU and memory."""
    offers = one.room
    wants_gpus = amounts.gpus > 0
    return (
        wants_gpus and offers.gpus >= amounts.gpus,
        amounts.milli_cpu <= offers.milli_cpu,
        offers.gpus if wants_gpus else 0,
        offers.milli_cpu,
        offers.memory,
        one.pool.key,
    )


def _text(amounts: Amounts) -> str:
    words = [f"{vcpus(amounts.milli_cpu)} vCPUs"]
    if amounts.memory:
        words.append(f"{_memory(amounts.memory)} of memory")
    if amounts.gpus:
        words.append(f"{amounts.gpus} GPUs")
    return ", ".join(words)


def _memory(count: int) -> str:
    whole, rest = divmod(count, 2**30)
    return memory_text(count) if rest else f"{whole}Gi"
