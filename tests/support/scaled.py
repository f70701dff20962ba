"""A cloud of objects with /scale subresources, as far as the `scale` provisioner asks of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from batch_operator.api import meta
from batch_operator.api.compute_environment import LABEL_INSTANCE_TYPE
from batch_operator.api.objects import Metadata, NodeSpec, Taint
from batch_operator.api.objects import Node as NodeObject
from batch_operator.provisioning.nodes import Node, observed_node
from support.builders import START, environment
from support.scripted_api import Request, ScriptedApi

if TYPE_CHECKING:
    from batch_operator.cluster.client import ApiError
    from batch_operator.scheduling.snapshot import Environment

CAPI = "cluster.x-k8s.io/v1beta2"


def target(name: str = "small", **fields: Any) -> dict[str, Any]:
    return {
        "instanceType": name,
        "capacityType": "on-demand",
        "apiVersion": CAPI,
        "resource": "machinedeployments",
        "namespace": "fleet",
        "name": name,
        **fields,
    }


def scale_environment(
    scale_in: str = "MarkMachines",
    *names: str,
    timeout_minutes: int = 15,
    **spec: Any,
) -> Environment:
    """Environment `burst` with one on-demand pool, of which each node has two vCPUs, or several."""
    names = names or ("small",)
    types = [{"name": one, "vcpus": 2, "memory": "4Gi"} for one in names]
    scale = {
        "scaleIn": scale_in,
        "provisionTimeoutMinutes": timeout_minutes,
        "targets": [target(one) for one in names],
    }
    return environment(
        "burst",
        type="MANAGED",
        instanceTypes=types,
        provisioner={"type": "scale", "scale": scale},
        **{"maxvCpus": 100, **spec},
    )


def scaled_node(
    name: str,
    pool: str = "small",
    *,
    draining: bool = False,
    released: bool = False,
    taints: tuple[str, ...] = (meta.TAINT_COMPUTE_ENVIRONMENT,),
) -> Node:
    """A node of `burst`."""
    annotations = {meta.ANNOTATION_DRAINING: START.isoformat()} if draining else {}
    if released:
        annotations[meta.ANNOTATION_RELEASED] = "true"
    return observed_node(
        NodeObject(
            Metadata(
                name=name,
                uid=f"uid-{name}",
                resource_version="7",
                creation_timestamp=START + timedelta(seconds=1),
                labels={
                    meta.LABEL_COMPUTE_ENVIRONMENT: "burst",
                    LABEL_INSTANCE_TYPE: pool,
                    meta.LABEL_CAPACITY_TYPE: "on-demand",
                },
                annotations=annotations,
            ),
            NodeSpec(taints=[Taint(one, "burst") for one in taints], unschedulable=draining),
        )
    )


class Fleet:
    """Answers for targets with so many replicas each, and a Machine `m-NODE` for every node."""

    def __init__(self, **replicas: int) -> None:
        self.replicas = replicas
        self.status: dict[str, Any] = {}
        self.owners: dict[str, str] = {}
        """By node: whose its Machine is, where that is not `small`."""
        self.marks: dict[str, Any] = {}
        """By Machine: its annotations. It stays for as long as the test plays no controller."""
        self.refused: dict[tuple[str, str, str], ApiError] = {}
        """By verb, resource and name."""
        self.written: list[tuple[str, str, Any]] = []
        """Resource, name and what was written, in order."""
        self.seen: list[bytes] = []
        """The Nodes that the provisioner says it has written."""
        self.api = ScriptedApi()
        self.api.always |= {"get": self._get, "patch": self._patch}

    def _check(self, request: Request) -> None:
        error = self.refused.get((request.verb, request.resource, request.name))
        if error is not None:
            raise error

    def _get(self, request: Request) -> bytes:
        self._check(request)
        name = request.name
        body: dict[str, Any] = {"metadata": {"name": name}}
        match request.resource:
            case "machinedeployments/scale":
                count = {"replicas": self.replicas[name]}
                body |= {"spec": count, "status": count}
                body["metadata"]["resourceVersion"] = "5"
            case "machinedeployments":
                body["status"] = self.status
            case "nodes":
                body["metadata"]["annotations"] = {"cluster.x-k8s.io/machine": f"m-{name}"}
            case "machines":
                node = name.removeprefix("m-")
                owner = self.owners.get(node, "small")
                body["metadata"]["labels"] = {"cluster.x-k8s.io/deployment-name": owner}
                body["metadata"]["annotations"] = self.marks.get(name, {})
                body["status"] = {"nodeRef": {"name": node}}
        return msgspec.json.encode(body)

    def _patch(self, request: Request) -> bytes:
        self._check(request)
        body = request.body
        assert body is not None
        what = body["spec"]["replicas"] if "spec" in body else body["metadata"]["annotations"]
        self.written.append((request.resource, request.name, what))
        if "spec" in body:
            self.replicas[request.name] = what
        elif request.resource == "machines":
            self.marks[request.name] = what
        return b"{}"
