"""What a Pod's fields mean for the attempt it runs, in AWS Batch's words."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from batch_operator.api import meta
from batch_operator.api.objects import Job, Pod
from batch_operator.api.quantity import LARGEST
from batch_operator.lifecycle.attempt import (
    STOP_DEADLINE_S,
    Phase,
    PodAttempt,
    StartError,
    observed_attempt,
    observed_group,
)
from support.builders import START, attempt, labels, pod

EXITED = "Essential container in task exited"
NOT_STARTED = "Task failed to start"
LOST = "Host EC2 (instance node) terminated."
DELETED = {"deletionTimestamp": "2026-01-01T00:01:00Z"}


def ended(exit_code: int, reason: str = "Error", name: str = "main", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "state": {"terminated": {"exitCode": exit_code, "reason": reason, **more}},
    }


def waiting(reason: str, message: str = "", name: str = "main") -> dict[str, Any]:
    return {"name": name, "state": {"waiting": {"reason": reason, "message": message}}}


def running(started_at: str = "2026-01-01T00:00:10Z", name: str = "main") -> dict[str, Any]:
    return {"name": name, "state": {"running": {"startedAt": started_at}}}


def failed(*containers: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {"status": {"phase": "Failed", "containerStatuses": list(containers), **status}}


def condition(kind: str, status: str = "True", **more: str) -> dict[str, Any]:
    return {"type": kind, "status": status, **more}


EVICTED = condition(
    "DisruptionTarget", reason="EvictionByEvictionAPI", message="Eviction API: evicting"
)
Outcome = tuple[Phase, int | None, str | None, str | None]
OUTCOMES: dict[str, tuple[dict[str, Any], Outcome]] = {
    "waits for a node": ({"node": ""}, (Phase.UNBOUND, None, None, None)),
    "has a node": ({}, (Phase.STARTING, None, None, None)),
    "runs": (
        {"status": {"phase": "Running", "containerStatuses": [running()]}},
        (Phase.RUNNING, None, None, None),
    ),
    "cannot pull its image": (
        {"status": {"containerStatuses": [waiting("ImagePullBackOff")]}},
        (Phase.STARTING, None, None, None),
    ),
    "exits with 0": (
        {"status": {"phase": "Succeeded", "containerStatuses": [ended(0, "Completed")]}},
        (Phase.SUCCEEDED, 0, None, EXITED),
    ),
    "exits with another code": (failed(ended(3)), (Phase.FAILED, 3, None, EXITED)),
    "is killed for its memory": (
        failed(ended(137, "OOMKilled")),
        (
            Phase.FAILED,
            137,
            "OutOfMemoryError: Container killed due to memory usage",
            EXITED,
        ),
    ),
    "has a program that does not exist": (
        failed(ended(128, "StartError", message='exec: "nosuch": not found')),
        (
            Phase.FAILED,
            None,
            'CannotStartContainerError: exec: "nosuch": not found',
            "Task failed to start",
        ),
    ),
    "has a program that cannot be run": (
        failed(ended(126, "ContainerCannotRun", message="permission denied")),
        (Phase.FAILED, None, "CannotStartContainerError: permission denied", NOT_STARTED),
    ),
    "ends for a reason of the runtime": (
        failed(ended(2, "Unheard", message="of")),
        (Phase.FAILED, 2, "Unheard: of", EXITED),
    ),
    "ends for a reason without a message": (
        failed(ended(137, "ContainerStatusUnknown")),
        (Phase.FAILED, 137, "ContainerStatusUnknown", EXITED),
    ),
    "fails in an init container": (
        failed(waiting("PodInitializing"), initContainerStatuses=[ended(2, name="fetch")]),
        (Phase.FAILED, 2, None, EXITED),
    ),
    "fails in the second init container": (
        failed(
            waiting("PodInitializing"),
            initContainerStatuses=[ended(0, "Completed", "one"), ended(5, name="two")],
        ),
        (Phase.FAILED, 5, None, EXITED),
    ),
    "fails in one of several containers": (
        failed(ended(0, "Completed", "a"), ended(4, name="b"), ended(0, "Completed", "c")),
        (Phase.FAILED, 4, None, EXITED),
    ),
    "fails in several containers: the one that failed first counts": (
        failed(
            ended(137, name="a", finishedAt="2026-01-01T00:01:00Z"),
            ended(3, name="b", finishedAt="2026-01-01T00:00:20Z"),
            ended(0, name="c", finishedAt="2026-01-01T00:00:10Z"),
        ),
        (Phase.FAILED, 3, None, EXITED),
    ),
    "fails in several containers, and of some nobody says when": (
        failed(
            ended(6, name="a"),
            ended(7, name="b", finishedAt="2026-01-01T00:01:00Z"),
        ),
        (Phase.FAILED, 7, None, EXITED),
    ),
    "fails in several containers at once: the first of the template counts": (
        failed(ended(6, name="a"), ended(7, name="b")),
        (Phase.FAILED, 6, None, EXITED),
    ),
    "fails, and its sidecar is killed afterwards": (
        failed(ended(3), initContainerStatuses=[ended(143, name="proxy")]),
        (Phase.FAILED, 3, None, EXITED),
    ),
    "is evicted for the node's memory": (
        failed(ended(137), reason="Evicted", message="The node was low on resource: memory."),
        (Phase.FAILED, 137, "The node was low on resource: memory.", LOST),
    ),
    "is evicted before a container ran": (
        failed(reason="Evicted", message="The node had condition: [DiskPressure]."),
        (Phase.FAILED, None, "The node had condition: [DiskPressure].", LOST),
    ),
    **{
        f"is evicted for a limit of its own: {message}": (
            failed(
                ended(137),
                reason="Evicted",
                message=message,
                conditions=[condition("DisruptionTarget", reason="TerminationByKubelet")],
            ),
            (Phase.FAILED, 137, message, EXITED),
        )
        for message in (
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
            'Container main exceeded its local ephemeral storage limit "1Gi". ',
            'Usage of EmptyDir volume "scratch" exceeds the limit "1Gi". ',
        )
    },
    "is evicted for its share in what the node lacks": (
        failed(
            ended(137),
            reason="Evicted",
            message="The node was low on resource: memory. Container main exceeds the limit …",
        ),
        (
            Phase.FAILED,
            137,
            "The node was low on resource: memory. Container main exceeds the limit …",
            LOST,
        ),
    ),
    "loses its spot node": (
        failed(
            ended(143),
            conditions=[condition("DisruptionTarget", reason="DeletionByTaintManager")],
        ),
        (Phase.FAILED, 143, None, LOST),
    ),
    "is evicted before it has a node, without a sentence": (
        {
            "node": "",
            "status": {
                "conditions": [condition("DisruptionTarget", reason="EvictionByEvictionAPI")]
            },
            **DELETED,
        },
        (Phase.FAILED, None, "EvictionByEvictionAPI", NOT_STARTED),
    ),
    "has other conditions, as every Pod has": (
        failed(ended(1), conditions=[condition("PodScheduled"), condition("Initialized")]),
        (Phase.FAILED, 1, None, EXITED),
    ),
    "was no disruption target after all": (
        failed(ended(1), conditions=[condition("DisruptionTarget", "False")]),
        (Phase.FAILED, 1, None, EXITED),
    ),
    "runs on a node that shuts down": (
        failed(
            ended(137),
            reason="NodeShutdown",
            message="Pod was terminated in response to imminent node shutdown.",
        ),
        (
            Phase.FAILED,
            137,
            "Pod was terminated in response to imminent node shutdown.",
            LOST,
        ),
    ),
    **{
        f"is ended by its node with {reason}": (
            failed(running(), reason=reason),
            (Phase.FAILED, None, reason, LOST),
        )
        for reason in ("NodeLost", "Preempting", "Shutdown", "Terminated")
    },
    "runs out of memory on a node that is lost": (
        failed(ended(137, "OOMKilled"), conditions=[condition("DisruptionTarget")]),
        (
            Phase.FAILED,
            137,
            "OutOfMemoryError: Container killed due to memory usage",
            LOST,
        ),
    ),
    "is evicted before it has a node": (
        {"node": "", "status": {"conditions": [EVICTED]}, **DELETED},
        (Phase.FAILED, None, "Eviction API: evicting", NOT_STARTED),
    ),
    "is evicted before it has a node, nobody says why": (
        {"node": "", "status": {"conditions": [condition("DisruptionTarget")]}, **DELETED},
        (Phase.FAILED, None, "Pod was deleted before it started", NOT_STARTED),
    ),
    "is failed before it has a node": (
        {"node": "", **failed(reason="Evicted", message="no longer wanted")},
        (Phase.FAILED, None, "no longer wanted", NOT_STARTED),
    ),
    "exits with 0 although its node is going": (
        {
            "status": {
                "phase": "Succeeded",
                "containerStatuses": [ended(0, "Completed")],
                "conditions": [condition("DisruptionTarget")],
            }
        },
        (Phase.SUCCEEDED, 0, None, EXITED),
    ),
    "is deleted before it has a node": (
        {"node": "", **DELETED},
        (Phase.FAILED, None, "Pod was deleted before it started", NOT_STARTED),
    ),
    "is deleted while it starts": (DELETED, (Phase.STARTING, None, None, None)),
    "is deleted while it runs": (
        {"status": {"phase": "Running", "containerStatuses": [running()]}, **DELETED},
        (Phase.RUNNING, None, None, None),
    ),
    "has ended because it was deleted": (
        {**failed(ended(143)), **DELETED},
        (Phase.FAILED, 143, "Pod was deleted", EXITED),
    ),
    "runs out of memory while it is deleted": (
        {**failed(ended(137, "OOMKilled")), **DELETED},
        (
            Phase.FAILED,
            137,
            "OutOfMemoryError: Container killed due to memory usage",
            EXITED,
        ),
    ),
    "exits with 0 while it is deleted": (
        {
            "status": {"phase": "Succeeded", "containerStatuses": [ended(0, "Completed")]},
            **DELETED,
        },
        (Phase.SUCCEEDED, 0, None, EXITED),
    ),
    "is refused by its node for want of CPU": (
        failed(
            reason="OutOfcpu",
            message="Pod was rejected: Node didn't have enough resource: cpu",
        ),
        (
            Phase.FAILED,
            None,
            "Rejected by its node: OutOfcpu: Node didn't have enough resource: cpu",
            NOT_STARTED,
        ),
    ),
    "is refused by its node for a device": (
        failed(reason="UnexpectedAdmissionError", message="Allocate failed: no GPU left"),
        (
            Phase.FAILED,
            None,
            "Rejected by its node: UnexpectedAdmissionError: Allocate failed: no GPU left",
            NOT_STARTED,
        ),
    ),
    "is refused by its node without a message": (
        failed(reason="NodeAffinity"),
        (Phase.FAILED, None, "Rejected by its node: NodeAffinity", NOT_STARTED),
    ),
    **{
        f"is refused by its node with {reason}": (
            failed(reason=reason),
            (Phase.FAILED, None, f"Rejected by its node: {reason}", NOT_STARTED),
        )
        for reason in ("NodePorts", "OutOfpods", "TopologyAffinityError")
    },
    "may never run as it was written": (
        failed(reason="SysctlForbidden", message="forbidden sysctl: kernel.sem"),
        (Phase.FAILED, None, "forbidden sysctl: kernel.sem", NOT_STARTED),
    ),
    "is refused by its node when no container has begun": (
        failed(waiting("ContainerCreating"), reason="NodeAffinity"),
        (Phase.FAILED, None, "Rejected by its node: NodeAffinity", NOT_STARTED),
    ),
    "had begun with a container when its node refused it": (
        failed(running(), reason="NodeAffinity"),
        (Phase.FAILED, None, "NodeAffinity", NOT_STARTED),
    ),
    "had begun with an init container when its node refused it": (
        failed(initContainerStatuses=[ended(0, name="fetch")], reason="NodeAffinity"),
        (Phase.FAILED, None, "NodeAffinity", NOT_STARTED),
    ),
    "fails, and nobody says why": (failed(), (Phase.FAILED, None, None, NOT_STARTED)),
    "ends with more words than AWS allows": (
        failed(reason="DeadlineExceeded", message="x" * 300),
        (Phase.FAILED, None, "x" * 255, NOT_STARTED),
    ),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_pod_that(name: str) -> None:
    """AWS Batch, job states and statusReason; the words are what evaluateOnExit matches."""
    fields, expected = OUTCOMES[name]
    found = observed_attempt(pod(**fields))

    assert (found.phase, found.exit_code, found.reason, found.status_reason) == expected


@pytest.mark.parametrize("name", OUTCOMES)
def test_only_an_attempt_that_has_ended_has_an_outcome(name: str) -> None:
    fields, (phase, *_) = OUTCOMES[name]
    found = observed_attempt(pod(**fields))

    assert (found.status_reason is not None) == phase.ended
    assert phase.ended or found.stopped_at is None


START_ERRORS: dict[str, tuple[dict[str, Any], StartError | None]] = {
    "an image that a registry may still get": (
        waiting("ImagePullBackOff", 'Back-off pulling image "x"'),
        StartError(
            'CannotPullContainerError: Back-off pulling image "x"',
            'container main: ImagePullBackOff: Back-off pulling image "x"',
            hopeless=False,
        ),
    ),
    "a pull that has just failed": (
        waiting("ErrImagePull", "not found"),
        StartError(
            "CannotPullContainerError: not found",
            "container main: ErrImagePull: not found",
            hopeless=False,
        ),
    ),
    "an image that is never pulled": (
        waiting("ErrImageNeverPull", "policy is Never"),
        StartError(
            "CannotPullContainerError: policy is Never",
            "container main: ErrImageNeverPull: policy is Never",
            hopeless=True,
        ),
    ),
    "a name that is no image's": (
        waiting("InvalidImageName"),
        StartError(
            "CannotPullContainerError: InvalidImageName",
            "container main: InvalidImageName: InvalidImageName",
            hopeless=True,
        ),
    ),
    "a secret that may still come": (
        waiting("CreateContainerConfigError", 'secret "s" not found'),
        StartError(
            'CannotCreateContainerError: secret "s" not found',
            'container main: CreateContainerConfigError: secret "s" not found',
            hopeless=False,
        ),
    ),
    "a program that cannot be run": (
        waiting("RunContainerError", "exec failed"),
        StartError(
            "CannotStartContainerError: exec failed",
            "container main: RunContainerError: exec failed",
            hopeless=False,
        ),
    ),
    **{
        f"what kubelet calls {reason}": (
            waiting(reason, "x"),
            StartError(f"{word}: x", f"container main: {reason}: x", hopeless=False),
        )
        for reason, word in {
            "CreateContainerConfigError": "CannotCreateContainerError",
            "CreateContainerError": "CannotCreateContainerError",
            "ImageInspectError": "CannotPullContainerError",
            "RegistryUnavailable": "CannotPullContainerError",
        }.items()
    },
    "images on their way": (waiting("ContainerCreating"), None),
    "init containers at work": (waiting("PodInitializing"), None),
    "nothing: it runs": (running(), None),
}


@pytest.mark.parametrize("name", START_ERRORS)
def test_a_container_that_cannot_start_says_why_in_aws_words(name: str) -> None:
    container, expected = START_ERRORS[name]

    assert observed_attempt(pod(status={"containerStatuses": [container]})).start_error == expected


def test_an_init_container_that_cannot_start_is_found_behind_the_others() -> None:
    status = {
        "initContainerStatuses": [waiting("ErrImageNeverPull", name="fetch")],
        "containerStatuses": [waiting("PodInitializing")],
    }
    error = observed_attempt(pod(status=status)).start_error

    assert error is not None
    assert error.message.startswith("container fetch: ")


def initialized(status: str, at: str) -> dict[str, str]:
    return {"type": "Initialized", "status": status, "lastTransitionTime": at}


def staged(finished_at: str) -> dict[str, Any]:
    over = {"exitCode": 0, "reason": "Completed", "finishedAt": finished_at}
    return {"name": "stage", "state": {"terminated": over}}


TURNS: dict[str, tuple[dict[str, Any], str | None]] = {
    "when all init containers were over": (
        {"conditions": [initialized("True", "2026-01-01T00:20:00Z")]},
        "2026-01-01T00:20:00+00:00",
    ),
    "when the one before it was": (
        {
            "conditions": [initialized("False", "2026-01-01T00:40:00Z")],
            "initContainerStatuses": [staged("2026-01-01T00:30:00Z"), waiting("ErrImagePull")],
            "containerStatuses": [waiting("PodInitializing")],
        },
        "2026-01-01T00:30:00+00:00",
    ),
    "at once": ({}, None),
}


@pytest.mark.parametrize("when", TURNS)
def test_a_container_that_cannot_start_had_its_turn(when: str) -> None:
    status, expected = TURNS[when]
    seen = observed_attempt(pod(status={"containerStatuses": [waiting("ErrImagePull")], **status}))

    assert seen.start_error is not None
    assert (seen.start_error.since and seen.start_error.since.isoformat()) == expected


def test_an_attempt_that_has_ended_has_no_start_error() -> None:
    fields = failed(waiting("ImagePullBackOff"), reason="Evicted")

    assert observed_attempt(pod(**fields)).start_error is None


def test_a_long_start_error_is_cut_to_the_length_of_a_reason() -> None:
    status = {"containerStatuses": [waiting("ErrImagePull", "x" * 2000)]}
    error = observed_attempt(pod(status=status)).start_error

    assert error is not None
    assert len(error.reason) == 255


UNSCHEDULABLE: dict[str, tuple[str, str]] = {
    "too little CPU": (
        "0/3 nodes are available: 3 Insufficient cpu. no new claims to deallocate, "
        "preemption: 0/3 nodes are available",
        "0/3 nodes are available: 3 Insufficient cpu.",
    ),
    "no node with the label": (
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. "
        "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
    ),
    "no message": ("", "Unschedulable"),
}


@pytest.mark.parametrize("name", UNSCHEDULABLE)
def test_why_no_node_takes_the_pod_is_told_without_what_is_always_the_same(name: str) -> None:
    message, expected = UNSCHEDULABLE[name]
    told = condition("PodScheduled", "False", reason="Unschedulable", message=message)

    assert observed_attempt(pod(node="", status={"conditions": [told]})).unschedulable == expected


UNPLACEABLE = {
    "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 "
    "Preemption is not helpful for scheduling.": True,
    "0/13 nodes are available: 13 Insufficient cpu. no new claims to deallocate, preemption: 0/13 "
    "nodes are available: 13 Preemption is not helpful for scheduling.": True,
    "0/13 nodes are available: 13 Insufficient cpu. preemption: 0/13 nodes are available: 3 "
    "Preemption is not helpful for scheduling, 10 No preemption victims found for incoming pod.": (
        False
    ),
    "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 No "
    "preemption victims found for incoming pod.": False,
    "0/3 nodes are available: 3 Insufficient cpu. preemption: not eligible due to "
    "preemptionPolicy=Never.": False,
    "no nodes available to schedule pods": False,
}


@pytest.mark.parametrize("message", UNPLACEABLE)
def test_no_node_suits_it_if_the_scheduler_says_so_of_all_of_them(message: str) -> None:
    told = condition("PodScheduled", "False", reason="Unschedulable", message=message)

    assert (
        observed_attempt(pod(node="", status={"conditions": [told]})).unplaceable
        is (UNPLACEABLE[message])
    )
    assert not observed_attempt(pod(status={"conditions": [told]})).unplaceable


def test_only_the_scheduler_says_why_no_node_takes_the_pod() -> None:
    others = [condition("Ready", "False", message="not yet"), condition("Initialized")]
    told = condition("PodScheduled", "False", reason="Unschedulable", message="0/3 nodes")
    found = observed_attempt(pod(node="", status={"conditions": [*others, told]}))

    assert found.unschedulable == "0/3 nodes"
    assert observed_attempt(pod(node="", status={"conditions": others})).unschedulable is None


def test_only_a_pod_on_a_node_is_being_stopped_by_its_deadline() -> None:
    """A template may ask for so short a time; no kubelet minds it before the Pod has a node."""
    spec = {"spec": {"activeDeadlineSeconds": 1}}

    assert observed_attempt(pod(**spec)).stopping
    assert not observed_attempt(pod(node="", **spec)).stopping


GATED = {"schedulingGates": [{"name": meta.GATE_GANG}]}


@pytest.mark.parametrize("fields", [{}, {"node": "", "spec": GATED}], ids=["has a node", "gated"])
def test_a_pod_is_not_unschedulable_that(fields: dict[str, Any]) -> None:
    told = condition("PodScheduled", "False", reason="Unschedulable", message="0/3 nodes")

    assert observed_attempt(pod(status={"conditions": [told]}, **fields)).unschedulable is None


def test_an_attempt_runs_from_when_all_of_its_containers_have_begun_until_all_have_ended() -> None:
    """AWS Batch, job timeouts: time in init containers is STARTING and does not count."""
    fields = failed(
        ended(0, "Completed", "a", startedAt="2026-01-01T00:00:20Z"),
        ended(
            1,
            name="b",
            startedAt="2026-01-01T00:00:10Z",
            finishedAt="2026-01-01T00:00:40Z",
        ),
        ended(
            0,
            "Completed",
            "c",
            startedAt="2026-01-01T00:00:15Z",
            finishedAt="2026-01-01T00:00:30Z",
        ),
        initContainerStatuses=[
            ended(
                0,
                "Completed",
                "init",
                startedAt="2026-01-01T00:00:01Z",
                finishedAt="2026-01-01T00:00:59Z",
            )
        ],
    )
    found = observed_attempt(pod(**fields))

    assert found.started_at == START + timedelta(seconds=20)
    assert found.stopped_at == START + timedelta(seconds=40)


def test_an_attempt_that_has_not_ended_has_ended_for_no_reason() -> None:
    found = observed_attempt(pod())

    assert not any((found.ran_out_of_memory, found.lost_its_host, found.was_preempted))
    assert not any((found.was_rejected, found.was_moved))


def test_an_attempt_runs_from_when_the_last_of_its_containers_began() -> None:
    both = [running("2026-01-01T00:00:20Z", "a"), running("2026-01-01T00:00:10Z", "b")]
    found = observed_attempt(pod(status={"phase": "Running", "containerStatuses": both}))

    assert found.started_at == START + timedelta(seconds=20)
    assert found.stopped_at is None


SET_UP: dict[str, tuple[list[dict[str, Any]], bool]] = {
    "nothing is said": ([], False),
    "it says so, among others": (
        [condition("Ready", "False"), condition("PodReadyToStartContainers")],
        True,
    ),
    "it says that it has not": (
        [condition("PodScheduled"), condition("PodReadyToStartContainers", "False")],
        False,
    ),
}


@pytest.mark.parametrize("what", SET_UP)
def test_a_node_has_the_volumes_and_the_network_of_a_pod_when(what: str) -> None:
    conditions, is_set_up = SET_UP[what]

    assert observed_attempt(pod(status={"conditions": conditions})).is_set_up is is_set_up


NOT_BEGUN: dict[str, tuple[str, dict[str, Any]]] = {
    "is still pulled": ("Pending", waiting("ContainerCreating", name="b")),
    "was not pulled in time": ("Failed", ended(137, "ContainerStatusUnknown", "b")),
    "runs since nobody knows when": ("Running", {"name": "b", "state": {"running": {}}}),
}


@pytest.mark.parametrize("what", NOT_BEGUN)
def test_an_attempt_has_not_begun_of_which_one_container(what: str) -> None:
    """AWS Batch, job timeouts: pulling images is STARTING and does not count."""
    phase, other = NOT_BEGUN[what]
    status = {"phase": phase, "containerStatuses": [running(name="a"), other]}

    assert observed_attempt(pod(status=status)).started_at is None


ENDS: dict[str, tuple[dict[str, Any], int]] = {
    "deleted without a node": ({"node": "", **DELETED}, 60),
    "refused by its node": (failed(reason="OutOfcpu", startTime="2026-01-01T00:00:05Z"), 5),
    "given up with its node": (
        failed(
            startTime="2026-01-01T00:00:05Z",
            conditions=[condition("DisruptionTarget", lastTransitionTime="2026-01-01T00:00:30Z")],
        )
        | DELETED,
        30,
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_pod_that_ran_nothing_ends_when_that_was_found(name: str) -> None:
    fields, after_s = ENDS[name]
    found = observed_attempt(pod(**fields))

    assert found.started_at is None
    assert found.stopped_at == START + timedelta(seconds=after_s)


UNKNOWN = {"exitCode": 137, "reason": "ContainerStatusUnknown"}
NO_TIMES = {
    "was ended by its deadline while its image was pulled": failed(
        waiting("ContainerCreating"), reason="DeadlineExceeded", startTime="2026-01-01T00:00:05Z"
    ),
    "lost its containers with a restart of the kubelet": failed(
        {"name": "main", "state": {"terminated": UNKNOWN}},
        startTime="2026-01-01T00:00:05Z",
    ),
}


@pytest.mark.parametrize("what", NO_TIMES)
def test_nobody_says_when_a_pod_ended_that(what: str) -> None:
    """Not when it began: it has held its node since, for hours perhaps."""
    assert observed_attempt(pod(**NO_TIMES[what])).stopped_at is None


def test_the_deadline_with_which_we_stop_a_pod_is_not_why_it_ended() -> None:
    message = "Pod was active on the node longer than the specified deadline"
    fields = failed(waiting("ContainerCreating"), reason="DeadlineExceeded", message=message)
    ours = observed_attempt(pod(**fields, spec={"activeDeadlineSeconds": STOP_DEADLINE_S}))
    theirs = observed_attempt(pod(**fields, spec={"activeDeadlineSeconds": 600}))

    assert (ours.reason, theirs.reason) == (None, message)


BOUND: dict[str, tuple[dict[str, Any], int]] = {
    "when it was scheduled": (
        {
            "startTime": "2026-01-01T00:00:09Z",
            "conditions": [
                condition("Initialized", lastTransitionTime="2026-01-01T00:00:05Z"),
                condition("PodScheduled", lastTransitionTime="2026-01-01T00:00:03Z"),
            ],
        },
        3,
    ),
    "when its node took it, where nobody scheduled it": (
        {"startTime": "2026-01-01T00:00:09Z"},
        9,
    ),
}


@pytest.mark.parametrize("name", BOUND)
def test_a_pod_is_bound(name: str) -> None:
    status, after_s = BOUND[name]

    assert observed_attempt(pod(status=status)).bound_at == START + timedelta(seconds=after_s)


def test_a_pod_that_the_scheduler_could_not_place_is_not_bound() -> None:
    refused = condition("PodScheduled", status="False", lastTransitionTime="2026-01-01T00:00:03Z")

    assert observed_attempt(pod(node="", status={"conditions": [refused]})).bound_at is None


def test_the_first_child_of_an_array_is_child_0() -> None:
    assert observed_attempt(pod(pod_labels=labels(**{meta.LABEL_ARRAY_INDEX: "0"}))).index == 0


def test_an_attempt_carries_what_it_was_started_with() -> None:
    marks = {meta.LABEL_ARRAY_INDEX: "17", meta.LABEL_ATTEMPT: "2", meta.LABEL_REVISION: "3"}
    found = observed_attempt(pod(pod_labels=labels(**marks)))

    assert (found.job_uid, found.index, found.number, found.revision) == ("uid-job", 17, 2, 3)
    assert (found.environment, found.node_name) == ("local", "node")
    assert (found.pod_name, found.uid) == ("job-uid-job-17-2", "pod-uid")
    assert found.tracked
    assert not found.deleting


def test_what_a_pod_does_not_have_yet_is_absent_and_not_empty() -> None:
    """A cancel asks for the node, and the other nodes of a job wait for the address."""
    before, after = observed_attempt(pod(node="")), observed_attempt(pod(status={"podIP": "::7"}))

    assert (before.node_name, before.pod_ip) == (None, None)
    assert (after.node_name, after.pod_ip) == ("node", "::7")


def asks(cpu: str | None, **container: Any) -> dict[str, Any]:
    requests = {"requests": {"cpu": cpu}} if cpu else {}
    return {"name": "c", "resources": requests, **container}


CPUS: dict[str, tuple[dict[str, Any], int]] = {
    "one container": ({"containers": [asks("500m")]}, 500),
    "containers side by side": ({"containers": [asks("1"), asks("250m"), asks(None)]}, 1250),
    "a larger init container": (
        {"containers": [asks("1")], "initContainers": [asks("3"), asks("2")]},
        3000,
    ),
    "a sidecar": (
        {
            "containers": [asks("1")],
            "initContainers": [asks("500m", restartPolicy="Always"), asks("100m")],
        },
        1500,
    ),
    "the Pod as a whole": (
        {"containers": [asks("1")], "resources": {"requests": {"cpu": "4"}}},
        4000,
    ),
    "a RuntimeClass that adds to it": (
        {"containers": [asks("1")], "overhead": {"cpu": "250m", "memory": "120Mi"}},
        1250,
    ),
}


@pytest.mark.parametrize("name", CPUS)
def test_an_attempt_holds_what_its_pod_asks_of_the_node(name: str) -> None:
    """Kubernetes' own rule, on the Pod as the API server has it: labels cannot change that."""
    spec, expected = CPUS[name]

    assert observed_attempt(pod(spec=spec)).milli_cpu == expected


