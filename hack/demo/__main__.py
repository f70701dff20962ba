"""See `hack/demo/__init__.py`; `--context NAME` runs on a cluster that exists already."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live

from demo.table import Row, rows_of, table
from localcluster import controlplane, crds, processes, programs
from localcluster.layout import REPOSITORY, Cluster, ClusterError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES = REPOSITORY / "examples"
PATIENCE_S = 300.0
OPERATOR = "batch-operator"


def main() -> None:
    parser = argparse.ArgumentParser(prog="hack/demo", description=__doc__)
    parser.add_argument("--name", help="the local cluster's name (default: demo)")
    parser.add_argument("--context", help="a context of your kubeconfig instead of a new cluster")
    parser.add_argument("--port", type=int, default=0, help="for the operator's probes and metrics")
    arguments = parser.parse_args()
    console = Console()
    cluster = Cluster(arguments.name or ("demo-context" if arguments.context else "demo"))
    try:
        _bring_up(console, cluster, arguments.context)
        _install(console, cluster, arguments.port)
        rows = _watch(console, cluster)
        _say_goodbye(console, cluster, rows)
    except ClusterError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if all(row.state == "SUCCEEDED" for row in rows) else 1)


def _bring_up(console: Console, cluster: Cluster, context: str | None) -> None:
    console.rule("1. A Kubernetes cluster")
    command = [str(REPOSITORY / "hack" / "cluster"), "up", "--name", cluster.name]
    if context:
        command += ["--context", context]
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit(1)


def _install(console: Console, cluster: Cluster, port: int) -> None:
    console.rule("2. The custom resources and the operator")
    crds.serve(controlplane.kubectl_command(cluster), "-f", str(REPOSITORY / "crds"))
    processes.start(
        cluster,
        OPERATOR,
        [
            str(Path(sys.executable).parent / "batch-operator"),
            "run",
            f"--kubeconfig={cluster.kubeconfig}",
            f"--port={port}",
        ],
    )
    processes.wait_until(
        cluster,
        OPERATOR,
        lambda: "has been listed once" in cluster.log(OPERATOR).read_text(encoding="utf-8"),
    )
    console.print(f"The operator runs on this machine; its log: {cluster.log(OPERATOR)}")
    console.rule("3. The examples")
    # A second demonstration runs the jobs again: what a job is to do cannot be changed.
    controlplane.kubectl(
        cluster, "delete", "-f", str(EXAMPLES), "--ignore-not-found", "--wait=true"
    )
    console.print(controlplane.kubectl(cluster, "apply", "-f", str(EXAMPLES)), end="")


def _watch(console: Console, cluster: Cluster) -> list[Row]:
    """Show the jobs until all have ended."""
    give_up = time.monotonic() + PATIENCE_S
    shown: dict[str, str] = {}
    rows = rows_of(_jobs(cluster))
    live = Live(table(rows), console=console, refresh_per_second=4)
    with live:
        while not rows or not all(row.is_final for row in rows):
            if time.monotonic() > give_up:
                raise ClusterError(
                    f"the jobs have not ended in {PATIENCE_S:.0f} s; see\n"
                    f"  kubectl --kubeconfig {cluster.kubeconfig} describe batchjobs"
                )
            time.sleep(0.25)
            rows = rows_of(_jobs(cluster))
            live.update(table(rows))
            if not console.is_terminal:
                _print_changes(console, rows, shown)
    return rows


def _print_changes(console: Console, rows: Sequence[Row], shown: dict[str, str]) -> None:
    for row in rows:
        if shown.get(row.name) != row.summary:
            shown[row.name] = row.summary
            console.print(f"  {row.name:10s} {row.summary}", highlight=False, soft_wrap=True)


def _jobs(cluster: Cluster) -> list[dict[str, Any]]:
    reply = controlplane.kubectl(cluster, "get", "batchjobs", "-n", "default", "-o", "json")
    jobs: list[dict[str, Any]] = json.loads(reply)["items"]
    return jobs


def _say_goodbye(console: Console, cluster: Cluster, rows: Sequence[Row]) -> None:
    facts = cluster.facts()
    is_played = facts is not None and facts.has_fake_nodes_only
    console.rule("4. One job's log")
    if is_played:
        console.print(
            "There is none: this cluster has fake nodes only, on which no container really ran.\n"
            "hack/cluster up says why; where a real node can run, the jobs print their logs here."
        )
    else:
        pods = ["-l", "batch-operator.io/job-name=hello"]
        log = controlplane.kubectl(cluster, "logs", *pods, "--tail=20")
        console.print(log, end="", markup=False)
    console.rule("Next")
    ended = sum(row.state == "SUCCEEDED" for row in rows)
    lines = (
        f"{ended} of {len(rows)} jobs succeeded. The cluster and the operator go on running:",
        f"  export KUBECONFIG={cluster.kubeconfig}",
        *(() if shutil.which("kubectl") else (f"  alias kubectl={programs.path('kubectl')}",)),
        "  kubectl get batchjobs,jobqueues,computeenvironments",
        "  kubectl describe batchjob render",
        *(() if is_played else ("  kubectl logs -l batch-operator.io/job-name=render --prefix",)),
        "  kubectl explain batchjob.spec.arrayProperties",
        "make clean-demo removes all of it.",
    )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
