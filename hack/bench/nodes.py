"""`make bench-nodes`: nodes that follow demand, from none to many and back, on a real API server.

An array of 2,000 children of one vCPU each meets an environment of 400 vCPUs without a node. Once a
second is noted what the array asks for, what the environment says there should be, and what there
is. Prints a table in Markdown and draws docs/images/nodes.svg.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.chart import Curve, chart
from bench.cluster import bring_up, create, kubectl
from bench.manifests import ours
from localcluster.layout import COMPUTE_ENVIRONMENT_LABEL, REPOSITORY, ClusterError

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "elastic"
VCPUS_PER_NODE = 4
START_UP_S, RUN_S = 15, 30
EVERY_S, ROWS = 1.0, 15
PATIENCE_S = 900.0
PICTURE = REPOSITORY / "docs" / "images" / "nodes.svg"


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one time: children that hold or want a node, and nodes."""

    at_s: float
    runnable: int
    running: int
    ended: int
    desired: int
    exist: int
    ready: int


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-nodes", description=__doc__)
    parser.add_argument("--children", type=int, default=2000, help="of the array (2000)")
    parser.add_argument("--nodes", type=int, default=100, help="the most nodes (100)")
    arguments = parser.parse_args()
    try:
        bring_up(fake_nodes=1)
        samples = _run(arguments.children, arguments.nodes)
    except ClusterError as error:
        sys.exit(f"error: {error}")
    _print(samples)
    _check(samples, arguments.children, arguments.nodes)
    if (arguments.children, arguments.nodes) == (2000, 100):
        PICTURE.write_text(_picture(samples), encoding="utf-8")
        print(f"\nwrote {PICTURE.relative_to(REPOSITORY)}")


def _objects(children: int, nodes: int) -> list[dict[str, Any]]:
    container = {
        "name": "main",
        "image": "busybox:1",
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
    }
    template = {
        "metadata": {"annotations": {"fake.batch-operator.io/runtime": f"{RUN_S}s"}},
        "spec": {"containers": [container]},
    }
    environment = {
        "type": "MANAGED",
        "maxvCpus": nodes * VCPUS_PER_NODE,
        "instanceTypes": [{"name": "fake", "vcpus": VCPUS_PER_NODE, "memory": "16Gi"}],
        "provisioner": {"type": "kwok", "kwok": {"startUpSeconds": START_UP_S}},
        "scalingPolicy": {"minScaleDownDelayMinutes": 0},
    }
    order = [{"order": 1, "computeEnvironment": NAME}]
    job = {"jobQueue": NAME, "jobDefinition": NAME, "arrayProperties": {"size": children}}
    return [
        ours("ComputeEnvironment", NAME, environment),
        ours("JobQueue", NAME, {"priority": 1, "computeEnvironmentOrder": order}),
        ours("JobDefinition", NAME, {"podTemplate": template}),
        ours("BatchJob", NAME, job),
    ]


def _run(children: int, nodes: int) -> list[Sample]:
    """From the array's submission until the last node is gone."""
    create(*_objects(children, nodes), verb="apply")
    begun, samples = time.monotonic(), []
    while True:
        at_s = time.monotonic() - begun
        samples.append(_sample(at_s))
        last = samples[-1]
        if last.ended == children and not last.exist:
            return samples
        if at_s > PATIENCE_S:
            raise ClusterError(f"not over after {PATIENCE_S:.0f} s: {last}")
        print(
            f"  {at_s:4.0f} s: {last.ended} ended, {last.ready} nodes ready", end="\r", flush=True
        )
        time.sleep(max(0.0, EVERY_S - (time.monotonic() - begun - at_s)))


def _sample(at_s: float) -> Sample:
    found = json.loads(
        kubectl("get", f"computeenvironment/{NAME}", f"batchjob/{NAME}", "-o", "json")
    )
    environment, job = (one.get("status", {}) for one in found["items"])
    states = job.get("array", {}).get("statusSummary", {})
    nodes = kubectl(
        "get", "nodes", "-l", f"{COMPUTE_ENVIRONMENT_LABEL}={NAME}", "--no-headers"
    ).splitlines()
    return Sample(
        at_s=at_s,
        runnable=states.get("RUNNABLE", 0),
        running=states.get("STARTING", 0) + states.get("RUNNING", 0),
        ended=states.get("SUCCEEDED", 0) + states.get("FAILED", 0),
        desired=environment.get("nodes", {}).get("desired", 0),
        exist=len(nodes),
        ready=sum(line.split()[1] == "Ready" for line in nodes),
    )


def _print(samples: Sequence[Sample]) -> None:
    print(
        "\n| seconds | runnable | running | ended | nodes desired | nodes | ready |"
        "\n| --: | --: | --: | --: | --: | --: | --: |"
    )
    stride = max(1, len(samples) // ROWS)
    for one in [*samples[::stride], samples[-1]]:
        print(
            f"| {one.at_s:.0f} | {one.runnable} | {one.running} | {one.ended} | {one.desired} "
            f"| {one.exist} | {one.ready} |"
        )


def _check(samples: Sequence[Sample], children: int, nodes: int) -> None:
    """The promises, read from what the cluster holds at the end."""
    most = max(one.exist for one in samples)
    job = json.loads(kubectl("get", "batchjob", NAME, "-o", "json"))["status"]
    again = kubectl("get", "pods", "-l", "batch-operator.io/attempt!=1", "-o", "name").split()
    print(
        f"\nAt most {most} nodes ({most * VCPUS_PER_NODE} vCPUs of {nodes * VCPUS_PER_NODE}); "
        f"{job['array']['statusSummary'].get('SUCCEEDED', 0)} of {children} succeeded, "
        f"{len(again) or 'none'} after being stopped."
    )
    if most > nodes or again:
        sys.exit("error: maxvCpus was exceeded, or a child was stopped")


def _picture(samples: Sequence[Sample]) -> str:
    curves = [
        Curve("demand, in nodes", [(one.at_s, _demand(one)) for one in samples]),
        Curve("desired", [(one.at_s, one.desired) for one in samples]),
        Curve("ready", [(one.at_s, one.ready) for one in samples]),
    ]
    return chart("An array of 2,000 children, 100 nodes at most", "nodes", curves)


def _demand(sample: Sample) -> float:
    """Nodes that all children would need which are not over; of these, those that there may be."""
    return min(100, (sample.runnable + sample.running) / VCPUS_PER_NODE)


if __name__ == "__main__":
    main()
