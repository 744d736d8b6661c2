"""Importance: what the score would lose without tensors and channels, estimated from gradients."""

from __future__ import annotations

from pgc_graph.studies.importance.estimate import estimate_importance
from pgc_graph.studies.importance.result import ChannelImportance, Comparison, ImportanceResult, TensorImportance
from pgc_graph.studies.importance.spearman import spearman

__all__ = [
    "ChannelImportance",
    "Comparison",
    "ImportanceResult",
    "TensorImportance",
    "estimate_importance",
    "spearman",
]
