"""The Pod of one attempt: its name, what it tells its containers, and whose it is."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_operator.api import meta
from batch_operator.api.index_set import MAX_INDEX
from batch_operator.api.names import pod_name
from batch_operator.lifecycle.attempt import Phase, observed_attempt
from batch_operator.lifecycle.plan import Plan, make_plan
from batch_operator.manifests.pods import pod
from batch_operator.scheduling.mutations import StartAttempt
from support.builders import definition, definition_spec, job, plan, pod_template
from support.builders import pod as stored_pod

UID = "1b4f9d2a-0c57-4d63-9a54-3f1e2d4c5b6a"
HOST_NAME_MAX = 63
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

TEMPLATE: dict[str, Any] = {
    "metadata": {
        "labels": {
            "team": "a",
            meta.LABEL_JOB_UID: "another",
            "batch-operator.io/tracked": "false",
        },
        "annotations": {"note": "b", meta.ANNOTATION_REQUEUED: "Preempted: by me"},
    },
    "spec": {
        "containers": [
            {
                "name": "main",
                "image": "busybox",
                "env": [{"name": "A", "value": "1"}],
                "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
            },
            {"name": "proxy", "image": "proxy"},
        ],
        "initContainers": [{"name": "fetch", "image": "curl"}],
        "nodeSelector": {"disk": "ssd", meta.LABEL_COMPUTE_ENVIRONMENT: "stolen"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "restartPolicy": "Always",
        "serviceAccountName": "worker",
    },
}


def made(
    template: dict[str, Any] | None = None, retry: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    """The Pod of the first attempt of job `render`, which is no array unless a size is given."""
    arguments: dict[str, Any] = {
        "index": 0,
        "number": 1,
        "array_size": None,
        "environment": "local",
        "node_selector": {meta.LABEL_COMPUTE_ENVIRONMENT: "local"},
        **fields,
    }
    own = plan(template or pod_template(), **(retry or {}))
    return pod(StartAttempt(job=job("render", uid=UID), plan=own, **arguments))


def variables(container: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["name"], one["value"]) for one in container["env"]]


PODS: dict[str, tuple[tuple[str, str, int | None, int], str]] = {
    "a single job": (("render", UID, None, 1), "render-1b4f9d2a-1"),
    "a child of an array": (("render", UID, 17, 2), "render-1b4f9d2a-17-2"),
    "a long name, cut": (("x" * 63, UID, None, 1), f"{'x' * 36}-1b4f9d2a-1"),
    "a name cut behind a dash": ((f"{'x' * 35}-yz", UID, None, 1), f"{'x' * 35}-1b4f9d2a-1"),
    "a name cut behind a dot": ((f"{'x' * 35}.yz", UID, None, 1), f"{'x' * 35}-1b4f9d2a-1"),
}


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_named_after_job_index_and_attempt(name: str) -> None:
    arguments, expected = PODS[name]

    assert pod_name(*arguments) == expected


JOB_NAMES = st.from_regex(SUBDOMAIN, fullmatch=True).filter(lambda name: len(name) <= HOST_NAME_MAX)
TARGETS = st.tuples(st.none() | st.integers(0, MAX_INDEX), st.integers(1, 1000))


@settings(max_examples=50)
@given(JOB_NAMES, st.uuids(), TARGETS)
def test_every_pod_has_a_valid_name_that_fits_into_a_host_name(
    name: str, uid: object, target: tuple[int | None, int]
) -> None:
    found = pod_name(name, str(uid), *target)

    assert len(found) <= HOST_NAME_MAX
    assert SUBDOMAIN.fullmatch(found)


def test_the_longest_name_that_there_is_fits() -> None:
    assert len(pod_name("x" * 63, UID, MAX_INDEX, 1000)) <= HOST_NAME_MAX


@given(st.sets(st.tuples(st.integers(0, 99), st.integers(1, 99)), min_size=2, max_size=20))
def test_no_two_attempts_of_an_array_share_a_name(targets: set[tuple[int, int]]) -> None:
    assert len({pod_name("render", UID, *target) for target in targets}) == len(targets)


def test_a_job_submitted_again_under_its_name_has_pods_of_its_own() -> None:
    assert pod_name("render", UID, None, 1) != pod_name("render", UID[::-1], None, 1)


def test_a_single_job_knows_itself_by_its_environment_variables() -> None:
    """AWS Batch, job environment variables."""
    [container] = made(number=3)["spec"]["containers"]

    assert variables(container) == [
        ("AWS_BATCH_JOB_ID", UID),
        ("AWS_BATCH_JOB_ATTEMPT", "3"),
        ("AWS_BATCH_JQ_NAME", "main"),
        ("AWS_BATCH_CE_NAME", "local"),
    ]


def test_a_child_of_an_array_knows_its_index_and_the_size() -> None:
    """AWS Batch, array jobs: a child's id is the parent's id, a colon and the index, from 0."""
    [container] = made(index=17, array_size=100)["spec"]["containers"]

    assert variables(container) == [
        ("AWS_BATCH_JOB_ID", f"{UID}:17"),
        ("AWS_BATCH_JOB_ATTEMPT", "1"),
        ("AWS_BATCH_JQ_NAME", "main"),
        ("AWS_BATCH_CE_NAME", "local"),
        ("AWS_BATCH_JOB_ARRAY_INDEX", "17"),
        ("AWS_BATCH_JOB_ARRAY_SIZE", "100"),
    ]


def test_index_0_of_an_array_is_a_child_and_not_a_single_job() -> None:
    first = made(index=0, array_size=2)

    assert first["metadata"]["name"] == "render-1b4f9d2a-0-1"
    assert first["metadata"]["labels"][meta.LABEL_ARRAY_INDEX] == "0"


def test_every_container_gets_the_variables_before_its_own() -> None:
    """A user's variable may refer to ours as $(AWS_BATCH_JOB_ID): those defined before it."""
    spec = made(TEMPLATE)["spec"]
    ours = variables(spec["containers"][1])

    assert len(ours) == 4
    assert variables(spec["containers"][0]) == [*ours, ("A", "1")]
    assert variables(spec["initContainers"][0]) == ours


