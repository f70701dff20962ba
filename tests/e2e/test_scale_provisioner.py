"""Nodes by the replicas of others' objects: Cluster API's own, and of a kind that nobody knows.

The operator runs under the role of its chart. The tests play the controllers that make machines,
and not kind ones: whenever they may choose a machine to take away, they take a busy one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from localcluster import modules
from support.kube import Kube, definition, job, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CAPI = "cluster.x-k8s.io"
DELETE_MACHINE = f"{CAPI}/delete-machine"
FLEETS = "scale-e2e.batch-operator.io"
FLEET_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"nodefleets.{FLEETS}"},
    "spec": {
        "group": FLEETS,
        "scope": "Namespaced",
        "names": {"kind": "NodeFleet", "plural": "nodefleets", "singular": "nodefleet"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {
                    "scale": {
                        "specReplicasPath": ".spec.size",
                        "statusReplicasPath": ".status.size",
                    }
                },
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"size": {"type": "integer"}},
                            },
                            "status": {
                                "type": "object",
                                "properties": {"size": {"type": "integer"}},
                            },
                        },
                    }
                },
            }
        ],
    },
}


def of_cluster(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch-operator.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def scaled_environment(name: str, namespace: str, scale_in: str, target: str) -> dict[str, Any]:
    """One pool of nodes with two vCPUs; idle nodes go at once."""
    api_version, resource = target.rsplit("/", 1)
    return of_cluster(
        "ComputeEnvironment",
        name,
        type="MANAGED",
        maxvCpus=8,
        instanceTypes=[{"name": "small", "vcpus": 2, "memory": "4Gi"}],
        scalingPolicy={"minScaleDownDelayMinutes": 0},
        provisioner={
            "type": "scale",
            "scale": {
                "scaleIn": scale_in,
                "targets": [
                    {
                        "instanceType": "small",
                        "capacityType": "on-demand",
                        "apiVersion": api_version,
                        "resource": resource,
                        "namespace": namespace,
                        "name": "small",
                    }
                ],
            },
        },
    )


def queue_to(environment: str) -> dict[str, Any]:
    order = [{"order": 1, "computeEnvironment": environment}]
    return of_cluster("JobQueue", environment, priority=1, computeEnvironmentOrder=order)


def endless() -> dict[str, Any]:
    """A definition whose Pods fill a node, which kwok plays until they are stopped."""
    made = definition("endless", "", resources={"requests": {"cpu": "2", "memory": "64Mi"}})
    template = made["spec"]["podTemplate"]
    template["metadata"] = {"annotations": {"fake.batch-operator.io/runtime": "1h"}}
    return made


@dataclass(slots=True)
class Cloud:
    """The controller of one object, and the machines that it makes."""

    kube: Kube
    environment: str
    kind: str
    spec_path: str = "replicas"
    made: int = 0
    taken: list[str] = field(default_factory=list)
    """Nodes, in the order in which they were taken away."""

    def nodes(self) -> list[dict[str, Any]]:
        label = f"batch-operator.io/compute-environment={self.environment}"
        found = self.kube.items("nodes", "-l", label)
        return sorted(found, key=lambda one: str(one["metadata"]["name"]))

    def wanted(self) -> int:
        found = self.kube.get(self.kind, "small")
        assert found is not None
        return int(found["spec"][self.spec_path])

    def act(self) -> int:
        """Bring the machines to the wanted number; then that number."""
        wanted, nodes = self.wanted(), self.nodes()
        for _ in range(wanted - len(nodes)):
            self.made += 1
            self.kube.apply(*self._machine(f"{self.environment}-{self.made}"))
        if wanted < len(nodes):
            for name in self._victims(nodes)[: len(nodes) - wanted]:
                self.taken.append(name)
                self.kube("delete", "node", name)
        return wanted

    def _machine(self, name: str) -> list[dict[str, Any]]:
        size = {"cpu": "2", "memory": "4Gi", "pods": "110"}
        key = "batch-operator.io/compute-environment"
        return [
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": name,
                    "labels": {
                        key: self.environment,
                        "node.kubernetes.io/instance-type": "small",
                        "batch-operator.io/capacity-type": "on-demand",
                    },
                    "annotations": {"kwok.x-k8s.io/node": "fake", f"{CAPI}/machine": name},
                },
                "spec": {
                    "taints": [{"key": key, "value": self.environment, "effect": "NoSchedule"}]
                },
                "status": {"capacity": size, "allocatable": size},
            }
        ]

    def _victims(self, nodes: Sequence[dict[str, Any]]) -> list[str]:
        """The busiest first."""
        names = [one["metadata"]["name"] for one in nodes]
        busy = {one["spec"].get("nodeName") for one in self.running()}
        return sorted(names, key=lambda one: (one not in busy, one))

    def running(self) -> list[dict[str, Any]]:
        return [one for one in self.kube.items("pods") if one["status"]["phase"] == "Running"]


class ClusterApi(Cloud):
    """Plays Cluster API's MachineSets with the real kinds: a marked Machine goes first."""

    def _machine(self, name: str) -> list[dict[str, Any]]:
        labels = {f"{CAPI}/deployment-name": "small", f"{CAPI}/cluster-name": "e2e"}
        machine = {
            "apiVersion": f"{CAPI}/v1beta2",
            "kind": "Machine",
            "metadata": {"name": name, "labels": labels},
            "spec": {"clusterName": "e2e", **MACHINE_SPEC},
        }
        self.kube.apply(machine)
        status = yaml.safe_dump({"status": {"nodeRef": {"name": name}}})
        self.kube("patch", "machine", name, "--subresource=status", "--type=merge", "-p", status)
        return super()._machine(name)

    def _victims(self, nodes: Sequence[dict[str, Any]]) -> list[str]:
        marked = {
            one["metadata"]["name"]
            for one in self.kube.items("machines")
            if DELETE_MACHINE in one["metadata"].get("annotations", {})
        }
        others = super()._victims(nodes)
        return [one for one in others if one in marked] + [
            one for one in others if one not in marked
        ]


