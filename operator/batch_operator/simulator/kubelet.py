"""Kubelets: what happens to a Pod once a node has it.

One object stands for the kubelets of all nodes. A Pod's image is pulled, its containers run and
exit as the scenario's behaviors say; a Pod that is being deleted gets SIGTERM, ends within its
grace period, and is removed once nobody holds it by a finalizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from batch_operator.cluster.client import EVENTS, NODES, PODS, tolerating

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from batch_operator.simulator.api_server import ApiServer, Write

    Json = dict[str, Any]

SYNC_S = 0.1
"""From a change in the API to the kubelet's reaction."""
STOP_S = 1.0
"""How long containers take to end after SIGTERM, when they are not over sooner."""
BACK_OFF_S = 10.0
"""When a pull that fails begins to be reported as being put off."""
ACTOR = "kubelet"
SIGTERM_EXIT, SIGKILL_EXIT = 143, 137
_NO_START = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RegistryUnavailable",
        "RunContainerError",
    }
)
"""Reasons with which a container waits for ever instead of running."""
_NO_SANDBOX = frozenset({"FailedCreatePodSandBox", "FailedMount"})
"""Reasons that only an Event tells, for which there is nothing that containers could run in."""
REJECTIONS = frozenset(
    {"NodeAffinity", "OutOfcpu", "OutOfmemory", "OutOfpods", "UnexpectedAdmissionError"}
)
"""Reasons with which a kubelet will not have a Pod that was bound to its node."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What a Pod's containers do. The first container exits with `exit_code`, the others with 0.

    `reason` is the container's: `OOMKilled` and the like for one that ends, or, for one that never
    starts, the reason for which it waits (`ErrImagePull` …), for which its volumes or its network
    are not ready (`FailedMount` …), or for which its node rejects the Pod.
    """

    runtime_s: float
    exit_code: int
    pull_s: float
    reason: str | None = None

    @property
    def never_starts(self) -> bool:
        return self.reason in _NO_START


