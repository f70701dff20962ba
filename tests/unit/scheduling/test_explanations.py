"""What a waiting job is told, and how often that is written."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from batch_operator.lifecycle.attempt import Phase
from batch_operator.scheduling.backlog import Ask
from batch_operator.scheduling.dispatch import Blocked
from batch_operator.scheduling.told import news_of
from support.builders import START, environment, job, queue, scheduling_policy
from support.world import World

if TYPE_CHECKING:
    from batch_operator.api.job import Pending


def sized(name: str, vcpus: int, at_s: float = 0, **spec: Any) -> Any:
    requests = {"resources": {"requests": {"cpu": str(vcpus)}}}
    return job(name, at_s=at_s, containerOverrides=[requests], **spec)


def fair_world(*shares: str) -> World:
    """Room for one job, of which one is submitted after the other, for these shares."""
    world = World(max_vcpus=1)
    world.policies = [scheduling_policy()]
    world.queues = [queue(schedulingPolicy="fair")]
    world.restart()
    for number, share in enumerate(shares):
        name = share if share not in shares[:number] else f"{share}{number}"
        world.submit(job(name, at_s=number, shareIdentifier=share))
    world.settle()
    return world


def come_to_rest(world: World) -> None:
    """Let the time pass in which nothing happens but what the operator waits for."""
    for _ in range(1000):
        if world.wake_at is None:
            return
        world.now = max(world.now, world.wake_at)
        world.settle()
    raise AssertionError("it always comes back")


def told(world: World, name: str) -> Pending:
    pending = world.jobs[f"uid-{name}"].status.pending
    assert pending is not None
    return pending


def test_a_job_that_a_reservation_keeps_out_is_told_for_whom_the_room_is_kept() -> None:
    """Nothing lacks capacity there, so a time limit for that does not end it."""
    world = World(max_vcpus=4)
    world.queues = [queue("main", priority=9, backfill=True), queue("low")]
    world.restart()
    world.submit(sized("runs", 2, timeout={"attemptDurationSeconds": 3600}))
    world.submit(sized("head", 4, at_s=1))
    world.submit(sized("small", 1, at_s=2, jobQueue="low"))
    world.settle()

    assert told(world, "head").message == "needs 4 vCPUs: local has 2 of 4 free"
    assert told(world, "small").reason == "KeptForOthers"
    assert told(world, "small").message == (
        "needs 1 vCPUs: local has 2 of 4 free, but that is kept for job head of JobQueue main, "
        "which needs more and would start later"
    )
    assert told(world, "small").blocked_by == ["head"]
    assert world.jobs["uid-small"].status.status_reason is None


def test_the_head_is_told_of_room_that_came_in_the_meantime() -> None:
    """Not at once each time, but soon, although nothing else happens then."""
    world = World(max_vcpus=4)
    for number in range(4):
        world.submit(sized(f"runs{number}", 1))
    world.submit(sized("head", 4, at_s=1))
    world.settle()
    first = told(world, "head")
    for pod in world.live()[:3]:
        world.tick(5)
        world.move(pod, Phase.SUCCEEDED)
        world.settle()
    soon = told(world, "head")
    come_to_rest(world)

    assert first.message == soon.message == "needs 4 vCPUs: local has 0 of 4 free"
    assert told(world, "head").message == "needs 4 vCPUs: local has 3 of 4 free"
    assert told(world, "head").since == first.since


def test_a_head_that_waits_long_is_told_of_changes_ever_less_often() -> None:
    """An hour in which the room changes every second takes some forty writes, not 3,600."""
    ask, where = Ask(4000), environment(maxvCpus=4)
    known, writes = None, 0
    for second in range(3600):
        head = Blocked("uid-head", ask, ((where, second % 4 * 1000),), ())
        news = news_of(head, known, START + timedelta(seconds=second))
        known, writes = news.told, writes + len(news.uids)

    assert 30 < writes < 50


def test_who_is_far_behind_is_told_of_those_directly_before_it() -> None:
    """They stay before it longest; its place is told as of a time, not after every step."""
    world = World(max_vcpus=1)
    for number in range(7):
        world.submit(job(f"j{number}", at_s=number))
    world.now = START + timedelta(hours=12, minutes=3)
    world.settle()
    first = told(world, "j6")
    writes = world.writes
    world.tick(60)
    world.settle()

    assert first.reason == "BehindOthers"
    assert (first.position, first.blocked_by) == (6, ["j5", "j4", "j3"])
    assert first.message == (
        "was number 6 in JobQueue main at 12:03Z, behind j5, j4, j3: those before it start first"
    )
    assert told(world, "j2").blocked_by == ["j1"]
    assert (told(world, "j6"), world.writes) == (first, writes)


def test_other_tenants_jobs_are_not_named() -> None:
    world = World(max_vcpus=1)
    world.submit(job("runs"))
    ours = world.definitions[0]
    assert ours.object is not None
    world.definitions.append(replace(ours, object=replace(ours.object, namespace="other")))
    world.restart()
    world.submit(replace(job("theirs", at_s=1), namespace="other"))
    world.submit(job("mine", at_s=2))
    world.settle()

    assert told(world, "mine").blocked_by == []
    assert "theirs" not in told(world, "mine").message


def test_the_first_of_a_share_is_told_whose_turn_it_is() -> None:
    """Nobody of its share is before it."""
    world = fair_world("a", "a", "b", "c", "d", "e", "f")
    first = told(world, "f")

    assert told(world, "b").reason == "InsufficientCapacity"
    assert told(world, "c").blocked_by == first.blocked_by == ["b"]
    assert (first.position, first.reason) == (1, "BehindOthers")
    assert told(world, "c").message == (
        "was number 1 of share c in JobQueue main at 00:00Z: it was the turn of other shares "
        "first: b"
    )
    assert first.message.endswith("it was the turn of other shares first: b, c, d and others")
    assert told(world, "a1").message.endswith("other shares first: b, c, d and others")
