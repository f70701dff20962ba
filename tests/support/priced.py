"""A world whose nodes have prices: one unit of the currency for an hour of four vCPUs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from batch_operator.api.amounts import Amounts
from batch_operator.api.compute_environment import CapacityType
from batch_operator.lifecycle.attempt import Phase
from batch_operator.provisioning.nodes import Node
from batch_operator.provisioning.pools import PoolKey, Space
from batch_operator.scheduling.mutations import WriteStatus
from support.builders import environment, queue
from support.world import World

if TYPE_CHECKING:
    from batch_operator.api.cost import EnvironmentCost, JobCost, QueueCost
    from batch_operator.lifecycle.attempt import PodAttempt

FOUR = {
    "name": "four",
    "vcpus": 4,
    "memory": "16Gi",
    "pricePerHour": 3.6,
    "spotPricePerHour": 1.8,
}
"""A thousandth for a second on demand, half of that on spot."""


class PricedWorld(World):
    """One UNMANAGED environment, `local`; the statuses of all kinds are stored, and nodes kept."""

    def __init__(self, *, max_vcpus: int = 40, **spec: Any) -> None:
        self.nodes: dict[str, Node] = {}
        super().__init__(max_vcpus=max_vcpus)
        given = {"instanceTypes": [FOUR], "capacityTypes": ["on-demand", "spot"], **spec}
        self.environments = [environment(maxvCpus=max_vcpus, **given)]
        self.queues = [queue()]
        self.written_kinds = {"BatchJob", "JobQueue", "ComputeEnvironment"}
        self.restart()

    def restart(self) -> None:
        super().restart()
        self.cache.nodes.replace(list(self.nodes.values()), self._version)

    def add_node(
        self, name: str, capacity_type: CapacityType = CapacityType.ON_DEMAND, **fields: Any
    ) -> None:
        """A node of the environment comes up."""
        self._version += 1
        made = Node(
            name=name,
            uid=f"uid-{name}",
            resource_version=self._version,
            environment="local",
            claimed_by="local",
            pool=PoolKey("four", capacity_type),
            offers=Space(Amounts(4000, 16 * 2**30), 110),
            ready=True,
            created_at=self.now,
            ready_at=self.now,
        )
        self.nodes[name] = replace(made, **fields)
        self.cache.nodes.upsert(self.nodes[name])

    def edit(self, **spec: Any) -> None:
        """The environment's spec changes."""
        self._version += 1
        before = self.environments[0]
        spec = {**before.spec.to_wire(), **spec}
        self.environments[0] = replace(
            environment(**spec),
            status=before.status,
            generation=before.generation + 1,
            resource_version=self._version,
        )
        self.cache.environments.upsert(self.environments[0])

    def remove_node(self, name: str) -> None:
        self.cache.nodes.remove(self.nodes.pop(name))

    def bind(self, node: str = "a", **fields: Any) -> list[PodAttempt]:
        """Bind every Pod that waits to a node, and let it run."""
        bound = [one for one in self.live() if one.phase is Phase.UNBOUND and not one.gated]
        for pod in bound:
            self.move(pod, Phase.RUNNING, node_name=node, bound_at=self.now, **fields)
        self.settle()
        return bound

    def end(self, phase: Phase = Phase.SUCCEEDED, **fields: Any) -> None:
        """End every Pod that runs."""
        for pod in self.live():
            if pod.phase is Phase.RUNNING:
                self.move(pod, phase, **fields)
        self.settle()

    def delete(self, name: str) -> None:
        """Somebody deletes a job; its Pods go with it."""
        uid = next(one.uid for one in self.jobs.values() if one.name == name)
        self.cache.jobs.remove(self.jobs.pop(uid))
        for pod in [one for one in self.pods.values() if one.job_uid == uid]:
            del self.pods[pod.pod_name]
            self.cache.pods.remove(pod)
        self.settle()

    def cost(self, name: str) -> JobCost:
        found = next(one for one in self.jobs.values() if one.name == name).status.cost
        assert found is not None
        return found

    @property
    def queue_cost(self) -> QueueCost:
        found = self.queues[0].status.cost
        assert found is not None
        return found

    @property
    def environment_cost(self) -> EnvironmentCost:
        found = self.environments[0].status.cost
        assert found is not None
        return found

    def _write(self, mutation: Any) -> None:
        if not (isinstance(mutation, WriteStatus) and mutation.kind == "ComputeEnvironment"):
            super()._write(mutation)
            return
        self._count_write()
        stored: Any = replace(
            self.environments[0], status=mutation.status, resource_version=self._version
        )
        self.environments[0] = stored
        self.cache.environments.upsert(stored)
