"""Makes an environment's nodes as planned by the replicas of one object for each pool.

Whoever lowers replicas does not say which machine goes, so none may be lowered that could take a
busy one. Two ways are safe: that the target has no node that could be in use, or (Cluster API) that
as many Machines are marked as are taken away, for a MachineSet deletes marked ones before all
others. Machines that have become nodes without the pool's labels could be in use by anybody.

A node is *released* before its Machine is marked: an annotation that the planner reads, so that
nobody calls back a node whose machine may go at any moment. The release fails if the node has
changed since the plan was made. A mark says to how many replicas is lowered for it, so that it
counts once, however long its Machine takes to go. From the release on every step may be repeated
after a restart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from batch_operator.api import meta
from batch_operator.api.compute_environment import LABEL_INSTANCE_TYPE, CapacityType
from batch_operator.api.scale import ScaleIn
from batch_operator.api.sentences import listed
from batch_operator.cluster.client import MERGE_PATCH, NODES, ApiError
from batch_operator.cluster.provisioner import Provided, UnableError
from batch_operator.provisioners.scale.objects import (
    ANNOTATION_DELETE_MACHINE,
    ANNOTATION_MACHINE,
    Machine,
    NodeObject,
    Scale,
    Scaled,
    is_name,
    machines_of,
    resource_of,
)
from batch_operator.provisioning.pools import PoolKey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batch_operator.api.scale import ScaleTarget
    from batch_operator.cluster.client import ApiClient, Resource
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.plan import CapacityPlan
    from batch_operator.scheduling.snapshot import Environment

_HELP = "docs/compute-environments.md has one"


class ScaleProvisioner:
    """One object with a /scale subresource for each pool."""

    follows_pods = False

    def __init__(self, client: ApiClient, saw: Callable[[bytes], None]) -> None:
        """`saw` is told of every Node that was written."""
        self._client = client
        self._saw = saw

    async def provide(
        self, environment: Environment, plan: CapacityPlan, nodes: Sequence[Node]
    ) -> Provided:
        """Bring every pool's replicas to what was planned, as far as it harms no busy node."""
        provisioner = environment.spec.provisioner
        assert provisioner is not None  # it is asked for environments of its type alone
        assert provisioner.scale is not None  # the CRD asks for it
        problems: list[str] = []
        waits: dict[PoolKey, str] = {}
        refused: dict[PoolKey, str] = {}
        failed: ApiError | None = None
        is_pending, unable = False, 0
        for target in provisioner.scale.targets:
            pool = _Pool(self._client, self._saw, environment, target, provisioner.scale.scale_in)
            try:
                await pool.see_to(plan, nodes)
            except ApiError as error:
                if error.is_not_found and environment.deleting and not pool.has_nodes(nodes):
                    continue  # its machines went with it
                if (problem := _explained(error, target)) is not None:
                    problems.append(problem)
                    unable += 1
                    if pool.lacks_nodes(plan, nodes):
                        refused[pool.key] = problem
                elif error.status == 422:
                    refused[pool.key] = error.message
                else:
                    failed = error
            problems += pool.problems
            is_pending |= pool.is_pending
            if pool.complaint:
                waits[pool.key] = pool.complaint
        if failed is not None:
            raise failed
        problem = listed(dict.fromkeys(problems), between="; ")
        if unable == len(provisioner.scale.targets):
            raise UnableError(problem)
        return Provided(refused, problem=problem or None, waits=waits, is_pending=is_pending)


