"""Carrying out decisions against an API server that refuses, is slow, or loses its replies."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from batch_operator.api import meta
from batch_operator.api.compute_environment import LABEL_INSTANCE_TYPE
from batch_operator.api.job import BatchJobStatus
from batch_operator.cluster import applier as applying
from batch_operator.cluster import decoding
from batch_operator.cluster.applier import CREATES_IN_FLIGHT_MAX, Applier
from batch_operator.cluster.cache import Cache
from batch_operator.cluster.client import STRATEGIC_MERGE_PATCH, ApiError
from batch_operator.cluster.decoding import Revision
from batch_operator.cluster.statuses import StatusTarget, StatusWriter
from batch_operator.lifecycle.attempt import Phase, PodAttempt
from batch_operator.lifecycle.plan import Plan, make_plan
from batch_operator.provisioning.packing import demand_of
from batch_operator.scheduling.mutations import (
    CreateRevision,
    DeleteJob,
    DeletePod,
    DeleteRevision,
    Mutation,
    OpenGate,
    ReadConfigMap,
    ReleasePod,
    StartAttempt,
    StartGang,
    StopPod,
    Urgency,
    WriteStatus,
)
from batch_operator.scheduling.suitability import needs_of
from support.builders import (
    START,
    attempt,
    definition,
    definition_spec,
    job,
    multi_node_spec,
    pod_template,
)
from support.scripted_api import Late, Request, ScriptedApi
from support.virtual_time import VirtualClock, settled
from support.wire import pod_object, stored, with_status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

POD = "job-uid-job-1"
JOBS = ["job-uid-job-1-0", "job-uid-job-1-1"]
ALREADY_EXISTS = ApiError(409, "AlreadyExists", f'pods "{POD}" already exists')
NO_REPLY = ApiError(0, "NoReply", "connection reset")
BROKEN = ApiError(500, "InternalError", "etcd")
FORBIDDEN = ApiError(403, "Forbidden", "exceeded quota")
NOT_FOUND = ApiError(404, "NotFound", "gone")
MARK = "Preempted: made room for job a"
MARKED = {meta.ANNOTATION_REQUEUED: MARK}
REVISION = CreateRevision("default", "work", "uid-work", 1, definition_spec())


def start(*, index: int = 0, number: int = 1, array_size: int | None = None) -> StartAttempt:
    one = job()
    plan = make_plan(one, definition(), None)
    assert isinstance(plan, Plan)
    return StartAttempt(one, plan, index, number, array_size, "local", {"pool": "batch"})


def gang(*groups: int) -> StartGang:
    """Two nodes: the main node, and group 1."""
    one = job()
    plan = make_plan(one, definition(spec=multi_node_spec()), None)
    assert isinstance(plan, Plan)
    begun = StartAttempt(one, plan, 0, 1, None, "local", {"pool": "batch"})
    return StartGang(begun, groups or (0, 1))


def accept(request: Request) -> bytes:
    assert request.body is not None
    return stored(request.body, uid=f"uid of {request.name}", version=50)


@dataclass(slots=True)
class Hand:
    """An applier with its cache, before an API server that takes what it is not told to refuse."""

    api: ScriptedApi = field(default_factory=ScriptedApi)
    cache: Cache = field(default_factory=Cache)
    applier: Applier = field(init=False)
    woken: int = 0

    def __post_init__(self) -> None:
        self.api.always["create"] = accept
        self.cache.jobs.upsert(job())
        known = definition().object
        assert known is not None
        self.cache.definitions.upsert(known)
        clock = VirtualClock()
        targets = {"BatchJob": StatusTarget(self.cache.jobs, decoding.job_decoder())}
        statuses = StatusWriter(
            self.api,
            clock,
            targets,
            wrote=lambda _write, _before, _after: None,
            wake=self._wake,
            touch=self.cache.touch,
        )
        self.applier = Applier(self.api, clock, self.cache, statuses, {}, self._wake)

    def _wake(self) -> None:
        self.woken += 1

    async def submit(self, *mutations: Mutation, then_s: float = 0) -> None:
        """Hand over what a cycle decided, and let so much time pass."""
        self.cache._changed_jobs.clear()
        self.cache._changed_definitions.clear()
        self.applier.submit(mutations)
        await asyncio.sleep(then_s)
        await settled()

    @property
    def attempts(self) -> Mapping[str, PodAttempt]:
        return self.cache._attempts.get("uid-job", {})

    @property
    def held_s(self) -> float:
        """For how long the job is held back from now on."""
        return (self.cache.refusals["uid-job"].retry_at - VirtualClock().now()).total_seconds()


# Creating Pods


async def test_a_pod_is_created_and_known_as_soon_as_the_reply_is_there() -> None:
    hand = Hand()
    await hand.submit(start())
    [request] = hand.api.requests

    assert (request.verb, request.resource, request.namespace) == ("create", "pods", "default")
    assert request.body is not None
    assert request.body["spec"]["nodeSelector"] == {"pool": "batch"}
    assert hand.attempts[POD].phase is Phase.UNBOUND
    assert hand.attempts[POD].pod_uid == f"uid of {POD}"
    assert hand.attempts[POD].milli_cpu == 1000
    assert hand.woken == 1


async def test_a_create_on_its_way_counts_as_an_attempt_and_against_the_budget() -> None:
    hand = Hand()
    hand.api.will("create", Late(10, accept))
    await hand.submit(start())

    assert hand.attempts[POD].phase is Phase.ASSUMED
    assert hand.attempts[POD].milli_cpu == 1000
    assert hand.attempts[POD].environment == "local"
    assert hand.applier.start_budget == CREATES_IN_FLIGHT_MAX - 1
    await asyncio.sleep(11)

    assert hand.attempts[POD].phase is Phase.UNBOUND
    assert hand.applier.start_budget == CREATES_IN_FLIGHT_MAX


async def test_nodes_are_planned_for_what_is_on_its_way_as_for_the_pod_that_comes_of_it() -> None:
    template = pod_template("2", resources={"requests": {"cpu": "2", "memory": "3Gi"}})
    template["spec"]["containers"][0]["resources"]["limits"] = {"nvidia.com/gpu": "1"}
    template["spec"]["nodeSelector"] = {
        LABEL_INSTANCE_TYPE: "p4",
        meta.LABEL_CAPACITY_TYPE: "on-demand",
    }
    one, of = job(), definition(spec=definition_spec(podTemplate=template))
    plan = make_plan(one, of, None)
    assert isinstance(plan, Plan)
    [asks] = needs_of(plan)
    hand = Hand()
    hand.api.will("create", Late(10, accept))
    await hand.submit(StartAttempt(one, plan, 0, 1, None, "local", {}, asks=asks))
    before = demand_of(hand.attempts[POD])
    await asyncio.sleep(11)

    assert hand.attempts[POD].phase is Phase.UNBOUND
    assert before == demand_of(hand.attempts[POD])
    assert (before.amounts.gpus, before.instance_type, before.on_demand) == (1, "p4", True)


@pytest.mark.parametrize(
    ("mutation", "verb"),
    [
        pytest.param(start(), "create", id="StartAttempt"),
        pytest.param(gang(), "create", id="StartGang"),
        pytest.param(OpenGate(attempt(Phase.UNBOUND), {}), "patch", id="OpenGate"),
        pytest.param(ReleasePod(attempt(Phase.SUCCEEDED)), "patch", id="ReleasePod"),
        pytest.param(DeletePod(attempt(Phase.RUNNING)), "delete", id="DeletePod"),
        pytest.param(StopPod(attempt(Phase.RUNNING)), "patch", id="StopPod"),
        pytest.param(
            ReadConfigMap(("default", "samples", "lines"), "uid-job"), "get", id="ReadConfigMap"
        ),
        pytest.param(DeleteJob("default", "job", "uid-job"), "delete", id="DeleteJob"),
        pytest.param(REVISION, "create", id="CreateRevision"),
        pytest.param(DeleteRevision("default", "work", 9), "delete", id="DeleteRevision"),
    ],
)
async def test_the_same_wish_twice_is_one_request(mutation: Mutation, verb: str) -> None:
    """A cycle repeats its wishes until it sees them carried out."""
    hand = Hand()
    hand.cache.revisions.upsert(Revision("revision-9", 50, "default", "work", 9, REVISION.spec))
    hand.api.will(verb, Late(10, NOT_FOUND))
    await hand.submit(mutation, mutation)
    await hand.submit(mutation, then_s=1)

    assert len(hand.api.requests) == 1
    await asyncio.sleep(20)


async def test_a_gang_is_asked_for_main_node_first_and_counts_from_then_on() -> None:
    hand = Hand()
    hand.api.will("create", Late(10, accept))
    await hand.submit(gang())

    assert {name: one.milli_cpu for name, one in hand.attempts.items()} == dict.fromkeys(JOBS, 1000)
    assert [request.name for request in hand.api.requests] == [JOBS[0]]
    await asyncio.sleep(11)

    assert [request.name for request in hand.api.requests] == JOBS
    assert [hand.attempts[name].pod_uid for name in JOBS] == [f"uid of {name}" for name in JOBS]
    assert [hand.attempts[name].members for name in JOBS] == [1, 1]


async def test_a_gang_that_is_refused_in_part_keeps_what_stands() -> None:
    hand = Hand()
    hand.api.will("create", accept, FORBIDDEN)
    await hand.submit(gang())

    assert list(hand.attempts) == JOBS[:1]
    assert hand.cache.refusals["uid-job"].message == FORBIDDEN.message


async def test_a_job_of_somebody_else_under_a_gangs_name_is_a_refusal() -> None:
    hand = Hand()
    hand.api.will("create", ApiError(409, "AlreadyExists", "it is there"))
    hand.api.will("get", pod_object(JOBS[0], ownerReferences=[]))
    await hand.submit(gang())

    assert hand.attempts == {}
    assert f"a Job {JOBS[0]} exists" in hand.cache.refusals["uid-job"].message


async def test_opening_a_gate_tells_the_pod_in_the_same_write() -> None:
    hand = Hand()
    await hand.submit(OpenGate(attempt(Phase.UNBOUND), {"a": "b"}))
    [request] = hand.api.requests

    assert request.body == {
        "metadata": {"uid": "pod-0-1", "annotations": {"a": "b"}},
        "spec": {"schedulingGates": [{"name": "batch-operator.io/gang", "$patch": "delete"}]},
    }


async def test_a_job_is_stopped_by_suspending_it() -> None:
    hand = Hand()
    await hand.submit(gang())
    made = hand.attempts[JOBS[0]]
    await hand.submit(StopPod(made))
    request = hand.api.requests[-1]

    assert (request.verb, request.resource, request.name) == ("patch", "jobs", JOBS[0])
    assert request.body == {"metadata": {"uid": made.pod_uid}, "spec": {"suspend": True}}


async def test_a_job_that_is_requeued_is_told_so_in_the_same_write() -> None:
    hand = Hand()
    await hand.submit(gang())
    made = hand.attempts[JOBS[0]]
    await hand.submit(StopPod(made, "Suspended: so"))

    assert hand.api.requests[-1].body == {
        "metadata": {
            "uid": made.pod_uid,
            "annotations": {"batch-operator.io/requeued": "Suspended: so"},
        },
        "spec": {"suspend": True},
    }


async def test_the_attempts_of_an_array_are_created_side_by_side() -> None:
    hand = Hand()
    hand.api.always["create"] = Late(10, accept)
    await hand.submit(*(start(index=index, array_size=3) for index in range(3)))

    assert sorted(hand.attempts) == [f"job-uid-job-{index}-1" for index in range(3)]
    assert len(hand.api.requests) == 3
    assert hand.applier.start_budget == CREATES_IN_FLIGHT_MAX - 3
    await asyncio.sleep(11)


async def test_a_pod_that_exists_and_is_ours_is_adopted() -> None:
    """From a create whose reply was lost, perhaps before a restart."""
    hand = Hand()
    hand.api.will("create", ALREADY_EXISTS)
    hand.api.will("get", pod_object(POD, uid="made earlier"))
    await hand.submit(start())

    assert hand.attempts[POD].pod_uid == "made earlier"
    assert hand.cache.refusals == {}
    assert [(one.verb, one.name) for one in hand.api.requests] == [("create", POD), ("get", POD)]


def _owned(**changes: Any) -> Callable[[], bytes]:
    owner = {"kind": "BatchJob", "name": "job", "uid": "uid-job", "controller": True, **changes}
    return lambda: pod_object(POD, ownerReferences=[owner])


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(lambda: pod_object(POD, ownerReferences=[]), id="nobody's"),
        pytest.param(_owned(uid="uid-predecessor"), id="a predecessor's of the same name"),
        pytest.param(_owned(controller=False), id="only mentions the job"),
        pytest.param(
            lambda: pod_object(POD, ownerReferences=[], labels={}),
            id="a stranger's without any label",
        ),
    ],
)
async def test_a_pod_that_exists_and_is_not_ours_is_refused(found: Callable[[], bytes]) -> None:
    hand = Hand()
    hand.api.will("create", ALREADY_EXISTS)
    hand.api.will("get", found())
    await hand.submit(start())

    assert hand.attempts == {}
    assert hand.cache.refusals["uid-job"].message == (
        f"a Pod {POD} exists that is not this job's: delete it"
    )
    assert not hand.cache.refusals["uid-job"].final


async def test_a_pod_that_goes_before_it_can_be_adopted_is_tried_again_later() -> None:
    hand = Hand()
    hand.api.will("create", ALREADY_EXISTS)
    hand.api.will("get", NOT_FOUND)
    await hand.submit(start())

    assert hand.attempts == {}
    assert hand.held_s == pytest.approx(5, abs=0.01)


async def test_a_lost_reply_is_not_a_second_pod() -> None:
    """The create was carried out, and nobody heard: the same name is asked for again."""
    hand = Hand()
    pods: dict[str, bytes] = {}

    def lose_the_reply(request: Request) -> bytes:
        if request.name in pods:
            raise ALREADY_EXISTS
        pods[request.name] = accept(request)
        raise NO_REPLY

    hand.api.always["create"] = lose_the_reply
    hand.api.always["get"] = lambda request: pods[request.name]
    await hand.submit(start())

    assert list(pods) == [POD]
    assert hand.attempts[POD].pod_uid == f"uid of {POD}"


async def test_capacity_stays_taken_until_it_is_known_whether_the_pod_exists() -> None:
    hand = Hand()
    hand.api.will("create", NO_REPLY)
    hand.api.will("get", BROKEN, ApiError(404, "NotFound", "no such Pod"))
    await hand.submit(start(), then_s=applying.RETRY_S - 1)

    assert hand.attempts[POD].phase is Phase.ASSUMED

    await asyncio.sleep(2)

    assert hand.attempts == {}
    assert hand.cache.refusals["uid-job"].message == NO_REPLY.message


async def test_an_event_that_is_quicker_than_the_reply_is_not_undone() -> None:
    hand = Hand()
    hand.api.will("create", Late(10, accept))
    await hand.submit(start())
    running = attempt(Phase.RUNNING, pod_name=POD, pod_uid=f"uid of {POD}", resource_version=60)
    hand.cache.pods.upsert(running)
    await asyncio.sleep(11)

    assert hand.attempts == {POD: running}


async def test_a_pod_that_was_seen_although_its_create_failed_stays_known() -> None:
    hand = Hand()
    hand.api.will("create", Late(10, NO_REPLY))
    await hand.submit(start())
    seen = attempt(Phase.UNBOUND, pod_name=POD)
    hand.cache.pods.upsert(seen)
    await asyncio.sleep(11)

    assert hand.attempts == {POD: seen}


# Refusals


@pytest.mark.parametrize(
    ("error", "final", "held_s"),
    [
        pytest.param(FORBIDDEN, False, 5, id="403 quota"),
        pytest.param(BROKEN, False, 5, id="500"),
        pytest.param(NO_REPLY, False, 5, id="no reply"),
        pytest.param(ApiError(409, "Conflict", "quota"), False, 5, id="409 not AlreadyExists"),
        pytest.param(ApiError(429, "TooManyRequests", "later", 9), False, 9, id="429 Retry-After"),
        pytest.param(ApiError(422, "Invalid", "spec.volumes"), True, 5, id="422"),
        pytest.param(ApiError(400, "BadRequest", "spec.foo"), True, 5, id="400"),
    ],
)  # fmt: skip
async def test_a_refusal_holds_the_job_back_with_the_servers_words(
    error: ApiError,
    final: bool,  # noqa: FBT001  # a column of the table
    held_s: float,
) -> None:
    hand = Hand()
    hand.api.will("create", error)
    hand.api.always["get"] = ApiError(404, "NotFound", "no such Pod")
    await hand.submit(start())
    refusal = hand.cache.refusals["uid-job"]

    assert refusal.message == error.message
    assert refusal.final is final
    assert refusal.retry_at == START + timedelta(seconds=held_s)
    assert hand.attempts == {}
    assert hand.applier.start_budget == CREATES_IN_FLIGHT_MAX
    assert "uid-job" in hand.cache._changed_jobs
    assert hand.woken == 1


async def test_repeated_refusals_hold_the_job_back_longer_each_time() -> None:
    hand = Hand()
    hand.api.always["create"] = FORBIDDEN
    held = []
    for _ in range(9):
        await hand.submit(start())
        held.append(round(hand.held_s))
        await asyncio.sleep(hand.held_s)

    assert held == [5, 10, 20, 40, 80, 160, 300, 300, 300]


async def test_many_creates_refused_together_are_one_refusal() -> None:
    hand = Hand()
    hand.api.always["create"] = FORBIDDEN
    await hand.submit(*(start(index=index, array_size=50) for index in range(50)))

    assert hand.held_s == pytest.approx(5, abs=0.01)
    await asyncio.sleep(5)
    await hand.submit(start(index=0, array_size=50))

    assert hand.held_s == pytest.approx(10, abs=0.01)


async def test_acceptance_ends_a_refusal_and_lets_more_and_more_be_tried() -> None:
    """A quota that let one Pod in may let in only a few more."""
    hand = Hand()
    hand.api.will("create", FORBIDDEN, FORBIDDEN)
    await hand.submit(start(), then_s=5)
    await hand.submit(start(), then_s=10)

    assert hand.cache.refusals["uid-job"].window == 1

    await hand.submit(start())
    after = hand.cache.refusals["uid-job"]

    assert after.window == 2
    assert after.retry_at <= hand.applier._clock.now()
    hand.api.will("create", FORBIDDEN)
    await hand.submit(start(number=2))

    assert hand.held_s == pytest.approx(5, abs=0.01)


async def test_one_jobs_refusal_is_not_anothers() -> None:
    hand = Hand()
    hand.api.will("create", FORBIDDEN)
    await hand.submit(start())

    assert list(hand.cache.refusals) == ["uid-job"]


@pytest.mark.parametrize("answer", ["create", "get"])
async def test_a_pod_of_ours_that_cannot_be_read_holds_its_job_back(
    answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A webhook or a user took our labels off: asking again at once would never end."""
    hand = Hand()
    unreadable = pod_object(POD, labels={})
    if answer == "create":
        hand.api.will("create", unreadable)
    else:
        hand.api.will("create", ALREADY_EXISTS)
        hand.api.will("get", unreadable)
    await hand.submit(start())

    assert hand.attempts == {}
    assert hand.held_s == pytest.approx(5, abs=0.01)
    assert "cannot be made or read" in hand.cache.refusals["uid-job"].message
    assert POD in caplog.text
    assert hand.applier.start_budget == CREATES_IN_FLIGHT_MAX


