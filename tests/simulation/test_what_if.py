"""A cluster as it is goes on in virtual time, and a change makes the difference it should."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from batch_operator import cli
from batch_operator.simulator.recorded import read_recorded
from batch_operator.simulator.run import simulate
from batch_operator.simulator.scenario import read_scenario
from support.simulated import MIXED, ROOT
from support.snapshots import BUSY, busy, job_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Json = dict[str, Any]

FOLDER = ROOT / "examples" / "snapshots"
URGENT = FOLDER / "urgent.yaml"
SAMPLES = {"name": "samples", "key": "lines", "parameters": ["sample"]}
FROM_LINES = {"parameters": {"configMap": SAMPLES}}
MINUTE_S = 61.0
"""What an attempt of the example takes with its image's pull."""
PROMPT_S = 1.0
"""What scheduling and the operator may add to a time worked out by hand."""


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`batch-operator simulate …`: its exit code, output and errors."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        words = ["batch-operator", "simulate", *map(str, arguments)]
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


@pytest.fixture
def answer(command: Callable[..., tuple[int, str, str]]) -> Callable[..., Json]:
    """The object that `-o json` prints, all invariants having held."""

    def ask(*arguments: str | Path) -> Json:
        code, out, err = command(*arguments, "-o", "json")
        assert (code, err) == (0, "")
        value: Json = json.loads(out)
        return value

    return ask


