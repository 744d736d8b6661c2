"""Remove channels that are multiplied by 0, so that the model computes the same with less.

1. The channels to remove are multiplied by 0 (`masks.py`): this model defines what has to come out.
2. Those zeros, and gates that the model had, are folded into the weights around them where they can be.
3. Channels are grouped by what can only go together, and followed: what is a known constant, what nobody reads
   (`analysis/pruning`).
4. What can go is cut out of the weights (`cut.py`); constants that went are taken over by biases (`bias.py`).
5. Multiplications by 0 that are left stand in front of channels that could not go: they stay, named.

What nobody reads goes as well, even where nobody asked for it: the result is the same function.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.constants import Constants
from pgc_graph.analysis.pruning.builder import Ids
from pgc_graph.analysis.pruning.groups import ChannelGroups, channel_groups
from pgc_graph.analysis.pruning.removal import Removal, find_removal
from pgc_graph.passes.fold_gates import fold_gate_nodes
from pgc_graph.passes.gates import gate_nodes
from pgc_graph.passes.prune.cut import cut_channels
from pgc_graph.passes.prune.masks import zero_channels, zeros_of_gates
from pgc_graph.passes.reshape_targets import write_constant_targets
from pgc_graph.passes.rewrite import Change, Rewrite, Skip
from pgc_graph.passes.shapes import infer_shapes, with_shapes

__all__ = ["Pruned", "folded", "prune_channels"]

_SHOWN = 8


@dataclass(frozen=True, eq=False)
class Pruned(Rewrite):
    """The outcome of `prune_channels`.

    Attributes:
        removed: How many channels each tensor lost, by its name, in graph order.
    """

    removed: Mapping[str, int] | None = None


def prune_channels(model: ir.Model, channels: Mapping[str, Iterable[int]]) -> Pruned:
    """Remove channels of tensors: the result equals the model in which they are multiplied by 0.

    Args:
        model: Stays untouched. Gates that it has count by their defaults, and are folded into the weights.
        channels: Channels by tensor.

    Returns:
        The smaller model, with the same node and tensor names; `changes` has one entry a tensor that lost channels,
        `skipped` one a tensor of which a channel stays, with the reason.

    Raises:
        SelectionError: No tensor has one of the names.
        OptionError: A tensor has no such channel.
        UnsupportedError: Which axis of a tensor holds its channels is not known.
    """
    wanted = {name: sorted(set(indices)) for name, indices in channels.items()}
    pruned = folded(zero_channels(model, wanted))
    gated = zeros_of_gates(with_shapes(model))
    wanted = {name: sorted({*wanted.get(name, ()), *gated.get(name, ())}) for name in {**gated, **wanted}}
    found = channel_groups(pruned)
    removal = find_removal(found)
    removed: Counter[str] = Counter()
    places = {name: np.arange(len(ids)) for name, ids in _tracked(found).items()}
    while counts := _removed(found, removal):
        removed.update(counts)
        left = {name: ~removal.groups[found.of(ids)] for name, ids in _tracked(found).items()}
        # A bias that becomes an Add behind a MatMul brings a tensor that was not there before.
        places = {name: places.get(name, np.arange(len(kept)))[kept] for name, kept in left.items()}
        cut_channels(pruned, found, removal)
        # What goes can be what a multiplication by 0 waited for, which then lets more go.
        fold_gate_nodes(pruned, gate_nodes(pruned))
        found = channel_groups(pruned)
        removal = find_removal(found)
    _, stuck = fold_gate_nodes(pruned, gate_nodes(pruned))
    skipped = _left(wanted, places, found, removal)
    skipped += [Skip(skip.subject, f"a multiplication stays behind it: {skip.reason}") for skip in stuck]
    changes = [Change(name, f"{count} channels removed") for name, count in removed.items()]
    return Pruned(pruned, tuple(changes), tuple(skipped), dict(removed))


def folded(model: ir.Model) -> ir.Model:
    """Return a copy with all shapes that can be known, computed Reshape targets constant, and constant gates folded."""
    result = infer_shapes(model)
    if write_constant_targets(result, Constants(result)):
        result = infer_shapes(result)
    fold_gate_nodes(result, gate_nodes(result))
    return result


def _tracked(found: ChannelGroups) -> dict[str, Ids]:
    return {str(value.name): channels.ids for value, channels in found.account.channels.items()}


def _removed(found: ChannelGroups, removal: Removal) -> dict[str, int]:
    counts = {name: int(removal.groups[found.of(ids)].sum()) for name, ids in _tracked(found).items()}
    return {name: count for name, count in counts.items() if count}


def _left(
    wanted: Mapping[str, list[int]], places: Mapping[str, Ids], found: ChannelGroups, removal: Removal
) -> list[Skip]:
    """Say why channels stay that were to go, one entry a tensor and reason.

    Args:
        wanted: What was to go.
        places: Which channels of the original each tensor still has.
        found: The groups of what is left.
        removal: Why they stay.
    """
    tracked = _tracked(found)
    skips: list[Skip] = []
    for name, indices in wanted.items():
        if name not in tracked:
            skips += [Skip(name, f"{_listed(indices)}: its channels could not be followed")] if indices else []
            continue
        by_reason: dict[str, list[int]] = {}
        for place, group in zip(places.get(name, ()), found.of(tracked[name]), strict=True):
            if int(place) in indices:
                by_reason.setdefault(removal.reasons[int(group)], []).append(int(place))
        skips += [Skip(name, f"{_listed(stay)}: {reason}") for reason, stay in by_reason.items()]
    return skips


def _listed(places: list[int]) -> str:
    shown = ", ".join(map(str, places[:_SHOWN])) + (", ..." if len(places) > _SHOWN else "")
    return f"{len(places)} of its channels stay ({shown})" if len(places) > 1 else f"channel {shown} stays"
