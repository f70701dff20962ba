"""The role and the policies of the plain manifest, on a real API server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from support.kube import ROOT, Kube, wait_for
from support.managed import LARGE, SMALL, elastic
from support.play import written

if TYPE_CHECKING:
    from collections.abc import Iterator

OPERATOR = "system:serviceaccount:batch-operator:batch-operator"
KINDS = {
    "ClusterRole",
    "ClusterRoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
NAME = "changing"
PROBE = "--dry-run=server"


@pytest.fixture(scope="module")
def secured(installed: Kube) -> Iterator[Kube]:
    """The cluster with what the manifest says about rights; the suite's own operator has all.

    The API server follows a policy a moment after it has taken it, without saying when: a test of
    one waits for what the policy refuses, by requests that change nothing (``PROBE``). Of the role,
    whose rules are in force together, one is waited for here.
    """
    text = (ROOT / "charts/batch-operator.yaml").read_text(encoding="utf-8")
    found = [one for one in yaml.safe_load_all(text) if one and one["kind"] in KINDS]
    rights = yaml.safe_dump_all(found)
    installed("apply", "-f", "-", stdin=rights)
    wait_for("the role", lambda: may(installed, "patch", "nodes") == "yes")
    yield installed
    installed("delete", "-f", "-", stdin=rights)


def may(kube: Kube, verb: str, resource: str) -> str:
    """Whether the operator has this right: yes or no."""
    return kube.run("auth", "can-i", verb, resource, "--as", OPERATOR, "-A").stdout.strip()


@pytest.fixture
def environment(secured: Kube) -> Iterator[Kube]:
    """With an environment that nothing else touches."""
    spec = {"allocationStrategy": "BEST_FIT", "provisioner": {"type": "none"}}
    secured("apply", "-f", "-", stdin=yaml.safe_dump(elastic(NAME, **spec)))
    yield secured
    secured("delete", "computeenvironment", NAME, "--ignore-not-found")


@pytest.mark.parametrize(
    ("verb", "resource", "answer"),
    [
        ("patch", "nodes", "yes"),
        ("create", "nodes", "no"),
        ("delete", "nodes", "no"),
        ("patch", "computeenvironments.batch-operator.io", "yes"),
        ("delete", "computeenvironments.batch-operator.io", "no"),
        ("update", "jobqueues.batch-operator.io", "no"),
        ("get", "secrets", "no"),
        ("impersonate", "users", "no"),
    ],
)
def test_what_the_operator_may_do(secured: Kube, verb: str, resource: str, answer: str) -> None:
    assert may(secured, verb, resource) == answer


def test_the_operator_changes_finalizers_of_an_environment_and_nothing_else(
    environment: Kube,
) -> None:
    patch = ("patch", "computeenvironment", NAME, "--type=merge", "--as", OPERATOR, "-p")
    environment(*patch, '{"metadata": {"finalizers": ["batch-operator.io/nodes"]}}')
    environment(*patch, '{"metadata": {"finalizers": null}}')
    sentence = "the operator does not change the spec"
    spec = '{"spec": {"maxvCpus": 9}}'
    wait_for("the policy", lambda: sentence in environment.run(*patch, spec, PROBE).stderr)

    assert sentence in environment.run(*patch, spec).stderr


TENANT = "system:serviceaccount:default:tenant"
TRACKED = {"batch-operator.io/tracked": "", "batch-operator.io/compute-environment": "local"}


def pod(name: str, labels: dict[str, str]) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels},
            "spec": {"containers": [{"name": "main", "image": "busybox:1"}], "nodeName": "nowhere"},
        }
    )


@pytest.fixture
def tenant(secured: Kube) -> Iterator[Kube]:
    """Somebody who may do in the namespace what he likes, beside an attempt's Pod."""
    role = ("rolebinding", "tenant", "--clusterrole=admin", "--serviceaccount=default:tenant")
    secured("create", *role)
    secured("apply", "-f", "-", stdin=pod("attempt", TRACKED))
    yield secured
    secured("delete", "pod", "attempt", "--force", "--ignore-not-found")
    secured("delete", "rolebinding", "tenant")


def test_a_tenant_makes_no_pods_that_pass_for_attempts(tenant: Kube) -> None:
    """They would hold the vCPUs of an environment against everybody."""
    create = ("create", "--as", TENANT, PROBE, "-f", "-")
    wait_for(
        "the policy",
        lambda: (
            "made by batch-operator alone" in tenant.run(*create, stdin=pod("a", TRACKED)).stderr
        ),
    )
    own = tenant.run(*create, stdin=pod("a", {"app": "mine"}))

    assert own.returncode == 0, own.stderr


