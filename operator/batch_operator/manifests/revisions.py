"""A revision of a JobDefinition, kept as Deployments' peers keep theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.api import meta

if TYPE_CHECKING:
    from batch_operator.scheduling.mutations import CreateRevision


def controller_revision(create: CreateRevision) -> dict[str, Any]:
    """The ControllerRevision that holds one revision's spec.

    The definition owns it, so deleting a definition deletes its revisions.
    """
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{create.definition}-{create.revision}",
            "namespace": create.namespace,
            "labels": {
                meta.LABEL_MANAGED_BY: meta.MANAGED_BY,
                meta.LABEL_JOB_DEFINITION: create.definition,
            },
            "ownerReferences": [
                {
                    "apiVersion": meta.API_VERSION,
                    "kind": "JobDefinition",
                    "name": create.definition,
                    "uid": create.definition_uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "revision": create.revision,
        "data": create.spec.to_wire(),
    }
