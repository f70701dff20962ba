"""All provisioners, by the type that an environment names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api.compute_environment import ProvisionerType
from batch_operator.provisioners.karpenter.provisioner import KarpenterProvisioner
from batch_operator.provisioners.kwok.provisioner import KwokProvisioner
from batch_operator.provisioners.none.provisioner import RequestingProvisioner
from batch_operator.provisioners.scale.provisioner import ScaleProvisioner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from batch_operator.cluster.client import ApiClient
    from batch_operator.cluster.clock import Clock
    from batch_operator.cluster.provisioner import Provisioner
    from batch_operator.provisioners.kwok.behaviour import Behaviour
    from batch_operator.provisioning.pools import PoolKey
    from batch_operator.scheduling.snapshot import Environment


def provisioners(
    client: ApiClient, clock: Clock, saw: Callable[[bytes], None]
) -> Mapping[ProvisionerType, Provisioner]:
    """One of each. `saw` is told of every Node that they write."""
    return {
        ProvisionerType.KWOK: KwokProvisioner(client, clock, saw),
        ProvisionerType.KARPENTER: KarpenterProvisioner(client),
        ProvisionerType.NONE: RequestingProvisioner(client, clock),
        ProvisionerType.SCALE: ScaleProvisioner(client, saw),
    }


def simulated_provisioners(
    client: ApiClient,
    clock: Clock,
    saw: Callable[[bytes], None],
    behaviour: Callable[[Environment, PoolKey], Behaviour | None],
) -> Mapping[ProvisionerType, Provisioner]:
    """In a simulation all nodes are fake, whatever makes them elsewhere."""
    return dict.fromkeys(ProvisionerType, KwokProvisioner(client, clock, saw, behaviour))