MACHINE_SPEC: dict[str, Any] = {
    "bootstrap": {"dataSecretName": "none"},
    "infrastructureRef": {
        "apiGroup": "infrastructure.cluster.x-k8s.io",
        "kind": "FakeMachine",
        "name": "none",
    },
}
MACHINE_DEPLOYMENT = {
    "apiVersion": f"{CAPI}/v1beta2",
    "kind": "MachineDeployment",
    "metadata": {"name": "small"},
    "spec": {
        "clusterName": "e2e",
        "replicas": 0,
        "selector": {"matchLabels": {"pool": "small"}},
        "template": {
            "metadata": {"labels": {"pool": "small"}},
            "spec": {"clusterName": "e2e", **MACHINE_SPEC},
        },
    },
}


@pytest.fixture(scope="module")
def kinds(installed: Kube) -> Iterator[Kube]:
    """The cluster with Cluster API's own kinds, and one that nobody knows."""
    folder = modules.folder_of(*modules.CLUSTER_API_CRDS)
    files = [
        word
        for name in ("machinedeployments", "machines")
        for word in ("-f", str(folder / f"{CAPI}_{name}.yaml"))
    ]
    installed.serve("--server-side", *files)
    installed.serve("-f", "-", stdin=yaml.safe_dump(FLEET_CRD))
    yield installed
    installed("delete", *files)
    installed("delete", "crd", f"nodefleets.{FLEETS}")


RESOURCES = (
    f"provisioners.scale.resources[0].apiGroup={CAPI}",
    "provisioners.scale.resources[0].resource=machinedeployments",
    f"provisioners.scale.resources[1].apiGroup={FLEETS}",
    "provisioners.scale.resources[1].resource=nodefleets",
    "provisioners.scale.markMachines=true",
)


@pytest.fixture
def cleaned(kube: Kube) -> Iterator[list[str]]:
    """Names of environments; they, their queues and their nodes go when the test is over."""
    names: list[str] = []
    yield names
    for name in names:
        kube("delete", "jobqueue,computeenvironment", name, "--ignore-not-found", "--wait=false")
        kube("delete", "nodes", "-l", f"batch-operator.io/compute-environment={name}")


def three_of_which_two_end(kube: Kube, cloud: Cloud) -> str:
    """Run three Pods on three nodes and end two of them; the name of the node of the third."""
    kube.apply(
        endless(),
        job("stays", "endless", cloud.environment),
        job("goes", "endless", cloud.environment, arrayProperties={"size": 2}),
    )
    wait_for("three machines to be asked for", lambda: cloud.act() == 3)
    wait_for("all to run", lambda: len(cloud.running()) == 3)
    kube.wait_for_state("stays", "RUNNING")
    kube.change("goes", terminate={"reason": "enough"})
    kube.wait_for_state("goes", "FAILED")
    [pod] = kube.pods_of("stays")
    return str(pod["spec"]["nodeName"])


@pytest.mark.usefixtures("kinds")
def test_scale_takes_idle_machines_of_cluster_api_one_by_one(
    restricted: Callable[..., Kube], cleaned: list[str]
) -> None:
    kube = restricted(*RESOURCES)
    cleaned.append("scale-capi")
    kube.apply(MACHINE_DEPLOYMENT)
    target = f"{CAPI}/v1beta2/machinedeployments"
    kube.apply(
        scaled_environment("scale-capi", kube.namespace, "MarkMachines", target),
        queue_to("scale-capi"),
    )
    cloud = ClusterApi(kube, "scale-capi", "machinedeployment")

    busy = three_of_which_two_end(kube, cloud)
    wait_for("the idle machines to go", lambda: cloud.act() == 1)

    assert [one["metadata"]["name"] for one in cloud.nodes()] == [busy]
    assert kube.status("stays")["state"] == "RUNNING"

    kube.change("stays", terminate={"reason": "enough"})
    wait_for("the last machine to go", lambda: cloud.act() == 0)

    assert len(cloud.taken) == cloud.made == 3
    assert kube.status("stays")["statusReason"] == "enough"


