"""A Pod where capacity comes with each Pod: as large as the size that is paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.api.amounts import Amounts
from batch_operator.api.quantity import memory_bytes, memory_text, milli_cpu
from batch_operator.lifecycle.plan import Invalid, requested
from batch_operator.provisioning.serverless import rounded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_operator.api.serverless import ServerlessProvisioner


def raised(spec: Mapping[str, Any], section: ServerlessProvisioner) -> dict[str, Any]:
    """A Pod's spec whose requests make up a whole size: the first container gets what is over.

    AWS: Fargate rounds up what containers ask for; what is added to it for Kubernetes' own parts
    stays out of the requests.
    """
    asked = requested({"spec": {"initContainers": (), **spec}})
    assert not isinstance(asked, Invalid)  # it could be read when the job was planned
    size = rounded(asked, section)
    assert size is not None  # such an environment suits no job that has none
    room = Amounts(size.milli_cpu, size.memory - memory_bytes(section.memory_overhead))
    running = requested({"spec": {**spec, "initContainers": _sidecars(spec)}})
    over = room - (running if not isinstance(running, Invalid) else Amounts())
    holder = "resources" in spec and (spec["resources"] or {}).get("requests")
    if holder:
        return {**spec, "resources": _with_more(spec["resources"], over)}
    first, *others = spec["containers"]
    resources = _with_more(first.get("resources") or {}, over)
    return {**spec, "containers": [{**first, "resources": resources}, *others]}


def _sidecars(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Init containers that stay: the others are over when containers run."""
    inits = spec.get("initContainers") or ()
    return [one for one in inits if one.get("restartPolicy") == "Always"]


def _with_more(resources: Mapping[str, Any], over: Amounts) -> dict[str, Any]:
    """Requests with more in them; a limit below its request is raised to it."""
    limits = dict(resources.get("limits") or {})
    requests = {**limits, **(resources.get("requests") or {})}
    cpu = milli_cpu(requests.get("cpu", 0)) + over.milli_cpu
    memory = memory_bytes(requests.get("memory", 0)) + over.memory
    requests |= {"cpu": f"{cpu}m", "memory": memory_text(memory)}
    if "cpu" in limits and milli_cpu(limits["cpu"]) < cpu:
        limits["cpu"] = requests["cpu"]
    if "memory" in limits and memory_bytes(limits["memory"]) < memory:
        limits["memory"] = requests["memory"]
    return {**resources, "requests": requests, **({"limits": limits} if limits else {})}
