"""The API server's model answers as the real one does: this is what every simulation rests on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from batch_operator.cluster.client import (
    BATCH_JOBS,
    JOB_QUEUES,
    MERGE_PATCH,
    PODS,
    STRATEGIC_MERGE_PATCH,
    ApiError,
)
from batch_operator.simulator.api_client import SimulatedApiClient
from batch_operator.simulator.api_server import ApiServer
from batch_operator.simulator.garbage_collector import GarbageCollector
from batch_operator.simulator.label_selector import selector
from batch_operator.simulator.line import Line
from batch_operator.simulator.patches import (
    UnknownListError,
    merge_patch,
    strategic_merge_patch,
)
from batch_operator.simulator.virtual_time import DeadlockError, VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Coroutine

Json = dict[str, Any]
FINALIZER = "batch-operator.io/tracking"


class Bench:
    """A server whose clock the test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.server = ApiServer(lambda: self.now_s, seed=0)

    def job(self, name: str = "job", **spec: Any) -> Json:
        body = {
            "metadata": {"name": name},
            "spec": {"jobQueue": "main", "jobDefinition": "work", **spec},
        }
        return self.server.create(BATCH_JOBS, "default", body, "user").object

    def pod(self, name: str = "pod", *, finalizers: tuple[str, ...] = (), **labels: str) -> Json:
        body = {
            "metadata": {"name": name, "labels": labels, "finalizers": list(finalizers)},
            "spec": {"containers": [{"name": "main", "image": "i"}]},
        }
        return self.server.create(PODS, "default", body, "user").object

    def bind(self, name: str = "pod") -> None:
        self.server.update(
            PODS,
            "default",
            name,
            lambda old: {**old, "spec": {**old["spec"], "nodeName": "n"}},
            "s",
        )

    def refusal(self, *arguments: Any, verb: str, **options: Any) -> tuple[int, str]:
        with pytest.raises(ApiError) as caught:
            getattr(self.server, verb)(*arguments, "user", **options)
        return caught.value.status, caught.value.reason


@pytest.fixture
def bench() -> Bench:
    return Bench()


def put(job: Json, **metadata: Any) -> Json:
    """A status PUT as the operator sends it."""
    return {"metadata": {**job["metadata"], **metadata}, "status": {"state": "RUNNABLE"}}


def test_a_new_object_has_what_the_server_sets(bench: Bench) -> None:
    bench.now_s = 61.9
    job = bench.job()

    metadata = job["metadata"]
    assert metadata["generation"] == 1
    assert metadata["creationTimestamp"] == "2026-01-01T00:01:01Z"
    assert metadata["resourceVersion"] == "2"
    assert job["status"] == {"observedGeneration": -1, "state": "SUBMITTED"}
    assert job["spec"]["suspend"] is False


def test_a_status_in_a_new_object_is_dropped(bench: Bench) -> None:
    body = {
        "metadata": {"name": "q"},
        "spec": {
            "priority": 1,
            "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "e"}],
        },
        "status": {"jobs": {"RUNNING": 7}},
    }

    assert bench.server.create(JOB_QUEUES, None, body, "user").object["status"] == {
        "observedGeneration": -1
    }


def test_uids_are_unique_and_rise(bench: Bench) -> None:
    uids = [bench.job(f"job-{number}")["metadata"]["uid"] for number in range(20)]

    assert uids == sorted(set(uids))


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"jobQueue": 7}, "spec.jobQueue"),
        ({"retryStrategy": {"attempts": 11}}, "spec.retryStrategy.attempts"),
        ({"retriesStrategy": {}}, "spec.retriesStrategy"),
        ({"arrayProperties": {"size": 2, "rerunFailedOf": "a"}}, "spec.arrayProperties"),
        ({"dependsOn": [{"job": "job"}]}, "spec.dependsOn"),
    ],
)
def test_an_invalid_object_is_refused_by_its_field(bench: Bench, spec: Json, field: str) -> None:
    with pytest.raises(ApiError, match=field) as caught:
        bench.job(**spec)

    assert (caught.value.status, caught.value.reason) == (422, "Invalid")


def test_the_same_name_twice(bench: Bench) -> None:
    body = bench.job()

    assert bench.refusal(BATCH_JOBS, "default", body, verb="create") == (409, "AlreadyExists")