def test_a_pod_that_we_have_asked_to_stop_is_known_by_its_deadline() -> None:
    """Its kubelet ends it and says why; a deletion would leave nothing to read."""
    asked = observed_attempt(pod(spec={"activeDeadlineSeconds": 1}))
    ended_by_it = observed_attempt(
        pod(**failed(ended(143), reason="DeadlineExceeded", message="active too long"))
    )

    assert (asked.stopping, asked.deadline_exceeded) == (True, False)
    assert ended_by_it.deadline_exceeded
    assert not observed_attempt(pod()).stopping


def test_an_attempt_of_a_job_that_is_no_array_has_index_0() -> None:
    assert observed_attempt(pod()).index == 0


def test_a_pod_without_our_finalizer_is_settled() -> None:
    assert not observed_attempt(pod(finalizers=["example.com/other"])).tracked


OTHER = {"kind": "BatchJob", "name": "other", "uid": "uid-other", "controller": True}
FORGED: dict[str, dict[str, Any]] = {
    "no job": {"pod_labels": {}},
    "no owner": {"ownerReferences": []},
    "another owner": {"ownerReferences": [OTHER]},
    "an owner that does not control it": {
        "ownerReferences": [{"kind": "BatchJob", "name": "job", "uid": "uid-job"}]
    },
    "an owner of another kind": {"ownerReferences": [{**OTHER, "kind": "Job", "uid": "uid-job"}]},
    "the name of another attempt": {"name": "job-uid-job-2"},
    "the name of a child, but no index": {"name": "job-uid-job-0-1"},
    "an index that is no number": {"pod_labels": labels(**{meta.LABEL_ARRAY_INDEX: "x"})},
    "a negative index": {"pod_labels": labels(**{meta.LABEL_ARRAY_INDEX: "-1"})},
    "an index that would fill the memory": {
        "pod_labels": labels(**{meta.LABEL_ARRAY_INDEX: "99999999999"})
    },
    "attempt 0": {"pod_labels": labels(**{meta.LABEL_ATTEMPT: "0"})},
    "an attempt that no status can hold": {"pod_labels": labels(**{meta.LABEL_ATTEMPT: "1001"})},
    "revision 0": {"pod_labels": labels(**{meta.LABEL_REVISION: "0"})},
}