class Kubelet:
    """Moves Pods along. `fate_of` is asked once per Pod, when a node has it."""

    def __init__(
        self,
        server: ApiServer,
        loop: asyncio.AbstractEventLoop,
        fate_of: Callable[[Json], Fate],
    ) -> None:
        self._server = server
        self._loop = loop
        self._fate_of = fate_of
        self._fates: dict[str, Fate] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._stopping: set[str] = set()
        self._deadlines: dict[str, tuple[int, asyncio.TimerHandle]] = {}
        self._on_node: dict[str, dict[str, None]] = {}
        self._addresses = 0
        server.subscribe(self._see)

    @property
    def waiting(self) -> int:
        """Pods about which something will happen by itself."""
        return len(self._timers) + len(self._deadlines)

    def runtime_s(self, pod: Json) -> float:
        """How long a Pod's containers run once they do."""
        return self._fate_of(pod).runtime_s

    def _see(self, write: Write) -> None:
        if write.resource == NODES and write.is_removal:
            for uid in self._on_node.pop(write.object["metadata"]["name"], ()):
                self._cancel(uid)
                self._drop_deadline(uid)
        elif write.resource is PODS:
            self._see_pod(write)

    def _see_pod(self, write: Write) -> None:
        pod = write.object
        metadata = pod["metadata"]
        uid, node = metadata["uid"], pod["spec"].get("nodeName")
        if write.is_removal:
            self._forget(uid, node)
            return
        if not node or self._server.find(NODES, None, node) is None:
            return
        if uid not in self._fates:
            self._fates[uid] = self._fate_of(pod)
            self._on_node.setdefault(node, {})[uid] = None
            self._later(SYNC_S, self._admit, pod)
        is_over = pod["status"].get("phase") in {"Succeeded", "Failed"}
        if "deletionTimestamp" in metadata and uid not in self._stopping:
            self._stopping.add(uid)
            if not is_over:
                self._stop(pod)
        if is_over:
            self._drop_deadline(uid)
        else:
            self._mind_deadline(pod)

    def _mind_deadline(self, pod: Json) -> None:
        """activeDeadlineSeconds, which counts from the Pod's start and may be set while it runs."""
        uid = pod["metadata"]["uid"]
        deadline_s, started = (
            pod["spec"].get("activeDeadlineSeconds"),
            pod["status"].get("startTime"),
        )
        known = self._deadlines.get(uid)
        if deadline_s is None or started is None or (known and known[0] == deadline_s):
            return
        self._drop_deadline(uid)
        at_s = max(
            self._server.calendar.seconds_of(started) + deadline_s, self._loop.time() + SYNC_S
        )
        self._deadlines[uid] = deadline_s, self._loop.call_at(at_s, self._exceed, pod["metadata"])

    def _drop_deadline(self, uid: str) -> None:
        if known := self._deadlines.pop(uid, None):
            known[1].cancel()

    def _exceed(self, metadata: Json) -> None:
        """The deadline has come: containers get SIGTERM, and the Pod fails when they have ended."""
        pod = self._server.get(PODS, metadata["namespace"], metadata["name"]).object
        if pod["status"].get("phase") == "Running":
            self._end_by(
                min(STOP_S, pod["spec"]["terminationGracePeriodSeconds"]), pod, self._expire
            )
        else:
            self._later(SYNC_S, self._expire, pod)

    def _expire(self, pod: Json) -> None:
        why = {"reason": "DeadlineExceeded", "message": "Pod was active longer than its deadline"}
        if pod["status"].get("phase") == "Running":
            fate = self._fates[pod["metadata"]["uid"]]
            self._end(pod, fate.exit_code or SIGTERM_EXIT, None, **why)
        else:
            self._write(pod, phase="Failed", **why)

    def _forget(self, uid: str, node: str | None) -> None:
        self._cancel(uid)
        self._drop_deadline(uid)
        self._fates.pop(uid, None)
        self._stopping.discard(uid)
        if node:
            self._on_node.get(node, {}).pop(uid, None)

    def _cancel(self, uid: str) -> None:
        if timer := self._timers.pop(uid, None):
            timer.cancel()

    def _later(self, delay_s: float, step: Callable[[Json], None], pod: Json) -> None:
        """Take the Pod's next step then, in place of the one that was to come."""
        metadata = pod["metadata"]
        uid = metadata["uid"]
        self._cancel(uid)

        def run() -> None:
            del self._timers[uid]
            step(self._server.get(PODS, metadata["namespace"], metadata["name"]).object)

        self._timers[uid] = self._loop.call_later(delay_s, run)

    # A Pod's steps

    def _admit(self, pod: Json) -> None:
        self.admit(pod, self._loop.time())

    def admit(self, pod: Json, since_s: float) -> None:
        """Take in a Pod that has been on its node since then, and pull for what is left of that."""
        now = self._server.calendar.timestamp(since_s)
        fate = self._fates[pod["metadata"]["uid"]]
        self._cancel(pod["metadata"]["uid"])
        if fate.reason in REJECTIONS:
            message = "Pod was rejected: simulated"
            self._write(pod, phase="Failed", reason=fate.reason, message=message, startTime=now)
            return
        waiting = {"waiting": {"reason": "ContainerCreating"}}
        is_set_up = fate.reason not in _NO_SANDBOX
        self._write(
            pod,
            startTime=now,
            **({"podIP": self._address()} if is_set_up else {}),
            conditions=[*pod["status"].get("conditions", ()), _set_up(now, is_so=is_set_up)],
            containerStatuses=_containers(pod, waiting, waiting),
        )
        if not is_set_up:
            self._warn(pod, fate.reason)
            return
        pull_s = self._left_s(fate.pull_s, since_s)
        self._later(pull_s, self._fail_to_start if fate.never_starts else self._run, pod)

    def _left_s(self, duration_s: float, since_s: float) -> float:
        return max(0.0, duration_s - (self._loop.time() - since_s))

    def _warn(self, pod: Json, reason: str | None) -> None:
        metadata = pod["metadata"]
        body = {
            "metadata": {"name": f"{metadata['name']}.warning"},
            "involvedObject": {"kind": "Pod", "uid": metadata["uid"]},
            "type": "Warning",
            "reason": reason,
            "message": f"simulated: {reason}",
            "lastTimestamp": self._server.timestamp(),
        }
        self._server.create(EVENTS, metadata["namespace"], body, ACTOR)

    def _fail_to_start(self, pod: Json) -> None:
        fate = self._fates[pod["metadata"]["uid"]]
        image = pod["spec"]["containers"][0]["image"]
        is_pull = fate.reason in {"ErrImagePull", "ImagePullBackOff"}
        message = (
            f'failed to pull and unpack image "{image}": not found'
            if is_pull
            else f"simulated: {fate.reason}"
        )
        reason = "ErrImagePull" if is_pull else fate.reason
        self._wait(pod, {"reason": reason, "message": message})
        if is_pull:
            self._later(BACK_OFF_S, self._back_off, pod)

    def _back_off(self, pod: Json) -> None:
        image = pod["spec"]["containers"][0]["image"]
        message = f'Back-off pulling image "{image}"'
        self._wait(pod, {"reason": "ImagePullBackOff", "message": message})

    def _wait(self, pod: Json, why: Json) -> None:
        state = {"waiting": why}
        self._write(pod, containerStatuses=_containers(pod, state, state))

    def _run(self, pod: Json) -> None:
        self.run(pod, self._loop.time())

    def run(self, pod: Json, since_s: float) -> None:
        """Have a Pod's containers run since then, for what is left of their run time."""
        state = {"running": {"startedAt": self._server.calendar.timestamp(since_s)}}
        containers = _containers(pod, state, state)
        self._write(pod, phase="Running", containerStatuses=containers)
        runtime_s = self._fates[pod["metadata"]["uid"]].runtime_s
        self._later(self._left_s(runtime_s, since_s), self._exit, pod)

    def _address(self) -> str:
        """An address that no other Pod has had."""
        self._addresses += 1
        return str(IPv4Address("10.0.0.0") + self._addresses)

    def _exit(self, pod: Json) -> None:
        fate = self._fates[pod["metadata"]["uid"]]
        self._end(pod, fate.exit_code, fate.reason)

    def _stop(self, pod: Json) -> None:
        """SIGTERM. Containers that end by themselves sooner than that do so."""
        grace_s = pod["metadata"].get("deletionGracePeriodSeconds", 0)
        if pod["status"].get("phase") == "Running":
            self._end_by(min(STOP_S, grace_s), pod, self._kill)
        else:
            self._later(SYNC_S, self._abandon, pod)

    def _end_by(self, delay_s: float, pod: Json, step: Callable[[Json], None]) -> None:
        """Take a running Pod's last step then, unless its containers end sooner by themselves."""
        timer = self._timers.get(pod["metadata"]["uid"])
        if timer is None or timer.when() > self._loop.time() + delay_s:
            self._later(delay_s, step, pod)

    def _kill(self, pod: Json) -> None:
        was_killed = not pod["metadata"].get("deletionGracePeriodSeconds")
        fate = self._fates[pod["metadata"]["uid"]]
        code = SIGKILL_EXIT if was_killed else fate.exit_code or SIGTERM_EXIT
        self._end(pod, code, None)

    def _abandon(self, pod: Json) -> None:
        """A Pod that is deleted before its containers ran fails without an exit code."""
        self._write(pod, phase="Failed")
        self._remove(pod)

    def _end(self, pod: Json, exit_code: int, detail: str | None, **why: str) -> None:
        started = pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
        times = {"startedAt": started, "finishedAt": self._server.timestamp()}
        usual = "Completed" if exit_code == 0 else "Error"
        first = {"terminated": {"exitCode": exit_code, "reason": detail or usual, **times}}
        others = {"terminated": {"exitCode": 0, "reason": "Completed", **times}}
        phase = "Succeeded" if exit_code == 0 else "Failed"
        self._write(pod, phase=phase, containerStatuses=_containers(pod, first, others), **why)
        if "deletionTimestamp" in pod["metadata"]:
            self._remove(pod)

    def _remove(self, pod: Json) -> None:
        """The kubelet's last word: nothing of the Pod is left on the node."""
        metadata = pod["metadata"]
        with tolerating(404, 409):
            self._server.delete(
                PODS, metadata["namespace"], metadata["name"], ACTOR, uid=metadata["uid"], grace_s=0
            )

    def _write(self, pod: Json, **fields: Any) -> None:
        metadata = pod["metadata"]
        self._server.update_status(
            PODS, metadata["namespace"], metadata["name"], lambda old: {**old, **fields}, ACTOR
        )


def _set_up(now: str, *, is_so: bool) -> Json:
    """Whether the Pod's volumes and network are ready for containers."""
    status = "True" if is_so else "False"
    return {"type": "PodReadyToStartContainers", "status": status, "lastTransitionTime": now}


def _containers(pod: Json, first: Json, others: Json) -> list[Json]:
    """Statuses of the Pod's containers, all but the first in the same state."""
    return [
        {
            "name": container["name"],
            "image": container["image"],
            "ready": "running" in (first if number == 0 else others),
            "restartCount": 0,
            "state": first if number == 0 else others,
        }
        for number, container in enumerate(pod["spec"]["containers"])
    ]
