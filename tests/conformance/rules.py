"""AWS Batch's rules, which test stands for which, and the page that is made of both.

`rules.yaml` names every rule; a test says with `@rule("…")` which one it is for. What a test file
covers is read from its source, so that the page can be made without running a test.
"""

from __future__ import annotations

import ast
from collections import Counter
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).resolve().parent
Sentence = Annotated[str, Field(min_length=1)]
TestT = TypeVar("TestT", bound="Callable[..., None]")


class Verdict(StrEnum):
    SUPPORTED = "supported"
    DEVIATES = "deviates"
    ABSENT = "absent"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(_Strict):
    """One rule of AWS's. `because` says what is here in its place, and why."""

    id: str = Field(pattern=r"^[a-z]+\.[a-z0-9-]+$")
    rule: Sentence
    verdict: Verdict
    because: Sentence | None = None

    @model_validator(mode="after")
    def _is_explained(self) -> Rule:
        if (self.verdict is Verdict.SUPPORTED) == (self.because is not None):
            raise ValueError(f"{self.id}: give `because` where the verdict is not supported")
        return self


class Section(_Strict):
    """The rules of one of AWS's pages. `file` has their tests."""

    title: str
    source: str
    file: str
    rules: tuple[Rule, ...] = Field(min_length=1)


class CoveringTest(_Strict):
    """A test function and the rule that it stands for."""

    file: str
    name: str
    rule: str
    docstring: str


@cache
def sections() -> tuple[Section, ...]:
    documents = yaml.safe_load((HERE / "rules.yaml").read_text(encoding="utf-8"))
    return tuple(Section.model_validate(one) for one in documents)


@cache
def _ids() -> frozenset[str]:
    return frozenset(one.id for section in sections() for one in section.rules)


def rule(rule_id: str) -> Callable[[TestT], TestT]:
    """Marks the test of a rule of `rules.yaml`."""
    assert rule_id in _ids(), f"rules.yaml has no rule {rule_id}"
    return lambda test: test


@cache
def covering_tests() -> tuple[CoveringTest, ...]:
    """Every test of this folder that stands for a rule, in the order of the files."""
    return tuple(found for path in sorted(HERE.glob("test_*.py")) for found in _covering(path))


def _covering(path: Path) -> Iterator[CoveringTest]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for mark in node.decorator_list:
            match mark:
                case ast.Call(func=ast.Name(id="rule"), args=[ast.Constant(value=str(rule_id))]):
                    docstring = ast.get_docstring(node) or ""
                    yield CoveringTest(
                        file=path.name, name=node.name, rule=rule_id, docstring=docstring
                    )


HEADER = """\
<!-- Generated from tests/conformance by hack/generate; do not edit. -->
# Conformance: AWS Batch's rules, one by one

Every rule of AWS Batch about jobs, and what is here: it works (**supported**), something else
happens and a test pins what (**deviates**), or it does not exist (**absent**). Sources are the AWS
Batch user guide and the shapes of its API. The tests are in `tests/conformance`; `make unit` runs
them.
"""


def document() -> str:
    """`docs/conformance.md`."""
    tests = {one.rule: one for one in covering_tests()}
    total = Counter(one.verdict for section in sections() for one in section.rules)
    lines = [HEADER, "| section | supported | deviates | absent |", "| --- | ---: | ---: | ---: |"]
    for section in sections():
        count = Counter(one.verdict for one in section.rules)
        anchor = section.title.lower().replace(" ", "-")
        lines.append(f"| [{section.title}](#{anchor}) | {_numbers(count)} |")
    lines.append(f"| all | {_numbers(total)} |")
    for section in sections():
        lines += ["", f"## {section.title}", "", f"Source: {section.source}.", ""]
        lines += ["| rule | verdict | what is here | test |", "| --- | --- | --- | --- |"]
        lines += [_row(one, tests.get(one.id)) for one in section.rules]
    return "\n".join(lines) + "\n"


def _numbers(count: Counter[Verdict]) -> str:
    return " | ".join(str(count[verdict]) for verdict in Verdict)


def _row(one: Rule, test: CoveringTest | None) -> str:
    cells = [f"`{one.id}` {one.rule}", f"{one.verdict}", one.because or "", ""]
    if test is not None:
        cells[3] = f"[{test.name.removeprefix('test_')}](../tests/conformance/{test.file})"
    return "| " + " | ".join(cell.replace("|", r"\|").strip() for cell in cells) + " |"