@pytest.mark.parametrize("name", FORGED)
def test_a_pod_with_marks_that_are_not_ours_is_not_judged(name: str) -> None:
    """Labels can be changed by whoever may patch Pods in the namespace; names cannot."""
    with pytest.raises((KeyError, ValueError)):
        observed_attempt(pod(**FORGED[name]))


def test_the_last_attempt_that_a_status_can_hold_is_judged() -> None:
    assert observed_attempt(pod(pod_labels=labels(**{meta.LABEL_ATTEMPT: "1000"}))).number == 1000


# Multi-node jobs: a group's Job, and the Pods that it makes

COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
NOT_OURS = r"is not within|is not named as its labels say|its owner does not|and is none"


def node(group: int = 1, member: int = 2, **metadata: Any) -> Pod:
    """A Pod as the Job controller makes it."""
    made_by = f"job-uid-job-1-{group}"
    marks = {meta.LABEL_NODE_GROUP: str(group), COMPLETION_INDEX: str(member)}
    known = {"name": f"{made_by}-{member}-abcde", "ownerReferences": owners(name=made_by)}
    more = metadata.pop("labels", {})
    return pod(node="", spec=GATED, pod_labels=labels(**marks, **more), **{**known, **metadata})


def owners(**changes: Any) -> list[dict[str, Any]]:
    job = {"kind": "Job", "name": "job-uid-job-1-1", "uid": "uid-made", "controller": True}
    return [{**job, **changes}]


