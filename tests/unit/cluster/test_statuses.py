"""When statuses are written, and what becomes of those that cannot be."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.api.job import BatchJobStatus, JobState
from batch_operator.api.job_queue import JobQueueStatus
from batch_operator.cluster import decoding
from batch_operator.cluster.cache import Cache
from batch_operator.cluster.client import ApiError
from batch_operator.cluster.statuses import StatusTarget, StatusWriter
from batch_operator.scheduling.mutations import Urgency, WriteStatus
from support.builders import job, queue
from support.scripted_api import Late, Request, ScriptedApi
from support.virtual_time import VirtualClock, settled
from support.wire import with_status

if TYPE_CHECKING:
    from batch_operator.scheduling.snapshot import Job

LAZY, NORMAL, COUNTED, FINAL = Urgency
CONFLICT = ApiError(409, "Conflict", "the object has been modified")


@dataclass(slots=True)
class Written:
    """A status that was written: when, of which job, and its reason as a mark."""

    at_s: float
    name: str
    mark: str


@dataclass(slots=True)
class Desk:
    """A status writer with its cache, before an API server that takes everything.

    Statuses are told apart by their `statusReason`, which the tests call a mark. `decides_again`
    stands for the cycle: the last wish for a job is repeated when the job has changed.
    """

    decides_again: bool = False

    api: ScriptedApi = field(default_factory=ScriptedApi)
    cache: Cache = field(default_factory=Cache)
    told: list[tuple[str, Any, Any]] = field(default_factory=list)
    woken: int = 0
    writer: StatusWriter = field(init=False)
    version: int = 100
    wished: dict[str, tuple[str | None, Urgency]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.api.always["status"] = self.accept
        self.writer = StatusWriter(
            self.api,
            VirtualClock(),
            {
                "BatchJob": StatusTarget(self.cache.jobs, decoding.job_decoder()),
                "JobQueue": StatusTarget(self.cache.queues, decoding.queue_decoder()),
            },
            wrote=lambda write, before, after: self.told.append((write.name, before, after)),
            wake=self._wake,
            touch=self.cache.touch,
        )

    def _wake(self) -> None:
        self.woken += 1
        if self.decides_again:
            for uid in self.touched():
                name = uid.removeprefix("uid-")
                mark, urgency = self.wished[name]
                is_done = self.cache.jobs.items[uid].status.status_reason == mark
                self.want(None if is_done else mark, urgency, name)

    def know(self, *jobs: Job) -> Desk:
        for one in jobs or (job(),):
            self.cache.jobs.upsert(one)
        self.touched()
        return self

    def touched(self) -> set[str]:
        """What a next cycle would look at."""
        found = set(self.cache._changed_jobs)
        self.cache._changed_jobs.clear()
        return found

    def accept(self, request: Request) -> bytes:
        assert request.body is not None
        self.version += 1
        known = self.cache.jobs.items.get(request.body["metadata"]["uid"], job())
        return with_status(known, request.body["status"], version=self.version)

    def want(self, mark: str | None, urgency: Urgency = NORMAL, name: str = "job") -> None:
        uid = f"uid-{name}"
        self.wished[name] = mark, urgency
        status = None if mark is None else BatchJobStatus(status_reason=mark)
        known = self.cache.jobs.items.get(uid, job())
        self.writer.want(
            WriteStatus(
                kind="BatchJob",
                namespace="default",
                name=name,
                uid=uid,
                decided_on=known.resource_version,
                status=status,
                urgency=urgency,
            )
        )

    def want_of_queue(self, status: JobQueueStatus) -> None:
        self.writer.want(
            WriteStatus(
                kind="JobQueue",
                namespace="",
                name="main",
                uid="uid-main",
                decided_on=1,
                status=status,
                urgency=COUNTED,
            )
        )

    async def written_after(self, seconds: float) -> list[Written]:
        await asyncio.sleep(seconds)
        await settled()
        return [
            Written(round(one.at_s, 3), one.name, (one.body or {})["status"]["statusReason"])
            for one in self.api.asked("status")
        ]


@pytest.mark.parametrize(
    ("urgency", "expected_s"), [(LAZY, 2), (NORMAL, 0.3), (COUNTED, 0), (FINAL, 0)]
)
async def test_the_first_write_waits_according_to_its_urgency(
    urgency: Urgency, expected_s: float
) -> None:
    desk = Desk().know()
    desk.want("a", urgency)

    assert await desk.written_after(10) == [Written(expected_s, "job", "a")]


async def test_several_wishes_become_one_write_of_the_latest() -> None:
    desk = Desk().know()
    for mark in "abc":
        desk.want(mark)
        await asyncio.sleep(0.05)

    assert desk.writer.waiting == 1
    assert await desk.written_after(10) == [Written(0.3, "job", "c")]
    assert desk.writer.waiting == 0


@pytest.mark.parametrize(
    ("first", "second", "expected_s"),
    [
        pytest.param(LAZY, NORMAL, 0.4, id="a more urgent wish brings the write forward"),
        pytest.param(LAZY, FINAL, 0.1, id="a final one at once"),
        pytest.param(NORMAL, LAZY, 0.3, id="a less urgent one does not put it off"),
        pytest.param(LAZY, LAZY, 2, id="repeated wishes do not put it off"),
    ],
)
async def test_a_wish_replaced_is_written_at_the_earlier_of_the_two_times(
    first: Urgency, second: Urgency, expected_s: float
) -> None:
    desk = Desk().know()
    desk.want("a", first)
    await asyncio.sleep(0.1)
    desk.want("b", second)

    assert await desk.written_after(10) == [Written(expected_s, "job", "b")]


async def test_a_wish_that_is_withdrawn_is_not_written() -> None:
    desk = Desk().know()
    desk.want("a")
    await asyncio.sleep(0.1)
    desk.want(None)

    assert desk.writer.waiting == 0
    assert await desk.written_after(10) == []


async def test_a_wish_after_a_withdrawal_waits_its_own_time() -> None:
    """The timer of the withdrawn one must not fire it early."""
    desk = Desk().know()
    desk.want("a")
    await asyncio.sleep(0.2)
    desk.want(None)
    desk.want("b")

    assert await desk.written_after(10) == [Written(0.5, "job", "b")]


@pytest.mark.parametrize(
    ("urgency", "expected_s"), [(LAZY, 2.1), (NORMAL, 1), (COUNTED, 1), (FINAL, 0.1)]
)
async def test_one_object_is_written_once_a_second_unless_it_is_final(
    urgency: Urgency, expected_s: float
) -> None:
    desk = Desk().know()
    desk.want("a", COUNTED)
    await asyncio.sleep(0.1)
    desk.want("b", urgency)

    assert await desk.written_after(10) == [
        Written(0, "job", "a"),
        Written(expected_s, "job", "b"),
    ]


async def test_a_stream_of_wishes_is_one_write_a_second_and_ends_with_the_last() -> None:
    desk = Desk().know()
    for number in range(40):
        desk.want(f"{number}", COUNTED)
        await asyncio.sleep(0.1)
    written = await desk.written_after(10)

    assert [one.at_s for one in written] == [0, 1, 2, 3, 4]
    assert written[-1].mark == "39"


async def test_other_objects_do_not_wait_for_each_other() -> None:
    desk = Desk().know(job("one"), job("two"))
    desk.api.will("status", Late(5, desk.accept))
    desk.want("a", COUNTED, "one")
    desk.want("b", COUNTED, "two")

    assert await desk.written_after(1) == [Written(0, "one", "a"), Written(0, "two", "b")]


@pytest.mark.parametrize("urgency", [COUNTED, FINAL])
async def test_at_most_one_write_of_an_object_is_in_flight(urgency: Urgency) -> None:
    desk = Desk(decides_again=True).know()
    desk.api.will("status", Late(5, desk.accept))
    desk.want("a", COUNTED)
    await asyncio.sleep(1)
    desk.want("b", urgency)
    desk.want("c", urgency)

    assert await desk.written_after(3.9) == [Written(0, "job", "a")]
    written = await desk.written_after(10)

    assert [one.mark for one in written] == ["a", "c"]
    assert written[1].at_s == (5 if urgency is FINAL else 6), "a second after the reply"


async def test_what_was_decided_on_an_outdated_object_is_decided_again_not_written() -> None:
    """A user's change, or our own write, came between the decision and its time."""
    desk = Desk().know()
    desk.want("a")
    desk.cache.jobs.upsert(replace(job(), resource_version=2))
    desk.touched()

    assert await desk.written_after(10) == []
    assert desk.touched() == {"uid-job"}
    assert desk.woken == 1