def test_the_job_controller_makes_the_pods_of_a_gang(tenant: Kube, kube: Kube) -> None:
    """They carry the label as well, and it is neither the operator nor everybody's master."""
    wait_for(
        "the policy",
        lambda: "alone" in tenant.run(
            "create", "--as", TENANT, PROBE, "-f", "-", stdin=pod("a", TRACKED)
        ).stderr,
    )  # fmt: skip
    kube("apply", "-f", str(ROOT / "examples/00-queue.yaml"))
    kube("apply", "-f", str(ROOT / "examples/40-multi-node.yaml"))

    kube.wait_for_state("gather", "SUCCEEDED")


@pytest.mark.parametrize(
    ("label", "is_refused"),
    [
        ("batch-operator.io/tracked-", True),
        ("batch-operator.io/compute-environment=other", True),
        ("batch-operator.io/job-name=other", True),
        ("team=blue", False),
    ],
)
def test_a_tenant_does_not_say_whose_an_attempt_is(
    tenant: Kube, label: str, *, is_refused: bool
) -> None:
    change = ("label", "pod", "attempt", "--overwrite", "--as", TENANT, PROBE)
    sentence = "are not changed by hand"
    first = "batch-operator.io/tracked-"
    wait_for("the policy", lambda: sentence in tenant.run(*change, first).stderr)
    done = tenant.run(*change, label)

    assert (sentence in done.stderr) == is_refused
    assert (done.returncode != 0) == is_refused


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"type": "UNMANAGED"}, "type cannot be changed"),
        ({"provisioner": {"type": "kwok"}}, "provisioner.type cannot be changed"),
        ({"allocationStrategy": "BEST_FIT_PROGRESSIVE"}, "BEST_FIT can be neither set nor left"),
        ({"instanceTypes": [{**SMALL, "vcpus": 8}]}, "with BEST_FIT neither the names and sizes"),
        ({"instanceTypes": [SMALL, LARGE]}, "with BEST_FIT neither the names and sizes"),
        ({"capacityTypes": ["spot"]}, "with BEST_FIT neither the names and sizes"),
        ({"instanceTypes": [{**SMALL, "pricePerHour": 9}]}, None),
        ({"capacityTypes": ["on-demand"]}, None),
        ({"maxvCpus": 8}, None),
    ],
    ids=str,
)
def test_an_update_is_taken_or_refused_with_what_to_do(
    environment: Kube, spec: dict[str, Any], sentence: str | None
) -> None:
    """AWS: an environment with BEST_FIT has no infrastructure updates."""
    patch = json.dumps({"spec": spec})
    done = environment.run("patch", "computeenvironment", NAME, "--type=merge", "-p", patch)

    assert (sentence or "") in done.stderr
    assert (done.returncode == 0) == (sentence is None)


def test_an_environment_that_a_queue_names_cannot_be_deleted_and_then_goes_with_its_nodes(
    secured: Kube, kube: Kube
) -> None:
    """AWS: "found existing JobQueue relationship". Here it says which queue is to be changed."""
    order = [{"order": 1, "computeEnvironment": "leaving"}]
    queue = {"priority": 1, "computeEnvironmentOrder": order}
    kube.apply(elastic("leaving", minvCpus=8), written("JobQueue", "leaving", queue))
    selector = ("-l", "batch-operator.io/compute-environment=leaving")
    wait_for("two nodes", lambda: len(kube.items("nodes", *selector)) == 2)
    wait_for(
        "the queue's name",
        lambda: (kube.get("computeenvironment", "leaving") or {})["status"].get("queues"),
    )
    delete = ("delete", "computeenvironment", "leaving", "--wait=false")
    wait_for("the policy", lambda: secured.run(*delete, PROBE).returncode != 0)
    refused = secured.run(*delete)
    kube("delete", "jobqueue", "leaving")
    wait_for("its deletion", lambda: kube.run(*delete).returncode == 0)
    wait_for("its end", lambda: kube.get("computeenvironment", "leaving") is None)

    assert "take it out of spec.computeEnvironmentOrder of JobQueue leaving first" in refused.stderr
    assert kube.items("nodes", *selector) == []
