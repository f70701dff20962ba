"""kube-scheduler: Pods onto nodes, by selector, taints and what is free; or a sentence why not.

Modelled are nodeSelector, taints of effect NoSchedule, requests of cpu and memory, the number of
Pods, and the default scoring's wish to spread (the node with the largest share of CPU left) or, if
a scenario has it so, to pack. Pods are taken in the order in which they were created or lost their
scheduling gates; one that fits nowhere stops no other.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from batch_operator.api.quantity import memory_bytes, milli_cpu
from batch_operator.cluster.client import NODES, PODS
from batch_operator.simulator.scenario import ScoringStrategy

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Mapping

    from batch_operator.simulator.api_server import ApiServer, Write

    Json = dict[str, Any]

DELAY_S = 0.02
"""From a change that may let a Pod be bound to the attempt to bind it."""
ACTOR = "kube-scheduler"


# The same few quantities are read over and over.
_milli_cpu = lru_cache(maxsize=1024)(milli_cpu)
_memory = lru_cache(maxsize=1024)(memory_bytes)


@dataclass(frozen=True, slots=True)
class Request:
    """What a Pod asks of a node."""

    milli_cpu: int
    memory: int


@dataclass(slots=True)
class _Node:
    labels: Mapping[str, str]
    taints: list[Json]
    is_open: bool
    """It is ready and not cordoned."""
    milli_cpu: int
    memory: int
    pods: int
    used: dict[str, Request] = field(default_factory=dict)
    used_milli_cpu: int = 0
    used_memory: int = 0

    def put(self, uid: str, request: Request) -> None:
        self.used[uid] = request
        self.used_milli_cpu += request.milli_cpu
        self.used_memory += request.memory

    def take(self, uid: str) -> None:
        if request := self.used.pop(uid, None):
            self.used_milli_cpu -= request.milli_cpu
            self.used_memory -= request.memory


def pod_request(spec: Mapping[str, Any]) -> Request:
    """The larger of all containers together and the largest init container, by resource."""
    together = [_container(one) for one in spec["containers"]]
    inits = [_container(one) for one in spec.get("initContainers", ())]
    sidecars = [
        _container(one)
        for one in spec.get("initContainers", ())
        if one.get("restartPolicy") == "Always"
    ]
    stay = [*together, *sidecars]
    return Request(
        max(sum(one.milli_cpu for one in stay), *(one.milli_cpu for one in inits), 0),
        max(sum(one.memory for one in stay), *(one.memory for one in inits), 0),
    )


def _container(container: Mapping[str, Any]) -> Request:
    resources = container.get("resources") or {}
    amounts = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return Request(_milli_cpu(amounts.get("cpu", 0)), _memory(amounts.get("memory", 0)))


class PodScheduler:
    """Binds Pods; says of those that it cannot bind why."""

    def __init__(
        self,
        server: ApiServer,
        loop: asyncio.AbstractEventLoop,
        strategy: ScoringStrategy = ScoringStrategy.LEAST_ALLOCATED,
    ) -> None:
        self._server = server
        self._loop = loop
        self._packs = strategy is ScoringStrategy.MOST_ALLOCATED
        self._nodes: dict[str, _Node] = {}
        self._waiting: dict[str, tuple[str, str]] = {}
        self._bound: dict[str, str] = {}
        self._is_due = False
        server.subscribe(self._see)

    def _see(self, write: Write) -> None:
        if write.resource == NODES:
            self._see_node(write)
        elif write.resource is PODS:
            self._see_pod(write)

    def _see_node(self, write: Write) -> None:
        name = write.object["metadata"]["name"]
        if write.is_removal:
            del self._nodes[name]
            return
        free = write.object["status"]["allocatable"]
        told = {
            "labels": write.object["metadata"].get("labels", {}),
            "taints": write.object["spec"].get("taints", []),
            "is_open": _is_open(write.object),
            "milli_cpu": _milli_cpu(free["cpu"]),
            "memory": _memory(free["memory"]),
            "pods": int(free["pods"]),
        }
        known = self._nodes.get(name)
        self._nodes[name] = replace(known, **told) if known is not None else _Node(**told)
        self._soon()

    def _see_pod(self, write: Write) -> None:
        pod = write.object
        metadata, spec = pod["metadata"], pod["spec"]
        uid: str = metadata["uid"]
        is_over = write.is_removal or pod["status"].get("phase") in {"Succeeded", "Failed"}
        if is_over or spec.get("nodeName"):
            self._waiting.pop(uid, None)
            node = self._nodes.get(self._bound.get(uid, ""))
            if is_over and node is not None and uid in node.used:
                node.take(uid)
                del self._bound[uid]
                self._soon()
            return
        if "deletionTimestamp" in metadata or spec.get("schedulingGates"):
            self._waiting.pop(uid, None)
        elif uid not in self._waiting:
            self._waiting[uid] = (metadata["namespace"], metadata["name"])
            self._soon()

    def _soon(self) -> None:
        if self._waiting and not self._is_due:
            self._is_due = True
            self._loop.call_later(DELAY_S, self._schedule)

    def _schedule(self) -> None:
        """Try every waiting Pod once. Pods that ask for the same fail together."""
        self._is_due = False
        failed: dict[str, str] = {}
        for namespace, name in list(self._waiting.values()):
            pod = self._server.get(PODS, namespace, name).object
            spec = pod["spec"]
            request = pod_request(spec)
            kind = json.dumps(
                [
                    spec.get("nodeSelector"),
                    spec.get("tolerations"),
                    request.milli_cpu,
                    request.memory,
                ],
                sort_keys=True,
            )
            if kind not in failed:
                node_name, message = self._choose(spec, request)
                if node_name is not None:
                    self._bind(pod, node_name, request, self._server.timestamp())
                    continue
                failed[kind] = message
            self._explain(pod, failed[kind])

    def has_room(self, spec: Mapping[str, Any]) -> bool:
        """Whether a node could take a Pod now."""
        return self._choose(spec, pod_request(spec))[0] is not None

    def place(self, pod: Json, since_s: float) -> bool:
        """Bind a Pod at once, as if it had been then; whether there is a node for it."""
        spec = pod["spec"]
        request = pod_request(spec)
        node_name, _ = self._choose(spec, request)
        if node_name is not None:
            self._bind(pod, node_name, request, self._server.calendar.timestamp(since_s))
        return node_name is not None

    def _choose(self, spec: Mapping[str, Any], request: Request) -> tuple[str | None, str]:
        """The node with the largest share of CPU left, or the smallest; or why there is none."""
        reasons: Counter[str] = Counter()
        helpless = 0
        best: tuple[float, str] | None = None
        for name, node in self._nodes.items():
            problems = list(_problems(spec, request, node))
            if problems:
                reasons.update(problems)
                helpless += _is_helpless(problems, request, node)
                continue
            share = (node.used_milli_cpu + request.milli_cpu) / node.milli_cpu
            score = -share if self._packs else share
            if best is None or (score, name) < best:
                best = (score, name)
        if best is not None:
            return best[1], ""
        if not self._nodes:
            return None, "no nodes available to schedule pods"
        listed = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
        total = len(self._nodes)
        counts = {
            "No preemption victims found for incoming pod": total - helpless,
            "Preemption is not helpful for scheduling": helpless,
        }
        told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        return None, (
            f"0/{total} nodes are available: {listed}. preemption: 0/{total} nodes are available: "
            f"{told}."
        )

    def _bind(self, pod: Json, node_name: str, request: Request, at: str) -> None:
        metadata = pod["metadata"]
        uid, where = metadata["uid"], (metadata["namespace"], metadata["name"])
        self._waiting.pop(uid, None)
        self._nodes[node_name].put(uid, request)
        self._bound[uid] = node_name
        condition = _condition("True", at, {})

        def bind(old: Json) -> Json:
            return {**old, "spec": {**old["spec"], "nodeName": node_name}}

        self._server.update(PODS, *where, bind, ACTOR)
        self._server.update_status(PODS, *where, lambda old: _with(old, condition), ACTOR)

    def _explain(self, pod: Json, message: str) -> None:
        known = next(
            (one for one in pod["status"].get("conditions", ()) if one["type"] == "PodScheduled"),
            None,
        )
        if known is not None and known.get("message") == message:
            return
        why = {"reason": "Unschedulable", "message": message}
        condition = _condition("False", self._server.timestamp(), why)
        if known is not None:
            condition["lastTransitionTime"] = known["lastTransitionTime"]
        metadata = pod["metadata"]
        self._server.update_status(
            PODS,
            metadata["namespace"],
            metadata["name"],
            lambda old: _with(old, condition),
            ACTOR,
        )


def _condition(status: str, at: str, more: Json) -> Json:
    return {"type": "PodScheduled", "status": status, "lastTransitionTime": at, **more}


def _is_open(node: Json) -> bool:
    conditions = node["status"].get("conditions", ())
    is_ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return is_ready and not node["spec"].get("unschedulable")


def _with(status: Json, condition: Json) -> Json:
    others = [one for one in status.get("conditions", ()) if one["type"] != condition["type"]]
    return {**status, "conditions": [*others, condition]}


def _problems(spec: Mapping[str, Any], request: Request, node: _Node) -> Iterable[str]:
    """Why a Pod cannot go to a node: the first filter that says no, with all that it says.

    Filters are asked in kube-scheduler's order.
    """
    if not node.is_open:
        yield "node(s) were unschedulable"
        return
    tolerations = spec.get("tolerations") or ()
    for taint in node.taints:
        if not any(_tolerates(one, taint) for one in tolerations):
            yield "node(s) had untolerated taint(s)"
            return
    wanted = spec.get("nodeSelector") or {}
    if any(node.labels.get(key) != value for key, value in wanted.items()):
        yield "node(s) didn't match Pod's node affinity/selector"
        return
    if len(node.used) >= node.pods:
        yield "Too many pods"
    if node.used_milli_cpu + request.milli_cpu > node.milli_cpu:
        yield "Insufficient cpu"
    if node.used_memory + request.memory > node.memory:
        yield "Insufficient memory"


def _is_helpless(problems: Iterable[str], request: Request, node: _Node) -> bool:
    """Whether a Pod would not fit on a node that has these problems if it were empty."""
    is_too_large = request.milli_cpu > node.milli_cpu or request.memory > node.memory
    return is_too_large or any(one.startswith("node(s)") for one in problems)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in {None, "", taint["effect"]}:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in {None, "", taint["key"]}
    return (toleration.get("key"), toleration.get("value", "")) == (
        taint["key"],
        taint.get("value", ""),
    )