async def test_a_wish_withdrawn_while_another_is_in_flight_is_not_written() -> None:
    desk = Desk().know()
    desk.api.will("status", Late(1, desk.accept))
    desk.want("a", COUNTED)
    await asyncio.sleep(0.5)
    desk.want("b")
    desk.want(None)

    assert await desk.written_after(10) == [Written(0, "job", "a")]


async def test_a_write_names_the_object_and_the_version_it_was_decided_on() -> None:
    """Uid and resourceVersion: what changed meanwhile, or is another object, is a conflict."""
    desk = Desk().know(replace(job(), resource_version=42))
    desk.want("a", COUNTED)
    await desk.written_after(0)
    [request] = desk.api.asked("status")

    assert (request.resource, request.namespace, request.name) == ("batchjobs", "default", "job")
    assert request.body is not None
    assert request.body["metadata"] == {
        "name": "job",
        "namespace": "default",
        "uid": "uid-job",
        "resourceVersion": "42",
    }
    assert "spec" not in request.body


async def test_a_cluster_scoped_object_is_written_without_a_namespace() -> None:
    desk = Desk()
    desk.cache.queues.upsert(queue())
    status = JobQueueStatus(jobs={JobState.RUNNABLE: 3})
    desk.api.will("status", with_status(queue(), status.to_wire(), version=7))
    desk.want_of_queue(status)
    await settled()
    [request] = desk.api.asked("status")

    assert (request.resource, request.namespace) == ("jobqueues", None)
    assert "namespace" not in (request.body or {})["metadata"]
    assert desk.cache.queues.items["uid-main"].status == status


