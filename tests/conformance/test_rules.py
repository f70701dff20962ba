"""The table and the tests stand for each other, one to one."""

from __future__ import annotations

import pytest

from conformance.rules import HERE, CoveringTest, Section, Verdict, covering_tests, sections

SECTIONS = {one.title: one for one in sections()}
RULES = {rule.id: section for section in sections() for rule in section.rules}


def test_every_rule_has_an_id_of_its_own() -> None:
    ids = [rule.id for section in sections() for rule in section.rules]

    assert sorted(set(ids)) == sorted(ids)


def test_no_rule_has_two_tests() -> None:
    covered = [one.rule for one in covering_tests()]

    assert sorted(set(covered)) == sorted(covered)


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.file)
def test_every_rule_that_can_be_tested_is(section: Section) -> None:
    covered = {one.rule for one in covering_tests()}
    testable = {one.id for one in section.rules if one.verdict is not Verdict.ABSENT}

    assert testable - covered == set()


def test_every_section_has_a_test() -> None:
    """What is absent is reported, never silently ignored; a test of each section pins that."""
    assert {RULES[one.rule].title for one in covering_tests()} == SECTIONS.keys()


@pytest.mark.parametrize("one", covering_tests(), ids=lambda one: one.rule)
def test_a_test_names_the_section_of_its_rule(one: CoveringTest) -> None:
    section = RULES[one.rule]

    assert one.docstring.startswith(f"{section.title}: ")
    assert one.file == section.file


def test_every_test_file_belongs_to_a_section() -> None:
    files = {path.name for path in HERE.glob("test_*.py")}

    assert files - {"test_rules.py"} == {one.file for one in sections()}
