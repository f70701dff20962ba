"""Karpenter's own CRDs take what the operator writes, with the rights that the chart gives it.

Karpenter itself needs a cloud; its part, NodeClaims, Events and nodes, is played here.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from batch_operator.api.compute_environment import CapacityType
from batch_operator.provisioners.karpenter.node_pools import node_pools, without_absent
from batch_operator.provisioners.kwok.nodes import fake_node
from batch_operator.provisioning.pools import PoolKey, pools_of
from localcluster import modules
from support.karpenter import (
    NODE_CLASS,
    karpenter_environment,
    karpenter_spec,
    no_capacity,
    node_claim,
)
from support.kube import WITH_PATIENCE, Kube, definition, job, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "karp-e2e"
SPEC = karpenter_spec(
    capacityTypes=["on-demand"], allocationStrategy="BEST_FIT_PROGRESSIVE_ORDERED"
)
MANIFEST = {
    "apiVersion": "batch-operator.io/v1alpha1",
    "kind": "ComputeEnvironment",
    "metadata": {"name": NAME},
    "spec": SPEC,
}
QUEUE = {
    "apiVersion": "batch-operator.io/v1alpha1",
    "kind": "JobQueue",
    "metadata": {"name": NAME},
    "spec": {
        "priority": 1,
        "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": NAME}],
    },
}


@pytest.fixture(scope="module")
def crds(installed: Kube) -> Iterator[Kube]:
    """Karpenter's CRDs, as they are in its Go module."""
    folder = modules.folder_of(*modules.KARPENTER_CRDS)
    files = [f"-f={folder / name}" for name in ("karpenter.sh_nodepools.yaml",
                                                "karpenter.sh_nodeclaims.yaml")]  # fmt: skip
    installed.serve("--server-side", *files)
    yield installed
    installed("delete", *files)


def pools(kube: Kube) -> dict[str, dict[str, Any]]:
    """The environment's NodePools, by the type of their nodes."""
    found = kube.items("nodepools", "-l", f"batch-operator.io/compute-environment={NAME}")
    return {one["spec"]["template"]["spec"]["requirements"][0]["values"][0]: one for one in found}


def status(kube: Kube) -> dict[str, Any]:
    environment = kube.get("computeenvironment", NAME)
    found: dict[str, Any] = environment.get("status", {}) if environment else {}
    return found