async def test_the_reply_is_known_at_once_and_told_of() -> None:
    desk = Desk().know()
    desk.want("a", COUNTED)
    await desk.written_after(0)
    stored = desk.cache.jobs.items["uid-job"]

    assert stored.status.status_reason == "a"
    assert stored.resource_version == 101
    assert desk.told == [("job", job(), stored)]
    assert desk.woken == 1


async def test_the_next_write_builds_on_the_reply_to_the_last() -> None:
    desk = Desk().know()
    desk.want("a", COUNTED)
    await asyncio.sleep(0.5)
    desk.want("b", COUNTED)
    await desk.written_after(10)

    assert [
        (one.body or {})["metadata"]["resourceVersion"] for one in desk.api.asked("status")
    ] == ["1", "101"]


async def test_a_reply_that_comes_after_the_objects_end_does_not_bring_it_back() -> None:
    desk = Desk().know()
    desk.api.will("status", Late(1, desk.accept))
    desk.want("a", COUNTED)
    await asyncio.sleep(0.5)
    desk.cache.jobs.remove(job())
    await desk.written_after(1)

    assert desk.cache.jobs.items == {}


async def test_nothing_is_written_of_what_is_gone() -> None:
    desk = Desk().know()
    desk.want("a")
    desk.cache.jobs.remove(job())

    assert await desk.written_after(10) == []