async def test_a_pod_that_cannot_be_made_holds_its_job_back_and_blocks_nothing() -> None:
    """An error in this program; what it must not do is keep capacity and budget for ever."""
    hand = Hand()
    broken = start()
    broken = replace(broken, plan=replace(broken.plan, template={}))
    await hand.submit(broken)

    assert hand.api.requests == []
    assert hand.attempts == {}
    assert hand.held_s == pytest.approx(5, abs=0.01)
    assert hand.applier.start_budget == CREATES_IN_FLIGHT_MAX


# Releasing and deleting Pods

ENDED = attempt(Phase.SUCCEEDED, pod_name=POD)
RUNNING = attempt(Phase.RUNNING, pod_name=POD)


async def test_a_release_takes_finalizer_and_label_off_in_one_patch() -> None:
    hand = Hand()
    hand.cache.pods.upsert(ENDED)
    hand.api.will("patch", b"{}")
    await hand.submit(ReleasePod(ENDED))
    [request] = hand.api.requests

    assert request.content_type == STRATEGIC_MERGE_PATCH
    assert (request.namespace, request.name) == ("default", ENDED.pod_name)
    assert request.body == {
        "metadata": {
            "uid": ENDED.pod_uid,
            "labels": {meta.LABEL_TRACKED: None},
            "$deleteFromPrimitiveList/finalizers": [meta.FINALIZER_TRACKING],
        }
    }


