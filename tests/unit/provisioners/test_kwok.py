"""What is written for fake nodes, and what an API server's no means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.api.compute_environment import CapacityType
from batch_operator.cluster.client import ApiError
from batch_operator.provisioners.kwok.provisioner import KwokProvisioner
from batch_operator.provisioning.plan import CapacityPlan
from batch_operator.provisioning.pools import PoolKey
from support.builders import environment
from support.managed import a_node, elastic
from support.scripted_api import ScriptedApi
from support.virtual_time import VirtualClock

if TYPE_CHECKING:
    from batch_operator.cluster.provisioner import Provided
    from batch_operator.provisioning.nodes import Node

SMALL = PoolKey("small", CapacityType.ON_DEMAND)


async def provide(
    api: ScriptedApi, plan: CapacityPlan, *nodes: Node, name: str = "elastic", **spec: Any
) -> Provided:
    stored = environment(name, **elastic(**spec)["spec"])
    seen: list[bytes] = []
    return await KwokProvisioner(api, VirtualClock(), seen.append).provide(stored, plan, nodes)


async def test_a_node_that_was_called_back_meanwhile_stays() -> None:
    """A plan is seconds old when the last of many nodes goes."""
    api = ScriptedApi()
    api.will("delete", ApiError(409, "Conflict", "it has changed"), b"{}")
    idle = [a_node(name, cordoned=True, resource_version=5) for name in ("back", "idle")]
    await provide(api, CapacityPlan({}, remove=tuple(idle)), *idle)

    deleted = [(one.name, one.uid, one.resource_version) for one in api.asked("delete")]
    assert deleted == [("back", "uid-back", 5), ("idle", "uid-idle", 5)]


async def test_a_node_has_a_name_that_a_host_can_have_whatever_its_environment_is_called() -> None:
    api = ScriptedApi()
    api.will("create", b"{}")
    kind = "Standard_D16as_v5_in_a_very_special_edition"
    types = [{"name": kind, "vcpus": 16, "memory": "64Gi"}]
    one = CapacityPlan({PoolKey(kind, CapacityType.ON_DEMAND): 1})
    await provide(api, one, name="production-environment-of-europe-west", instanceTypes=types)
    [created] = api.asked("create")

    assert created.body is not None
    assert len(created.name) <= 63
    assert created.name.startswith("production-environment-of-europe-west-standard-d16as-v")
    assert created.body["metadata"]["labels"]["kubernetes.io/hostname"] == created.name


async def test_what_the_api_server_does_not_take_is_refused_with_its_words() -> None:
    api = ScriptedApi()
    api.will("create", ApiError(422, "Invalid", "metadata.labels: Invalid value"))
    result = await provide(api, CapacityPlan({SMALL: 3}))

    assert len(api.asked("create")) == 1
    assert result.refused == {SMALL: "metadata.labels: Invalid value"}
