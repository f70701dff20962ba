"""The models of scheduler, kubelet, node loss and Job controller, without an operator."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.api.compute_environment import CapacityType
from batch_operator.cluster.client import JOBS, NODES, PODS
from batch_operator.provisioners.kwok.nodes import ready_node
from batch_operator.provisioning.pools import PoolKey
from batch_operator.simulator.api_server import ApiServer
from batch_operator.simulator.job_controller import LABEL_INDEX, JobController
from batch_operator.simulator.kubelet import Fate, Kubelet
from batch_operator.simulator.nodes import POD_GC_S, PodGarbageCollector
from batch_operator.simulator.pod_scheduler import PodScheduler
from batch_operator.simulator.scenario import ScoringStrategy
from batch_operator.simulator.virtual_time import VirtualTimeLoop
from support.play import play

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

Json = dict[str, Any]
TOLERATION = {"key": "batch-operator.io/compute-environment", "operator": "Exists"}


class Cluster:
    """Two nodes of two vCPUs each, and everything that moves Pods."""

    def __init__(
        self,
        fate_of: Callable[[Json], Fate] | None = None,
        strategy: ScoringStrategy = ScoringStrategy.LEAST_ALLOCATED,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.server = ApiServer(loop.time, seed=0)
        PodScheduler(self.server, loop, strategy)
        Kubelet(self.server, loop, fate_of or (lambda _: Fate(10.0, 0, 1.0)))
        PodGarbageCollector(self.server, loop)
        JobController(self.server, loop)
        for number in (1, 2):
            amounts = {"cpu": "2", "memory": "4Gi", "pods": "110"}
            pool = PoolKey("small", CapacityType.SPOT)
            body = ready_node(f"n{number}", "local", pool, amounts, {})
            self.server.create(NODES, None, body, "cloud")

    def pod(self, name: str, cpu: str = "1", **spec: Any) -> None:
        body = {
            "metadata": {"name": name, "finalizers": ["kept"]},
            "spec": {"containers": [container(cpu)], "tolerations": [TOLERATION], **spec},
        }
        self.server.create(PODS, "default", body, "user")

    def get(self, name: str) -> Json:
        return self.server.get(PODS, "default", name).object

    def phase(self, name: str) -> str:
        return str(self.get(name)["status"]["phase"])

    def condition(self, name: str, kind: str = "PodScheduled") -> Json:
        conditions = self.get(name)["status"].get("conditions", ())
        return next((one for one in conditions if one["type"] == kind), {})

    def ended(self, name: str) -> Json:
        state: Json = self.get(name)["status"]["containerStatuses"][0]["state"]["terminated"]
        return state

    def job(self, **spec: Any) -> None:
        template = {"spec": {"containers": [container("1")], "tolerations": [TOLERATION]}}
        body = {
            "metadata": {"name": "gang"},
            "spec": {
                "completionMode": "Indexed",
                "completions": 3,
                "parallelism": 3,
                "template": template,
                **spec,
            },
        }
        self.server.create(JOBS, "default", body, "operator")

    def job_status(self) -> Json:
        status: Json = self.server.get(JOBS, "default", "gang").object["status"]
        return status

    def pods_by_index(self) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for one in self.server.objects(PODS):
            index = int(one["metadata"]["labels"][LABEL_INDEX])
            found.setdefault(index, []).append(one["status"]["phase"])
        return found


def container(cpu: str) -> Json:
    return {"name": "main", "image": "i", "resources": {"requests": {"cpu": cpu}}}


def simulated(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop = VirtualTimeLoop()
    try:
        loop.run_until_complete(work())
    finally:
        loop.close()


def test_a_pod_runs_and_ends() -> None:
    async def work() -> None:
        cluster = Cluster()
        cluster.pod("p")
        phases = []
        for seconds in (0.5, 1.5, 12):
            await asyncio.sleep(seconds)
            phases.append(cluster.phase("p"))

        assert phases == ["Pending", "Running", "Succeeded"]
        assert cluster.condition("p")["status"] == "True"
        assert cluster.ended("p") == {
            "exitCode": 0,
            "reason": "Completed",
            "startedAt": "2026-01-01T00:00:01Z",
            "finishedAt": "2026-01-01T00:00:11Z",
        }

    simulated(work)


def test_a_pod_that_fits_nowhere_is_told_why_and_stops_no_other() -> None:
    async def work() -> None:
        cluster = Cluster()
        cluster.pod("large", cpu="3")
        cluster.pod("picky", nodeSelector={"gpu": "yes"})
        cluster.pod("untolerant", tolerations=[])
        cluster.pod("small")
        await asyncio.sleep(5)

        assert cluster.phase("small") == "Running"
        assert [
            cluster.condition(name)["message"].partition(".")[0]
            for name in ("large", "picky", "untolerant")
        ] == [
            "0/2 nodes are available: 2 Insufficient cpu",
            "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector",
            "0/2 nodes are available: 2 node(s) had untolerated taint(s)",
        ]

    simulated(work)


def test_pods_spread_and_wait_for_room() -> None:
    async def work() -> None:
        cluster = Cluster()
        for number in range(5):
            cluster.pod(f"p{number}")
        await asyncio.sleep(5)
        nodes = [cluster.get(f"p{number}")["spec"].get("nodeName") for number in range(5)]
        await asyncio.sleep(10)

        assert nodes == ["n1", "n2", "n1", "n2", None]
        assert cluster.phase("p4") == "Running"

    simulated(work)


def test_pods_pack_where_the_scheduler_is_told_to() -> None:
    async def work() -> None:
        cluster = Cluster(strategy=ScoringStrategy.MOST_ALLOCATED)
        for name in ("a", "b", "c"):
            cluster.pod(name)
        await asyncio.sleep(1)
        nodes = [cluster.get(name)["spec"]["nodeName"] for name in ("a", "b", "c")]

        assert nodes == ["n1", "n1", "n2"]

    simulated(work)


def test_a_gated_pod_waits_until_the_gate_is_gone() -> None:
    async def work() -> None:
        cluster = Cluster()
        cluster.pod("p", schedulingGates=[{"name": "gang"}])
        await asyncio.sleep(60)
        before = cluster.phase("p")
        cluster.server.update(
            PODS,
            "default",
            "p",
            lambda old: {**old, "spec": {**old["spec"], "schedulingGates": []}},
            "operator",
        )
        await asyncio.sleep(5)

        assert (before, cluster.phase("p")) == ("Pending", "Running")

    simulated(work)


@pytest.mark.parametrize(
    ("fate", "code"), [(Fate(100.0, 0, 1.0), 143), (Fate(100.0, 7, 1.0), 7)], ids=["term", "own"]
)
def test_a_deleted_pod_ends_within_its_grace_and_stays_for_its_finalizer(
    fate: Fate, code: int
) -> None:
    async def work() -> None:
        cluster = Cluster(lambda _: fate)
        cluster.pod("p")
        await asyncio.sleep(5)
        cluster.server.delete(PODS, "default", "p", "user")
        await asyncio.sleep(5)

        assert cluster.phase("p") == "Failed"
        assert cluster.ended("p")["exitCode"] == code
        assert cluster.get("p")["metadata"]["deletionGracePeriodSeconds"] == 0

    simulated(work)


def test_an_image_that_cannot_be_pulled_is_backed_off_from() -> None:
    async def work() -> None:
        cluster = Cluster(lambda _: Fate(10.0, 0, 1.0, "ErrImagePull"))
        cluster.pod("p")
        reasons = []
        for seconds in (2, 30):
            await asyncio.sleep(seconds)
            state = cluster.get("p")["status"]["containerStatuses"][0]["state"]
            reasons.append(state["waiting"]["reason"])

        assert reasons == ["ErrImagePull", "ImagePullBackOff"]
        assert cluster.phase("p") == "Pending"

    simulated(work)


def test_pods_of_a_lost_node_fail_as_disrupted() -> None:
    async def work() -> None:
        cluster = Cluster(lambda _: Fate(500.0, 0, 1.0))
        cluster.pod("lost")
        cluster.pod("safe")
        await asyncio.sleep(5)
        cluster.server.delete(NODES, None, "n1", "cloud")
        await asyncio.sleep(POD_GC_S / 2)
        between = cluster.phase("lost")
        await asyncio.sleep(POD_GC_S)

        assert (between, cluster.phase("lost")) == ("Running", "Failed")
        assert cluster.phase("safe") == "Running"
        assert cluster.condition("lost", "DisruptionTarget")["reason"] == "DeletionByPodGC"

    simulated(work)


def test_an_indexed_job_completes() -> None:
    async def work() -> None:
        cluster = Cluster()
        cluster.job()
        await asyncio.sleep(5)
        running = cluster.job_status()
        await asyncio.sleep(30)

        assert running["active"] == 3
        done = cluster.job_status()
        assert (done["succeeded"], done["completedIndexes"], done["active"]) == (3, "0-2", 0)
        assert done["conditions"][0]["type"] == "Complete"
        assert cluster.pods_by_index() == {index: ["Succeeded"] for index in range(3)}

    simulated(work)


def test_a_job_without_backoff_fails_as_a_whole() -> None:
    async def work() -> None:
        cluster = Cluster(lambda pod: _fails(pod, index=1))
        cluster.job(backoffLimit=0)
        await asyncio.sleep(30)

        status = cluster.job_status()
        assert status["conditions"][0]["reason"] == "BackoffLimitExceeded"
        assert cluster.pods_by_index()[1] == ["Failed"]

    simulated(work)


def test_a_failed_index_is_tried_again() -> None:
    async def work() -> None:
        failed: list[str] = []

        def once(pod: Json) -> Fate:
            fate = _fails(pod, index=1)
            if fate.exit_code and not failed:
                failed.append(pod["metadata"]["name"])
                return fate
            return Fate(10.0, 0, 1.0)

        cluster = Cluster(once)
        cluster.job(backoffLimit=3)
        await asyncio.sleep(60)

        assert cluster.job_status()["completedIndexes"] == "0-2"
        assert cluster.pods_by_index()[1] == ["Failed", "Succeeded"]

    simulated(work)


def test_a_success_policy_ends_the_job_with_its_main_index() -> None:
    async def work() -> None:
        cluster = Cluster(lambda pod: Fate(5.0 if _index(pod) == 0 else 500.0, 0, 1.0))
        cluster.job(successPolicy={"rules": [{"succeededIndexes": "0"}]})
        await asyncio.sleep(60)

        assert cluster.job_status()["conditions"][0]["reason"] == "SuccessPolicy"
        assert "Running" not in str(cluster.pods_by_index())

    simulated(work)


def _index(pod: Json) -> int:
    return int(pod["metadata"]["labels"][LABEL_INDEX])


def _fails(pod: Json, index: int) -> Fate:
    return Fate(3.0, 1 if _index(pod) == index else 0, 1.0)


def test_a_job_that_its_node_rejects_goes_back_to_runnable_and_loses_no_try() -> None:
    """A Pod that is turned away by a kubelet, of a job and of a child of an array."""
    rejected = {"reason": "OutOfcpu"}
    played = play(
        {"once": {}, "always": {}, "array": {"arrayProperties": {"size": 2}}},
        behaviors=[
            {"job": "once", "attempt": 1, **rejected},
            {"job": "array", "index": 1, "attempt": 1, **rejected},
            {"job": "always", **rejected},
        ],
    )

    assert [played.state(name) for name in ("once", "array")] == ["SUCCEEDED", "SUCCEEDED"]
    assert played.attempts("once") == 2
    assert (played.state("always"), played.attempts("always")) == ("FAILED", 11)
    assert played.reason("always") == "Task failed to start"
