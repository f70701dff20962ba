"""An API server in memory: objects as JSON values, versions, preconditions, deletion, history.

It answers as the real one does, because the operator's correctness hangs on these answers: a write
on an outdated object is a conflict, a no-op write makes no new version, an object with finalizers
stays, a status is written apart from its spec. Objects are values: nobody changes one in place.

Everything here happens at once. Distance (latency, paging, watches) is `api_client`'s.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from batch_operator.cluster.client import (
    MERGE_PATCH,
    STRATEGIC_MERGE_PATCH,
    ApiError,
    Resource,
)
from batch_operator.simulator.admission import admitted, check_status, fresh_status
from batch_operator.simulator.patches import merge_patch, strategic_merge_patch
from batch_operator.simulator.virtual_time import PLAIN

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping

    from batch_operator.simulator.virtual_time import Calendar

    Json = dict[str, Any]
    Key = tuple[str, str]

SIZE_MAX = 1_500_000
"""etcd's default limit on a request, in bytes."""
HISTORY_S = 300.0
"""Events older than this may be compacted away, as etcd does every five minutes."""
_PRUNE_EVERY = 1000
_GRACE_S = 30
_UNSET = object()


class Write:
    """One accepted write, and at the same time the object's state after it.

    `before` is None for a creation, `after` for a removal. `object` is what watchers are shown: the
    new state, or the last state under the version of the removal.
    """

    __slots__ = ("_raw", "actor", "after", "at_s", "before", "object", "resource", "version")

    def __init__(
        self,
        resource: Resource,
        actor: str,
        version: int,
        at_s: float,
        before: Json | None,
        after: Json | None,
    ) -> None:
        self.resource = resource
        self.actor = actor
        self.version = version
        self.at_s = at_s
        self.before = before
        self.after = after
        shown = after if after is not None else before
        assert shown is not None  # a write has at least one side
        self.object: Json = shown if after is not None else _versioned(shown, version)
        self._raw: bytes | None = None

    @property
    def raw(self) -> bytes:
        """`object` as JSON."""
        if self._raw is None:
            self._raw = msgspec.json.encode(self.object)
        return self._raw

    @property
    def is_creation(self) -> bool:
        return self.before is None

    @property
    def is_removal(self) -> bool:
        return self.after is None


class Listener(Protocol):
    """Told of every accepted write, in order."""

    def __call__(self, write: Write, /) -> None: ...


