"""The status of a ComputeEnvironment: how it fares, what it holds, its nodes and their faults.

AWS's word for how it fares comes with conditions that kstatus reads in the same way: INVALID is
Stalled, UPDATING and DELETING are Reconciling. What is wrong with single nodes, or for a while, is
told by the condition Degraded, and keeps nothing from working.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batch_operator.api.common import ConditionStatus
from batch_operator.api.compute_environment import (
    QUEUES_MAX,
    ComputeEnvironmentStatus,
    EnvironmentState,
    EnvironmentStatus,
    NodeCounts,
    VcpuUsage,
)
from batch_operator.api.sentences import listed
from batch_operator.provisioning.history import rows_of
from batch_operator.provisioning.node_faults import NodeFault, node_faults
from batch_operator.provisioning.pools import is_managed
from batch_operator.provisioning.turnover import outdated
from batch_operator.provisioning.validity import NONE_JOINED, contradiction, is_without_nodes
from batch_operator.scheduling.conditions import dated, urgency_of, write_status
from batch_operator.scheduling.environment_costs import environment_cost, unknown_prices
from batch_operator.scheduling.environments import is_invalid, vcpus

if TYPE_CHECKING:
    from batch_operator.scheduling.conditions import Wanted
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.mutations import WriteStatus
    from batch_operator.scheduling.nodes_memo import Capacity
    from batch_operator.scheduling.snapshot import Environment, Snapshot

HEALTHY = "ComputeEnvironment Healthy"
"""AWS's statusReason of an environment that is VALID."""
_TEXT_MAX = 1024


@dataclass(frozen=True, slots=True)
class Fare:
    """AWS's word for how an environment fares; why, as a CamelCase word and as a sentence."""

    status: EnvironmentStatus
    token: str
    sentence: str


def environment_status(environment: Environment, snapshot: Snapshot, memo: Memo) -> WriteStatus:
    """What is to be read of an environment."""
    spec = environment.spec
    known = memo.nodes.capacities.get(environment.name) if is_managed(spec) else None
    plan = known.plan if known is not None else None
    fare = _fare(environment, known, snapshot)
    wanted = [
        *_kstatus(fare),
        *_degraded(environment, known, snapshot, memo),
        *unknown_prices(environment, memo.ledger),
    ]
    before = environment.status.conditions
    status = ComputeEnvironmentStatus(
        observed_generation=environment.generation,
        status=fare.status,
        status_reason=HEALTHY
        if fare.status is EnvironmentStatus.VALID
        else fare.sentence[:_TEXT_MAX],
        vcpus=VcpuUsage(
            used=vcpus(memo.used_milli[environment.name]),
            max=spec.max_vcpus,
            desired=plan.vcpus if plan is not None else None,
        ),
        queues=_queues(environment, memo),
        update=known.update if known is not None else None,
        **_nodes(environment, known, snapshot, memo),
        cost=environment_cost(environment, memo.ledger, snapshot.now),
        conditions=dated(wanted, before, environment.generation, snapshot.now),
    )
    return write_status(
        "ComputeEnvironment", environment, status, urgency_of(before, status.conditions)
    )


def _fare(environment: Environment, known: Capacity | None, snapshot: Snapshot) -> Fare:
    """How it fares; what is worse hides what is not so bad."""
    if environment.deleting:
        return Fare(EnvironmentStatus.DELETING, "Deleting", _what_is_left(environment, snapshot))
    if problem := _invalidity(environment, known, snapshot):
        return Fare(EnvironmentStatus.INVALID, *problem)
    if known is not None and known.update is not None:
        old = len(outdated(environment.spec, snapshot.nodes.get(environment.name, {})))
        return Fare(
            EnvironmentStatus.UPDATING,
            "InfrastructureUpdate",
            f"{_count(old)} with the settings of before to be replaced",
        )
    is_enabled = environment.spec.state is EnvironmentState.ENABLED
    return Fare(EnvironmentStatus.VALID, "Ready", "takes work" if is_enabled else "DISABLED")


def _what_is_left(environment: Environment, snapshot: Snapshot) -> str:
    if strays := snapshot.stray_nodes.get(environment.name):
        return f"waits for somebody to delete or label node {min(strays)}: see condition Degraded"
    nodes = len(snapshot.nodes.get(environment.name, {}))
    sentence = f"takes nothing new; goes when its jobs have ended and {_count(nodes)} are removed"
    report = snapshot.reports.get(environment.name)
    if report is None or report.problem is None:
        return sentence
    return f"{sentence}; its provisioner cannot go on: {report.problem}"


