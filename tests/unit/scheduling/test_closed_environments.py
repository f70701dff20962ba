"""Where Pods go that no node has when their environment takes no work any more."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.api.compute_environment import EnvironmentState
from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.children import REQUEUES_MAX
from support.builders import environment, job, queue
from support.world import World

if TYPE_CHECKING:
    from batch_operator.lifecycle.attempt import PodAttempt

MOVED = "Moved to the next compute environment: a takes no more work"


def world_of(*names: str, max_vcpus: int = 4) -> World:
    """A world whose queue has these environments, in this order."""
    world = World()
    order = [{"order": number, "computeEnvironment": name} for number, name in enumerate(names)]
    world.queues = [queue(computeEnvironmentOrder=order)]
    world.environments = [environment(name, maxvCpus=max_vcpus) for name in names]
    world.restart()
    return world


def change(world: World, name: str, state: str, *, deleting: bool = False) -> None:
    """Somebody enables, disables or deletes an environment."""
    number = [one.name for one in world.environments].index(name)
    before = world.environments[number]
    after = replace(
        before,
        spec=before.spec.model_copy(update={"state": EnvironmentState(state)}),
        generation=before.generation + 1,
        resource_version=before.resource_version + 1,
        deleting=deleting,
    )
    world.environments[number] = after
    world.cache.environments.upsert(after)


def submit(world: World, name: str = "job", **spec: Any) -> None:
    world.submit(job(name, at_s=len(world.jobs), **spec))
    world.settle()


def places(world: World, name: str = "job") -> list[str]:
    """The environments of the attempts of a job that live."""
    return [one.environment for one in world.live() if one.job_uid == f"uid-{name}"]


def pod(world: World, name: str = "job") -> PodAttempt:
    return next(one for one in world.live() if one.job_uid == f"uid-{name}")


@pytest.mark.parametrize("others", [("b",), ("b", "c")], ids=str)
def test_what_has_no_node_goes_to_another_environment_at_once(others: tuple[str, ...]) -> None:
    """AWS: nothing new is placed in a DISABLED environment, and without a node it is not placed."""
    world = world_of("a", *others)
    submit(world)
    change(world, "a", "DISABLED")
    world.settle()

    assert places(world)[0] in others
    assert world.jobs["uid-job"].status.attempts[0].status_reason == MOVED


def test_it_costs_no_try() -> None:
    world = world_of("a", "b")
    submit(world, retryStrategy={"attempts": 1})
    change(world, "a", "DISABLED")
    world.settle()
    world.move(pod(world), Phase.SUCCEEDED)
    world.settle()

    assert world.state("job") == "SUCCEEDED"


def test_what_has_a_node_goes_on() -> None:
    """AWS: what is STARTING or RUNNING goes on."""
    world = world_of("a", "b")
    submit(world, "starts")
    submit(world, "runs")
    world.move(pod(world, "starts"), Phase.STARTING, node_name="n")
    world.move(pod(world, "runs"), Phase.RUNNING, node_name="n")
    change(world, "a", "DISABLED")
    world.settle()

    assert (places(world, "starts"), places(world, "runs")) == (["a"], ["a"])


def test_where_the_other_environment_is_full_it_is_the_first_that_gets_room() -> None:
    """Kept in its Pod it would see everybody go there who came after it."""
    world = world_of("a", "b", max_vcpus=1)
    for name in ("job", "fills", "late"):
        submit(world, name)
    change(world, "a", "DISABLED")
    world.settle()
    assert (places(world), places(world, "fills"), places(world, "late")) == ([], ["b"], [])
    world.move(pod(world, "fills"), Phase.SUCCEEDED)
    world.settle()

    assert (places(world), places(world, "late")) == (["b"], [])


def test_with_nowhere_else_to_go_it_stays_until_there_is() -> None:
    """Its environment may be enabled again, and nothing is lost that had to be made anew."""
    world = world_of("a", "b")
    change(world, "b", "DISABLED")
    world.settle()
    submit(world)
    change(world, "a", "DISABLED")
    world.settle()
    assert places(world) == ["a"]
    change(world, "b", "ENABLED")
    world.settle()

    assert places(world) == ["b"]


def test_a_restart_in_between_makes_no_difference() -> None:
    world = world_of("a", "b")
    submit(world)
    change(world, "a", "DISABLED")
    world.restart()
    world.settle()

    assert places(world) == ["b"]


def test_what_is_deleted_is_left_although_nothing_else_is_there() -> None:
    """It is out of its queues by then: a policy insists on that."""
    world = world_of("a")
    submit(world)
    world.queues = [queue(computeEnvironmentOrder=[{"order": 1, "computeEnvironment": "b"}])]
    world.restart()
    world.settle()
    assert places(world) == ["a"]
    change(world, "a", "ENABLED", deleting=True)
    world.settle()

    assert (places(world), world.state("job")) == ([], "RUNNABLE")


def test_after_so_many_moves_it_stays_rather_than_lose_a_try() -> None:
    world = world_of("a", "b")
    submit(world, retryStrategy={"attempts": 1})
    for number in range(REQUEUES_MAX + 2):
        closed, other = ("a", "b") if number % 2 == 0 else ("b", "a")
        change(world, other, "ENABLED")
        change(world, closed, "DISABLED")
        world.settle()

    assert len(world.starts) == REQUEUES_MAX + 1
    assert world.state("job") == "RUNNABLE"
    assert len(places(world)) == 1
