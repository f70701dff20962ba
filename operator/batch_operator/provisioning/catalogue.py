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
_DEPTH_MAX = 8
"""A table has rows, and a row has prices; what is wrong with one that goes deeper can be told."""
_LOADER = yaml.CBaseLoader if yaml.__with_libyaml__ else yaml.BaseLoader
"""Of YAML's types it knows texts, lists and tables alone."""
_SHOWN_MAX = 40
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
    text: str = ""
    """What they were read from."""


def listed_prices(text: str) -> tuple[dict[str, Listed], str]:
    """The rows of a table in YAML, which JSON is, too; and what is wrong with the others."""
    if len(text) > TEXT_MAX:
        return {}, f"it has {len(text)} characters, {TEXT_MAX} are the most"
    try:
        if not _is_plain(text):
            return {}, f"it has aliases, or lists within lists: {_FORM} in it"
        table = yaml.load(text, _LOADER)  # noqa: S506  # it makes no objects
    except (yaml.YAMLError, UnicodeError) as error:
        return {}, f"it is no YAML: {' '.join(str(error).split())[:200]}"
    if not isinstance(table, dict):
        return {}, f"it is no table of instance types: {_FORM} in it"
    if len(table) > ROWS_MAX:
        return {}, f"it has {len(table)} rows, {ROWS_MAX} are the most"
    found: dict[str, Listed] = {}
    problems: list[str] = []
    for name, row in table.items():
        listed, problem = _listed(name, row)
        if listed is None:
            problems.append(f"{name[:NAME_MAX]}: {problem}")
        else:
            found[name] = listed
    more = f" (and {len(problems) - 1} more rows)" if len(problems) > 1 else ""
    return found, f"{problems[0]}{more}" if problems else ""


def _is_plain(text: str) -> bool:
    """Whether it stays as small as it is: an alias may stand for more than the text has."""
    depth = 0
    for event in yaml.parse(text, _LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEPTH_MAX or isinstance(event, yaml.AliasEvent):
            return False
    return True


def _listed(name: str, row: Any) -> tuple[Listed | None, str]:
    """A row's prices, or what is wrong with it."""
    if not 1 <= len(name) <= NAME_MAX:
        return None, f"an instance type is a text of 1 to {NAME_MAX} characters"
    if not isinstance(row, dict) or not row or set(row) - {_ON_DEMAND, _SPOT}:
        return None, _FORM
    prices = {key: _price(text) for key, text in row.items()}
    for key, price in prices.items():
        if price is None:
            shown = f"{row[key]}"[:_SHOWN_MAX]
            return None, f"{key} is {shown!r}: write a number from 0 to {PRICE_MAX:.0f}"
    return Listed(prices.get(_ON_DEMAND), prices.get(_SPOT)), ""


def _price(text: Any) -> float | None:
    """None if it is none."""
    try:
        price = float(text) if isinstance(text, str) else math.nan
    except ValueError:
        return None
    return price if 0 <= price <= PRICE_MAX else None
