"""Resource-aware scheduling: reported as not supported by this version, never ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.rules import rule
from support.play import world_of

if TYPE_CHECKING:
    from support.world import World

LICENCE = [{"name": "licence", "quantity": 1}]


def stalled_for(world: World) -> str:
    """What the condition of a job says that has started nothing."""
    (condition,) = world.jobs["uid-a"].status.conditions

    assert world.starts == []
    assert (condition.type, condition.reason) == ("Stalled", "UnsupportedFeature")
    return condition.message


@rule("resources.job")
def test_a_job_that_asks_for_a_resource_says_that_it_is_not_supported() -> None:
    """Resource-aware scheduling: consumableResourcePropertiesOverride."""
    message = stalled_for(world_of(consumableResources=LICENCE))

    assert "spec.consumableResources" in message


@rule("resources.definition")
def test_a_job_of_a_definition_that_asks_for_one_says_that_it_is_not_supported() -> None:
    """Resource-aware scheduling: consumableResourceProperties."""
    message = stalled_for(world_of({"consumableResources": LICENCE}))

    assert "the definition's consumableResources" in message
