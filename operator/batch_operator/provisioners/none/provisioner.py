"""Asks cluster-autoscaler for the nodes of multi-node jobs, and hears what became of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from batch_operator.api import meta
from batch_operator.cluster import decoding
from batch_operator.cluster.client import JOBS, ApiError, Resource
from batch_operator.cluster.provisioner import Provided
from batch_operator.provisioners.none.requests import (
    End,
    Key,
    end_of,
    pod_template,
    provisioning_request,
    waiting_gangs,
)
from batch_operator.provisioning.pools import pools_of
from batch_operator.scheduling.snapshot import PoolRefusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from batch_operator.api.autoscalers import PodFollowingProvisioner
    from batch_operator.cluster.client import ApiClient
    from batch_operator.cluster.clock import Clock
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.plan import CapacityPlan
    from batch_operator.scheduling.snapshot import Environment

REQUESTS = Resource("autoscaling.x-k8s.io", "v1", "provisioningrequests", "ProvisioningRequest")
POD_TEMPLATES = Resource("", "v1", "podtemplates", "PodTemplate")
ASKED_AGAIN_AFTER = timedelta(minutes=5)
"""From the end of a request until another is made for a gang that still waits."""
_REFUSED = frozenset({400, 403, 422})
"""What is the matter with one gang, or its namespace (a quota, an admission policy), alone."""


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

        A cluster whose API does not know the kind gets none: its autoscaler sees the Pods.
        """
        del plan, nodes
        provisioner = environment.spec.provisioner
        asked = provisioner.none if provisioner is not None else None
        if asked is None:
            return Provided()
        ours = f"{meta.LABEL_COMPUTE_ENVIRONMENT}={environment.name}"
        try:
            page = await self._client.list_page(REQUESTS, label_selector=ours, limit=0)
        except ApiError as error:
            if error.is_not_found:
                return Provided()
            raise
        requests = {_key(one): one for one in map(msgspec.json.decode, page.items)}
        page = await self._client.list_page(
            JOBS, label_selector=f"{meta.LABEL_TRACKED},{ours}", limit=0
        )
        gangs = waiting_gangs(map(msgspec.json.decode, filter(_is_ours, page.items)))
        ends: list[End] = []
        problems: list[str] = []
        for key, gang in gangs.items():
            request = requests.get(key)
            if request is None:
                try:
                    await self._ask(key, gang, asked)
                except ApiError as error:
                    if error.status not in _REFUSED:
                        raise
                    problems.append(f"no ProvisioningRequest {key}: {error.message}")
            elif end := end_of(request):
                ends.append(end)
                if self._clock.now() >= end.at + ASKED_AGAIN_AFTER:
                    await self._delete(request)
        return Provided(told=_refusals(environment, ends), problem=next(iter(problems), None))

    async def _ask(
        self, key: Key, gang: list[Mapping[str, Any]], asked: PodFollowingProvisioner
    ) -> None:
        """Have a request for a gang that has none."""
        for job in gang:
            await self._create(POD_TEMPLATES, pod_template(job))
        await self._create(REQUESTS, provisioning_request(key, gang, asked))

    async def _create(self, resource: Resource, body: Mapping[str, Any]) -> None:
        try:
            await self._client.create(resource, body["metadata"]["namespace"], body)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise

    async def _delete(self, request: Mapping[str, Any]) -> None:
        metadata = request["metadata"]
        try:
            await self._client.delete(
                REQUESTS, metadata["namespace"], metadata["name"], uid=metadata["uid"]
            )
        except ApiError as error:
            if not error.is_not_found:
                raise


def _is_ours(job: msgspec.Raw) -> bool:
    """Whether we have made a Job, by its name and its owner: whoever may create some can label."""
    try:
        decoding.group(job)
    except (KeyError, ValueError, msgspec.ValidationError):
        return False
    return True


def _key(request: Mapping[str, Any]) -> Key:
    return Key(request["metadata"]["namespace"], request["metadata"]["name"])


def _refusals(environment: Environment, ends: Iterable[End]) -> dict[Any, PoolRefusal]:
    """The latest failure, of every pool: a request names none. One that expired was served."""
    failed = [one for one in ends if one.condition != "BookingExpired"]
    if not failed:
        return {}
    last = max(failed, key=lambda one: (one.at, one.message))
    return {one.key: PoolRefusal(last.at, last.message) for one in pools_of(environment.spec)}
