"""What a job runs: definition, revision, parameters and overrides merged, or a sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from batch_operator.api.job_definition import JobDefinitionSpec, JobDefinitionStatus
from batch_operator.lifecycle.holds import Hold
from batch_operator.lifecycle.plan import Definition, Invalid, Plan, is_current, make_plan
from support.builders import definition, definition_spec, job, pod_template

BASE = {
    "metadata": {"labels": {"team": "a"}},
    "spec": {
        "serviceAccountName": "worker",
        "containers": [
            {
                "name": "main",
                "image": "busybox:1",
                "command": ["sh", "-c", "run"],
                "args": ["x"],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "resources": {
                    "requests": {"cpu": "1", "memory": "1Gi"},
                    "limits": {"memory": "2Gi"},
                },
            },
            {"name": "proxy", "image": "proxy:1"},
        ],
        "initContainers": [{"name": "fetch", "image": "curl:1"}],
    },
}


def planned(template: dict[str, Any] | None = None, **spec: Any) -> Plan | Hold | Invalid:
    parameters = spec.pop("defaults", {})
    made_of = definition_spec(podTemplate=template or BASE, parameters=parameters)
    return make_plan(job(**spec), definition(spec=made_of), None)


def container(plan: Plan | Hold | Invalid, which: int = 0) -> dict[str, Any]:
    assert isinstance(plan, Plan), plan
    found: dict[str, Any] = plan.template["spec"]["containers"][which]
    return found


def sentence(plan: Plan | Hold | Invalid) -> str:
    assert isinstance(plan, Invalid), plan
    return plan.message


def test_without_overrides_a_job_runs_its_definition() -> None:
    plan = planned()

    assert isinstance(plan, Plan)
    assert plan.template == BASE
    assert (plan.definition, plan.revision) == ("work:1", 1)


OVERRIDES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the image": ({"image": "busybox:2"}, {"image": "busybox:2"}),
    "the command, and not the arguments": ({"command": ["env"]}, {"command": ["env"]}),
    "the arguments, and not the command": ({"args": ["y", "z"]}, {"args": ["y", "z"]}),
    "a variable of the same name": (
        {"env": [{"name": "A", "value": "9"}]},
        {"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "9"}]},
    ),
    "a variable that is new": (
        {"env": [{"name": "C", "value": "3"}]},
        {
            "env": [
                {"name": "A", "value": "1"},
                {"name": "B", "value": "2"},
                {"name": "C", "value": "3"},
            ]
        },
    ),
    "a request, and not the others": (
        {"resources": {"requests": {"cpu": "3"}}},
        {
            "resources": {
                "requests": {"cpu": "3", "memory": "1Gi"},
                "limits": {"memory": "2Gi"},
            }
        },
    ),
    "a limit that is new": (
        {"resources": {"limits": {"nvidia.com/gpu": 1}}},
        {
            "resources": {
                "requests": {"cpu": "1", "memory": "1Gi"},
                "limits": {"memory": "2Gi", "nvidia.com/gpu": 1},
            }
        },
    ),
    "nothing with what is empty": ({"command": [], "args": [], "env": []}, {}),
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_an_override_replaces(name: str) -> None:
    """AWS Batch, containerOverrides: command replaces; environment by name; resources by type."""
    override, changed = OVERRIDES[name]
    plan = planned(containerOverrides=[override])

    assert container(plan) == {**BASE["spec"]["containers"][0], **changed}
    assert container(plan, 1) == BASE["spec"]["containers"][1]


def test_an_override_gives_what_the_container_had_none_of() -> None:
    fields = {"env": [{"name": "A", "value": "1"}], "resources": {"limits": {"cpu": "1"}}}
    plan = planned(containerOverrides=[{"name": "proxy", **fields}])

    assert container(plan, 1) == {"name": "proxy", "image": "proxy:1", **fields}


def test_an_override_finds_its_container_by_name() -> None:
    plan = planned(
        containerOverrides=[
            {"name": "proxy", "image": "proxy:2"},
            {"name": "fetch", "image": "curl:2"},
        ]
    )

    assert container(plan, 1)["image"] == "proxy:2"
    assert isinstance(plan, Plan)
    assert plan.template["spec"]["initContainers"][0]["image"] == "curl:2"


def test_later_overrides_of_a_container_win() -> None:
    plan = planned(containerOverrides=[{"image": "a"}, {"name": "main", "image": "b"}])

    assert container(plan)["image"] == "b"


def test_an_override_of_no_container_says_which_there_are() -> None:
    plan = planned(containerOverrides=[{"name": "mian", "image": "x"}])

    assert "names container mian, but the definition has: main, proxy" in sentence(plan)


def test_a_merge_leaves_the_definition_as_it_was() -> None:
    """Thousands of jobs share one revision."""
    before = json.dumps(BASE)
    kept = definition(spec=definition_spec(podTemplate=BASE, parameters={"p": "1"}))
    override = {
        "image": "x",
        "command": ["Ref::p"],
        "args": ["Ref::p"],
        "env": [{"name": "A", "value": "9"}],
        "resources": {"requests": {"cpu": "9"}, "limits": {"cpu": "9"}},
    }
    plan = make_plan(job(containerOverrides=[override]), kept, None)

    assert container(plan)["command"] == ["1"]
    assert json.dumps(BASE) == before
    assert json.dumps(kept.revisions[1].pod_template) == before


REFS: dict[str, tuple[dict[str, str], dict[str, str], list[str]]] = {
    "the definition's default": ({"in": "a"}, {}, ["run", "a", "--in=a"]),
    "the job's value, which wins": ({"in": "a"}, {"in": "b"}, ["run", "b", "--in=b"]),
    "the job's value, where there is no default": ({}, {"in": "b"}, ["run", "b", "--in=b"]),
    "a value that looks like a placeholder": (
        {"x": "secret"},
        {"in": "Ref::x"},
        ["run", "Ref::x", "--in=Ref::x"],
    ),
    "a value nobody refers to, which is ignored": (
        {"in": "a"},
        {"more": "b"},
        ["run", "a", "--in=a"],
    ),
}


@pytest.mark.parametrize("name", REFS)
def test_a_placeholder_becomes(name: str) -> None:
    """AWS Batch, parameters: SubmitJob's values override the definition's, key by key."""
    defaults, parameters, expected = REFS[name]
    template = pod_template(command=["run", "Ref::in"], args=["--in=Ref::in"])
    found = container(planned(template, defaults=defaults, parameters=parameters))

    assert [*found["command"], *found["args"]] == expected


def test_placeholders_are_replaced_in_overrides_and_init_containers_too() -> None:
    template = pod_template()
    template["spec"]["initContainers"] = [{"name": "i", "image": "x", "args": ["Ref::in"]}]
    plan = planned(
        template, parameters={"in": "a"}, containerOverrides=[{"command": ["echo", "Ref::in"]}]
    )

    assert container(plan)["command"] == ["echo", "a"]
    assert isinstance(plan, Plan)
    assert plan.template["spec"]["initContainers"][0]["args"] == ["a"]


def test_placeholders_stand_in_command_and_args_only() -> None:
    """AWS Batch, parameters: substitution applies to the command and nothing else."""
    template = pod_template(image="Ref::in", env=[{"name": "A", "value": "Ref::in"}])
    found = container(planned(template, parameters={"in": "a"}))

    assert found["image"] == "Ref::in"
    assert found["env"] == [{"name": "A", "value": "Ref::in"}]


def test_an_unknown_placeholder_says_where_to_give_its_value() -> None:
    plan = planned(pod_template(args=["--in=Ref::in"]), parameters={"inn": "a"})

    assert sentence(plan) == (
        "container main's args refers to Ref::in, but there is no such parameter: add in to the "
        "job's spec.parameters, or a default to JobDefinition work"
    )


RESERVED: dict[str, tuple[dict[str, Any], str]] = {
    "in a container": (
        pod_template(env=[{"name": "AWS_BATCH_JOB_ID", "value": "mine"}]),
        "container main sets AWS_BATCH_JOB_ID",
    ),
    "in an init container": (
        {
            "spec": {
                **pod_template()["spec"],
                "initContainers": [
                    {
                        "name": "fetch",
                        "image": "x",
                        "env": [{"name": "AWS_BATCHES", "value": ""}],
                    }
                ],
            }
        },
        "container fetch sets AWS_BATCHES",
    ),
}


@pytest.mark.parametrize("name", RESERVED)
def test_a_variable_of_the_operator_is_nobody_elses(name: str) -> None:
    """AWS Batch, environment: names must not start with AWS_BATCH; it would hide ours."""
    template, problem = RESERVED[name]

    assert problem in sentence(planned(template))
    assert "choose another name" in sentence(planned(template))


def cpu(cpu_request: str | int | None = None, limit: str | None = None) -> dict[str, Any]:
    parts = {"requests": cpu_request, "limits": limit}
    return {name: {"cpu": value} for name, value in parts.items() if value is not None}


def with_cpu(
    *containers: dict[str, Any],
    inits: tuple[dict[str, Any], ...] = (),
    pod: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A template whose containers have these resources; an init's `sidecar` key makes it one."""
    spec: dict[str, Any] = {
        "containers": [
            {"name": f"c{number}", "image": "x", "resources": one}
            for number, one in enumerate(containers)
        ],
        "initContainers": [
            {
                "name": f"i{number}",
                "image": "x",
                "resources": {key: value for key, value in one.items() if key != "sidecar"},
                **({"restartPolicy": "Always"} if one.get("sidecar") else {}),
            }
            for number, one in enumerate(inits)
        ],
    }
    return {"spec": {**spec, **({"resources": pod} if pod is not None else {})}}