def test_a_pod_says_whose_it_is() -> None:
    labels = made(index=3, number=2, array_size=5)["metadata"]["labels"]

    assert labels == {
        "app.kubernetes.io/managed-by": "batch-operator",
        "batch-operator.io/job-name": "render",
        "batch-operator.io/job-uid": UID,
        "batch-operator.io/job-queue": "main",
        "batch-operator.io/compute-environment": "local",
        "batch-operator.io/attempt": "2",
        "batch-operator.io/job-definition-revision": "1",
        "batch-operator.io/tracked": "true",
        "batch-operator.io/array-index": "3",
    }


def test_a_template_cannot_take_back_what_the_autoscaler_is_told() -> None:
    template = pod_template()
    template["metadata"] = {"annotations": {"karpenter.sh/do-not-disrupt": "false"}}
    told = {"karpenter.sh/do-not-disrupt": "true"}

    assert made(template, pod_annotations=told)["metadata"]["annotations"] == told


def test_users_labels_and_annotations_are_kept_and_override_none_of_ours() -> None:
    metadata = made(TEMPLATE)["metadata"]

    assert metadata["labels"]["team"] == "a"
    assert metadata["labels"][meta.LABEL_JOB_UID] == UID
    assert metadata["labels"][meta.LABEL_TRACKED] == "true"
    assert metadata["annotations"] == {"note": "b"}


def test_a_users_label_makes_no_child_of_a_job_that_is_no_array() -> None:
    template = {**pod_template(), "metadata": {"labels": {meta.LABEL_ARRAY_INDEX: "3", "a": "b"}}}
    labels = made(template)["metadata"]["labels"]

    assert meta.LABEL_ARRAY_INDEX not in labels
    assert labels["a"] == "b"


def test_a_pod_is_owned_by_its_job_and_kept_until_it_is_counted() -> None:
    metadata = made()["metadata"]

    assert metadata["namespace"] == "default"
    assert metadata["finalizers"] == ["batch-operator.io/tracking"]
    assert metadata["ownerReferences"] == [
        {
            "apiVersion": "batch-operator.io/v1alpha1",
            "kind": "BatchJob",
            "name": "render",
            "uid": UID,
            "controller": True,
            "blockOwnerDeletion": False,
        }
    ]


def test_a_pod_goes_to_the_nodes_of_its_environment_and_tolerates_their_taint() -> None:
    spec = made(TEMPLATE)["spec"]

    assert spec["nodeSelector"] == {"disk": "ssd", meta.LABEL_COMPUTE_ENVIRONMENT: "local"}
    assert spec["tolerations"] == [
        {"key": "gpu", "operator": "Exists"},
        {
            "key": "batch-operator.io/compute-environment",
            "operator": "Equal",
            "value": "local",
        },
    ]


def test_an_environment_of_every_node_leaves_the_choice_to_the_template() -> None:
    spec = made(pod_template(), node_selector={})["spec"]

    assert spec["nodeSelector"] == {}


def test_a_container_is_never_restarted_in_place() -> None:
    """An attempt runs once: retries are AWS Batch's, with a Pod of their own."""
    assert made(TEMPLATE)["spec"]["restartPolicy"] == "Never"


def test_a_policy_of_a_containers_own_is_left_out_and_a_sidecars_is_kept() -> None:
    template = pod_template(restartPolicy="OnFailure")
    sidecar = {"name": "side", "image": "i", "restartPolicy": "Always"}
    template["spec"]["initContainers"] = [sidecar]
    spec = made(template=template)["spec"]

    assert "restartPolicy" not in spec["containers"][0]
    assert spec["initContainers"][0]["restartPolicy"] == "Always"


def test_what_the_operator_does_not_know_is_passed_on() -> None:
    assert made(TEMPLATE)["spec"]["serviceAccountName"] == "worker"


