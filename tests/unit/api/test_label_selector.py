"""Label selectors, by Kubernetes' rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from batch_operator.api.label_selector import LabelSelector, selects

LABELS = {"team": "a", "batch": ""}


def one(key: str, operator: str, *values: str) -> dict[str, Any]:
    requirement = {"key": key, "operator": operator}
    return {"matchExpressions": [{**requirement, **({"values": values} if values else {})}]}


SELECTORS: dict[str, tuple[dict[str, Any], bool]] = {
    "nothing": ({}, True),
    "a label": ({"matchLabels": {"team": "a"}}, True),
    "a label with an empty value": ({"matchLabels": {"batch": ""}}, True),
    "a label with another value": ({"matchLabels": {"team": "b"}}, False),
    "a label that is not there": ({"matchLabels": {"other": ""}}, False),
    "two labels of which one is there": ({"matchLabels": {"team": "a", "other": "x"}}, False),
    "In": (one("team", "In", "b", "a"), True),
    "In others": (one("team", "In", "b", "c"), False),
    "In of a label that is not there": (one("other", "In", "a"), False),
    "NotIn": (one("team", "NotIn", "b", "c"), True),
    "NotIn the same": (one("team", "NotIn", "b", "a"), False),
    "NotIn of a label that is not there": (one("other", "NotIn", "a"), True),
    "Exists": (one("batch", "Exists"), True),
    "Exists of a label that is not there": (one("other", "Exists"), False),
    "DoesNotExist": (one("other", "DoesNotExist"), True),
    "DoesNotExist of a label that is there": (one("batch", "DoesNotExist"), False),
    "both kinds": ({"matchLabels": {"team": "a"}, **one("batch", "Exists")}, True),
    "both kinds of which one fails": (
        {"matchLabels": {"team": "a"}, **one("batch", "DoesNotExist")},
        False,
    ),
}


@pytest.mark.parametrize("name", SELECTORS)
def test_a_selector_asks_for(name: str) -> None:
    wire, expected = SELECTORS[name]

    assert selects(LabelSelector.model_validate(wire), LABELS) == expected


@given(
    st.sampled_from(["team", "other"]),
    st.lists(st.sampled_from("ab"), min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(["team", "other"]), st.sampled_from("abc")),
)
def test_each_operator_is_the_opposite_of_another(
    key: str, values: list[str], labels: dict[str, str]
) -> None:
    for operator, opposite, given_values in (
        ("In", "NotIn", values),
        ("Exists", "DoesNotExist", []),
    ):
        found = [
            selects(LabelSelector.model_validate(one(key, name, *given_values)), labels)
            for name in (operator, opposite)
        ]

        assert found[0] is not found[1]


@pytest.mark.parametrize("wrong", [one("a b", "Exists"), one("a", "Equals"), one("a", "In", "-")])
def test_what_can_be_no_label_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LabelSelector.model_validate(wrong)
