"""A JobDefinition's revision as the object that keeps it."""

from __future__ import annotations

import json

from batch_operator.api.job_definition import JobDefinitionSpec
from batch_operator.manifests.revisions import controller_revision
from batch_operator.scheduling.mutations import CreateRevision
from support.builders import definition_spec

CREATE = CreateRevision(
    namespace="default",
    definition="work",
    definition_uid="uid-work",
    revision=3,
    spec=definition_spec(parameters={"a": "b"}, retryStrategy={"attempts": 2}),
)


def test_a_revision_is_named_after_its_definition_and_number() -> None:
    """So that recording it twice meets AlreadyExists."""
    found = controller_revision(CREATE)

    assert (found["apiVersion"], found["kind"]) == ("apps/v1", "ControllerRevision")
    assert found["metadata"]["name"] == "work-3"
    assert found["metadata"]["namespace"] == "default"
    assert found["revision"] == 3


def test_a_revision_outlives_its_definition() -> None:
    """AWS Batch, DeregisterJobDefinition: jobs that were submitted are not affected."""
    assert "ownerReferences" not in controller_revision(CREATE)["metadata"]


def test_a_revision_is_found_by_its_labels() -> None:
    assert controller_revision(CREATE)["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "batch-operator",
        "batch-operator.io/job-definition": "work",
    }


def test_a_revision_reads_back_as_the_spec_it_keeps() -> None:
    """If it did not, every look at the definition would record a new one."""
    text = json.dumps(controller_revision(CREATE)["data"])

    assert JobDefinitionSpec.model_validate_json(text) == CREATE.spec
