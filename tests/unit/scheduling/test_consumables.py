"""Units of consumable resources: what is free, who was granted what, and what is spent."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_operator.api.consumable_resource import ConsumableResourceSpec, ConsumableResourceStatus
from batch_operator.api.crd import structural
from batch_operator.api.index_set import IndexSet
from batch_operator.api.job import BatchJobStatus, JobState
from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.holds import Reason
from batch_operator.scheduling.consumables import (
    GRANTS_BYTES_MAX,
    GRANTS_MAX,
    consumable_hold,
    free_units,
    full_of_grants,
    granted,
    grants_after,
    grants_bytes,
    wish,
)
from batch_operator.scheduling.mutations import WriteStatus
from support.builders import consumable, job, queue
from support.play import refusal
from support.sizes import ETCD_BYTES_MAX, stored_bytes
from support.world import World

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_operator.scheduling.consumables import Wishes
    from batch_operator.scheduling.snapshot import Consumable, Job


def grant(uid: str, indexes: str = "0", quantity: int = 1) -> dict[str, Any]:
    return {"jobUid": uid, "quantity": quantity, "indexes": indexes}


def tokens(total: int = 10, *grants: dict[str, Any], spent: int = 0, name: str = "token") -> Any:
    status = {"grants": list(grants), "spentQuantity": spent}
    return consumable(name, total, kind="NON_REPLENISHABLE", status=status)


def known(*resources: Consumable) -> Mapping[str, Consumable]:
    return {one.name: one for one in resources}


def jobs(*names: str, state: JobState = JobState.RUNNABLE) -> dict[str, Job]:
    return {f"uid-{name}": job(name, status=BatchJobStatus(state=state)) for name in names}


# What is free


def test_what_is_held_is_not_free_and_comes_back() -> None:
    resources = known(consumable("licence", 4), consumable("disk", 2))

    assert free_units(resources, {"licence": 3}) == {"licence": 1, "disk": 2}


def test_what_was_granted_and_what_is_spent_is_used_up() -> None:
    """Whether or not it is held now: those units never come back."""
    resource = tokens(20, grant("a", "0-2,5", quantity=3), grant("b"), spent=2)

    assert free_units(known(resource), {"token": 20}) == {"token": 20 - 12 - 1 - 2}


def test_below_nothing_is_left_after_a_total_was_lowered() -> None:
    resources = known(tokens(1, grant("a", "0-2")), consumable("licence", 1))

    assert free_units(resources, {"licence": 3}) == {"token": -2, "licence": -2}


def test_of_a_status_that_cannot_be_read_nothing_is_free_and_the_others_go_on() -> None:
    """Somebody has edited it. It is left as it is, and the operator says that it failed."""
    spoilt = tokens(5, grant("uid-a", "7-3"))
    resources = known(spoilt, consumable("licence", 4))

    assert free_units(resources, {}) == {"token": 0, "licence": 4}
    assert granted((("token", 1),), "uid-a", resources) == IndexSet()
    with pytest.raises(ValueError, match="must rise"):
        grants_after(spoilt, {}, jobs("b"))


# Who was granted what


def test_a_job_that_uses_nothing_up_needs_no_grant() -> None:
    assert granted((("licence", 1), ("gone", 1)), "a", known(consumable("licence"))) is None
    assert granted((), "a", {}) is None


def test_a_child_is_granted_only_when_it_has_all_that_it_uses_up() -> None:
    first = tokens(9, grant("a", "0-3"), grant("b", "0"))
    second = tokens(9, grant("a", "2-5"), name="voucher")
    resources = known(first, second, consumable("licence"))
    units = (("licence", 1), ("token", 1), ("voucher", 1))

    assert granted(units, "a", resources) == IndexSet.of([2, 3])
    assert granted(units, "b", resources) == IndexSet()


def test_only_of_what_is_used_up_is_a_grant_wished_for() -> None:
    wishes: Wishes = {}
    resources = known(tokens(), consumable("licence"))
    wish(wishes, (("licence", 2), ("token", 3)), "a", [0, 2], resources)

    assert wishes == {"token": {"a": (3, IndexSet.of([0, 2]))}}


# What the status should read


def rows(resource: Consumable, wishes: dict[str, tuple[int, IndexSet]], world: Any) -> Any:
    spent, grants = grants_after(resource, wishes, world)
    return spent, {one.job_uid: (one.quantity, one.indexes) for one in grants}


def test_a_wish_is_added_to_what_a_job_was_granted_before() -> None:
    wishes = {"uid-a": (2, IndexSet.of([4])), "uid-b": (1, IndexSet(1))}
    resource = tokens(10, grant("uid-a", "0-3", quantity=2), spent=1)

    assert rows(resource, wishes, jobs("a", "b")) == (
        1,
        {"uid-a": (2, "0-4"), "uid-b": (1, "0")},
    )


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, None])
def test_what_a_job_was_granted_is_spent_when_it_is_over_or_gone(state: JobState | None) -> None:
    world = jobs("a", state=state) if state else {}
    resource = tokens(10, grant("uid-a", "0-3", quantity=2), spent=1)

    assert rows(resource, {}, world) == (9, {})


@pytest.mark.parametrize("state", [JobState.FAILED, None])
def test_a_job_that_is_over_is_granted_nothing_more(state: JobState | None) -> None:
    """It was cancelled or deleted since it asked: nothing is used up by what never starts."""
    world = jobs("a", state=state) if state else {}

    assert rows(tokens(), {"uid-a": (1, IndexSet(1))}, world) == (0, {})


FULL: dict[str, tuple[int, str, str | None]] = {
    "one may still be granted something": (GRANTS_MAX - 1, "new", None),
    "as many have been as can be kept": (GRANTS_MAX, "new", "token"),
    "as many have been, of which it is one": (GRANTS_MAX, "uid-0", None),
}


@pytest.mark.parametrize("case", FULL)
def test_a_job_is_granted_nothing_where(case: str) -> None:
    """What others before it wish for counts: here of half of the jobs."""
    count, uid, expected = FULL[case]
    uids = [f"uid-{number}" for number in range(count)]
    resources = known(tokens(10_000, *map(grant, uids[::2])), consumable("licence"))
    wishes: Wishes = {"token": {one: (1, IndexSet(1)) for one in uids[1::2]}}

    assert full_of_grants((("licence", 1), ("token", 1)), uid, resources, wishes) == expected
    assert full_of_grants((("licence", 1), ("absent", 1)), uid, resources, wishes) is None


IN_PIECES = ",".join(str(number) for number in range(1, 100_000, 2))


def test_a_job_is_granted_nothing_where_grants_are_too_large() -> None:
    """Those that were granted something go on for longer, and the first in any case."""
    two = [grant("first", IN_PIECES), grant("second", IN_PIECES)]
    more = [*two, grant("third", IN_PIECES)]

    def is_full(uid: str, *grants: dict[str, Any]) -> bool:
        resources = known(tokens(1_000_000, *grants))
        return full_of_grants((("token", 1),), uid, resources, {}) == "token"

    assert not is_full("new", two[0])
    assert [is_full(uid, *two) for uid in ("first", "second", "new")] == [False, False, True]
    assert [is_full(uid, *more) for uid in ("first", "second", "new")] == [False, True, True]


def test_what_is_granted_fits_into_etcd_and_the_first_is_granted_all() -> None:
    """Arrays of 100,000, whose children ask for their units in as many pieces as there can be."""
    world = jobs(*"abcdef")
    resource = tokens(1_000_000)
    left = {uid: iter(range(1, 100_000, 2)) for uid in world}
    largest = 0
    for _ in range(12):
        wishes: Wishes = {}
        for uid, indexes in left.items():
            if full_of_grants((("token", 1),), uid, known(resource), wishes) is None:
                wish(wishes, (("token", 1),), uid, [*islice(indexes, 5_000)], known(resource))
        _, grants = grants_after(resource, wishes.get("token", {}), world)
        status = resource.status.model_copy(update={"grants": grants})
        largest = max(largest, stored_bytes(status))
        resource = replace(
            resource, status=ConsumableResourceStatus.model_validate(status.to_wire())
        )

    assert largest < 0.8 * ETCD_BYTES_MAX
    assert len(granted((("token", 1),), "uid-a", known(resource)) or ()) == 50_000


def test_as_many_grants_as_are_kept_fit_into_etcd() -> None:
    grants = [grant(f"{number:036}", "0") for number in range(GRANTS_MAX)]
    status = ConsumableResourceStatus.model_validate({"grants": grants})

    assert stored_bytes(status) == pytest.approx(grants_bytes(tokens(1, *grants)), rel=0.1)
    assert stored_bytes(status) < GRANTS_BYTES_MAX


def test_a_status_can_keep_as_many_grants_as_are_given() -> None:
    grants = [grant(f"uid-{number}") for number in range(GRANTS_MAX)]

    assert len(ConsumableResourceStatus.model_validate({"grants": grants}).grants) == GRANTS_MAX


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=30), st.data())
def test_nothing_is_granted_twice_and_nothing_is_forgotten(
    steps: list[tuple[str, int]], data: st.DataObject
) -> None:
    """Whoever asks for what, and whoever ends: spent and granted are what was ever granted."""
    world, ever, total = jobs("a", "b", "c"), set[tuple[str, int]](), 1000
    resource = tokens(total)
    for name, index in steps:
        uid = f"uid-{name}"
        wishes = {}
        if data.draw(st.booleans()):
            wishes = {uid: (1, IndexSet.of([index]))}
            if uid in world:
                ever.add((uid, index))
        else:
            world.pop(uid, None)
        spent, grants = grants_after(resource, wishes, world)
        resource = tokens(total, *(one.to_wire() for one in grants), spent=spent)

        assert free_units(known(resource), {})["token"] == total - len(ever)
        for uid in world:
            own = {index for job_uid, index in ever if job_uid == uid}
            assert granted((("token", 1),), uid, known(resource)) == IndexSet.of(own)


# What can never be had


def test_a_job_that_names_what_does_not_exist_says_so() -> None:
    hold = consumable_hold((("licence", 1), ("license", 1)), known(consumable("licence")))

    assert hold is not None
    assert (hold.reason, hold.stalled) == (Reason.CONSUMABLE_RESOURCE_NOT_FOUND, True)
    assert hold.message.startswith("there is no ConsumableResource license: apply it")


@pytest.mark.parametrize("resource", [consumable("licence", 2), tokens(2, name="licence")])
def test_a_job_that_asks_for_more_than_there_is_says_so(resource: Consumable) -> None:
    units = (("licence", 3),)
    hold = consumable_hold(units, known(resource))

    assert hold is not None
    assert (hold.reason, hold.stalled) == (Reason.CONSUMABLE_RESOURCE_TOO_SMALL, True)
    assert "needs 3 units" in hold.message
    assert "has 2 in all: raise its spec.totalQuantity, or ask for less" in hold.message
    assert consumable_hold((("licence", 2),), known(resource)) is None


def test_the_kind_of_a_resource_stays_what_it_is() -> None:
    """Units that jobs hold now would be nobody's; AWS has no way to change it either."""
    before = {"totalQuantity": 3, "resourceType": "REPLENISHABLE"}
    changed = refusal("ConsumableResource", {**before, "resourceType": "NON_REPLENISHABLE"}, before)
    rules = structural(ConsumableResourceSpec)["x-kubernetes-validations"]

    assert changed is not None
    assert "resourceType cannot be changed" in changed
    assert rules[0]["rule"] == "self.resourceType == oldSelf.resourceType"
    assert refusal("ConsumableResource", {**before, "totalQuantity": 9}, before) is None


