"""What DaemonSets take of every node of an environment.

Their Pods go to nodes whose labels match and whose taints they tolerate. Of a node that is not
there yet only those labels are known that follow from its pool, and its operating system: a
DaemonSet that asks for others is not counted (`nodeOverhead` is for such).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_operator.api import meta
from batch_operator.api.compute_environment import LABEL_INSTANCE_TYPE
from batch_operator.lifecycle.attempt import requested
from batch_operator.provisioning.pools import Space

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from batch_operator.api.objects import DaemonSet as DaemonSetObject
    from batch_operator.api.objects import NodeSelectorTerm, Requirement, Toleration
    from batch_operator.provisioning.pools import PoolKey

_ARCHITECTURE = "kubernetes.io/arch"
_OPERATING_SYSTEM = {"kubernetes.io/os": "linux"}
_TAINT_EFFECT = "NoSchedule"


@dataclass(frozen=True, slots=True)
class DaemonSet:
    """One DaemonSet, as far as it matters which nodes its Pods go to and what they ask for."""

    uid: str
    resource_version: int
    space: Space
    node_selector: Mapping[str, str]
    terms: Sequence[NodeSelectorTerm]
    """Its required node affinity: one of them has to match, unless there are none."""
    tolerations: Sequence[Toleration]


@dataclass(frozen=True, slots=True)
class Daemons:
    """What DaemonSets take of the nodes of one environment, by pool."""

    of: tuple[DaemonSet, ...]
    offers: Mapping[PoolKey | None, Space | None]
    spaces: Mapping[PoolKey | None, Space]


def observed_daemon_set(found: DaemonSetObject) -> DaemonSet:
    """The facts of a DaemonSet."""
    spec = found.spec.template.spec
    affinity = spec.affinity.node_affinity.required_during_scheduling_ignored_during_execution
    return DaemonSet(
        uid=found.metadata.uid,
        resource_version=int(found.metadata.resource_version),
        space=Space(requested(spec), 1),
        node_selector=spec.node_selector,
        terms=tuple(affinity.node_selector_terms),
        tolerations=tuple(spec.tolerations),
    )


def taken_by_daemons(
    daemon_sets: Iterable[DaemonSet],
    environment: str,
    offers: Mapping[PoolKey | None, Space | None],
) -> dict[PoolKey | None, Space]:
    """What they take of a node of each pool of an environment; None: one without such labels.

    `offers` is what a node of the pool has, if that is known: whose Pod has no room beside those of
    the smaller ones takes nothing, for it does not run there.
    """
    there = [one for one in daemon_sets if _tolerates(one, environment)]
    there.sort(key=lambda one: (one.space.amounts, one.uid))
    found = {}
    for pool, whole in offers.items():
        labels = {**_OPERATING_SYSTEM, meta.LABEL_COMPUTE_ENVIRONMENT: environment}
        if pool is not None:
            labels[LABEL_INSTANCE_TYPE] = pool.instance_type
            labels[meta.LABEL_CAPACITY_TYPE] = pool.capacity_type.value
        found[pool] = _sum((one.space for one in there if _selects(one, labels)), whole)
    return found


def _sum(spaces: Iterable[Space], whole: Space | None) -> Space:
    """Of one after the other, as long as there is room."""
    found = Space()
    for one in spaces:
        both = found + one
        if whole is None or both.at_most(whole) == both:
            found = both
    return found


def _tolerates(daemon_set: DaemonSet, environment: str) -> bool:
    """Whether it tolerates the taint of the environment's nodes."""
    return any(
        one.key in {"", meta.TAINT_COMPUTE_ENVIRONMENT}
        and one.effect in {"", _TAINT_EFFECT}
        and (one.operator == "Exists" or (bool(one.key) and one.value == environment))
        for one in daemon_set.tolerations
    )


def _selects(daemon_set: DaemonSet, labels: Mapping[str, str]) -> bool:
    selector = daemon_set.node_selector.items()
    if any(labels.get(key) != value for key, value in selector if key != _ARCHITECTURE):
        return False
    terms = daemon_set.terms
    return not terms or any(_term_matches(one, labels) for one in terms)


def _term_matches(term: NodeSelectorTerm, labels: Mapping[str, str]) -> bool:
    """Kubernetes: all of its expressions; one without any, or by a node's name, matches nothing."""
    if term.match_fields or not term.match_expressions:
        return False
    return all(_matches(one, labels) for one in term.match_expressions)


def _matches(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    if requirement.key == _ARCHITECTURE:
        return True
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:  # Gt and Lt compare numbers, which none of the labels that are known is
            return False
