"""The reply to a create is lost, the Pod is there: its capacity stays taken all the time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.cluster.client import PODS, ApiError
from batch_operator.simulator import run as run_module
from batch_operator.simulator.api_client import Distance, SimulatedApiClient
from batch_operator.simulator.scenario import read_scenario

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest

    from batch_operator.cluster.client import Resource
    from batch_operator.simulator.api_server import ApiServer


TWO_JOBS_FOR_ONE_VCPU = """\
apiVersion: batch-operator.io/v1alpha1
kind: ComputeEnvironment
metadata: {name: local}
spec: {type: UNMANAGED, maxvCpus: 1}
---
apiVersion: batch-operator.io/v1alpha1
kind: JobQueue
metadata: {name: main}
spec: {priority: 1, computeEnvironmentOrder: [{order: 1, computeEnvironment: local}]}
---
apiVersion: batch-operator.io/v1alpha1
kind: JobDefinition
metadata: {name: work}
spec:
  podTemplate:
    spec: {containers: [{name: main, image: i, resources: {requests: {cpu: "1"}}}]}
---
apiVersion: batch-operator.io/v1alpha1
kind: BatchJob
metadata: {name: first}
spec: {jobQueue: main, jobDefinition: work}
---
apiVersion: batch-operator.io/v1alpha1
kind: BatchJob
metadata: {name: second}
spec: {jobQueue: main, jobDefinition: work}
"""


class ForgetfulApiClient(SimulatedApiClient):
    """Loses the reply to the first Pod, and hears of everything five seconds late."""

    def __init__(self, server: ApiServer, actor: str) -> None:
        super().__init__(server, actor, Distance(watch_lag_s=5.0))
        self._lost = False

    async def create(
        self, resource: Resource, namespace: str | None, body: Mapping[str, Any]
    ) -> bytes:
        reply = await super().create(resource, namespace, body)
        if resource is PODS and not self._lost:
            self._lost = True
            raise ApiError(0, "NoReply", "the connection broke")
        return reply


def test_capacity_stays_taken_while_nobody_knows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run_module, "SimulatedApiClient", ForgetfulApiClient)
    path = tmp_path / "two-jobs.yaml"
    path.write_text(TWO_JOBS_FOR_ONE_VCPU, encoding="utf-8")
    outcome = run_module.simulate(read_scenario([path]))

    assert [str(one) for one in outcome.violations] == []
