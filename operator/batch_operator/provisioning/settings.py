"""The settings that a node is made with: a change of these is AWS's infrastructure update.

AWS tells two updates of a compute environment apart. A scaling update changes how many nodes there
are, and keeps those that exist: minvCpus and maxvCpus, `scalingPolicy`, the state. An
infrastructure update changes what nodes are made of, and replaces all of them: instance types, the
types of capacity, the allocation strategy, the bid. A change of both is an infrastructure update.
(User guide, "Update a compute environment in AWS Batch".)

Beyond AWS's fields: prices and `nodeOverhead` say how nodes are reckoned with, not what they are,
and neither does the order of lists; kwok's settings are the weather that fake nodes live in, and a
time limit is no part of the machine that it waits for. None of these replaces a node.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from batch_operator.api.quantity import memory_bytes
from batch_operator.provisioning.pools import capacity_types, strategy_of

if TYPE_CHECKING:
    from pydantic.main import IncEx

    from batch_operator.api.compute_environment import ComputeEnvironmentSpec

_LENGTH = 16
_NOT_OF_NODES: dict[str, IncEx | bool] = {"kwok": True, "scale": {"provision_timeout_minutes"}}


def settings_of(spec: ComputeEnvironmentSpec) -> str:
    """The value of the label `batch-operator.io/infrastructure-settings` for new nodes.

    A digest, the same whatever the settings' order and spelling. To add something here replaces
    every node of every environment that has it set, so what is not set is left out.
    """
    provisioner = spec.provisioner
    settings = {
        "instanceTypes": sorted(
            (one.name, one.vcpus, memory_bytes(one.memory), one.gpus) for one in spec.instance_types
        ),
        "capacityTypes": sorted(capacity_types(spec)),
        "allocationStrategy": strategy_of(spec),
        "bidPercentage": spec.bid_percentage,
        "provisioner": provisioner
        and provisioner.model_dump(
            mode="json", by_alias=True, exclude=_NOT_OF_NODES, exclude_none=True
        ),
    }
    text = json.dumps({name: one for name, one in settings.items() if one}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]
