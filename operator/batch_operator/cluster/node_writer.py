"""Carries out what a cycle decided for nodes: cordons them, has provisioners do the rest."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api import meta
from batch_operator.api.compute_environment import ProvisionerType
from batch_operator.cluster import decoding
from batch_operator.cluster.client import (
    COMPUTE_ENVIRONMENTS,
    MERGE_PATCH,
    NODES,
    PODS,
    STRATEGIC_MERGE_PATCH,
    ApiError,
)
from batch_operator.cluster.provisioner import Provided, UnableError
from batch_operator.scheduling.environments import shared_target
from batch_operator.scheduling.snapshot import PoolRefusal, ProvisionerReport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from batch_operator.cluster.cache import Cache
    from batch_operator.cluster.client import ApiClient
    from batch_operator.cluster.clock import Clock
    from batch_operator.cluster.provisioner import Provisioner
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.plan import CapacityPlan
    from batch_operator.scheduling.mutations import CordonNode, Provide
    from batch_operator.scheduling.snapshot import Environment

TRIED_AGAIN_AFTER = timedelta(minutes=5)
"""What could not work takes jobs again after so long, if nothing has shown before that it works."""
_LOG = logging.getLogger(__name__)
PROBLEM_MAX = 1024
"""Characters of a condition's message."""


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
        self._read = decoding.environment_decoder()
        self._failed_at: dict[str, datetime] = {}
        """By uid of an environment whose provisioner is refused what it does."""

    async def cordon(self, mutation: CordonNode) -> None:
        """Let a node take no more Pods; or say that its time is up; or let it take Pods again.

        This last only if it has not changed: what comes back to a node that was released meanwhile
        dies with it.
        """
        node, since = mutation.node, mutation.since
        at = since.isoformat() if since else None
        annotations = {meta.ANNOTATION_DRAINING: at}
        if mutation.given_up:
            annotations[meta.ANNOTATION_GIVEN_UP] = at
        body = {
            "metadata": {
                "uid": node.uid,
                **({} if since else {"resourceVersion": str(node.resource_version)}),
                "annotations": annotations,
            },
            "spec": {"unschedulable": True if since else None},
        }
        reply = await self._client.patch(
            NODES, None, node.name, body, content_type=STRATEGIC_MERGE_PATCH
        )
        self._cache.nodes.reply(decoding.node(reply))

    async def provide(self, mutation: Provide) -> None:
        """Have an environment's provisioner bring its nodes to what was planned.

        No node is made before the environment has our finalizer, and that comes off only when no
        node is left: whenever the operator dies, somebody knows of every node.
        """
        environment = mutation.environment
        asked = environment.spec.provisioner
        if asked is None:
            return
        provisioner = self._provisioners.get(asked.type)
        obstacle: str | None = f"there is no provisioner {asked.type}: take another"
        if provisioner is not None:
            obstacle = shared_target(environment, self._cache.environments.items.values())
        if provisioner is not None and obstacle is None:
            await self._have_provided(mutation, provisioner, asked.type)
            return
        self._report(environment, Provided(problem=obstacle, is_invalid=True))
        if mutation.is_last:
            await self._let_go(environment)

    async def _have_provided(
        self, mutation: Provide, provisioner: Provisioner, kind: ProvisionerType
    ) -> None:
        environment, plan = mutation.environment, mutation.plan
        is_to_come = plan.desired or (provisioner.follows_pods and not environment.deleting)
        is_ours = kind is not ProvisionerType.NONE
        if is_ours and is_to_come and not await self._keep(environment):
            return
        free = [one for one in plan.remove if not await self._is_busy(one)]
        plan = replace(plan, remove=tuple(free))
        try:
            provided = await provisioner.provide(environment, plan, mutation.nodes)
        except (ApiError, UnableError) as error:
            sentence = _why_unable(kind, error)
            self._failed_at[environment.uid] = self._clock.now()
            self._report(environment, Provided(problem=sentence, is_invalid=True))
            return
        if provisioner.follows_pods or self._tells(environment, plan, mutation.nodes):
            self._failed_at.pop(environment.uid, None)
            self._report(environment, provided)
        self._refuse(environment, provided)
        if mutation.is_last and not provided.is_pending:
            await self._let_go(environment)

    def _refuse(self, environment: Environment, provided: Provided) -> None:
        """Have the core know which pools gave no more nodes."""
        now = self._clock.now()
        for pool, message in provided.refused.items():
            _LOG.warning(
                "compute environment %s gets no more %s nodes of %s: %s",
                environment.name, pool.capacity_type, pool.instance_type, message,
            )  # fmt: skip
            self._cache.refuse_pool(environment.name, pool, PoolRefusal(now, message))
        for pool, refusal in provided.told.items():
            self._cache.refuse_pool(environment.name, pool, refusal)

    def _tells(self, environment: Environment, plan: CapacityPlan, nodes: Sequence[Node]) -> bool:
        """Whether success means anything after a failure: there may have been nothing to do."""
        failed_at = self._failed_at.get(environment.uid)
        if failed_at is None or self._clock.now() >= failed_at + TRIED_AGAIN_AFTER:
            return True
        there = Counter(one.pool for one in nodes if one.stays)
        return bool(plan.remove) or there != Counter(plan.desired)

    def _report(self, environment: Environment, provided: Provided) -> None:
        """Have the core know what is wrong and what is coming, and the log what is new of that."""
        problem = provided.problem[:PROBLEM_MAX] if provided.problem else None
        report = ProvisionerReport(
            problem,
            provided.is_invalid,
            provided.coming,
            provided.waits,
            provided.refused_gangs,
        )
        if problem and self._cache.reports.get(environment.name) != report:
            _LOG.warning("compute environment %s: %s", environment.name, problem)
        self._cache.keep_report(environment.name, report)

    async def _keep(self, environment: Environment) -> bool:
        """Put our finalizer on an environment; whether it has it."""
        if meta.FINALIZER_NODES in environment.finalizers:
            return True
        current = await self._current(environment)
        if current.deleting:
            return False
        if meta.FINALIZER_NODES not in current.finalizers:
            await self._set_finalizers(current, [*current.finalizers, meta.FINALIZER_NODES])
        return True

    async def _let_go(self, environment: Environment) -> None:
        """Take our finalizer off, if the API server has no node either: a watch may be late."""
        selector = f"{meta.LABEL_COMPUTE_ENVIRONMENT}={environment.name}"
        page = await self._client.list_page(NODES, label_selector=selector, limit=1)
        if page.items:
            return
        current = await self._current(environment)
        others = [one for one in current.finalizers if one != meta.FINALIZER_NODES]
        if len(others) < len(current.finalizers):
            await self._set_finalizers(current, others)

    async def _current(self, environment: Environment) -> Environment:
        """The environment as the API server has it; one that has its name by now is another."""
        raw = await self._client.get(COMPUTE_ENVIRONMENTS, None, environment.name)
        current = self._read(raw)
        if current.uid != environment.uid:
            raise ApiError(404, "NotFound", f"compute environment {environment.name} is gone")
        return current

    async def _set_finalizers(self, current: Environment, finalizers: list[str]) -> None:
        """A list is replaced as a whole: the version keeps others' entries from being lost."""
        metadata = {"uid": current.uid, "resourceVersion": str(current.resource_version)}
        reply = await self._client.patch(
            COMPUTE_ENVIRONMENTS,
            None,
            current.name,
            {"metadata": {**metadata, "finalizers": finalizers}},
            content_type=MERGE_PATCH,
        )
        self._cache.environments.reply(self._read(reply))

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


def _why_unable(provisioner: ProvisionerType, error: ApiError | UnableError) -> str:
    """What somebody has to mend before a provisioner can work.

    Raises:
        ApiError: it may work when it is asked again.
    """
    if isinstance(error, UnableError):
        return str(error)
    if error.status != 403:
        raise error
    return (
        f"the API server refuses what provisioner {provisioner} does ({error.message}): enable it "
        f"where the operator is installed, provisioners.{provisioner}.enabled=true in its chart"
    )