SIDECAR = {"sidecar": True}
CPUS: dict[str, tuple[dict[str, Any], int]] = {
    "one container": (with_cpu(cpu("500m")), 500),
    "an integer": (with_cpu(cpu(2)), 2000),
    "containers side by side": (with_cpu(cpu("1"), cpu("250m"), {}), 1250),
    "a request copied from the limit": (with_cpu(cpu(limit="2")), 2000),
    "a request below the limit": (with_cpu(cpu("1", "4")), 1000),
    "a larger init container": (with_cpu(cpu("1"), inits=(cpu("3"),)), 3000),
    "init containers one after the other": (
        with_cpu(cpu("1"), inits=(cpu("2"), cpu("3"))),
        3000,
    ),
    "a smaller init container": (with_cpu(cpu("2"), inits=(cpu("1"),)), 2000),
    "a sidecar beside the containers": (
        with_cpu(cpu("1"), inits=(cpu("500m") | SIDECAR,)),
        1500,
    ),
    "an init container that runs beside an earlier sidecar": (
        with_cpu(cpu("1"), inits=(cpu("500m") | SIDECAR, cpu("2"))),
        2500,
    ),
    "an init container that runs before a later sidecar": (
        with_cpu(cpu("1"), inits=(cpu("2"), cpu("500m") | SIDECAR)),
        2000,
    ),
    "an init container alone": (with_cpu({}, inits=(cpu("1"),)), 1000),
    "the Pod as a whole": (with_cpu(cpu("1"), pod=cpu("4")), 4000),
    "a limit of the Pod, where no container asks": (with_cpu({}, pod=cpu(limit="2")), 2000),
    "a limit of the Pod, where its containers ask": (
        with_cpu(cpu("1"), pod=cpu(limit="2")),
        1000,
    ),
    "a fraction of a thousandth, rounded up": (with_cpu(cpu("0.0001")), 1),
}