# From one cycle to the next


def token_world(*, max_vcpus: int = 4, total: int = 3) -> World:
    world = World(max_vcpus=max_vcpus)
    world.cache.consumables.upsert(tokens(total))
    return world


def asks(name: str, **spec: Any) -> Job:
    return job(name, consumableResources=[{"name": "token", "quantity": 1}], **spec)


def cycle(world: World) -> ConsumableResourceStatus | None:
    """One cycle, and what is to be written of the resource, which the test stores itself."""
    return next(
        (
            cast("ConsumableResourceStatus | None", one.status)
            for one in world.cycle()
            if isinstance(one, WriteStatus) and one.kind == "ConsumableResource"
        ),
        None,
    )


def store(world: World, status: ConsumableResourceStatus | None) -> None:
    assert status is not None
    known = world.cache.consumables.items["uid-token"]
    version = known.resource_version + 1
    world.cache.consumables.upsert(replace(known, status=status, resource_version=version))


def granted_in(status: ConsumableResourceStatus | None) -> dict[str, str]:
    assert status is not None
    return {one.job_uid: one.indexes for one in status.grants}


def test_a_job_starts_in_the_cycle_after_its_grant_is_stored() -> None:
    world = token_world()
    world.submit(asks("a"))
    status = cycle(world)
    cycle(world)

    assert granted_in(status) == {"uid-a": "0"}
    assert world.starts == []

    store(world, status)
    cycle(world)

    assert world.starts == [("a", 0, 1)]


