"""Nodes: how they come, how they are lost, and what becomes of the Pods on a lost one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.api import meta
from batch_operator.api.compute_environment import LABEL_INSTANCE_TYPE, CapacityType
from batch_operator.api.quantity import memory_bytes, milli_cpu
from batch_operator.cluster import decoding
from batch_operator.cluster.client import COMPUTE_ENVIRONMENTS, NODES, PODS, tolerating
from batch_operator.provisioners.kwok.nodes import (
    ANNOTATION_START_UP,
    TAINT_NOT_READY,
    fake_node,
    ready_node,
)
from batch_operator.provisioning.pools import PoolKey
from batch_operator.simulator.scenario import duration_s

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from batch_operator.api.compute_environment import NodeOverhead
    from batch_operator.simulator.api_server import ApiServer, Write
    from batch_operator.simulator.scenario import NodeGroup

    Json = dict[str, Any]

_NOTICE = {"key": meta.TAINT_INTERRUPTED, "effect": "NoSchedule"}
POD_GC_S = 40.0
"""How long a Pod may stand on a node that does not exist (PodGC's quarantine)."""
PODS_MAX = 110
"""The kubelet's default."""
_UNBOUNDED_PODS = 1_000_000
ACTOR = "pod-garbage-collector"


class NodeStarter:
    """What a new machine does: after its start-up time its kubelet says that it is ready.

    And what it has to give, without what the kubelet keeps.
    """

    def __init__(
        self,
        server: ApiServer,
        loop: asyncio.AbstractEventLoop,
        reserved: Callable[[str, PoolKey], NodeOverhead],
    ) -> None:
        self.waiting = 0
        self._server = server
        self._loop = loop
        self._reserved = reserved
        server.subscribe(self._see)

    def _see(self, write: Write) -> None:
        if write.resource == NODES and write.is_creation:
            annotations = write.object["metadata"].get("annotations", {})
            if (start_up := annotations.get(ANNOTATION_START_UP)) is not None:
                self.waiting += 1
                name = write.object["metadata"]["name"]
                self._loop.call_later(duration_s(start_up), self._ready, name)

    def _ready(self, name: str) -> None:
        self.waiting -= 1
        node = self._server.find(NODES, None, name)
        if node is None:
            return
        now = self._server.timestamp()
        labels = node["metadata"]["labels"]
        kept = self._reserved(labels[meta.LABEL_COMPUTE_ENVIRONMENT], _pool_of(labels))
        told = {
            "allocatable": _without(node["status"]["allocatable"], kept),
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
        }
        self._server.update_status(NODES, None, name, lambda old: {**old, **told}, "kubelet")
        self._server.update(NODES, None, name, _without_not_ready, "node-controller")


def _pool_of(labels: Mapping[str, str]) -> PoolKey:
    return PoolKey(labels[LABEL_INSTANCE_TYPE], CapacityType(labels[meta.LABEL_CAPACITY_TYPE]))


def _without(amounts: Mapping[str, str], kept: NodeOverhead) -> Json:
    """What a machine has, less what its kubelet keeps."""
    cpu = milli_cpu(amounts["cpu"]) - milli_cpu(kept.cpu)
    memory = memory_bytes(amounts["memory"]) - memory_bytes(kept.memory)
    return {**amounts, "cpu": f"{cpu}m", "memory": str(memory)}


def _announced(node: Json) -> Json:
    taints = [*node["spec"].get("taints", ()), _NOTICE]
    return {**node, "spec": {**node["spec"], "taints": taints}}


def _there_already(node: Json, kept: NodeOverhead) -> Json:
    """A new node as one that became ready long ago."""
    del node["metadata"]["annotations"][ANNOTATION_START_UP]
    node["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    node["status"]["allocatable"] = _without(node["status"]["allocatable"], kept)
    return _without_not_ready(node)


def _without_not_ready(node: Json) -> Json:
    taints = [one for one in node["spec"].get("taints", ()) if one["key"] != TAINT_NOT_READY]
    return {**node, "spec": {**node["spec"], "taints": taints}}


class Nodes:
    """The scenario's nodes; and nodes for environments of which it says nothing.

    An UNMANAGED environment without nodes gets one as large as its maxvCpus, and one more of the
    difference whenever that grows, so that scenarios which are not about nodes need none. A
    serverless one gets a virtual node in the same way. A MANAGED one of a snapshot has as many as
    its status counts.
    """

    def __init__(
        self,
        server: ApiServer,
        loop: asyncio.AbstractEventLoop,
        groups: tuple[NodeGroup, ...],
        reserved: Callable[[str, PoolKey], NodeOverhead],
    ) -> None:
        self.waiting = 0
        self._server = server
        self._loop = loop
        self._groups = groups
        self._reserved = reserved
        self._described = {one.compute_environment for one in groups}
        self._numbers: dict[str, int] = {}
        self._default_vcpus: dict[str, int] = {}
        server.subscribe(self._see)

    def _see(self, write: Write) -> None:
        if write.resource is not COMPUTE_ENVIRONMENTS or write.is_removal:
            return
        name, spec = write.object["metadata"]["name"], write.object["spec"]
        if write.is_creation:
            for group in self._groups:
                if group.compute_environment == name:
                    self._create(group, spec)
            self._restore(write)
        is_serverless = spec.get("provisioner", {}).get("type") == "serverless"
        if name not in self._described and (spec["type"] == "UNMANAGED" or is_serverless):
            missing = spec["maxvCpus"] - self._default_vcpus.get(name, 0)
            if missing > 0:
                self._default_vcpus[name] = spec["maxvCpus"]
                memory = f"{missing}Ti"
                kind = CapacityType((spec.get("capacityTypes") or ["on-demand"])[0])
                pool = PoolKey("node", kind)
                self._add(name, pool, missing, memory, spec, pods=_UNBOUNDED_PODS)

    def _create(self, group: NodeGroup, spec: Json) -> None:
        for _ in range(group.count):
            self._add(
                group.compute_environment,
                PoolKey(group.instance_type, group.capacity_type),
                group.vcpus,
                str(group.memory),
                spec,
            )

    def _restore(self, write: Write) -> None:
        rows = [one for one in write.object.get("status", {}).get("pools", ()) if one.get("ready")]
        if not rows:
            return
        environment = decoding.environment_decoder()(write.raw)
        known = {one.name for one in environment.spec.instance_types}
        for row in rows:
            pool = PoolKey(row["instanceType"], CapacityType(row["capacityType"]))
            kept = self._reserved(environment.name, pool)
            for number in range(row["ready"] if pool.instance_type in known else 0):
                name = f"{environment.name}-{pool.instance_type}-{pool.capacity_type}-{number}"
                body = fake_node(name.lower(), environment, pool, 0.0)
                self._server.create(NODES, None, _there_already(body, kept), "cloud")

    def _add(
        self,
        environment: str,
        pool: PoolKey,
        vcpus: int,
        memory: str,
        spec: Json,
        pods: int = PODS_MAX,
    ) -> None:
        number = self._numbers[environment] = self._numbers.get(environment, 0) + 1
        serverless = spec.get("provisioner", {}).get("serverless")
        selected = spec if serverless is None else serverless
        amounts = {"cpu": str(vcpus), "memory": memory, "pods": str(pods)}
        labels = selected.get("nodeSelector") or {}
        body = ready_node(f"{environment}-{number}", environment, pool, amounts, labels)
        if serverless is not None:
            body["spec"]["taints"] = []
        self._server.create(NODES, None, body, "cloud")

    def interrupt(self, environment: str, count: int, notice_s: float) -> None:
        """Take nodes away, the oldest first; so long after they were announced to go."""
        names = [
            one["metadata"]["name"]
            for one in self._server.objects(NODES)
            if one["metadata"]["labels"].get(meta.LABEL_COMPUTE_ENVIRONMENT) == environment
            and _NOTICE not in one["spec"].get("taints", ())
        ]
        for name in names[:count]:
            if not notice_s:
                self._server.delete(NODES, None, name, "cloud")
                continue
            self.waiting += 1
            self._server.update(NODES, None, name, _announced, "cloud")
            self._loop.call_later(notice_s, self._take, name)

    def _take(self, name: str) -> None:
        self.waiting -= 1
        if self._server.find(NODES, None, name) is not None:
            self._server.delete(NODES, None, name, "cloud")


class PodGarbageCollector:
    """Ends Pods whose node is gone: they fail with a DisruptionTarget condition."""

    def __init__(self, server: ApiServer, loop: asyncio.AbstractEventLoop) -> None:
        self.waiting = 0
        self._server = server
        self._loop = loop
        server.subscribe(self._see)

    def _see(self, write: Write) -> None:
        if write.resource == NODES and write.is_removal:
            self.waiting += 1
            self._loop.call_later(POD_GC_S, self._collect, write.object["metadata"]["name"])

    def _collect(self, node_name: str) -> None:
        self.waiting -= 1
        for pod in self._server.objects(PODS):
            if pod["spec"].get("nodeName") == node_name:
                self._end(pod["metadata"]["namespace"], pod["metadata"]["name"], pod["status"])

    def _end(self, namespace: str, name: str, status: Json) -> None:
        if status.get("phase") not in {"Succeeded", "Failed"}:
            self._server.update_status(PODS, namespace, name, self._disrupted, ACTOR)
        with tolerating(404):
            self._server.delete(PODS, namespace, name, ACTOR, grace_s=0)

    def _disrupted(self, status: Json) -> Json:
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
            "lastTransitionTime": self._server.timestamp(),
        }
        return {
            **status,
            "phase": "Failed",
            "conditions": [*status.get("conditions", ()), condition],
        }