class Log:
    """The recent writes of one resource, for watches."""

    def __init__(self) -> None:
        self.waiters: list[asyncio.Future[None]] = []
        self.compacted_to = 0
        self._writes: list[Write] = []
        self._offset = 0

    @property
    def end(self) -> int:
        """The position that the next write will have."""
        return self._offset + len(self._writes)

    def append(self, write: Write) -> None:
        self._writes.append(write)
        if len(self._writes) % _PRUNE_EVERY == 0:
            self.compact(before_s=write.at_s - HISTORY_S)
        self.wake()

    def wake(self) -> None:
        """Have whoever waits for a write look again."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def at(self, position: int) -> Write | None:
        """The write at a position; None when it has been compacted away."""
        index = position - self._offset
        return self._writes[index] if index >= 0 else None

    def position_after(self, version: int) -> int | None:
        """Where a watch from `version` begins; None when what followed it has been compacted."""
        if version < self.compacted_to:
            return None
        low, high = 0, len(self._writes)
        while low < high:
            middle = (low + high) // 2
            if self._writes[middle].version <= version:
                low = middle + 1
            else:
                high = middle
        return self._offset + low

    def compact(self, before_s: float) -> None:
        """Forget the writes before a moment."""
        keep = next(
            (number for number, one in enumerate(self._writes) if one.at_s >= before_s),
            len(self._writes),
        )
        if keep:
            self.compacted_to = self._writes[keep - 1].version
            self._offset += keep
            del self._writes[:keep]

    def newest_first(self) -> Iterable[Write]:
        return reversed(self._writes)


class ApiServer:
    """The store, and the rules by which it is written."""

    def __init__(self, time: Callable[[], float], seed: int, calendar: Calendar = PLAIN) -> None:
        self.version = 1
        self.calendar = calendar
        self._time = time
        self._seed = seed
        self._uids = 0
        self._objects: dict[Resource, dict[Key, Write]] = defaultdict(dict)
        self._logs: dict[Resource, Log] = defaultdict(Log)
        self._listeners: list[Listener] = []
        self._untold: deque[Write] = deque()
        self._is_telling = False

    # Reading

    def timestamp(self, in_s: float = 0.0) -> str:
        """The time, now or so much later, as it is written into objects."""
        return self.calendar.timestamp(self._time() + in_s)

    def log(self, resource: Resource) -> Log:
        return self._logs[resource]

    def logs(self) -> Iterable[Log]:
        return self._logs.values()

    def entries_as_of(self, resource: Resource, ago_s: float) -> tuple[int, list[Write]]:
        """The version of a moment and every object's latest write then, as far as is remembered."""
        version, table = self.version, dict(self._objects[resource])
        if ago_s:
            for write in self._logs[resource].newest_first():
                if write.at_s <= self._time() - ago_s:
                    break
                key = _key(write.object)
                version = write.version - 1
                table.pop(key, None)
                if write.before is not None:
                    known = int(write.before["metadata"]["resourceVersion"])
                    table[key] = Write(resource, "", known, write.at_s, None, write.before)
        return version, [table[key] for key in sorted(table)]

    def objects(self, resource: Resource) -> list[Json]:
        """Every object, in order of creation."""
        return [one.object for one in self._objects[resource].values()]

    def find(self, resource: Resource, namespace: str | None, name: str) -> Json | None:
        entry = self._objects[resource].get((namespace or "", name))
        return entry.object if entry else None

    def get(self, resource: Resource, namespace: str | None, name: str) -> Write:
        """The object's latest write.

        Raises:
            ApiError: 404.
        """
        entry = self._objects[resource].get((namespace or "", name))
        if entry is None:
            raise ApiError(404, "NotFound", f'{resource.plural} "{name}" not found')
        return entry

    def subscribe(self, listener: Listener) -> None:
        """Have `listener` told of every write from now on."""
        self._listeners.append(listener)

    # Writing

    def create(
        self,
        resource: Resource,
        namespace: str | None,
        body: Mapping[str, Any],
        actor: str,
        *,
        at_s: float | None = None,
    ) -> Write:
        """Store a new object; with `at_s` as one that has been there since then.

        Raises:
            ApiError: 409 AlreadyExists, 422 Invalid.
        """
        wanted = admitted(resource.kind, dict(body), None)
        given = wanted.get("metadata") or {}
        key = (namespace or "", given["name"])
        if key in self._objects[resource]:
            message = f'{resource.plural} "{given["name"]}" already exists'
            raise ApiError(409, "AlreadyExists", message)
        metadata = {
            **{name: value for name, value in given.items() if value not in ({}, [], None)},
            "uid": self._next_uid(),
            "generation": 1,
            "creationTimestamp": self.timestamp()
            if at_s is None
            else self.calendar.timestamp(at_s),
        }
        if namespace:
            metadata["namespace"] = namespace
        created: Json = {**wanted, "metadata": metadata}
        created.setdefault("apiVersion", resource.api_version)
        created.setdefault("kind", resource.kind)
        if (fresh := fresh_status(resource.kind)) is not None:
            created["status"] = fresh
        elif resource.kind == "Pod":
            created["spec"] = {"terminationGracePeriodSeconds": _GRACE_S, **created["spec"]}
            created["status"] = {"phase": "Pending"}
        return self._store(resource, key, None, created, actor)

    def restore(self, resource: Resource, body: Json, actor: str) -> Write:
        """Store an object as another API server had it: with its uid, its times and its status."""
        metadata = body["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        assert key not in self._objects[resource]  # whoever restores has made sure
        return self._store(resource, key, None, body, actor)

    def replace_status(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        actor: str,
    ) -> Write:
        """PUT of the status subresource: everything but `status` is taken from what is stored.

        Raises:
            ApiError: 404, 409 when a precondition does not hold, 422.
        """
        entry = self.get(resource, namespace, name)
        given = body.get("metadata") or {}
        if not given.get("resourceVersion"):
            message = "metadata.resourceVersion: must be specified for an update"
            raise ApiError(422, "Invalid", message)
        _check_preconditions(resource, entry.object, given)
        status = dict(body.get("status") or {})
        check_status(resource.kind, status)
        changed = {**entry.object, "status": status}
        return self._store(resource, (namespace or "", name), entry, changed, actor)

    def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        content_type: str,
        actor: str,
    ) -> Write:
        """Patch everything but the status of an object.

        A uid or resource version in the patch is a precondition.

        Raises:
            ApiError: 404, 409, 422, or 415 for a kind of patch that is not known.
        """
        entry = self.get(resource, namespace, name)
        old = entry.object
        given = body.get("metadata") or {}
        _check_preconditions(resource, old, given)
        if content_type == MERGE_PATCH:
            patched = merge_patch(old, body)
        elif content_type == STRATEGIC_MERGE_PATCH and not resource.group.endswith(".io"):
            patched = strategic_merge_patch(old, body)
        else:
            message = f"{resource.plural} cannot be patched with {content_type}"
            raise ApiError(415, "UnsupportedMediaType", message)
        return self._update(resource, entry, patched, actor)

    def update(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        change: Callable[[Json], Json],
        actor: str,
    ) -> Write:
        """Change an object's spec or metadata by a function of what is stored."""
        entry = self.get(resource, namespace, name)
        return self._update(resource, entry, change(entry.object), actor)

    def update_status(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        change: Callable[[Json], Json],
        actor: str,
    ) -> Write:
        """Change an object's status by a function of the stored status."""
        entry = self.get(resource, namespace, name)
        changed = {**entry.object, "status": change(entry.object.get("status") or {})}
        return self._store(resource, (namespace or "", name), entry, changed, actor)

    def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        actor: str,
        *,
        uid: str = "",
        resource_version: int | None = None,
        grace_s: int | None = None,
    ) -> Write:
        """Delete an object, or begin to: one with finalizers or a grace period stays for now.

        Raises:
            ApiError: 404, 409 when the uid or the version is another.
        """
        entry = self.get(resource, namespace, name)
        old = entry.object
        version = "" if resource_version is None else str(resource_version)
        _check_preconditions(resource, old, {"uid": uid, "resourceVersion": version})
        grace_s = _grace(resource, old, grace_s)
        metadata = old["metadata"]
        if not metadata.get("finalizers") and not grace_s:
            return self._store(resource, (namespace or "", name), entry, None, actor)
        before_s = metadata.get("deletionGracePeriodSeconds")
        if before_s is not None and before_s <= grace_s:
            return entry  # it is under way, and no sooner than asked for
        marked = {
            **metadata,
            "generation": metadata["generation"] + (1 if before_s is None else 0),
            "deletionTimestamp": self.timestamp(grace_s),
            "deletionGracePeriodSeconds": grace_s,
        }
        changed = {**old, "metadata": marked}
        return self._store(resource, (namespace or "", name), entry, changed, actor)

    # Inside

    def _update(self, resource: Resource, entry: Write, wanted: Json, actor: str) -> Write:
        """Store a change of anything but the status; the server's own fields cannot be changed."""
        old = entry.object
        wanted = admitted(resource.kind, wanted, old)
        fixed = (
            "name",
            "namespace",
            "uid",
            "creationTimestamp",
            "generation",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        )
        metadata = dict(wanted["metadata"])
        for field in fixed:
            if (value := old["metadata"].get(field, _UNSET)) is _UNSET:
                metadata.pop(field, None)
            else:
                metadata[field] = value
        for field in ("labels", "annotations", "finalizers", "ownerReferences"):
            if not metadata.get(field, _UNSET):
                del metadata[field]
        changed = {**wanted, "metadata": metadata}
        if "status" in old:
            changed["status"] = old["status"]
        if changed.get("spec") != old.get("spec"):
            metadata["generation"] = old["metadata"]["generation"] + 1
        key = (metadata.get("namespace", ""), metadata["name"])
        is_over = (
            "deletionTimestamp" in metadata
            and not metadata.get("finalizers")
            and not metadata.get("deletionGracePeriodSeconds")
        )
        return self._store(resource, key, entry, None if is_over else changed, actor)

    def _store(
        self, resource: Resource, key: Key, entry: Write | None, after: Json | None, actor: str
    ) -> Write:
        before = entry.object if entry else None
        if entry is not None and after is not None:
            after = _versioned(after, before["metadata"]["resourceVersion"]) if before else after
            if after == before:
                return entry
        self.version += 1
        if after is not None:
            after = _versioned(after, self.version)
        write = Write(resource, actor, self.version, self._time(), before, after)
        if len(write.raw) > SIZE_MAX:
            self.version -= 1
            raise ApiError(500, "InternalError", "etcdserver: request is too large")
        if after is None:
            del self._objects[resource][key]
        else:
            self._objects[resource][key] = write
        self._logs[resource].append(write)
        self._tell(write)
        return write

    def _tell(self, write: Write) -> None:
        """Tell the listeners. What they write in turn is told after this: all see one order."""
        self._untold.append(write)
        if self._is_telling:
            return
        self._is_telling = True
        try:
            while self._untold:
                told = self._untold.popleft()
                for listener in self._listeners:
                    listener(told)
        finally:
            self._is_telling = False

    def _next_uid(self) -> str:
        """Uids rise in order of creation, so that what was applied first wins a tie of times."""
        self._uids += 1
        digest = hashlib.blake2b(f"{self._seed}:{self._uids}".encode(), digest_size=12).hexdigest()
        return f"{self._uids:08x}-{digest[:4]}-4{digest[4:7]}-8{digest[7:10]}-{digest[10:22]}"


def _key(value: Json) -> Key:
    return value["metadata"].get("namespace", ""), value["metadata"]["name"]


def _versioned(value: Json, version: int | str) -> Json:
    return {**value, "metadata": {**value["metadata"], "resourceVersion": str(version)}}


def _check_preconditions(resource: Resource, old: Json, given: Mapping[str, Any]) -> None:
    name = old["metadata"]["name"]
    for field in ("uid", "resourceVersion"):
        wanted = given.get(field)
        if wanted and wanted != old["metadata"][field]:
            message = (
                f"Operation cannot be fulfilled on {resource.plural} {name!r}: {field} is "
                f"{old['metadata'][field]}, not {wanted}"
            )
            raise ApiError(409, "Conflict", message)


def _grace(resource: Resource, old: Json, asked_s: int | None) -> int:
    """The grace period that a deletion gets: none but for Pods that are on a node and not over."""
    if resource.kind != "Pod":
        return 0
    is_over = old["status"].get("phase") in {"Succeeded", "Failed"}
    if is_over or not old["spec"].get("nodeName"):
        return 0
    own_s: int = old["spec"]["terminationGracePeriodSeconds"]
    return own_s if asked_s is None else asked_s