def test_a_wish_is_withdrawn_when_its_job_is_cancelled_before_it_is_stored() -> None:
    world = token_world()
    world.submit(asks("a"))
    cycle(world)
    world.submit(asks("a", cancel={"reason": "not needed"}))

    assert granted_in(cycle(world)) == {}


def test_what_was_granted_to_a_job_that_never_started_is_spent() -> None:
    """The write was on its way when the job was cancelled: nothing that is stored tells of it."""
    world = token_world()
    world.submit(asks("a"))
    store(world, cycle(world))
    world.submit(asks("a", cancel={"reason": "not needed"}))
    cycle(world)
    status = cycle(world)

    assert world.state("a") == "FAILED"
    assert world.starts == []
    assert status is not None
    assert (status.spent_quantity, granted_in(status)) == (1, {})


def test_a_restart_between_grant_and_start_grants_nothing_more() -> None:
    world = token_world(total=2)
    world.submit(asks("a", arrayProperties={"size": 4}))
    status = cycle(world)
    assert granted_in(status) == {"uid-a": "0-1"}
    store(world, status)
    resource = world.cache.consumables.items["uid-token"]
    world.restart()
    world.cache.consumables.upsert(resource)
    cycle(world)
    cycle(world)

    assert world.starts == [("a", 0, 1), ("a", 1, 1)]