@pytest.mark.parametrize("name", CPUS)
def test_a_job_counts_what_its_pod_asks_of_a_node(name: str) -> None:
    """Kubernetes' own rule for a Pod's request; AWS: vCPUs count against maxvCpus."""
    template, expected = CPUS[name]
    plan = planned(template)

    assert isinstance(plan, Plan), plan
    assert plan.milli_cpu == expected


def test_an_override_of_cpu_counts() -> None:
    plan = planned(containerOverrides=[{"resources": {"requests": {"cpu": "3"}}}])

    assert isinstance(plan, Plan)
    assert plan.milli_cpu == 3000


NO_CPU: dict[str, tuple[dict[str, Any], str]] = {
    "none at all": (with_cpu({}), "set resources.requests.cpu in"),
    "zero": (with_cpu(cpu("0")), "set resources.requests.cpu in"),
    "negative": (with_cpu(cpu("-1")), "is negative: write 0 or more"),
    "an exponent that ends in a letter": (with_cpu(cpu("1eb")), "has an unknown unit: write m"),
}


@pytest.mark.parametrize("name", NO_CPU)
def test_a_job_that_asks_for_no_cpu_says_where_to_write_it(name: str) -> None:
    """AWS Batch: vCPU must be present after the merge."""
    template, problem = NO_CPU[name]

    assert problem in sentence(planned(template))


