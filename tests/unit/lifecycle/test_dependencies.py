"""What dependencies let through, what they doom, and what a job says while it waits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_operator.api.index_set import IndexSet
from batch_operator.api.job import JobState
from batch_operator.lifecycle.dependencies import (
    Gate,
    Upstream,
    circular_hold,
    cycle_from,
    gate,
    names_of,
)
from support.builders import job

S = JobState
OPEN_STATES = [state for state in JobState if state not in {S.SUCCEEDED, S.FAILED}]
DEPENDENT_FAILED = "Dependent Job failed"
NEVER = "Dependency never satisfied"
TOKENS = {DEPENDENT_FAILED: "DependencyFailed", NEVER: "DependencyNeverSatisfied"}
"""What the job's conditions have as their reason."""


def single(state: JobState) -> Upstream:
    """A job that is no array."""
    whole = IndexSet.range(1)
    return Upstream(
        state,
        whole,
        whole if state is S.SUCCEEDED else IndexSet(),
        whole if state is S.FAILED else IndexSet(),
        is_array=False,
    )


def array(size: int = 4, state: JobState = S.PENDING, **counted: str) -> Upstream:
    """An array, of whose children some have ended (as intervals)."""
    return Upstream(
        state,
        IndexSet.range(size),
        IndexSet.parse(counted.get("succeeded", "")),
        IndexSet.parse(counted.get("failed", "")),
        is_array=True,
    )


LONE = single(S.PENDING)


@dataclass(frozen=True)
class Case:
    """A job's dependencies and the world, and which of its children are `open` and `doomed`."""

    depends_on: list[dict[str, Any]]
    others: dict[str, Upstream]
    own: Upstream = LONE
    passed: str = ""
    open: str = ""
    doomed: str = ""
    waits: str | None = None
    """What the sentence of the hold contains."""
    status_reason: str | None = None
    """Why the doomed ones fail."""


def asked(case: Case) -> Gate:
    spec = job(dependsOn=case.depends_on).spec
    return gate(spec, case.own, IndexSet.parse(case.passed), case.others)


A = {"job": "a"}
B = {"job": "b"}
SEQUENTIAL = {"type": "SEQUENTIAL"}
N_TO_N = {"job": "a", "type": "N_TO_N"}
ANY = {"job": "a", "type": "AFTER_ANY"}
ONLY_FAILED = {"job": "a", "type": "AFTER_FAILED"}

