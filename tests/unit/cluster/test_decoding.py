"""What is read of the API server's objects, and how seldom."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from batch_operator.api import meta
from batch_operator.api.job import BatchJobStatus, JobState
from batch_operator.cluster import decoding
from support.builders import definition_spec, job
from support.wire import CREATED, pod_object, stored, with_status

RUNNING = {"state": "RUNNING"}


def test_an_object_of_ours_is_read_with_its_identity() -> None:
    read = decoding.job_decoder()(with_status(job(), RUNNING, version=42))

    assert (read.namespace, read.name, read.uid) == ("default", "job", "uid-job")
    assert (read.resource_version, read.generation) == (42, 1)
    assert read.created_at == job().created_at
    assert not read.deleting
    assert read.spec == job().spec
    assert read.status == BatchJobStatus(state=JobState.RUNNING)


def test_an_object_without_a_status_has_an_empty_one() -> None:
    body = {"metadata": {"name": "j", "generation": 1}, "spec": job().spec.to_wire()}

    assert decoding.job_decoder()(stored(body, uid="u", version=1)).status == BatchJobStatus()


def test_a_spec_is_parsed_again_only_when_its_generation_changes() -> None:
    """Nearly all events of a job are echoes of its status."""
    decode, known = decoding.job_decoder(), job()
    decode.reuse({"uid-job": known})
    echo = decode(with_status(known, RUNNING, version=2))
    changed = decode(_of_generation(2))

    assert echo.spec is known.spec
    assert echo.status.state is JobState.RUNNING
    assert changed.spec is not known.spec


def _of_generation(generation: int, **spec: Any) -> bytes:
    body = {
        "metadata": {"name": "job", "namespace": "default", "generation": generation},
        "spec": {**job().spec.to_wire(), **spec},
    }
    return stored(body, uid="uid-job", version=9)


def test_a_field_that_cannot_be_read_is_an_error() -> None:
    """The mirror reports it and goes on."""
    with pytest.raises(ValidationError):
        decoding.job_decoder()(_of_generation(2, jobQueue=5))


def test_what_is_being_deleted_says_so() -> None:
    body = {
        "metadata": {"name": "j", "generation": 1, "deletionTimestamp": CREATED},
        "spec": job().spec.to_wire(),
    }

    assert decoding.job_decoder()(stored(body, uid="u", version=1)).deleting


@pytest.mark.parametrize(
    ("owners", "uid"),
    [
        pytest.param([], None, id="nobody"),
        pytest.param([{"uid": "a"}], None, id="an owner that does not control it"),
        pytest.param([{"uid": "a"}, {"uid": "b", "controller": True}], "b", id="its controller"),
    ],
)
def test_an_object_is_controlled_by_one_owner(
    owners: list[dict[str, Any]], uid: str | None
) -> None:
    whole = [{"kind": "BatchJob", "name": "job", **one} for one in owners]

    assert decoding.controller_uid(pod_object(ownerReferences=whole)) == uid


def test_a_revision_is_read_as_the_spec_that_it_keeps() -> None:
    spec = definition_spec(parameters={"a": "b"})
    metadata = {
        "name": "work-3",
        "namespace": "default",
        "labels": {meta.LABEL_JOB_DEFINITION: "work"},
    }
    body = {"metadata": metadata, "revision": 3, "data": spec.to_wire()}

    assert decoding.revision(stored(body, uid="u", version=7)) == decoding.Revision(
        "u", 7, "default", "work", 3, spec
    )


def test_of_a_namespace_its_labels_are_read() -> None:
    body = {"metadata": {"name": "team-a", "labels": {"batch": "yes"}}, "spec": {"finalizers": []}}
    bare = {"metadata": {"name": "team-b"}}

    assert decoding.namespace(stored(body, uid="u", version=7)) == decoding.Namespace(
        "u", 7, "team-a", {"batch": "yes"}
    )
    assert decoding.namespace(stored(bare, uid="u", version=8)).labels == {}


@pytest.mark.parametrize("decode", [decoding.attempt, decoding.revision, decoding.job_decoder()])
def test_what_is_no_object_at_all_is_an_error(decode: Any) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode(b'{"kind": "Status", "status": "Success"}')
