"""What attempts hold of an environment's nodes, what is left on these, and what is asked for."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from batch_operator.api.amounts import Amounts
from batch_operator.provisioning.packing import Place, demand_of
from batch_operator.provisioning.pools import Space

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.packing import Demand
    from batch_operator.provisioning.pools import PoolKey
    from batch_operator.scheduling.misfits import Misfit


def load_of(attempts: Iterable[PodAttempt]) -> dict[str, Space]:
    """What attempts hold, by node; summed up in numbers, for there may be 10,000 of them."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for one in attempts:
        if one.node_name is not None and not one.is_job:
            held = sums[one.node_name]
            held[0] += one.milli_cpu
            held[1] += one.memory
            held[2] += one.gpus
            held[3] += 1
    return {
        name: Space(Amounts(milli_cpu, memory, gpus), pods)
        for name, (milli_cpu, memory, gpus, pods) in sums.items()
    }


def places_of(
    nodes: Iterable[Node],
    daemons: Mapping[PoolKey | None, Space],
    load: Mapping[str, Space],
) -> list[Place]:
    """The nodes that take Pods, and what is left on them."""
    places: list[Place] = []
    for one in nodes:
        if one.takes_pods and not one.draining_since:
            taken = daemons.get(one.pool, Space()) + load.get(one.name, Space())
            places.append(Place(one.pool, 0, one.offers - taken, one))
    return places


def demands_of(attempts: Iterable[PodAttempt], misfits: Mapping[str, Misfit]) -> list[Demand]:
    """What attempts ask for that have no node yet, and nodes of gangs that are still to be made.

    Of a gang's Pods those that have ended were made, too. Of a gang that is only asked for it is
    not known yet what each of its Pods asks for.
    """
    refused_by = {uid: frozenset(one.refused_by) for uid, one in misfits.items()}
    counts: Counter[Demand] = Counter()
    made: Counter[tuple[str, int, int | None]] = Counter()
    stand_ins: list[PodAttempt] = []

    def ask(one: PodAttempt, count: int) -> None:
        counts[replace(demand_of(one), refused_by=refused_by.get(one.job_uid, frozenset()))] += (
            count
        )

    for one in attempts:
        if one.is_job:
            stand_ins += [] if one.is_on_its_way else [one]
            continue
        made[one.job_uid, one.number, one.node_group] += 1
        if one.node_name is None and not one.phase.ended:
            ask(one, 1)
    for one in stand_ins:
        missing = one.members - made[one.job_uid, one.number, one.node_group]
        if missing > 0:
            ask(one, missing)
    return [replace(one, count=count) for one, count in counts.items()]
