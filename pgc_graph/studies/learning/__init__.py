"""Learning: gates that close where the task does not need their tensor."""

from __future__ import annotations

from pgc_graph.studies.learning.learn import learn_gates
from pgc_graph.studies.learning.result import CurvePoint, Learned, LearnedGate, LearningResult, LearnSettings

__all__ = ["CurvePoint", "LearnSettings", "Learned", "LearnedGate", "LearningResult", "learn_gates"]
