"""What the API server was last known to hold, and which of it has changed since the last cycle.

Two things feed the cache: watches, and the replies to our own writes. A reply is as good as the
event that follows it, so the next cycle already sees what this one wrote, and a late event with an
older resource version is ignored. Creates that are on their way stand in as *assumed* attempts, so
that their capacity is taken and nobody starts them twice.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeVar

from batch_operator.api.stored import Stored
from batch_operator.cluster.echoes import is_echo, offered, succeeded
from batch_operator.cluster.reflector import T
from batch_operator.lifecycle.array_parameters import source_of
from batch_operator.lifecycle.plan import Definition
from batch_operator.lifecycle.states import FINAL
from batch_operator.provisioning.prices import priced
from batch_operator.scheduling.catalogues import catalogue_of
from batch_operator.scheduling.environments import is_invalid
from batch_operator.scheduling.snapshot import Changes, ProvisionerReport, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from batch_operator.api.compute_environment import ProvisionerType
    from batch_operator.api.job_definition import JobDefinitionSpec, JobDefinitionStatus
    from batch_operator.cluster.decoding import Namespace, Revision
    from batch_operator.lifecycle.array_parameters import Source, SourceKey
    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.evaluate import Refusal
    from batch_operator.lifecycle.start_troubles import Troubles
    from batch_operator.lifecycle.stops import Policy
    from batch_operator.provisioning.catalogue import Catalogue, CatalogueKey
    from batch_operator.provisioning.daemons import DaemonSet
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.pools import PoolKey
    from batch_operator.scheduling.snapshot import (
        Consumable,
        Environment,
        Job,
        Key,
        PoolRefusal,
        ProvisionerReport,
        Queue,
        SharePolicy,
    )

    DefinitionObject = Stored[JobDefinitionSpec, JobDefinitionStatus]


_MESSAGE_MAX = 512
SpecT = TypeVar("SpecT")
StatusT = TypeVar("StatusT")
Named = Stored[SpecT, StatusT]


class Table(Generic[T]):
    """Objects of one kind by uid; `changed` is told the object before and after each change."""

    def __init__(self, changed: Callable[[T | None, T | None], None]) -> None:
        self.items: dict[str, T] = {}
        self._changed = changed
        self._gone: set[str] = set()

    def upsert(self, item: T) -> None:
        """Take an object, unless a newer state of it is known or it is known to be gone."""
        before = self.items.get(item.uid)
        if item.uid in self._gone:
            return
        if before is not None and before.resource_version >= item.resource_version:
            return
        self.items[item.uid] = item
        self._changed(before, item)

    def reply(self, item: T) -> None:
        """Take the reply to an update of ours, unless the object went while it was on its way."""
        if item.uid in self.items:
            self.upsert(item)

    def remove(self, item: T) -> None:
        """The API server says that the object is gone (or out of the watch's selection)."""
        self.drop(item.uid)

    def drop(self, uid: str) -> None:
        """The same of an object that cannot be read any more."""
        self._gone.discard(uid)
        self._drop(uid)

    def forget(self, uid: str) -> None:
        """We have just removed the object: events about its past may still be on their way."""
        if self._drop(uid):
            self._gone.add(uid)

    def replace(self, items: list[T], resource_version: int) -> None:
        """A fresh list: what is in it is there, what is not is gone, unless it is newer than it."""
        listed = {item.uid for item in items}
        self._gone &= listed
        for uid, known in list(self.items.items()):
            if uid not in listed and known.resource_version <= resource_version:
                self._drop(uid)
        for item in items:
            self.upsert(item)

    def _drop(self, uid: str) -> bool:
        before = self.items.pop(uid, None)
        if before is not None:
            self._changed(before, None)
        return before is not None


class Cache:
    """Every table, the indexes that the core reads, and the changes since the last snapshot."""

    def __init__(self) -> None:
        self.followers: AbstractSet[ProvisionerType] = frozenset()
        """As a snapshot has them."""
        self.jobs: Table[Job] = Table(self._job_changed)
        self.pods: Table[PodAttempt] = Table(self._pod_changed)
        self.gang_jobs: Table[PodAttempt] = Table(self._pod_changed)
        """The Jobs of multi-node jobs, each as the stand-in for Pods that it is still to make."""
        self.revisions: Table[Revision] = Table(self._revision_changed)
        self.definitions: Table[DefinitionObject] = Table(self._definition_changed)
        self.queues: Table[Queue] = Table(self._queue_changed)
        self.environments: Table[Environment] = Table(self._environment_changed)
        self.policies: Table[SharePolicy] = Table(self._policy_changed)
        self.consumables: Table[Consumable] = Table(self._consumable_changed)
        self.nodes: Table[Node] = Table(self._node_changed)
        self.daemon_sets: Table[DaemonSet] = Table(self._daemon_set_changed)
        self.namespaces: Table[Namespace] = Table(self._namespace_changed)
        self.refused_pools: dict[str, dict[PoolKey, PoolRefusal]] = defaultdict(dict)
        self.reports: dict[str, ProvisionerReport] = {}
        self.refusals: dict[str, Refusal] = {}
        self.parameter_sources: dict[SourceKey, Source] = {}
        self.catalogues: dict[CatalogueKey, Catalogue] = {}
        self.troubles: dict[str, Troubles] = {}
        self._source_users: dict[SourceKey, set[str]] = defaultdict(set)
        self._job_uids: dict[Key, str] = {}
        self._attempts: dict[str, dict[str, PodAttempt]] = defaultdict(dict)
        self._definitions: dict[Key, Definition] = {}
        self._queues: dict[str, Queue] = {}
        self._environments: dict[str, Environment] = {}
        self._policies: dict[str, SharePolicy] = {}
        self._consumables: dict[str, Consumable] = {}
        self._nodes: dict[str, dict[str, Node]] = defaultdict(dict)
        self._daemon_sets: tuple[DaemonSet, ...] = ()
        self._stray_nodes: dict[str, dict[str, Node]] = defaultdict(dict)
        self._changed_nodes: set[str] = set()
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._changed_namespaces: set[str] = set()
        self._changed_jobs: set[str] = set()
        self._changed_statuses: set[str] = set()
        self._removed_jobs: set[Key] = set()
        self._changed_definitions: set[Key] = set()
        self._changed_queues: set[str] = set()
        self._changed_environments: set[str] = set()
        self._changed_policies: set[str] = set()
        self._changed_consumables: set[str] = set()

    def snapshot(self, now: datetime, policy: Policy, start_budget: int) -> Snapshot:
        """The world now, with the changes since the last snapshot.

        The snapshot shares the cache's mappings: it holds until the caller next gives way to
        other coroutines.
        """
        changes = Changes(
            jobs=self._changed_jobs,
            statuses=self._changed_statuses,
            removed_jobs=self._removed_jobs,
            definitions=self._changed_definitions,
            queues=self._changed_queues,
            environments=self._changed_environments,
            policies=self._changed_policies,
            consumables=self._changed_consumables,
            nodes=self._changed_nodes,
            namespaces=self._changed_namespaces,
        )
        self._changed_jobs = set()
        self._changed_statuses = set()
        self._removed_jobs = set()
        self._changed_definitions = set()
        self._changed_queues = set()
        self._changed_environments = set()
        self._changed_policies = set()
        self._changed_consumables = set()
        self._changed_nodes = set()
        self._changed_namespaces = set()
        return Snapshot(
            now=now,
            jobs=self.jobs.items,
            job_uids=self._job_uids,
            attempts=self._attempts,
            definitions=self._definitions,
            queues=self._queues,
            environments=self._environments,
            policies=self._policies,
            consumables=self._consumables,
            refusals=self.refusals,
            parameter_sources=self.parameter_sources,
            catalogues=self.catalogues,
            troubles=self.troubles,
            nodes=self._nodes,
            daemon_sets=self._daemon_sets,
            stray_nodes=self._stray_nodes,
            namespaces=self._namespaces,
            refused_pools=self.refused_pools,
            reports=self.reports,
            followers=self.followers,
            changes=changes,
            policy=policy,
            start_budget=start_budget,
        )

    @property
    def queue_names(self) -> AbstractSet[str]:
        return self._queues.keys()

    def touch(self, uid: str) -> None:
        """Have an object of any kind looked at again although nothing about it changed."""
        if definition := self.definitions.items.get(uid):
            self._changed_definitions.add(definition.key)
        elif revision := self.revisions.items.get(uid):
            self._changed_definitions.add((revision.namespace, revision.definition))
        elif queue := self.queues.items.get(uid):
            self._changed_queues.add(queue.name)
        elif environment := self.environments.items.get(uid):
            self._changed_environments.add(environment.name)
        elif policy := self.policies.items.get(uid):
            self._changed_policies.add(policy.name)
        elif consumable := self.consumables.items.get(uid):
            self._changed_consumables.add(consumable.name)
        elif node := self.nodes.items.get(uid):
            self._changed_nodes |= node.claimants
        else:
            self._changed_jobs.add(uid)

    def refuse_pool(self, environment: str, pool: PoolKey, refusal: PoolRefusal) -> None:
        """Remember that a provisioner got no more nodes of a pool."""
        if self.refused_pools[environment].get(pool) != refusal:
            self.refused_pools[environment][pool] = refusal
            self._changed_nodes.add(environment)

    def keep_report(self, environment: str, report: ProvisionerReport) -> None:
        """Remember what an environment's provisioner said last."""
        if self.reports.get(environment) != report:
            self.reports[environment] = report
            self._changed_nodes.add(environment)

    def assume(self, attempt: PodAttempt) -> None:
        """Count a create that is on its way as an attempt."""
        self._attempts[attempt.job_uid].setdefault(attempt.pod_name, attempt)
        self._changed_jobs.add(attempt.job_uid)

    def unassume(self, job_uid: str, pod_name: str) -> None:
        """A create has failed: unless its Pod has been seen after all, the attempt is no more."""
        attempts = self._attempts.get(job_uid, {})
        attempt = attempts.get(pod_name)
        if attempt is not None and attempt.is_on_its_way:
            self._remove_attempt(job_uid, pod_name)

    def refuse(self, job_uid: str, refusal: Refusal | None) -> None:
        """Remember, or forget, that the API server would not take a Pod of the job."""
        if refusal is not None and job_uid in self.jobs.items:
            self.refusals[job_uid] = refusal
            self._changed_jobs.add(job_uid)
        else:
            self.refusals.pop(job_uid, None)

    def refuse_revision(self, definition_uid: str, message: str) -> None:
        """Remember, until there is another one, that the API server would not keep a revision."""
        known = self.definitions.items.get(definition_uid)
        current = self._definitions.get(known.key) if known is not None else None
        if known is not None and current is not None and current.object is known:
            self._keep_definition(known.key, replace(current, refused=message[:_MESSAGE_MAX]))
            self._changed_definitions.add(known.key)

    def keep_source(self, key: SourceKey, source: Source) -> None:
        """Remember what was read of a ConfigMap for as long as open jobs take parameters from it.

        What is read again and has not changed stays the same object, so that nothing made of it
        has to be made again.
        """
        users = self._source_users.get(key)
        if users is None:
            return
        known = self.parameter_sources.get(key)
        if known is not None and known.lines == source.lines:
            source = replace(source, lines=known.lines)
        self.parameter_sources[key] = source
        self._changed_jobs |= users

    def keep_troubles(self, namespace: str, troubles: Troubles) -> None:
        """Remember what Events say of Pods that are there, in place of what was read before.

        They are believed of the Pods of their own namespace.
        """
        before = self.troubles.get(namespace)
        was = before.by_pod if before is not None else {}
        pods = {uid: self.pods.items.get(uid) for uid in {*was, *troubles.by_pod}}
        there = {uid: one for uid, one in pods.items() if one and one.namespace == namespace}
        told = {uid: text for uid, text in troubles.by_pod.items() if uid in there}
        self.troubles[namespace] = replace(troubles, by_pod=told)
        for uid, one in there.items():
            if was.get(uid) != told.get(uid):
                self._changed_jobs.add(one.job_uid)

    def unowned_nodes(self) -> dict[str, int]:
        """How many nodes say that they are of an environment that is not there, by its name."""
        names = filter(None, self._nodes.keys() - self._environments.keys())
        return {name: len(self._nodes[name]) for name in names if self._nodes[name]}

    def named_catalogues(self) -> list[CatalogueKey]:
        """The price catalogues that environments name."""
        keys = (catalogue_of(one.spec) for one in self._environments.values())
        return sorted({one for one in keys if one is not None})

    def keep_catalogue(self, key: CatalogueKey, catalogue: Catalogue) -> None:
        """Remember a price catalogue as long as an environment names it, and price by it."""
        users = [one for one in self._environments.values() if catalogue_of(one.spec) == key]
        before = self.catalogues.pop(key, None)
        if not users:
            return
        self.catalogues[key] = catalogue
        said = before and (before.prices, before.problem)
        if said != (catalogue.prices, catalogue.problem):
            for one in users:
                self._price(self.environments.items[one.uid])
            self._changed_environments.update(one.name for one in users)

    def _price(self, stored: Environment) -> None:
        """Index an environment with the prices of the catalogue that it names."""
        key = catalogue_of(stored.spec)
        catalogue = self.catalogues.get(key) if key is not None else None
        if catalogue is not None:
            spec = priced(stored.spec, catalogue.prices)
            self._environments[stored.name] = replace(stored, spec=spec)

    def _use_source(self, job: Job, *, is_open: bool) -> None:
        key = source_of(job)
        if key is None:
            return
        if is_open and job.uid not in self._source_users[key]:
            # A new job gets what is there now: the ConfigMap may have been made, or made anew,
            # since others had it read.
            self._source_users[key].add(job.uid)
            self.parameter_sources.pop(key, None)
        elif not is_open and key in self._source_users:
            self._source_users[key].discard(job.uid)
            if not self._source_users[key]:
                del self._source_users[key]
                self.parameter_sources.pop(key, None)

    def _remove_attempt(self, job_uid: str, pod_name: str) -> None:
        attempts = self._attempts[job_uid]
        attempts.pop(pod_name, None)
        if not attempts:
            del self._attempts[job_uid]
        self._changed_jobs.add(job_uid)

    def _job_changed(self, before: Job | None, after: Job | None) -> None:
        known = after or before
        assert known is not None  # a change has at least one side
        changed = self._changed_statuses if is_echo(before, after) else self._changed_jobs
        changed.add(known.uid)
        self._use_source(known, is_open=after is not None and after.status.state not in FINAL)
        if after is not None:
            self._job_uids[after.key] = after.uid
        else:
            self._removed_jobs.add(known.key)
            self.refusals.pop(known.uid, None)
            if self._job_uids.get(known.key) == known.uid:
                del self._job_uids[known.key]

    def _pod_changed(self, before: PodAttempt | None, after: PodAttempt | None) -> None:
        if after is not None:
            self._attempts[after.job_uid][after.pod_name] = after
            self._changed_jobs.add(after.job_uid)
        elif before is not None:
            self._remove_attempt(before.job_uid, before.pod_name)

    def _revision_changed(self, before: Revision | None, after: Revision | None) -> None:
        known = after or before
        assert known is not None  # a change has at least one side
        key = known.namespace, known.definition
        definition = self._definitions.get(key, Definition(None, {}))
        revisions = dict(definition.revisions)
        revisions.pop(known.number, None)
        if after is not None:
            revisions[after.number] = after.spec
        self._keep_definition(key, Definition(definition.object, revisions))
        self._changed_definitions.add(key)

    def _definition_changed(
        self, before: DefinitionObject | None, after: DefinitionObject | None
    ) -> None:
        known = after or before
        assert known is not None  # a change has at least one side
        current = self._definitions.get(known.key, Definition(None, {}))
        if succeeded(known, current.object):
            return
        is_other = before is None or after is None or before.generation != after.generation
        refused = None if is_other else current.refused
        self._keep_definition(known.key, Definition(after, current.revisions, refused))
        if not is_echo(before, after) or offered(before) != offered(after):
            self._changed_definitions.add(known.key)

    def _keep_definition(self, key: Key, definition: Definition) -> None:
        if definition.object is None and not definition.revisions:
            self._definitions.pop(key, None)
        else:
            self._definitions[key] = definition

    def _queue_changed(self, before: Queue | None, after: Queue | None) -> None:
        _keep(self._queues, self._changed_queues, before, after)

    def _environment_changed(self, before: Environment | None, after: Environment | None) -> None:
        _keep(self._environments, self._changed_environments, before, after)
        if after is not None and self._environments[after.name] is after:
            self._price(after)
        for key in self.catalogues.keys() - set(self.named_catalogues()):
            del self.catalogues[key]
        if before is not None and after is None:
            self.refused_pools.pop(before.name, None)
            self.reports.pop(before.name, None)
        if before is not None and after is not None and before.generation != after.generation:
            self.reports.pop(after.name, None)  # it may work now
        if before is not None and after is not None and is_invalid(before) != is_invalid(after):
            self._changed_environments.add(after.name)  # one that is INVALID takes no work

    def _namespace_changed(self, before: Namespace | None, after: Namespace | None) -> None:
        known = after or before
        assert known is not None  # a change has at least one side
        if after is None:
            self._namespaces.pop(known.name, None)
        else:
            self._namespaces[known.name] = after.labels
        if before is None or after is None or before.labels != after.labels:
            self._changed_namespaces.add(known.name)

    def _node_changed(self, before: Node | None, after: Node | None) -> None:
        """Nodes change all the time, by heartbeats that say nothing new."""
        is_echo = (
            before is not None
            and after is not None
            and replace(before, resource_version=after.resource_version) == after
        )
        if before is not None:
            for index, name in self._places(before):
                index[name].pop(before.name, None)
        if after is not None:
            for index, name in self._places(after):
                index[name][after.name] = after
        if not is_echo:
            for known in filter(None, (before, after)):
                self._changed_nodes |= known.claimants

    def _places(self, node: Node) -> list[tuple[dict[str, dict[str, Node]], str]]:
        """Under which environments a node is kept: the one that counts it, or all that it names.

        One that names none may be one that an environment selects by labels of its own.
        """
        if node.owner is not None or not node.claimants:
            return [(self._nodes, node.owner or "")]
        return [(self._stray_nodes, name) for name in node.claimants]

    def _daemon_set_changed(self, before: DaemonSet | None, after: DaemonSet | None) -> None:
        """Their statuses change all the time; what matters here hardly ever does."""
        if before is not None and after is not None:
            same_as_before = replace(before, resource_version=after.resource_version) == after
            if same_as_before:
                return
        known = self.daemon_sets.items
        self._daemon_sets = tuple(known[uid] for uid in sorted(known))
        self._changed_nodes.update(self._environments)

    def _policy_changed(self, before: SharePolicy | None, after: SharePolicy | None) -> None:
        _keep(self._policies, self._changed_policies, before, after)

    def _consumable_changed(self, before: Consumable | None, after: Consumable | None) -> None:
        _keep(self._consumables, self._changed_consumables, before, after)


def _keep(
    index: dict[str, Named[SpecT, StatusT]],
    changed: set[str],
    before: Named[SpecT, StatusT] | None,
    after: Named[SpecT, StatusT] | None,
) -> None:
    """Index an administrators' object by name; an echo of our own status write is no change."""
    known = after or before
    assert known is not None  # a change has at least one side
    if succeeded(known, index.get(known.name)):
        return
    if after is None:
        index.pop(known.name, None)
    else:
        index[after.name] = after
    if not is_echo(before, after):
        changed.add(known.name)


def counts(cache: Cache) -> Mapping[str, int]:
    """Sizes for the metrics."""
    return {
        "batchjobs": len(cache.jobs.items),
        "pods": len(cache.pods.items),
        "jobdefinitions": len(cache.definitions.items),
        "jobqueues": len(cache.queues.items),
        "computeenvironments": len(cache.environments.items),
        "nodes": len(cache.nodes.items),
        "namespaces": len(cache.namespaces.items),
    }
