"""What follows for definitions, queues and environments: revisions, and what kubectl shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.api.common import Condition
from batch_operator.api.compute_environment import ComputeEnvironmentStatus
from batch_operator.api.job import JobState
from batch_operator.api.job_definition import JobDefinitionStatus
from batch_operator.api.job_queue import JobQueueStatus
from batch_operator.lifecycle.plan import Definition
from batch_operator.scheduling.administration import mutations as administered
from batch_operator.scheduling.memo import Memo
from batch_operator.scheduling.mutations import (
    CreateRevision,
    DeleteRevision,
    Mutation,
    Urgency,
    WriteStatus,
)
from batch_operator.scheduling.snapshot import Changes, Snapshot
from support.builders import START, definition, definition_spec, environment, pod_template, queue

if TYPE_CHECKING:
    from batch_operator.scheduling.faults import Fault

LATER = START + timedelta(hours=1)


def snapshot(*objects: Any, **fields: Any) -> Snapshot:
    """A snapshot of definitions, queues and environments, in any order."""
    definitions = [one for one in objects if isinstance(one, Definition)]
    stored = [one for one in objects if not isinstance(one, Definition)]
    queues = [one for one in stored if isinstance(one.status, JobQueueStatus)]
    environments = [one for one in stored if isinstance(one.status, ComputeEnvironmentStatus)]
    arguments: dict[str, Any] = {
        "now": START,
        "jobs": {},
        "job_uids": {},
        "attempts": {},
        "definitions": {one.object.key: one for one in definitions if one.object},
        "queues": {one.name: one for one in queues},
        "environments": {one.name: one for one in environments},
        "refusals": {},
        **fields,
    }
    return Snapshot(**arguments)


def mutations(world: Snapshot, memo: Memo) -> list[Mutation]:
    faults: list[Fault] = []
    found = administered(world, memo, faults)

    assert faults == []
    return found


def used_memo() -> Memo:
    """A memo as a cycle leaves it: what is not marked as changed is not looked at."""
    memo = Memo()
    memo.is_administered = True
    memo.nodes.note_order("main", frozenset({"local"}))
    return memo


def statuses(found: list[Mutation]) -> dict[str, Any]:
    return {one.name: one.status for one in found if isinstance(one, WriteStatus)}


def conditions(status: Any) -> list[tuple[str, str, str]]:
    return [(one.type, one.status, one.message) for one in status.conditions]


# Definitions


def unrecorded(**spec: Any) -> Definition:
    """A definition that has just been applied."""
    kept = definition(spec=definition_spec(**spec))
    assert kept.object is not None
    return Definition(replace(kept.object, status=JobDefinitionStatus()), {})


def test_what_was_applied_becomes_revision_1() -> None:
    """AWS Batch, RegisterJobDefinition: the first revision is 1."""
    fresh = unrecorded()
    [create] = mutations(snapshot(fresh), Memo())

    assert create == CreateRevision("default", "work", "uid-work", 1, definition_spec())


def test_every_change_of_a_definition_is_the_next_revision() -> None:
    """AWS Batch, RegisterJobDefinition: always revision n+1; none is edited in place."""
    changed = definition(spec=definition_spec(parameters={"a": "b"}), revision=4)
    before = Definition(changed.object, {3: definition_spec(), 4: definition_spec()})
    [create] = mutations(snapshot(before), Memo())

    assert isinstance(create, CreateRevision)
    assert create.revision == 5
    assert create.spec.parameters == {"a": "b"}


def test_going_back_to_an_older_spec_is_a_new_revision_too() -> None:
    kept = definition(spec=definition_spec(), revision=1)
    other = definition_spec(parameters={"a": "b"})
    [create] = mutations(
        snapshot(Definition(kept.object, {1: definition_spec(), 2: other})), Memo()
    )

    assert isinstance(create, CreateRevision)
    assert create.revision == 3


def test_a_revision_that_cannot_be_recorded_is_told_and_tried_again() -> None:
    fresh = replace(unrecorded(), refused="exceeded quota: few")
    create, write = mutations(snapshot(fresh), Memo())

    assert isinstance(create, CreateRevision)
    assert isinstance(write, WriteStatus)
    told = "revision 1 cannot be recorded: exceeded quota: few"
    assert conditions(write.status) == [("Ready", "False", told), ("Stalled", "True", told)]
    assert isinstance(write.status, JobDefinitionStatus)
    assert write.status.observed_generation == -1, "it is not what jobs get"


def test_the_status_of_a_definition_follows_once_the_revision_is_stored() -> None:
    kept = Definition(unrecorded().object, {1: definition_spec()})
    [write] = mutations(snapshot(kept), Memo())

    assert isinstance(write, WriteStatus)
    assert write.urgency is Urgency.COUNTED
    assert write.status == JobDefinitionStatus(
        observed_generation=1,
        latest_revision=1,
        conditions=[
            Condition(
                type="Ready",
                status="True",
                reason="Ready",
                message="revision 1 is the latest",
                observed_generation=1,
                last_transition_time=START,
            )
        ],
    )


def test_taking_a_definition_out_of_use_is_no_revision() -> None:
    """AWS Batch, DeregisterJobDefinition."""
    kept = Definition(unrecorded(state="INACTIVE").object, {1: definition_spec()})
    found = mutations(snapshot(kept), Memo())

    assert not [one for one in found if isinstance(one, CreateRevision)]


@pytest.mark.parametrize("gone", ["deleted", "being deleted"])
def test_a_definition_gets_no_revision_once_it_is(gone: str) -> None:
    fresh = unrecorded()
    assert fresh.object is not None
    last = Definition(replace(fresh.object, deleting=True) if gone == "being deleted" else None, {})
    found = mutations(snapshot(definitions={("default", "work"): last}), Memo())

    assert found == []


def history(*numbers: int, limit: int = 10, inactive: tuple[int, ...] = ()) -> Definition:
    """A definition with these revisions, the latest of which is what it says now."""
    spec = definition_spec(revisionHistoryLimit=limit, inactiveRevisions=list(inactive))
    older = definition_spec(parameters={"a": "older"})
    kept = {**dict.fromkeys(numbers, older), max(numbers): definition_spec()}
    return Definition(definition(spec=spec).object, kept)


def deleted(found: list[Mutation]) -> list[int]:
    return [one.revision for one in found if isinstance(one, DeleteRevision)]


HISTORIES: dict[str, tuple[Definition, list[int]]] = {
    "no more than are kept": (history(1, 2, 3), []),
    "the oldest beyond the limit": (history(1, 2, 3, 4, limit=1), [1, 2]),
    "all but the latest": (history(4, 7, 9, limit=0), [4, 7]),
    "all, once the definition is gone": (Definition(None, history(1, 2).revisions), [1, 2]),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_of_old_revisions_there_are_deleted(name: str) -> None:
    """Beyond AWS Batch, which keeps INACTIVE revisions for 180 days."""
    kept, expected = HISTORIES[name]
    found = mutations(snapshot(definitions={("default", "work"): kept}), Memo())

    assert deleted(found) == expected


@pytest.mark.parametrize(
    "kept", [history(1, 2, 3, limit=0), Definition(None, history(1, 2).revisions)]
)
def test_a_revision_that_an_open_job_runs_is_not_deleted(kept: Definition) -> None:
    """AWS Batch, DeregisterJobDefinition: jobs that were submitted are not affected."""
    memo = Memo()
    memo.revision_users["default", "work", 1] = 1
    found = mutations(snapshot(definitions={("default", "work"): kept}), memo)

    assert deleted(found) == [2]


def test_a_definition_names_the_revision_that_new_jobs_get() -> None:
    """AWS Batch, SubmitJob: the latest ACTIVE revision."""
    [write] = mutations(snapshot(history(1, 2, 3, inactive=(3,))), Memo())

    assert isinstance(write, WriteStatus)
    assert isinstance(write.status, JobDefinitionStatus)
    assert write.status.latest_revision == 2
    assert conditions(write.status) == [
        ("Ready", "True", "revision 3 is the latest, revision 2 the latest ACTIVE one")
    ]


def test_an_object_that_cannot_be_seen_to_stops_no_other() -> None:
    """Whatever is wrong in this program with one queue, the others get their statuses."""
    broken: Any = replace(queue("broken"), spec=None)
    faults: list[Fault] = []
    found = administered(snapshot(broken, queue("main"), environment()), Memo(), faults)

    assert sorted(statuses(found)) == ["local", "main"]
    assert [one.name for one in faults] == ["queue broken"]


# Queues


def test_a_queue_that_takes_work_is_ready() -> None:
    status = statuses(mutations(snapshot(queue(), environment()), Memo()))["main"]

    assert conditions(status) == [("Ready", "True", "ENABLED, 1 compute environments take work")]
    assert status.observed_generation == 1


def test_a_queue_shows_its_open_jobs_by_state_and_not_those_that_are_over() -> None:
    memo = Memo()
    memo.count_states("a", ("main", {JobState.RUNNABLE: 3, JobState.FAILED: 2}))
    memo.count_states("b", ("main", {JobState.RUNNING: 1}))
    memo.count_states("c", ("other", {JobState.RUNNING: 5}))
    status = statuses(mutations(snapshot(queue(), environment()), memo))["main"]

    assert status.jobs == {JobState.RUNNABLE: 3, JobState.RUNNING: 1}


PROBLEMS: dict[str, tuple[dict[str, Any], str]] = {
    "an environment is still to come": (
        {"computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "absent"}]},
        "there is no ComputeEnvironment absent: apply it, or name others in",
    ),
    "no environment takes work": (
        {"computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "off"}]},
        "none of its compute environments takes work",
    ),
    "a time limit asks for a reason that nothing has": (
        {
            "jobStateTimeLimitActions": [
                {"state": "PENDING", "reason": "Late", "maxTimeSeconds": 60, "action": "NOTIFY"}
            ]
        },
        "no job ever has the reason Late: write * for any",
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_queue_is_stalled_and_says_what_to_change_when(name: str) -> None:
    spec, words = PROBLEMS[name]
    off = environment("off", state="DISABLED")
    status = statuses(mutations(snapshot(queue(**spec), environment(), off), Memo()))["main"]
    [ready, stalled] = conditions(status)

    assert ready[:2] == ("Ready", "False")
    assert stalled[:2] == ("Stalled", "True")
    assert words in ready[2] == stalled[2]


def test_a_queue_of_many_long_names_that_are_missing_is_still_a_sentence() -> None:
    names = [f"environment-{number:02}-{'x' * 48}" for number in range(20)]
    order = [{"order": at, "computeEnvironment": name} for at, name in enumerate(names)]
    status = statuses(mutations(snapshot(queue(computeEnvironmentOrder=order)), Memo()))["main"]
    message = conditions(status)[0][2]

    assert message == (
        f"there is no ComputeEnvironment {names[0]}, {names[1]}, {names[2]} and 17 more: apply "
        f"it, or name others in spec.computeEnvironmentOrder"
    )


# Environments


def test_an_environment_shows_what_is_used_of_it() -> None:
    memo = Memo()
    memo.used_milli = Counter({"local": 1500})
    status = statuses(mutations(snapshot(environment(maxvCpus=4)), memo))["local"]

    assert (status.vcpus.used, status.vcpus.max) == ("1.5", 4)
    assert conditions(status) == [("Ready", "True", "takes work")]


def test_a_disabled_environment_is_as_somebody_wanted_it() -> None:
    found = mutations(snapshot(environment(state="DISABLED")), Memo())

    assert conditions(statuses(found)["local"]) == [("Ready", "True", "DISABLED")]


# All of them


def settled() -> tuple[Any, ...]:
    """A definition, a queue and an environment whose statuses are written."""
    objects = (definition(), queue(), environment())
    written = statuses(mutations(snapshot(*objects), Memo()))
    kept = objects[0]
    assert kept.object is not None
    return (
        Definition(replace(kept.object, status=written["work"]), kept.revisions),
        replace(objects[1], status=written["main"]),
        replace(objects[2], status=written["local"]),
    )


def test_an_unchanged_world_is_not_written_to() -> None:
    found = mutations(snapshot(*settled(), now=LATER), Memo())

    assert statuses(found) == {"work": None, "main": None, "local": None}
    assert not [one for one in found if isinstance(one, CreateRevision)]


def test_a_condition_keeps_its_time_while_only_its_words_change() -> None:
    work, main, local = settled()
    both = replace(main, spec=queue(state="DISABLED").spec)
    status = statuses(mutations(snapshot(work, both, local, now=LATER), Memo()))["main"]

    assert conditions(status) == [("Ready", "True", "DISABLED, 1 compute environments take work")]
    assert status.conditions[0].last_transition_time == START


def test_a_condition_that_turns_gets_the_time_of_the_turn() -> None:
    work, main, _ = settled()
    status = statuses(mutations(snapshot(work, main, now=LATER), Memo()))["main"]

    assert [one.type for one in status.conditions] == ["Ready", "Stalled"]
    assert {one.last_transition_time for one in status.conditions} == {LATER}


def test_words_may_wait_and_states_may_not() -> None:
    work, main, local = settled()
    memo = Memo()
    memo.count_states("a", ("main", {JobState.RUNNING: 1}))
    counted = mutations(snapshot(work, main, local), memo)
    turned = mutations(snapshot(work, main), Memo())

    assert urgency(counted, "main") is Urgency.LAZY
    assert urgency(turned, "main") is Urgency.NORMAL


def urgency(found: list[Mutation], name: str) -> Urgency:
    [one] = [one for one in found if isinstance(one, WriteStatus) and one.name == name]
    return one.urgency


def test_only_what_changed_is_looked_at() -> None:
    objects = settled()

    assert mutations(snapshot(*objects), used_memo()) == []


LOOKED_AT: dict[str, tuple[Changes, list[str]]] = {
    "a definition": (Changes(definitions=frozenset({("default", "work")})), ["work"]),
    "a queue": (Changes(queues=frozenset({"main"})), ["main"]),
    "an environment, and with it the queues": (
        Changes(environments=frozenset({"local"})),
        ["main", "local"],
    ),
    "what is gone by now": (
        Changes(
            definitions=frozenset({("default", "gone")}),
            queues=frozenset({"gone"}),
            environments=frozenset(),
        ),
        [],
    ),
}


@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_change_has_looked_at(name: str) -> None:
    changes, expected = LOOKED_AT[name]
    found = mutations(snapshot(*settled(), changes=changes), used_memo())

    assert [one.name for one in found if isinstance(one, WriteStatus)] == expected


def test_queues_and_environments_whose_jobs_moved_are_looked_at_once() -> None:
    objects = settled()
    memo = used_memo()
    memo.touched_queues["main"] = None
    memo.touched_environments["local"] = None

    assert len(mutations(snapshot(*objects), memo)) == 2
    assert mutations(snapshot(*objects), memo) == []


def test_a_pod_template_that_only_looks_different_is_no_new_revision() -> None:
    """What was stored comes back through JSON; equal content must stay equal."""
    spec = definition_spec(podTemplate={**pod_template(), "metadata": {}})
    kept = definition(spec=spec)
    stored = type(spec).model_validate(spec.to_wire())
    found = mutations(snapshot(Definition(kept.object, {1: stored})), Memo())

    assert not [one for one in found if isinstance(one, CreateRevision)]


def test_of_many_queues_whose_jobs_moved_all_have_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that were touched first go first, or the busy ones would keep the others waiting."""
    monkeypatch.setattr("batch_operator.scheduling.administration.TOUCHED_MAX", 2)
    world = snapshot(*(queue(name) for name in "abc"))
    memo = used_memo()
    seen = []
    for busy in ("cba", "bc", "bc"):
        memo.touched_queues |= dict.fromkeys(busy)
        seen.append(sorted(statuses(mutations(world, memo))))

    assert seen == [["b", "c"], ["a", "b"], ["b", "c"]]


def test_a_queue_that_changed_does_not_wait_behind_those_whose_jobs_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("batch_operator.scheduling.administration.TOUCHED_MAX", 1)
    memo = used_memo()
    memo.touched_queues |= dict.fromkeys("ab")
    changes = Changes(queues=frozenset("c"))
    found = mutations(snapshot(*(queue(name) for name in "abc"), changes=changes), memo)

    assert sorted(statuses(found)) == ["a", "c"]
