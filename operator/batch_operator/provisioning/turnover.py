"""Nodes that have to go although they are in use: after an infrastructure update, or a deletion.

AWS: the nodes of before take no more jobs, new ones come as jobs ask for them, and what runs may go
on for `updatePolicy.jobExecutionTimeoutMinutes` from the beginning of the update, or is ended at
once with `terminateJobsOnUpdate`. An environment that is deleted lets its jobs come to their end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api import meta
from batch_operator.api.compute_environment import (
    AllocationStrategy,
    EnvironmentUpdate,
    UpdatePolicy,
)
from batch_operator.provisioning.pools import strategy_of
from batch_operator.provisioning.settings import settings_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from batch_operator.api.compute_environment import ComputeEnvironmentSpec
    from batch_operator.provisioning.nodes import Node


@dataclass(frozen=True, slots=True)
class Turnover:
    """Which nodes go. `nodes` are all of them; those that go have a notice."""

    nodes: Mapping[str, Node]
    update: EnvironmentUpdate | None = None
    given_up: tuple[Node, ...] = ()
    """What runs on these has had its time."""
    look_again_at: datetime | None = None


def outdated(spec: ComputeEnvironmentSpec, nodes: Mapping[str, Node]) -> set[str]:
    """Names of nodes that were made with other settings. What says nothing of its own stays."""
    settings = settings_of(spec)
    return {name for name, one in nodes.items() if one.settings not in {None, settings}}


def updated(
    spec: ComputeEnvironmentSpec,
    nodes: Mapping[str, Node],
    busy: Collection[str],
    before: EnvironmentUpdate | None,
    now: datetime,
) -> Turnover:
    """What an infrastructure update does to nodes; `busy` are names of those with jobs on them."""
    old = outdated(spec, nodes)
    if not old or strategy_of(spec) is AllocationStrategy.BEST_FIT:
        return Turnover(nodes)  # AWS: with BEST_FIT there are no infrastructure updates
    update = before
    if update is None or update.settings != settings_of(spec):
        update = EnvironmentUpdate(
            settings=settings_of(spec), started_at=now.replace(microsecond=0)
        )
    policy = spec.update_policy or UpdatePolicy()
    minutes = 0 if policy.terminate_jobs_on_update else policy.job_execution_timeout_minutes
    ends_at = update.started_at + timedelta(minutes=minutes)
    leaving = _leaving(nodes, old)
    waiting = [leaving[name] for name in sorted(old) if name in busy and not nodes[name].notice]
    return Turnover(
        leaving,
        update,
        given_up=tuple(waiting) if now >= ends_at else (),
        look_again_at=ends_at if waiting and now < ends_at else None,
    )


def dissolved(nodes: Mapping[str, Node]) -> Turnover:
    """All nodes of an environment that is being deleted go as soon as nothing runs on them."""
    return Turnover(_leaving(nodes, nodes.keys()))


def _leaving(nodes: Mapping[str, Node], names: Collection[str]) -> Mapping[str, Node]:
    return {
        name: replace(one, notice=one.notice or meta.LABEL_SETTINGS) if name in names else one
        for name, one in nodes.items()
    }
