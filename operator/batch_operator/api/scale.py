"""What a ComputeEnvironment says of objects with a /scale subresource that make its nodes."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import ConfigDict, Field

from batch_operator.api.common import Model, Name, rules


class ScaleIn(StrEnum):
    """How machines are taken away where somebody else chooses which."""

    MARK_MACHINES = "MarkMachines"
    WHEN_POOL_IS_IDLE = "WhenPoolIsIdle"


class ScaleTarget(Model):
    """An object with a /scale subresource whose replicas are the nodes of one pool."""

    instance_type: str = Field(min_length=1, max_length=63, description="The instance type.")
    capacity_type: Literal["on-demand", "spot"] = Field(description="on-demand or spot.")
    api_version: str = Field(
        min_length=1,
        max_length=127,
        pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[0-9]+((alpha|beta)[0-9]+)?$",
        description="Its apiVersion, e.g. cluster.x-k8s.io/v1beta2.",
    )
    resource: str = Field(
        min_length=1,
        max_length=63,
        pattern=r"^[a-z0-9]+$",
        description="Its resource: the plural, e.g. machinedeployments.",
    )
    namespace: Name = Field(description="Its namespace.")
    name: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        description="Its name.",
    )


class ScaleProvisioner(Model):
    """Objects that make nodes, and are told how many by their /scale subresource."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.scaleIn) || self.scaleIn != 'MarkMachines' || "
                "self.targets.all(x, x.apiVersion.startsWith('cluster.x-k8s.io/'))",
                "scaleIn MarkMachines is for Cluster API (apiVersion cluster.x-k8s.io/…): write "
                "WhenPoolIsIdle, for elsewhere nobody can be told which machine is to go",
            ),
        )
    )

    targets: list[ScaleTarget] = Field(
        min_length=1,
        max_length=200,
        description="For each instance type and capacity type of the environment, one object.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["apiVersion", "resource", "namespace", "name"],
        },
    )
    scale_in: ScaleIn = Field(
        default=ScaleIn.WHEN_POOL_IS_IDLE,
        description="MarkMachines: idle machines go one by one, each marked with Cluster API's "
        "delete-machine annotation before replicas is lowered. WhenPoolIsIdle: all of a pool go "
        "once all are idle, since whoever lowers replicas cannot say which go.",
    )
    provision_timeout_minutes: int = Field(
        default=15,
        ge=1,
        le=240,
        description="How long the first machine that was asked for is waited for, in minutes, "
        "before the pool counts as refused and the machine is asked for no more. Once one has "
        "come, five times as long as it took, if that is longer.",
    )
