"""arrayProperties of a BatchJob: which children an array has, and what differs between them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from batch_operator.api.common import Model, Name, rules

NamedIndexes = Annotated[
    str,
    Field(min_length=1, max_length=16_384, pattern=r"^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$"),
]
"""Indexes that a user names, as intervals."""
ARRAY_SIZE_MAX = 10_000
"""AWS: an array has at most so many children."""
PARAMETER_VALUE_MAX = 4096
"""Characters of one value, as of the job's `parameters`."""
PARAMETERS_DIGEST_LENGTH = 16
"""Hexadecimal digits: enough to notice a mistake, and nobody gains by making one."""
RESERVED_PREFIX = "AWS_BATCH"
"""AWS: no variable of a user's begins so; Kubernetes would let it hide the operator's."""
_RESERVED = "names that start with AWS_BATCH are set by the operator: choose another name"
_TWICE = "lists, matrix and configMap must not give a parameter of the same name: rename one"

ParameterName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=63,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="The parameter's name: it fills Ref::name, and becomes an environment "
        "variable; names that start with AWS_BATCH are the operator's.",
    ),
]
ParameterValue = Annotated[str, Field(max_length=PARAMETER_VALUE_MAX)]
_BY_NAME: dict[str, Any] = {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
    **rules(("self.all(p, !p.name.startsWith('AWS_BATCH'))", _RESERVED)),
}


class ParameterList(Model):
    """A parameter with a value for each child."""

    name: ParameterName
    values: list[ParameterValue] = Field(
        min_length=1,
        max_length=10_000,
        description="Child i gets the value at i, counted from 0.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class ParameterAxis(Model):
    """A parameter with the values that it takes in turn."""

    name: ParameterName
    values: list[ParameterValue] = Field(
        min_length=1,
        max_length=1000,
        description="The values, each combined with all values of the other parameters.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class ParameterLines(Model):
    """Parameters from the lines of a ConfigMap."""

    name: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$",
        description="The ConfigMap, in the job's namespace. It must have immutable: true, so that "
        "a retry gets what the first attempt got.",
    )
    key: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[-._a-zA-Z0-9]+$",
        description="The key in its data. Child i gets the line at i, counted from 0; further "
        "lines are left alone.",
    )
    parameters: list[ParameterName] = Field(
        min_length=1,
        max_length=16,
        description="What a line gives: one parameter, or several that separator stands between.",
        json_schema_extra={
            "x-kubernetes-list-type": "set",
            **rules(("self.all(p, !p.startsWith('AWS_BATCH'))", _RESERVED)),
        },
    )
    separator: str = Field(
        default=",",
        min_length=1,
        max_length=8,
        description="Stands between the values of a line when there are several parameters. There "
        "is no quoting: a value cannot contain it.",
    )


class ArrayParameters(Model):
    """Parameters that differ between children."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.lists) || has(self.matrix) || has(self.configMap)",
                "give at least one of lists, matrix and configMap, or leave parameters out",
            ),
            (
                "!has(self.lists) || !has(self.matrix) || "
                "self.lists.all(l, self.matrix.all(m, m.name != l.name))",
                _TWICE,
            ),
            (
                "!has(self.lists) || !has(self.configMap) || "
                "self.lists.all(l, !(l.name in self.configMap.parameters))",
                _TWICE,
            ),
            (
                "!has(self.matrix) || !has(self.configMap) || "
                "self.matrix.all(m, !(m.name in self.configMap.parameters))",
                _TWICE,
            ),
        )
    )

    lists: list[ParameterList] = Field(
        default=[],
        max_length=16,
        description="Parameters with a value for each child: as many values as children.",
        json_schema_extra=_BY_NAME,
    )
    matrix: list[ParameterAxis] = Field(
        default=[],
        max_length=8,
        description="Parameters of which every combination is a child. The last one varies "
        "fastest: child 0 has all first values, child 1 the last parameter's second.",
        json_schema_extra=_BY_NAME,
    )
    config_map: ParameterLines | None = Field(
        default=None, description="Parameters from the lines of a ConfigMap."
    )


class ArrayProperties(Model):
    """Makes the job an array: one child per index, each with a Pod of its own."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.rerunFailedOf) != (has(self.size) || has(self.indexes))",
                "give size (indexes 0 to size-1), indexes or both, or nothing but rerunFailedOf",
            )
        )
    )

    size: int | None = Field(
        default=None,
        ge=1,
        le=ARRAY_SIZE_MAX,
        description="Number of children, 1 to 10000; their indexes are 0 to size-1. (AWS Batch: "
        "2 at least.) With indexes: what AWS_BATCH_JOB_ARRAY_SIZE says to children.",
    )
    indexes: NamedIndexes | None = Field(
        default=None,
        description="Beyond AWS Batch: only these indexes, as intervals such as 0-9,15. "
        "AWS_BATCH_JOB_ARRAY_SIZE is size if that is given, else the highest of them plus one.",
    )
    rerun_failed_of: Name | None = Field(
        default=None,
        description="Beyond AWS Batch: the indexes that failed in this array, a BatchJob in the "
        "same namespace, those included that were stopped before they ran. The job waits until it "
        "is over.",
    )
    parameters: ArrayParameters | None = Field(
        default=None,
        description="Beyond AWS Batch: parameters that differ between children. They fill "
        "Ref::name, become environment variables of that name, and win over all others. An index "
        "gets the same values whichever other indexes the array has.",
    )
    max_parallel: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Beyond AWS Batch: at most so many children at the same time.",
    )
    max_failed_indexes: int | None = Field(
        default=None,
        ge=0,
        le=10_000,
        description="Beyond AWS Batch: once more children than this have failed, the rest are "
        "stopped; 0 stops them at the first failure. Omitted: one failure stops no other child.",
    )