def made_by(group: int = 1, spec: dict[str, Any] | None = None, **metadata: Any) -> PodAttempt:
    """The stand-in that a group's Job is."""
    owner = {"kind": "BatchJob", "name": "job", "uid": "uid-job", "controller": True}
    known = {
        "namespace": "default",
        "name": f"job-uid-job-1-{group}",
        "uid": "uid-made",
        "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": labels(**{meta.LABEL_NODE_GROUP: str(group)}),
        "ownerReferences": [owner],
    }
    return observed_group(
        msgspec.convert({"metadata": {**known, **metadata}, "spec": spec or {}}, Job)
    )


def test_a_node_is_known_by_its_place() -> None:
    found = observed_attempt(node())

    assert (found.job_uid, found.node_group, found.member, found.gated) == ("uid-job", 1, 2, True)


def test_a_node_is_the_one_of_the_job_that_controls_it_whoever_else_owns_it() -> None:
    also = {"kind": "BatchJob", "name": "job", "uid": "uid-job"}

    assert observed_attempt(node(ownerReferences=[also, *owners()])).node_group == 1


FORGED_NODES: dict[str, Pod] = {
    "no owner": node(ownerReferences=[]),
    "an owner that controls nothing": node(ownerReferences=owners(controller=False)),
    "an owner of another kind": node(ownerReferences=owners(kind="ReplicaSet")),
    "an index of an array": node(labels={meta.LABEL_ARRAY_INDEX: "0"}),
    "another attempt's Job": node(
        name="job-uid-job-2-1-2-abcde", ownerReferences=owners(name="job-uid-job-2-1")
    ),
    "a name of its own": node(name="mine"),
    "a place beyond all": node(member=1000),
    "a group beyond all": node(group=101),
}


