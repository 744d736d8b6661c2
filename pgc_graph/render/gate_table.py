"""Learned gates as text: the ranking, and the score against gates kept."""

from __future__ import annotations

from pgc_graph.render.table import align
from pgc_graph.studies.learning.result import CurvePoint, LearningResult

__all__ = ["gate_tables"]


def gate_tables(result: LearningResult) -> list[str]:
    """Return the ranking of the gates and the trade-off curve, as lines."""
    loss = f"task loss {result.history[0][0]:.4f} -> {result.history[-1][0]:.4f}" if result.history else "no step made"
    words = {"steps": "all steps made", "patience": "no better any more", "interrupted": "interrupted"}[result.ended]
    labels = (
        f"{result.labelled_count} labelled" if result.labelled_count else "no labels: kept to the model's own answers"
    )
    head = f"{result.steps} steps ({words}) on {result.image_count} images ({labels}), {loss}:"
    rows = [["rank", "mean", "open", "of", "tensor"]]
    for gate in result.gates:
        figures = [f"{gate.mean:.4f}", str(gate.kept), str(len(gate.values))]
        rows.append([f"{gate.rank:02d}.", *figures, gate.target.tensor])
    curve = [["gates kept", "share", "agreement", "loss", "accuracy", "F1"]]
    curve += [_point(point, result.total) for point in (*result.curve, result.ungated)]
    curve[-1][0] = "no gates"
    title = (
        f"Score with only the most open gates, at their learned values ({result.kept} of {result.total} are above 0):"
    )
    return [head, *align(rows, right=range(4)), "", title, *align(curve, right=range(6))]


def _point(point: CurvePoint, total: int) -> list[str]:
    rest = ["-" if value is None else f"{value:.4f}" for value in (point.accuracy, point.f1)]
    return [str(point.kept), f"{point.kept / total:.2f}", f"{point.agreement:.4f}", f"{point.loss:.4f}", *rest]
