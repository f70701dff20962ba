"""The parts of Kubernetes' own objects that this operator reads, and nothing else of them.

Watch events decode straight into these structs; fields that are not named here are skipped by the
decoder at native speed, which is most of what makes a watch event cheap.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec


class _Struct(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Frozen and camelCase on the wire; unknown fields are ignored."""


class OwnerReference(_Struct, frozen=True):
    kind: str
    name: str
    uid: str
    controller: bool = False


_GRACE_MAX_S = 2**31
"""More than that no calendar can count."""


class Metadata(_Struct, frozen=True):
    name: str
    uid: str
    resource_version: str
    namespace: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    """When the object will be gone at the latest: a grace period lies before it."""
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: list[str] = []
    owner_references: list[OwnerReference] = []

    @property
    def deletion_requested_at(self) -> datetime | None:
        if self.deletion_timestamp is None:
            return None
        grace_s = min(self.deletion_grace_period_seconds or 0, _GRACE_MAX_S)
        return self.deletion_timestamp - timedelta(seconds=grace_s)


class ContainerStateTerminated(_Struct, frozen=True):
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


class ContainerStateWaiting(_Struct, frozen=True):
    reason: str = ""
    message: str = ""


class ContainerStateRunning(_Struct, frozen=True):
    started_at: datetime | None = None


class ContainerState(_Struct, frozen=True):
    terminated: ContainerStateTerminated | None = None
    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None


class ContainerStatus(_Struct, frozen=True):
    name: str
    state: ContainerState = ContainerState()


class Condition(_Struct, frozen=True):
    """Of a Pod or a Node."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


class Resources(_Struct, frozen=True):
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}

    @property
    def asked(self) -> dict[str, str]:
        """Requests; limits where there are none.

        The API server writes these into Pods, not into the templates of Pods.
        """
        return {**self.limits, **self.requests} if self.limits else self.requests


class Container(_Struct, frozen=True):
    restart_policy: str = ""
    resources: Resources = Resources()


class SchedulingGate(_Struct, frozen=True):
    name: str


class PodSpec(_Struct, frozen=True):
    node_name: str = ""
    node_selector: dict[str, str] = {}
    scheduling_gates: list[SchedulingGate] = []
    active_deadline_seconds: int | None = None
    containers: list[Container] = []
    init_containers: list[Container] = []
    resources: Resources = Resources()
    overhead: dict[str, str] = {}
    """Of its RuntimeClass: an admission plugin writes it into Pods, not into their templates."""


class PodStatus(_Struct, frozen=True):
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    start_time: datetime | None = None
    conditions: list[Condition] = []
    container_statuses: list[ContainerStatus] = []
    init_container_statuses: list[ContainerStatus] = []


class Pod(_Struct, frozen=True):
    metadata: Metadata
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class Reference(_Struct, frozen=True):
    """Which object an Event is about."""

    uid: str = ""


class EventSeries(_Struct, frozen=True):
    last_observed_time: datetime | None = None


class Event(_Struct, frozen=True):
    """A core/v1 Event. Which of its times is set hangs on who wrote it, and by which API."""

    involved_object: Reference = Reference()
    reason: str = ""
    message: str = ""
    last_timestamp: datetime | None = None
    event_time: datetime | None = None
    series: EventSeries | None = None

    @property
    def last_seen(self) -> datetime | None:
        of_series = self.series.last_observed_time if self.series is not None else None
        return of_series or self.last_timestamp or self.event_time


class PodTemplate(_Struct, frozen=True):
    spec: PodSpec = PodSpec()


class JobSpec(_Struct, frozen=True):
    completions: int = 1
    suspend: bool = False
    template: PodTemplate = PodTemplate()


class Job(_Struct, frozen=True):
    """A `batch/v1` Job."""

    metadata: Metadata
    spec: JobSpec = JobSpec()


class Toleration(_Struct, frozen=True):
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class Requirement(_Struct, frozen=True):
    key: str
    operator: str
    values: list[str] = []


class NodeSelectorTerm(_Struct, frozen=True):
    match_expressions: list[Requirement] = []
    match_fields: list[Requirement] = []


class NodeSelector(_Struct, frozen=True):
    node_selector_terms: list[NodeSelectorTerm] = []


class NodeAffinity(_Struct, frozen=True):
    required_during_scheduling_ignored_during_execution: NodeSelector = NodeSelector()


class Affinity(_Struct, frozen=True):
    node_affinity: NodeAffinity = NodeAffinity()


class DaemonPodSpec(PodSpec, frozen=True):
    tolerations: list[Toleration] = []
    affinity: Affinity = Affinity()


class DaemonPodTemplate(_Struct, frozen=True):
    spec: DaemonPodSpec = DaemonPodSpec()


class DaemonSetSpec(_Struct, frozen=True):
    template: DaemonPodTemplate = DaemonPodTemplate()


class DaemonSet(_Struct, frozen=True):
    """An `apps/v1` DaemonSet."""

    metadata: Metadata
    spec: DaemonSetSpec = DaemonSetSpec()


class ControllerRevision(_Struct, frozen=True):
    """An `apps/v1` ControllerRevision; `data` is the JobDefinition's spec as it was written."""

    metadata: Metadata
    revision: int
    data: msgspec.Raw = msgspec.Raw(b"{}")


class ConfigMap(_Struct, frozen=True):
    immutable: bool = False
    data: dict[str, str] = {}


class Taint(_Struct, frozen=True):
    key: str
    value: str = ""
    effect: str = ""


class NodeSpec(_Struct, frozen=True):
    taints: list[Taint] = []
    unschedulable: bool = False


class NodeStatus(_Struct, frozen=True):
    allocatable: dict[str, str] = {}
    conditions: list[Condition] = []


class Node(_Struct, frozen=True):
    metadata: Metadata
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()
