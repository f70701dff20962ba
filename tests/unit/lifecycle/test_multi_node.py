"""Which node runs what: AWS Batch's rules for node ranges, and a sentence for every mistake."""

from __future__ import annotations

from typing import Any

import pytest

from batch_operator.lifecycle.plan import Invalid, Plan, make_plan
from support.builders import definition, definition_spec, job, multi_node_spec

Groups = list[tuple[str, tuple[int, ...], str]]
FIRST, LAST = {"targetNodes": "0"}, {"targetNodes": "3:"}


def planned(*ranges: str, overrides: dict[str, Any] | None = None, **fields: Any) -> Plan | Invalid:
    job_fields = {} if overrides is None else {"nodeOverrides": overrides}
    made = definition(spec=multi_node_spec(*ranges, **fields))
    plan = make_plan(job(**job_fields), made, None)
    assert isinstance(plan, Plan | Invalid)
    return plan


def groups(plan: Plan | Invalid) -> Groups:
    """Range, nodes, and the container's name and image, which say whose template it is."""
    assert isinstance(plan, Plan), plan
    return [
        (
            one.target_nodes,
            one.nodes,
            "{name} {image}".format(**one.template["spec"]["containers"][0]),
        )
        for one in plan.groups
    ]


RESOLVED: dict[str, tuple[Plan | Invalid, Groups]] = {
    "one range, the main node apart": (
        planned(numNodes=3),
        [("0:", (0,), "c0 busybox"), ("0:", (1, 2), "c0 busybox")],
    ),
    "one node": (planned(numNodes=1), [("0:", (0,), "c0 busybox")]),
    "another main node": (
        planned(numNodes=3, mainNode=1),
        [("0:", (1,), "c0 busybox"), ("0:", (0, 2), "c0 busybox")],
    ),
    "two ranges": (
        planned("0:1", "2:3", numNodes=4),
        [("0:1", (0,), "c0 busybox"), ("0:1", (1,), "c0 busybox"), ("2:3", (2, 3), "c1 busybox")],
    ),
    "without a beginning": (
        planned(":1", "2", numNodes=3),
        [(":1", (0,), "c0 busybox"), (":1", (1,), "c0 busybox"), ("2", (2,), "c1 busybox")],
    ),
    "the narrower wins, wherever it stands": (
        planned("4:5", "0:10", numNodes=11),
        [
            ("0:10", (0,), "c1 busybox"),
            ("4:5", (4, 5), "c0 busybox"),
            ("0:10", (1, 2, 3, 6, 7, 8, 9, 10), "c1 busybox"),
        ],
    ),
    "the main node in the narrower range": (
        planned("0:", "2", numNodes=4, mainNode=2),
        [("2", (2,), "c1 busybox"), ("0:", (0, 1, 3), "c0 busybox")],
    ),
    "more nodes": (
        planned("0", "1:", overrides={"numNodes": 4}),
        [("0", (0,), "c0 busybox"), ("1:", (1, 2, 3), "c1 busybox")],
    ),
    "fewer nodes, beside a range that is cut": (
        planned("0:", "3:5", numNodes=6, overrides={"numNodes": 4}),
        [("0:", (0,), "c0 busybox"), ("0:", (1, 2), "c0 busybox"), ("3:5", (3,), "c1 busybox")],
    ),
    "overrides for some nodes of a range": (
        planned(
            numNodes=4,
            overrides={
                "nodePropertyOverrides": [
                    {"targetNodes": "1:2", "containerOverrides": [{"image": "other"}]}
                ]
            },
        ),
        [("0:", (0,), "c0 busybox"), ("0:", (3,), "c0 busybox"), ("0:", (1, 2), "c0 other")],
    ),
}


@pytest.mark.parametrize(("plan", "expected"), RESOLVED.values(), ids=RESOLVED)
def test_every_node_runs_what_its_range_says(plan: Plan | Invalid, expected: Groups) -> None:
    assert groups(plan) == expected


def change(target: str, **container: Any) -> dict[str, Any]:
    return {"nodePropertyOverrides": [{"targetNodes": target, "containerOverrides": [container]}]}


MISTAKES: dict[str, tuple[Plan | Invalid, str]] = {
    "a node that no range has": (planned("0:1", "3", numNodes=4), "has node 2: the ranges have to"),
    "beyond the last node": (planned("0:2"), "targetNodes 0:2 reaches beyond the last node, 1"),
    "open, beyond the last node": (planned("0:", "2:"), "targetNodes 2: reaches beyond"),
    "from behind": (planned("1:0"), "targetNodes 1:0 ends before it begins: write 0:1"),
    "numNodes without an open range": (
        planned("0:1", overrides={"numNodes": 3}),
        "numNodes needs a range of the definition with an open end",
    ),
    "numNodes below the open range": (
        planned("0:1", "2:", numNodes=4, overrides={"numNodes": 2}),
        "begins at node 2: give at least 3 nodes",
    ),
    "numNodes without the main node": (
        planned(numNodes=4, mainNode=3, overrides={"numNodes": 3}),
        "the main node is 3, but nodes are numbered from 0 to 2",
    ),
    "overrides for nodes that are not": (
        planned(overrides=change("2")),
        "spec.nodeOverrides.nodePropertyOverrides: targetNodes 2 reaches beyond the last node, 1",
    ),
    "overrides for a container that is not": (
        planned(overrides=change("0:", name="x")),
        "spec.nodeOverrides.nodePropertyOverrides names container x, but the definition has: c0",
    ),
    "no CPU on one of the nodes": (planned(cpu="0"), "no container requests any CPU"),
}


@pytest.mark.parametrize(("plan", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_a_sentence(plan: Plan | Invalid, sentence: str) -> None:
    assert isinstance(plan, Invalid)
    assert sentence in plan.message


MISFITS: dict[str, tuple[dict[str, Any], bool, str]] = {
    "an array": ({"arrayProperties": {"size": 2}}, True, "cannot be an array"),
    "containerOverrides": ({"containerOverrides": [{"image": "x"}]}, True, "say in spec.nodeOver"),
    "nodeOverrides for one container": (
        {"nodeOverrides": {}},
        False,
        "use spec.containerOverrides",
    ),
}


@pytest.mark.parametrize(("fields", "is_multi_node", "sentence"), MISFITS.values(), ids=MISFITS)
def test_a_job_has_to_fit_its_definition(
    fields: dict[str, Any], *, is_multi_node: bool, sentence: str
) -> None:
    spec = multi_node_spec() if is_multi_node else definition_spec()
    plan = make_plan(job(**fields), definition(spec=spec), None)

    assert isinstance(plan, Invalid)
    assert sentence in plan.message


def test_the_request_is_that_of_all_nodes() -> None:
    plan = planned("0", "1:", numNodes=4, cpu="500m")

    assert isinstance(plan, Plan)
    assert plan.milli_cpu == 2000
    assert [one.milli_cpu for one in plan.groups] == [500, 1500]
    assert plan.template is plan.groups[0].template


def test_no_number_of_nodes_takes_long() -> None:
    plan = planned(numNodes=1000, overrides=change("7"))

    assert [len(nodes) for _, nodes, _ in groups(plan)] == [1, 998, 1]
