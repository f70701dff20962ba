"""Label selectors as the API server reads them from a request: equality and existence."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING

from batch_operator.api.label_selector import (
    LabelRequirement,
    LabelSelector,
    SelectorOperator,
    selects,
)

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
    return partial(selects, LabelSelector(match_expressions=terms))


def _term(term: str) -> LabelRequirement:
    if " " in term:
        raise ValueError(f"label selector {term!r}: only equality and existence are simulated")
    if "!=" in term:
        key, _, value = term.partition("!=")
        return LabelRequirement(key=key, operator=SelectorOperator.NOT_IN, values=[value])
    if "=" in term:
        key, _, value = term.replace("==", "=").partition("=")
        return LabelRequirement(key=key, operator=SelectorOperator.IN, values=[value])
    if term.startswith("!"):
        return LabelRequirement(key=term[1:], operator=SelectorOperator.DOES_NOT_EXIST)
    return LabelRequirement(key=term, operator=SelectorOperator.EXISTS)
