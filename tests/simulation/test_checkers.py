"""Each checker finds what it is there for: a trace is broken on purpose, and it says so."""

from __future__ import annotations

from typing import Any

import pytest

from batch_operator.api import meta
from batch_operator.api.job import JobState
from batch_operator.cluster.client import (
    BATCH_JOBS,
    COMPUTE_ENVIRONMENTS,
    CONSUMABLE_RESOURCES,
    NODES,
    PODS,
)
from batch_operator.simulator.api_server import ApiServer
from batch_operator.simulator.checkers import OPERATOR, End, Panel
from batch_operator.simulator.job_controller import LABEL_INDEX
from batch_operator.simulator.trace import Trace, Transition

Json = dict[str, Any]
RUNNING: Json = {"phase": "Running"}


class Stage:
    """An API server that checkers watch, and a hand that writes what an operator should not."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.panel = Panel()
        self.server = ApiServer(lambda: self.now_s, seed=0)
        trace = Trace(self.panel.see_transition)
        for listener in (self.panel.see, trace.see):
            self.server.subscribe(listener)

    @property
    def broken(self) -> set[str]:
        return {one.invariant for one in self.panel.violations}

    def job(self, name: str = "job", **spec: Any) -> str:
        body = {
            "metadata": {"name": name},
            "spec": {"jobQueue": "main", "jobDefinition": "work", **spec},
        }
        made = self.server.create(BATCH_JOBS, "default", body, "user")
        uid: str = made.object["metadata"]["uid"]
        return uid

    def status(self, name: str = "job", **fields: Any) -> None:
        self.server.update_status(
            BATCH_JOBS, "default", name, lambda old: {**old, **fields}, OPERATOR
        )

    def pod(
        self,
        uid: str,
        *,
        attempt: int = 1,
        index: int | None = None,
        cpu: str = "1",
        node: tuple[str, str] | None = None,
    ) -> str:
        labels = {
            meta.LABEL_JOB_UID: uid,
            meta.LABEL_ATTEMPT: str(attempt),
            meta.LABEL_COMPUTE_ENVIRONMENT: "local",
        }
        if index is not None:
            labels[meta.LABEL_ARRAY_INDEX] = str(index)
        if node is not None:
            labels |= {meta.LABEL_NODE_GROUP: node[0], LABEL_INDEX: node[1]}
        gates = [{"name": meta.GATE_GANG}] if node is not None else []
        name = f"pod-{self.server.version}"
        container = {"name": "main", "image": "i", "resources": {"requests": {"cpu": cpu}}}
        body = {
            "metadata": {"name": name, "labels": labels, "finalizers": [meta.FINALIZER_TRACKING]},
            "spec": {"containers": [container], "schedulingGates": gates},
        }
        self.server.create(PODS, "default", body, OPERATOR)
        return name

    def gang(self, *, made: int) -> list[str]:
        """Gated Pods of a job that wants three nodes; the main node's comes first."""
        uid = self.job(nodeOverrides={"numNodes": 3})
        places = [("0", "0"), ("1", "0"), ("1", "1")][:made]
        return [self.pod(uid, node=place) for place in places]

    def open(self, name: str) -> None:
        def without_gates(old: Json) -> Json:
            spec = {key: value for key, value in old["spec"].items() if key != "schedulingGates"}
            return {**old, "spec": spec}

        self.server.update(PODS, "default", name, without_gates, "hand")

    def environment(self, max_vcpus: int) -> None:
        body = {"metadata": {"name": "local"}, "spec": {"type": "UNMANAGED", "maxvCpus": max_vcpus}}
        self.server.create(COMPUTE_ENVIRONMENTS, None, body, "user")

    def node(self, name: str) -> None:
        labels = {meta.LABEL_COMPUTE_ENVIRONMENT: "local"}
        body = {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": {}}
        self.server.create(NODES, None, body, OPERATOR)

    def resource(self, total: int, kind: str = "NON_REPLENISHABLE") -> None:
        spec = {"totalQuantity": total, "resourceType": kind}
        body = {"metadata": {"name": "unit"}, "spec": spec}
        self.server.create(CONSUMABLE_RESOURCES, None, body, "user")

    def grants(self, spent: int, **indexes: str) -> None:
        """Store grants of one unit for each child, by job uid."""
        rows = [
            {"jobUid": uid.replace("_", "-"), "quantity": 1, "indexes": text}
            for uid, text in indexes.items()
        ]
        status = {"observedGeneration": 1, "spentQuantity": spent, "grants": rows}
        self.server.update_status(
            CONSUMABLE_RESOURCES, None, "unit", lambda old: {**old, **status}, OPERATOR
        )

    def pod_status(self, name: str, status: Json) -> None:
        self.server.update_status(PODS, "default", name, lambda old: {**old, **status}, "kubelet")

    def finish(self, *, is_settled: bool = True) -> None:
        self.panel.finish(End(self.server, self.now_s, is_settled))


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.environment(max_vcpus=4)
    return stage


def test_a_healthy_trace_breaks_nothing(stage: Stage) -> None:
    uid = stage.job()
    name = stage.pod(uid)
    stage.status(state="RUNNABLE")
    stage.server.update(
        PODS, "default", name, lambda old: {**old, "spec": {**old["spec"], "nodeName": "n"}}, "s"
    )
    stage.pod_status(name, RUNNING)
    stage.pod_status(name, {"phase": "Succeeded"})
    stage.status(state="SUCCEEDED", observedGeneration=1)
    stage.finish()

    assert stage.panel.violations == []


def test_two_attempts_alive(stage: Stage) -> None:
    uid = stage.job(retryStrategy={"attempts": 3})
    stage.pod(uid)
    stage.pod(uid, attempt=2)

    assert stage.broken == {"at_most_one_live_attempt"}


def test_a_final_state_is_left(stage: Stage) -> None:
    stage.job()
    stage.status(state="FAILED")
    stage.status(state="RUNNABLE")

    assert "terminal_is_final" in stage.broken


def test_a_job_that_is_over_starts_again(stage: Stage) -> None:
    uid = stage.job()
    stage.status(state="FAILED")
    stage.pod(uid)

    assert "terminal_is_final" in stage.broken


def test_a_succeeded_index_runs_again(stage: Stage) -> None:
    uid = stage.job(arrayProperties={"size": 2})
    stage.status(array=_array({"succeeded": "0", "runnable": "1"}))
    stage.pod(uid, index=0)

    assert "terminal_is_final" in stage.broken


def test_one_attempt_too_many(stage: Stage) -> None:
    uid = stage.job()
    stage.pod_status(stage.pod(uid), {"phase": "Failed"})
    stage.pod(uid, attempt=2)

    assert stage.broken == {"attempts_within_limit"}


def test_an_attempt_is_counted_twice(stage: Stage) -> None:
    stage.job()
    row = {"attempt": 1, "podName": "p", "podUid": "u"}
    stage.status(attempts=[row, {**row, "attempt": 2}])

    assert stage.broken == {"attempts_within_limit"}


@pytest.mark.parametrize(
    ("dependency", "state"),
    [
        ({"job": "first"}, "RUNNING"),
        ({"job": "first"}, "FAILED"),
        ({"job": "first", "type": "AFTER_FAILED"}, "SUCCEEDED"),
        ({"job": "first", "type": "AFTER_ANY"}, "RUNNING"),
    ],
)
def test_a_start_before_a_dependency(stage: Stage, dependency: Json, state: str) -> None:
    stage.job("first")
    uid = stage.job(dependsOn=[dependency])
    stage.panel.violations.clear()
    stage.server.update_status(
        BATCH_JOBS, "default", "first", lambda old: {**old, "state": state}, "hand"
    )
    stage.pod(uid)

    assert "dependencies_before_start" in stage.broken


def test_a_status_that_is_past_a_dependency_too_early(stage: Stage) -> None:
    stage.job("first")
    stage.job(dependsOn=[{"job": "first"}])
    stage.status(state="RUNNABLE")

    assert stage.broken == {"dependencies_before_start"}


@pytest.mark.parametrize(
    ("stored", "broken"), [("RUNNABLE", set()), ("PENDING", {"dependencies_before_start"})]
)
def test_a_dependency_that_is_over_and_is_applied_again(
    stage: Stage, stored: str, broken: set[str]
) -> None:
    """What it let through before that starts rightly; nothing else does."""
    stage.job("first")
    uid = stage.job(dependsOn=[{"job": "first"}])
    stage.server.update_status(
        BATCH_JOBS, "default", "first", lambda old: {**old, "state": "SUCCEEDED"}, "hand"
    )
    stage.status(state=stored)
    stage.server.delete(BATCH_JOBS, "default", "first", "user")
    stage.job("first")
    stage.panel.violations.clear()
    stage.pod(uid)

    assert stage.broken == broken


@pytest.mark.parametrize(
    ("state", "broken"), [("SUCCEEDED", set()), ("PENDING", {"dependencies_before_start"})]
)
def test_a_child_after_a_rerun_that_found_nothing_to_do(
    stage: Stage, state: str, broken: set[str]
) -> None:
    stage.job("rerun", arrayProperties={"rerunFailedOf": "first"})
    dependency = {"job": "rerun", "type": "N_TO_N"}
    uid = stage.job(arrayProperties={"size": 2}, dependsOn=[dependency])
    stage.server.update_status(
        BATCH_JOBS, "default", "rerun", lambda old: {**old, "state": state}, "hand"
    )
    stage.panel.violations.clear()
    stage.pod(uid, index=1)

    assert stage.broken == broken


@pytest.mark.parametrize(("index", "broken"), [(0, {"dependencies_before_start"}), (1, set())])
def test_a_child_after_a_rerun_that_does_not_run_it_again(
    stage: Stage, index: int, broken: set[str]
) -> None:
    stage.job("rerun", arrayProperties={"rerunFailedOf": "first"})
    dependency = {"job": "rerun", "type": "N_TO_N"}
    uid = stage.job(arrayProperties={"size": 2}, dependsOn=[dependency])
    stage.status("rerun", state="PENDING", array={"size": 1, "members": "0"})
    stage.panel.violations.clear()
    stage.pod(uid, index=index)

    assert stage.broken == broken


def test_a_child_starts_before_its_predecessor(stage: Stage) -> None:
    uid = stage.job(arrayProperties={"size": 3}, dependsOn=[{"type": "SEQUENTIAL"}])
    stage.pod(uid, index=1)

    assert stage.broken == {"dependencies_before_start"}


def test_more_than_max_vcpus(stage: Stage) -> None:
    stage.pod(stage.job("a"), cpu="3")
    stage.pod(stage.job("b"), cpu="1500m")

    assert stage.broken == {"capacity_never_exceeded"}


def test_what_was_placed_before_max_vcpus_was_lowered_goes_on(stage: Stage) -> None:
    """Of a multi-node job that is so with its first Pod; a Pod of its own is a new start."""

    def smaller(old: Json) -> Json:
        return {**old, "spec": {**old["spec"], "maxvCpus": 1}}

    pods = stage.gang(made=3)
    stage.server.update(COMPUTE_ENVIRONMENTS, None, "local", smaller, "user")
    stage.now_s = 60.0
    stage.panel.violations.clear()
    for name in pods:
        stage.open(name)

    assert "capacity_never_exceeded" not in stage.broken

    stage.pod(stage.job("a"))

    assert "capacity_never_exceeded" in stage.broken


def test_a_main_node_that_is_let_go_before_all_pods_are_there(stage: Stage) -> None:
    main, *_ = stage.gang(made=2)
    stage.open(main)

    assert stage.broken == {"nodes_in_order"}


def test_a_node_that_is_let_go_before_its_main_node_runs(stage: Stage) -> None:
    main, other, another = stage.gang(made=3)
    stage.open(main)

    assert stage.broken == set()

    stage.open(other)

    assert stage.broken == {"nodes_in_order"}

    stage.panel.violations.clear()
    stage.pod_status(main, RUNNING)
    stage.open(another)

    assert "nodes_in_order" not in stage.broken


UNIT: Json = {"consumableResources": [{"name": "unit", "quantity": 1}]}


def granted(uid: str, indexes: str) -> dict[str, str]:
    return {uid.replace("-", "_"): indexes}


def test_more_units_than_there_are(stage: Stage) -> None:
    stage.resource(1, "REPLENISHABLE")
    stage.pod(stage.job("a", **UNIT))
    stage.pod(stage.job("b", **UNIT))

    assert stage.broken == {"units_accounted_for"}


def test_units_that_have_come_back(stage: Stage) -> None:
    stage.resource(1, "REPLENISHABLE")
    stage.pod_status(stage.pod(stage.job("a", **UNIT)), {"phase": "Failed"})
    stage.pod(stage.job("b", **UNIT))
    stage.status("b", state="FAILED")
    stage.pod(stage.job("c", **UNIT))

    assert stage.broken == set()


def test_a_start_without_the_resource_that_it_needs(stage: Stage) -> None:
    stage.pod(stage.job(**UNIT))

    assert stage.broken == {"units_accounted_for"}


def test_a_start_before_its_grant_is_stored(stage: Stage) -> None:
    stage.resource(9)
    uid = stage.job(arrayProperties={"size": 2}, **UNIT)
    stage.grants(0, **granted(uid, "0"))
    stage.pod(uid, index=0)

    assert stage.broken == set()

    stage.pod(uid, index=1)

    assert stage.broken == {"units_accounted_for"}


def test_what_was_used_up_comes_back(stage: Stage) -> None:
    stage.resource(9)
    uid = stage.job(**UNIT)
    stage.grants(3, **granted(uid, "0"))
    stage.grants(3)

    assert stage.broken == {"units_accounted_for"}


def test_more_is_used_up_than_there_is(stage: Stage) -> None:
    stage.resource(1)
    stage.grants(2)
    stage.finish(is_settled=False)

    assert stage.broken == {"units_accounted_for"}


def test_a_grant_that_outlives_its_job(stage: Stage) -> None:
    stage.resource(1)
    uid = stage.job(**UNIT)
    stage.grants(0, **granted(uid, "0"))
    stage.status(state="FAILED", observedGeneration=1)
    stage.finish()

    assert stage.broken == {"units_accounted_for"}


@pytest.mark.parametrize("request_", ["cancel", "terminate"])
def test_a_start_after_a_request_to_stop(stage: Stage, request_: str) -> None:
    uid = stage.job(**{request_: {"reason": "enough"}})
    stage.now_s = 60
    stage.pod(uid)

    assert stage.broken == {"no_start_after_cancel"}


def on_a_node(old: Json) -> Json:
    return {**old, "spec": {**old["spec"], "nodeName": "node"}}


@pytest.mark.parametrize("request_", [{"cancel": {"reason": "no"}}, {"suspend": True}])
def test_a_pod_that_gets_a_node_after_such_a_request(stage: Stage, request_: Json) -> None:
    """A request that leaves alone what has a node already."""
    uid = stage.job(arrayProperties={"size": 2}, **request_)
    early, late = stage.pod(uid, index=0), stage.pod(uid, index=1)
    stage.server.update(PODS, "default", early, on_a_node, "hand")
    stage.now_s = 60.0
    stage.server.update(PODS, "default", early, lambda old: {**old, "status": RUNNING}, "hand")

    assert stage.broken == set()

    stage.server.update(PODS, "default", late, on_a_node, "hand")

    assert stage.broken == {"no_start_after_cancel"}


def test_a_pod_that_gets_a_node_after_its_job_was_suspended_for_the_eleventh_time(
    stage: Stage,
) -> None:
    """It was requeued so often that it stays where it is."""
    uid = stage.job(suspend=True)
    for attempt in range(1, 12):
        name = stage.pod(uid, attempt=attempt)
        if attempt < 11:
            marked = {meta.ANNOTATION_REQUEUED: "Suspended: so"}
            stage.server.update(PODS, "default", name, with_annotations(marked), OPERATOR)
            stage.server.delete(PODS, "default", name, OPERATOR)
    stage.now_s = 60.0
    stage.server.update(PODS, "default", name, on_a_node, "hand")

    assert stage.broken == set()


def with_annotations(more: Json) -> Any:
    return lambda old: {**old, "metadata": {**old["metadata"], "annotations": more}}


def test_a_start_after_deletion(stage: Stage) -> None:
    uid = stage.job()
    stage.server.delete(BATCH_JOBS, "default", "job", "user")
    stage.now_s = 60
    stage.pod(uid)

    assert stage.broken == {"no_start_after_cancel"}


def test_a_step_that_is_not_in_the_graph(stage: Stage) -> None:
    stage.panel.see_transition(
        Transition(
            0, "default", "job", "uid", None, None, JobState.PENDING, JobState.RUNNING, None, None
        )
    )

    assert stage.broken == {"legal_transitions"}


@pytest.mark.parametrize(
    ("reason", "broken"),
    [("nothing failed in a: nothing to run again", set()), (None, {"legal_transitions"})],
)
def test_only_a_rerun_of_nothing_succeeds_at_once(
    stage: Stage, reason: str | None, broken: set[str]
) -> None:
    before, after = JobState.SUBMITTED, JobState.SUCCEEDED
    stage.panel.see_transition(
        Transition(
            0, "default", "again", "uid", None, None, before, after, reason, None, is_parent=True
        )
    )

    assert stage.broken == broken


def test_a_parent_runs(stage: Stage) -> None:
    stage.job(arrayProperties={"size": 2})
    stage.status(state="RUNNING", array=_array({"runnable": "0-1"}))

    assert stage.broken == {"legal_transitions"}


@pytest.mark.parametrize(
    "array",
    [
        {"size": 2, "statusSummary": {"RUNNABLE": 1}, "indexes": {"runnable": "0"}},
        {
            "size": 2,
            "statusSummary": {"RUNNABLE": 1, "RUNNING": 1},
            "indexes": {"runnable": "0", "running": "0"},
        },
        {"size": 2, "statusSummary": {"RUNNABLE": 2}, "indexes": {"runnable": "1-2"}},
    ],
    ids=["one child is missing", "one child is twice", "one child is a stranger"],
)
def test_counts_that_do_not_add_up(stage: Stage, array: Json) -> None:
    stage.job(arrayProperties={"size": 2})
    stage.status(state="PENDING", array=array)

    assert stage.broken == {"counts_add_up"}


def _rerun(members: str) -> Json:
    size = len(members.split(","))
    return {
        "size": size,
        "members": members,
        "statusSummary": {"PENDING": size},
        "indexes": {"pending": members},
    }


def _failed_array(stage: Stage) -> None:
    """An array whose children, 1 and 3, failed without having run."""
    stage.job("a", arrayProperties={"indexes": "1,3"})
    array = {"size": 2, "statusSummary": {"FAILED": 2}, "indexes": {"failed": "1,3"}}
    stage.status("a", state="FAILED", array=array)


def test_a_rerun_of_what_failed_breaks_nothing(stage: Stage) -> None:
    _failed_array(stage)
    uid = stage.job("again", arrayProperties={"rerunFailedOf": "a"})
    stage.status("again", state="PENDING", array=_rerun("1,3"))
    stage.pod(uid, index=3)

    assert stage.broken == set()


@pytest.mark.parametrize(
    ("recorded", "started"),
    [([], 1), (["1,3"], 2), (["1,2"], None), (["1,3", "1"], None)],
    ids=["nothing is recorded", "a stranger starts", "others are recorded", "it changes"],
)
def test_a_rerun_of_something_else(stage: Stage, recorded: list[str], started: int | None) -> None:
    _failed_array(stage)
    uid = stage.job("again", arrayProperties={"rerunFailedOf": "a"})
    for members in recorded:
        stage.status("again", state="PENDING", array=_rerun(members))
    if started is not None:
        stage.pod(uid, index=started)

    assert stage.broken == {"rerun_set_is_fixed"}


def test_a_rerun_whose_array_is_not_over(stage: Stage) -> None:
    stage.job("a", arrayProperties={"size": 4})
    stage.job("again", arrayProperties={"rerunFailedOf": "a"})
    stage.status("again", state="PENDING", array=_rerun("1"))

    assert stage.broken == {"rerun_set_is_fixed"}


def test_an_object_that_is_too_large(stage: Stage) -> None:
    stage.job()
    stage.status(statusReason="x" * 1_000_000)

    assert stage.broken == {"object_size"}


def test_a_job_that_waits_without_a_reason(stage: Stage) -> None:
    stage.job()
    stage.status(state="RUNNABLE", observedGeneration=1)
    stage.finish(is_settled=False)

    assert stage.broken == set()

    stage.finish()

    assert stage.broken == {"placed_or_held"}


def test_a_job_that_waits_for_nothing(stage: Stage) -> None:
    stage.job()
    pending = {"reason": "PodRefused", "message": "quota", "since": "2026-01-01T00:00:00Z"}
    stage.status(state="RUNNABLE", observedGeneration=1, pending=pending)
    stage.finish()

    assert stage.broken == {"placed_or_held"}


def test_a_node_that_is_left_behind(stage: Stage) -> None:
    stage.node("kept")
    stage.server.delete(NODES, None, "kept", OPERATOR)
    stage.node("forgotten")
    stage.server.delete(COMPUTE_ENVIRONMENTS, None, "local", "user")

    assert stage.broken == {"no_node_left_behind"}


def test_a_node_that_is_made_for_an_environment_that_is_gone(stage: Stage) -> None:
    stage.server.delete(COMPUTE_ENVIRONMENTS, None, "local", "user")
    stage.node("late")

    assert stage.broken == set()

    stage.finish()

    assert stage.broken == {"no_node_left_behind"}


def test_a_write_into_the_silence(stage: Stage) -> None:
    stage.job()
    late = stage.server.get(BATCH_JOBS, "default", "job")
    stage.panel.finish(End(stage.server, 0, is_settled=False, late_writes=(late,)))

    assert stage.broken == {"fixpoint"}


def _array(indexes: dict[str, str]) -> Json:
    return {
        "size": 2,
        "statusSummary": {state.upper(): _count(those) for state, those in indexes.items()},
        "indexes": indexes,
    }


def _count(intervals: str) -> int:
    first, _, last = intervals.partition("-")
    return int(last or first) - int(first) + 1