CASES: dict[str, Case] = {
    "no dependency: nothing waits": Case([], {}, open="0"),
    "all have succeeded: it goes on": Case(
        [A, B], {"a": single(S.SUCCEEDED), "b": single(S.SUCCEEDED)}, open="0"
    ),
    "one is not over: it waits": Case(
        [A, B],
        {"a": single(S.SUCCEEDED), "b": single(S.RUNNING)},
        waits="waits for b to succeed",
    ),
    "one has failed: it fails at once, whatever the others do": Case(
        [A, B],
        {"a": single(S.RUNNING), "b": single(S.FAILED)},
        doomed="0",
        waits="waits for a to succeed",
        status_reason=DEPENDENT_FAILED,
    ),
    "one is missing: it waits and says so": Case(
        [A, B],
        {"b": single(S.RUNNING)},
        waits="waits for a, which does not exist in this namespace: apply it",
    ),
    "one is missing and another has failed: it fails": Case(
        [A, B],
        {"b": single(S.FAILED)},
        doomed="0",
        waits="waits for a, which does not exist",
        status_reason=DEPENDENT_FAILED,
    ),
    "an array of which all children have succeeded": Case(
        [A], {"a": array(state=S.SUCCEEDED, succeeded="0-3")}, open="0"
    ),
    "an array of which one child has failed, but not all have ended": Case(
        [A], {"a": array(failed="1")}, waits="waits for a to succeed"
    ),
    "an array that has failed": Case(
        [A],
        {"a": array(state=S.FAILED, succeeded="0,2-3", failed="1")},
        doomed="0",
        status_reason=DEPENDENT_FAILED,
    ),
    "an array waits as a whole for a job": Case(
        [A], {"a": single(S.RUNNING)}, own=array(), waits="waits for a to succeed"
    ),
    "an array goes on as a whole": Case([A], {"a": single(S.SUCCEEDED)}, own=array(), open="0-3"),
    "an array fails as a whole": Case(
        [A],
        {"a": single(S.FAILED)},
        own=array(),
        doomed="0-3",
        status_reason=DEPENDENT_FAILED,
    ),
    "child by child: those whose twin has succeeded may run": Case(
        [N_TO_N],
        {"a": array(succeeded="0,2")},
        own=array(),
        open="0,2",
        waits="the child with the same index of a to succeed",
    ),
    "child by child: those whose twin has failed fail": Case(
        [N_TO_N],
        {"a": array(succeeded="0", failed="2")},
        own=array(),
        open="0",
        doomed="2",
        waits="the child with the same index of a to succeed",
        status_reason=DEPENDENT_FAILED,
    ),
    "child by child: what an array that was stopped never ran will not come": Case(
        [N_TO_N],
        {"a": array(state=S.FAILED, succeeded="0")},
        own=array(),
        open="0",
        doomed="1-3",
        status_reason=DEPENDENT_FAILED,
    ),
    "child by child of two arrays: both twins are needed": Case(
        [N_TO_N, {"job": "b", "type": "N_TO_N"}],
        {"a": array(succeeded="0-1"), "b": array(succeeded="1-2")},
        own=array(),
        open="1",
        waits="the child with the same index of a to succeed, the child",
    ),
    "child by child of another size": Case(
        [N_TO_N],
        {"a": array(5)},
        own=array(),
        waits="type N_TO_N needs the same indexes on both sides: a has 0-4, this job 0-3",
    ),
    "child by child of a job that is no array": Case(
        [N_TO_N],
        {"a": single(S.SUCCEEDED)},
        own=array(),
        waits="type N_TO_N needs two arrays: this job and a",
    ),
    "child by child of an array, by a job that is none": Case(
        [N_TO_N], {"a": array()}, waits="type N_TO_N needs two arrays"
    ),
    "one after the other: the first may run": Case(
        [SEQUENTIAL], {}, own=array(), open="0", waits="the child before to succeed"
    ),
    "one after the other: the next, once those before have succeeded": Case(
        [SEQUENTIAL],
        {},
        own=array(succeeded="0-1"),
        open="0-2",
        waits="the child before to succeed",
    ),
    "one after the other: a failure fails all after it": Case(
        [SEQUENTIAL],
        {},
        own=array(succeeded="0", failed="1"),
        open="0-1",
        doomed="2-3",
        status_reason=DEPENDENT_FAILED,
    ),
    "one after the other: a child that another dependency has failed before its turn": Case(
        [SEQUENTIAL],
        {},
        own=array(failed="2"),
        open="0,2",
        doomed="3",
        waits="the child before to succeed",
        status_reason=DEPENDENT_FAILED,
    ),
    "one after the other: a failure among the indexes that are run again": Case(
        [SEQUENTIAL],
        {},
        own=replace(array(succeeded="1", failed="3"), members=IndexSet.parse("1,3,5")),
        open="1,3",
        doomed="5",
        status_reason=DEPENDENT_FAILED,
    ),
    "one after the other, and child by child": Case(
        [SEQUENTIAL, N_TO_N],
        {"a": array(succeeded="1-3")},
        own=array(succeeded="0"),
        passed="0",
        open="0-1",
        waits="the child before to succeed, the child with the same index of a to succeed",
    ),
    "one after the other, where there is only one": Case(
        [SEQUENTIAL], {}, waits="type SEQUENTIAL orders an array's children"
    ),
    "whatever the outcome: it has succeeded": Case([ANY], {"a": single(S.SUCCEEDED)}, open="0"),
    "whatever the outcome: it has failed": Case([ANY], {"a": single(S.FAILED)}, open="0"),
    "whatever the outcome: it is not over": Case(
        [ANY], {"a": single(S.RUNNING)}, waits="waits for a to end"
    ),
    "only after a failure: it has failed": Case([ONLY_FAILED], {"a": single(S.FAILED)}, open="0"),
    "only after a failure: it has succeeded": Case(
        [ONLY_FAILED], {"a": single(S.SUCCEEDED)}, doomed="0", status_reason=NEVER
    ),
    "only after a failure: it is not over": Case(
        [ONLY_FAILED], {"a": single(S.RUNNING)}, waits="waits for a to fail"
    ),
    "one child of an array has succeeded": Case(
        [{"job": "a", "index": 2}], {"a": array(succeeded="2")}, open="0"
    ),
    "one child of an array has failed": Case(
        [{"job": "a", "index": 2}],
        {"a": array(failed="2")},
        doomed="0",
        status_reason=DEPENDENT_FAILED,
    ),
    "one child of an array is not over, others are": Case(
        [{"job": "a", "index": 2}],
        {"a": array(succeeded="0-1", failed="3")},
        waits="waits for a:2 to succeed",
    ),
    "one child of an array, whatever its outcome": Case(
        [{"job": "a", "index": 2, "type": "AFTER_ANY"}], {"a": array(failed="2")}, open="0"
    ),
    "a child that the array does not have": Case(
        [{"job": "a", "index": 9}], {"a": array()}, waits="a has no child 9: name one"
    ),
    "a child of a job that is no array": Case(
        [{"job": "a", "index": 0}],
        {"a": single(S.SUCCEEDED)},
        waits="a is no array: leave the dependency's index out",
    ),
    "what was let through stays so when the job before is gone": Case(
        [A], {}, passed="0", open="0", waits="waits for a, which does not exist"
    ),
    "what was let through does not fail with the job before": Case(
        [N_TO_N],
        {"a": array(state=S.FAILED, failed="0-3")},
        own=array(),
        passed="0-1",
        open="0-1",
        doomed="2-3",
        status_reason=DEPENDENT_FAILED,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_dependencies_let_through_and_doom(name: str) -> None:
    """AWS Batch, job dependencies: plain, N_TO_N and SEQUENTIAL; beyond it AFTER_*, one child."""
    case = CASES[name]
    found = asked(case)

    assert (str(found.open), str(found.doomed)) == (case.open, case.doomed)


@pytest.mark.parametrize("name", CASES)
def test_children_that_fail_with_a_dependency_say_why(name: str) -> None:
    case = CASES[name]
    doom = asked(case).doom

    assert (doom and doom.status_reason) == case.status_reason
    assert doom is None or doom.token == TOKENS[doom.status_reason]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.waits])
