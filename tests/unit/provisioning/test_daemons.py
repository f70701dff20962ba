"""Which DaemonSets take something of an environment's nodes, as their manifests are written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batch_operator.api.amounts import Amounts
from batch_operator.cluster.decoding import daemon_set
from batch_operator.provisioning.daemons import taken_by_daemons
from batch_operator.provisioning.pools import Space
from support.environments import SPOT, pool, space

MIB = 1 << 20
TAINT = "batch-operator.io/compute-environment"
EVERYWHERE = {"operator": "Exists"}
HERE = {"key": TAINT, "operator": "Equal", "value": "elastic", "effect": "NoSchedule"}
ASKED = Space(Amounts(100, 50 * MIB), 1)


def daemon(uid: str = "agent", *, tolerations: list[dict[str, Any]], **spec: Any) -> Any:
    requests = {"requests": {"cpu": "100m", "memory": "50Mi"}}
    containers = [{"name": "main", "image": "agent:1", "resources": requests}]
    pod = {"containers": containers, "tolerations": tolerations, **spec}
    manifest = {
        "metadata": {"name": uid, "namespace": "kube-system", "uid": uid, "resourceVersion": "3"},
        "spec": {"selector": {}, "template": {"metadata": {}, "spec": pod}},
        "status": {"desiredNumberScheduled": 3},
    }
    return daemon_set(json.dumps(manifest).encode())


def taken(*daemons: Any) -> Space:
    """Of a spot node of type `small` of environment `elastic`."""
    key = pool("small", SPOT)
    return taken_by_daemons(daemons, "elastic", {key: space(4)})[key]


@pytest.mark.parametrize(
    ("toleration", "tolerates"),
    [
        (EVERYWHERE, True),
        (HERE, True),
        ({"key": TAINT, "operator": "Exists"}, True),
        ({"key": TAINT, "value": "elastic"}, True),  # Equal is the default
        ({"key": TAINT, "value": "other"}, False),
        ({"key": TAINT, "operator": "Exists", "effect": "NoExecute"}, False),
        ({"operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}, False),
    ],
)
def test_it_has_to_tolerate_the_taint(*, toleration: dict[str, Any], tolerates: bool) -> None:
    assert taken(daemon(tolerations=[toleration])) == (ASKED if tolerates else Space())


def test_one_without_tolerations_does_not_go_to_nodes_of_environments() -> None:
    assert taken(daemon(tolerations=[])) == Space()


@pytest.mark.parametrize(
    ("selector", "selects"),
    [
        ({"kubernetes.io/os": "linux"}, True),
        ({"kubernetes.io/os": "windows"}, False),
        ({"kubernetes.io/arch": "arm64"}, True),  # it may be
        ({"node.kubernetes.io/instance-type": "small"}, True),
        ({"node.kubernetes.io/instance-type": "large"}, False),
        ({"batch-operator.io/capacity-type": "spot"}, True),
        ({"storage": "yes"}, False),
    ],
)
def test_its_selector_has_to_match_labels_that_are_known(
    *, selector: dict[str, str], selects: bool
) -> None:
    found = taken(daemon(tolerations=[EVERYWHERE], nodeSelector=selector))

    assert found == (ASKED if selects else Space())


OS_IN = {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}
NOT_FARGATE = {"key": "eks.amazonaws.com/compute-type", "operator": "NotIn", "values": ["fargate"]}
NO_GPU = {"key": "gpu", "operator": "DoesNotExist"}
SPOT_ONLY = {"key": "batch-operator.io/capacity-type", "operator": "In", "values": ["spot"]}


@pytest.mark.parametrize(
    ("terms", "matches"),
    [
        ([[OS_IN, NOT_FARGATE]], True),  # as EKS's own
        ([[NO_GPU, SPOT_ONLY]], True),
        ([[{"key": "kubernetes.io/os", "operator": "Exists"}]], True),
        ([[{"key": "gpu", "operator": "Exists"}]], False),
        ([[{**SPOT_ONLY, "operator": "NotIn"}], [OS_IN]], True),  # one of them is enough
        ([[OS_IN, {**SPOT_ONLY, "operator": "NotIn"}]], False),  # all of its expressions
        ([[{"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"]}]], True),
        ([[{"key": "cores", "operator": "Gt", "values": ["4"]}]], False),
        ([[]], False),
    ],
)
def test_its_affinity_has_to_match_too(*, terms: list[list[dict[str, Any]]], matches: bool) -> None:
    required = {"nodeSelectorTerms": [{"matchExpressions": one} for one in terms]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    found = taken(daemon(tolerations=[EVERYWHERE], affinity=affinity))

    assert found == (ASKED if matches else Space())


def test_one_for_a_node_by_its_name_is_not_counted() -> None:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
    required = {"nodeSelectorTerms": [term]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}

    assert taken(daemon(tolerations=[EVERYWHERE], affinity=affinity)) == Space()


def test_all_of_them_together_are_taken_with_a_pod_for_each() -> None:
    sidecar = {
        "name": "proxy",
        "restartPolicy": "Always",
        "resources": {"requests": {"cpu": "20m"}},
    }
    agents = [
        daemon("a", tolerations=[HERE]),
        daemon("b", tolerations=[EVERYWHERE], initContainers=[sidecar]),
        daemon("c", tolerations=[]),
    ]

    assert taken(*agents) == Space(Amounts(220, 100 * MIB), 2)


def asking(uid: str, cpu: str) -> Any:
    container = {"name": "main", "image": "any:1", "resources": {"requests": {"cpu": cpu}}}
    return daemon(uid, tolerations=[EVERYWHERE], containers=[container])


@pytest.mark.parametrize(
    ("requests", "milli_cpu"),
    [
        pytest.param(["1000", "100m"], 100, id="larger than a node"),
        pytest.param(["3", "2", "1"], 3000, id="larger than what others leave"),
        pytest.param(["3", "1"], 4000, id="the whole node"),
    ],
)
def test_one_that_has_no_room_on_a_node_takes_nothing_of_it(
    requests: list[str], milli_cpu: int
) -> None:
    """A tenant who writes one that no node can hold keeps nobody from nodes."""
    agents = [asking(f"uid-{number}", cpu) for number, cpu in enumerate(requests)]

    assert taken(*agents).amounts.milli_cpu == milli_cpu


def test_a_limit_is_a_request_where_there_is_none() -> None:
    """The API server writes it so into Pods; a template is as it was written."""
    resources = {"limits": {"cpu": "1", "memory": "50Mi"}, "requests": {"cpu": "100m"}}
    container = {"name": "main", "image": "agent:1", "resources": resources}

    assert taken(daemon(tolerations=[HERE], containers=[container])) == ASKED


def test_of_a_node_without_labels_only_the_environment_is_known() -> None:
    everywhere = daemon("a", tolerations=[HERE])
    spot = daemon("b", tolerations=[HERE], nodeSelector={"batch-operator.io/capacity-type": "spot"})

    assert taken_by_daemons([everywhere, spot], "elastic", {None: None}) == {None: ASKED}
