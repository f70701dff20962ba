"""Queues that choose by label which namespaces may submit, played through cycle by cycle."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from batch_operator.cluster.decoding import Namespace
from batch_operator.lifecycle.stops import Policy
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.memo import Memo
from batch_operator.scheduling.mutations import StartAttempt
from support.builders import definition, job, queue
from support.world import World

if TYPE_CHECKING:
    from batch_operator.scheduling.snapshot import Job


def world_of(selector: dict[str, object]) -> World:
    """A world with a queue that selects, and one that takes every namespace."""
    world = World(max_vcpus=100)
    world.queues = [queue(allowedNamespaces={"selector": selector}), queue("open")]
    works = definition()
    assert works.object is not None
    elsewhere = replace(works.object, namespace="team-a", uid="uid-work-a")
    world.definitions = [works, replace(works, object=elsewhere)]
    world.restart()
    return world


def label(world: World, name: str, version: int = 1, **labels: str) -> None:
    world.cache.namespaces.upsert(Namespace(f"uid-{name}", version, name, labels))
    world.settle()


def of_team_a(name: str, **spec: str) -> Job:
    return replace(job(name, **spec), namespace="team-a")


def begun(world: World) -> list[str]:
    return sorted({name for name, _, _ in world.starts})


def test_a_namespace_may_submit_from_when_on_it_is_labelled() -> None:
    world = world_of({"matchLabels": {"batch": "yes"}})
    world.submit(job("other"))
    world.submit(of_team_a("a"))
    label(world, "team-a", batch="no")
    pending = world.jobs["uid-a"].status.pending

    assert begun(world) == []
    assert pending is not None
    assert pending.reason == "NamespaceNotAllowed"

    label(world, "team-a", 2, batch="yes")

    assert begun(world) == ["a"]


def test_what_runs_goes_on_when_its_namespace_loses_the_label_and_nothing_more_starts() -> None:
    world = world_of({"matchLabels": {"batch": "yes"}})
    label(world, "team-a", batch="yes")
    world.submit(of_team_a("a"))
    world.settle()
    label(world, "team-a", 2)
    world.submit(of_team_a("b"))
    world.settle()

    assert begun(world) == ["a"]
    assert [one.phase.ended for one in world.pods.values()] == [False]


def test_a_namespace_of_which_nothing_has_been_seen_yet_is_known_by_its_name() -> None:
    """As Kubernetes labels every namespace."""
    name = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["team-a"]}
    world = world_of({"matchExpressions": [name]})
    world.submit(job("other"))
    world.submit(of_team_a("a"))
    world.settle()

    assert begun(world) == ["a"]


@pytest.mark.parametrize(("value", "expected"), [("yes", ["a"]), ("no", [])])
def test_only_who_waits_for_the_label_is_looked_at_and_an_empty_memo_decides_the_same(
    value: str, expected: list[str]
) -> None:
    world = world_of({"matchLabels": {"batch": "yes"}})
    world.submit(of_team_a("a"))
    world.submit(of_team_a("open", jobQueue="open"))
    world.submit(job("other"))
    world.settle()
    world.cache.namespaces.upsert(Namespace("uid-team-a", 1, "team-a", {"batch": value}))
    snapshot = world.cache.snapshot(world.now, Policy(), 1000)
    fresh, known = run_cycle(snapshot, Memo()), run_cycle(snapshot, world.memo)

    assert known.looked_at == 1
    for result in (fresh, known):
        starts = [one.job.name for one in result.mutations if isinstance(one, StartAttempt)]
        assert starts == expected
