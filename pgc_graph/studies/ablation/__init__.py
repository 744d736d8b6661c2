"""Ablation: switch tensors off one at a time and measure what the score loses."""

from __future__ import annotations

from pgc_graph.studies.ablation.intervention import Intervention
from pgc_graph.studies.ablation.measure import Measure
from pgc_graph.studies.ablation.result import AblationResult, EngineReport, GateImpact, ImageBaseline, Summary
from pgc_graph.studies.ablation.run import BATCH_SIZE, ablate, ablate_batches

__all__ = [
    "BATCH_SIZE",
    "AblationResult",
    "EngineReport",
    "GateImpact",
    "ImageBaseline",
    "Intervention",
    "Measure",
    "Summary",
    "ablate",
    "ablate_batches",
]