def test_more_cpu_than_any_machine_has_is_a_number_like_any_other() -> None:
    plan = planned(with_cpu(cpu("1e999999999")))

    assert isinstance(plan, Plan)
    assert plan.milli_cpu == 2**63 - 1


INDEXES: dict[str, tuple[str, str]] = {
    "that fall": ("9-3", "'9-3' must rise and end at or below 99999"),
    "beyond the highest": ("0,100000", "'100000' must rise and end at or below 99999"),
    "with more digits than a number has": (f"0-{'9' * 16_000}", "must rise and end"),
    "in too great a number": ("0-10000", "10001 indexes: name at most 10000"),
}


@pytest.mark.parametrize("name", INDEXES)
def test_indexes_are_refused(name: str) -> None:
    """The CRD's pattern lets these through; AWS Batch: an array has at most 10,000 children."""
    text, problem = INDEXES[name]

    assert problem in sentence(planned(arrayProperties={"indexes": text}))


def test_ten_thousand_indexes_are_accepted() -> None:
    assert isinstance(planned(arrayProperties={"indexes": "5-10004"}), Plan)


# Revisions


def kept(
    revisions: dict[int, str], *, latest: int | None, observed: bool = True, **spec: Any
) -> Any:
    """A definition whose revisions differ in their image."""
    specs = {
        number: definition_spec(podTemplate=pod_template(image=image))
        for number, image in revisions.items()
    }
    base = definition(spec=definition_spec(podTemplate=pod_template(image="now"), **spec))
    assert base.object is not None
    status = JobDefinitionStatus(observed_generation=1 if observed else 0, latest_revision=latest)
    return Definition(replace(base.object, status=status), specs)


TWO = {1: "one", 2: "two"}

REVISIONS: dict[str, tuple[str, int | None, str]] = {
    "the latest, where none is named": ("work", None, "two"),
    "the one that is named": ("work:1", None, "one"),
    "the one it was given earlier, whatever came later": ("work", 1, "one"),
}


@pytest.mark.parametrize("name", REVISIONS)
def test_a_job_runs_revision(name: str) -> None:
    """AWS Batch, SubmitJob: no revision means the latest ACTIVE one, resolved at submission."""
    named, given, image = REVISIONS[name]
    plan = make_plan(job(jobDefinition=named), kept(TWO, latest=2), given)

    assert container(plan)["image"] == image


def test_a_job_goes_on_when_its_definition_becomes_inactive() -> None:
    """AWS Batch, DeregisterJobDefinition: jobs that were submitted are not affected."""
    plan = make_plan(job(), kept(TWO, latest=2, state="INACTIVE"), 2)

    assert container(plan)["image"] == "two"