async def test_a_conflict_leads_to_another_look_a_second_later() -> None:
    desk = Desk().know()
    desk.api.will("status", CONFLICT)
    desk.want("a", COUNTED)
    await desk.written_after(0.9)

    assert desk.touched() == set()
    woken = desk.woken
    await desk.written_after(0.2)

    assert desk.touched() == {"uid-job"}
    assert desk.woken == woken + 1
    assert desk.told == []


async def test_what_is_wished_during_a_write_that_meets_a_conflict_is_not_lost() -> None:
    desk = Desk().know()
    desk.api.will("status", Late(1, CONFLICT))
    desk.want("a", COUNTED)
    await asyncio.sleep(0.5)
    desk.want("b", NORMAL)
    written = await desk.written_after(10)

    assert [one.mark for one in written] == ["a", "b"]
    assert desk.cache.jobs.items["uid-job"].status.status_reason == "b"


async def test_what_is_gone_is_not_looked_at_again() -> None:
    desk = Desk().know()
    desk.api.will("status", ApiError(404, "NotFound", "no such job"))
    desk.want("a", COUNTED)
    written = await desk.written_after(600)

    assert len(written) == 1
    assert desk.touched() == set()


@pytest.mark.parametrize(
    ("error", "within_s"),
    [
        pytest.param(ApiError(0, "NoReply", "timeout"), 3, id="no reply"),
        pytest.param(ApiError(500, "InternalError", "etcd"), 3, id="500"),
        pytest.param(ApiError(429, "TooManyRequests", "later"), 3, id="429"),
        pytest.param(ApiError(401, "Unauthorized", "expired"), 31, id="401"),
        pytest.param(ApiError(403, "Forbidden", "RBAC"), 31, id="403"),
        pytest.param(ApiError(422, "Invalid", "old CRD"), 31, id="422"),
    ],
)
async def test_what_an_administrator_or_time_can_mend_is_looked_at_again(
    error: ApiError, within_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing else would: the object does not change by itself when its RBAC is mended."""
    desk = Desk().know()
    desk.api.will("status", error)
    desk.want("a", COUNTED)
    await desk.written_after(within_s)

    assert desk.touched() == {"uid-job"}
    assert "status of BatchJob default/job could not be written" in caplog.text


@pytest.mark.parametrize("urgency", list(Urgency))
async def test_while_the_api_server_is_away_it_is_asked_every_other_second(
    urgency: Urgency,
) -> None:
    """Every cycle wishes for the status that is still not there, and there are many cycles."""
    desk = Desk().know()
    desk.api.always["status"] = ApiError(0, "NoReply", "connection refused")
    for _ in range(600):
        desk.want("a", urgency)
        await asyncio.sleep(0.1)

    assert 10 <= len(desk.api.asked("status")) <= 31
    desk.api.always["status"] = desk.accept
    written = await desk.written_after(4)
    assert written[-1].mark == "a"
    assert written[-1].at_s <= 64
    assert desk.writer._held_until_s == {}


async def test_a_queue_is_looked_at_again_too() -> None:
    desk = Desk()
    desk.cache.queues.upsert(queue())
    desk.cache._changed_queues.clear()
    desk.api.will("status", CONFLICT)
    status = JobQueueStatus(jobs={JobState.RUNNABLE: 3})
    desk.want_of_queue(status)
    await asyncio.sleep(2)

    assert desk.cache._changed_queues == {"main"}


async def test_a_final_write_leaves_nothing_behind() -> None:
    """Jobs come and go; what is kept of them must not grow."""
    desk = Desk().know()
    desk.want("a", COUNTED)
    await asyncio.sleep(2)
    desk.want("b", FINAL)
    await desk.written_after(1)

    assert desk.writer._last_s == {}
    assert desk.writer._wishes == {}
    assert desk.writer._in_flight == set()
    assert desk.writer._tasks == set()
