"""Calls as values, for whoever stands where an API server is expected.

What is said of every call (that it fails, that its caller is dead, that a test has lined up the
answer) is said in one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from batch_operator.cluster.client import ListPage, Resource, WatchEvent


@dataclass(frozen=True, slots=True)
class Call:
    """A call of an `ApiClient` that is not a watch, with its arguments by their names."""

    verb: str
    """get, list, create, status, patch or delete."""
    resource: Resource
    arguments: Mapping[str, Any]

    @property
    def is_write(self) -> bool:
        return self.verb not in {"get", "list"}


class CallAnswerer(Protocol):
    """An `ApiClient` in two methods."""

    async def answer(self, call: Call) -> Any: ...

    def watch(
        self, resource: Resource, *, label_selector: str | None, resource_version: str
    ) -> AsyncIterator[WatchEvent]: ...

    async def get(self, resource: Resource, namespace: str | None, name: str) -> bytes:
        return await self._reply("get", resource, namespace=namespace, name=name)

    async def list_page(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int = 500,
        continue_token: str = "",
    ) -> ListPage:
        arguments = {
            "namespace": namespace,
            "label_selector": label_selector,
            "field_selector": field_selector,
            "limit": limit,
            "continue_token": continue_token,
        }
        page: ListPage = await self.answer(Call("list", resource, arguments))
        return page

    async def create(
        self, resource: Resource, namespace: str | None, body: Mapping[str, Any]
    ) -> bytes:
        return await self._reply("create", resource, namespace=namespace, body=body)

    async def replace_status(
        self, resource: Resource, namespace: str | None, name: str, body: Mapping[str, Any]
    ) -> bytes:
        return await self._reply("status", resource, namespace=namespace, name=name, body=body)

    async def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        *,
        content_type: str,
    ) -> bytes:
        return await self._reply(
            "patch", resource, namespace=namespace, name=name, body=body, content_type=content_type
        )

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str,
        resource_version: int | None = None,
    ) -> bytes:
        return await self._reply(
            "delete",
            resource,
            namespace=namespace,
            name=name,
            uid=uid,
            resource_version=resource_version,
        )

    async def _reply(self, verb: str, resource: Resource, **arguments: Any) -> bytes:
        reply: bytes = await self.answer(Call(verb, resource, arguments))
        return reply
