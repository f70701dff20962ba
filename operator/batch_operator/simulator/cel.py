"""CEL in Python, as much of it as the CRDs' rules are written in.

A rule is rewritten once, as the text of a Python expression. It means there what it means to the
API server, but for two things that no rule should rest on: a field that is read without asking for
it with `has` is an error whatever stands on the other side of an `||`, and lists of the types set
and map are the same in the same order only.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_TOKEN = re.compile(r"\s*(\d+|'[^']*'|[A-Za-z]\w*|\|\||&&|[=!<>]=|[-+*!<>?:.,()\[\]])")
_LEVELS = ({"||"}, {"&&"}, {"==", "!=", "<", "<=", ">", ">=", "in"}, {"+", "-"}, {"*"})
"""Operators with two sides, those that bind least first."""
_WORDS = {"||": "or", "&&": "and", "true": "True", "false": "False"}
_FUNCTIONS = {"size": "len({0})"}
_METHODS = {
    "all": "all({2} for {1} in {0})",
    "contains": "({1} in {0})",
    "exists": "any({2} for {1} in {0})",
    "exists_one": "(sum({2} for {1} in {0}) == 1)",
    "hasValue": "({0} is not None)",
    "map": "[{2} for {1} in {0}]",
    "startsWith": "{0}.startswith({1})",
}


@cache
def rule(text: str) -> Callable[[Any, Any], bool]:
    """A rule as a function of `self` and `oldSelf`, which is None when there is none.

    Raises:
        KeyError, SyntaxError, ValueError: the rule uses something that is not known here.
    """
    source = f"lambda self, oldSelf: {_Rule(text).translated()}"
    found: Callable[[Any, Any], bool] = eval(source, {})  # noqa: S307  # our own, of known tokens
    return found


class _Rule:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def translated(self) -> str:
        found = self._expression()
        if self._at < len(self._text):
            raise ValueError(self._text[self._at :])
        return found

    def _take(self, *wanted: str) -> str:
        """Step over the next token and give it, if it is one of these or none are given."""
        found = _TOKEN.match(self._text, self._at)
        if found is None or (wanted and found[1] not in wanted):
            return ""
        self._at = found.end()
        return found[1]

    def _expression(self) -> str:
        found = self._binary(0)
        if not self._take("?"):
            return found
        then = self._expression()
        self._take(":")
        return f"({then} if {found} else {self._expression()})"

    def _binary(self, level: int) -> str:
        if level == len(_LEVELS):
            return self._unary()
        found = self._binary(level + 1)
        while operator := self._take(*_LEVELS[level]):
            found = f"({found} {_WORDS.get(operator, operator)} {self._binary(level + 1)})"
        return found

    def _unary(self) -> str:
        if self._take("!"):
            return f"(not {self._unary()})"
        found = self._primary()
        while self._take("."):
            name = self._take()
            if self._take("("):
                found = _METHODS[name].format(found, *self._list(")"))
            else:
                found = f"{found}[{name!r}]"
        return found

    def _primary(self) -> str:
        first = self._take()
        if first == "(":
            return f"({', '.join(self._list(')'))})"
        if first == "[":
            return f"[{', '.join(self._list(']'))}]"
        if not self._take("("):
            return _WORDS.get(first, first)
        arguments = self._list(")")
        if first == "has":
            owner, _, field = arguments[0].rpartition("[")
            return f"({field.removesuffix(']')} in {owner})"
        return _FUNCTIONS[first].format(*arguments)

    def _list(self, end: str) -> list[str]:
        """Expressions up to the bracket that ends them."""
        found: list[str] = []
        while not self._take(end):
            if found and not self._take(","):
                raise ValueError(self._text[self._at :])
            found.append(self._expression())
        return found
