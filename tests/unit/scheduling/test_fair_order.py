"""The order of starts in queues with fair share: nobody overtakes whom the rules forbid."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.stops import Policy
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.memo import Memo
from batch_operator.scheduling.mutations import StartAttempt
from support.audit import Audit
from support.builders import definition, definition_spec, environment, job, queue, scheduling_policy
from support.world import World

SHARES = ("ant", "bee", "bug", "cat")


def cpu(vcpus: float) -> list[dict[str, Any]]:
    return [{"resources": {"requests": {"cpu": str(vcpus)}}}]


def fair_world(max_vcpus: int = 8, **policy: Any) -> World:
    """Two fair queues and one without, in two environments; statuses of queues are stored."""
    world = World(max_vcpus=max_vcpus)
    world.policies = [scheduling_policy(weights={"ant": 0.5, "b*": 1}, **policy)]
    world.environments.append(environment("second", maxvCpus=3))
    both = [
        {"order": 1, "computeEnvironment": "local"},
        {"order": 2, "computeEnvironment": "second"},
    ]
    world.queues = [
        queue("main", priority=5, schedulingPolicy="fair", computeEnvironmentOrder=both),
        queue("urgent", priority=9, schedulingPolicy="fair"),
        queue("plain", priority=1, computeEnvironmentOrder=both),
    ]
    world.definitions = [definition("work", definition_spec(retryStrategy={"attempts": 2}))]
    world.written_kinds = {"BatchJob", "JobQueue"}
    world.restart()
    return world


JOBS = st.lists(
    st.tuples(
        st.sampled_from(("main", "main", "main", "urgent", "plain")),
        st.sampled_from(SHARES),
        st.sampled_from((0.25, 0.333, 1, 2, 3)),
        st.none() | st.integers(2, 6),
        st.integers(0, 3),
        st.integers(0, 12),
    ),
    min_size=1,
    max_size=14,
)


def submitted(number: int, drawn: tuple[str, str, float, int | None, int, int]) -> Any:
    name, share, vcpus, size, priority, _ = drawn
    fields: dict[str, Any] = {"jobQueue": name, "containerOverrides": cpu(vcpus)}
    if size:
        fields["arrayProperties"] = {"size": size}
    if name != "plain":
        fields |= {"shareIdentifier": share, "schedulingPriority": priority}
    return job(f"j{number}", at_s=number, **fields)


def starts(mutations: Any) -> list[tuple[str, int, int, str]]:
    return [
        (one.job.name, one.index, one.number, one.environment)
        for one in mutations
        if isinstance(one, StartAttempt)
    ]


def live_on(world: World, seconds: float, fails: set[int]) -> None:
    """Every Pod goes one phase on."""
    world.tick(seconds)
    for number, pod in enumerate(world.live()):
        if pod.phase is Phase.UNBOUND:
            world.move(pod, Phase.RUNNING, node_name="node", bound_at=world.now)
        else:
            world.move(pod, Phase.FAILED if number in fails else Phase.SUCCEEDED)


@settings(max_examples=20)
@given(
    JOBS,
    st.sampled_from((0, 50, 90)),
    st.sets(st.integers(0, 12), max_size=3),
    st.sets(st.integers(0, 3), max_size=2),
    st.randoms(use_true_random=False),
)
def test_nobody_overtakes_and_neither_memory_nor_the_order_of_lists_decides(
    drawn: list[Any], reservation: int, restarts: set[int], fails: set[int], chance: Any
) -> None:
    """Every cycle of random lives is audited, and compared with one that remembers nothing."""
    world, audit = fair_world(computeReservation=reservation), Audit()
    for step in range(14):
        for number, one in enumerate(drawn):
            if one[-1] == step:
                world.submit(submitted(number, one))
        if step in restarts:
            world.restart()
        other = World()
        other.__dict__.update(
            {**world.__dict__, "jobs": _shuffled(world.jobs, chance)}
            | {"pods": _shuffled(world.pods, chance), "queues": world.queues[::-1]}
        )
        other.restart()
        snapshot = world.cache.snapshot(world.now, Policy(), 1000)
        result = run_cycle(snapshot, world.memo)
        fresh = run_cycle(other.cache.snapshot(world.now, Policy(), 1000), Memo())
        audit.see(snapshot, world.memo, result)

        assert starts(result.mutations) == starts(fresh.mutations)

        world.carry_out(*result.mutations)
        live_on(world, 7, fails)

    assert (audit.queue_inversions, audit.priority_inversions) == (0, 0)
    assert audit.reservation_breaches == 0


def _shuffled(found: dict[str, Any], chance: Any) -> dict[str, Any]:
    pairs = list(found.items())
    chance.shuffle(pairs)
    return dict(pairs)
