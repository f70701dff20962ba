"""What is told of an environment when its status has changed."""

from __future__ import annotations

from typing import Any

import pytest

from batch_operator.api.compute_environment import ComputeEnvironmentStatus
from batch_operator.provisioning.happenings import NOTE_MAX, happenings, pool_changes

NOON, SIX = "2026-01-01T12:00:00Z", "2026-01-01T18:00:00Z"
UPDATE = {"settings": "abc", "startedAt": NOON}


def pool(name: str = "small", capacity_type: str = "spot", **fields: Any) -> dict[str, Any]:
    return {"instanceType": name, "capacityType": capacity_type, **fields}


def status(*pools: dict[str, Any], **fields: Any) -> ComputeEnvironmentStatus:
    return ComputeEnvironmentStatus.model_validate(
        {"status": "VALID", "pools": list(pools), **fields}
    )


def told(
    before: ComputeEnvironmentStatus, after: ComputeEnvironmentStatus
) -> dict[str, tuple[str, bool]]:
    return {one.reason: (one.note, one.is_warning) for one in happenings(before, after)}


def refused(count: float = 1, at: str = NOON, **fields: Any) -> dict[str, Any]:
    return {"refusals": count, "refusedAt": at, "message": "there is no capacity", **fields}


def lost(count: float, at: str = NOON, **fields: Any) -> dict[str, Any]:
    return {"interruptions": count, "interruptedAt": at, **fields}


@pytest.mark.parametrize("one", [status(), status(pool(desired=3, **refused(), **lost(2)))])
def test_of_what_has_not_changed_nothing_is_told(one: ComputeEnvironmentStatus) -> None:
    assert happenings(one, one) == []


def test_nodes_that_are_ordered_and_that_go_are_told_pool_by_pool() -> None:
    before = status(pool(desired=4), pool("large", "on-demand", desired=3))
    after = status(pool(desired=24), pool("large", "on-demand", desired=2))

    assert told(before, after) == {
        "ScaledUp": ("20 more nodes of small (spot), 24 in all", False),
        "ScaledDown": ("1 fewer node of large (on-demand), 2 in all", False),
    }


def test_the_first_nodes_of_a_pool_and_the_last_are_told() -> None:
    some = status(pool(desired=2))

    assert told(status(), some)["ScaledUp"][0] == "2 more nodes of small (spot), 2 in all"
    assert told(some, status())["ScaledDown"][0] == "2 fewer nodes of small (spot), 0 in all"


def test_what_a_pool_refused_is_told_with_its_words_and_not_as_nodes_that_go() -> None:
    after = status(pool(desired=1, **refused()), pool("large", desired=5))

    assert told(status(pool(desired=6)), after) == {
        "ScaledUp": ("5 more nodes of large (spot), 5 in all", False),
        "CapacityRefused": ("small (spot): there is no capacity", True),
    }


def test_a_refusal_that_is_over_is_not_told() -> None:
    assert told(status(), status(pool(**refused(message="")))) == {}


def test_nodes_that_were_taken_away_are_counted_and_not_told_as_nodes_that_go() -> None:
    before = status(pool(desired=6, **lost(1)))
    after = status(pool(desired=3, **lost(3)))

    assert told(before, after) == {
        "NodesLost": ("2 nodes of small (spot) taken away", True),
        "ScaledDown": ("1 fewer node of small (spot), 3 in all", False),
    }


def test_events_are_counted_on_top_of_what_is_left_of_older_ones() -> None:
    """Of four events of six hours ago two count still."""
    before = status(pool(**refused(4), **lost(4)))
    after = status(pool(**refused(3, at=SIX), **lost(5, at=SIX)))
    [change] = pool_changes(before, after)

    assert (change.refusals, change.interruptions) == (1, 3)


def test_an_environment_that_cannot_work_says_why_and_when_it_can_again() -> None:
    bad = status(status="INVALID", statusReason="raise maxvCpus")

    assert told(status(), bad) == {"Invalid": ("raise maxvCpus", True)}
    assert told(bad, status()) == {"Valid": ("it can work again", False)}
    assert told(ComputeEnvironmentStatus(), status()) == {}


def test_an_update_is_told_when_it_begins_and_when_it_ends() -> None:
    during = status(status="UPDATING", update=UPDATE)
    again = status(status="UPDATING", update={**UPDATE, "settings": "def"})

    assert list(told(status(), during)) == ["UpdateBegun"]
    assert list(told(during, again)) == ["UpdateBegun"]
    assert list(told(again, status())) == ["UpdateEnded"]


def test_an_update_of_what_is_deleted_does_not_end() -> None:
    during = status(status="UPDATING", update=UPDATE)
    going = status(status="DELETING", statusReason="goes when its jobs have ended")

    assert told(during, going) == {"Deleting": ("goes when its jobs have ended", False)}
    assert told(going, going) == {}


def test_a_note_of_many_pools_is_bounded() -> None:
    words = {"refusals": 1, "refusedAt": NOON, "message": "x" * 256}
    few = told(status(), status(*(pool(f"t{n}", desired=1) for n in range(7))))
    many = told(status(), status(*(pool(f"t{n}", **words) for n in range(9))))

    assert few["ScaledUp"][0].endswith("1 more node of t4 (spot), 1 in all and 2 more")
    assert len(many["CapacityRefused"][0]) == NOTE_MAX
