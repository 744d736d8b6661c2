"""Decide which split each crop goes to: whole groups, and both classes in proportion."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgc_graph.errors import OptionError

__all__ = ["assign_groups", "compile_group", "group_key", "name_group"]


def compile_group(pattern: str | None) -> re.Pattern[str] | None:
    """Compile the regular expression that reads a group off a path; None stays None.

    Raises:
        OptionError: It is no regular expression.
    """
    if pattern is None:
        return None
    try:
        return re.compile(pattern)
    except re.error as error:
        raise OptionError(
            f"--group {pattern!r} is no regular expression: {error}; expected one such as 's[0-9]+'"
        ) from error


def name_group(pattern: re.Pattern[str], path: Path) -> str:
    """Return what a regular expression finds in a path: its captures joined by `/`, or all that it matched.

    Raises:
        OptionError: It finds nothing.
    """
    found = pattern.search(path.as_posix())
    if found is None:
        raise OptionError(
            f"--group {pattern.pattern!r} finds nothing in {path}; give an expression that fits every path"
        )
    return "/".join(part or "" for part in found.groups()) or found.group()


def group_key(group: str) -> int:
    """Return a number of 64 bits that stands for a group: half a million names take four megabytes this way."""
    return int.from_bytes(blake2b(group.encode(errors="surrogateescape"), digest_size=8).digest(), "little")


def assign_groups(
    groups: NDArray[np.uint64], labels: NDArray[np.uint8], fractions: Mapping[str, float], seed: int
) -> NDArray[np.uint8]:
    """Give every group to one split so that each class is spread as asked.

    Groups are taken from large to small, those of one size in an order drawn by the seed. Each goes where it lowers
    the chi-square distance sum((have - want)**2 / want) over splits and classes the most; the last and smallest ones
    are kept for splits that are still empty.

    Args:
        groups: `(N,)`, the group of each crop.
        labels: `(N,)`, its class, 0 or 1.
        fractions: The share of each split, summing to 1.
        seed: Which order.

    Returns:
        `(N,)`, positions in `fractions`.

    Raises:
        OptionError: A share is impossible, or there are too few groups for all splits.
    """
    shares = [share for share in fractions.values() if share > 0]
    if min(fractions.values()) < 0 or abs(sum(fractions.values()) - 1.0) > 1e-9:
        shown = ", ".join(f"{name} {share:g}" for name, share in fractions.items())
        raise OptionError(f"the shares {shown} are impossible; expected numbers from 0 that leave some for train")
    names, members = np.unique(groups, return_inverse=True)
    if len(names) < len(shares):
        raise OptionError(
            f"{len(names)} group(s) cannot fill {len(shares)} splits; give a --group that tells more of them apart"
        )
    sizes = np.stack([np.bincount(members[labels == label], minlength=len(names)) for label in (0, 1)], axis=1)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    order = shuffled[np.argsort(-sizes[shuffled].sum(1), kind="stable")]
    return _fill(sizes, order, list(fractions.values()))[members]


def _fill(sizes: NDArray[np.int64], order: NDArray[np.int64], shares: list[float]) -> NDArray[np.uint8]:
    totals = sizes.sum(0).tolist()
    wanted = [[share * total for total in totals] for share in shares]
    missing = [list(row) for row in wanted]
    places = [place for place, share in enumerate(shares) if share > 0]
    chosen = np.zeros(len(sizes), np.uint8)
    empty = set(places)
    for done, group in enumerate(order.tolist()):
        counts = sizes[group].tolist()
        open_places = places if len(order) - done > len(empty) else sorted(empty)
        changes = []
        for place in open_places:
            # Of the distance, by adding the group: ((missing - count)**2 - missing**2) / wanted, class by class.
            terms = zip(counts, missing[place], wanted[place], strict=True)
            changes.append(sum(count * (count - 2 * lack) / want for count, lack, want in terms if count))
        place = open_places[changes.index(min(changes))]
        empty.discard(place)
        chosen[group] = place
        missing[place] = [lack - count for lack, count in zip(missing[place], counts, strict=True)]
    return chosen