def test_what_waits_says_for_what(name: str) -> None:
    case = CASES[name]
    hold = asked(case).hold

    assert hold is not None
    assert case.waits in hold.message


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.waits])
def test_where_every_child_is_open_or_doomed_nothing_waits(name: str) -> None:
    assert asked(CASES[name]).hold is None


@pytest.mark.parametrize("state", OPEN_STATES)
def test_a_job_waits_for_one_in_any_state_that_is_not_final(state: JobState) -> None:
    found = asked(Case([A], {"a": single(state)}))

    assert not found.open | found.doomed
    assert found.hold is not None
    assert found.hold.reason == "WaitingForDependencies"
    assert found.hold.blocked_by == ("a",)
    assert not found.hold.stalled


MENDED: dict[str, tuple[Case, str]] = {
    "a missing job": (CASES["one is missing: it waits and says so"], "DependencyNotFound"),
    "two sizes": (CASES["child by child of another size"], "DependencyInvalid"),
    "two sizes, after a job that is in order": (
        Case([A, {"job": "b", "type": "N_TO_N"}], {"a": array(), "b": array(5)}, array()),
        "DependencyInvalid",
    ),
    "a child that is none": (
        CASES["a child that the array does not have"],
        "DependencyInvalid",
    ),
}


@pytest.mark.parametrize("name", MENDED)
def test_what_somebody_has_to_mend_stalls_the_job(name: str) -> None:
    case, reason = MENDED[name]
    hold = asked(case).hold

    assert hold is not None
    assert hold.stalled
    assert hold.reason == reason


@pytest.mark.parametrize(("count", "more"), [(3, ""), (4, " and 1 more"), (1000, " and 997 more")])
def test_a_long_list_is_named_in_part_and_counted(count: int, more: str) -> None:
    """Beyond AWS Batch: more than 20 dependencies."""
    names = [f"job-{number}" for number in range(count)]
    found = asked(Case([{"job": name} for name in names], dict.fromkeys(names, single(S.RUNNING))))

    assert found.hold is not None
    assert found.hold.message == (
        f"waits for job-0 to succeed, job-1 to succeed, job-2 to succeed{more}"
    )
    assert found.hold.blocked_by == ("job-0", "job-1", "job-2")


SETS = st.sets(st.integers(0, 5))


