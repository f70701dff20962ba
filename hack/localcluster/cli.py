"""The command line of the local cluster."""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from localcluster import (
    controlplane,
    fakenodes,
    kindcluster,
    packages,
    privileges,
    processes,
    programs,
    realnode,
)
from localcluster.layout import (
    EMBEDDED,
    EXISTING,
    KIND,
    Cluster,
    ClusterError,
    Facts,
    free_ports,
    free_subnet,
    home,
    known_clusters,
)


def main() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `hack/cluster status | head` is no error
    arguments = _parser().parse_args()
    cluster = Cluster(arguments.name)
    try:
        sys.exit(arguments.action(cluster, arguments))
    except ClusterError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("\ninterrupted: the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def up(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """Bring the cluster up; what runs already is left alone."""
    begun = time.monotonic()
    provider = _provider(cluster, arguments)
    if provider == EXISTING:
        if arguments.context:
            _use_context(cluster, arguments.context)
        cluster.keep(_facts(cluster, arguments, provider))
    elif provider == KIND:
        print("A Docker engine answers: using kind.", flush=True)
        kindcluster.start(cluster)
        cluster.keep(_facts(cluster, arguments, provider))
    else:
        _up_embedded(cluster, arguments)
    took_s = time.monotonic() - begun
    print(f"Cluster {cluster.name!r} is up ({provider}, {took_s:.0f} s).")
    print(f"  export KUBECONFIG={cluster.kubeconfig}")
    return 0


def down(cluster: Cluster, _: argparse.Namespace) -> int:
    """Stop the cluster and forget its data; the programs stay built."""
    if not cluster.folder.exists():
        print(f"Cluster {cluster.name!r} does not exist.")
        return 0
    facts = cluster.facts()
    if facts is not None and facts.provider == KIND:
        kindcluster.stop(cluster)
    elif facts is not None and facts.provider == EMBEDDED:
        if facts.has_real_node:
            realnode.stop(cluster, facts)
        for part in reversed((*controlplane.PARTS, *fakenodes.PARTS)):
            processes.stop(cluster, part)
    for part in processes.parts(cluster):
        processes.stop(cluster, part)
    shutil.rmtree(cluster.folder)
    print(f"Cluster {cluster.name!r} is gone.")
    return 0


def remove(_: Cluster, arguments: argparse.Namespace) -> int:
    """Stop every cluster and delete the state folder with all that was built."""
    for cluster in known_clusters():
        down(cluster, arguments)
    folder = home()
    if folder.exists():
        # Go keeps its module cache read-only.
        subprocess.run(["chmod", "-R", "u+w", str(folder)], check=False)
        shutil.rmtree(folder)
    print(f"{folder} is gone.")
    return 0


def status(cluster: Cluster, _: argparse.Namespace) -> int:
    """Print a table of the parts; 0 when all of them run."""
    facts = cluster.facts()
    if facts is None:
        print(f"Cluster {cluster.name!r} is not up: hack/cluster up --name {cluster.name}")
        return 1
    if facts.provider != EMBEDDED:
        print(f"{cluster.name}: {facts.provider}, kubeconfig {cluster.kubeconfig}")
        return 0 if _answers(cluster) else 1
    wanted = [*controlplane.PARTS, *fakenodes.PARTS]
    wanted += realnode.PARTS if facts.has_real_node else ()
    is_whole = True
    print(f"{'PART':26s} {'PID':>8s}  LOG")
    for part in wanted:
        pid = processes.pid_of(cluster, part)
        is_whole = is_whole and pid is not None
        print(f"{part:26s} {pid or 'stopped':>8}  {cluster.log(part)}")
    print(f"API server: {controlplane.server(facts)}   kubeconfig: {cluster.kubeconfig}")
    return 0 if is_whole else 1


def kubeconfig(cluster: Cluster, _: argparse.Namespace) -> int:
    print(cluster.kubeconfig)
    return 0 if cluster.kubeconfig.exists() else 1


def load(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """Import an image archive into the cluster's nodes."""
    facts = cluster.facts()
    if facts is None:
        raise ClusterError(f"cluster {cluster.name!r} is not up")
    if facts.provider == KIND:
        kindcluster.load(cluster, arguments.archive)
    elif facts.has_real_node:
        realnode.load(cluster, arguments.archive)
    elif facts.provider == EXISTING:
        raise ClusterError("an image gets into a cluster of yours by your registry")
    else:
        raise ClusterError("this cluster has fake nodes only: they run no images")
    return 0


def logs(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """Print the log of a part."""
    path = cluster.log(arguments.part)
    if not path.exists():
        raise ClusterError(f"{path} does not exist: see hack/cluster status for the parts")
    print(path.read_text(encoding="utf-8", errors="replace"), end="")
    return 0


def build(_: Cluster, arguments: argparse.Namespace) -> int:
    """Build the programs, or those that are named."""
    known = {one.name: one for one in (*programs.PROGRAMS, programs.HELM, programs.KIND)}
    unknown = [name for name in arguments.programs if name not in known]
    if unknown:
        raise ClusterError(f"no such program: {unknown[0]}; there are: {', '.join(known)}")
    wanted = [known[name] for name in arguments.programs] or list(programs.PROGRAMS)
    programs.build(wanted)
    for one in wanted:
        print(programs.path_of(one))
    return 0


def _up_embedded(cluster: Cluster, arguments: argparse.Namespace) -> None:
    facts = _embedded_facts(cluster, arguments)
    if facts.has_real_node:
        realnode.refuse_another_owner(cluster)
    packages.install(packages.ALWAYS | (packages.REAL_NODE if facts.has_real_node else {}))
    programs.build([one for one in programs.PROGRAMS if facts.has_real_node or not one.needs_root])
    # Chosen anew: while the programs were built, others may have taken ports and addresses.
    facts = _facts(cluster, arguments, EMBEDDED, has_real_node=facts.has_real_node)
    cluster.keep(facts)
    controlplane.start(cluster, facts)
    fakenodes.start(cluster, facts, arguments.fake_nodes)
    if facts.has_real_node:
        realnode.start(cluster, facts)


def _embedded_facts(cluster: Cluster, arguments: argparse.Namespace) -> Facts:
    """Whether there is a real node is decided once, when the cluster is new."""
    known = cluster.facts()
    obstacle = None if known is not None and known.has_real_node else privileges.obstacle()
    facts = _facts(cluster, arguments, EMBEDDED, has_real_node=obstacle is None)
    if facts.has_fake_nodes_only:
        print(
            f"{obstacle or 'As when it was made'}: the cluster has fake nodes only, on which no "
            "container really runs.",
            flush=True,
        )
    return facts


def _facts(
    cluster: Cluster, arguments: argparse.Namespace, provider: str, *, has_real_node: bool = False
) -> Facts:
    known = cluster.facts()
    if known is not None:
        return known
    ports = free_ports(6)
    return Facts(
        provider=provider,
        subnet=free_subnet(),
        etcd_port=ports[0],
        etcd_peer_port=ports[1],
        api_port=ports[2],
        manager_port=ports[3],
        scheduler_port=ports[4],
        kwok_port=ports[5],
        has_real_node=has_real_node,
        has_audit=arguments.audit,
    )


def _provider(cluster: Cluster, arguments: argparse.Namespace) -> str:
    known = cluster.facts()
    if known is not None:
        if arguments.context and known.provider != EXISTING:
            raise ClusterError(
                f"cluster {cluster.name!r} is up already and is {known.provider}: choose another "
                f"--name for context {arguments.context!r}"
            )
        return known.provider
    if arguments.context:
        return EXISTING
    if arguments.provider != "auto":
        return str(arguments.provider)
    return KIND if kindcluster.is_possible() else EMBEDDED


def _use_context(cluster: Cluster, context: str) -> None:
    """Copy one context of the user's kubeconfig into a file of ours, and see that it answers."""
    programs.build([one for one in programs.PROGRAMS if one.name == "kubectl"])
    config = processes.run(
        [programs.path("kubectl"), "config", "view", "--raw", "--minify", "--flatten"]
        + ["--context", context]
    )
    cluster.folder.mkdir(parents=True, exist_ok=True)
    cluster.kubeconfig.touch(mode=0o600)
    cluster.kubeconfig.write_text(config, encoding="utf-8")
    if not _answers(cluster):
        raise ClusterError(f"context {context!r} does not answer: try kubectl --context {context}")


def _answers(cluster: Cluster) -> bool:
    return controlplane.kubectl_succeeds(cluster, "get", "--raw", "/readyz")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hack/cluster", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="up|down|status|…")
    for action, text in (
        (up, "bring the cluster up"),
        (down, "stop it and forget its data"),
        (status, "show its parts"),
        (kubeconfig, "print the path of its kubeconfig"),
        (load, "import an image archive into its nodes"),
        (logs, "print the log of a part"),
        (build, "build its programs"),
        (remove, "remove every cluster and everything that was built"),
    ):
        verb = verbs.add_parser(action.__name__, help=text, description=text)
        verb.add_argument("--name", default="demo", help="which cluster (default: demo)")
        verb.set_defaults(action=action)
        if action is up:
            verb.add_argument("--provider", choices=["auto", KIND, EMBEDDED], default="auto")
            verb.add_argument("--context", help="use this context of your kubeconfig instead")
            verb.add_argument("--fake-nodes", type=int, default=2, help="fake nodes (default: 2)")
            verb.add_argument("--audit", action="store_true", help="keep an audit log of writes")
        elif action is load:
            verb.add_argument("archive", type=Path, help="a tar as written by docker save")
        elif action is logs:
            verb.add_argument("part")
        elif action is build:
            verb.add_argument("programs", nargs="*", help="which (default: the cluster's)")
    return parser
