"""Prices from a ConfigMap: a table from instance types to what an hour of each costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

ROWS_MAX = 5000
NAME_MAX = 63
PRICE_MAX = 1_000_000.0
TEXT_MAX = 512 * 1024
"""Characters of a table."""
_ON_DEMAND, _SPOT = "onDemand", "spot"
_FORM = f"write `TYPE: {{{_ON_DEMAND}: 0.1, {_SPOT}: 0.03}}`"

CatalogueKey = tuple[str, str, str]
"""Namespace and name of a ConfigMap, and a key in it."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Prices of an instance type for an hour, as a catalogue gives them."""

    on_demand: float | None = None
    spot: float | None = None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What was last read of a ConfigMap's key, and a sentence about what is wrong with it."""

    look_again_at: datetime
    prices: Mapping[str, Listed] = field(default_factory=dict)
    problem: str = ""


def listed_prices(text: str) -> tuple[dict[str, Listed], str]:
    """The rows of a table in YAML, which JSON is, too; and what is wrong with the others."""
    if len(text) > TEXT_MAX:
        return {}, f"it has {len(text)} characters, {TEXT_MAX} are the most"
    try:
        table = yaml.safe_load(text)
    except yaml.YAMLError as error:
        return {}, f"it is no YAML: {' '.join(str(error).split())[:200]}"
    if not isinstance(table, dict):
        return {}, f"it is no table of instance types: {_FORM} in it"
    if len(table) > ROWS_MAX:
        return {}, f"it has {len(table)} rows, {ROWS_MAX} are the most"
    found: dict[str, Listed] = {}
    problems: list[str] = []
    for name, row in table.items():
        problem = _problem(name, row)
        if problem:
            problems.append(f"{str(name)[:NAME_MAX]}: {problem}")
        else:
            found[name] = Listed(row.get(_ON_DEMAND), row.get(_SPOT))
    more = f" (and {len(problems) - 1} more rows)" if len(problems) > 1 else ""
    return found, f"{problems[0]}{more}" if problems else ""


def _problem(name: object, row: Any) -> str:
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_MAX:
        return f"an instance type is a text of 1 to {NAME_MAX} characters"
    if not isinstance(row, dict) or not row or set(row) - {_ON_DEMAND, _SPOT}:
        return _FORM
    for field_name, price in row.items():
        is_number = isinstance(price, int | float) and not isinstance(price, bool)
        if not is_number or not math.isfinite(price) or not 0 <= price <= PRICE_MAX:
            shown = repr(price)[:40]
            return f"{field_name} is {shown}: write a number from 0 to {PRICE_MAX:.0f}"
    return ""
