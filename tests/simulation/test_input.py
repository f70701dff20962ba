"""Every mistake in the input is one sentence that says where; exit codes are as promised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batch_operator import cli
from batch_operator.simulator import run as run_module
from batch_operator.simulator.checkers import Panel
from batch_operator.simulator.scenario import (
    Behavior,
    InvalidInputError,
    draw,
    duration_s,
    read_scenario,
)
from support.play import play
from support.simulated import EXAMPLES

if TYPE_CHECKING:
    from pathlib import Path

MANIFESTS = """\
apiVersion: batch-operator.io/v1alpha1
kind: ComputeEnvironment
metadata: {name: onprem}
spec: {type: UNMANAGED, maxvCpus: 64}
---
apiVersion: batch-operator.io/v1alpha1
kind: JobQueue
metadata: {name: high}
spec: {priority: 1, computeEnvironmentOrder: [{order: 1, computeEnvironment: onprem}]}
---
apiVersion: batch-operator.io/v1alpha1
kind: JobDefinition
metadata: {name: render}
spec:
  podTemplate:
    spec: {containers: [{name: main, image: i, resources: {requests: {cpu: "1"}}}]}
---
apiVersion: batch-operator.io/v1alpha1
kind: BatchJob
metadata: {name: other}
spec: {jobQueue: high, jobDefinition: render}
---
"""
SCENARIO = """\
apiVersion: batch-operator.io/v1alpha1
kind: Scenario
metadata: {name: everything}
spec:
  until: 2h
  nodes:
    - {computeEnvironment: onprem, instanceType: big, count: 4, vcpus: 16, memory: 64Gi, capacityType: on-demand}
  behaviors:
    - {job: "train-*", index: 3, attempt: 1, runtime: 30s, exitCode: 137, reason: OOMKilled}
    - {job: "render", runtime: 45s, pullTime: 5s}
    - {job: other, runtime: 1h}
  events:
    - {at: 60s, interruptNodes: {computeEnvironment: onprem, count: 2}}
    - {at: 90s, apply: {kind: BatchJob, metadata: {name: late}, spec: {jobQueue: high, jobDefinition: render}}}
    - {at: 95s, patch: {kind: BatchJob, name: late, spec: {schedulingPriority: 7}}}
    - {at: 99s, delete: {kind: BatchJob, name: other}}
    - {at: 120s, restartOperator: {downFor: 30s}}
