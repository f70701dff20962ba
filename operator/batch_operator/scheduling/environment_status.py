"""The status of a ComputeEnvironment: how it fares, what it holds, and its nodes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from batch_operator.api.compute_environment import (
    ComputeEnvironmentStatus,
    EnvironmentState,
    NodeCounts,
    VcpuUsage,
)
from batch_operator.provisioning.history import rows_of
from batch_operator.provisioning.pools import pools_of
from batch_operator.scheduling.conditions import conditions_of, urgency_of, write_status
from batch_operator.scheduling.environments import vcpus

if TYPE_CHECKING:
    from datetime import datetime

    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.mutations import WriteStatus
    from batch_operator.scheduling.snapshot import Environment


def environment_status(environment: Environment, memo: Memo, now: datetime) -> WriteStatus:
    """What is to be read of an environment."""
    spec = environment.spec
    known = memo.nodes.capacities.get(environment.name)
    plan = known.plan if known is not None else None
    used = VcpuUsage(
        used=vcpus(memo.used_milli[environment.name]),
        max=spec.max_vcpus,
        desired=plan.vcpus if plan is not None else None,
    )
    status = ComputeEnvironmentStatus(
        observed_generation=environment.generation,
        vcpus=used,
        **_nodes(environment, memo, now),
        conditions=conditions_of(
            None,
            "takes work" if spec.state is EnvironmentState.ENABLED else "DISABLED",
            environment.status.conditions,
            environment.generation,
            now,
        ),
    )
    return write_status(
        "ComputeEnvironment",
        environment,
        status,
        urgency_of(environment.status.conditions, status.conditions),
    )


def _nodes(environment: Environment, memo: Memo, now: datetime) -> dict[str, Any]:
    """What the status of a MANAGED environment says of its nodes and pools."""
    known = memo.nodes.capacities.get(environment.name)
    if known is None or known.plan is None:
        return {}
    desired = known.plan.desired
    nodes = list(known.known.values())
    ready = Counter(one.pool for one in nodes if one.pool is not None and one.takes_pods)
    order = [one.key for one in pools_of(environment.spec)]
    return {
        "nodes": NodeCounts(
            desired=sum(desired.values()),
            ready=sum(one.takes_pods for one in nodes),
            draining=sum(one.draining_since is not None for one in nodes),
        ),
        "pools": rows_of(known.histories, desired, ready, order, now),
    }
