"""Asks cluster-autoscaler for the nodes of multi-node jobs, and hears what became of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from batch_operator.api import meta
from batch_operator.api.sentences import listed
from batch_operator.cluster.client import JOBS, ApiError, Resource, tolerating
from batch_operator.cluster.provisioner import Provided
from batch_operator.lifecycle.gang import MAIN_GROUP
from batch_operator.provisioners.none.requests import (
    Key,
    end_of,
    key_of,
    pod_template,
    provisioning_request,
    uses,
)
from batch_operator.provisioning.packing import gang_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batch_operator.api.autoscalers import PodFollowingProvisioner
    from batch_operator.cluster.client import ApiClient
    from batch_operator.cluster.clock import Clock
    from batch_operator.lifecycle.gang import Gang
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.plan import CapacityPlan
    from batch_operator.scheduling.snapshot import Environment

REQUESTS = Resource("autoscaling.x-k8s.io", "v1", "provisioningrequests", "ProvisioningRequest")
POD_TEMPLATES = Resource("", "v1", "podtemplates", "PodTemplate")
ASKED_AGAIN_AFTER = timedelta(minutes=5)
"""From the end of a request until another is made for a gang that still waits."""


class RequestingProvisioner:
    """Does nothing but where an environment names a class of ProvisioningRequest."""

    follows_pods = True

    def __init__(self, client: ApiClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    async def provide(
        self, environment: Environment, plan: CapacityPlan, nodes: Sequence[Node]
    ) -> Provided:
        """Have a request for every gang that waits; what the autoscaler could not get is refused.

        A cluster whose API does not know the kind gets none: its autoscaler sees the Pods. What
        stands in the way of one gang is told, and the others are seen to.
        """
        del nodes
        provisioner = environment.spec.provisioner
        asked = provisioner.none if provisioner is not None else None
        if asked is None or not plan.gangs:
            return Provided()
        requests = await self._requests(environment.name)
        if requests is None:
            return Provided()
        refused: dict[str, str] = {}
        problems: list[str] = []
        for gang in plan.gangs:
            key, name = key_of(gang), gang_of(gang.jobs[MAIN_GROUP])
            try:
                refusal = await self._see_to(gang, requests.get(key), asked, environment.name)
            except ApiError as error:
                if not error.is_not_found:  # or the gang has ended meanwhile
                    problems.append(
                        f"no ProvisioningRequest can be kept for {key.namespace}/{key.name}, so "
                        f"its Pods may get nodes one by one: {error.message}"
                    )
                continue
            if refusal is not None and name is not None:
                refused[name] = refusal
        problem = listed(problems, between="; ") or None
        return Provided(problem=problem, refused_gangs=refused)

    async def _requests(self, environment: str) -> dict[Key, Mapping[str, Any]] | None:
        """Those there are for an environment; None where the kind is not known."""
        ours = f"{meta.LABEL_COMPUTE_ENVIRONMENT}={environment}"
        try:
            page = await self._client.list_page(REQUESTS, label_selector=ours, limit=0)
        except ApiError as error:
            if error.is_not_found:
                return None
            raise
        return {_key(one): one for one in map(msgspec.json.decode, page.items)}

    async def _see_to(
        self,
        gang: Gang,
        request: Mapping[str, Any] | None,
        asked: PodFollowingProvisioner,
        environment: str,
    ) -> str | None:
        """Have a request for a gang; why the autoscaler has no nodes for it, if it says so."""
        if request is None:
            await self._ask_for(gang, asked, environment)
            return None
        end = end_of(request)
        if end is not None and self._clock.now() >= end.at + ASKED_AGAIN_AFTER:
            await self._delete(request)
        return end.message if end is not None and end.is_refusal else None

    async def _ask_for(self, gang: Gang, asked: PodFollowingProvisioner, environment: str) -> None:
        """Make the request for a gang, and what it refers to."""
        for _, job in sorted(gang.jobs.items()):
            body = msgspec.json.decode(await self._client.get(JOBS, job.namespace, job.pod_name))
            if body["metadata"]["uid"] != job.pod_uid or not uses(body, key_of(gang)):
                return
            template = pod_template(job, body["spec"]["template"], environment)
            await self._create(POD_TEMPLATES, template)
        await self._create(REQUESTS, provisioning_request(gang, asked, environment))

    async def _create(self, resource: Resource, body: Mapping[str, Any]) -> None:
        try:
            await self._client.create(resource, body["metadata"]["namespace"], body)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise

    async def _delete(self, request: Mapping[str, Any]) -> None:
        metadata = request["metadata"]
        with tolerating(404):
            await self._client.delete(
                REQUESTS, metadata["namespace"], metadata["name"], uid=metadata["uid"]
            )


def _key(request: Mapping[str, Any]) -> Key:
    return Key(request["metadata"]["namespace"], request["metadata"]["name"])
