"""What differs between the children of an array: values, sentences, and where the values go."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from math import prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_operator.api.array import ARRAY_SIZE_MAX, PARAMETER_VALUE_MAX
from batch_operator.api.index_set import MAX_INDEX
from batch_operator.api.job import ArrayStatus, BatchJobStatus
from batch_operator.lifecycle.array_parameters import (
    Read,
    Source,
    Values,
    lines_of,
    read_of,
    source_of,
    values_of,
)
from batch_operator.lifecycle.holds import Hold, Reason
from batch_operator.lifecycle.plan import Invalid, Plan, is_current, make_plan
from support.builders import START, definition, definition_spec, job, pod_template

CHARACTERS_MAX = COMMAND_LENGTH_MAX = 262_144
CONFIG_MAP = {"name": "samples", "key": "lines", "parameters": ["sample"]}
BEING_READ = Hold(Reason.PARAMETERS_NOT_READY, "ConfigMap samples is being read")


def array_of(parameters: dict[str, Any], size: int | None = None, **array: Any) -> Any:
    shape = {} if size is None else {"size": size}
    return job(arrayProperties={**shape, **array, "parameters": parameters})


def listed(**lists: list[str]) -> dict[str, Any]:
    return {"lists": [{"name": name, "values": values} for name, values in lists.items()]}


def matrix(*axes: tuple[str, list[str]]) -> dict[str, Any]:
    return {"matrix": [{"name": name, "values": values} for name, values in axes]}


def read(*lines: str) -> Read:
    return Read(lines, BEING_READ)


def recorded(one: Any, lines: Read) -> Any:
    """The job once it is stored which lines its children get."""
    found = values_of(one, lines)
    assert isinstance(found, Values), found
    assert found.per_index is not None
    array = ArrayStatus(size=2, parameters_digest=found.per_index.digest)
    return replace(one, status=BatchJobStatus(array=array))


def values(one: Any, *indexes: int, lines: Read | None = None) -> list[dict[str, str]]:
    found = values_of(recorded(one, lines) if lines else one, lines)
    assert isinstance(found, Values), found
    assert found.hold is None, found.hold
    assert found.per_index is not None
    return [found.per_index.at(index) for index in indexes]


# Values


def test_child_i_gets_the_ith_value_of_each_list() -> None:
    one = array_of(listed(sample=["a", "b", "c"], mode=["x", "", "z"]), 3)

    assert values(one, 0, 1, 2) == [
        {"sample": "a", "mode": "x"},
        {"sample": "b", "mode": ""},
        {"sample": "c", "mode": "z"},
    ]


def test_the_last_parameter_of_a_matrix_varies_fastest() -> None:
    one = array_of(matrix(("lr", ["0.1", "0.01"]), ("seed", ["1", "2", "3"])), 6)

    assert [tuple(of.values()) for of in values(one, *range(6))] == [
        ("0.1", "1"),
        ("0.1", "2"),
        ("0.1", "3"),
        ("0.01", "1"),
        ("0.01", "2"),
        ("0.01", "3"),
    ]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_every_combination_of_a_matrix_is_one_child(lengths: list[int]) -> None:
    axes = [(f"p{n}", [str(value) for value in range(size)]) for n, size in enumerate(lengths)]
    count = prod(lengths)
    one = array_of(matrix(*axes), indexes=f"0-{count - 1}")
    found = [tuple(of.values()) for of in values(one, *range(count))]

    assert len(found) == count
    assert sorted(set(found)) == found


def test_a_sparse_array_may_take_a_few_of_more_combinations_than_an_array_may_have() -> None:
    one = array_of(matrix(("a", list("01") * 100), ("b", list("xy") * 100)), indexes="0,39999")

    assert values(one, 39999) == [{"a": "1", "b": "y"}]


def test_a_line_of_a_config_map_is_one_value_whatever_is_in_it() -> None:
    one = array_of({"configMap": CONFIG_MAP}, 2)

    assert values(one, 0, 1, lines=read("a,b", "c")) == [{"sample": "a,b"}, {"sample": "c"}]


def test_a_line_may_have_several_values() -> None:
    parameters = {"configMap": {**CONFIG_MAP, "parameters": ["left", "right"], "separator": "\t"}}
    one = array_of(parameters, 2)

    assert values(one, 1, lines=read("a\tb", "c,d\t")) == [{"left": "c,d", "right": ""}]


def test_lists_matrix_and_lines_go_together() -> None:
    one = array_of(
        {**listed(a=["1", "2"]), **matrix(("b", ["3", "4"])), "configMap": CONFIG_MAP}, 2
    )

    assert values(one, 1, lines=read("x", "y")) == [{"a": "2", "b": "4", "sample": "y"}]


def test_an_index_gets_the_same_values_in_a_sparse_array() -> None:
    parameters = {**listed(a=list("abcdefgh")), **matrix(("b", ["0", "1"]), ("c", list("0123")))}
    whole, sparse = array_of(parameters, 8), array_of(parameters, indexes="3,7")

    assert values(sparse, 3, 7) == values(whole, 3, 7)


LINES: dict[str, tuple[str, tuple[str, ...]]] = {
    "nothing": ("", ()),
    "a newline at the end": ("a\nb\n", ("a", "b")),
    "none at the end": ("a\nb", ("a", "b")),
    "one empty line": ("\n", ("",)),
    "an empty line keeps its index": ("a\n\nb\n\n", ("a", "", "b", "")),
    "Windows": ("a\r\nb\r\n", ("a", "b")),
    "only newlines end a line": ("a\x0bb\u2028c\n", ("a\x0bb\u2028c",)),
}


@pytest.mark.parametrize("name", LINES)
def test_the_lines_of(name: str) -> None:
    text, expected = LINES[name]

    assert lines_of(text) == expected


def test_no_more_lines_are_kept_than_there_can_be_indexes() -> None:
    assert len(lines_of("\n" * (MAX_INDEX + 9))) == MAX_INDEX + 1


# Sentences

FOUR = ["1", "2", "3", "4"]
WRONG: dict[str, tuple[Any, str]] = {
    "a matrix of another size": (
        array_of(matrix(("a", ["1", "2"]), ("b", ["1", "2", "3"])), 5),
        "the matrix has 6 combinations: set size to 6, or give it 5",
    ),
    "a matrix that is too large": (
        array_of(matrix(("a", ["1"] * 200), ("b", ["1"] * 200)), 5),
        "the matrix has 40000 combinations, but an array has at most 10000 children: give it 5",
    ),
    "a list of another size": (
        array_of(listed(a=["1"], b=FOUR), 4),
        "list a has 1 values: set size to 1, or give it 4",
    ),
    "the second of two lists": (
        array_of(listed(a=FOUR, b=["1"]), 4),
        "list b has 1 values: set size to 1, or give it 4",
    ),
    "a list as long as an array may be": (
        array_of(listed(a=["1"] * ARRAY_SIZE_MAX), 4),
        "list a has 10000 values: set size to 10000, or give it 4",
    ),
    "a list that ends before the last index": (
        array_of(listed(a=FOUR), indexes="0,9"),
        "list a has 4 values, but index 9 needs 10: give it more, or leave that index out",
    ),
    "a matrix that ends before the last index": (
        array_of(matrix(("a", FOUR)), indexes="4"),
        "the matrix has 4 combinations, but index 4 needs 5: give it more, or leave that index out",
    ),
    "a name in two places": (
        array_of({**listed(a=FOUR), "configMap": {**CONFIG_MAP, "parameters": ["a"]}}, 4),
        "a is there 2 times: give each parameter a name of its own",
    ),
    "a name of the operator's": (
        array_of(listed(AWS_BATCH_X=FOUR), 4),
        "AWS_BATCH_X: names that start with AWS_BATCH are the operator's",
    ),
    "too many characters": (
        array_of(listed(a=["x" * PARAMETER_VALUE_MAX] * 64), 64),
        f"the values have {64 * (PARAMETER_VALUE_MAX + 1)} characters: {CHARACTERS_MAX} are the "
        f"most; put them into a ConfigMap, a line for each index",
    ),
}


def test_one_value_does_for_a_rerun_that_does_not_know_its_children_yet() -> None:
    """It may come to have but one, index 0."""
    found = values_of(array_of(listed(a=["1"]), rerunFailedOf="before"), None)

    assert isinstance(found, Values)
    assert found.hold is not None
    assert found.hold.reason is Reason.WAITING_FOR_DEPENDENCIES


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_for_ever_is_said_with_what_to_write(name: str) -> None:
    one, sentence = WRONG[name]

    assert values_of(one, None) == f"spec.arrayProperties.parameters: {sentence}"


def test_as_many_characters_as_there_may_be_are_taken() -> None:
    fits = ["x" * (PARAMETER_VALUE_MAX - 1)] * 64

    assert sum(len(value) + 1 for value in fits) == CHARACTERS_MAX
    assert values(array_of(listed(a=fits), 64), 0) == [{"a": fits[0]}]


HELD: dict[str, tuple[Any, Read, str]] = {
    "too few lines": (
        array_of({"configMap": CONFIG_MAP}, indexes="0-5,7"),
        read("a", "b"),
        "key lines of ConfigMap samples has 2 lines, but index 7 needs 8: ",
    ),
    "one line too few": (
        array_of({"configMap": CONFIG_MAP}, 2),
        read("a"),
        "key lines of ConfigMap samples has 1 lines, but index 1 needs 2: ",
    ),
    "a line with too few values": (
        array_of({"configMap": {**CONFIG_MAP, "parameters": ["a", "b"]}}, 2),
        read("1,2", "3"),
        "line 2 of key lines of ConfigMap samples has 1 values, separated by ',', but 2 parameters "
        "are named: ",
    ),
    "a line with too many values": (
        array_of({"configMap": {**CONFIG_MAP, "parameters": ["a", "b"]}}, 2),
        read("1,2,3", "3,4"),
        "line 1 of key lines of ConfigMap samples has 3 values, separated by ',', but 2 parameters "
        "are named: ",
    ),
    "a line that is too long": (
        array_of({"configMap": CONFIG_MAP}, 2),
        read("1", "x" * (PARAMETER_VALUE_MAX + 1)),
        "line 2 of key lines of ConfigMap samples is too long: one value has at most 4096 "
        "characters: ",
    ),
}


@pytest.mark.parametrize("name", HELD)
def test_lines_that_do_not_do_hold_the_job_until_somebody_mends_them(name: str) -> None:
    one, lines, sentence = HELD[name]
    found = values_of(one, replace(lines, hold=replace(BEING_READ, look_again_at=START)))

    assert isinstance(found, Values)
    assert found.hold == Hold(
        Reason.PARAMETERS_NOT_READY,
        f"{sentence}delete the ConfigMap and create it again, corrected",
        stalled=True,
        look_again_at=START,
    )


def test_only_the_lines_of_its_indexes_matter_to_an_array() -> None:
    one = array_of({"configMap": {**CONFIG_MAP, "parameters": ["a", "b"]}}, indexes="1,3")

    assert values(one, 1, 3, lines=read("# a comment", "1,2", "", "3,4", "not,a,row")) == [
        {"a": "1", "b": "2"},
        {"a": "3", "b": "4"},
    ]


@pytest.mark.parametrize("status", [BatchJobStatus(), BatchJobStatus(array=ArrayStatus(size=2))])
def test_nothing_starts_before_it_is_recorded_which_lines_the_children_get(
    status: BatchJobStatus,
) -> None:
    one = replace(array_of({"configMap": CONFIG_MAP}, 2), status=status)
    found = values_of(one, read("a", "b"))

    assert isinstance(found, Values)
    assert found.hold == Hold(
        Reason.PARAMETERS_BEING_RECORDED, "the lines of ConfigMap samples are being recorded"
    )


OTHER_LINES: dict[str, tuple[Read, bool]] = {
    "the same": (read("a", "b"), False),
    "more of them": (read("a", "b", "c"), False),
    "others where it has no children": (read("x", "b"), False),
    "others": (read("a", "x"), True),
    "the same ones moved": (read("b", "a"), True),
}


@pytest.mark.parametrize("name", OTHER_LINES)
def test_a_config_map_that_was_made_anew_holds_an_array_for_whose_children_it_has(
    name: str,
) -> None:
    lines, is_held = OTHER_LINES[name]
    before = recorded(array_of({"configMap": CONFIG_MAP}, indexes="1"), read("a", "b"))
    found = values_of(before, replace(lines, hold=replace(BEING_READ, look_again_at=START)))

    assert isinstance(found, Values)
    assert (found.hold is not None) == is_held
    assert found.hold is None or found.hold == Hold(
        Reason.PARAMETERS_NOT_READY,
        "key lines of ConfigMap samples has other lines than when the first children were ready "
        "for theirs: delete it and create it again with those, or submit what is left as another "
        "job, with indexes",
        stalled=True,
        look_again_at=START,
    )


def test_a_rerun_waits_for_the_lines_that_its_children_failed_with() -> None:
    """Those of all children of the array before, which may have been more lines than there are."""
    first = recorded(array_of({"configMap": CONFIG_MAP}, 2), read("a", "b"))
    array = ArrayStatus(
        size=1,
        members="0",
        parameters_digest=first.status.array.parameters_digest,
        parameters_digest_indexes="0-1",
    )
    again = array_of({"configMap": CONFIG_MAP}, rerunFailedOf="before")
    again = replace(again, status=BatchJobStatus(array=array))
    same, shorter = values_of(again, read("a", "b")), values_of(again, read("a"))

    assert isinstance(same, Values)
    assert same.hold is None
    assert isinstance(shorter, Values)
    assert shorter.hold is not None
    assert shorter.hold.message == (
        "key lines of ConfigMap samples has other lines than before had, of which the failed "
        "indexes are to run again: delete it and create it again with those, or submit this job "
        "again with a ConfigMap of another name"
    )


def test_the_digest_of_lines_stays_the_same_when_the_operator_is_upgraded() -> None:
    """Or an array at work would take the lines of its ConfigMap for others, and stall."""
    before = recorded(array_of({"configMap": CONFIG_MAP}, 2), read("a", "b"))

    assert before.status.array.parameters_digest == "7e18f737311b2dc3"


# What was read

KEY = ("default", "samples", "lines")
IN_5_S = START + timedelta(seconds=5)


def test_a_config_map_is_named_by_its_namespace_name_and_key() -> None:
    assert source_of(array_of({"configMap": CONFIG_MAP}, 2)) == KEY
    assert source_of(array_of(listed(a=["1", "2"]), 2)) is None
    assert source_of(job()) is None


def test_one_that_was_never_read_is_to_be_read() -> None:
    found = read_of(array_of({"configMap": CONFIG_MAP}, 2), {}, START)

    assert found == Read(None, BEING_READ)


def test_one_that_did_not_do_is_left_alone_for_a_while_and_then_read_again() -> None:
    one = array_of({"configMap": CONFIG_MAP}, 2)
    sources = {KEY: Source(None, IN_5_S, "there is none", stalled=True)}
    early, due = read_of(one, sources, START), read_of(one, sources, IN_5_S)

    assert early is not None
    assert due is not None
    assert early.hold == Hold(
        Reason.PARAMETERS_NOT_READY, "there is none", stalled=True, look_again_at=IN_5_S
    )
    assert due.hold == replace(early.hold, look_again_at=None)


# In a plan

COMMAND = ["run", "--in=Ref::sample", "Ref::mode", "Ref::sample,bak"]


def planned(
    one: Any, lines: Read | None = None, command: list[str] = COMMAND, **container: Any
) -> Plan | Hold | Invalid:
    template = pod_template(command=command, **container)
    spec = definition_spec(podTemplate=template, parameters={"mode": "fast", "sample": "none"})
    return make_plan(one, definition(spec=spec), None, lines)


def test_values_win_over_the_parameters_of_job_and_definition() -> None:
    one = array_of(listed(sample=["a", "b"]), 2)
    one = replace(one, spec=one.spec.model_copy(update={"parameters": {"sample": "job's"}}))
    plan = planned(one, command=["run", "Ref::sample"])

    assert isinstance(plan, Plan)
    assert plan.per_index is not None
    [container] = plan.template["spec"]["containers"]
    filled_in = plan.per_index.filled_in(container, plan.per_index.at(1))
    assert filled_in["command"] == ["run", "b"]


def test_what_a_value_contains_is_never_substituted_again() -> None:
    one = array_of(listed(sample=["Ref::mode", "x"]), 2)
    one = replace(one, spec=one.spec.model_copy(update={"parameters": {"mode": "Ref::sample"}}))
    plan = planned(one, command=["run", "Ref::sample", "Ref::mode"], args=["Ref::mode"])

    assert isinstance(plan, Plan)
    assert plan.per_index is not None
    [container] = plan.template["spec"]["containers"]
    filled_in = plan.per_index.filled_in(container, plan.per_index.at(0))
    assert filled_in["command"] == ["run", "Ref::mode", "Ref::sample"]
    assert filled_in["args"] == ["Ref::sample"]


@pytest.mark.parametrize("of", ["lines", "a list"])
def test_the_longest_value_counts_when_a_command_is_measured(of: str) -> None:
    def measured(*samples: str) -> Plan | Hold | Invalid:
        command = ["Ref::sample/" * 100]
        if of == "lines":
            return planned(array_of({"configMap": CONFIG_MAP}, 2), read(*samples), command)
        return planned(array_of(listed(sample=list(samples)), 2), command=command)

    fits, too_long = measured("a", "b"), measured("a", "x" * PARAMETER_VALUE_MAX)

    assert isinstance(fits, Plan)
    assert isinstance(too_long, Invalid)
    assert f"has {100 * (PARAMETER_VALUE_MAX + 1)} characters" in too_long.message
    assert f"{COMMAND_LENGTH_MAX} are the most" in too_long.message


def test_a_template_s_variable_of_the_same_name_is_left_out() -> None:
    env = [{"name": "sample", "value": "none"}, {"name": "OTHER", "value": "$(sample)"}]
    plan = planned(array_of(listed(sample=["a", "b"]), 2), env=env)

    assert isinstance(plan, Plan)
    assert plan.template["spec"]["containers"][0]["env"] == env[1:]


def test_a_wrong_size_ends_the_job() -> None:
    plan = planned(array_of(listed(sample=["a", "b", "c"]), 2))

    assert isinstance(plan, Invalid)
    assert "set size to 3" in plan.message


def test_without_its_lines_a_job_has_a_plan_that_starts_nothing() -> None:
    """Its retry strategy and its timeout still hold for children that run."""
    one = array_of({"configMap": CONFIG_MAP}, 2)
    plan = planned(one, Read(None, BEING_READ))

    assert isinstance(plan, Plan)
    assert plan.hold == BEING_READ
    assert not is_current(plan, one, None, Read(None, BEING_READ))


def test_a_plan_is_made_again_only_of_other_lines() -> None:
    before = read("a", "b")
    one = recorded(array_of({"configMap": CONFIG_MAP}, 2), before)
    plan = planned(one, before)

    assert isinstance(plan, Plan)
    assert is_current(plan, one, None, Read(before.lines, replace(BEING_READ, stalled=True)))
    assert not is_current(plan, one, None, read("a", "c"))
    assert not is_current(replace(plan, hold=BEING_READ), one, None, before)
    assert not is_current(plan, one, None, Read(None, BEING_READ))
