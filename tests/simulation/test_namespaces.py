"""Namespaces with labels, in scenarios and in snapshots of clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from batch_operator.simulator.recorded import read_recorded
from batch_operator.simulator.run import simulate
from batch_operator.simulator.scenario import InvalidInputError, read_scenario
from support.simulated import ROOT

if TYPE_CHECKING:
    from pathlib import Path

BUSY = ROOT / "examples" / "snapshots" / "busy.yaml"
SCENARIO = """\
apiVersion: batch-operator.io/v1alpha1
kind: ComputeEnvironment
metadata: {name: local}
spec: {type: UNMANAGED, maxvCpus: 4}
---
apiVersion: batch-operator.io/v1alpha1
kind: JobQueue
metadata: {name: main}
spec:
  priority: 1
  computeEnvironmentOrder: [{order: 1, computeEnvironment: local}]
  allowedNamespaces: {selector: SELECTOR}
---
apiVersion: v1
kind: Namespace
metadata: {name: made, labels: {batch: "no"}}
---
apiVersion: batch-operator.io/v1alpha1
kind: JobDefinition
metadata: {name: work, namespace: made}
spec:
  podTemplate: {spec: {containers: [{name: main, image: x, resources: {requests: {cpu: "1"}}}]}}
---
apiVersion: batch-operator.io/v1alpha1
kind: JobDefinition
metadata: {name: work, namespace: implied}
spec:
  podTemplate: {spec: {containers: [{name: main, image: x, resources: {requests: {cpu: "1"}}}]}}
---
apiVersion: batch-operator.io/v1alpha1
kind: BatchJob
metadata: {name: a, namespace: made}
spec: {jobQueue: main, jobDefinition: work}
---
apiVersion: batch-operator.io/v1alpha1
kind: BatchJob
metadata: {name: b, namespace: implied}
spec: {jobQueue: main, jobDefinition: work}
---
apiVersion: batch-operator.io/v1alpha1
kind: Scenario
spec:
  until: 30m
  events:
    - at: 100s
      patch: {kind: Namespace, name: made, metadata: {labels: {batch: "yes"}}}
"""
SELECTORS: dict[str, tuple[str, set[str]]] = {
    "a label that one gets later": ("{matchLabels: {batch: 'yes'}}", {"made/a"}),
    "the name of one that nobody has made": (
        "{matchLabels: {kubernetes.io/metadata.name: implied}}",
        {"implied/b"},
    ),
    "the name of one that was made": (
        "{matchLabels: {kubernetes.io/metadata.name: made}}",
        {"made/a"},
    ),
    "what none has": ("{matchExpressions: [{key: batch, operator: DoesNotExist}]}", {"implied/b"}),
}


@pytest.mark.parametrize("name", SELECTORS)
def test_a_queue_takes_the_jobs_of_namespaces_with(name: str, tmp_path: Path) -> None:
    selector, expected = SELECTORS[name]
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO.replace("SELECTOR", selector), encoding="utf-8")
    outcome = simulate(read_scenario([path]))
    states = {job: state for job, (state, _) in outcome.states().items()}

    assert outcome.violations == ()
    assert {job for job, state in states.items() if state == "SUCCEEDED"} == expected


def test_a_namespace_is_not_deleted_with_all_that_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    event = 'patch: {kind: Namespace, name: made, metadata: {labels: {batch: "yes"}}}'
    text = SCENARIO.replace("SELECTOR", "{}").replace(
        event, "delete: {kind: Namespace, name: made}"
    )
    path.write_text(text, encoding="utf-8")

    with pytest.raises(InvalidInputError, match="there is no Namespace: write one of BatchJob"):
        read_scenario([path])


def snapshot(*namespaces: dict[str, Any]) -> list[Any]:
    """The example's, with a queue that selects namespaces, and these."""
    [found] = yaml.safe_load_all(BUSY.read_text(encoding="utf-8"))
    for one in found["items"]:
        if one["kind"] == "JobQueue":
            one["spec"]["allowedNamespaces"] = {"selector": {"matchLabels": {"batch": "yes"}}}
    return [{**found, "items": [*found["items"], *namespaces]}]


def namespace(**labels: str) -> dict[str, Any]:
    metadata = {
        "name": "default",
        "uid": "0e0c0f6e-0099",
        "creationTimestamp": "2026-10-01T00:00:00Z",
        "labels": labels,
    }
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


@pytest.mark.parametrize(("value", "succeeded"), [("yes", 6), ("no", 1)])
def test_a_snapshot_has_the_labels_of_its_namespaces(value: str, succeeded: int) -> None:
    """One job runs when it is taken, five wait."""
    recorded = read_recorded(snapshot(namespace(batch=value)), "snapshot")
    outcome = simulate(read_scenario([], recorded), until_s=3600)
    ended = [one for one in outcome.finals if one["state"] == "SUCCEEDED" and one["stoppedAt"] > 0]

    assert len(ended) == succeeded


def test_a_snapshot_without_namespaces_cannot_be_gone_on_from_where_labels_decide() -> None:
    with pytest.raises(InvalidInputError, match="selects namespaces by their labels, but no Name"):
        read_recorded(snapshot(), "snapshot")
