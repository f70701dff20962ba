"""What Events say of Pods whose volumes or network are not set up."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from batch_operator.lifecycle.attempt import Phase, StartError
from batch_operator.lifecycle.start_troubles import REASONS, Troubles, explained, read_at
from batch_operator.lifecycle.stops import Policy, review
from support.builders import START, attempt

POLICY = Policy(start_failure_grace_s=60)
TOLD = 'FailedMount: MountVolume.SetUp failed for volume "data" : configmap "nope" not found'
IMAGE = StartError("CannotPullContainerError: x", "container main: ErrImagePull: x", hopeless=False)


def starting(**fields: Any) -> Any:
    return attempt(Phase.STARTING, **{"started_at": None, "bound_at": START, **fields})


def told(text: str = TOLD, uid: str = "pod-0-1") -> Troubles:
    return Troubles(START, {uid: text})


def after(seconds: float) -> Any:
    return START + timedelta(seconds=seconds)


def test_volumes_and_the_network_have_events_of_these_reasons() -> None:
    """By the letter, as the attach controller and kubelet write them."""
    assert {
        "FailedAttachVolume",
        "FailedCreatePodSandBox",
        "FailedMapVolume",
        "FailedMount",
    } == REASONS


def test_what_events_say_is_an_error_of_its_start() -> None:
    found = explained(starting(), told())

    assert found.start_error == StartError(
        reason=f"CannotCreateContainerError: {TOLD}", message=TOLD, hopeless=False, is_slow=True
    )


def test_a_long_story_is_cut_to_the_length_of_a_reason() -> None:
    error = explained(starting(), told("FailedMount: " + "x" * 400)).start_error

    assert error is not None
    assert len(error.reason) == 255


STAYS: dict[str, tuple[Any, Troubles]] = {
    "nothing was read of it": (starting(), Troubles(START)),
    "it is of another Pod": (starting(), told(uid="other")),
    "it was mounted since": (starting(is_set_up=True), told()),
    "it runs": (attempt(Phase.RUNNING), told()),
    "it waits for a node": (attempt(Phase.UNBOUND, node_name=None), told()),
    "its status says more": (starting(start_error=IMAGE), told()),
    "it is being stopped": (starting(stopping=True), told()),
    "it is being deleted": (starting(deleting=True), told()),
}


@pytest.mark.parametrize("name", STAYS)
def test_an_attempt_stays_as_it_is_when(name: str) -> None:
    one, troubles = STAYS[name]

    assert explained(one, troubles) is one


def test_events_are_read_when_a_pod_has_had_its_node_for_a_while() -> None:
    young = starting(index=1, pod_uid="young", bound_at=after(30))

    assert read_at([young, starting()], None, POLICY) == after(60)


def test_a_namespace_is_read_once_a_minute() -> None:
    known = Troubles(after(100))

    assert read_at([starting()], known, POLICY) == after(160)
    assert read_at([starting(bound_at=after(500))], known, POLICY) == after(560)


@pytest.mark.parametrize("name", list(STAYS)[2:])
def test_nothing_is_read_when(name: str) -> None:
    assert read_at([STAYS[name][0]], None, POLICY) is None


def test_nothing_is_read_as_long_as_nobody_knows_since_when_it_has_its_node() -> None:
    assert read_at([starting(bound_at=None)], None, POLICY) is None


def test_nothing_more_is_read_of_what_is_explained() -> None:
    assert read_at([explained(starting(), told())], told(), POLICY) is None


@pytest.mark.parametrize(("seconds", "is_given_up"), [(599, False), (600, True)])
def test_a_volume_has_ten_times_the_patience_of_an_image(seconds: float, is_given_up: bool) -> None:  # noqa: FBT001
    found = review([explained(starting(), told())], None, None, POLICY, after(seconds))

    assert bool(found.verdicts) is is_given_up
    assert found.look_again_at == (None if is_given_up else after(600))