@pytest.mark.parametrize("marks", FORGED_NODES)
def test_a_pod_is_no_node_that_has(marks: str) -> None:
    with pytest.raises(ValueError, match=NOT_OURS):
        observed_attempt(FORGED_NODES[marks])


def test_the_main_node_is_known() -> None:
    found = observed_attempt(node(group=0, member=0))

    assert (found.node_group, found.member) == (0, 0)


def test_the_largest_multi_node_job_is_known() -> None:
    """AWS Batch: at most 1,000 nodes."""
    found = observed_attempt(node(group=100, member=999))

    assert (found.node_group, found.member) == (100, 999)
    assert made_by(group=100, spec={"completions": 1000}).members == 1000


FORGED_JOBS: dict[str, dict[str, Any]] = {
    "no owner": {"ownerReferences": []},
    "a name of its own": {"name": "mine"},
    "more nodes than a job can have": {"spec": {"completions": 1001}},
    "no nodes": {"spec": {"completions": 0}},
    "a group beyond all": {"group": 101},
}


@pytest.mark.parametrize("marks", FORGED_JOBS)
def test_a_job_stands_for_no_nodes_that_has(marks: str) -> None:
    with pytest.raises(ValueError, match=NOT_OURS):
        made_by(**FORGED_JOBS[marks])


