"""What a simulated cluster cost: reckoned from its Nodes and Pods, not from what the operator says.

By the same rules, and in the same whole numbers, as the operator's statuses.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batch_operator.api.compute_environment import ComputeEnvironmentSpec
from batch_operator.api.cost import MICROS, micros
from batch_operator.cluster import decoding
from batch_operator.cluster.client import (
    BATCH_JOBS,
    COMPUTE_ENVIRONMENTS,
    CONFIG_MAPS,
    NODES,
    PODS,
)
from batch_operator.lifecycle.attempt import Phase
from batch_operator.provisioning.catalogue import listed_prices
from batch_operator.provisioning.prices import Prices, cost_of, priced
from batch_operator.scheduling.catalogues import catalogue_of
from batch_operator.scheduling.costs import NOTHING, Tally
from batch_operator.simulator.checkers.checker import attempt_pod

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.provisioning.nodes import Node
    from batch_operator.simulator.api_server import Write
    from batch_operator.simulator.virtual_time import Calendar

    Json = dict[str, Any]


@dataclass(slots=True)
class _Life:
    """A node from its creation to its end, in virtual seconds."""

    node: Node
    since_s: float
    until_s: float | None = None


@dataclass(slots=True)
class _Stay:
    """A Pod, as it was last seen, and the node that it was bound to."""

    attempt: PodAttempt
    life: _Life | None = None
    gone_s: float | None = None

    @property
    def gang(self) -> tuple[str, int]:
        return self.attempt.job_uid, self.attempt.number


@dataclass(frozen=True, slots=True)
class Item:
    """What one Pod cost.

    `is_certain`: it ended by itself, on a node that was still there, or ran until its main node's
    end stopped it. A Pod whose containers have not run never says when it ended; what a type cost
    that is listed no more, an operator that starts again does not know; and of a node of a type
    that was never listed nobody knows that, either, once it is gone.
    """

    job_uid: str
    environment: str
    tally: Tally
    is_certain: bool


class Bill:
    """Sees every write, and can be asked at any time what all of it cost."""

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._lives: dict[str, _Life] = {}
        self._stays: dict[str, _Stay] = {}
        self._named: dict[str, _Life] = {}
        self._specs: dict[str, list[ComputeEnvironmentSpec]] = {}
        """By environment: as it was written, the latest last."""
        self._config_maps: dict[tuple[str, str], Mapping[str, str]] = {}
        self._queues: dict[str, str] = {}
        self._before: dict[str, int] = {}
        """What jobs of a recorded cluster had cost before the simulation."""

    def see(self, write: Write) -> None:
        """Take one accepted write."""
        value, metadata = write.object, write.object["metadata"]
        if write.resource == NODES:
            self._see_node(write)
        elif write.resource is PODS and attempt_pod(value) is not None:
            self._see_pod(write)
        elif write.resource is COMPUTE_ENVIRONMENTS:
            spec = ComputeEnvironmentSpec.model_validate(value["spec"])
            specs = self._specs.setdefault(metadata["name"], [])
            if specs[-1:] != [spec]:
                specs.append(spec)
        elif write.resource is CONFIG_MAPS:
            self._config_maps[metadata["namespace"], metadata["name"]] = value.get("data") or {}
        elif write.resource is BATCH_JOBS:
            self._queues[metadata["uid"]] = value["spec"]["jobQueue"]
            if write.is_creation and (cost := value.get("status", {}).get("cost")):
                self._before[metadata["uid"]] = micros(cost["total"])

    def _see_node(self, write: Write) -> None:
        node = decoding.node(write.raw)
        life = self._lives.setdefault(node.uid, _Life(node, write.at_s))
        self._named[node.name] = life
        if write.is_removal:
            life.until_s = write.at_s

    def _see_pod(self, write: Write) -> None:
        try:
            attempt = decoding.attempt(write.raw)
        except (KeyError, ValueError):
            return  # it only looks like one of the operator's
        stay = self._stays.setdefault(attempt.pod_uid, _Stay(attempt))
        stay.attempt = attempt
        if stay.life is None and attempt.node_name is not None:
            stay.life = self._named.get(attempt.node_name)
        if write.is_removal and not attempt.phase.ended:
            stay.gone_s = write.at_s

    def items(self, at_s: float) -> list[Item]:
        """What each Pod that had a node of a known price cost until a time."""
        prices = self._prices()
        mains = {
            one.gang: one for one in self._stays.values() if one.attempt.node_group in {None, 0}
        }
        found: list[Item] = []
        for stay in self._stays.values():
            one, life = stay.attempt, stay.life
            if life is None or one.bound_at is None:
                continue
            known = prices.get(one.environment)
            rate = known.of_attempt(one.amounts, life.node.pool) if known else None
            if rate is None:
                if life.until_s is not None:
                    found.append(Item(one.job_uid, one.environment, NOTHING, is_certain=False))
                continue
            decides = stay if one.node_group is None else mains.get(stay.gang, stay)
            until_s = min(self._end_s(stay, at_s), self._end_s(decides, at_s))
            seconds = max(0, int(until_s) - int(self._calendar.seconds_at(one.bound_at)))
            cost, saved = cost_of(rate.price, seconds), cost_of(rate.saved, seconds)
            phase = decides.attempt.phase
            is_in_vain = decides.gone_s is not None or phase is Phase.FAILED
            found.append(
                Item(
                    one.job_uid,
                    one.environment,
                    Tally(cost, cost if is_in_vain else 0, saved),
                    phase.ended
                    and not decides.attempt.stopping
                    and one.started_at is not None
                    and self._is_listed(one.environment, life.node)
                    and (life.until_s is None or life.until_s > until_s),
                )
            )
        return found

    def _is_listed(self, environment: str, node: Node) -> bool:
        """Whether the environment says now what such a node costs; its Pods may be priced alone."""
        types = {one.name for one in self._specs[environment][-1].instance_types}
        return not types or (node.pool is not None and node.pool.instance_type in types)

    def _end_s(self, stay: _Stay, at_s: float) -> float:
        if stay.attempt.phase.ended and stay.attempt.stopped_at is not None:
            return self._calendar.seconds_at(stay.attempt.stopped_at)
        return at_s if stay.gone_s is None else stay.gone_s

    def by_job(self, items: Iterable[Item]) -> dict[str, int]:
        """What each job cost, before the simulation and in it."""
        found = dict(self._before)
        for item in items:
            found[item.job_uid] = found.get(item.job_uid, 0) + item.tally.total
        return found

    def nodes(self, until_s: float) -> dict[str, Tally | None]:
        """What the nodes of each environment cost; None unless all of their prices are known."""
        prices = self._prices()
        found: dict[str, Tally | None] = {
            name: NOTHING if prices[name] else None for name in sorted(self._specs)
        }
        for life in self._lives.values():
            name, pool = life.node.environment, life.node.pool
            before, known = found.get(name), prices.get(name)
            rate = known.of_node(pool) if known and pool else None
            if before is None or rate is None:
                found[name] = None
                continue
            end_s = until_s if life.until_s is None else min(life.until_s, until_s)
            seconds = max(0, int(end_s) - int(life.since_s))
            found[name] = before + Tally(
                cost_of(rate.price, seconds), 0, cost_of(rate.saved, seconds)
            )
        return {name: tally for name, tally in found.items() if name in self._specs}

    def _prices(self) -> dict[str, Prices]:
        found: dict[str, Prices] = {}
        for name, specs in self._specs.items():
            for spec in specs:
                found[name] = Prices(self._priced(spec), found.get(name))
        return found

    def _priced(self, spec: ComputeEnvironmentSpec) -> ComputeEnvironmentSpec:
        key = catalogue_of(spec)
        text = self._config_maps.get(key[:2], {}).get(key[2]) if key is not None else None
        return spec if text is None else priced(spec, listed_prices(text)[0])

    def summary(self, at_s: float, until_s: float) -> Json:
        """Environments and queues, for the report; nodes cost until `until_s`."""
        used: dict[str, Tally] = defaultdict(Tally)
        queues: dict[str, Tally] = defaultdict(Tally)
        for item in self.items(at_s):
            used[item.environment] += item.tally
            queues[self._queues.get(item.job_uid, "")] += item.tally
        nodes = self.nodes(until_s)
        return {
            "environments": {
                name: _environment(nodes[name], used[name])
                for name in sorted(nodes)
                if nodes[name] is not None or used[name].total
            },
            "queues": {
                name: {
                    "used": amount(tally.total),
                    "wasted": amount(tally.wasted),
                    "spotSavings": amount(tally.saved),
                }
                for name, tally in sorted(queues.items())
            },
        }


def _environment(nodes: Tally | None, used: Tally) -> Json:
    return {
        "nodes": None if nodes is None else amount(nodes.total),
        "used": amount(used.total),
        "idle": None if nodes is None else amount(max(0, nodes.total - used.total)),
        "wasted": amount(used.wasted),
        "spotSavings": amount(used.saved if nodes is None else nodes.saved),
    }


def amount(millionths: int) -> float:
    """Millionths as the number that they are."""
    return millionths / MICROS
