"""What jobs count against their shares, over their whole lives and beyond."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.lifecycle.attempt import Phase, StartError
from batch_operator.lifecycle.stops import Policy
from batch_operator.scheduling.charges import book_of
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.shares import usage_of_run
from support.builders import definition, job, multi_node_spec, queue, scheduling_policy
from support.world import World

if TYPE_CHECKING:
    from batch_operator.api.job_queue import ShareStatus
    from batch_operator.lifecycle.attempt import PodAttempt

HALF_LIFE = 300.0


def fair_world(max_vcpus: int = 4, **policy: Any) -> World:
    """Queue `main` has a policy; its status is stored."""
    world = World(max_vcpus=max_vcpus)
    world.policies = [scheduling_policy(**policy)]
    world.queues = [queue(schedulingPolicy="fair")]
    world.written_kinds = {"BatchJob", "JobQueue"}
    world.restart()
    return world


def submit(world: World, name: str = "a", share: str = "red", **spec: Any) -> None:
    world.submit(job(name, shareIdentifier=share, **spec))
    world.settle()


def run(world: World, *, seconds: float = 0) -> None:
    """Bind every Pod that waits and let it run."""
    for pod in world.live():
        if pod.phase is Phase.UNBOUND and not pod.gated:
            world.move(pod, Phase.RUNNING, node_name="node", bound_at=world.now)
    world.settle()
    world.tick(seconds)


def end(world: World, phase: Phase = Phase.SUCCEEDED) -> None:
    for pod in world.live():
        world.move(pod, phase)
    world.settle()


def usage(world: World, share: str = "red") -> float:
    """vCPU-seconds of a share now, as an operator reckons that has just started."""
    restarted = World()
    restarted.__dict__.update({**world.__dict__, "queues": list(world.queues)})
    restarted.restart()
    restarted.cycle()
    return _reckoned(restarted, share)


def _reckoned(world: World, share: str) -> float:
    """Of a world that has settled."""
    book = book_of(world.cache.snapshot(world.now, Policy(), 0), world.memo, world.queues[0])
    return book.usage(share, world.now) / 1000 if book else 0.0


def worth(held_s: float, age_s: float = 0, vcpus: float = 1) -> float:
    return usage_of_run(round(vcpus * 1000), held_s, age_s, HALF_LIFE) / 1000


def rows(world: World) -> dict[str, ShareStatus]:
    return {one.share_identifier: one for one in world.queues[0].status.shares}


def stored(world: World, name: str = "a") -> float | None:
    found = next(one for one in world.jobs.values() if one.name == name).status.share_usage
    return found.vcpu_seconds if found else None


def agreed(world: World, share: str = "red") -> float:
    """The usage in a memo that has lived, which must be that after a restart, too."""
    lived = _reckoned(world, share)

    assert usage(world, share) == pytest.approx(lived, abs=0.002)
    return lived


def test_what_runs_counts_and_goes_on_counting_when_it_is_over() -> None:
    world = fair_world()
    submit(world)
    run(world, seconds=100)
    assert agreed(world) == pytest.approx(worth(100), abs=0.01)

    end(world)
    assert stored(world) == pytest.approx(worth(100), abs=0.001)
    assert agreed(world) == pytest.approx(worth(100), abs=0.01)

    world.tick(300)
    assert agreed(world) == pytest.approx(worth(100) / 2, abs=0.01)
    assert agreed(world, "blue") == 0


def test_every_attempt_counts() -> None:
    world = fair_world()
    submit(world, retryStrategy={"attempts": 2})
    run(world, seconds=60)
    end(world, Phase.FAILED)
    world.tick(30)
    run(world, seconds=90)
    end(world)

    expected = worth(60, 120) + worth(90)
    assert stored(world) == pytest.approx(expected, abs=0.001)
    assert agreed(world) == pytest.approx(expected, abs=0.01)


def test_every_child_counts_and_those_that_run_too() -> None:
    world = fair_world(max_vcpus=2)
    submit(world, arrayProperties={"size": 3})
    run(world, seconds=60)
    end(world)
    run(world, seconds=30)

    assert agreed(world) == pytest.approx(2 * worth(60, 30) + worth(30), abs=0.01)


def test_what_never_had_a_node_has_used_nothing() -> None:
    world = fair_world()
    submit(world)
    for pod in world.live():
        world.move(pod, Phase.FAILED, deleting=True)
    world.tick(500)
    world.settle()

    assert stored(world) is None
    assert agreed(world) == 0


@pytest.mark.parametrize("ended_s", [-5, 0])
def test_an_attempt_that_ends_before_it_began_counts_nothing(ended_s: int) -> None:
    """Clocks of nodes differ."""
    world = fair_world()
    submit(world)
    run(world)
    world.tick(ended_s)
    end(world)

    assert stored(world) is None


def test_an_attempt_that_is_counted_before_its_pod_is_gone_counts_once() -> None:
    world = fair_world()
    submit(world)
    [pod] = world.live()
    error = StartError("CannotPullContainerError", "no such image", hopeless=True)
    bound = {"node_name": "node", "bound_at": world.now, "start_error": error}
    world.tick(60)
    world.move(pod, Phase.STARTING, **bound)
    world.cycle()
    world.move(world.pods[pod.pod_name], Phase.STARTING, deleting=True)
    world.tick(30)
    world.settle()
    assert [one.phase for one in world.live()] == [Phase.STARTING]
    assert stored(world) == pytest.approx(worth(60), abs=0.001)

    assert agreed(world) == pytest.approx(worth(60, 30), abs=0.01)


def test_all_nodes_of_a_multi_node_job_count() -> None:
    world = fair_world(max_vcpus=8)
    world.definitions = [definition("work", multi_node_spec("0:", numNodes=3, cpu="2"))]
    world.restart()
    submit(world)
    world.make_nodes()
    world.settle()
    run(world)
    run(world, seconds=100)
    assert agreed(world) == pytest.approx(worth(100, vcpus=6), abs=0.02)

    end(world)
    assert stored(world) == pytest.approx(worth(100, vcpus=6), abs=0.001)


def test_a_job_that_may_not_be_in_the_queue_counts_nothing() -> None:
    world = fair_world()
    world.submit(job("nobody"))
    world.settle()

    assert rows(world) == {}


def _delete(world: World, name: str = "a") -> None:
    """The job goes at once, as with kubectl; garbage collection comes for its Pods later."""
    [one] = [one for one in world.jobs.values() if one.name == name]
    world.cache.jobs.remove(world.jobs.pop(one.uid))
    world.settle()


def _end_and_delete(world: World) -> None:
    end(world)
    _delete(world)


@pytest.mark.parametrize("go", [_delete, _end_and_delete])
def test_deleting_a_job_does_not_wipe_out_its_use(go: Any) -> None:
    world = fair_world()
    submit(world)
    run(world, seconds=100)
    go(world)
    row = rows(world)["red"]
    assert row.deleted_jobs_usage is not None
    assert row.deleted_jobs_usage.vcpu_seconds == pytest.approx(worth(100), abs=0.001)
    assert row.vcpus == "0"

    world.tick(300)
    assert agreed(world) == pytest.approx(worth(100) / 2, abs=0.01)


def test_a_job_that_is_deleted_as_soon_as_it_is_over_counts_as_any_other() -> None:
    """ttlSecondsAfterFinished: 0."""
    world = fair_world()
    submit(world, ttlSecondsAfterFinished=0)
    run(world, seconds=100)
    end(world)

    assert world.jobs == {}
    assert agreed(world) == pytest.approx(worth(100), abs=0.01)


def test_what_is_long_past_leaves_the_status_when_something_happens() -> None:
    world = fair_world()
    submit(world, ttlSecondsAfterFinished=0)
    run(world, seconds=100)
    end(world)
    assert list(rows(world)) == ["red"]

    world.tick(86_400)
    before = world.writes
    world.settle()
    assert world.writes == before
    submit(world, "b", share="blue")
    assert list(rows(world)) == ["blue"]


def test_nothing_is_kept_of_a_share_whose_jobs_are_all_gone() -> None:
    """A name may be used for one run of a pipeline, and never again."""
    world = fair_world()
    submit(world)
    run(world, seconds=100)
    _end_and_delete(world)
    assert world.memo.books["main"].open_jobs.keys() == {"red"}

    world.tick(7200)
    submit(world, "other", "blue")
    assert world.memo.books["main"].open_jobs.keys() == {"blue"}
    assert world.memo.books["main"].deleted == {}


def test_use_counts_while_the_policy_is_missing() -> None:
    world = fair_world()
    submit(world)
    run(world, seconds=100)
    [policy] = world.policies
    world.policies = []
    world.cache.policies.remove(policy)
    world.settle()
    end(world)
    world.tick(200)
    world.policies = [replace(policy, uid="another", resource_version=10_000)]
    world.cache.policies.upsert(world.policies[0])
    submit(world, "b")

    assert agreed(world) == pytest.approx(worth(100, 200), abs=0.01)
    assert rows(world)["red"].vcpus == "1"  # that of b


def test_a_queue_that_is_applied_again_begins_with_the_jobs_that_there_are() -> None:
    world = fair_world()
    submit(world)
    run(world, seconds=100)
    _end_and_delete(world)
    submit(world, "b", share="blue")
    run(world, seconds=100)
    [before] = world.queues
    world.cache.queues.remove(before)
    world.queues = []
    world.settle()
    world.queues = [replace(queue(schedulingPolicy="fair"), uid="new", resource_version=10_000)]
    world.cache.queues.upsert(world.queues[0])
    end(world)

    assert agreed(world) == 0
    assert agreed(world, "blue") == pytest.approx(worth(100), abs=0.01)


class CountedWalks(dict[str, Any]):
    """Jobs that know how often all of them have been gone through."""

    walks = 0

    def items(self) -> Any:
        self.walks += 1
        return super().items()


def test_queues_that_nobody_uses_have_no_jobs_sought_for_them_again() -> None:
    """However many of them share an environment that changes."""
    world = fair_world()
    world.queues += [queue(f"idle-{number}", schedulingPolicy="fair") for number in range(20)]
    world.restart()
    for number in range(5):
        submit(world, f"j{number}")
    world.settle()
    walks = []
    for times in range(1, 3):
        one = world.environments[0]
        changed = replace(one, generation=1 + times, resource_version=10**6 + times)
        world.cache.environments.upsert(changed)
        snapshot = world.cache.snapshot(world.now, Policy(), 1000)
        jobs = CountedWalks(snapshot.jobs)
        looked = run_cycle(replace(snapshot, jobs=jobs), world.memo).looked_at
        walks.append((jobs.walks, looked))

    assert walks == [(1, 5), (0, 5)]


def test_new_weights_of_a_live_policy_count_at_once() -> None:
    world = fair_world(max_vcpus=1)
    submit(world, "first", share="red")
    submit(world, "r", share="red")
    submit(world, "b", share="blue")
    run(world, seconds=10)
    world.policies = [
        replace(scheduling_policy(weights={"blue": 999.9999}), resource_version=10_000)
    ]
    world.cache.policies.upsert(world.policies[0])
    world.submit(job("blue-too", shareIdentifier="blue", at_s=5))
    world.settle()
    assert rows(world)["blue"].weight_factor == 999.9999

    order = []
    for _ in range(3):
        run(world, seconds=10)
        end(world)
        order.append(world.starts[-1][0])
    # Blue holds nothing and has used nothing: it is served once; then it has used too much.
    assert order == ["b", "r", "blue-too"]


def test_another_policy_for_the_queue_counts_at_once() -> None:
    """Its window, too: what was used decays more slowly from then on."""
    world = fair_world()
    submit(world)
    run(world, seconds=300)
    end(world)
    other = scheduling_policy("other", {"red": 7}, shareDecaySeconds=6000)
    world.policies.append(other)
    world.cache.policies.upsert(other)
    spec = queue(schedulingPolicy="other").spec
    world.queues = [replace(world.queues[0], spec=spec, generation=2, resource_version=10_000)]
    world.cache.queues.upsert(world.queues[0])
    world.settle()
    assert rows(world)["red"].weight_factor == 7

    world.tick(3000)
    assert agreed(world) == pytest.approx(worth(300) / 2, abs=0.01)


def test_more_shares_than_a_status_holds() -> None:
    world = fair_world(max_vcpus=1000)
    for number in range(600):
        world.submit(job(f"j{number}", shareIdentifier=f"share-{number:03}"))
    world.settle()
    status = world.queues[0].status

    assert len(world.starts) == 600
    assert len(status.shares) == 500
    assert status.shares[0].share_identifier == "share-000"


def test_of_shares_with_long_names_fewer_have_a_row() -> None:
    """Or the status would not fit into etcd, and nothing of it would be stored any more."""
    world = fair_world(max_vcpus=400)
    for number in range(400):
        world.submit(job(f"j{number}", shareIdentifier=f"share-{number:03}".ljust(255, "x")))
    world.settle()

    assert len(world.starts) == 400
    assert 300 < len(world.queues[0].status.shares) < 400


@pytest.mark.parametrize(
    ("most", "kept"),
    [(1, {"zeta"}), (2, {"alpha", "zeta"}), (3, {"alpha", "gamma", "zeta"})],
)
def test_of_more_shares_than_a_status_holds_nobody_loses_much_by_his_name(
    most: int, kept: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What deleted jobs have used comes first, and most of it before less; `gamma` holds a vCPU."""
    monkeypatch.setattr("batch_operator.scheduling.administration.SHARES_MAX", most)
    world = fair_world()
    for share, seconds in (("alpha", 10), ("zeta", 100)):
        submit(world, share, share)
        run(world, seconds=seconds)
        _delete(world, share)
    submit(world, "holds", "gamma")
    submit(world, "waits", "beta", dependsOn=[{"jobName": "holds"}])

    assert rows(world).keys() == kept
    assert agreed(world, "zeta") == pytest.approx(worth(100), abs=0.01)


def waiting(world: World) -> list[PodAttempt]:
    return [one for one in world.live() if one.phase is Phase.UNBOUND]


def test_hundreds_of_shares_get_one_each() -> None:
    world = fair_world(max_vcpus=300)
    world.submit(job("big", shareIdentifier="huge", arrayProperties={"size": 5000}))
    for number in range(299):
        spec = {"shareIdentifier": f"s{number}", "arrayProperties": {"size": 5}}
        world.submit(job(f"j{number}", at_s=1, **spec))
    world.settle()

    assert len({one[0] for one in world.starts}) == len(world.starts) == 300
