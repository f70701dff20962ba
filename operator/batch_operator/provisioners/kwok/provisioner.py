"""Creates and deletes fake Node objects; kwok plays what runs on them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api import meta
from batch_operator.api.names import HOST_NAME_MAX, bounded
from batch_operator.cluster.client import NODES, STRATEGIC_MERGE_PATCH, ApiError
from batch_operator.cluster.provisioner import Provided
from batch_operator.provisioners.kwok.behaviour import Behaviour, behaviour_of, lifetime
from batch_operator.provisioners.kwok.nodes import fake_node

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batch_operator.cluster.client import ApiClient
    from batch_operator.cluster.clock import Clock
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.plan import CapacityPlan
    from batch_operator.provisioning.pools import PoolKey
    from batch_operator.scheduling.snapshot import Environment


class KwokProvisioner:
    """One Node object for each node that there should be, and a cloud that is made up."""

    follows_pods = False

    def __init__(
        self,
        client: ApiClient,
        clock: Clock,
        saw: Callable[[bytes], None],
        behaviour: Callable[[Environment, PoolKey], Behaviour | None] = behaviour_of,
    ) -> None:
        """`saw` is told of every Node that was written."""
        self._client = client
        self._clock = clock
        self._saw = saw
        self._behaviour = behaviour

    async def provide(
        self, environment: Environment, plan: CapacityPlan, nodes: Sequence[Node]
    ) -> Provided:
        """Delete what is to go, create what is missing, as far as the pools' limits allow."""
        gone = {one.uid for one in plan.remove if await self._delete(one, one.resource_version)}
        for node in nodes:
            if node.uid not in gone and await self._interrupt(environment, node):
                gone.add(node.uid)
        existing = Counter(one.pool for one in nodes if one.uid not in gone)
        staying = Counter(
            one.pool for one in nodes if one.uid not in gone and (one.stays or one in plan.uncordon)
        )
        refused: dict[PoolKey, str] = {}
        for pool, desired in plan.desired.items():
            behaviour = self._behaviour(environment, pool) or Behaviour()
            for number in range(desired - staying[pool]):
                if behaviour.limit is not None and existing[pool] >= behaviour.limit:
                    refused[pool] = behaviour.refusal
                    break
                try:
                    await self._create(environment, pool, number, behaviour.start_up_s)
                except ApiError as error:
                    if error.status not in {400, 422}:
                        raise
                    refused[pool] = error.message
                    break
                existing[pool] += 1
        return Provided(refused)

    async def _create(
        self, environment: Environment, pool: PoolKey, number: int, start_up_s: float
    ) -> None:
        """One more node, under a name that no node has had before."""
        now = self._clock.now().isoformat()
        text = f"{environment.uid} {pool} {now} {number}".encode()
        suffix = hashlib.blake2b(text, digest_size=4).hexdigest()
        name = bounded((environment.name, *pool), suffix, HOST_NAME_MAX)
        try:
            reply = await self._client.create(
                NODES, None, fake_node(name, environment, pool, start_up_s)
            )
        except ApiError as error:
            if not (error.leaves_doubt or error.reason == "AlreadyExists"):
                raise
            reply = await self._client.get(NODES, None, name)
        self._saw(reply)

    async def _interrupt(self, environment: Environment, node: Node) -> bool:
        """What happens to spot nodes: they are announced to go, and go; whether it has gone."""
        if node.pool is None or node.deleting:
            return False
        behaviour = self._behaviour(environment, node.pool) or Behaviour()
        lives = lifetime(node, behaviour)
        if lives is None:
            return False
        left = node.created_at + lives - self._clock.now()
        if left <= -timedelta(seconds=behaviour.notice_s):
            return await self._delete(node)
        if left <= timedelta(0) and node.notice is None:
            await self._announce(node)
        return False

    async def _announce(self, node: Node) -> None:
        known = json.loads(await self._client.get(NODES, None, node.name))
        # A list of taints is replaced as a whole, so nobody's may have changed meanwhile.
        version = known["metadata"]["resourceVersion"]
        notice = {"key": meta.TAINT_INTERRUPTED, "effect": "NoSchedule"}
        body = {
            "metadata": {"uid": node.uid, "resourceVersion": version},
            "spec": {"taints": [*known["spec"].get("taints", ()), notice]},
        }
        self._saw(
            await self._client.patch(
                NODES, None, node.name, body, content_type=STRATEGIC_MERGE_PATCH
            )
        )

    async def _delete(self, node: Node, version: int | None = None) -> bool:
        """Delete a node, if it has that version: it may have been called back meanwhile."""
        try:
            await self._client.delete(
                NODES, None, node.name, uid=node.uid, resource_version=version
            )
        except ApiError as error:
            if error.is_conflict:
                return False  # whether it still may go is decided anew
            if not error.is_not_found:
                raise
        return True
