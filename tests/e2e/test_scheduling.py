"""What queues do on a real cluster: preemption, shares, units of resources, children's values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.cluster import decoding
from support.kube import Kube, definition, job, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

ORDER = [{"order": 1, "computeEnvironment": "narrow"}]


def of_cluster(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch-operator.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


@pytest.fixture
def narrow(kube: Kube) -> Iterator[Kube]:
    """A cluster with an environment for one small job at a time, and queues that share it."""
    made = [
        of_cluster(
            "ComputeEnvironment", "narrow", type="UNMANAGED", maxvCpus=1, nodeSelector={}
        ),
        of_cluster("SchedulingPolicy", "even", fairsharePolicy={}),
        of_cluster(
            "JobQueue", "labelled", priority=1, computeEnvironmentOrder=ORDER,
            allowedNamespaces={"selector": {"matchLabels": {"batch": "yes"}}},
        ),
        of_cluster("JobQueue", "low", priority=1, computeEnvironmentOrder=ORDER),
        of_cluster(
            "JobQueue", "urgent", priority=9, computeEnvironmentOrder=ORDER,
            preemption={"enabled": True},
        ),
        of_cluster(
            "JobQueue", "shared", priority=1, computeEnvironmentOrder=ORDER,
            schedulingPolicy="even",
        ),
        of_cluster(
            "ConsumableResource", "tokens", totalQuantity=2, resourceType="NON_REPLENISHABLE"
        ),
    ]  # fmt: skip
    kube.apply(*made)
    yield kube
    for one in made:
        kube("delete", one["kind"], one["metadata"]["name"], "--wait=false")


def on(queue: str, name: str, **spec: Any) -> dict[str, Any]:
    return job(name, "d", queue, **spec)


WHOLE = {"requests": {"cpu": "1"}}


def test_an_urgent_job_makes_a_running_one_give_way_and_it_loses_no_try(narrow: Kube) -> None:
    slow_once = 'if [ "$AWS_BATCH_JOB_ATTEMPT" = 1 ]; then sleep 300; fi'
    narrow.apply(definition("d", slow_once, resources=WHOLE), on("low", "victim"))
    narrow.wait_for_state("victim", "RUNNING")
    quick = {"containerOverrides": [{"command": ["true"]}]}
    narrow.apply(on("urgent", "urgent", **quick))

    narrow.wait_for_state("urgent", "SUCCEEDED")
    status = narrow.wait_for_state("victim", "SUCCEEDED", "FAILED")

    assert status["state"] == "SUCCEEDED"
    assert [row["statusReason"] for row in status["attempts"]] == [
        "Preempted: made room for job urgent",
        "Essential container in task exited",
    ]


def test_kube_scheduler_tells_a_request_that_no_node_could_meet_in_the_words_that_are_known(
    narrow: Kube,
) -> None:
    """After a quarter of an hour such a Pod gives way: `scheduling.unplaced`, by these words."""
    large = {"requests": {"cpu": "100m", "memory": "100Ti"}}
    narrow.apply(definition("d", "true", resources=large), on("low", "too-large"))

    narrow.wait_for_pending("too-large", "Unschedulable", "Insufficient memory")
    (made,) = narrow.pods_of("too-large")

    assert decoding.attempt(json.dumps(made).encode()).unplaceable


def test_shares_take_turns_and_the_queue_shows_who_holds_what(narrow: Kube) -> None:
    narrow.apply(
        definition("d", "sleep 1", resources=WHOLE),
        on("shared", "many", shareIdentifier="red", arrayProperties={"size": 6}),
        on("shared", "one", shareIdentifier="blue"),
    )
    ends = [narrow.wait_for_state(name, "SUCCEEDED")["stoppedAt"] for name in ("one", "many")]

    def rows() -> dict[str, Any]:
        shares = (narrow.get("jobqueue", "shared") or {})["status"].get("shares", [])
        found = {row["shareIdentifier"]: row for row in shares}
        return found if {row["vcpus"] for row in shares} == {"0"} else {}

    found = wait_for("nobody to hold anything", rows)

    assert ends == sorted(set(ends))  # the first of them was submitted last
    assert set(found) == {"red", "blue"}
    assert found["red"]["usage"]["vcpuSeconds"] > found["blue"]["usage"]["vcpuSeconds"] > 0


def test_units_that_are_used_up_do_not_come_back(narrow: Kube) -> None:
    narrow.apply(
        definition("d", "true", resources=WHOLE),
        on(
            "low", "array", arrayProperties={"size": 3},
            consumableResources=[{"name": "tokens", "quantity": 1}],
        ),
    )  # fmt: skip

    def two_have_run() -> bool:
        array = narrow.status("array").get("array") or {}
        return array.get("indexes", {}).get("succeeded") == "0-1"

    wait_for("two of three", two_have_run)

    def all_are_granted() -> bool:
        status = (narrow.get("consumableresource", "tokens") or {})["status"]
        grants = [(one["quantity"], one["indexes"]) for one in status.get("grants", ())]
        return status["availableQuantity"] == 0 and grants == [(1, "0-1")]

    wait_for("the resource to say who has its units", all_are_granted)
    narrow.wait_for_pending("array", "ArrayInProgress", "none comes back")

    narrow("patch", "consumableresource", "tokens", "--type=merge", "-p",
           '{"spec": {"totalQuantity": 3}}')  # fmt: skip
    narrow.wait_for_state("array", "SUCCEEDED")

    def spent() -> bool:
        status = (narrow.get("consumableresource", "tokens") or {})["status"]
        return status.get("spentQuantity") == 3 and not status.get("grants")

    wait_for("what was granted to be spent", spent)


def test_children_get_their_lines_of_a_config_map(kube: Kube) -> None:
    lines = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "samples"},
        "data": {"lines": "red,1\nblue,2\n"},
        "immutable": True,
    }
    source = {"name": "samples", "key": "lines", "parameters": ["colour", "number"]}
    array = {"size": 2, "parameters": {"configMap": source}}
    kube.apply(
        lines,
        definition("d", "echo Ref::colour $number"),
        job("array", "d", arrayProperties=array),
    )
    kube.wait_for_state("array", "SUCCEEDED")
    said = {kube("logs", pod["metadata"]["name"]).strip() for pod in kube.pods_of("array")}

    assert said == {"red 1", "blue 2"}


def test_only_what_failed_runs_again(kube: Kube) -> None:
    kube.apply(
        definition("d", '[ "$AWS_BATCH_JOB_ARRAY_INDEX" != 1 ]'),
        definition("again", "true"),
        job("first", "d", arrayProperties={"size": 3}),
        job("second", "again", arrayProperties={"rerunFailedOf": "first"}),
    )
    status = kube.wait_for_state("second", "SUCCEEDED")

    assert kube.status("first")["state"] == "FAILED"
    assert status["array"]["indexes"] == {"succeeded": "1"}


def test_a_namespace_may_submit_to_a_queue_once_it_has_the_label(narrow: Kube) -> None:
    narrow.apply(definition("d", "true"), on("labelled", "a"))
    narrow.wait_for_pending("a", "NamespaceNotAllowed")
    narrow("label", "namespace", narrow.namespace, "batch=yes")

    narrow.wait_for_state("a", "SUCCEEDED")