@pytest.mark.parametrize(
    "answer", [pytest.param(b"{}", id="done"), pytest.param(NOT_FOUND, id="gone already")]
)
async def test_a_released_pod_is_forgotten_and_stays_so(answer: bytes | ApiError) -> None:
    hand = Hand()
    hand.cache.pods.upsert(ENDED)
    hand.api.will("patch", answer)
    await hand.submit(ReleasePod(ENDED))
    hand.cache.pods.upsert(replace(ENDED, resource_version=99))

    assert hand.attempts == {}
    assert hand.woken == 1


@pytest.mark.parametrize(
    ("mutation", "verb"),
    [
        pytest.param(ReleasePod(ENDED), "patch", id="ReleasePod"),
        pytest.param(DeletePod(ENDED), "delete", id="DeletePod"),
        pytest.param(StopPod(ENDED), "patch", id="StopPod"),
        pytest.param(DeleteJob("default", "job", "uid-job"), "delete", id="DeleteJob"),
    ],
)
async def test_a_write_that_fails_is_decided_again_five_seconds_later(
    mutation: Mutation, verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    hand = Hand()
    hand.cache.pods.upsert(ENDED)
    hand.api.will(verb, BROKEN)
    await hand.submit(mutation, then_s=4.9)

    assert hand.cache._changed_jobs == set()
    assert hand.attempts == {ENDED.pod_name: ENDED}
    assert "failed, decided again in 5 s: 500 InternalError: etcd" in caplog.text
    await asyncio.sleep(0.2)

    assert hand.cache._changed_jobs == {"uid-job"}
    assert hand.woken == 1


@pytest.mark.parametrize("error", [ApiError(409, "Conflict", "another uid"), NOT_FOUND])
async def test_what_is_gone_or_another_is_no_reason_to_complain(
    error: ApiError, caplog: pytest.LogCaptureFixture
) -> None:
    hand = Hand()
    hand.api.will("delete", error)
    await hand.submit(DeletePod(RUNNING), then_s=6)

    assert caplog.records == []
    assert hand.cache._changed_jobs == {"uid-job"}


async def test_a_delete_means_one_uid_and_its_reply_counts_at_once() -> None:
    """Under the same name there may be another Pod by now."""
    hand = Hand()
    hand.cache.pods.upsert(RUNNING)
    answer = pod_object(
        RUNNING.pod_name,
        uid=RUNNING.pod_uid,
        version=60,
        deletionTimestamp="2026-01-01T00:01:00Z",
    )
    hand.api.will("delete", answer)
    await hand.submit(DeletePod(RUNNING))
    [request] = hand.api.requests

    assert (request.resource, request.namespace) == ("pods", "default")
    assert (request.name, request.uid) == (RUNNING.pod_name, RUNNING.pod_uid)
    assert hand.attempts[RUNNING.pod_name].deleting


async def test_a_pod_on_a_node_is_stopped_by_its_kubelet() -> None:
    """Deleted, it would take its log with it."""
    hand = Hand()
    hand.cache.pods.upsert(RUNNING)
    hand.api.will("patch", pod_object(POD, uid=RUNNING.pod_uid, version=60))
    await hand.submit(StopPod(RUNNING))
    [request] = hand.api.requests

    assert request.content_type == STRATEGIC_MERGE_PATCH
    assert request.body == {
        "metadata": {"uid": RUNNING.pod_uid},
        "spec": {"activeDeadlineSeconds": applying.STOP_DEADLINE_S},
    }
    assert hand.attempts[POD].resource_version == 60


async def test_a_pod_on_a_node_is_marked_in_the_write_that_stops_it() -> None:
    hand = Hand()
    hand.cache.pods.upsert(RUNNING)
    hand.api.will("patch", pod_object(POD, uid=RUNNING.pod_uid, version=60, annotations=MARKED))
    await hand.submit(StopPod(RUNNING, MARK))
    [request] = hand.api.requests

    assert request.body == {
        "metadata": {"uid": RUNNING.pod_uid, "annotations": MARKED},
        "spec": {"activeDeadlineSeconds": applying.STOP_DEADLINE_S},
    }
    assert hand.attempts[POD].requeued == MARK


async def test_a_pod_on_no_node_is_marked_first_and_deleted_when_the_mark_is_seen() -> None:
    hand = Hand()
    unbound = attempt(Phase.UNBOUND, pod_name=POD, node_name=None, resource_version=42)
    hand.cache.pods.upsert(unbound)
    hand.api.will("patch", pod_object(POD, uid=unbound.pod_uid, version=43, annotations=MARKED))
    await hand.submit(StopPod(unbound, MARK))
    marked = hand.attempts[POD]
    hand.api.will("delete", pod_object(POD, uid=unbound.pod_uid, version=60, annotations=MARKED))
    await hand.submit(StopPod(marked))
    mark, delete = hand.api.requests

    assert mark.body == {"metadata": {"uid": unbound.pod_uid, "annotations": MARKED}}
    assert (delete.verb, delete.resource_version) == ("delete", 43)


async def test_a_pod_on_no_node_is_deleted_only_as_it_was_seen() -> None:
    """A node may have got it meanwhile; then it is another case."""
    hand = Hand()
    unbound = attempt(Phase.UNBOUND, pod_name=POD, node_name=None, resource_version=42)
    hand.cache.pods.upsert(unbound)
    hand.api.will("delete", pod_object(POD, uid=unbound.pod_uid, version=60))
    await hand.submit(StopPod(unbound))
    [request] = hand.api.requests

    assert (request.uid, request.resource_version) == (unbound.pod_uid, 42)
    assert hand.attempts[POD].resource_version == 60


async def test_the_reply_to_a_delete_does_not_bring_back_what_is_gone() -> None:
    """Its DELETED event was quicker; a ghost would hold capacity until the next list."""
    hand = Hand()
    hand.cache.pods.upsert(RUNNING)
    hand.api.will("delete", Late(1, pod_object(RUNNING.pod_name, uid=RUNNING.pod_uid, version=60)))
    await hand.submit(DeletePod(RUNNING), then_s=0.5)
    hand.cache.pods.remove(RUNNING)
    await asyncio.sleep(1)

    assert hand.attempts == {}


async def test_a_reply_that_cannot_be_read_is_reported_and_the_pod_looked_at_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hand = Hand()
    hand.cache.pods.upsert(RUNNING)
    hand.api.will("delete", msgspec.json.encode({"kind": "Status", "status": "Success"}))
    await hand.submit(DeletePod(RUNNING), then_s=6)

    assert hand.cache._changed_jobs == {"uid-job"}
    assert hand.applier._in_flight == {}
    assert f"delete {RUNNING.pod_uid}" in caplog.text


async def test_a_job_is_deleted_by_uid() -> None:
    hand = Hand()
    hand.api.will("delete", b"{}")
    await hand.submit(DeleteJob("default", "job", "uid-job"))
    [request] = hand.api.requests

    assert (request.resource, request.namespace) == ("batchjobs", "default")
    assert (request.name, request.uid) == ("job", "uid-job")


# Revisions of definitions


def _revision_reply(request: Request) -> bytes:
    return stored(request.body or {}, uid="revision-1", version=50)


async def test_a_revision_is_kept_and_known_as_soon_as_the_reply_is_there() -> None:
    hand = Hand()
    hand.api.will("create", _revision_reply)
    await hand.submit(REVISION)

    assert hand.cache._definitions["default", "work"].revisions == {1: REVISION.spec}
    assert hand.cache._changed_definitions == {("default", "work")}


def _existing(**changes: Any) -> bytes:
    metadata = {
        "name": "work-1",
        "namespace": "default",
        "labels": {meta.LABEL_JOB_DEFINITION: "work"},
    }
    body = {"metadata": metadata, "revision": 1, "data": REVISION.spec.to_wire(), **changes}
    return stored(body, uid="revision-1", version=50)


async def test_a_revision_that_exists_already_is_taken_if_it_says_the_same() -> None:
    """From a create whose reply was lost, or of a definition that was deleted and applied again."""
    hand = Hand()
    hand.api.will("create", ALREADY_EXISTS)
    hand.api.will("get", _existing())
    await hand.submit(REVISION)

    assert hand.cache._definitions["default", "work"].revisions == {1: REVISION.spec}
    assert hand.api.asked("get")[0].name == "work-1"


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(
            _existing(data=definition_spec(podTemplate=pod_template("8")).to_wire()),
            id="of a definition that was another",
        ),
        pytest.param(_existing(revision=2), id="another number"),
        pytest.param(_existing(metadata={"name": "work-1"}), id="a stranger's without our label"),
    ],
)
async def test_a_revision_that_exists_already_and_says_something_else_is_not_taken(
    found: bytes,
) -> None:
    """A job must not run what was written in a definition that is no more."""
    hand = Hand()
    hand.api.will("create", ALREADY_EXISTS)
    hand.api.will("get", found)
    await hand.submit(REVISION, then_s=6)

    assert hand.cache._definitions["default", "work"].revisions == {}
    assert hand.cache._changed_definitions == {("default", "work")}, "it is decided again"


