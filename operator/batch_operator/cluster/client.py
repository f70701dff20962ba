"""The seam between the operator and an API server: what it can be asked, and how it says no."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from batch_operator.api import meta

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    import msgspec


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of the API. `group` is empty for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    subresource: str = ""
    """Of each of its objects: `scale`, say. What is asked of one is then asked of that."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The URL path of a collection, or of one object in it."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
            if self.subresource:
                parts.append(self.subresource)
        return "/" + "/".join(parts)


def _own(plural: str, kind: str, *, namespaced: bool) -> Resource:
    return Resource(meta.GROUP, meta.VERSION, plural, kind, namespaced)


BATCH_JOBS = _own("batchjobs", "BatchJob", namespaced=True)
JOB_DEFINITIONS = _own("jobdefinitions", "JobDefinition", namespaced=True)
JOB_QUEUES = _own("jobqueues", "JobQueue", namespaced=False)
COMPUTE_ENVIRONMENTS = _own("computeenvironments", "ComputeEnvironment", namespaced=False)
SCHEDULING_POLICIES = _own("schedulingpolicies", "SchedulingPolicy", namespaced=False)
CONSUMABLE_RESOURCES = _own("consumableresources", "ConsumableResource", namespaced=False)
PODS = Resource("", "v1", "pods", "Pod")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
EVENTS = Resource("", "v1", "events", "Event")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
JOBS = Resource("batch", "v1", "jobs", "Job")
DAEMON_SETS = Resource("apps", "v1", "daemonsets", "DaemonSet")
CONTROLLER_REVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")

BY_KIND = {
    one.kind: one
    for one in (
        BATCH_JOBS,
        JOB_DEFINITIONS,
        JOB_QUEUES,
        COMPUTE_ENVIRONMENTS,
        SCHEDULING_POLICIES,
        CONSUMABLE_RESOURCES,
    )
}

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"


class ApiError(Exception):
    """The API server's refusal. `status` is 0 when there was no reply at all."""

    def __init__(
        self, status: int, reason: str, message: str, retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def is_unreached(self) -> bool:
        """Whether there was no connection to the API server, or it broke."""
        return self.reason in {"ConnectionLost", "NoReply"}

    @property
    def is_not_found(self) -> bool:
        return self.status == 404

    @property
    def is_conflict(self) -> bool:
        return self.status == 409

    @property
    def is_gone(self) -> bool:
        """The resource version asked for has been compacted away: list again."""
        return self.status == 410

    @property
    def leaves_doubt(self) -> bool:
        """Whether what was asked for may have been done all the same."""
        return self.is_retryable and self.status != 429

    @property
    def is_overtaken(self) -> bool:
        """What was asked for has been overtaken by something that is, or soon will be, known."""
        return self.is_not_found or self.is_conflict or self.is_of_ended_namespace

    @property
    def is_of_ended_namespace(self) -> bool:
        """Nothing can be created any more where everything is being deleted."""
        return self.status == 403 and "is being terminated" in self.message

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may succeed later.

        etcd's size limit is reported as HTTP 500, and no patience makes an object smaller.
        """
        if "request is too large" in self.message:
            return False
        return self.status in {0, 408, 429} or self.status >= 500


@contextmanager
def tolerating(*statuses: int) -> Iterator[None]:
    """Take these refusals for success: what was asked for is so already."""
    try:
        yield
    except ApiError as error:
        if error.status not in statuses:
            raise


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a list; `continue_token` is empty on the last."""

    items: Sequence[msgspec.Raw]
    resource_version: str
    continue_token: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """ADDED, MODIFIED, DELETED, BOOKMARK or ERROR, with the object as it came."""

    type: str
    object: msgspec.Raw


class ApiClient(Protocol):
    """What the operator asks of an API server. Bodies go out as JSON values, replies come raw.

    Every call has a deadline. A call that failed without a reply may have been carried out: names
    are deterministic and preconditions given, so the caller repeats it and reads AlreadyExists,
    NotFound or Conflict as what they then mean.
    """

    async def get(self, resource: Resource, namespace: str | None, name: str) -> bytes: ...

    async def list_page(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int = 500,
        continue_token: str = "",
    ) -> ListPage: ...

    def watch(
        self, resource: Resource, *, label_selector: str | None, resource_version: str
    ) -> AsyncIterator[WatchEvent]: ...

    async def create(
        self, resource: Resource, namespace: str | None, body: Mapping[str, Any]
    ) -> bytes: ...

    async def replace_status(
        self, resource: Resource, namespace: str | None, name: str, body: Mapping[str, Any]
    ) -> bytes: ...

    async def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        *,
        content_type: str,
    ) -> bytes: ...

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str,
        resource_version: int | None = None,
    ) -> bytes: ...