def written(folder: Path, snapshot: Json, name: str = "snapshot.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(snapshot), encoding="utf-8")
    return path


def near(seconds: float) -> Any:
    return pytest.approx(seconds, abs=PROMPT_S)


# What a change makes of it


def test_more_vcpus_shorten_the_makespan_by_the_round_that_they_save(
    answer: Callable[..., Json],
) -> None:
    """One runs for 40 s more, five of a minute wait: three rounds on two vCPUs, two on four."""
    said = answer("--snapshot", BUSY, "--set", "computeenvironment/local.maxvCpus=4")

    assert said["before"]["makespan"] == near(3 * MINUTE_S)
    assert said["after"]["makespan"] == near(2 * MINUTE_S)
    assert said["difference"]["makespan"] == near(-MINUTE_S)
    assert said["before"]["waiting"]["main"]["max"] == near(2 * MINUTE_S)
    assert said["after"]["waiting"]["main"]["max"] == near(MINUTE_S)
    assert said["before"]["jobs"] == said["after"]["jobs"] == {"SUCCEEDED": 6, "FAILED": 0}


def test_an_urgent_job_delays_the_others(answer: Callable[..., Json]) -> None:
    said = answer("--snapshot", BUSY, URGENT)

    assert said["after"]["waiting"]["urgent"]["max"] < PROMPT_S
    assert said["before"]["waiting"].get("urgent") is None
    assert said["difference"]["waiting"]["urgent"] is None
    # The job that runs has 40 s left; what was first in the queue gets its vCPU.
    assert said["difference"]["waiting"]["main"]["p50"] == near(40)
    assert said["difference"]["jobs"] == {"SUCCEEDED": 1, "FAILED": 0}


def test_what_runs_keeps_its_place_and_needs_only_the_rest(
    answer: Callable[..., Json], tmp_path: Path
) -> None:
    """With one vCPU the urgent job has to wait for what runs, though its queue comes first."""
    snapshot = busy()
    job_of(snapshot, "local")["spec"]["maxvCpus"] = 1
    said = answer("--snapshot", written(tmp_path, snapshot), URGENT)

    assert said["after"]["waiting"]["urgent"]["max"] == near(40)
    assert said["after"]["waiting"]["main"]["p50"] == near(40 + 3 * MINUTE_S)


def test_fewer_vcpus_stop_nothing_that_runs(answer: Callable[..., Json]) -> None:
    said = answer("--snapshot", BUSY, "--set", "ce/local.maxvCpus=1")

    assert said["after"]["makespan"] == near(40 + 5 * MINUTE_S)


def test_finished_jobs_are_kept_for_those_that_depend_on_them(
    answer: Callable[..., Json], tmp_path: Path
) -> None:
    snapshot = busy()
    waits = job_of(snapshot, "frame-9")
    waits["spec"]["dependsOn"] = [{"job": "frame-1"}]
    waits["status"] = {"observedGeneration": 1, "state": "PENDING"}
    never = job_of(snapshot, "frame-8")
    never["spec"]["dependsOn"] = [{"job": "frame-2", "type": "AFTER_FAILED"}]
    never["status"] = {"observedGeneration": 1, "state": "PENDING"}
    said = answer("--snapshot", written(tmp_path, snapshot))

    assert said["before"]["jobs"] == {"SUCCEEDED": 5, "FAILED": 1}
    assert said["before"]["makespan"] == near(40 + 2 * MINUTE_S)  # with one round less of two


def test_a_job_past_its_dependencies_does_not_miss_one_that_was_deleted(
    answer: Callable[..., Json], tmp_path: Path
) -> None:
    snapshot = busy()
    job_of(snapshot, "frame-9")["spec"]["dependsOn"] = [{"job": "deleted-since"}]
    said = answer("--snapshot", written(tmp_path, snapshot))

    assert said["before"]["jobs"] == {"SUCCEEDED": 6, "FAILED": 0}


@pytest.mark.parametrize("values", [{}, FROM_LINES], ids=["plain", "with values of a ConfigMap"])
def test_an_array_part_way_runs_only_what_is_left(
    answer: Callable[..., Json], tmp_path: Path, values: Json
) -> None:
    """Of six children two have succeeded, one has failed, one runs: two are to start.

    The one that runs is taken to have half of its run time behind it. It makes no difference that
    a snapshot has none of the values that they get.
    """
    snapshot = busy()
    array = job_of(snapshot, "frame-9")
    array["spec"]["arrayProperties"] = {"size": 6, **values}
    counts = {"SUCCEEDED": 2, "FAILED": 1, "RUNNING": 1, "RUNNABLE": 2}
    array["status"] = {
        "observedGeneration": 1,
        "state": "PENDING",
        "jobDefinition": "render:1",
        "computeEnvironment": "local",
        "startedAt": "2026-11-02T08:55:00Z",
        "array": {
            "size": 6,
            "parametersDigest": "0123456789abcdef" if values else None,
            "statusSummary": counts,
            "indexes": {"succeeded": "0-1", "failed": "2", "running": "3", "runnable": "4-5"},
        },
    }
    snapshot["items"] = [one for one in snapshot["items"] if not open_single(one)]
    said = answer("--snapshot", written(tmp_path, snapshot))

    assert said["before"]["jobs"] == {"SUCCEEDED": 0, "FAILED": 1}
    assert said["before"]["attempts"] == 3
    assert said["before"]["waiting"]["main"]["started"] == 2
    assert said["before"]["makespan"] == near(30 + MINUTE_S)


def open_single(one: Json) -> bool:
    is_job = one["kind"] == "BatchJob" and "arrayProperties" not in one["spec"]
    return is_job and one["status"]["state"] != "SUCCEEDED"


def test_attempts_that_were_used_up_stay_used_up(
    answer: Callable[..., Json], tmp_path: Path
) -> None:
    """The second of two attempts fails: there is no third."""
    snapshot = busy()
    job = job_of(snapshot, "frame-4")
    job["spec"]["retryStrategy"] = {"attempts": 2}
    job["status"]["state"] = "RUNNABLE"
    row = job["status"]["attempts"][0]
    job["status"]["attempts"] = [{**row, "stoppedAt": "2026-11-02T08:59:50Z", "exitCode": 1}]
    fails = {
        "apiVersion": "batch-operator.io/v1alpha1",
        "kind": "Scenario",
        "spec": {"behaviors": [{"job": "frame-4", "exitCode": 1}]},
    }
    said = answer("--snapshot", written(tmp_path, snapshot), written(tmp_path, fails, "f.yaml"))

    assert said["before"]["jobs"] == {"SUCCEEDED": 5, "FAILED": 1}
    assert said["before"]["attempts"] == 6
    assert said["before"]["waiting"]["main"]["started"] == 5  # it had started before


def test_a_job_that_was_starting_has_its_whole_run_time_before_it(
    answer: Callable[..., Json], tmp_path: Path
) -> None:
    snapshot = busy()
    job = job_of(snapshot, "frame-4")
    job["status"]["state"] = "STARTING"
    del job["status"]["startedAt"], job["status"]["attempts"][0]["startedAt"]
    job_of(snapshot, "local")["spec"]["maxvCpus"] = 1
    pulls = {
        "apiVersion": "batch-operator.io/v1alpha1",
        "kind": "Scenario",
        "spec": {"behaviors": [{"runtime": "1m", "pullTime": "30s"}]},
    }
    said = answer("--snapshot", written(tmp_path, snapshot), written(tmp_path, pulls, "p.yaml"))

    assert said["before"]["makespan"] == near(6 * 90 + 1)
    assert said["before"]["waiting"]["main"]["started"] == 5


def test_what_is_being_deleted_is_gone(answer: Callable[..., Json], tmp_path: Path) -> None:
    snapshot = busy()
    job_of(snapshot, "frame-9")["metadata"]["deletionTimestamp"] = "2026-11-02T08:59:59Z"
    said = answer("--snapshot", written(tmp_path, snapshot))

    assert said["before"]["jobs"] == {"SUCCEEDED": 5, "FAILED": 0}


def test_the_order_of_a_snapshot_means_nothing(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    """Of two that run in an environment that has become too small, the older goes on."""
    snapshot = busy()
    status = job_of(snapshot, "frame-4")["status"]
    job_of(snapshot, "local")["spec"]["maxvCpus"] = 1
    row = {**status["attempts"][0], "podUid": "another", "startedAt": "2026-11-02T08:59:10Z"}
    job_of(snapshot, "frame-5")["status"] = {**status, "attempts": [row]}
    path = written(tmp_path, snapshot)
    snapshot["items"].reverse()
    turned = written(tmp_path, snapshot, "turned.json")

    assert command("--snapshot", path, "-o=json") == command("--snapshot", turned, "-o=json")


# What run times rest on


def run_times(said: Json) -> dict[str, tuple[float | None, int]]:
    return {one["definition"]: (one["seconds"], one["observations"]) for one in said["runTimes"]}


def test_run_times_are_the_median_of_attempts_that_ended_well(
    answer: Callable[..., Json], tmp_path: Path
) -> None:
    snapshot = busy()
    for name, minute, code in (("frame-1", 55, 0), ("frame-2", 53, 1)):
        row = job_of(snapshot, name)["status"]["attempts"][0]
        row.update(stoppedAt=f"2026-11-02T08:{minute}:00Z", exitCode=code)
    said = answer("--snapshot", written(tmp_path, snapshot))

    assert run_times(said) == {"default/render": (150.0, 2)}  # of 240 s and 60 s


def test_a_definitions_own_record_comes_first(answer: Callable[..., Json], tmp_path: Path) -> None:
    snapshot = busy()
    record = {"count": 40, "p50Seconds": 20, "p90Seconds": 45}
    job_of(snapshot, "render")["status"]["runTimes"] = record
    job_of(snapshot, "frame-3")["spec"]["jobDefinition"] = "of-no-job-to-come"
    said = answer("--snapshot", written(tmp_path, snapshot))

    assert run_times(said) == {"default/render": (20.0, 40)}
    assert said["before"]["makespan"] == near(3 * 21)


def test_the_scenarios_behaviors_win_and_what_is_unknown_is_said_to_be(
    command: Callable[..., tuple[int, str, str]], answer: Callable[..., Json], tmp_path: Path
) -> None:
    snapshot = busy()
    snapshot["items"] = [
        one for one in snapshot["items"] if (one.get("status") or {}).get("state") != "SUCCEEDED"
    ]
    path = written(tmp_path, snapshot)
    world = tmp_path / "world.yaml"
    world.write_text(
        "apiVersion: batch-operator.io/v1alpha1\n"
        "kind: Scenario\n"
        "spec: {behaviors: [{job: 'frame-*', runtime: 30s}]}\n",
        encoding="utf-8",
    )
    known = answer("--snapshot", path, world)
    code, out, _ = command("--snapshot", path)

    assert known["after"] is None  # a Scenario without events says how the world is
    assert run_times(known) == {"default/render": (None, 0)}
    assert known["before"]["makespan"] == near(3 * 31)
    assert (code, out.splitlines()[-1].split(maxsplit=2)) == (
        0,
        ["default/render", "10s", "nothing is known: the default"],
    )


def test_nodes_have_their_price_and_events_are_a_change(
    answer: Callable[..., Json], tmp_path: Path
) -> None:
    """Two nodes at 36 an hour for three rounds; the job on the one that is lost fails."""
    snapshot = busy()
    job_of(snapshot, "local")["spec"]["instanceTypes"] = [
        {"name": "small", "vcpus": 1, "memory": "4Gi", "pricePerHour": 36}
    ]
    nodes = {"computeEnvironment": "local", "instanceType": "small", "vcpus": 1, "memory": "4Gi"}
    lost = {"computeEnvironment": "local", "count": 1}
    world = {
        "apiVersion": "batch-operator.io/v1alpha1",
        "kind": "Scenario",
        "spec": {
            "nodes": [{**nodes, "count": 2}],
            "events": [{"at": "30s", "interruptNodes": lost}],
        },
    }
    path = written(tmp_path, snapshot)
    said = answer("--snapshot", path, written(tmp_path, world, "world.yaml"))

    assert said["before"]["costs"]["local"] == pytest.approx(2 * 3 * MINUTE_S / 100, rel=0.01)
    assert said["before"]["cost"] == said["before"]["costs"]["local"]
    assert said["difference"]["jobs"] == {"SUCCEEDED": -1, "FAILED": 1}
    assert said["difference"]["costs"]["local"] < 0


# How it answers


def test_without_a_change_there_is_one_column(
    command: Callable[..., tuple[int, str, str]],
) -> None:
    code, out, err = command("--snapshot", BUSY)
    rows = [line.rsplit("  ", 1) for line in out.splitlines()]

    assert (code, err) == (0, "")
    assert rows[0][-1].strip() == "AS IT IS"
    assert ["makespan", "3m03s"] in [[one.strip() for one in row] for row in rows]


def test_a_change_is_shown_beside_what_is(command: Callable[..., tuple[int, str, str]]) -> None:
    _, out, _ = command("--snapshot", BUSY, "--set", "CE/local.maxvCpus=4")
    rows = [re.split(r" {2,}", line.strip()) for line in out.splitlines()]

    assert rows[0] == ["AS IT IS", "CHANGED", "DIFFERENCE"]
    assert ["makespan", "3m03s", "2m02s", "-1m01s"] in rows
    assert ["jobs SUCCEEDED", "6", "6", "0"] in rows
    assert ["cost of local", "-", "-", "-"] in rows
    assert ["default/render", "1m00s", "median of 3 attempts"] in rows


def test_a_run_that_is_cut_short_says_so(command: Callable[..., tuple[int, str, str]]) -> None:
    _, out, _ = command("--snapshot", BUSY, "--until", "1m")

    assert "as it is: stopped at 1m00s, not everything had ended; --until gives it longer" in out
    assert re.search(r"waiting in main, not started +3\n", out)


def test_standard_input_and_the_same_bytes_whatever_the_interpreters_randomness() -> None:
    arguments = ["--snapshot", "-", "--set", "ce/local.maxvCpus=3", "-o", "json"]
    outputs = {
        subprocess.run(
            [sys.executable, "-m", "batch_operator", "simulate", *arguments],
            env={**os.environ, "PYTHONHASHSEED": seed},
            input=BUSY.read_bytes(),
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(outputs) == 1
    assert outputs.pop().count(b"\n") == 1


def test_what_kubectl_prints_does_too(
    answer: Callable[..., Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says not when it was taken, has much that nobody asked for, and may come unquoted."""
    snapshot = busy()
    del snapshot["metadata"]
    stranger = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": "a-daemon-set", "namespace": "kube-system"},
    }
    snapshot["items"] += [stranger, {"apiVersion": "v1", "kind": "Pod"}]
    manager = {"manager": "batch-operator", "time": "2026-11-02T09:00:00Z"}
    job = job_of(snapshot, "frame-4")
    job["metadata"] |= {
        "managedFields": [manager],
        "ownerReferences": [{"kind": "Workflow", "name": "w", "uid": "gone"}],
        "finalizers": ["example.com/somebody"],
    }
    job_of(snapshot, "frame-9")["status"]["pending"] = {
        "reason": "BehindOthers",
        "message": "2 jobs are ahead",
        "since": "2026-11-02T08:50:09Z",
        "nextLookAt": "2026-11-02T11:00:00Z",
    }
    text = re.sub(r"'(2026-[^']*)'", r"\1", yaml.safe_dump(snapshot))
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    said = answer("--snapshot", "-")

    assert said["before"]["makespan"] == near(3 * MINUTE_S)
    assert said["before"]["jobs"] == {"SUCCEEDED": 6, "FAILED": 0}
    # What ran has 40 s left, not none: the moment is the last time in it that is past.
    used_s = 40 + 5 * MINUTE_S
    assert said["before"]["utilisation"]["local"] == pytest.approx(
        used_s / (6 * MINUTE_S), abs=0.01
    )


def test_a_broken_invariant_is_told_as_simulate_tells_it(
    command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "batch_operator.simulator.checkers.Panel.finish",
        lambda panel, _: panel.add("made_up", 7.0, "it broke"),
    )
    code, _, err = command("--snapshot", BUSY)

    assert (code, err) == (3, "broken: made_up at 7.000 s: it broke\n")


# What is wrong with the input


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ce/local", "write KIND/NAME.FIELD=VALUE"),
        ("ce/local.maxvCpus", "write KIND/NAME.FIELD=VALUE"),
        ("ce/local..x=1", "write KIND/NAME.FIELD=VALUE"),
        ("pod/local.x=1", "there is no kind pod: write one of batchjob (bj), jobdefinition (jd)"),
        ("ce/spot.maxvCpus=4", "there is no ComputeEnvironment spot; there is: local"),
        ("bj/kube-system/frame-1.suspend=true", "there is: default/frame-1, default/frame-2"),
        ("ce/local.maxVCPUs=4", "spec has no field maxVCPUs; it has type, state, maxvCpus"),
        ("ce/local.state.on=1", "spec.state has no field on; it has none at all"),
        ("ce/local.maxvCpus=0", "ComputeEnvironment 'local' is invalid: spec.maxvCpus: Input"),
        ("ce/local.maxvCpus={", "the value is no YAML"),
        ("jq/main.computeEnvironmentOrder.first.order=2", "is a list: write a number from 0"),
        ("jq/main.computeEnvironmentOrder.1.order=2", "the list has 1 entries, from 0"),
        ("jq/main.priority=null", "JobQueue 'main' is invalid: spec.priority: Field required"),
        ("bj/frame-9.jobQueue=x", "spec: jobQueue cannot be changed once the job is submitted"),
    ],
)
def test_a_set_that_leads_nowhere_is_a_sentence(
    command: Callable[..., tuple[int, str, str]], text: str, sentence: str
) -> None:
    code, out, err = command("--snapshot", BUSY, "--set", text)

    assert (code, out) == (2, "")
    assert err.startswith(f"error: --set {text}: ")
    assert sentence in err


def test_a_name_in_two_namespaces_has_to_be_told_apart(
    command: Callable[..., tuple[int, str, str]], answer: Callable[..., Json], tmp_path: Path
) -> None:
    snapshot = busy()
    twin = json.loads(json.dumps(job_of(snapshot, "frame-9")))
    twin["metadata"] |= {"namespace": "other", "uid": "0e0c0f6e-9999"}
    twin["status"] = {"observedGeneration": -1, "state": "SUBMITTED"}
    snapshot["items"].append(twin)
    path = written(tmp_path, snapshot)
    code, _, err = command("--snapshot", path, "--set", "bj/frame-9.suspend=true")
    said = answer("--snapshot", path, "--set", "bj/default/frame-9.suspend=true")

    assert code == 2
    assert "several have that name: write one of batchjob/default/frame-9" in err
    assert said["difference"]["jobs"]["SUCCEEDED"] == -1


def test_fields_are_set_one_after_the_other_and_in_lists(answer: Callable[..., Json]) -> None:
    said = answer(
        "--snapshot", BUSY,
        "--set", "ce/local.maxvCpus=1",
        "--set", "ComputeEnvironments/local.maxvCpus=4",
        "--set", "jq/main.computeEnvironmentOrder.0={order: 7, computeEnvironment: local}",
        "--set", "jq/main.computeEnvironmentOrder.0.order=8",
    )  # fmt: skip

    assert said["after"]["makespan"] == near(2 * MINUTE_S)


def started_in(year: int) -> Callable[[Json], object]:
    times = {"startedAt": f"{year}-12-31T00:00:00Z"}
    return lambda one: job_of(one, "frame-4")["status"].update(times)


def broken_snapshots() -> Iterator[tuple[Callable[[Json], object], str]]:
    yield lambda one: one.update(items=[]), "nothing of batch-operator is in it: take `batch-op"
    yield lambda one: one.update(items=7), "items: write a list of objects"
    yield lambda one: one.pop("kind"), "no snapshot: take `batch-operator snapshot`"
    yield lambda one: job_of(one, "frame-4")["metadata"].pop("uid"), "manifests are given as PATH"
    yield (
        lambda one: job_of(one, "frame-4")["metadata"].update(creationTimestamp="yesterday"),
        "has no metadata.creationTimestamp",
    )
    yield lambda one: job_of(one, "render-1").update(data=7), "data is no JobDefinition's spec"
    yield lambda one: one["items"].append(job_of(one, "local")), "'local' is there twice"
    yield (
        lambda one: one["items"].remove(job_of(one, "render-1")),
        "runs revision render:1, but no ControllerRevision is in the snapshot",
    )
    yield (
        lambda one: job_of(one, "local")["spec"].update(maxvCpus="many"),
        "ComputeEnvironment 'local' is invalid: spec.maxvCpus",
    )
    yield (
        lambda one: job_of(one, "frame-4")["status"].update(state="ASLEEP"),
        "BatchJob is invalid: status.state",
    )
    for year in (2200, 9999):
        yield (
            started_in(year),
            "BatchJob 'frame-4' has a time more than 100 years after the first in the snapshot",
        )


@pytest.mark.parametrize(("breaks", "sentence"), list(broken_snapshots()))
def test_a_snapshot_that_cannot_be_gone_on_from_is_a_sentence(
    command: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    breaks: Callable[[Json], object],
    sentence: str,
) -> None:
    snapshot = busy()
    breaks(snapshot)
    path = written(tmp_path, snapshot)
    code, out, err = command("--snapshot", path)

    assert (code, out) == (2, "")
    assert err.startswith(f"error: {path}")
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "PATH is missing: give --snapshot FILE or --from-cluster"),
        ([str(MIXED), "--set", "a/b.c=1"], "--set changes a snapshot: give --snapshot FILE"),
        (["--snapshot", "missing.yaml"], "missing.yaml: cannot be read"),
        (["--snapshot", str(ROOT / "Makefile")], "neither JSON nor YAML"),
        (["--from-cluster", "--kubeconfig", "missing"], "no way to a Kubernetes API server"),
        (["--snapshot", str(BUSY), "--from-cluster"], "not allowed with argument"),
    ],
)
def test_what_cannot_be_begun_with_is_a_sentence(
    command: Callable[..., tuple[int, str, str]], arguments: list[str], sentence: str
) -> None:
    code, _, err = command(*arguments)

    assert code == 2
    assert sentence in err


DOCUMENT = (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8")
COMMANDS = re.findall(
    r"^batch-operator simulate (.*examples/.*?)(?: +#.*)?$", DOCUMENT, re.MULTILINE
)


@pytest.mark.parametrize("arguments", COMMANDS)
def test_the_documents_commands_work(
    command: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
) -> None:
    monkeypatch.chdir(ROOT)
    code, out, err = command(*shlex.split(arguments))

    assert (code, err) == (0, "")
    assert "makespan" in out


@pytest.mark.parametrize(("ready", "waits_s"), [(1, 0), (0, 40)], ids=["a node", "none"])
def test_what_runs_in_a_managed_environment_goes_on_on_the_nodes_that_its_status_counts(
    ready: int, waits_s: int
) -> None:
    cluster = yaml.safe_load(BUSY.read_text(encoding="utf-8"))
    [local] = [one for one in cluster["items"] if one["kind"] == "ComputeEnvironment"]
    local["spec"] = {
        "type": "MANAGED",
        "maxvCpus": 2,
        "instanceTypes": [{"name": "a", "vcpus": 8, "memory": "64Gi"}],
        "provisioner": {"type": "kwok", "kwok": {"startUpSeconds": 40}},
    }
    pool = {"instanceType": "a", "capacityType": "on-demand", "desired": ready, "ready": ready}
    local["status"] = {"observedGeneration": 1, "pools": [pool]}
    usual = yaml.safe_load(BUSY.read_text(encoding="utf-8"))

    def makespan_s(documents: Json) -> float:
        recorded = read_recorded([documents], "snapshot")
        found: float = simulate(read_scenario([], recorded)).summary["makespan"]
        return found

    assert makespan_s(cluster) == pytest.approx(makespan_s(usual) + waits_s, abs=2)
