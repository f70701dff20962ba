"""`Ref::name` placeholders in commands: AWS Batch's parameter substitution.

Placeholders stand in `command` and `args` and nowhere else (AWS substitutes only there). A value is
put in literally, in one pass: what a value contains is never substituted again and never goes
through a shell.

A placeholder may be a part of a word: `--input=Ref::input`, `Ref::a:Ref::b`. Where a dot or a dash
stands in what follows it the longest name that is known counts: with a parameter `sample` but none
`sample.bam`, `Ref::sample.bam` is its value and `.bam`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

_PLACEHOLDER = re.compile(r"Ref::((?:(?!Ref::)[A-Za-z0-9_.-])+)")
_SEPARATORS = ".-"


def placeholders(words: Sequence[str], known: Collection[str] = ()) -> list[str]:
    """The parameter names that the words refer to, in order of appearance, each once."""
    found = (_name(match[1], known) for word in words for match in _PLACEHOLDER.finditer(word))
    return list(dict.fromkeys(name for name in found if name))


def substituted_length(words: Sequence[str], parameters: Mapping[str, str]) -> int:
    """How many characters `substituted` would return, without making them."""
    return sum(
        len(word)
        + sum(
            len(parameters[name]) - len("Ref::") - len(name)
            for match in _PLACEHOLDER.finditer(word)
            if (name := _name(match[1], parameters)) in parameters
        )
        for word in words
    )


def substituted(words: Sequence[str], parameters: Mapping[str, str]) -> list[str]:
    """The words with every `Ref::name` replaced by its value; unknown names stay as they are."""

    def value(match: re.Match[str]) -> str:
        name = _name(match[1], parameters)
        return parameters[name] + match[1][len(name) :] if name in parameters else match[0]

    return [_PLACEHOLDER.sub(value, word) for word in words]


def _name(text: str, known: Collection[str]) -> str:
    """The longest known name that the text begins with; if there is none, all that may be one."""
    return next((one for one in _beginnings(text) if one in known), text.rstrip(_SEPARATORS))


def _beginnings(text: str) -> Iterator[str]:
    yield text
    for at in range(len(text) - 1, 0, -1):
        if text[at] in _SEPARATORS:
            yield text[:at]
