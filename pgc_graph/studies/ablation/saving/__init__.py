"""Results that last: scores go to disk as they come, a run that was killed goes on from there, one file holds them all."""

from __future__ import annotations

from pgc_graph.studies.ablation.saving.identity import Identity, identity, model_digest
from pgc_graph.studies.ablation.saving.keeper import Keeper, Saving, open_keeper
from pgc_graph.studies.ablation.saving.record import Record
from pgc_graph.studies.ablation.saving.summary import summarise_run

__all__ = ["Identity", "Keeper", "Record", "Saving", "identity", "model_digest", "open_keeper", "summarise_run"]