class _Pool:
    """One target, and the nodes that come of it."""

    def __init__(
        self,
        client: ApiClient,
        saw: Callable[[bytes], None],
        environment: Environment,
        target: ScaleTarget,
        scale_in: ScaleIn,
    ) -> None:
        self.key = PoolKey(target.instance_type, CapacityType(target.capacity_type))
        self.problems: list[str] = []
        self.complaint = ""
        self.is_pending = True
        """Whether it has machines, or is to have some; until that is known, it may."""
        self._client = client
        self._saw = saw
        self._environment = environment
        self._target = target
        self._machines: dict[str, Machine | None] = {}
        self._marks = scale_in is ScaleIn.MARK_MACHINES
        self._read: Scaled | None = None
        self._others = 0
        """Machines that are known to be nodes, and not of this environment."""

    def has_nodes(self, nodes: Sequence[Node]) -> bool:
        return any(one.pool == self.key for one in nodes)

    def lacks_nodes(self, plan: CapacityPlan, nodes: Sequence[Node]) -> bool:
        there = sum(one.pool == self.key and one.stays for one in nodes)
        return plan.desired.get(self.key, 0) > there

    async def see_to(self, plan: CapacityPlan, nodes: Sequence[Node]) -> None:
        """Release what is to go, and set replicas to what there should be."""
        target, ours = self._target, [one for one in nodes if one.pool == self.key]
        scale_of = resource_of(target, "scale")
        reply = await self._client.get(scale_of, target.namespace, target.name)
        scale = msgspec.json.decode(reply, type=Scale)
        current = scale.spec.replicas
        to_go = {one.uid for one in plan.remove}
        if not self._marks and not all(one.deleting or one.uid in to_go for one in ours):
            to_go = set()
        if not self._marks and to_go and await self._has_others(ours, scale):
            to_go = set()
        gone: list[Node] = []
        live: list[Node] = []
        for node in ours:
            is_gone = node.deleting or (node.uid in to_go and await self._release(node))
            (gone if is_gone else live).append(node)
        wanted = replicas = _replicas(self.key, plan, live)
        body: dict[str, Any] = {}
        if wanted < current:
            marked = await self._mark_all(gone, current) if self._marks else 0
            is_empty = not live and not await self._has_others(ours, scale)
            replicas = wanted if is_empty else max(wanted, current - marked)
            # What was marked for these replicas must not be taken off others'.
            body = {"metadata": {"resourceVersion": scale.metadata.resource_version}}
        if replicas != current:
            body["spec"] = {"replicas": replicas}
            await self._client.patch(
                scale_of, target.namespace, target.name, body, content_type=MERGE_PATCH
            )
        self.is_pending = max(replicas, scale.status.replicas) > self._others
        self._check_taints(live)
        if replicas > wanted and not (gone or self.problems):
            self.problems.append(
                f"{_named(target)} has {replicas} replicas in place of {wanted}: machines that "
                f"never became nodes, which stay as long as others could be hit, or something else "
                f"scales it, such as a HorizontalPodAutoscaler or cluster-autoscaler: take that off"
            )
        if wanted > len(live):
            await self._ask_why(ours)

    async def _release(self, node: Node) -> bool:
        """Give a node up for good, if what makes it can be told which one it is."""
        if self._marks and await self._machine_of(node) is None:
            return False
        body = {
            "metadata": {
                "uid": node.uid,
                "resourceVersion": str(node.resource_version),
                "annotations": {meta.ANNOTATION_RELEASED: "true"},
            }
        }
        try:
            reply = await self._client.patch(NODES, None, node.name, body, content_type=MERGE_PATCH)
        except ApiError as error:
            if error.is_conflict or error.is_not_found:
                return False  # It has changed: whether it still may go is decided anew.
            raise
        self._saw(reply)
        return True

    async def _mark_all(self, gone: Sequence[Node], current: int) -> int:
        """Have released nodes' Machines go before others; by how many replicas may be lowered.

        A Machine for which replicas has been lowered already counts no more, although it is there.
        """
        count = 0
        for node in gone:
            machine = await self._machine_of(node)
            if machine is None or machine.is_counted(current):
                continue
            count += await self._mark(machine, current - count - 1)
        return count

    async def _mark(self, machine: Machine, replicas: int) -> bool:
        """Have a Machine go before the others; whether it is there to go."""
        annotations = {ANNOTATION_DELETE_MACHINE: str(replicas)}
        try:
            await self._client.patch(
                machines_of(self._target),
                self._target.namespace,
                machine.metadata.name,
                {"metadata": {"annotations": annotations}},
                content_type=MERGE_PATCH,
            )
        except ApiError as error:
            return self._is_no_machine(error)
        return True

    async def _machine_of(self, node: Node) -> Machine | None:
        """The Machine of a node that may be marked, asked for once."""
        if node.uid not in self._machines:
            self._machines[node.uid] = await self._find_machine(node)
        return self._machines[node.uid]

    async def _find_machine(self, node: Node) -> Machine | None:
        """The Machine that a Node names, if it agrees: its kubelet can write anything there."""
        target = self._target
        try:
            reply = await self._client.get(NODES, None, node.name)
            annotations = msgspec.json.decode(reply, type=NodeObject).metadata.annotations
            name = annotations.get(ANNOTATION_MACHINE, "")
            if not is_name(name):
                self.problems.append(
                    f"node {node.name} has no annotation {ANNOTATION_MACHINE} that names a "
                    f"Machine, so it cannot be taken away: write scaleIn: WhenPoolIsIdle"
                )
                return None
            reply = await self._client.get(machines_of(target), target.namespace, name)
        except ApiError as error:
            self._is_no_machine(error)
            return None
        machine = msgspec.json.decode(reply, type=Machine)
        if machine.metadata.deletion_timestamp:
            return None
        if not machine.is_of(target, node.name):
            self.problems.append(
                f"Machine {name} of node {node.name} is not one of {_named(target)}: give the "
                f"labels of a pool to the machines of its own target alone"
            )
            return None
        return machine

    def _is_no_machine(self, error: ApiError) -> bool:
        """Deal with a Machine that cannot be had: it is gone, or it may not be touched.

        Returns False. Raises:
            ApiError: it may be had later.
        """
        if error.status == 403:
            self.problems.append(_missing_rule(machines_of(self._target), "get, patch"))
        elif not error.is_not_found:
            raise error
        return False

    def _check_taints(self, live: Sequence[Node]) -> None:
        name = self._environment.name
        bare = [one.name for one in live if one.claimed_by is None]
        if bare:
            self.problems.append(
                f"node {bare[0]} has no taint {meta.TAINT_COMPUTE_ENVIRONMENT}={name}:NoSchedule, "
                f"so Pods of others may be there: add it to the template of "
                f"{_named(self._target)} ({_HELP})"
            )

    async def _has_others(self, ours: Sequence[Node], scale: Scale) -> bool:
        """Whether machines of the target may be in use that are not among our nodes; say so.

        Where it is not told how many have become nodes, all that there are may have.
        """
        told = (await self._object()).ready
        machines = scale.status.replicas if told is None else told
        self._compare(machines, ours)
        self._others = max(0, (told or 0) - len(ours))
        return machines > len(ours)

    async def _ask_why(self, ours: Sequence[Node]) -> None:
        """What the object itself says while nodes are missing."""
        scaled = await self._object()
        self.complaint = scaled.complaint
        self._compare(scaled.ready or 0, ours)

    async def _object(self) -> Scaled:
        """The target itself, read once; an operator that may not read it knows nothing of it."""
        target = self._target
        if self._read is None:
            try:
                reply = await self._client.get(resource_of(target), target.namespace, target.name)
            except ApiError as error:
                if error.status != 403:
                    raise
                reply = b"{}"
            self._read = msgspec.json.decode(reply, type=Scaled)
        return self._read

    def _compare(self, machines: int, ours: Sequence[Node]) -> None:
        """Say that there are more machines in use than nodes of ours."""
        target = self._target
        if machines <= len(ours):
            return
        labels = {
            meta.LABEL_COMPUTE_ENVIRONMENT: self._environment.name,
            LABEL_INSTANCE_TYPE: target.instance_type,
            meta.LABEL_CAPACITY_TYPE: target.capacity_type,
        }
        wanted = ", ".join(f"{name}={value}" for name, value in labels.items())
        what_goes = "only marked ones go" if self._marks else "none goes"
        self.problems.append(
            f"{machines} machines of {_named(target)} may be in use, but {len(ours)} nodes have "
            f"the labels {wanted}: add these to its template ({_HELP}), or take away what is not "
            f"this environment's; until then {what_goes}"
        )


