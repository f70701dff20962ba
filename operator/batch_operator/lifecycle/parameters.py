"""`Ref::name` placeholders in commands: AWS Batch's parameter substitution.

Placeholders stand in `command` and `args` and nowhere else (AWS substitutes only there). A value is
put in literally, in one pass: what a value contains is never substituted again and never goes
through a shell.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PLACEHOLDER = re.compile(r"Ref::([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)")


def placeholders(words: Sequence[str]) -> list[str]:
    """The parameter names that the words refer to, in order of appearance, each once."""
    return list(dict.fromkeys(name for word in words for name in _PLACEHOLDER.findall(word)))


def substituted_length(words: Sequence[str], parameters: Mapping[str, str]) -> int:
    """How many characters `substituted` would return, without making them."""
    return sum(
        len(word)
        + sum(
            len(parameters[match[1]]) - len(match[0])
            for match in _PLACEHOLDER.finditer(word)
            if match[1] in parameters
        )
        for word in words
    )


def substituted(words: Sequence[str], parameters: Mapping[str, str]) -> list[str]:
    """The words with every `Ref::name` replaced by its value; unknown names stay as they are.

    A placeholder may be a part of a word: `--input=Ref::input` works, as does `Ref::a:Ref::b`.
    """
    return [
        _PLACEHOLDER.sub(lambda match: parameters.get(match[1], match[0]), word) for word in words
    ]