HELD: dict[str, tuple[str, Definition | None, int | None, str, str, bool]] = {
    "the definition is still to come": (
        "work",
        None,
        None,
        "JobDefinitionNotFound",
        "there is no JobDefinition work in namespace default: apply it",
        True,
    ),
    "the definition was deleted, its revisions not yet": (
        "work",
        Definition(None, {1: definition_spec()}),
        None,
        "JobDefinitionNotFound",
        "apply it",
        True,
    ),
    "the definition is inactive": (
        "work",
        kept(TWO, latest=2, state="INACTIVE"),
        None,
        "JobDefinitionInactive",
        "set its spec.state to ACTIVE",
        True,
    ),
    "the revision that it names is inactive": (
        "work:1",
        kept(TWO, latest=2, inactiveRevisions=[1]),
        None,
        "JobDefinitionInactive",
        "revision 1 of JobDefinition work is INACTIVE",
        True,
    ),
    "every revision is inactive": (
        "work",
        kept(TWO, latest=None, inactiveRevisions=[1, 2]),
        None,
        "JobDefinitionInactive",
        "every revision of JobDefinition work is INACTIVE",
        True,
    ),
    "the revision does not exist": (
        "work:9",
        kept(TWO, latest=2),
        None,
        "JobDefinitionNotFound",
        "has no revision 9 (it has: 1, 2)",
        True,
    ),
    "the latest revision is being recorded": (
        "work",
        kept(TWO, latest=2, observed=False),
        None,
        "JobDefinitionNotReady",
        "is being recorded",
        False,
    ),
    "the latest revision cannot be recorded": (
        "work",
        replace(kept(TWO, latest=2, observed=False), refused="exceeded quota: few"),
        None,
        "JobDefinitionNotReady",
        "the latest revision of JobDefinition work cannot be recorded: exceeded quota: few",
        True,
    ),
    "the revision it was given is gone": (
        "work",
        None,
        1,
        "JobDefinitionNotFound",
        "has no revision 1 (it has: none)",
        True,
    ),
}


@pytest.mark.parametrize("name", HELD)
def test_a_job_waits_when(name: str) -> None:
    named, found, given, reason, words, stalled = HELD[name]
    hold = make_plan(job(jobDefinition=named), found, given)

    assert isinstance(hold, Hold)
    assert hold.reason == reason
    assert words in hold.message
    assert hold.stalled is stalled


def test_a_named_revision_does_not_wait_for_the_latest_to_be_recorded() -> None:
    plan = make_plan(job(jobDefinition="work:1"), kept(TWO, latest=2, observed=False), None)

    assert container(plan)["image"] == "one"


RETRIES: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None, int]] = {
    "once, where nobody says": (None, None, 1),
    "as the definition says": (None, {"attempts": 3}, 3),
    "as the job says, whatever the definition says": ({"attempts": 2}, {"attempts": 3}, 2),
}


@pytest.mark.parametrize("name", RETRIES)
def test_a_job_is_tried(name: str) -> None:
    """AWS Batch, SubmitJob: its retryStrategy replaces the definition's as a whole."""
    of_job, of_definition, attempts = RETRIES[name]
    made_of: JobDefinitionSpec = definition_spec(retryStrategy=of_definition)
    plan = make_plan(job(retryStrategy=of_job), definition(spec=made_of), None)

    assert isinstance(plan, Plan)
    assert plan.retry.attempts == attempts
    assert plan.retry.evaluate_on_exit == []


def test_a_plan_is_made_again_when_the_job_has_changed_or_has_another_revision() -> None:
    """Someone may have given it another schedulingPriority."""
    one = job()
    plan = make_plan(one, definition(), None)

    assert isinstance(plan, Plan)
    assert is_current(plan, one, None, None)
    assert is_current(plan, one, plan.revision, None)
    assert not is_current(plan, one, plan.revision + 1, None)
    assert not is_current(plan, replace(one, generation=one.generation + 1), None, None)
