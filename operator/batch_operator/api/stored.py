"""One of our objects as the API server stores it: identity, spec and status, parsed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from datetime import datetime

SpecT = TypeVar("SpecT")
StatusT = TypeVar("StatusT")


@dataclass(frozen=True, slots=True)
class Stored(Generic[SpecT, StatusT]):
    """An object of one of our kinds. `namespace` is empty for cluster-scoped kinds.

    `resource_version` is an integer because Kubernetes orders them (KEP-5504): the larger is the
    newer, which is how a reply to our own write and a late watch event are told apart.
    """

    namespace: str
    name: str
    uid: str
    resource_version: int
    generation: int
    created_at: datetime
    deleting: bool
    spec: SpecT
    status: StatusT
    finalizers: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name
