"""What the simulated API server refuses is what a real one refuses: by the CRDs' own rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.api.crd import custom_resource_definitions
from batch_operator.cluster.client import ApiError
from batch_operator.simulator.admission import admitted
from batch_operator.simulator.cel import rule
from support.bad_manifests import REFUSED
from support.play import refusal_of_job
from support.structural import nodes

if TYPE_CHECKING:
    from collections.abc import Iterator


def rules() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every CEL rule of the CRDs, with where it stands."""
    for crd in custom_resource_definitions().values():
        [version] = crd["spec"]["versions"]
        for path, node in nodes(version["schema"]["openAPIV3Schema"], crd["spec"]["names"]["kind"]):
            yield from ((path, one) for one in node.get("x-kubernetes-validations", ()))


BY_A_RULE = [
    name
    for name, (_, expected) in REFUSED.items()
    if any(expected.lower() in one["message"].lower() for _, one in rules())
]


@pytest.mark.parametrize("name", BY_A_RULE)
def test_what_a_rule_refuses_is_refused_in_the_same_words(name: str) -> None:
    """The end-to-end tests give the same manifests to a real API server."""
    manifest, expected = REFUSED[name]

    with pytest.raises(ApiError) as caught:
        admitted(manifest["kind"], manifest, None)

    assert expected.lower() in caught.value.message.lower()


def test_every_rule_is_understood() -> None:
    found = [one["rule"] for _, one in rules()]

    assert len(found) > 80
    for text in found:
        rule(text)


def test_no_rule_about_a_change_stands_where_no_change_is_seen() -> None:
    """In a list: there it has no old value. Into maps and statuses it does not look at all."""
    about_changes = [path for path, one in rules() if "oldSelf" in one["rule"]]

    assert about_changes
    assert [path for path in about_changes if "[]" in path] == []
    assert [path for path, _ in rules() if "{}" in path or ".status" in path] == []


SELF = {"a": 1, "name": "b.c", "list": [{"n": 1}, {"n": 2}, {"n": 2}], "empty": []}
MEANINGS: dict[str, bool] = {
    "has(self.a) && !has(self.b)": True,
    "has(self.a.b) || true": True,
    "!has(self.a) || self.a == 1": True,
    "self.a != 1 || self.a < 1 || self.a > 1": False,
    "self.a <= 1 && self.a >= 1": True,
    "self.a + 2 * 3 == 7 && self.a - 1 == 0": True,
    "(self.a + 2) * 3 == 9": True,
    "has(self.b) ? self.b == 1 : self.a == 1": True,
    "(has(self.a) ? 1 : 0) + (has(self.b) ? 1 : 0) == 1": True,
    "(self.a == 1 ? 'x' : self.a == 2 ? 'y' : 'z') == 'x'": True,
    "self.name in ['a', 'b.c']": True,
    "!(self.name in [])": True,
    "self.name.startsWith('b.') && self.name.contains('.')": True,
    "size(self.name) == 3 && size(self.list) == 3": True,
    "self.list.all(x, x.n > 0) && self.empty.all(x, false)": True,
    "self.list.exists(x, x.n == 1) && !self.empty.exists(x, true)": True,
    "self.list.exists_one(x, x.n == 1)": True,
    "self.list.exists_one(x, x.n == 2)": False,
    "self.list.map(x, x.n * 2) == [2, 4, 4]": True,
    "self.list.all(x, self.list.exists(y, y.n == x.n))": True,
    "self.a == oldSelf.a": False,
    "oldSelf.hasValue()": True,
}


@pytest.mark.parametrize("text", MEANINGS)
def test_a_rule_means_what_it_means_to_the_api_server(text: str) -> None:
    old = {"a": 2}
    value = {**SELF, "a": {}} if "self.a.b" in text else SELF

    assert rule(text)(value, old) is MEANINGS[text]


def test_a_rule_for_what_is_new_knows_that_it_is() -> None:
    assert not rule("oldSelf.hasValue()")(SELF, None)


@pytest.mark.parametrize(
    "text",
    ["self.a.size()", "duration(self.a)", 'self.a == "b"', "self.a; self.b", "self[", "size(?)"],
)
def test_a_rule_that_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises((KeyError, SyntaxError, ValueError)):
        rule(text)


def test_what_is_fixed_can_be_written_again_as_it_is() -> None:
    job = {"arrayProperties": {"size": 3}, "parameters": {"a": "b"}}

    assert refusal_of_job(before=job, **job) is None
    assert "parameters cannot be changed" in (refusal_of_job(before=job) or "")
    assert "a cancel request cannot be taken back" in (
        refusal_of_job(before={"cancel": {"reason": "no"}}) or ""
    )
