"""A job whose Pods the API server refuses takes nothing away from others."""

from __future__ import annotations

from datetime import timedelta

from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.evaluate import Refusal
from batch_operator.scheduling.mutations import Mutation, StartAttempt
from support.builders import job, queue
from support.world import World


class Refusing(World):
    """There is a quota, which has nothing left for job `urgent`."""

    def _write(self, mutation: Mutation) -> None:
        if isinstance(mutation, StartAttempt) and mutation.job.name == "urgent":
            refusal = Refusal("exceeded quota", self.now + timedelta(seconds=5), final=False)
            self.cache.refuse(mutation.job.uid, refusal)
        else:
            super()._write(mutation)


def test_nothing_more_is_ended_for_it() -> None:
    world = Refusing(max_vcpus=2)
    world.queues = [
        queue("low", priority=0),
        queue("urgent", priority=9, preemption={"enabled": True}),
    ]
    world.restart()
    world.submit(job("low", jobQueue="low", arrayProperties={"size": 2}))
    world.settle()
    world.submit(job("urgent", at_s=1, jobQueue="urgent"))
    for _ in range(120):
        for pod in world.live():
            if pod.phase is Phase.UNBOUND and not pod.requeued:
                world.move(pod, Phase.RUNNING, node_name="node", bound_at=world.now)
        world.cycle()
        world.tick()
    low = world.jobs["uid-low"].status.array

    assert low is not None
    assert [(one.times, one.indexes) for one in low.preempted] == [(1, "0")]