def applied(hand: Hand, version: int = 40, **spec: Any) -> None:
    """The definition is there, of generation `version`."""
    one = definition(spec=definition_spec(**spec)).object
    assert one is not None
    hand.cache.definitions.upsert(replace(one, resource_version=version, generation=version))


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        pytest.param({"create": FORBIDDEN}, FORBIDDEN.message, id="a quota"),
        pytest.param(
            {"create": ALREADY_EXISTS, "get": _existing(metadata={"name": "work-1"})},
            "a ControllerRevision work-1 exists that is not this JobDefinition's: delete it",
            id="a stranger's without our label",
        ),
        pytest.param({"create": ApiError(409, "Conflict", "try again")}, None, id="overtaken"),
        pytest.param({"create": ApiError(404, "NotFound", "gone")}, None, id="no namespace"),
    ],
)
async def test_what_keeps_a_revision_from_being_kept_is_known_at_once(
    answers: dict[str, ApiError | bytes], told: str | None
) -> None:
    hand = Hand()
    applied(hand)
    for verb, answer in answers.items():
        hand.api.will(verb, answer)
    hand.cache._changed_definitions.clear()
    await hand.submit(REVISION, then_s=1)

    assert hand.cache._definitions["default", "work"].refused == told
    assert hand.cache._changed_definitions == ({("default", "work")} if told else set())