def test_a_status_is_written_alone_and_bumps_no_generation(bench: Bench) -> None:
    job = bench.job()
    body = {**put(job), "spec": {"jobQueue": "another"}}
    after = bench.server.replace_status(BATCH_JOBS, "default", "job", body, "operator").object

    assert after["spec"] == job["spec"]
    assert after["status"] == {"state": "RUNNABLE"}
    assert after["metadata"]["generation"] == 1
    assert int(after["metadata"]["resourceVersion"]) > int(job["metadata"]["resourceVersion"])


@pytest.mark.parametrize(
    ("metadata", "refusal"),
    [
        ({"resourceVersion": "1"}, (409, "Conflict")),
        ({"uid": "another"}, (409, "Conflict")),
        ({"resourceVersion": ""}, (422, "Invalid")),
    ],
)
def test_a_status_needs_the_version_that_is_stored(
    bench: Bench, metadata: Json, refusal: tuple[int, str]
) -> None:
    body = put(bench.job(), **metadata)

    assert bench.refusal(BATCH_JOBS, "default", "job", body, verb="replace_status") == refusal


def test_a_write_that_changes_nothing_makes_no_version(bench: Bench) -> None:
    job = bench.job()
    once = bench.server.replace_status(BATCH_JOBS, "default", "job", put(job), "o")
    again = bench.server.replace_status(BATCH_JOBS, "default", "job", put(once.object), "o")

    assert again is once


def test_what_is_fixed_in_a_job_cannot_be_patched(bench: Bench) -> None:
    bench.job()
    bench.server.patch(
        BATCH_JOBS, "default", "job", {"spec": {"schedulingPriority": 5}}, MERGE_PATCH, "user"
    )

    assert bench.server.get(BATCH_JOBS, "default", "job").object["metadata"]["generation"] == 2
    with pytest.raises(ApiError, match="spec: jobQueue cannot be changed"):
        bench.server.patch(
            BATCH_JOBS, "default", "job", {"spec": {"jobQueue": "b"}}, MERGE_PATCH, "user"
        )


def test_a_custom_resource_takes_no_strategic_patch(bench: Bench) -> None:
    bench.job()

    with pytest.raises(ApiError, match="cannot be patched"):
        bench.server.patch(BATCH_JOBS, "default", "job", {}, STRATEGIC_MERGE_PATCH, "user")


def test_a_pod_is_released_in_one_patch(bench: Bench) -> None:
    """Finalizer and label come off together; another uid is a conflict."""
    pod = bench.pod(finalizers=(FINALIZER, "other"), tracked="true", kept="yes")
    body = {
        "metadata": {
            "uid": pod["metadata"]["uid"],
            "labels": {"tracked": None},
            "$deleteFromPrimitiveList/finalizers": [FINALIZER],
        }
    }
    after = bench.server.patch(PODS, "default", "pod", body, STRATEGIC_MERGE_PATCH, "o").object

    assert after["metadata"]["finalizers"] == ["other"]
    assert after["metadata"]["labels"] == {"kept": "yes"}
    body["metadata"]["uid"] = "another"
    with pytest.raises(ApiError, match="uid"):
        bench.server.patch(PODS, "default", "pod", body, STRATEGIC_MERGE_PATCH, "o")


def test_a_pod_on_a_node_gets_its_grace(bench: Bench) -> None:
    bench.pod()
    bench.bind()
    marked = bench.server.delete(PODS, "default", "pod", "user").object["metadata"]

    assert marked["deletionTimestamp"] == "2026-01-01T00:00:30Z"
    assert marked["deletionGracePeriodSeconds"] == 30
    bench.server.delete(PODS, "default", "pod", "kubelet", grace_s=0)
    assert bench.server.find(PODS, "default", "pod") is None


def test_a_pod_without_a_node_goes_at_once(bench: Bench) -> None:
    bench.pod()
    bench.server.delete(PODS, "default", "pod", "user")

    assert bench.server.find(PODS, "default", "pod") is None


