"""Queues that nothing can start of are not served again, and yet miss nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_operator.api.consumable_resource import ConsumableResourceStatus
from batch_operator.api.job import StopRequest
from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.stops import Policy
from batch_operator.scheduling.backlog import Ask, Backlog
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.dispatch import Blocked, Dispatch
from batch_operator.scheduling.memo import Memo
from batch_operator.scheduling.mutations import StartAttempt, StopPod, WriteStatus
from batch_operator.scheduling.queues import Impasse
from batch_operator.scheduling.room import Room
from batch_operator.scheduling.terms import Offer
from support.builders import consumable, environment, job, queue, scheduling_policy
from support.world import World

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_operator.scheduling.mutations import Mutation

QUEUES = ("urgent", "main")


def shared_world(max_vcpus: int) -> World:
    """Two queues that share an environment."""
    world = World(max_vcpus=max_vcpus)
    world.queues.append(queue("urgent", priority=9))
    world.restart()
    return world


def sized(name: str, vcpus: int, at_s: float = 0, queue: str = "main") -> Any:
    requests = {"resources": {"requests": {"cpu": str(vcpus)}}}
    return job(name, at_s=at_s, jobQueue=queue, containerOverrides=[requests])


def resize(world: World, max_vcpus: int) -> None:
    known = world.environments[0]
    wider = replace(
        environment("local", maxvCpus=max_vcpus),
        generation=known.generation + 1,
        resource_version=known.resource_version + 1000,
    )
    world.environments[0] = wider
    world.cache.environments.upsert(wider)


def starts(mutations: Iterable[Mutation]) -> list[tuple[str, str]]:
    return [(one.job.name, one.environment) for one in mutations if isinstance(one, StartAttempt)]


@settings(max_examples=60)
@given(
    jobs=st.lists(
        st.tuples(st.integers(0, 6), st.integers(1, 3), st.sampled_from(QUEUES)),
        min_size=3,
        max_size=8,
    ),
    sizes=st.dictionaries(st.integers(2, 9), st.integers(1, 4)),
    lives=st.lists(st.integers(1, 4), min_size=8, max_size=8),
)
def test_what_is_not_served_could_start_nothing(
    jobs: list[tuple[int, int, str]],
    sizes: dict[int, int],
    lives: list[int],
) -> None:
    """At every step all queues are served by an empty memo; what starts is the same."""
    world = shared_world(3)
    for step in range(14):
        for number, (at, vcpus, name) in enumerate(jobs):
            if at == step:
                world.submit(sized(f"j{number}", vcpus, at, name))
        if step in sizes:
            resize(world, sizes[step])
        snapshot = world.cache.snapshot(world.now, Policy(), 1000)
        fresh = run_cycle(snapshot, Memo())
        result = run_cycle(snapshot, world.memo)

        assert starts(result.mutations) == starts(fresh.mutations)

        go_on(world, result.mutations, lives)


def go_on(world: World, mutations: Iterable[Mutation], lives: list[int]) -> None:
    """A second, in which Pods begin to run, or end where that is as long as they live."""
    world.carry_out(*mutations)
    for pod in world.live():
        age_s = (world.now - pod.started_at).total_seconds() if pod.started_at else 0
        if pod.phase is Phase.UNBOUND:
            world.move(pod, Phase.RUNNING, node_name="node", bound_at=world.now)
        elif age_s >= lives[int(world.jobs[pod.job_uid].name[1:])]:
            world.move(pod, Phase.SUCCEEDED)
    world.tick()


def test_who_stood_behind_a_job_that_is_withdrawn_starts() -> None:
    """There was room for it all the time."""
    world = shared_world(2)
    for number, vcpus in enumerate((1, 2, 1)):
        world.submit(sized(f"j{number}", vcpus, number))
    world.settle()
    large = world.jobs["uid-j1"]
    spec = large.spec.model_copy(update={"cancel": StopRequest(reason="not needed")})
    world.submit(replace(large, spec=spec, generation=2))
    world.settle()

    assert [world.jobs[one.job_uid].name for one in world.live()] == ["j0", "j2"]


def test_a_stopped_queue_costs_a_cycle_nothing_while_nothing_changes_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served: list[object] = []
    original = Dispatch.serve

    def listening(*args: Any, **kwargs: Any) -> Any:
        served.append(args[1])
        return original(*args, **kwargs)

    world = shared_world(2)
    for number in range(3):
        world.submit(sized(f"j{number}", 2, number))
    world.settle()
    monkeypatch.setattr(Dispatch, "serve", listening)
    world.memo.outlook.making = None
    world.submit(sized("elsewhere", 3, 9, "urgent"))
    world.cycle()

    assert world.memo.backlogs["main"] not in served


def test_an_environment_whose_nodes_turn_out_to_be_large_enough_ends_a_stop() -> None:
    """What is learned of nodes changes neither the queue nor the room that its first job had."""
    first, second = environment("local", maxvCpus=2), environment("cloud", maxvCpus=8)
    full, no_nodes = Counter({"local": 2000}), {"cloud"}
    room = Room(full, {}, suits=lambda one, _: one.name not in no_nodes)
    backlog, offer = Backlog(), Offer((first, second), None)
    head = Blocked("a", Ask(1000), ((first, 0),), (), unsuited=(second,))
    impasse = Impasse([head], backlog.moves, offer, lasts=True)
    assert impasse.stays(backlog, offer, room, {})

    no_nodes.clear()

    assert not impasse.stays(backlog, offer, room, {})


def waiting_for_tokens(count: int) -> World:
    """Jobs of which each two ask for the same, and all for a resource that is used up."""
    world = World(max_vcpus=4)
    spent = consumable("token", 1, kind="NON_REPLENISHABLE", status={"spentQuantity": 1})
    world.cache.consumables.replace([spent], 1)
    for number in range(count):
        wants = {"consumableResources": [{"name": "token", "quantity": 1}]}
        world.submit(
            job(f"j{number}", timeout={"attemptDurationSeconds": 60 + number // 2}, **wants)
        )
    world.settle()
    return world


@pytest.mark.parametrize("head", [0, 1])
def test_who_stands_aside_is_not_asked_again_while_what_he_lacks_is_gone(
    head: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where a job behind them all stops the queue."""
    world = waiting_for_tokens(10)
    for number in range(2 * head):
        world.submit(sized(f"large{number}", 3, 9))
    world.settle()
    tried: list[object] = []
    original = Room.take

    def listening(*args: Any) -> Any:
        tried.append(args[1])
        return original(*args)

    monkeypatch.setattr(Room, "take", listening)
    world.memo.outlook.making = None
    world.cycle()
    assert tried == []

    token = world.cache.snapshot(world.now, Policy(), 1000).consumables["token"]
    more = token.spec.model_copy(update={"total_quantity": 2})
    world.cache.consumables.upsert(replace(token, spec=more, generation=2, resource_version=9999))
    asked = world.cycle()
    assert [
        [grant.job_uid for grant in one.status.grants]
        for one in asked
        if isinstance(one, WriteStatus) and isinstance(one.status, ConsumableResourceStatus)
    ] == [["uid-j0"]]


