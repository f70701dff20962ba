"""What provisioners say of an environment, from their mouth to its status."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api.compute_environment import CapacityType, ComputeEnvironmentStatus
from batch_operator.provisioning.pools import PoolKey
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.memo import Memo
from batch_operator.scheduling.mutations import WriteStatus
from batch_operator.scheduling.snapshot import Changes, ProvisionerReport, Snapshot
from support.builders import START
from support.scaled import scale_environment

if TYPE_CHECKING:
    from batch_operator.scheduling.snapshot import Environment

SMALL = PoolKey("small", CapacityType.ON_DEMAND)


def after(
    minutes: float, memo: Memo, report: ProvisionerReport, environment: Environment | None = None
) -> ComputeEnvironmentStatus | None:
    """The status of an environment, unless given of one that keeps two nodes which never come."""
    environment = environment or scale_environment("MarkMachines", minvCpus=4)
    result = run_cycle(
        Snapshot(
            now=START + timedelta(minutes=minutes),
            jobs={},
            job_uids={},
            attempts={},
            definitions={},
            queues={},
            environments={"burst": environment},
            refusals={},
            reports={"burst": report},
            changes=Changes(environments={"burst"}),
        ),
        memo,
    )
    found = [
        one.status
        for one in result.mutations
        if isinstance(one, WriteStatus) and isinstance(one.status, ComputeEnvironmentStatus)
    ]
    return found[-1] if found else None


def test_what_should_be_mended_is_told_by_a_condition() -> None:
    status = after(0, Memo(), ProvisionerReport(problem="add the taint"))

    assert status is not None
    [degraded] = [one for one in status.conditions if one.type == "Degraded"]
    assert (degraded.reason, degraded.message) == ("ProvisionerProblem", "add the taint")
    assert status.status == "VALID"


def test_what_keeps_an_environment_from_going_is_told_too() -> None:
    ending = replace(scale_environment(), deleting=True)
    report = ProvisionerReport(problem="the operator may not list nodepools", is_invalid=True)
    status = after(0, Memo(), report, ending)

    assert status is not None
    assert (status.status, status.status_reason) == (
        "DELETING",
        "takes nothing new; goes when its jobs have ended and 0 nodes are removed; its provisioner "
        "cannot go on: the operator may not list nodepools",
    )


def test_nodes_that_never_come_are_refused_in_the_words_of_who_makes_them() -> None:
    memo, report = Memo(), ProvisionerReport(waits={SMALL: "MachinesReady: out of quota"})
    after(0, memo, report)

    status = after(16, memo, report)

    assert status is not None
    assert [one.message for one in status.pools] == [
        "no node of it became ready within 900 s: MachinesReady: out of quota"
    ]
