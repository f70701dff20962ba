"""Keeps an environment's NodePools as they should be, and reads what became of launches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from batch_operator.api import meta
from batch_operator.cluster.client import EVENTS, MERGE_PATCH, ApiError, Resource, tolerating
from batch_operator.cluster.provisioner import Provided, UnableError
from batch_operator.provisioners.karpenter.launches import (
    NO_CAPACITY,
    coming,
    failed_launches,
    lacks_of_capacity,
    latest,
    node_pools_of,
    problem_of,
)
from batch_operator.provisioners.karpenter.node_pools import (
    agrees,
    groups_of,
    is_owned,
    node_pools,
    without_absent,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batch_operator.cluster.client import ApiClient
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.plan import CapacityPlan
    from batch_operator.scheduling.snapshot import Environment

NODE_POOLS = Resource("karpenter.sh", "v1", "nodepools", "NodePool", namespaced=False)
NODE_CLAIMS = Resource("karpenter.sh", "v1", "nodeclaims", "NodeClaim", namespaced=False)
NO_MORE = {"limits": {"cpu": "0"}}
"""In the spec of a NodePool that is to have no new nodes."""
EVENTS_NAMESPACE = "default"
"""Where Events about objects without a namespace are."""
_NOT_SERVED = (
    "this cluster does not serve karpenter.sh/v1: install Karpenter, 1.0 or newer, or take another "
    "spec.provisioner"
)


class KarpenterProvisioner:
    """NodePools owned by the environment. Karpenter orders nodes and takes idle ones away."""

    follows_pods = True

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def provide(
        self, environment: Environment, plan: CapacityPlan, nodes: Sequence[Node]
    ) -> Provided:
        """Bring the NodePools up to date, and tell what Karpenter could not launch."""
        del nodes
        ours = f"{meta.LABEL_COMPUTE_ENVIRONMENT}={environment.name}"
        try:
            pools = await self._client.list_page(NODE_POOLS, label_selector=ours, limit=0)
            page = await self._client.list_page(NODE_CLAIMS, label_selector=ours, limit=0)
        except ApiError as error:
            if not error.is_not_found:
                raise
            if environment.deleting:
                return Provided()  # what there was went with its kinds
            raise UnableError(_NOT_SERVED) from error
        claims, found = page.items, [msgspec.json.decode(raw) for raw in pools.items]
        found = [one for one in found if is_owned(one, environment)]
        problems = await self._bring_up_to_date(environment, plan, found, claims)
        page = await self._client.list_page(
            EVENTS,
            namespace=EVENTS_NAMESPACE,
            field_selector=f"reason={NO_CAPACITY},involvedObject.kind=NodeClaim",
            limit=0,
        )
        groups = groups_of(environment)
        launches = [*failed_launches(claims, groups), *lacks_of_capacity(page.items, groups)]
        for one in found:
            if problem := problem_of(one):
                problems.setdefault(one["metadata"]["name"], problem)
        return Provided(
            told=latest(launches),
            problem=next(iter(problems.values()), None),
            is_invalid=all(group.name in problems for group in groups),
            coming=coming(claims, groups),
            is_pending=bool(claims),
        )

    async def _bring_up_to_date(
        self,
        environment: Environment,
        plan: CapacityPlan,
        found: Sequence[Mapping[str, Any]],
        claims: Sequence[msgspec.Raw],
    ) -> dict[str, str]:
        """Write what differs; what stands in the way, by NodePool."""
        wanted = [] if environment.deleting else node_pools(environment, plan.preference)
        by_name = {one["metadata"]["name"]: one for one in found}
        problems: dict[str, str] = {}
        for body in wanted:
            name = body["metadata"]["name"]
            try:
                await self._write(environment, body, by_name.get(name))
            except ApiError as error:
                if error.status in {400, 409, 422}:
                    problems[name] = f"NodePool {name}: {error.message}"
                else:
                    raise
        in_use = node_pools_of(claims)
        for name in sorted(by_name.keys() - {one["metadata"]["name"] for one in wanted}):
            old = by_name[name]
            if name not in in_use and (environment.deleting or agrees(NO_MORE, old["spec"])):
                await self._delete(old)
            else:
                await self._close(old)
        return problems

    async def _write(
        self, environment: Environment, wanted: Mapping[str, Any], found: Mapping[str, Any] | None
    ) -> None:
        name = wanted["metadata"]["name"]
        if found is None:
            try:
                await self._client.create(NODE_POOLS, None, without_absent(wanted))
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
            else:
                return
            found = msgspec.json.decode(await self._client.get(NODE_POOLS, None, name))
            if not is_owned(found, environment):
                message = (
                    f"it exists and is not of compute environment {environment.name}: delete it"
                )
                raise ApiError(409, "AlreadyExists", message)
        labels, spec = wanted["metadata"]["labels"], wanted["spec"]
        if agrees(labels, found["metadata"].get("labels")) and agrees(spec, found["spec"]):
            return
        body = {"metadata": {"uid": found["metadata"]["uid"], "labels": labels}, "spec": spec}
        await self._client.patch(NODE_POOLS, None, name, body, content_type=MERGE_PATCH)

    async def _close(self, node_pool: Mapping[str, Any]) -> None:
        """Let it have no more nodes. Those that it has go with it, so it has to stay for them."""
        if agrees(NO_MORE, node_pool["spec"]):
            return
        metadata = node_pool["metadata"]
        body = {"metadata": {"uid": metadata["uid"]}, "spec": NO_MORE}
        await self._client.patch(NODE_POOLS, None, metadata["name"], body, content_type=MERGE_PATCH)

    async def _delete(self, node_pool: Mapping[str, Any]) -> None:
        metadata = node_pool["metadata"]
        with tolerating(404):
            await self._client.delete(NODE_POOLS, None, metadata["name"], uid=metadata["uid"])
