"""Which tensors `pgc-graph heatmap` draws: what the shared filters keep and, of that, what `--layers` finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pgc_cli.progress import note
from pgc_graph.errors import SelectionError

if TYPE_CHECKING:
    from pgc_graph.analysis.targets import Target, TargetQuery

__all__ = ["choose_targets"]


def choose_targets(targets: Sequence[Target], layers: Sequence[str], query: TargetQuery) -> tuple[Target, ...]:
    """Keep what the query asks for and, of that, what any of the layer filters finds, in the order of those filters.

    A filter may be an address such as `relu@stem`; one finds any tensor where the query itself names none.

    Raises:
        OptionError: A regular expression is malformed.
        SelectionError: Nothing is left.
    """
    from pgc_graph.analysis.addresses import is_address, term_finds
    from pgc_graph.analysis.targets import select_targets

    wide = query.is_default and any(map(is_address, layers))
    chosen = select_targets(targets, dataclasses.replace(query, limit=None, include_all=query.include_all or wide))
    if not layers:
        return chosen[: query.limit]
    found = {
        text: [t for t in chosen if term_finds(text, t) and (is_address(text) or not wide or t.is_sigmoid_mul)]
        for text in layers
    }
    missing = ", ".join(repr(text) for text, matches in found.items() if not matches)
    union = {target.tensor for matches in found.values() for target in matches}
    kept = {target.tensor for target in [t for t in chosen if t.tensor in union][: query.limit]}
    if not kept:
        raise SelectionError(
            f"no tensor matches --layers {missing} ({len(chosen)} tensors); list them with --list-layers"
        )
    if missing:
        note(f"Warning: no tensor matches --layers {missing}")
    ordered = dict.fromkeys(target for matches in found.values() for target in matches)
    return tuple(target for target in ordered if target.tensor in kept)
