"""A node that the operator has made is removed before its environment is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api import meta
from batch_operator.cluster.client import COMPUTE_ENVIRONMENTS, NODES
from batch_operator.simulator.checkers.checker import OPERATOR, End, title

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_operator.simulator.api_server import Write


class NoNodeLeftBehind:
    """A machine that nobody knows of is paid for until somebody finds it."""

    name = "no_node_left_behind"

    def __init__(self) -> None:
        self._environment_of: dict[str, str] = {}
        """By uid of a node that there is, as it was made."""

    def see(self, write: Write) -> Iterable[str]:
        if write.resource == NODES and write.actor == OPERATOR and write.is_creation:
            metadata = write.object["metadata"]
            environment = metadata["labels"][meta.LABEL_COMPUTE_ENVIRONMENT]
            self._environment_of[metadata["uid"]] = environment
        elif write.resource == NODES and write.is_removal:
            self._environment_of.pop(write.object["metadata"]["uid"], None)
        elif write.resource is COMPUTE_ENVIRONMENTS and write.is_removal:
            name = write.object["metadata"]["name"]
            if left := sum(one == name for one in self._environment_of.values()):
                yield f"{title(write.object)} is gone, and {left} of its nodes are not"

    def finish(self, end: End) -> Iterable[str]:
        known = {one["metadata"]["name"] for one in end.server.objects(COMPUTE_ENVIRONMENTS)}
        for uid, environment in self._environment_of.items():
            if environment not in known:
                yield f"node {uid} was made for environment {environment}, which is gone"