SUSPENDED = {"spec": {"suspend": True}}


@pytest.mark.parametrize("fields", [SUSPENDED, DELETED], ids=["suspended", "deleted"])
def test_a_job_makes_no_nodes_any_more_that_is(fields: dict[str, Any]) -> None:
    found = made_by(**fields)

    assert (found.phase, found.deleting, found.tracked) == (Phase.FAILED, True, True)
    assert (found.status_reason, found.stopped_at) == (NOT_STARTED, START)
    assert found.reason == "its Job was suspended or deleted"


def test_a_job_of_a_gang_can_carry_the_mark_of_what_is_requeued() -> None:
    mark = "Suspended: spec.suspend was set before a node had it"
    found = made_by(**SUSPENDED, annotations={meta.ANNOTATION_REQUEUED: mark})

    assert (found.phase, found.requeued) == (Phase.FAILED, mark)
    assert made_by(**SUSPENDED).requeued is None


def test_a_job_that_is_still_to_make_its_nodes_has_no_outcome() -> None:
    found = made_by()

    assert (found.phase, found.deleting, found.tracked) == (Phase.ASSUMED, False, True)
    assert (found.index, found.status_reason, found.reason, found.stopped_at) == (
        0, None, None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cpu", "expected"), [("1500m", 4500), ("9E", LARGEST)], ids=["sum", "more than is counted"]
)
def test_a_job_holds_what_all_its_nodes_ask_for(cpu: str, expected: int) -> None:
    template = {"spec": {"containers": [asks(cpu)]}}

    assert made_by(spec={"completions": 3, "template": template}).milli_cpu == expected


def test_a_template_with_limits_alone_asks_for_these() -> None:
    """The API server writes requests into Pods, not into the template of a Job."""
    resources = {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"}}
    template = {"spec": {"containers": [{"name": "main", "resources": resources}]}}
    found = made_by(spec={"completions": 3, "template": template})

    assert (found.milli_cpu, found.memory) == (3000, 1 << 30)


ON_THEIR_WAY: dict[str, tuple[PodAttempt, bool]] = {
    "a Pod": (attempt(Phase.ASSUMED), True),
    "a Pod that is there": (attempt(Phase.UNBOUND), False),
    "a group's Job": (attempt(Phase.ASSUMED, node_group=1, members=2, pod_uid=""), True),
    "a group's Job that is there": (made_by(), False),
}


@pytest.mark.parametrize("what", ON_THEIR_WAY)
def test_only_what_was_just_asked_for_cannot_be_stopped(what: str) -> None:
    found, expected = ON_THEIR_WAY[what]

    assert found.is_on_its_way == expected
