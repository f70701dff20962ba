"""See `hack/bench/__init__.py`. Prints a table in Markdown; `docs/measurements.md` keeps one."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.audit import AuditLog
from bench.cluster import CLUSTER, OPERATOR, bring_up, create, kubectl, wait
from bench.manifests import ours
from localcluster import processes
from localcluster.layout import COMPUTE_ENVIRONMENT_LABEL, FAKE_NODE_ENVIRONMENT, ClusterError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from bench.audit import Write

AGENT = "batch-operator/"
AUDIT_DELAY_S = 35.0
"""The API server writes its log in batches, at least every half a minute."""
TICKS = os.sysconf("SC_CLK_TCK")
CONTAINER = {
    "name": "main",
    "image": "busybox:1",
    "command": ["true"],
    "resources": {"requests": {"cpu": "100m"}},
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000, help="single jobs (default: 1000)")
    parser.add_argument("--children", type=int, default=10_000, help="of the array and the Job")
    parser.add_argument("--nodes", type=int, default=40, help="fake nodes (default: 40)")
    arguments = parser.parse_args()
    try:
        _bring_up(arguments.nodes)
        rows = [
            _measure(f"{arguments.jobs} single jobs", arguments.jobs, _singles(arguments.jobs)),
            _measure(f"array of {arguments.children}", arguments.children,
                     [_job("array", arrayProperties={"size": arguments.children})]),
            _measure(f"Indexed Job of {arguments.children}", arguments.children,
                     [_indexed_job(arguments.children)]),
        ]  # fmt: skip
    except ClusterError as error:
        sys.exit(f"error: {error}")
    _print(rows)


@dataclass(frozen=True, slots=True)
class Row:
    """What one workload took. `writes` and `cpu_s` are the operator's own."""

    name: str
    units: int
    seconds: float
    writes: Counter[Write]
    cpu_s: float
    peak_mib: int
    object_bytes: int


def _bring_up(nodes: int) -> None:
    bring_up(nodes)
    environment = {"type": "UNMANAGED", "maxvCpus": 100_000}
    order = [{"order": 1, "computeEnvironment": FAKE_NODE_ENVIRONMENT}]
    create(
        ours("ComputeEnvironment", FAKE_NODE_ENVIRONMENT, environment),
        ours("JobQueue", "bench", {"priority": 1, "computeEnvironmentOrder": order}),
        ours("JobDefinition", "bench", {"podTemplate": {"spec": {"containers": [CONTAINER]}}}),
        verb="apply",
    )


def _measure(name: str, units: int, objects: Sequence[dict[str, Any]]) -> Row:
    """Run one workload to its end and count what it took; its Pods are removed afterwards."""
    print(f"{name} …", flush=True)
    kind = objects[0]["kind"].lower()
    audit, cpu_s, begun = AuditLog(CLUSTER.audit_log), _cpu_s(), time.monotonic()
    create(*objects)
    wait(lambda: _complete(kind) == len(objects), name)
    seconds = time.monotonic() - begun
    tracked = ("get", "pods", "-l", "batch-operator.io/tracked", "-o", "name")
    wait(lambda: not kubectl(*tracked), "the Pods to be let go")
    time.sleep(AUDIT_DELAY_S)
    stored = kubectl("get", kind, objects[0]["metadata"]["name"], "-o", "json")
    row = Row(
        name=name,
        units=units,
        seconds=seconds,
        writes=audit.count(AGENT),
        cpu_s=_cpu_s() - cpu_s,
        peak_mib=_peak_mib(),
        object_bytes=len(json.dumps(json.loads(stored), separators=(",", ":"))),
    )
    print(f"  {seconds:.0f} s, {sum(row.writes.values())} own writes", flush=True)
    kubectl("delete", kind, "--all", "--wait=false")
    wait(lambda: not kubectl("get", f"{kind},pods", "-o", "name"), "everything to go")
    return row


def _print(rows: Sequence[Row]) -> None:
    print(
        "\n| workload | seconds | per second | own writes | per unit | CPU ms per unit "
        "| peak MiB | object bytes |\n| --- | --: | --: | --: | --: | --: | --: | --: |"
    )
    for row in rows:
        writes = sum(row.writes.values())
        print(
            f"| {row.name} | {row.seconds:.0f} | {row.units / row.seconds:.0f} | {writes} "
            f"| {writes / row.units:.2f} | {1000 * row.cpu_s / row.units:.1f} | {row.peak_mib} "
            f"| {row.object_bytes} |"
        )
    print("\nOwn writes by kind:")
    for row in rows:
        kinds = ", ".join(f"{n} {verb} {what}" for (verb, what), n in row.writes.most_common())
        print(f"- {row.name}: {kinds or 'none'}")
    array, indexed = rows[-2:]
    print(f"\nArray against Indexed Job: {array.seconds / indexed.seconds:.2f} times the time.")


def _singles(count: int) -> list[dict[str, Any]]:
    return [_job(f"single-{number}") for number in range(count)]


def _job(name: str, **spec: Any) -> dict[str, Any]:
    return ours("BatchJob", name, {"jobQueue": "bench", "jobDefinition": "bench", **spec})


def _indexed_job(count: int) -> dict[str, Any]:
    """The same Pods by Kubernetes' own controller."""
    label = {COMPUTE_ENVIRONMENT_LABEL: FAKE_NODE_ENVIRONMENT}
    toleration = {
        "key": COMPUTE_ENVIRONMENT_LABEL,
        "operator": "Equal",
        "value": FAKE_NODE_ENVIRONMENT,
    }
    pod = {
        "restartPolicy": "Never",
        "nodeSelector": label,
        "tolerations": [toleration],
        "containers": [CONTAINER],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "indexed"},
        "spec": {
            "completionMode": "Indexed",
            "completions": count,
            "parallelism": count,
            "template": {"spec": pod},
        },
    }


def _complete(kind: str) -> int:
    path = "{range .items[*]}{.status.conditions[?(@.type=='Complete')].status}{'\\n'}{end}"
    return kubectl("get", kind, "-o", f"jsonpath={path}").split().count("True")


def _pid() -> int:
    pid = processes.pid_of(CLUSTER, OPERATOR)
    if pid is None:
        raise ClusterError(f"the operator has ended; its log: {CLUSTER.log(OPERATOR)}")
    return pid


def _cpu_s() -> float:
    """User and system time of the operator so far."""
    fields = Path(f"/proc/{_pid()}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _peak_mib() -> int:
    status = Path(f"/proc/{_pid()}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line) // 1024


main()
