"""The published budget of the operator's own writes: few and small, whatever the size."""

from __future__ import annotations

from support.play import play

SINGLES, CHILDREN = 60, 500


def test_a_single_job_costs_five_writes_at_most() -> None:
    """A create, a release, and up to three statuses."""
    played = play({f"j{n}": {} for n in range(SINGLES)})

    assert played.outcome.writes <= 5 * SINGLES + 20  # those of queue, environment, definition


def test_an_array_child_costs_little_more_than_its_create_and_release() -> None:
    """One status tells of many children."""
    played = play({"a": {"arrayProperties": {"size": CHILDREN}}}, max_vcpus=50)

    assert played.outcome.writes <= 2.4 * CHILDREN