@pytest.mark.usefixtures("kinds")
def test_scale_empties_a_pool_of_any_kind_once_all_of_it_is_idle(
    restricted: Callable[..., Kube], cleaned: list[str]
) -> None:
    kube = restricted(*RESOURCES)
    cleaned.append("scale-fleet")
    fleet = {"apiVersion": f"{FLEETS}/v1", "kind": "NodeFleet", "metadata": {"name": "small"}}
    kube.apply({**fleet, "spec": {"size": 0}})
    target = f"{FLEETS}/v1/nodefleets"
    kube.apply(
        scaled_environment("scale-fleet", kube.namespace, "WhenPoolIsIdle", target),
        queue_to("scale-fleet"),
    )
    cloud = Cloud(kube, "scale-fleet", "nodefleet", "size")

    three_of_which_two_end(kube, cloud)

    assert cloud.act() == 3

    kube.change("stays", terminate={"reason": "enough"})
    wait_for("the pool to be emptied", lambda: cloud.act() == 0)

    assert len(cloud.taken) == cloud.made == 3


@pytest.mark.usefixtures("kinds")
def test_scale_without_the_right_to_says_which_rule_is_missing(
    restricted: Callable[..., Kube], cleaned: list[str]
) -> None:
    kube = restricted()
    cleaned.append("scale-forbidden")
    kube.apply(MACHINE_DEPLOYMENT)
    target = f"{CAPI}/v1beta2/machinedeployments"
    kube.apply(scaled_environment("scale-forbidden", kube.namespace, "MarkMachines", target))

    def told() -> bool:
        found = kube.get("computeenvironment", "scale-forbidden") or {}
        conditions = found.get("status", {}).get("conditions", [])
        rule = f'{{apiGroups: ["{CAPI}"], resources: ["machinedeployments/scale"], verbs: [get, '
        return any(rule in one["message"] for one in conditions)

    assert wait_for("the environment to name the rule", told)


def small_scaled(*targets: str, **spec: Any) -> dict[str, Any]:
    """An environment with one instance type, and targets of so many names."""
    made = scaled_environment("bad", "fleet", "WhenPoolIsIdle", "apps/v1/deployments")
    [one] = made["spec"]["provisioner"]["scale"]["targets"]
    scale = {"targets": [{**one, "name": name} for name in targets]}
    made["spec"] |= {"provisioner": {"type": "scale", "scale": scale}, **spec}
    return made


def serverless(**spec: Any) -> dict[str, Any]:
    provisioner = {"type": "serverless", "serverless": {}}
    return of_cluster(
        "ComputeEnvironment", "bad", type="MANAGED", maxvCpus=8, provisioner=provisioner, **spec
    )


def marked_deployments() -> dict[str, Any]:
    return scaled_environment("bad", "fleet", "MarkMachines", "apps/v1/deployments")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no target for a pool": (
        small_scaled("small", capacityTypes=["spot", "on-demand"]), "and no other",
    ),
    "two targets for one pool": (small_scaled("small", "other"), "and no other"),
    "one object for two pools": (small_scaled("small", "small"), "Duplicate value"),
    "marks outside of Cluster API": (marked_deployments(), "write WhenPoolIsIdle"),
    "minvCpus of whole pools": (small_scaled("small", minvCpus=2), "goes as a whole"),
    "serverless with a strategy": (
        serverless(allocationStrategy="BEST_FIT"), "takes no allocationStrategy",
    ),
    "serverless with instance types": (
        serverless(instanceTypes=[{"name": "a", "vcpus": 1, "memory": "1Gi"}]),
        "takes no instanceTypes",
    ),
    "serverless with minvCpus": (serverless(minvCpus=1), "takes no minvCpus"),
    "serverless with a bid": (serverless(bidPercentage=50), "takes no bidPercentage"),
    "serverless of both kinds": (
        serverless(capacityTypes=["spot", "on-demand"]), "takes one of capacityTypes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_scale_and_serverless_environments_that_are_refused(installed: Kube, name: str) -> None:
    manifest, expected = REFUSED[name]
    done = installed.run("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(manifest))

    assert done.returncode != 0
    assert expected in done.stderr


def test_scale_and_serverless_environments_that_are_accepted(installed: Kube) -> None:
    good = [small_scaled("small"), serverless(), serverless(capacityTypes=["spot"])]
    for manifest in good:
        installed("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(manifest))
