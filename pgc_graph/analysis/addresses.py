"""Addresses of tensors: what a tensor is and where it stands, as `silu@features.2`, `se@*` or `conv@stem`.

Before the `@` stands a pattern (see `patterns`), an operator or `*` for any; behind it whole parts of a name, found
anywhere in the names of the node and of the tensor. `features.2` is a part of `/features/features.2/act/Mul`, not of
`/features/features.20/act/Mul`. `*` stands for any characters, `?` for one. Upper and lower case do not matter.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from pgc_graph.analysis.patterns import pattern_kinds

if TYPE_CHECKING:
    from pgc_graph.analysis.targets import Target

__all__ = ["is_address", "term_finds"]


def is_address(term: str) -> bool:
    """Return whether a term has the form of an address: one word or `*`, `@`, and something behind it."""
    return re.fullmatch(r"(\w+|\*)@.+", term) is not None


def term_finds(term: str, target: Target) -> bool:
    """Return whether a term finds a tensor: as a part of a name, ignoring case, or as an address."""
    plain = term.lower()
    if plain in target.tensor.lower() or plain in target.node.lower():
        return True
    if not is_address(term):
        return False
    what, _, where = plain.partition("@")
    if what != "*" and target.kind not in pattern_kinds(what) and target.op_type.lower() != what:
        return False
    place = _place(where)
    return place.search(target.node) is not None or place.search(target.tensor) is not None


@functools.lru_cache(maxsize=256)
def _place(text: str) -> re.Pattern[str]:
    wildcards = {"*": ".*", "?": "."}
    body = "".join(wildcards.get(character) or re.escape(character) for character in text)
    return re.compile(rf"(?<![0-9A-Za-z]){body}(?![0-9A-Za-z])", re.IGNORECASE)