def test_who_stands_aside_is_found_by_what_he_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world, compared = waiting_for_tokens(50), []
    original = Ask.__eq__

    def counted(self: Ask, other: object) -> bool:
        compared.append(self)
        return original(self, other)

    monkeypatch.setattr(Ask, "__eq__", counted)
    found = [world.memo.blocked_as(one) for one in world.jobs.values()]

    assert [one and one.uid for one in found] == [
        f"uid-j{number - number % 2}" for number in range(50)
    ]
    assert len(compared) <= len(found)


def test_who_stands_aside_behind_a_blocked_job_costs_by_his_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And not by that times the number of shares, of which each has a request of its own here."""
    world = World(max_vcpus=2)
    world.queues, world.policies = [queue(schedulingPolicy="fair")], [scheduling_policy()]
    world.restart()
    spent = consumable("token", 1, kind="NON_REPLENISHABLE", status={"spentQuantity": 1})
    world.cache.consumables.replace([spent], 1)
    wants = {"consumableResources": [{"name": "token", "quantity": 1}]}
    for number in range(100):
        timeout = {"attemptDurationSeconds": 60 + number}
        world.submit(job(f"j{number}", shareIdentifier=f"s{number}", timeout=timeout, **wants))
    world.settle()
    world.submit(job("runs", shareIdentifier="head"))
    world.settle()
    large = {"containerOverrides": [{"resources": {"requests": {"cpu": "2"}}}]}
    world.submit(job("large", shareIdentifier="first", **large))
    world.settle()
    assert len(world.memo.impasses["main"].aside) == 100
    looked_up: list[Ask] = []
    original = Ask.__hash__

    def counted(self: Ask) -> int:
        looked_up.append(self)
        return original(self)

    monkeypatch.setattr(Ask, "__hash__", counted)
    world.memo.outlook.making = None
    world.cycle()

    assert len(world.memo.impasses["main"].aside) == 100
    assert len(looked_up) <= 10 * 100


@pytest.mark.parametrize(("takes_back", "stopped"), [(False, set()), (True, {0, 1})])
def test_what_runs_beside_a_pod_that_no_node_takes_makes_room_for_queues_that_preempt_only(
    *, takes_back: bool, stopped: set[int]
) -> None:
    """Of two children one runs, and the other would not be enough."""
    world = World(max_vcpus=2)
    world.queues.append(queue("urgent", priority=9, preemption={"enabled": takes_back}))
    world.restart()
    world.submit(job("array", arrayProperties={"size": 2}))
    world.settle()
    runs, unplaced = world.live()
    world.move(runs, Phase.RUNNING, node_name="node", bound_at=world.now)
    world.settle()
    world.memo.unplaced.by_job["uid-array"] = {unplaced.pod_uid}
    world.submit(sized("large", 2, 1, "urgent"))
    stops = [one for one in world.cycle() if isinstance(one, StopPod)]

    assert {one.pod.index for one in stops} == stopped


def test_nothing_is_kept_of_queues_that_only_jobs_of_the_past_have_named() -> None:
    world = shared_world(2)
    names = [f"invented-{number}" for number in range(20)]
    for name in ("urgent", *names):
        world.submit(sized(f"in-{name}", 1, queue=name))
    world.settle()
    assert world.memo.backlogs.keys() == {"urgent", *names}

    for uid in [uid for uid, one in world.jobs.items() if one.name != "in-urgent"]:
        world.cache.jobs.remove(world.jobs.pop(uid))
    world.settle()

    memo = world.memo
    known = {*memo.backlogs, *memo.queue_totals, *memo.impasses, *memo.by_queue}
    assert known | memo.touched_queues.keys() == {"urgent"}
    assert not {*names} & {*memo.ledger.queues, *memo.ledger.shares, *memo.books}
