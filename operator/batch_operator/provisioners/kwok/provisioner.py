"""Creates and deletes fake Node objects; kwok plays what runs on them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from batch_operator.cluster.client import NODES, ApiError
from batch_operator.cluster.provisioner import Provided
from batch_operator.provisioners.kwok.nodes import fake_node

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batch_operator.cluster.client import ApiClient
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.plan import CapacityPlan
    from batch_operator.provisioning.pools import PoolKey
    from batch_operator.scheduling.snapshot import Environment

NAME_TRIES_MAX = 1000
"""Names that may be taken by nodes which are no longer the environment's own."""


class KwokProvisioner:
    """One Node object for each node that there should be."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def provide(
        self, environment: Environment, plan: CapacityPlan, nodes: Sequence[Node]
    ) -> Provided:
        """Delete what is to go, create what is missing, as far as the pools' limits allow."""
        for node in plan.remove:
            await self._delete(node)
        gone = {one.uid for one in plan.remove}
        called_back = {one.uid for one in plan.uncordon}
        staying: dict[PoolKey, int] = defaultdict(int)
        existing: dict[PoolKey, int] = defaultdict(int)
        for one in nodes:
            if one.pool is None or one.uid in gone or one.deleting:
                continue
            existing[one.pool] += 1
            is_leaving = one.notice or (one.draining_since and one.uid not in called_back)
            staying[one.pool] += not is_leaving
        refused: dict[PoolKey, str] = {}
        limits = _limits(environment)
        taken = {one.name for one in nodes}
        for pool, desired in plan.desired.items():
            names = _names(environment.name, pool, taken)
            for _ in range(desired - staying[pool]):
                limit = limits.get(pool)
                if limit is not None and existing[pool] >= limit:
                    refused[pool] = f"there are no more than {limit} nodes of it"
                    break
                await self._create(environment, pool, names)
                existing[pool] += 1
        return Provided(refused)

    async def _create(self, environment: Environment, pool: PoolKey, names: Iterator[str]) -> None:
        """One more node, under the first name that is free."""
        for name in names:
            body = fake_node(name, environment, pool)
            try:
                await self._client.create(NODES, None, body)
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
            else:
                return
        raise ApiError(409, "AlreadyExists", f"no name is free for a node of {environment.name}")

    async def _delete(self, node: Node) -> None:
        try:
            await self._client.delete(NODES, None, node.name, uid=node.uid)
        except ApiError as error:
            if not error.is_not_found:
                raise


def _names(environment: str, pool: PoolKey, taken: set[str]) -> Iterator[str]:
    base = f"{environment}-{pool.instance_type.lower().replace('_', '-')}-{pool.capacity_type}"
    for number in range(1, len(taken) + NAME_TRIES_MAX):
        name = f"{base}-{number}"
        if name not in taken:
            yield name


def _limits(environment: Environment) -> dict[Any, int]:
    provisioner = environment.spec.provisioner
    rows = provisioner.kwok.capacity if provisioner is not None and provisioner.kwok else []
    return {(row.instance_type, row.capacity_type): row.nodes for row in rows}
