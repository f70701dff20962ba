"""Consumable resources: licences, tokens and the like that jobs hold while they run, or use up.

AWS Batch (user guide, "Resource-aware scheduling"): the units are per instance, an array child or a
node; they are locked when the job starts, and a job whose units are not free waits in its place.

- REPLENISHABLE units are held by live attempts, so who holds them can be read off the Pods.
- NON_REPLENISHABLE units never come back. Which children were granted theirs is written into the
  resource's status *before* they start, as index intervals; so a restart neither loses nor doubles
  a unit. A child is granted its units once: a retry of it uses up no more. When its job is over or
  gone, what it was granted becomes part of `spentQuantity`, in the same write; so does what a child
  was granted that was cancelled before it could start, since nothing stored tells the two apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api.consumable_resource import Grant, ResourceType
from batch_operator.api.index_set import IndexSet
from batch_operator.lifecycle.holds import Hold, Reason
from batch_operator.lifecycle.states import FINAL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from batch_operator.scheduling.snapshot import Consumable, Job

Units = tuple[tuple[str, int], ...]
Wishes = dict[str, dict[str, tuple[int, IndexSet]]]
"""By resource and job uid: units per child, and the children that ask for theirs."""
GRANTS_MAX = 1000
"""Jobs that may hold grants of one resource at a time: a bound on the size of its status."""
GRANTS_BYTES_MAX = 400_000
"""Beyond that no other job is granted anything. Arrays whose children are granted theirs in many
pieces take up to 300 KB, and etcd takes no object above 1.5 MiB."""
HOLDERS_BYTES_MAX = 800_000
"""Beyond that nor is a job that has grants, but for the first: so one can always be done."""
_GRANT_BYTES = 200
"""Of a grant beside its indexes, with what metadata.managedFields has of it."""


def is_used_up(resource: Consumable) -> bool:
    """Whether its units never come back."""
    return resource.spec.resource_type is ResourceType.NON_REPLENISHABLE


def free_units(resources: Mapping[str, Consumable], held: Mapping[str, int]) -> dict[str, int]:
    """What nobody holds or was granted, by name; below nothing after a total was lowered."""
    return {
        name: _unspent(one) if is_used_up(one) else one.spec.total_quantity - held.get(name, 0)
        for name, one in resources.items()
    }


def _unspent(resource: Consumable) -> int:
    status = resource.status
    try:
        granted_now = sum(_size(one) for one in status.grants)
    except ValueError:  # not what we have written: nobody knows what is left
        return 0
    return resource.spec.total_quantity - status.spent_quantity - granted_now


def _size(grant: Grant) -> int:
    return grant.quantity * len(IndexSet.parse(grant.indexes))


def granted(units: Units, uid: str, resources: Mapping[str, Consumable]) -> IndexSet | None:
    """The children of a job that have all they use up; None for a job that uses nothing up."""
    found: IndexSet | None = None
    for name, _ in units:
        resource = resources.get(name)
        if resource is not None and is_used_up(resource):
            own = _granted_by(resource, uid)
            found = own if found is None else found & own
    return found


def _granted_by(resource: Consumable, uid: str) -> IndexSet:
    grant = next((one for one in resource.status.grants if one.job_uid == uid), None)
    try:
        return IndexSet.parse(grant.indexes) if grant else IndexSet()
    except ValueError:
        return IndexSet()


def wish(
    wishes: Wishes,
    units: Units,
    uid: str,
    indexes: Sequence[int],
    resources: Mapping[str, Consumable],
) -> None:
    """Note that children of a job ask for what they will use up."""
    those = IndexSet.of(indexes)
    for name, quantity in units if those else ():
        if is_used_up(resources[name]):
            own = wishes.setdefault(name, {})
            _, before = own.get(uid, (quantity, IndexSet()))
            own[uid] = (quantity, before | those)


def grants_bytes(resource: Consumable) -> int:
    """About how many bytes the grants in the status of a resource take in etcd."""
    return sum(_GRANT_BYTES + len(one.indexes) for one in resource.status.grants)


def is_nearly_full(resource: Consumable) -> bool:
    """Whether it can keep but a few grants more."""
    is_many = len(resource.status.grants) >= 0.9 * GRANTS_MAX
    return is_many or grants_bytes(resource) >= 0.9 * GRANTS_BYTES_MAX


def full_of_grants(
    units: Units,
    uid: str,
    resources: Mapping[str, Consumable],
    wishes: Wishes,
    bytes_of: Callable[[Consumable], int] = grants_bytes,
) -> str | None:
    """The resource that a job would use up and that can keep no more grants, if there is one.

    What others that come before it wish for counts as granted. What a cycle wishes for is bounded
    in children, so of these the rows count and not the indexes.
    """
    for name, _ in units:
        resource = resources.get(name)
        if resource is None or not is_used_up(resource):
            continue
        grants, wished = resource.status.grants, wishes.get(name, {})
        size = bytes_of(resource) + len(wished) * _GRANT_BYTES
        if len(grants) + len(wished) < GRANTS_MAX and size < GRANTS_BYTES_MAX:
            continue
        if grants and grants[0].job_uid == uid:
            continue
        holders = {one.job_uid for one in grants} | wished.keys()
        if uid in holders:
            is_full = size >= HOLDERS_BYTES_MAX
        else:
            is_full = len(holders) >= GRANTS_MAX or size >= GRANTS_BYTES_MAX
        if is_full:
            return name
    return None


def grants_after(
    resource: Consumable, wishes: Mapping[str, tuple[int, IndexSet]], jobs: Mapping[str, Job]
) -> tuple[int, list[Grant]]:
    """`spentQuantity` and `grants` as they should read now.

    Raises:
        ValueError: somebody else has written into its status; it is left as it is.
    """
    spent = resource.status.spent_quantity
    kept: list[Grant] = []
    for one in resource.status.grants:
        if _is_over(jobs.get(one.job_uid)):
            spent += _size(one)
        elif one.job_uid in wishes:
            more = wishes[one.job_uid][1] | IndexSet.parse(one.indexes)
            kept.append(one.model_copy(update={"indexes": str(more)}))
        else:
            kept.append(one)
    known = {one.job_uid for one in kept}
    for uid, (quantity, indexes) in sorted(wishes.items()):
        if uid not in known and not _is_over(jobs.get(uid)):
            kept.append(Grant(job_uid=uid, quantity=quantity, indexes=str(indexes)))
    return spent, kept


def _is_over(job: Job | None) -> bool:
    return job is None or job.status.state in FINAL


def consumable_hold(units: Units, resources: Mapping[str, Consumable]) -> Hold | None:
    """Why a job can never have its units as things are; None when it only has to wait."""
    for name, quantity in units:
        resource = resources.get(name)
        if resource is None or resource.deleting:
            return Hold(
                Reason.CONSUMABLE_RESOURCE_NOT_FOUND,
                f"there is no ConsumableResource {name}: apply it, or submit the job without it",
                blocked_by=(name,),
                stalled=True,
            )
        total = resource.spec.total_quantity
        if quantity > total:
            return Hold(
                Reason.CONSUMABLE_RESOURCE_TOO_SMALL,
                f"needs {quantity} units of ConsumableResource {name}, which has {total} in all: "
                f"raise its spec.totalQuantity, or ask for less",
                blocked_by=(name,),
                stalled=True,
            )
    return None
