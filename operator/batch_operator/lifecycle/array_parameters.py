"""Parameters that differ between the children of an array, from lists, a matrix, a ConfigMap.

Nothing is kept per child: a value is looked up when its child starts. An index always gets the same
values, whichever other indexes the array has, so that a rerun of some means the same.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from hashlib import sha256
from math import prod
from typing import TYPE_CHECKING, Any

from batch_operator.api.array import (
    ARRAY_SIZE_MAX,
    PARAMETER_VALUE_MAX,
    PARAMETERS_DIGEST_LENGTH,
    RESERVED_PREFIX,
)
from batch_operator.api.index_set import MAX_INDEX, IndexSet
from batch_operator.lifecycle.holds import Hold, Reason
from batch_operator.lifecycle.members import awaited_array, members_of
from batch_operator.lifecycle.parameters import substituted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from batch_operator.api.array import (
        ArrayParameters,
        ArrayProperties,
        ParameterAxis,
        ParameterLines,
        ParameterList,
    )
    from batch_operator.api.job import BatchJobSpec, BatchJobStatus
    from batch_operator.api.stored import Stored

    Job = Stored[BatchJobSpec, BatchJobStatus]

CHARACTERS_MAX = 256 * 1024
"""Of all values in one job: its object comes back whole with every status that is written."""

SourceKey = tuple[str, str, str]
"""Namespace and name of a ConfigMap, and a key in it."""
Lines = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """What was last read of a ConfigMap's key: its lines, or a sentence about why there are none.

    `look_again_at` is from when on it is read again for a job that it does not do for; `times`
    counts how often it has been, and `stalled` marks what somebody has to change.
    """

    lines: Lines | None
    look_again_at: datetime
    problem: str = ""
    stalled: bool = False
    times: int = 1


@dataclass(frozen=True, slots=True)
class Read:
    """The lines that a job takes values from, and its hold as long as they do not do for it."""

    lines: Lines | None
    hold: Hold


def source_of(job: Job) -> SourceKey | None:
    """The ConfigMap that a job takes parameters from."""
    array = job.spec.array_properties
    source = array.parameters.config_map if array and array.parameters else None
    return None if source is None else (job.namespace, source.name, source.key)


@dataclass(frozen=True, slots=True)
class RecordedLines:
    """Which lines the children of an array get: their digest, and the indexes that it is of."""

    source: SourceKey
    digest: str
    indexes: IndexSet


def recorded_lines(job: Job) -> RecordedLines | None:
    """What the job's status says of that, as soon as it says anything."""
    source, stored = source_of(job), job.status.array
    if source is None or stored is None or stored.parameters_digest is None:
        return None
    of = stored.parameters_digest_indexes
    indexes = members_of(job) if of is None else IndexSet.parse(of)
    return RecordedLines(source, stored.parameters_digest, indexes)


def read_of(job: Job, sources: Mapping[SourceKey, Source], now: datetime) -> Read | None:
    """What is known of the job's ConfigMap, if it names one.

    A hold without a time to look again means that it has to be read now.
    """
    key = source_of(job)
    if key is None:
        return None
    source = sources.get(key)
    if source is None:
        being_read = f"ConfigMap {key[1]} is being read"
        return Read(None, Hold(Reason.PARAMETERS_NOT_READY, being_read))
    again_at = source.look_again_at if now < source.look_again_at else None
    return Read(
        source.lines,
        Hold(
            Reason.PARAMETERS_NOT_READY,
            source.problem,
            stalled=source.stalled,
            look_again_at=again_at,
        ),
    )


def lines_of(text: str) -> Lines:
    """The lines of a text, as many as there can be indexes; a newline at the end ends the last."""
    lines = text.removesuffix("\n").split("\n") if text else []
    return tuple(line.removesuffix("\r") for line in lines[: MAX_INDEX + 1])