"""  # noqa: E501  # as the contract shows it


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "input.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_contracts_example_can_be_run(tmp_path: Path) -> None:
    scenario = read_scenario([written(tmp_path, MANIFESTS + SCENARIO)])
    outcome = run_module.simulate(scenario)

    assert outcome.violations == ()
    assert outcome.states()["default/late"] == ("SUCCEEDED", 1)
    assert outcome.summary["operatorRestarts"] == 1


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("until: 2h", "until: 2 hours", "document 5: spec.until: '2 hours' is no duration"),
        ("until: 2h", "til: 2h", "document 5: spec.til: Extra inputs are not permitted"),
        ("count: 4", "count: 0", "document 5: spec.nodes[0].count: Input should be greater"),
        ("memory: 64Gi", "memory: lots", "document 5: spec.nodes[0].memory: 'lots' is no quantity"),
        ("exitCode: 137", "exitCode: 300", "spec.behaviors[0].exitCode: Input should be less"),
        (
            "exitCode: 137",
            "failureRate: 10%",
            "spec.behaviors[0].failureRate: Input should be a val",
        ),
        ("exitCode: 137", "failureRate: 10", "spec.behaviors[0].failureRate: Input should be less"),
        (
            "exitCode: 137",
            "exitCode: 0, failureRate: 0.1",
            "spec.behaviors[0]: with a failureRate, give the exitCode of a failure",
        ),
        ("{at: 60s, inter", "{inter", "document 5: spec.events[0].at: Field required"),
        (
            "delete: {kind: BatchJob",
            "delete: {kind: Pod",
            "spec.events[3].delete.kind: there is no",
        ),
        (
            "{at: 99s, delete",
            "{at: 99s, patch: {kind: BatchJob, name: other}, delete",
            "exactly one",
        ),
        (
            "{computeEnvironment: onprem, count",
            "{computeEnvironment: x, count",
            "spec.events[0].inter",
        ),
        ("kind: JobQueue", "kind: Deployment", "document 2: batch-operator.io/v1alpha1 Deployment"),
        ("spec: {priority: 1,", "spec: {priority: high,", "document 2: JobQueue 'high' is invalid"),
        (
            "spec: {priority: 1,",
            "spec: {jobStateTimeLimitActions: [{state: STARTING, action: CANCEL, reason: '*', "
            "maxTimeSeconds: 60}], priority: 1,",
            "spec.jobStateTimeLimitActions[0]: CANCEL ends what has not started: write TERMINATE",
        ),
        (
            "spec: {priority: 1,",
            "spec: {jobStateTimeLimitActions: [{state: RUNNING, action: NOTIFY, reason: Late, "
            "maxTimeSeconds: 60}], priority: 1,",
            "a RUNNING job waits for nothing",
        ),
        ("maxvCpus: 64", "maxVcpus: 64", "spec.maxVcpus: there is no such field"),
        (
            "maxvCpus: 64",
            "maxvCpus: 64, provisioner: {type: none}",
            "ComputeEnvironment 'onprem' is invalid: spec: provisioner is for type MANAGED",
        ),
        (
            "metadata: {name: other}",
            "metadata: {}",
            "document 4: BatchJob None is invalid: metadata",
        ),
        ("name: late}", "name: Late}", "spec.events[1].apply: BatchJob 'Late' is invalid"),
        ("kind: Scenario", "kind: [", "input.yaml: no YAML"),
    ],
)
def test_a_mistake_is_a_sentence(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    text = (MANIFESTS + SCENARIO).replace(old, new, 1)

    with pytest.raises(InvalidInputError) as caught:
        read_scenario([written(tmp_path, text)])

    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_event_that_the_api_server_refuses(tmp_path: Path) -> None:
    text = (MANIFESTS + SCENARIO).replace("schedulingPriority: 7", "jobQueue: low")
    scenario = read_scenario([written(tmp_path, text)])

    with pytest.raises(
        InvalidInputError, match=r"spec\.events\[2\], at 95 s: .*spec: jobQueue cannot"
    ):
        run_module.simulate(scenario)


@pytest.mark.parametrize("paths", [["missing.yaml"], ["."], []])
def test_nothing_to_simulate(tmp_path: Path, paths: list[str]) -> None:
    with pytest.raises(InvalidInputError):
        read_scenario([tmp_path / one for one in paths])


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("1h30m", 5400), ("1.5s", 1.5), ("250ms", 0.25)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "5 m", "-1s", "99999d", 5, None])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match=r"no duration|longer than a year"):
        duration_s(text)


def test_what_a_behavior_leaves_out_matches_everything() -> None:
    assert Behavior(job="train-*").matches("train-a", 3, None, 2)
    assert not Behavior(job="train-*", index=4).matches("train-a", 3, None, 2)


@pytest.mark.parametrize(
    ("behavior", "end"),
    [
        (Behavior(), (0, None)),
        (Behavior(exit_code=3), (3, None)),
        (Behavior(reason="OOMKilled"), (137, "OOMKilled")),
        (Behavior(failure_rate=0.5), (1, None)),
        (Behavior(failure_rate=0.5, exit_code=3), (3, None)),
        (Behavior(failure_rate=0.5, reason="OOMKilled"), (137, "OOMKilled")),
        (Behavior(failure_rate=0.4, reason="OOMKilled"), (0, None)),
        (Behavior(failure_rate=0.0), (0, None)),
    ],
)
def test_how_an_attempt_ends(behavior: Behavior, end: tuple[int, str | None]) -> None:
    assert behavior.end(0.4) == end


def test_so_large_a_part_fails_whatever_the_seed() -> None:
    for seed in range(3):
        drawn = [
            draw(seed, "default/a", index, attempt)
            for index in range(2000)
            for attempt in range(1, 6)
        ]

        assert sum(one < 0.1 for one in drawn) == pytest.approx(1000, rel=0.1)


def test_every_attempt_draws_anew() -> None:
    attempts = [
        (0, "default/a", 3, 1),
        (1, "default/a", 3, 1),
        (0, "other/a", 3, 1),
        (0, "default/a", 4, 1),
        (0, "default/a", None, 1),
        (0, "default/a", 3, 2),
    ]

    assert len({draw(*one) for one in attempts}) == len(attempts)


def command_line(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["batch-operator", "simulate", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    retry = str(next(path for path in EXAMPLES if path.stem == "retry"))

    assert command_line(monkeypatch, retry) == 0
    assert command_line(monkeypatch, str(tmp_path / "missing.yaml")) == 2
    assert command_line(monkeypatch, retry, "--until", "soon") == 2
    monkeypatch.setattr(Panel, "finish", lambda panel, _: panel.add("made_up", 7.0, "it broke"))
    assert command_line(monkeypatch, retry) == 3
    assert "broken: made_up at 7.000 s: it broke" in capsys.readouterr().err


CONFIG_MAP = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: samples}
immutable: true
data: {lines: "a"}
---
"""
DELETED = "delete: {kind: ConfigMap, name: samples}"


