"""A revision of a JobDefinition, kept as Deployments' peers keep theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.api import meta

if TYPE_CHECKING:
    from batch_operator.scheduling.mutations import CreateRevision


def revision_name(definition: str, revision: int) -> str:
    return f"{definition}-{revision}"


def controller_revision(create: CreateRevision) -> dict[str, Any]:
    """The ControllerRevision that holds one revision's spec.

    It has no owner: jobs go on running what they were given when their definition is deleted, so
    the operator deletes a revision itself, once nobody uses it.
    """
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": revision_name(create.definition, create.revision),
            "namespace": create.namespace,
            "labels": {
                meta.LABEL_MANAGED_BY: meta.MANAGED_BY,
                meta.LABEL_JOB_DEFINITION: create.definition,
            },
        },
        "revision": create.revision,
        "data": create.spec.to_wire(),
    }
