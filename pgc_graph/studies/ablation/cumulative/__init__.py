"""Cumulative ablation: the least important tensors or channels are removed first, and stay removed."""

from __future__ import annotations

from pgc_graph.studies.ablation.cumulative.result import CumulativePoint, CumulativeResult, Removal
from pgc_graph.studies.ablation.cumulative.study import removal_order, remove_batches_cumulatively, remove_cumulatively

__all__ = [
    "CumulativePoint",
    "CumulativeResult",
    "Removal",
    "removal_order",
    "remove_batches_cumulatively",
    "remove_cumulatively",
]
