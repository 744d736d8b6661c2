"""Ablation: switch tensors off one at a time and measure what the score loses."""

from __future__ import annotations

from pgc_graph.studies.ablation.distributed import ablate_on_cluster
from pgc_graph.studies.ablation.intervention import Intervention
from pgc_graph.studies.ablation.measure import Measure
from pgc_graph.studies.ablation.result import AblationResult, EngineReport, GateImpact, ImageBaseline, Summary
from pgc_graph.studies.ablation.run import BATCH_SIZE, ablate, ablate_batches
from pgc_graph.studies.ablation.saving import Saving

__all__ = [
    "BATCH_SIZE",
    "AblationResult",
    "EngineReport",
    "GateImpact",
    "ImageBaseline",
    "Intervention",
    "Measure",
    "Saving",
    "Summary",
    "ablate",
    "ablate_batches",
    "ablate_on_cluster",
]