@given(
    done=SETS,
    lost=SETS,
    passed=SETS,
    own_done=SETS,
    is_over=st.booleans(),
    is_sequential=st.booleans(),
)
def test_no_child_is_open_and_doomed_and_none_that_was_let_through_is_called_back(
    done: set[int],
    lost: set[int],
    passed: set[int],
    own_done: set[int],
    *,
    is_over: bool,
    is_sequential: bool,
) -> None:
    upstream = Upstream(
        S.FAILED if is_over else S.PENDING,
        IndexSet.range(6),
        IndexSet.of(done),
        IndexSet.of(lost - done),
        is_array=True,
    )
    own = Upstream(
        S.PENDING,
        IndexSet.range(6),
        IndexSet.of(own_done & passed),
        IndexSet(),
        is_array=True,
    )
    spec = job(dependsOn=[N_TO_N, *([SEQUENTIAL] if is_sequential else [])]).spec
    found = gate(spec, own, IndexSet.of(passed), {"a": upstream})

    assert not found.open & found.doomed
    assert set(found.open) >= passed
    assert (found.doom is not None) == bool(found.doomed)
    assert found.hold is not None or (found.open | found.doomed) == own.members


# Circles

GRAPHS: dict[str, tuple[dict[str, list[str]], str, list[str]]] = {
    "a job alone": ({"a": []}, "a", []),
    "a chain": ({"a": ["b"], "b": ["c"], "c": []}, "a", []),
    "two ways to one job": ({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}, "a", []),
    "a job that waits for itself": ({"a": ["a"]}, "a", ["a"]),
    "two that wait for each other": ({"a": ["b"], "b": ["a"]}, "a", ["a", "b"]),
    "a circle beside a chain that ends": ({"a": ["b", "c"], "b": [], "c": ["a"]}, "a", ["a", "c"]),
    "a circle further on": ({"a": ["b"], "b": ["c"], "c": ["b"]}, "a", ["b", "c"]),
    "a circle beside": ({"a": ["b"], "b": [], "x": ["y"], "y": ["x"]}, "a", []),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_jobs_that_wait_for_each_other_are_found(name: str) -> None:
    edges, start, expected = GRAPHS[name]

    assert cycle_from(start, edges.__getitem__, set()) == expected


def test_a_chain_longer_than_the_stack_is_followed() -> None:
    proven: set[str] = set()
    found = cycle_from("0", lambda name: [str(int(name) + 1)] if int(name) < 5000 else [], proven)

    assert found == []
    assert len(proven) == 5001


@given(st.dictionaries(st.sampled_from("abcde"), st.lists(st.sampled_from("abcde"), max_size=3)))
def test_a_circle_is_a_closed_walk_and_what_is_proven_reaches_none(
    edges: dict[str, list[str]],
) -> None:
    proven: set[str] = set()

    def following(name: str) -> list[str]:
        return edges.get(name, [])

    for start in "abcde":
        found = cycle_from(start, following, proven)
        steps = zip(found, [*found[1:], *found[:1]], strict=True)

        assert all(after in following(before) for before, after in steps)
        assert bool(found) == (start not in proven)


CIRCLES: dict[str, tuple[int, str]] = {
    "one job": (1, "0 → 0;"),
    "ten": (10, "0 → 1 → 2 → 3 → 4 → 5 → 6 → 7 → 8 → 9 → 0;"),
    "eleven, too many to be named": (11, "0 → 1 → 2 → 3 → 4 → 5 → 6 → 7 → 8 → … → 0;"),
}


@pytest.mark.parametrize("of", CIRCLES)
def test_a_circle_is_named_to_those_who_have_to_open_it(of: str) -> None:
    size, expected = CIRCLES[of]
    hold = circular_hold([str(number) for number in range(size)])

    assert f"dependencies form a circle, {expected} delete one" in hold.message
    assert (hold.reason, hold.stalled) == ("CircularDependency", True)


@pytest.mark.parametrize(("last", "rest"), [(42, ""), (44, "…"), (990, "…")])
def test_of_a_set_of_indexes_sixty_characters_are_shown(last: int, rest: str) -> None:
    own = replace(array(), members=IndexSet.of(range(0, last + 1, 2)))
    found = asked(Case([N_TO_N], {"a": array(5)}, own=own))
    shown = ",".join(str(index) for index in range(0, 43, 2))

    assert len(shown) == 60
    assert found.hold is not None
    assert found.hold.message.partition("this job ")[2].partition(";")[0] == shown + rest


def test_the_jobs_that_a_job_depends_on_are_named_once() -> None:
    spec = job(dependsOn=[A, N_TO_N, SEQUENTIAL, B]).spec

    assert names_of(spec) == {"a", "b"}
