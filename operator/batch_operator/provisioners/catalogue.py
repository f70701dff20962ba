"""All provisioners, by the type that an environment names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api.compute_environment import ProvisionerType
from batch_operator.provisioners.kwok.provisioner import KwokProvisioner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_operator.cluster.client import ApiClient
    from batch_operator.cluster.provisioner import Provisioner


def provisioners(client: ApiClient) -> Mapping[ProvisionerType, Provisioner]:
    """One of each, all of them asking the same API server."""
    return {ProvisionerType.KWOK: KwokProvisioner(client)}


def simulated_provisioners(client: ApiClient) -> Mapping[ProvisionerType, Provisioner]:
    """In a simulation all nodes are fake, whatever makes them elsewhere."""
    return dict.fromkeys(ProvisionerType, KwokProvisioner(client))