RULE = {"factor": 2, "maxMemory": "3Gi"}
MEMORY: dict[str, tuple[dict[str, Any], float, dict[str, Any]]] = {
    "more, in requests and limits": (
        {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
        2,
        {
            "requests": {"cpu": "1", "memory": "2048Mi"},
            "limits": {"memory": "2048Mi"},
        },
    ),
    "no more than the rule allows": (
        {"requests": {"cpu": "1", "memory": "1Gi"}},
        4,
        {"requests": {"cpu": "1", "memory": "3072Mi"}},
    ),
    "never less than before": (
        {"requests": {"cpu": "1", "memory": "4Gi"}},
        2,
        {"requests": {"cpu": "1", "memory": "4096Mi"}},
    ),
    "whole bytes": (
        {"requests": {"cpu": "1", "memory": "10"}},
        1.25,
        {"requests": {"cpu": "1", "memory": "13"}},
    ),
    "what it had, at first": (
        {"requests": {"cpu": "1", "memory": "1Gi"}},
        1,
        {"requests": {"cpu": "1", "memory": "1Gi"}},
    ),
    "nothing, where nothing is said": ({"requests": {"cpu": "1"}}, 2, {"requests": {"cpu": "1"}}),
}


@pytest.mark.parametrize("name", MEMORY)
def test_an_attempt_that_follows_an_out_of_memory_gets(name: str) -> None:
    """Beyond AWS Batch: retryStrategy.onOutOfMemory."""
    resources, factor, expected = MEMORY[name]
    found = made(
        pod_template(resources=resources),
        {"attempts": 3, "onOutOfMemory": RULE},
        memory_factor=factor,
    )

    assert found["spec"]["containers"][0]["resources"] == expected


def test_the_template_is_left_as_it_was() -> None:
    """It is shared by every attempt of a job."""
    shared = plan(copy.deepcopy(TEMPLATE), attempts=2, onOutOfMemory=RULE)
    before = copy.deepcopy(shared.template)
    for index in range(3):
        start = StartAttempt(
            job("render", uid=UID), shared, index, 1, 3, "local", {"a": "b"}, memory_factor=2
        )
        pod(start)

    assert shared.template == before


def test_what_is_written_on_a_pod_is_read_back_from_it() -> None:
    metadata = made(index=17, number=2, array_size=100)["metadata"]
    found = observed_attempt(stored_pod(node="", pod_labels=metadata.pop("labels"), **metadata))

    assert (found.job_uid, found.index, found.number, found.revision) == (UID, 17, 2, 1)
    assert (found.environment, found.milli_cpu) == ("local", 1000)
    assert (found.phase, found.tracked) == (Phase.UNBOUND, True)


# What differs between the children of an array


def child(index: int, template: dict[str, Any], **array: Any) -> dict[str, Any]:
    """The Pod of a child of an array of two of this template."""
    one = job("render", uid=UID, arrayProperties={"size": 2, **array})
    made_of = make_plan(one, definition(spec=definition_spec(podTemplate=template)), None)
    assert isinstance(made_of, Plan), made_of
    return pod(StartAttempt(one, made_of, index, 1, 2, "local", {}))


def sample(*values: str) -> dict[str, Any]:
    return {"lists": [{"name": "sample", "values": list(values)}]}


def test_each_child_gets_its_values_in_every_container() -> None:
    template = {
        "spec": {
            "containers": [
                {**pod_template()["spec"]["containers"][0], "command": ["run", "Ref::sample"]},
                {"name": "proxy", "image": "proxy", "args": ["--for=Ref::sample"]},
            ],
            "initContainers": [{"name": "fetch", "image": "curl", "args": ["Ref::sample/x"]}],
        }
    }
    before = copy.deepcopy(template)
    pods = [child(index, template, parameters=sample("a", "b")) for index in (0, 1)]
    words = [
        [
            *one["spec"]["containers"][0]["command"],
            *one["spec"]["containers"][1]["args"],
            *one["spec"]["initContainers"][0]["args"],
        ]
        for one in pods
    ]

    assert words == [["run", "a", "--for=a", "a/x"], ["run", "b", "--for=b", "b/x"]]
    assert template == before
    for container in (*pods[1]["spec"]["containers"], *pods[1]["spec"]["initContainers"]):
        assert ("sample", "b") in variables(container)


def test_a_value_comes_before_the_variables_that_may_refer_to_it() -> None:
    env = [
        {"name": "sample", "value": "the template's"},
        {"name": "FILE", "value": "$(sample)-$(AWS_BATCH_JOB_ID)"},
    ]
    found = variables(
        child(1, pod_template(env=env), parameters=sample("a", "b"))["spec"]["containers"][0]
    )

    assert found[-2:] == [("sample", "b"), ("FILE", "$(sample)-$(AWS_BATCH_JOB_ID)")]
    assert dict(found)["AWS_BATCH_JOB_ARRAY_INDEX"] == "1"


def test_a_value_reaches_the_container_as_it_is_written() -> None:
    """Kubernetes would replace `$(NAME)` and take `$$` for an escaped dollar."""
    made_of = child(0, pod_template(), parameters=sample("$(HOME) costs $$5", "b"))

    assert ("sample", "$$(HOME) costs $$$$5") in variables(made_of["spec"]["containers"][0])
