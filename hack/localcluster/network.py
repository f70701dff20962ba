"""The real node's network: a namespace of its own, and a wire from it to this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from localcluster import controlplane, processes
from localcluster.layout import wire

if TYPE_CHECKING:
    from localcluster.layout import Cluster, Facts

NAMESPACES = Path("/run/netns")
INTERFACES = Path("/sys/class/net")


def node_address(facts: Facts) -> str:
    return f"10.213.{facts.subnet}.2"


def pod_addresses(facts: Facts) -> str:
    return f"10.214.{facts.subnet}.0/24"


def entering(cluster: Cluster) -> list[str]:
    """What to put before a command so that it runs in the node's network."""
    # Not `ip netns exec`: it mounts a new /sys, which hides the cgroups from the kubelet.
    return ["nsenter", f"--net={NAMESPACES / cluster.namespace}"]


def is_whole(cluster: Cluster, facts: Facts) -> bool:
    """Whether the network stands, and not only what an unclean end left of it.

    The namespace's file outlives a reboot where /run is on disk, but then nothing is mounted there.
    The route is made last, and goes with the wire and with the wire's other end.
    """
    if not os.path.ismount(NAMESPACES / cluster.namespace):
        return False
    route = ["ip", "route", "show", pod_addresses(facts), "dev", wire(facts.subnet)]
    return bool(processes.run(route, check=False).strip())


def make(cluster: Cluster, facts: Facts) -> None:
    """Build the network.

    Raises:
        ClusterError: a step of it failed; nothing of it is left.
    """
    try:
        _join(cluster, facts)
    except BaseException:  # Ctrl-C too
        remove(cluster, facts)
        raise


def remove(cluster: Cluster, facts: Facts) -> None:
    """Remove what there is of the network; its addresses and routes go with it."""
    if (NAMESPACES / cluster.namespace).exists():
        processes.run(["ip", "netns", "delete", cluster.namespace], check=False)
    if (INTERFACES / wire(facts.subnet)).exists():
        processes.run(["ip", "link", "delete", wire(facts.subnet)], check=False)


def _join(cluster: Cluster, facts: Facts) -> None:
    space, outside = cluster.namespace, wire(facts.subnet)
    host, node = controlplane.host_address(facts), node_address(facts)
    run = processes.run
    run(["ip", "netns", "add", space])
    run(["ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", space])
    run(["ip", "address", "add", f"{host}/30", "dev", outside])
    run(["ip", "link", "set", outside, "up"])
    inside = ["ip", "-n", space]
    run([*inside, "link", "set", "lo", "up"])
    run([*inside, "address", "add", f"{node}/30", "dev", "eth0"])
    run([*inside, "link", "set", "eth0", "up"])
    run([*inside, "route", "add", "default", "via", host])
    forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
    run(["ip", "netns", "exec", space, "sh", "-c", forward])
    # Pods reach the API server, and replies find their way back, without address translation.
    run(["ip", "route", "replace", pod_addresses(facts), "via", node])
