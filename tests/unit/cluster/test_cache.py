"""What is believed when watches, lists and replies to our own writes disagree."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.api.job import BatchJobStatus, JobState
from batch_operator.api.job_definition import JobDefinitionStatus
from batch_operator.cluster.cache import Cache, Table, counts
from batch_operator.cluster.decoding import Namespace, Revision
from batch_operator.lifecycle.attempt import Phase, PodAttempt
from batch_operator.lifecycle.evaluate import Refusal
from batch_operator.lifecycle.stops import Policy
from batch_operator.scheduling.snapshot import Changes, PoolRefusal
from support.builders import START, attempt, definition, definition_spec, environment, job, queue
from support.environments import node
from support.environments import pool as pool_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_operator.scheduling.snapshot import Snapshot

    Change = tuple[int | None, int | None]

NONE = Changes()
ASSUMED = attempt(Phase.ASSUMED, pod_uid="", resource_version=0, tracked=False)


def snapshot(cache: Cache) -> Snapshot:
    return cache.snapshot(START, Policy(), 500)


def changes(cache: Cache) -> Changes:
    return snapshot(cache).changes


class Pods:
    """A table of Pods, and the versions before and after each change that it told of."""

    def __init__(self, *items: PodAttempt) -> None:
        self.changes: list[Change] = []
        self.table: Table[PodAttempt] = Table(self._changed)
        for one in items:
            self.table.upsert(one)
        self.changes.clear()

    def _changed(self, before: PodAttempt | None, after: PodAttempt | None) -> None:
        self.changes.append((before and before.resource_version, after and after.resource_version))

    @property
    def versions(self) -> dict[str, int]:
        return {uid: one.resource_version for uid, one in self.table.items.items()}


def pod(uid: str, version: int) -> PodAttempt:
    return attempt(Phase.RUNNING, pod_uid=uid, pod_name=uid, resource_version=version)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        pytest.param(4, [], id="an older state is ignored"),
        pytest.param(5, [], id="the same state is no change"),
        pytest.param(6, [(5, 6)], id="a newer state is taken"),
    ],
)
def test_only_a_newer_state_of_an_object_is_taken(version: int, expected: list[Change]) -> None:
    """A reply to our own write is as good as its event, which then comes too late."""
    pods = Pods(pod("a", 5))
    pods.table.upsert(pod("a", version))

    assert pods.changes == expected
    assert pods.versions == {"a": max(version, 5)}


def test_what_was_deleted_can_come_back_only_under_another_uid() -> None:
    pods = Pods(pod("a", 5))
    pods.table.remove(pod("a", 6))
    pods.table.upsert(pod("b", 7))

    assert pods.versions == {"b": 7}


def test_a_forgotten_object_does_not_come_back_through_a_late_event() -> None:
    """A released Pod: events about its life before may still be on their way."""
    pods = Pods(pod("a", 5))
    pods.table.forget("a")
    pods.table.upsert(pod("a", 6))

    assert pods.changes == [(5, None)]
    assert pods.versions == {}


def test_a_forgotten_object_does_not_come_back_through_a_list_from_before() -> None:
    pods = Pods(pod("a", 5))
    pods.table.forget("a")
    pods.table.replace([pod("a", 6)], 7)
    pods.table.upsert(pod("a", 8))

    assert pods.versions == {}


@pytest.mark.parametrize(
    "farewell",
    [
        pytest.param(lambda table: table.remove(pod("a", 9)), id="its DELETED event"),
        pytest.param(lambda table: table.replace([], 9), id="a list without it"),
    ],
)
def test_what_is_kept_of_forgotten_objects_does_not_grow(
    farewell: Callable[[Table[PodAttempt]], None],
) -> None:
    pods = Pods(pod("a", 5))
    pods.table.forget("a")
    farewell(pods.table)

    assert pods.table._gone == set()


def test_forgetting_what_is_not_there_changes_nothing() -> None:
    """The DELETED event was quicker than the reply to our patch."""
    pods = Pods(pod("a", 5))
    pods.table.remove(pod("a", 6))
    pods.table.forget("a")

    assert pods.changes == [(5, None)]
    assert pods.table._gone == set()


def test_a_list_removes_what_is_not_in_it() -> None:
    pods = Pods(pod("kept", 1), pod("changed", 2), pod("vanished", 3))
    pods.table.replace([pod("kept", 1), pod("changed", 8), pod("new", 9)], 10)

    assert pods.versions == {"kept": 1, "changed": 8, "new": 9}
    assert pods.changes == [(3, None), (2, 8), (None, 9)]


def test_a_list_takes_nothing_back_that_is_newer_than_it() -> None:
    """It was on its way when we wrote, and knows nothing of that."""
    pods = Pods(pod("created since", 12), pod("changed since", 13))
    pods.table.replace([pod("changed since", 8)], 10)

    assert pods.versions == {"created since": 12, "changed since": 13}
    assert pods.changes == []


def test_a_reply_about_an_object_that_has_gone_meanwhile_is_no_news() -> None:
    """Its DELETED event was quicker: taking the reply would keep a ghost until the next list."""
    pods = Pods(pod("a", 5))
    pods.table.reply(pod("a", 6))

    assert pods.versions == {"a": 6}
    pods.table.remove(pod("a", 7))
    pods.table.reply(pod("a", 6))

    assert pods.versions == {}


def test_a_create_on_its_way_holds_capacity_until_it_has_failed() -> None:
    cache = Cache()
    cache.assume(ASSUMED)
    during = dict(snapshot(cache).attempts["uid-job"])
    told = changes(cache)
    cache.unassume("uid-job", ASSUMED.pod_name)

    assert during == {ASSUMED.pod_name: ASSUMED}
    assert told.jobs == frozenset()
    assert changes(cache).jobs == {"uid-job"}
    assert "uid-job" not in snapshot(cache).attempts


def test_the_pod_takes_the_place_of_the_assumption() -> None:
    cache = Cache()
    cache.assume(ASSUMED)
    seen = attempt(Phase.UNBOUND, pod_name=ASSUMED.pod_name)
    cache.pods.upsert(seen)
    cache.unassume("uid-job", ASSUMED.pod_name)

    assert snapshot(cache).attempts["uid-job"] == {ASSUMED.pod_name: seen}


def test_an_assumption_never_hides_a_pod_that_has_been_seen() -> None:
    cache = Cache()
    seen = attempt(Phase.RUNNING, pod_name=ASSUMED.pod_name)
    cache.pods.upsert(seen)
    cache.assume(ASSUMED)

    assert snapshot(cache).attempts["uid-job"] == {ASSUMED.pod_name: seen}


def test_an_assumption_outlives_a_fresh_list() -> None:
    cache = Cache()
    cache.assume(ASSUMED)
    cache.pods.replace([], 100)

    assert snapshot(cache).attempts["uid-job"] == {ASSUMED.pod_name: ASSUMED}


def test_taking_back_an_assumption_twice_changes_nothing() -> None:
    cache = Cache()
    cache.assume(ASSUMED)
    cache.unassume("uid-job", ASSUMED.pod_name)
    changes(cache)
    cache.unassume("uid-job", ASSUMED.pod_name)

    assert changes(cache).jobs == set()


def test_a_snapshot_tells_every_change_once() -> None:
    cache = Cache()
    known = definition().object
    assert known is not None
    cache.jobs.upsert(job())
    cache.pods.upsert(attempt(Phase.RUNNING, job_uid="uid-other"))
    cache.definitions.upsert(known)
    cache.queues.upsert(queue())
    cache.environments.upsert(environment())

    assert changes(cache) == Changes(
        jobs={"uid-job", "uid-other"},
        definitions={("default", "work")},
        queues={"main"},
        environments={"local"},
    )
    assert changes(cache) == NONE


def test_of_a_job_whose_spec_is_as_it_was_only_the_status_has_changed() -> None:
    cache = Cache()
    cache.jobs.upsert(job())
    changes(cache)
    cache.jobs.upsert(replace(job(), resource_version=2))

    assert changes(cache) == Changes(statuses={"uid-job"})
    cache.jobs.upsert(replace(job(), resource_version=3, generation=2))
    cache.jobs.upsert(replace(job(), resource_version=4, generation=2))

    assert changes(cache) == Changes(jobs={"uid-job"}, statuses={"uid-job"})


def test_the_revision_that_jobs_get_is_a_change_of_a_definition() -> None:
    """They wait for it to be recorded; what else its status says is nothing to them."""
    cache = Cache()
    cache.definitions.upsert(_definition_object(status=JobDefinitionStatus()))
    changes(cache)
    recorded = JobDefinitionStatus(observed_generation=1, latest_revision=1)
    cache.definitions.upsert(_definition_object(resource_version=2, status=recorded))

    assert changes(cache) == Changes(definitions={("default", "work")})


def test_an_echo_of_our_own_status_is_no_change_of_what_jobs_refer_to() -> None:
    """Else every status written would call for another look at all jobs of the queue, say."""
    cache = Cache()
    cache.definitions.upsert(_definition_object())
    cache.queues.upsert(queue())
    cache.environments.upsert(environment())
    changes(cache)
    cache.definitions.upsert(_definition_object(resource_version=2))
    cache.queues.upsert(replace(queue(), resource_version=2))
    cache.environments.upsert(replace(environment(), resource_version=2))

    assert changes(cache) == NONE
    cache.definitions.upsert(_definition_object(resource_version=3, generation=2))
    cache.queues.upsert(replace(queue(), resource_version=3, generation=2))
    cache.environments.upsert(replace(environment(), resource_version=3, deleting=True))

    assert changes(cache) == Changes(
        definitions={("default", "work")}, queues={"main"}, environments={"local"}
    )


def _definition_object(**fields: Any) -> Any:
    known = definition().object
    assert known is not None
    return replace(known, **fields)


@pytest.mark.parametrize(
    ("table", "index", "one"),
    [
        pytest.param("queues", "queues", queue(), id="a JobQueue"),
        pytest.param("environments", "environments", environment(), id="a ComputeEnvironment"),
        pytest.param("definitions", "definitions", _definition_object(), id="a JobDefinition"),
        pytest.param("jobs", "job_uids", job(), id="a BatchJob"),
    ],
)
def test_one_deleted_and_applied_again_survives_the_late_news_of_its_predecessors_end(
    table: str, index: str, one: Any
) -> None:
    """The order in which kopf reports on different uids has nothing to do with their names."""
    cache = Cache()
    successor = replace(one, uid="successor", resource_version=9)
    getattr(cache, table).upsert(one)
    getattr(cache, table).upsert(successor)
    before = dict(getattr(snapshot(cache), index))
    if table != "jobs":  # whose events come in order
        getattr(cache, table).upsert(replace(one, resource_version=7))
    getattr(cache, table).remove(replace(one, resource_version=8))

    assert getattr(snapshot(cache), index) == before
    getattr(cache, table).remove(successor)

    assert getattr(snapshot(cache), index) == {}


def _revision(number: int) -> Revision:
    return Revision(
        uid=f"revision-{number}",
        resource_version=number,
        namespace="default",
        definition="work",
        number=number,
        spec=definition_spec(),
    )


def test_a_definition_is_known_as_long_as_it_or_a_revision_of_it_is_there() -> None:
    cache = Cache()
    key = "default", "work"
    cache.revisions.upsert(_revision(1))

    assert snapshot(cache).definitions[key].object is None
    cache.definitions.upsert(_definition_object())
    cache.revisions.upsert(_revision(2))

    assert sorted(snapshot(cache).definitions[key].revisions) == [1, 2]
    assert snapshot(cache).definitions[key].object is not None
    cache.definitions.remove(_definition_object())
    cache.revisions.remove(_revision(1))

    assert sorted(snapshot(cache).definitions[key].revisions) == [2]
    cache.revisions.remove(_revision(2))

    assert key not in snapshot(cache).definitions
    assert changes(cache).definitions == set()


def test_a_new_revision_changes_its_definition() -> None:
    cache = Cache()
    cache.revisions.upsert(_revision(1))

    assert changes(cache).definitions == {("default", "work")}


@pytest.mark.parametrize(
    ("uid", "expected"),
    [
        pytest.param("uid-job", Changes(jobs={"uid-job"}), id="a job"),
        pytest.param("uid-gone", Changes(jobs={"uid-gone"}), id="a job whose Pods are left"),
        pytest.param("uid-main", Changes(queues={"main"}), id="a queue"),
        pytest.param("uid-local", Changes(environments={"local"}), id="an environment"),
        pytest.param("uid-work", Changes(definitions={("default", "work")}), id="a definition"),
        pytest.param("revision-1", Changes(definitions={("default", "old")}), id="a revision"),
        pytest.param("uid-n1", Changes(nodes={"elastic"}), id="a node, whose environment is"),
    ],
)
def test_whatever_is_touched_is_looked_at_again(uid: str, expected: Changes) -> None:
    cache = Cache()
    cache.revisions.upsert(replace(_revision(1), definition="old"))
    cache.jobs.upsert(job())
    cache.definitions.upsert(_definition_object())
    cache.queues.upsert(queue())
    cache.environments.upsert(environment())
    cache.nodes.upsert(node("n1"))
    changes(cache)
    cache.touch(uid)

    assert changes(cache) == expected


REFUSAL = Refusal("exceeded quota", START + timedelta(seconds=5), final=False)


def test_a_refusal_is_a_change_of_its_job_and_ends_with_it() -> None:
    cache = Cache()
    cache.jobs.upsert(job())
    changes(cache)
    cache.refuse("uid-job", REFUSAL)

    assert changes(cache).jobs == {"uid-job"}
    assert snapshot(cache).refusals == {"uid-job": REFUSAL}
    cache.jobs.remove(job())

    assert snapshot(cache).refusals == {}


def test_an_accepted_job_is_refused_no_longer() -> None:
    cache = Cache()
    cache.refuse("uid-job", REFUSAL)
    cache.refuse("uid-job", None)

    assert snapshot(cache).refusals == {}


def test_a_reply_to_our_own_status_write_counts_at_once() -> None:
    cache = Cache()
    cache.jobs.upsert(job())
    changes(cache)
    written = replace(job(status=BatchJobStatus(state=JobState.RUNNABLE)), resource_version=2)
    cache.jobs.reply(written)

    assert snapshot(cache).jobs["uid-job"] is written
    cache.jobs.upsert(replace(job(), resource_version=1))

    assert snapshot(cache).jobs["uid-job"] is written


def test_a_namespace_has_changed_when_its_labels_have() -> None:
    cache = Cache()

    def changed() -> tuple[set[str], dict[str, dict[str, str]]]:
        found = snapshot(cache)
        return set(found.changes.namespaces), {k: dict(v) for k, v in found.namespaces.items()}

    cache.namespaces.upsert(Namespace("uid-a", 1, "a", {"team": "x"}))
    assert changed() == ({"a"}, {"a": {"team": "x"}})
    cache.namespaces.upsert(Namespace("uid-a", 2, "a", {"team": "x"}))
    assert changed() == (set(), {"a": {"team": "x"}})
    cache.namespaces.upsert(Namespace("uid-a", 3, "a", {}))
    assert changed() == ({"a"}, {"a": {}})
    cache.namespaces.remove(Namespace("uid-a", 4, "a", {}))
    assert changed() == ({"a"}, {})


def test_a_refusal_that_is_told_again_is_no_change() -> None:
    cache = Cache()
    refusal = PoolRefusal(START, "out of nodes")
    cache.refuse_pool("elastic", pool_key("small"), refusal)
    assert changes(cache).nodes == {"elastic"}

    cache.refuse_pool("elastic", pool_key("small"), refusal)
    assert changes(cache) == NONE

    cache.refuse_pool("elastic", pool_key("small"), replace(refusal, at=START + timedelta(1)))
    assert changes(cache).nodes == {"elastic"}


def test_sizes_for_the_metrics() -> None:
    cache = Cache()
    cache.jobs.upsert(job())
    cache.pods.upsert(attempt(Phase.RUNNING))
    cache.pods.upsert(attempt(Phase.RUNNING, number=2))
    cache.queues.upsert(queue())

    assert counts(cache) == {
        "batchjobs": 1,
        "pods": 2,
        "jobdefinitions": 0,
        "jobqueues": 1,
        "computeenvironments": 0,
        "nodes": 0,
        "namespaces": 0,
    }


def test_nodes_of_an_environment_that_is_not_there_are_told_of() -> None:
    """Somebody may have taken the finalizer off: its machines are paid for, and nobody's."""
    cache = Cache()
    cache.environments.upsert(environment("elastic"))
    own, left_over = node("n1"), node("n2", environment="gone", claimed_by="gone")
    for one in (own, left_over, node("n3", environment="", claimed_by=None)):
        cache.nodes.upsert(one)
    before = cache.unowned_nodes()
    cache.nodes.remove(left_over)

    assert before == {"gone": 1}
    assert cache.unowned_nodes() == {}
