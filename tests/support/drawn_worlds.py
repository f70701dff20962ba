"""What a drawn scenario has before any job: environments, queues, policies, resources, definitions.

In a *steady* world nothing hangs on when something happens: no room is lost or taken back, no limit
in time is near what runs, and no Pod can move on to another environment. Whatever goes wrong, its
jobs must end as they do when nothing does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from support.play import written

if TYPE_CHECKING:
    from random import Random  # noqa: TID251  # seeded by whoever draws

    Json = dict[str, Any]

NAMESPACES = ("default", "other")
TYPES: tuple[Json, ...] = (
    {"name": "small", "vcpus": 2, "memory": "8Gi", "pricePerHour": 0.2, "spotPricePerHour": 0.06},
    {"name": "large", "vcpus": 4, "memory": "16Gi", "pricePerHour": 0.4, "spotPricePerHour": 0.2},
    {"name": "lean", "vcpus": 4, "memory": "2Gi", "pricePerHour": 0.3},
    {"name": "huge", "vcpus": 8, "memory": "32Gi"},
)
SHARES = ("red", "blue", "blue-1", "green.2")
_STRATEGIES = {
    ("on-demand",): ("BEST_FIT", "BEST_FIT_PROGRESSIVE", "BEST_FIT_PROGRESSIVE_ORDERED"),
    ("spot",): ("SPOT_CAPACITY_OPTIMIZED", "SPOT_PRICE_CAPACITY_OPTIMIZED", "BEST_FIT"),
    ("on-demand", "spot"): (
        "SPOT_CAPACITY_OPTIMIZED_PRIORITIZED",
        "SPOT_PRICE_CAPACITY_OPTIMIZED",
        "BEST_FIT_PROGRESSIVE",
    ),
}
_LIMITED = (
    ("RUNNABLE", "*", "CANCEL"),
    ("RUNNABLE", "*", "NEXT_COMPUTE_ENVIRONMENT"),
    ("RUNNABLE", "Unschedulable", "NEXT_COMPUTE_ENVIRONMENT"),
    ("RUNNABLE", "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY", "CANCEL"),
    ("RUNNABLE", "BehindOthers", "NOTIFY"),
    ("RUNNABLE", "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT", "TERMINATE"),
    ("PENDING", "WaitingForDependencies", "CANCEL"),
    ("PENDING", "*", "TERMINATE"),
    ("SUBMITTED", "*", "CANCEL"),
    ("STARTING", "*", "NEXT_COMPUTE_ENVIRONMENT"),
    ("STARTING", "*", "TERMINATE"),
    ("RUNNING", "*", "NOTIFY"),
    ("RUNNING", "*", "TERMINATE"),
)
_RULES: tuple[Json, ...] = (
    {"onStatusReason": "Host EC2*", "action": "RETRY"},
    {"onReason": "OutOfMemory*", "action": "RETRY"},
    {"onReason": "CannotPull*", "action": "EXIT"},
    {"onExitCode": "1", "action": "EXIT"},
    {"onExitCode": "13*", "action": "RETRY"},
    {"onReason": "*", "action": "EXIT"},
)


@dataclass(slots=True)
class World:
    """Manifests by what they are, and what the Scenario says of nodes."""

    is_steady: bool
    environments: list[Json] = field(default_factory=list)
    policies: list[Json] = field(default_factory=list)
    queues: list[Json] = field(default_factory=list)
    resources: list[Json] = field(default_factory=list)
    definitions: list[Json] = field(default_factory=list)
    nodes: list[Json] = field(default_factory=list)
    pools: list[Json] = field(default_factory=list)

    @property
    def manifests(self) -> list[Json]:
        """In the order in which they are applied."""
        return [
            *self.environments,
            *self.policies,
            *self.resources,
            *self.queues,
            *self.definitions,
        ]

    def names(self, kind: str) -> list[str]:
        return [one["metadata"]["name"] for one in self.manifests if one["kind"] == kind]


def drawn_world(chance: Random, *, is_steady: bool) -> World:
    """Everything that jobs need, and some of what stands in their way."""
    world = World(is_steady)
    for number in range(chance.randint(1, 4)):
        _add_environment(chance, world, f"env-{number}")
    world.policies = [_policy(chance, f"fair-{n}", world) for n in range(chance.randint(0, 2))]
    world.resources = [_resource(chance, f"token-{n}", world) for n in range(chance.randint(0, 3))]
    world.queues = [_queue(chance, f"queue-{n}", world) for n in range(chance.randint(1, 4))]
    for number in range(chance.randint(2, 5)):
        add_definition(chance, world, f"work-{number}", _container_job(chance, world))
    for number in range(chance.randint(0, 2)):
        add_definition(chance, world, f"gang-{number}", _multi_node(chance, world))
    return world


def maybe(chance: Random, share: float, **fields: Any) -> Json:
    """These fields, in so large a part of all cases."""
    return fields if chance.random() < share else {}


# Environments


def _add_environment(chance: Random, world: World, name: str) -> None:
    draw = chance.choices((_unmanaged, _managed, _serverless), (5, 5, 1))[0]
    spec = draw(chance, world, name)
    spec |= maybe(chance, 0.0 if world.is_steady else 0.1, state="DISABLED")
    world.environments.append(written("ComputeEnvironment", name, spec))


def _max_vcpus(chance: Random, world: World) -> int:
    return chance.choice((4, 6, 8, 12) if world.is_steady else (1, 2, 3, 4, 6, 8, 12))


def _unmanaged(chance: Random, world: World, name: str) -> Json:
    """Nodes that there are: as large as needed, or a few of one or two sizes."""
    if not world.is_steady and chance.random() < 0.6:
        for one in chance.sample(TYPES, chance.randint(1, 2)):
            group = {
                "computeEnvironment": name,
                "instanceType": one["name"],
                "count": chance.randint(1, 4),
                "vcpus": one["vcpus"],
                "memory": one["memory"],
                "capacityType": chance.choice(("spot", "on-demand")),
            }
            world.nodes.append(group)
    return {
        "type": "UNMANAGED",
        "maxvCpus": _max_vcpus(chance, world),
        **maybe(chance, 0.5, instanceTypes=list(TYPES)),
    }


def _managed(chance: Random, world: World, name: str) -> Json:
    """Nodes that come and go; of a steady world all that are asked for, and they stay."""
    capacity = ("on-demand",) if world.is_steady else chance.choice(list(_STRATEGIES))
    max_vcpus = max(2, _max_vcpus(chance, world))
    pool = _pool(chance, world, name)
    world.pools.append(pool)
    kept = 0.0 if "interruptionsPerHour" in pool else 0.3  # or nodes would come and go for ever
    types = [TYPES[1]] if world.is_steady else chance.sample(TYPES, chance.randint(1, 3))
    rare = 0.0 if world.is_steady else 0.3
    return {
        "type": "MANAGED",
        "maxvCpus": max_vcpus,
        "instanceTypes": types,
        "capacityTypes": list(capacity),
        "provisioner": {"type": "kwok"},
        **maybe(chance, kept, minvCpus=chance.randint(1, max_vcpus)),
        **maybe(chance, 0.6, allocationStrategy=chance.choice(_STRATEGIES[capacity])),
        **maybe(chance, rare, bidPercentage=chance.choice((20, 40, 100))),
        **maybe(chance, 0.4, scalingPolicy={"minScaleDownDelayMinutes": chance.choice((0, 1, 3))}),
        **maybe(chance, rare, updatePolicy=_update_policy(chance)),
        **maybe(chance, rare, nodeOverhead={"cpu": "100m", "memory": "500Mi"}),
    }


def _update_policy(chance: Random) -> Json:
    return {
        "terminateJobsOnUpdate": chance.random() < 0.5,
        "jobExecutionTimeoutMinutes": chance.choice((1, 3, 30)),
    }


def _pool(chance: Random, world: World, name: str) -> Json:
    if world.is_steady:
        return {"computeEnvironment": name, "startUp": f"{chance.randint(1, 60)}s"}
    return {
        "computeEnvironment": name,
        "startUp": chance.choice(("1s", "20s", "40s", "2m", "9m")),
        **maybe(chance, 0.3, nodes=chance.randint(0, 3)),
        **maybe(
            chance,
            0.4,
            interruptionsPerHour=chance.choice((1, 6, 30)),
            notice=chance.choice(("0s", "30s", "2m")),
        ),
        **maybe(chance, 0.2, systemReserved={"cpu": "200m", "memory": "1Gi"}),
    }


def _serverless(chance: Random, world: World, name: str) -> Json:
    section: Json = {
        "nodeSelector": {"pool": name},
        **maybe(chance, 0.5, pricePerVcpuHour=0.04, pricePerGibHour=0.005),
    }
    return {
        "type": "MANAGED",
        "maxvCpus": _max_vcpus(chance, world),
        "provisioner": {"type": "serverless", "serverless": section},
    }


# Queues, and what they name


def _policy(chance: Random, name: str, world: World) -> Json:
    some = chance.sample(("red", "blue*", "green.2"), chance.randint(0, 3))
    rows = [{"shareIdentifier": one, "weightFactor": chance.choice((0.5, 1, 3))} for one in some]
    spec = {
        "shareDecaySeconds": chance.choice((0, 60, 3600)),
        "computeReservation": chance.choice((0, 0, 30) if world.is_steady else (0, 30, 50, 99)),
        "shareDistribution": rows,
    }
    return written("SchedulingPolicy", name, {"fairsharePolicy": spec})


def _resource(chance: Random, name: str, world: World) -> Json:
    """Units; in a steady world they come back, and are enough for the largest job."""
    if world.is_steady:
        return written("ConsumableResource", name, {"totalQuantity": chance.randint(8, 10)})
    kind = chance.choice(("REPLENISHABLE", "NON_REPLENISHABLE"))
    quantity = chance.randint(1, 9)
    return written("ConsumableResource", name, {"totalQuantity": quantity, "resourceType": kind})


def _queue(chance: Random, name: str, world: World) -> Json:
    known = world.names("ComputeEnvironment")
    rare, most = (0.0, 1) if world.is_steady else (1.0, len(known))
    order = [
        {
            "order": number,
            "computeEnvironment": one,
            **maybe(chance, 0.3 * rare, maxWaitSeconds=chance.choice((10, 60, 300))),
        }
        for number, one in enumerate(chance.sample(known, chance.randint(1, most)))
    ]
    if chance.random() < 0.1 * rare:
        order.append({"order": 9, "computeEnvironment": "nowhere"})
    policies = world.names("SchedulingPolicy")
    if chance.random() < 0.07 * rare:
        policies = ["lost"]
    spec = {
        "priority": chance.choice((0, 1, 1, 5, 10)),
        "computeEnvironmentOrder": order,
        "backfill": chance.random() < 0.4,
        **(maybe(chance, 0.5, schedulingPolicy=chance.choice(policies)) if policies else {}),
        **maybe(
            chance,
            0.5 * rare,
            preemption={"enabled": True, "minRunSeconds": chance.choice((0, 10, 60))},
        ),
        **maybe(chance, 0.4 * rare, jobStateTimeLimitActions=_limits(chance)),
        **maybe(chance, 0.1 * rare, allowedNamespaces={"names": [NAMESPACES[0]]}),
        **maybe(chance, 0.05 * rare, state="DISABLED"),
        **maybe(chance, 0.15 * rare, budgets=[_budget(chance)]),
    }
    return written("JobQueue", name, spec)


def _limits(chance: Random) -> list[Json]:
    return [
        {
            "state": state,
            "reason": reason,
            "action": action,
            "maxTimeSeconds": chance.choice((60, 120, 600)),
        }
        for state, reason, action in chance.sample(_LIMITED, chance.randint(1, 4))
    ]


def _budget(chance: Random) -> Json:
    return {
        "name": "little",
        "amount": chance.choice((0, 0.001, 0.01)),
        "window": chance.choice(("DAY", "MONTH")),
        "action": chance.choice(("NOTIFY", "SPOT_ONLY", "HOLD")),
    }


# Definitions


def add_definition(chance: Random, world: World, name: str, spec: Json) -> None:
    """In one namespace, or in both."""
    for namespace in NAMESPACES[: chance.choice((1, 2, 2))]:
        made = written("JobDefinition", name, spec)
        world.definitions.append({**made, "metadata": {"name": name, "namespace": namespace}})


def _container_job(chance: Random, world: World) -> Json:
    rare = 0.0 if world.is_steady else 1.0
    return {
        "podTemplate": pod_template(chance, world),
        **_common(chance, world),
        **maybe(chance, 0.03 * rare, state="INACTIVE"),
    }


def pod_template(chance: Random, world: World, largest: int = 3) -> Json:
    """One container or two, now and then behind an init container that asks for more."""
    sizes = [size for size in ("250m", "500m", "1", "1", "2", "3") if milli(size) <= largest * 1000]
    if world.is_steady:
        sizes = ["250m", "500m", "1", "1"]
    names = ["main", *(["side"] if chance.random() < 0.15 else [])]
    containers = [
        {
            "name": name,
            "image": "busybox:1",
            "command": ["work", "Ref::mode"],
            "resources": {
                "requests": {
                    "cpu": chance.choice(sizes) if name == "main" else "250m",
                    **maybe(chance, 0.6, memory=chance.choice(("256Mi", "1Gi", "3Gi"))),
                }
            },
        }
        for name in names
    ]
    first = {"name": "first", "image": "busybox:1", "resources": {"requests": {"cpu": "1500m"}}}
    return {"spec": {"containers": containers, **maybe(chance, 0.1, initContainers=[first])}}


def milli(cpu: str) -> int:
    return int(cpu[:-1]) if cpu.endswith("m") else int(cpu) * 1000


def _common(chance: Random, world: World) -> Json:
    return {
        "parameters": {"mode": "fast"},
        **maybe(chance, 0.7, retryStrategy=retry_strategy(chance)),
        **maybe(chance, 0.2, timeout={"attemptDurationSeconds": 60}),
        **maybe(chance, 0.3, schedulingPriority=chance.randint(0, 20)),
        **maybe(chance, 0.25, consumableResources=consumables(chance, world)),
    }


def retry_strategy(chance: Random) -> Json:
    return {
        "attempts": chance.randint(1, 5),
        **maybe(chance, 0.4, evaluateOnExit=chance.sample(_RULES, chance.randint(1, 3))),
        **maybe(chance, 0.3, onOutOfMemory={"factor": 2, "maxMemory": "4Gi"}),
        **maybe(chance, 0.3, onHostLost={"moveToOnDemandAfter": chance.randint(1, 2)}),
    }


def consumables(chance: Random, world: World) -> list[Json]:
    names = world.names("ConsumableResource")
    if not world.is_steady and chance.random() < 0.1:
        names = [*names, "nothing"]
    most = 1 if world.is_steady else 2
    some = chance.sample(names, min(len(names), chance.randint(1, 2)))
    return [{"name": one, "quantity": chance.randint(1, most)} for one in some]


def _multi_node(chance: Random, world: World) -> Json:
    """Nodes alike, in two ranges, or with one that differs from the others."""
    nodes = chance.randint(2, 4)
    cut = chance.randint(1, nodes - 1)
    ranges = chance.choice((("0:",), (f"0:{cut - 1}", f"{cut}:"), ("0:", f"{cut}")))
    return {
        "type": "multinode",
        "nodeProperties": {
            "numNodes": nodes,
            "mainNode": chance.randint(0, nodes - 1),
            "nodeRangeProperties": [
                {"targetNodes": one, "podTemplate": pod_template(chance, world, largest=2)}
                for one in ranges
            ],
        },
        **_common(chance, world),
    }