def _invalidity(
    environment: Environment, known: Capacity | None, snapshot: Snapshot
) -> tuple[str, str] | None:
    """Why an environment cannot work, as a word and as a sentence; None if it can."""
    if sentence := contradiction(environment.spec):
        return "SpecContradictory", sentence
    if known is None:
        return None
    report = snapshot.reports.get(environment.name)
    if report is None and is_invalid(environment):
        # Found before a restart, and not yet tried again since.
        reason = environment.status.status_reason or ""
        ready = next((one for one in environment.status.conditions if one.type == "Ready"), None)
        return (ready.reason, reason) if ready is not None else None
    if report is not None and report.problem is not None and report.is_invalid:
        return "ProvisionerNotReady", report.problem
    if is_without_nodes(known.histories, snapshot.now):
        return "NoNodeJoined", NONE_JOINED
    return None


def _queues(environment: Environment, memo: Memo) -> list[str]:
    """The queues that name it, as many as a status holds."""
    return sorted(memo.nodes.queues_of.get(environment.name, ()))[:QUEUES_MAX]


def _kstatus(fare: Fare) -> list[Wanted]:
    """Ready, Stalled and Reconciling, as kstatus understands them."""
    text = fare.sentence[:_TEXT_MAX]
    match fare.status:
        case EnvironmentStatus.INVALID:
            stalled: Wanted = ("Stalled", ConditionStatus.TRUE, fare.token, text)
            return [("Ready", ConditionStatus.FALSE, fare.token, text), stalled]
        case EnvironmentStatus.UPDATING:
            # It takes work all the same.
            ready: Wanted = ("Ready", ConditionStatus.TRUE, "Ready", "takes work")
            return [ready, ("Reconciling", ConditionStatus.TRUE, fare.token, text)]
        case EnvironmentStatus.DELETING:
            gone: Wanted = ("Ready", ConditionStatus.FALSE, fare.token, text)
            return [gone, ("Reconciling", ConditionStatus.TRUE, fare.token, text)]
        case EnvironmentStatus.VALID:
            return [("Ready", ConditionStatus.TRUE, fare.token, text)]


def _degraded(
    environment: Environment, known: Capacity | None, snapshot: Snapshot, memo: Memo
) -> list[Wanted]:
    """What is wrong although the environment works: the worst by its word, all by sentences."""
    if known is None:
        return []
    faults = [
        *_reported(environment, snapshot),
        *_refused(environment, known, memo),
        *_not_updated(environment, known, snapshot),
        *node_faults(
            environment.name,
            snapshot.nodes.get(environment.name, {}).values(),
            snapshot.stray_nodes.get(environment.name, {}).values(),
            known.histories,
            snapshot.now,
        ),
    ]
    if not faults:
        return []
    text = "; ".join(one.message for one in faults)[:_TEXT_MAX]
    return [("Degraded", ConditionStatus.TRUE, faults[0].reason, text)]


def _reported(environment: Environment, snapshot: Snapshot) -> list[NodeFault]:
    """What the provisioner says is wrong with a part of the environment."""
    report = snapshot.reports.get(environment.name)
    if report is None or report.problem is None or report.is_invalid:
        return []
    return [NodeFault("ProvisionerProblem", report.problem)]


def _refused(environment: Environment, known: Capacity, memo: Memo) -> list[NodeFault]:
    """Nodes are asked for, and every pool has refused, and none has come since."""
    pools = [one.key for one in memo.nodes.suits.pools(environment)]
    messages = sorted({known.history(one).message for one in pools})
    is_short = known.plan is not None and bool(known.plan.unmet or known.plan.to_come)
    if not (is_short and messages and all(messages)):
        return []
    told = listed(messages, between="; ")
    return [NodeFault("CapacityRefused", f"every pool had no more nodes when last asked: {told}")]


def _not_updated(environment: Environment, known: Capacity, snapshot: Snapshot) -> list[NodeFault]:
    """AWS: with BEST_FIT there are no infrastructure updates."""
    old = outdated(environment.spec, snapshot.nodes.get(environment.name, {}))
    if known.update is not None or environment.deleting or not old:
        return []
    sentence = (
        f"BEST_FIT replaces no nodes: {_count(len(old))} with the settings of before stay; undo "
        f"the change, or make another environment"
    )
    return [NodeFault("UpdateNotSupported", sentence)]


def _nodes(
    environment: Environment, known: Capacity | None, snapshot: Snapshot, memo: Memo
) -> dict[str, Any]:
    """What the status of a MANAGED environment says of its nodes and pools."""
    if known is None or known.plan is None:
        return {}
    desired = known.plan.desired
    nodes = list(known.nodes.values())
    ready = Counter(one.pool for one in nodes if one.pool is not None and one.takes_pods)
    order = [one.key for one in memo.nodes.suits.pools(environment)]
    return {
        "nodes": NodeCounts(
            desired=sum(desired.values()),
            ready=sum(one.takes_pods for one in nodes),
            draining=sum(one.draining_since is not None for one in nodes),
        ),
        "pools": rows_of(known.histories, desired, ready, order, snapshot.now),
    }


def _count(nodes: int) -> str:
    return "1 node" if nodes == 1 else f"{nodes} nodes"