def test_a_grant_waits_for_its_child_when_the_room_for_it_is_gone() -> None:
    """Another queue has taken it: the child starts later, and uses up nothing more."""
    world = token_world(max_vcpus=1, total=1)
    world.queues = [queue(), queue("high", priority=9)]
    resource = world.cache.consumables.items["uid-token"]
    world.restart()
    world.cache.consumables.upsert(resource)
    world.submit(asks("a"))
    status = cycle(world)
    store(world, status)
    world.submit(job("b", jobQueue="high"))
    cycle(world)

    assert world.starts == [("b", 0, 1)]

    (runs,) = world.live()
    world.move(runs, Phase.SUCCEEDED)
    cycle(world)

    assert world.starts == [("b", 0, 1), ("a", 0, 1)]


def test_a_job_that_can_be_granted_nothing_yet_says_why_and_those_behind_it_start() -> None:
    """Of the jobs that were granted something none is over, as far as the status says."""
    world = token_world()
    grants = [grant(f"uid-{number}") for number in range(GRANTS_MAX)]
    world.cache.consumables.upsert(replace(tokens(5000, *grants), resource_version=2))
    world.submit(asks("a"))
    world.submit(job("b", at_s=1))
    world.settle()
    pending = world.jobs["uid-a"].status.pending

    assert [name for name, _, _ in world.starts] == ["b"]
    assert pending is not None
    assert (pending.reason, pending.blocked_by) == ("ConsumableResourceBusy", ["token"])


# Those for whom nothing is left


def told(world: World) -> dict[str, str]:
    """The reasons of those who wait, by name."""
    statuses = {one.name: one.status for one in world.jobs.values()}
    return {name: str(one.pending.reason) for name, one in statuses.items() if one.pending}


def spent_world(names: str, **spec: Any) -> World:
    """All units have been used up by jobs that are over."""
    world = token_world(**spec)
    spent = ConsumableResourceStatus(spent_quantity=3)
    world.cache.consumables.upsert(replace(tokens(3), status=spent, resource_version=2))
    for number, name in enumerate(names):
        world.submit(asks(name, at_s=number))
    world.settle()
    return world


def test_everybody_says_that_what_they_would_use_up_is_used_up() -> None:
    """Not only the first of them: nobody waits for his turn where there is none."""
    world = spent_world("abc")

    assert told(world) == dict.fromkeys("abc", "InsufficientConsumableResource")
    for one in world.jobs.values():
        assert one.status.pending is not None
        assert one.status.pending.position is None
        assert "raise its spec.totalQuantity" in one.status.pending.message


def test_who_comes_later_says_it_at_once() -> None:
    world = spent_world("a")
    world.submit(asks("late", at_s=9))
    world.settle()

    assert told(world)["late"] == "InsufficientConsumableResource"


def test_they_go_on_when_there_is_more() -> None:
    world = spent_world("abc")
    known = world.cache.consumables.items["uid-token"]
    spec = known.spec.model_copy(update={"total_quantity": 4})
    more = replace(known, spec=spec, generation=2, resource_version=9)
    world.cache.consumables.upsert(more)
    status = cycle(world)
    store(world, status)
    world.settle()

    assert [name for name, _, _ in world.starts] == ["a"]
    assert {told(world)[one] for one in "bc"} == {"InsufficientConsumableResource"}


def test_they_keep_saying_it_while_another_blocks_the_queue() -> None:
    """They are not come to then: what holds for them all the same is not written anew."""
    world = spent_world("ab", max_vcpus=1)
    world.submit(job("runs", at_s=-2))
    world.submit(job("blocks", at_s=-1))
    world.settle()

    assert [name for name, _, _ in world.starts] == ["runs"]
    assert told(world)["blocks"] == "InsufficientCapacity"
    assert {told(world)[one] for one in "ab"} == {"InsufficientConsumableResource"}