def test_a_finalizer_keeps_an_object_until_it_comes_off(bench: Bench) -> None:
    bench.pod(finalizers=(FINALIZER,))
    bench.server.delete(PODS, "default", "pod", "user")
    kept = bench.server.find(PODS, "default", "pod")
    body = {"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}}

    assert kept is not None
    assert kept["metadata"]["deletionGracePeriodSeconds"] == 0
    bench.server.patch(PODS, "default", "pod", body, STRATEGIC_MERGE_PATCH, "o")
    assert bench.server.find(PODS, "default", "pod") is None


def test_a_finalizer_that_comes_off_does_not_cut_the_grace_short(bench: Bench) -> None:
    bench.pod(finalizers=(FINALIZER,))
    bench.bind()
    bench.server.delete(PODS, "default", "pod", "user")
    body = {"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}}
    bench.server.patch(PODS, "default", "pod", body, STRATEGIC_MERGE_PATCH, "o")

    assert bench.server.find(PODS, "default", "pod") is not None


def test_a_deletion_means_one_object_and_one_version(bench: Bench) -> None:
    job = bench.job()["metadata"]
    target = (BATCH_JOBS, "default", "job")

    assert bench.refusal(*target, verb="delete", uid="another") == (409, "Conflict")
    assert bench.refusal(*target, verb="delete", resource_version=1) == (409, "Conflict")
    bench.server.delete(*target, "user", uid=job["uid"])
    assert bench.refusal(*target, verb="delete") == (404, "NotFound")


def test_merge_patch_is_rfc_7386() -> None:
    target = {"a": "b", "c": {"d": "e", "f": "g"}, "l": [1, 2]}

    assert merge_patch(target, {"a": "z", "c": {"f": None}, "l": [3]}) == {
        "a": "z",
        "c": {"d": "e"},
        "l": [3],
    }


def test_a_strategic_patch_merges_lists_by_their_keys() -> None:
    target = {"spec": {"schedulingGates": [{"name": "a"}, {"name": "b"}]}}
    patch = {"spec": {"schedulingGates": [{"name": "a", "$patch": "delete"}]}}

    assert strategic_merge_patch(target, patch) == {"spec": {"schedulingGates": [{"name": "b"}]}}
    with pytest.raises(UnknownListError):
        strategic_merge_patch({}, {"spec": {"hostAliases": [{"ip": "1"}]}})


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("", {}, True),
        ("a", {"a": ""}, True),
        ("a", {}, False),
        ("!a", {"a": "1"}, False),
        ("a=1,b!=2", {"a": "1"}, True),
        ("a==1,b!=2", {"a": "1", "b": "2"}, False),
    ],
)
def test_selectors(text: str, labels: dict[str, str], matches: bool) -> None:  # noqa: FBT001
    assert selector(text)(labels) is matches


# At a distance


def in_virtual_time(work: Coroutine[Any, Any, None]) -> None:
    loop = VirtualTimeLoop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


def served() -> tuple[ApiServer, SimulatedApiClient]:
    server, _, client = on_a_line()
    return server, client


def on_a_line() -> tuple[ApiServer, Line, SimulatedApiClient]:
    loop = asyncio.get_running_loop()
    server = ApiServer(loop.time, seed=0)
    line = Line(server, loop)
    return server, line, SimulatedApiClient(server, "operator", line)


def make_pod(server: ApiServer, name: str, **labels: str) -> None:
    body = {
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "main", "image": "i"}]},
    }
    server.create(PODS, "default", body, "user")


def test_pages_of_a_list_show_one_moment() -> None:
    async def work() -> None:
        server, client = served()
        for number in range(5):
            make_pod(server, f"p{number}", app="x" if number != 3 else "y")
        page = await client.list_page(PODS, label_selector="app=x", limit=2)
        server.delete(PODS, "default", "p4", "user")
        rest = await client.list_page(PODS, limit=2, continue_token=page.continue_token)

        assert [_name(one) for one in (*page.items, *rest.items)] == ["p0", "p1", "p2", "p4"]
        assert (rest.continue_token, rest.resource_version) == ("", page.resource_version)

    in_virtual_time(work())


def test_a_watch_begins_where_it_is_told_and_follows() -> None:
    async def work() -> None:
        server, client = served()
        make_pod(server, "before", app="x")
        version = str(server.version)
        make_pod(server, "p", app="x")
        make_pod(server, "other", app="y")
        seen = []

        async def watch() -> None:
            events = client.watch(PODS, label_selector="app=x", resource_version=version)
            async for event in events:
                seen.append((event.type, _name(event.object)))
                if event.type == "DELETED" and _name(event.object) == "other":
                    return

        task = asyncio.create_task(watch())
        await asyncio.sleep(1)
        relabel(server, "other", "x")
        relabel(server, "p", "y")  # leaves the selection
        server.delete(PODS, "default", "other", "user")
        await task

        assert seen == [
            ("ADDED", "p"),
            ("ADDED", "other"),
            ("DELETED", "p"),
            ("DELETED", "other"),
        ]

    in_virtual_time(work())


