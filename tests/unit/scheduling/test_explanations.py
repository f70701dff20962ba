"""What a waiting job is told, and how often that is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support.builders import job, queue
from support.world import World

if TYPE_CHECKING:
    from batch_operator.api.job import Pending


def sized(name: str, vcpus: int, at_s: float = 0, **spec: Any) -> Any:
    requests = {"resources": {"requests": {"cpu": str(vcpus)}}}
    return job(name, at_s=at_s, containerOverrides=[requests], **spec)


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