def now() -> str:
    """On a real cluster's clock: refusals count for a while only."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: TID251


@pytest.mark.usefixtures("crds")
def test_an_environment_lives_with_karpenter_under_the_operators_own_role(
    restricted: Callable[..., Kube],
) -> None:
    kube = restricted("provisioners.karpenter.enabled=true")
    kube.apply(MANIFEST, QUEUE)
    try:
        made = wait_for("two NodePools", lambda: len(pools(kube)) == 2 and pools(kube))
        assert made["small"]["spec"]["weight"] > made["large"]["spec"]["weight"]

        _runs_on_a_node_that_karpenter_makes(kube)
        _is_told_of_launches_that_fail(kube, made)
        _follows_a_change_of_the_environment(kube)
    finally:
        kube("delete", "jobqueue", NAME)
        kube("delete", "computeenvironment", NAME, WITH_PATIENCE)
    wait_for("the NodePools to be gone", lambda: not pools(kube))


def _is_told_of_launches_that_fail(kube: Kube, made: dict[str, dict[str, Any]]) -> None:
    """By an Event where there is no capacity, by a NodeClaim where there is another reason."""
    small, large = (made[one]["metadata"]["name"] for one in ("small", "large"))
    weight = made["small"]["spec"]["weight"]
    kube.apply(job("waiting", "work", queue=NAME))  # or nobody asks Karpenter how it fares
    wait_for("its Pod", lambda: kube.pods_of("waiting"))
    event = no_capacity(small, "insufficient capacity, no small left", now())
    event |= {"apiVersion": "v1", "kind": "Event", "type": "Warning"}
    replace(kube, namespace="default").apply(event)
    wait_for("a lower weight", lambda: pools(kube)["small"]["spec"]["weight"] < weight)
    failed = node_claim(
        large, asked=("large",), Launched=("Unknown", now(), "LaunchFailed", "quota reached")
    )
    failed["metadata"]["labels"]["batch-operator.io/compute-environment"] = NAME
    failed["spec"]["nodeClassRef"] = NODE_CLASS
    failed |= {"apiVersion": "karpenter.sh/v1", "kind": "NodeClaim"}
    kube.apply(failed)
    kube("replace", "--subresource=status", "-f", "-", stdin=yaml.safe_dump(failed))

    def refused() -> dict[str, str]:
        rows = status(kube).get("pools", ())
        return {one["instanceType"]: one["message"] for one in rows if one.get("refusals")}

    told = wait_for("both refusals", lambda: len(refused()) == 2 and refused())
    assert told == {
        "small": "insufficient capacity, no small left",
        "large": "LaunchFailed: quota reached",
    }
    kube("delete", "nodeclaim", failed["metadata"]["name"])
    kube("delete", "batchjob", "waiting")


def _runs_on_a_node_that_karpenter_makes(kube: Kube) -> None:
    kube.apply(definition("work", "true"), job("followed", "work", queue=NAME))
    [pod] = wait_for("the Pod", lambda: kube.pods_of("followed"))
    assert pod["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "true"

    pool = PoolKey("large", CapacityType.ON_DEMAND)
    kube.apply(fake_node(f"{NAME}-1", karpenter_environment(NAME, **SPEC), pool, start_up_s=0))
    try:
        kube.wait_for_state("followed", "SUCCEEDED")
    finally:
        kube("delete", "node", f"{NAME}-1")


def _follows_a_change_of_the_environment(kube: Kube) -> None:
    changed = {**SPEC, "maxvCpus": 128, "instanceTypes": SPEC["instanceTypes"][1:]}
    kube.apply({**MANIFEST, "spec": changed})
    left = wait_for("one NodePool", lambda: len(pools(kube)) == 1 and pools(kube))
    wait_for("its new limit", lambda: pools(kube)["large"]["spec"]["limits"] == {"cpu": "128"})

    assert list(left) == ["large"]
    kube("wait", "--for=condition=Ready", f"computeenvironment/{NAME}", WITH_PATIENCE)


MISTAKES = {
    "a label of Karpenter's own": (
        ("template", "metadata", "labels"),
        {"karpenter.sh/nodepool": "x"},
        'label "karpenter.sh/nodepool" is restricted',
    ),
    "a weight above 100": (("weight",), 101, "less than or equal to 100"),
    "an unknown policy": (
        ("disruption", "consolidationPolicy"),
        "WhenIdle",
        'Unsupported value: "WhenIdle"',
    ),
    "a budget that is no number": (
        ("disruption", "budgets"),
        [{"nodes": "all"}],
        "spec.disruption.budgets[0].nodes",
    ),
    "no node class": (("template", "spec", "nodeClassRef"), {}, "nodeClassRef.kind: Required"),
    "a requirement without values": (
        ("template", "spec", "requirements"),
        [{"key": "node.kubernetes.io/instance-type", "operator": "In", "values": []}],
        "must have a value defined",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_node_pool_with_a_mistake_is_refused(crds: Kube, mistake: str) -> None:
    path, value, answer = MISTAKES[mistake]
    environment = karpenter_environment(NAME, **SPEC)
    good = without_absent(
        node_pools(environment, [one.key for one in pools_of(environment.spec)])[0]
    )
    bad = deepcopy(good)
    place = bad["spec"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    accepted = crds.run("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(good))
    refused = crds.run("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(bad))

    assert accepted.returncode == 0, accepted.stderr
    assert refused.returncode != 0
    assert answer in refused.stderr