def test_a_watch_from_what_is_compacted_is_gone() -> None:
    async def work() -> None:
        server, client = served()
        make_pod(server, "p")
        await asyncio.sleep(10)
        make_pod(server, "q")
        server.log(PODS).compact(before_s=5)
        events = client.watch(PODS, label_selector=None, resource_version="1")
        event = await anext(events)

        assert event.type == "ERROR"
        assert msgspec.json.decode(event.object)["code"] == 410

    in_virtual_time(work())


def test_a_silent_watch_gets_bookmarks_and_is_closed_in_the_end() -> None:
    async def work() -> None:
        server, client = served()
        events = client.watch(PODS, label_selector=None, resource_version=str(server.version))
        kinds = [event.type async for event in events]

        assert set(kinds) == {"BOOKMARK"}
        assert asyncio.get_running_loop().time() > 1000

    in_virtual_time(work())


def test_what_is_owned_goes_with_its_owner() -> None:
    async def work() -> None:
        server, _ = served()
        collector = GarbageCollector(server, asyncio.get_running_loop())
        bench = Bench()
        bench.server = server
        owner = bench.job()["metadata"]
        reference = {"kind": "BatchJob", "name": "job", "uid": owner["uid"]}
        for name in ("first", "late"):
            if name == "late":
                server.delete(BATCH_JOBS, "default", "job", "user")
            body = {
                "metadata": {"name": name, "ownerReferences": [reference]},
                "spec": {"containers": [{"name": "main", "image": "i"}]},
            }
            server.create(PODS, "default", body, "user")
        await asyncio.sleep(5)

        assert server.objects(PODS) == []
        assert collector.waiting == 0

    in_virtual_time(work())


def test_simultaneous_timers_fire_in_order() -> None:
    async def work() -> None:
        loop, fired = asyncio.get_running_loop(), list[int]()
        for number in range(50):
            loop.call_later(1.0, fired.append, number)
        await asyncio.sleep(2)

        assert fired == list(range(50))

    in_virtual_time(work())


def test_waiting_for_nothing_is_an_error() -> None:
    with pytest.raises(DeadlockError):
        in_virtual_time(_for_ever())


async def _for_ever() -> None:
    await asyncio.Event().wait()


def relabel(server: ApiServer, name: str, app: str) -> None:
    body = {"metadata": {"labels": {"app": app}}}
    server.patch(PODS, "default", name, body, STRATEGIC_MERGE_PATCH, "user")


def _name(raw: msgspec.Raw) -> str:
    name: str = msgspec.json.decode(raw)["metadata"]["name"]
    return name


def test_nothing_gets_through_a_line_that_is_cut() -> None:
    """Requests fail, a watch breaks at once, and a list shows later what was written meanwhile."""

    async def work() -> None:
        server, line, client = on_a_line()
        make_pod(server, "p0")
        events = client.watch(PODS, label_selector=None, resource_version="1")
        assert (await anext(events)).type == "ADDED"
        asyncio.get_running_loop().call_later(10, line.cut, 600)

        with pytest.raises(ApiError) as broken:
            await anext(events)
        assert broken.value.status == 0
        assert asyncio.get_running_loop().time() < 11
        make_pod(server, "p1")
        with pytest.raises(ApiError):
            await client.get(PODS, "default", "p1")
        with pytest.raises(ApiError):
            await client.list_page(PODS)

        await asyncio.sleep(600)
        assert [_name(one) for one in (await client.list_page(PODS)).items] == ["p0", "p1"]

    in_virtual_time(work())


def test_what_was_written_long_before_the_line_was_back_is_not_told_any_more() -> None:
    async def work() -> None:
        server, line, client = on_a_line()
        line.cut(600)
        make_pod(server, "p0")
        await asyncio.sleep(601)
        events = client.watch(PODS, label_selector=None, resource_version="1")

        assert (await anext(events)).type == "ERROR"

    in_virtual_time(work())