@pytest.mark.parametrize("how", ["another spec", "it is kept after all"])
async def test_a_refused_revision_is_forgotten_with_what_was_refused(how: str) -> None:
    hand = Hand()
    applied(hand)
    hand.cache.refuse_revision("uid-work", "quota" * 1000)
    applied(hand, version=40)
    assert len(hand.cache._definitions["default", "work"].refused or "") == 512

    if how == "another spec":
        applied(hand, version=60, parameters={"a": "b"})
    else:
        hand.cache.revisions.upsert(KEPT)

    assert hand.cache._definitions["default", "work"].refused is None


async def test_a_revision_that_could_not_be_kept_is_decided_again_five_seconds_later() -> None:
    """Nothing else would ask for it again, and jobs wait for it."""
    hand = Hand()
    hand.api.will("create", BROKEN)
    await hand.submit(REVISION, then_s=4.9)
    hand.cache._changed_definitions.clear()
    await asyncio.sleep(0.2)

    assert hand.cache._changed_definitions == {("default", "work")}


KEPT = Revision("revision-1", 50, "default", "work", 1, REVISION.spec)


@pytest.mark.parametrize(
    "answer", [pytest.param(b"{}", id="done"), pytest.param(NOT_FOUND, id="gone already")]
)
async def test_a_revision_that_nobody_runs_is_deleted_by_uid_and_forgotten(
    answer: bytes | ApiError,
) -> None:
    hand = Hand()
    hand.cache.revisions.upsert(KEPT)
    hand.api.will("delete", answer)
    await hand.submit(DeleteRevision("default", "work", 1))
    [request] = hand.api.requests

    assert (request.resource, request.namespace) == ("controllerrevisions", "default")
    assert (request.name, request.uid) == ("work-1", "revision-1")
    assert hand.cache._definitions["default", "work"].revisions == {}


