"""Carries out what a cycle decided for nodes: cordons them, has provisioners do the rest."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from batch_operator.api import meta
from batch_operator.cluster import decoding
from batch_operator.cluster.client import NODES, PODS, STRATEGIC_MERGE_PATCH
from batch_operator.scheduling.snapshot import PoolRefusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_operator.api.compute_environment import ProvisionerType
    from batch_operator.cluster.cache import Cache
    from batch_operator.cluster.client import ApiClient
    from batch_operator.cluster.clock import Clock
    from batch_operator.cluster.provisioner import Provisioner
    from batch_operator.provisioning.nodes import Node
    from batch_operator.scheduling.mutations import CordonNode, Provide

_LOG = logging.getLogger(__name__)


class NodeWriter:
    """Sends what concerns nodes; what comes back goes into the cache."""

    def __init__(
        self,
        client: ApiClient,
        clock: Clock,
        cache: Cache,
        provisioners: Mapping[ProvisionerType, Provisioner],
    ) -> None:
        self._client = client
        self._clock = clock
        self._cache = cache
        self._provisioners = provisioners

    async def cordon(self, mutation: CordonNode) -> None:
        """Let a node take no more Pods, or again."""
        node, since = mutation.node, mutation.since
        body = {
            "metadata": {
                "uid": node.uid,
                "annotations": {meta.ANNOTATION_DRAINING: since.isoformat() if since else None},
            },
            "spec": {"unschedulable": True if since else None},
        }
        reply = await self._client.patch(
            NODES, None, node.name, body, content_type=STRATEGIC_MERGE_PATCH
        )
        self._cache.nodes.reply(decoding.node(reply))

    async def provide(self, mutation: Provide) -> None:
        """Have an environment's provisioner bring its nodes to what was planned."""
        environment, plan = mutation.environment, mutation.plan
        asked = environment.spec.provisioner
        provisioner = self._provisioners.get(asked.type) if asked is not None else None
        if provisioner is None:
            return
        free = [one for one in plan.remove if not await self._is_busy(one)]
        plan = replace(plan, remove=tuple(free))
        provided = await provisioner.provide(environment, plan, mutation.nodes)
        now = self._clock.now()
        for pool, message in provided.refused.items():
            _LOG.warning(
                "compute environment %s gets no more %s nodes of %s: %s",
                environment.name, pool.capacity_type, pool.instance_type, message,
            )  # fmt: skip
            self._cache.refuse_pool(environment.name, pool, PoolRefusal(now, message))

    async def _is_busy(self, node: Node) -> bool:
        """Whether a Pod of ours runs on a node, by the API server's own word.

        A watch may be late: what was bound just before the cordon may not have been heard of yet.
        """
        page = await self._client.list_page(
            PODS,
            label_selector=meta.LABEL_TRACKED,
            field_selector=f"spec.nodeName={node.name}",
        )
        return any(not decoding.attempt(raw).phase.ended for raw in page.items)