def _replicas(key: PoolKey, plan: CapacityPlan, live: Sequence[Node]) -> int:
    """How many there should be, those among them that may not go yet.

    A machine that was announced to go is replaced by what made it: none is asked for in its place.
    """
    called = {one.uid for one in plan.uncordon}
    going = {one.uid for one in plan.cordon}
    counted = sum(one.uid in called or (one.stays and one.uid not in going) for one in live)
    announced = sum(one.notice not in {None, meta.LABEL_SETTINGS} for one in live)
    to_come = plan.desired.get(key, 0) - counted
    return len(live) - announced + max(to_come, announced)


def _explained(error: ApiError, target: ScaleTarget) -> str | None:
    """What to do about an error that asking again does not mend."""
    if error.is_not_found:
        return (
            f"there is no {_named(target)}: make it, or name another in "
            f"spec.provisioner.scale.targets"
        )
    if error.status == 403:
        return _missing_rule(resource_of(target, "scale"), "get, patch")
    return None


def _missing_rule(resource: Resource, verbs: str) -> str:
    """The rule of a ClusterRole that is missing."""
    name = f"{resource.plural}/{resource.subresource}".rstrip("/")
    return (
        f"the operator may not use {name}.{resource.group}: add it to the chart's value "
        f"provisioners.scale, or to the operator's ClusterRole the rule {{apiGroups: "
        f'["{resource.group}"], resources: ["{name}"], verbs: [{verbs}]}}'
    )


def _named(target: ScaleTarget) -> str:
    return f"{target.resource} {target.namespace}/{target.name}"