async def test_a_revision_that_is_not_known_is_not_deleted() -> None:
    hand = Hand()
    hand.cache.revisions.upsert(KEPT)
    await hand.submit(DeleteRevision("default", "work", 2), DeleteRevision("default", "other", 1))

    assert hand.api.requests == []


async def test_a_revision_that_could_not_be_deleted_is_decided_again_five_seconds_later() -> None:
    hand = Hand()
    hand.cache.revisions.upsert(KEPT)
    hand.api.will("delete", BROKEN)
    await hand.submit(DeleteRevision("default", "work", 1), then_s=6)

    assert hand.cache._definitions["default", "work"].revisions == {1: REVISION.spec}
    assert hand.cache._changed_definitions == {("default", "work")}


# Statuses, and all together


async def test_a_status_is_the_status_writers_business() -> None:
    hand = Hand()
    status = BatchJobStatus(status_reason="a")
    hand.api.will("status", with_status(job(), status.to_wire(), version=60))
    await hand.submit(
        WriteStatus(
            kind="BatchJob",
            namespace="default",
            name="job",
            uid="uid-job",
            decided_on=1,
            status=status,
            urgency=Urgency.FINAL,
        )
    )

    assert hand.cache.jobs.items["uid-job"].status.status_reason == "a"


async def test_one_failure_stops_no_other() -> None:
    hand = Hand()
    hand.cache.pods.upsert(ENDED)
    hand.api.will("create", FORBIDDEN)
    hand.api.will("patch", b"{}")
    hand.api.will("delete", b"{}")
    await hand.submit(
        start(number=2), ReleasePod(ENDED), DeleteJob("default", "other", "uid-other")
    )

    assert [one.verb for one in hand.api.requests] == ["create", "patch", "delete"]
    assert hand.attempts == {}
    assert hand.woken == 3


async def test_nothing_is_in_flight_when_everything_is_done() -> None:
    hand = Hand()
    hand.cache.pods.upsert(ENDED)
    hand.api.will("patch", b"{}")
    await hand.submit(start(number=2), ReleasePod(ENDED), REVISION, then_s=applying.RETRY_S)

    assert hand.applier._in_flight == {}