def test_a_config_map_may_be_applied_again_and_deleted(tmp_path: Path) -> None:
    scenario = SCENARIO.replace("delete: {kind: BatchJob, name: other}", DELETED)
    path = written(tmp_path, MANIFESTS + CONFIG_MAP * 2 + scenario)
    outcome = run_module.simulate(read_scenario([path]))

    assert outcome.violations == ()


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("apiVersion: v1", "apiVersion: v2", "v2 ConfigMap cannot be simulated: leave it out"),
        ('"a"', "5", "ConfigMap 'samples' is invalid: data[lines]: 5 is no text: put it in quotes"),
    ],
)
def test_a_mistake_in_a_config_map(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    text = CONFIG_MAP.replace(old, new, 1) + MANIFESTS + SCENARIO

    with pytest.raises(InvalidInputError) as caught:
        read_scenario([written(tmp_path, text)])

    assert sentence in str(caught.value)


@pytest.mark.parametrize("changed", ["data: {lines: b}", "immutable: false"])
def test_a_config_map_that_is_immutable_stays_as_it_is(tmp_path: Path, changed: str) -> None:
    body = "apiVersion: v1, kind: ConfigMap, metadata: {name: samples}"
    event = f"apply: {{{body}, {changed}}}"
    text = SCENARIO.replace("delete: {kind: BatchJob, name: other}", event)
    scenario = read_scenario([written(tmp_path, MANIFESTS + CONFIG_MAP + text)])

    with pytest.raises(InvalidInputError, match="field is immutable when `immutable` is set"):
        run_module.simulate(scenario)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        ("{size: 2, rerunFailedOf: a}", "give size (indexes 0 to size-1), indexes or both"),
        ("{maxParallel: 2}", "give size (indexes 0 to size-1), indexes or both"),
        ("{rerunFailedOf: other}", "name another array in spec.arrayProperties.rerunFailedOf"),
    ],
)
def test_an_array_says_in_one_way_which_children_it_has(
    tmp_path: Path, array: str, sentence: str
) -> None:
    job = "jobQueue: high, jobDefinition: render"
    text = MANIFESTS.replace(job, f"{job}, arrayProperties: {array}")

    with pytest.raises(InvalidInputError) as caught:
        read_scenario([written(tmp_path, text)])

    assert sentence in str(caught.value)


def test_what_is_given_twice_is_applied_twice_and_may_be_refused(tmp_path: Path) -> None:
    job = "jobQueue: high, jobDefinition: render"
    one, two = (MANIFESTS.replace(job, f"{job}, arrayProperties: {{size: {n}}}") for n in (2, 3))
    scenario = read_scenario([written(tmp_path, f"{one}\n---\n{two}")])

    with pytest.raises(InvalidInputError, match="arrayProperties cannot be changed"):
        run_module.simulate(scenario)


@pytest.mark.parametrize("indexes", ["5-3", "100000"])
def test_indexes_that_make_no_sense_fail_the_job_and_not_the_run(indexes: str) -> None:
    played = play({"a": {"arrayProperties": {"indexes": indexes}}})

    assert played.state("a") == "FAILED"
    assert f"'{indexes}' must rise and end at or below 99999" in (played.reason("a") or "")