@dataclass(frozen=True, slots=True)
class _Column:
    """A parameter of which index i has `values[i // stride % len(values)]`."""

    name: str
    values: Sequence[str]
    stride: int = 1

    def at(self, index: int) -> str:
        return self.values[index // self.stride % len(self.values)]


@dataclass(frozen=True, slots=True)
class PerIndex:
    """The values of every index, and where they go.

    `fields` has, by name of container, those of `command` and `args` that refer to such a value.
    They are filled in per child, together with the parameters that all children share: what a
    value contains is never substituted again, so there cannot be two passes.
    """

    columns: tuple[_Column, ...]
    lines: Lines = ()
    source: ParameterLines | None = None
    shared: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    digest: str | None = None
    """Of the lines that its children get."""

    @property
    def names(self) -> tuple[str, ...]:
        of_lines = self.source.parameters if self.source else ()
        return (*(one.name for one in self.columns), *of_lines)

    def at(self, index: int) -> dict[str, str]:
        """The values of one child."""
        values = {one.name: one.at(index) for one in self.columns}
        if self.source is not None:
            values.update(zip(self.source.parameters, self._split(self.source, index), strict=True))
        return values

    def _split(self, source: ParameterLines, index: int) -> list[str]:
        line = self.lines[index]
        return [line] if len(source.parameters) == 1 else line.split(source.separator)

    def longest(self, members: IndexSet) -> dict[str, str] | str:
        """For every parameter its longest value; or a sentence about what is wrong with the lines.

        That can only be mended by making the ConfigMap anew.
        """
        longest = {one.name: max(one.values, key=len) for one in self.columns}
        if self.source is None:
            return longest
        where = f"key {self.source.key} of ConfigMap {self.source.name}"
        anew = "delete the ConfigMap and create it again, corrected"
        last = max(members)
        if last >= len(self.lines):
            return f"{where} has {len(self.lines)} lines, but index {last} needs {last + 1}: {anew}"
        wanted = len(self.source.parameters)
        rows = {index: self._split(self.source, index) for index in members}
        for index, row in rows.items():
            if len(row) != wanted:
                return (
                    f"line {index + 1} of {where} has {len(row)} values, separated by "
                    f"{self.source.separator!r}, but {wanted} parameters are named: {anew}"
                )
        for name, values in zip(
            self.source.parameters, zip(*rows.values(), strict=True), strict=True
        ):
            longest[name] = max(values, key=len)
            if len(longest[name]) > PARAMETER_VALUE_MAX:
                index = list(rows)[values.index(longest[name])]
                return (
                    f"line {index + 1} of {where} is too long: one value has at most "
                    f"{PARAMETER_VALUE_MAX} characters: {anew}"
                )
        return longest

    def filled_in(self, container: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
        """A container of the template, with one child's values in its command and arguments."""
        known = {**self.shared, **values}
        names = self.fields.get(container["name"], ())
        return {**container, **{name: substituted(container[name], known) for name in names}}


@dataclass(frozen=True, slots=True)
class Values:
    """What differs between the children of an array.

    `longest` has the longest value of each parameter, and `hold` says why no child can start.
    """

    per_index: PerIndex | None = None
    longest: Mapping[str, str] = field(default_factory=dict)
    hold: Hold | None = None


def values_of(job: Job, read: Read | None) -> Values | str:
    """The values of a job's children; or a sentence about why they can never be right."""
    array = job.spec.array_properties
    if array is None or array.parameters is None:
        return Values()
    members = members_of(job)
    if problem := _problem(array, array.parameters, members):
        return f"spec.arrayProperties.parameters: {problem}"
    made = _per_index(array.parameters, read)
    if awaited_array(job):
        hold = Hold(Reason.WAITING_FOR_DEPENDENCIES, "which children it has is not known yet")
        return _without_values(made, hold)
    if read is not None:
        return _values_of_lines(job, made, read, members)
    longest = made.longest(members)
    assert not isinstance(longest, str)  # only lines can be wrong
    return Values(made, longest)


def _values_of_lines(job: Job, made: PerIndex, read: Read, members: IndexSet) -> Values:
    """The same where some come from a ConfigMap: whatever is wrong with that can be mended.

    No child starts before it is stored which lines they get, nor with others from then on. A rerun
    has it from the array of which it runs the failed indexes again.
    """
    source = made.source
    assert source is not None  # something was read of it
    if read.lines is None:
        return _without_values(made, read.hold)
    longest = made.longest(members)
    if isinstance(longest, str):
        return _without_values(made, replace(read.hold, message=longest, stalled=True))
    recorded = recorded_lines(job)
    made = replace(made, digest=_digest(made.lines, recorded.indexes if recorded else members))
    if recorded is None:
        message = f"the lines of ConfigMap {source.name} are being recorded"
        return Values(made, longest, Hold(Reason.PARAMETERS_BEING_RECORDED, message))
    if recorded.digest != made.digest:
        message = f"key {source.key} of ConfigMap {source.name} has other lines than {_of_old(job)}"
        return _without_values(made, replace(read.hold, message=message, stalled=True))
    return Values(made, longest)


def _of_old(job: Job) -> str:
    """When the lines were recorded, and what to do about it that they are others now."""
    anew = "delete it and create it again with those, or submit"
    array, stored = job.spec.array_properties, job.status.array
    if array and stored and stored.parameters_digest_indexes is not None:
        return (
            f"{array.rerun_failed_of} had, of which the failed indexes are to run again: {anew} "
            f"this job again with a ConfigMap of another name"
        )
    return (
        f"when the first children were ready for theirs: {anew} what is left as another job, "
        f"with indexes"
    )


def _digest(lines: Lines, members: IndexSet) -> str:
    text = "\n".join(lines[index] for index in members if index < len(lines))
    return sha256(text.encode()).hexdigest()[:PARAMETERS_DIGEST_LENGTH]


def _without_values(made: PerIndex, hold: Hold) -> Values:
    return Values(made, dict.fromkeys(made.names, ""), hold)


def _per_index(parameters: ArrayParameters, read: Read | None) -> PerIndex:
    columns = [_Column(one.name, one.values) for one in parameters.lists]
    stride = _combinations(parameters)
    for axis in parameters.matrix:
        stride //= len(axis.values)
        columns.append(_Column(axis.name, axis.values, stride))
    lines = (read.lines if read else None) or ()
    return PerIndex(tuple(columns), lines, parameters.config_map)


def _combinations(parameters: ArrayParameters) -> int:
    return prod(len(axis.values) for axis in parameters.matrix)


def _problem(array: ArrayProperties, parameters: ArrayParameters, members: IndexSet) -> str | None:
    """What can never be right about an array's parameters, and what to write instead."""
    inline: list[ParameterList | ParameterAxis] = [*parameters.lists, *parameters.matrix]
    named = parameters.config_map.parameters if parameters.config_map else ()
    for name, times in Counter((*(one.name for one in inline), *named)).items():
        if times > 1:
            return f"{name} is there {times} times: give each parameter a name of its own"
        if name.startswith(RESERVED_PREFIX):
            return f"{name}: names that start with {RESERVED_PREFIX} are the operator's"
    characters = sum(len(value) + 1 for one in inline for value in one.values)
    if characters > CHARACTERS_MAX:
        return (
            f"the values have {characters} characters: {CHARACTERS_MAX} are the most; put them "
            f"into a ConfigMap, a line for each index"
        )
    problems = (
        _count_problem(what, count, array.size, members) for what, count in _counts(parameters)
    )
    return next((one for one in problems if one is not None), None)


def _counts(parameters: ArrayParameters) -> Iterable[tuple[str, int]]:
    """How many indexes each list, and the matrix, has values for."""
    for one in parameters.lists:
        yield f"list {one.name} has {len(one.values)} values", len(one.values)
    if parameters.matrix:
        count = _combinations(parameters)
        yield f"the matrix has {count} combinations", count


def _count_problem(what: str, count: int, size: int | None, members: IndexSet) -> str | None:
    if size is not None and count > ARRAY_SIZE_MAX:
        return f"{what}, but an array has at most {ARRAY_SIZE_MAX} children: give it {size}"
    if size is not None:
        return None if size == count else f"{what}: set size to {count}, or give it {size}"
    last = max(members, default=0)
    if last < count:
        return None
    return f"{what}, but index {last} needs {last + 1}: give it more, or leave that index out"
