"""Label selectors as the API server reads them: equality and existence."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Labels = Mapping[str, str]


@lru_cache(maxsize=256)
def selector(text: str) -> Callable[[Labels], bool]:
    """The predicate that `a=b,c!=d,e,!f` stands for; an empty text selects everything.

    Raises:
        ValueError: a set-based requirement (`in`, `notin`), which nobody here asks for.
    """
    terms = [_term(term.strip()) for term in text.split(",") if term.strip()]
    return lambda labels: all(holds(labels) for holds in terms)


def _term(term: str) -> Callable[[Labels], bool]:
    if " " in term:
        raise ValueError(f"label selector {term!r}: only equality and existence are simulated")
    if "!=" in term:
        key, _, value = term.partition("!=")
        return lambda labels: labels.get(key) != value
    if "=" in term:
        key, _, value = term.replace("==", "=").partition("=")
        return lambda labels: labels.get(key) == value
    if term.startswith("!"):
        return lambda labels: term[1:] not in labels
    return lambda labels: term in labels
