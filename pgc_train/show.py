"""Progress on a terminal and results as text; numbers come from elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pgc_train.metrics import Scores

if TYPE_CHECKING:
    from rich.progress import Progress

    from pgc_train.dataset import DatasetReport
    from pgc_train.loop import Report
    from pgc_train.run import Summary

__all__ = ["count_progress", "dataset_lines", "epoch_line", "score_table", "show_progress", "summary_lines"]


@contextlib.contextmanager
def show_progress(epochs: int, stream: TextIO) -> Iterator[Report]:
    """Yield whom a run tells about its progress: a bar and a line an epoch on a terminal, nobody otherwise.

    Args:
        epochs: Epochs of the run.
        stream: Where to draw.
    """
    from pgc_train.loop import Report

    if not stream.isatty():
        yield Report()
        return
    with _bar(stream) as progress:
        task = progress.add_task("loading crops", total=None)

        def step(epoch: int, done: int, total: int) -> None:
            progress.update(
                task,
                description=f"epoch {epoch}/{epochs}",
                completed=(epoch - 1) * total + done,
                total=epochs * total,
            )

        yield Report(step=step, epoch=lambda record: progress.console.print(epoch_line(record), highlight=False))


@contextlib.contextmanager
def count_progress(description: str, stream: TextIO) -> Iterator[Callable[[int, int], None]]:
    """Yield a function `(done, total)` that draws a bar on a terminal and nothing otherwise.

    Args:
        description: What is being counted.
        stream: Where to draw.
    """
    if not stream.isatty():
        yield lambda done, total: None
        return
    with _bar(stream) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def summary_lines(summary: Summary, folder: Path) -> list[str]:
    """Say in a few lines what a run was and what came of it."""
    lines = [
        f"model {summary.spec.variant}: {summary.parameters:,} parameters",
        f"training crops: {_sources(summary.data['training_sources'])}",
        f"validation crops: {_sources(summary.data['validation_sources'])}",
    ]
    if summary.data["skipped"]:
        lines.append(f"{summary.data['skipped']} unreadable crops were left out")
    best = summary.result.best
    if best is not None:
        scores = best["validation"]
        lines.append(
            f"best epoch {summary.result.best_epoch} of {summary.result.epochs}: validation F1 {scores['f1']:.4f} "
            f"precision {scores['precision']:.4f} recall {scores['recall']:.4f} accuracy {scores['accuracy']:.4f}"
        )
        lines.append(f"wrote {folder / 'best.pt'} ({summary.seconds:.0f} s)")
    return lines


def dataset_lines(report: DatasetReport, path: Path) -> list[str]:
    """Say what went into a table: the classes of every split and of every source."""
    names = [*report.splits, *report.sources]
    width = max(len(name) for name in (*names, "source"))
    lines = [f"wrote {report.rows} crops of {report.groups} groups to {path}"]
    for title, counts in (("split", report.splits), ("source", report.sources)):
        lines.append(f"{title:{width}}  pointing  not_pointing   share")
        for name, (negative, positive) in counts.items():
            share = (negative + positive) / report.rows
            lines.append(f"{name:{width}}  {positive:8d}  {negative:12d}  {share:6.1%}")
    if report.skipped:
        lines.append(f"{report.skipped} unreadable crops were left out")
    return lines


def epoch_line(record: Mapping[str, Any]) -> str:
    """Say in a line how an epoch went."""
    train, validation = record["train"], record["validation"]
    mark = "  best" if record["best"] else ""
    return (
        f"epoch {record['epoch']:3d}  train loss {train['loss']:.4f} F1 {train['f1']:.4f}  "
        f"validation loss {validation['loss']:.4f} F1 {validation['f1']:.4f}  "
        f"lr {record['learning_rate']:.1e}  {record['seconds']:.1f} s{mark}"
    )


def score_table(rows: Mapping[str, Scores]) -> list[str]:
    """Lay scores out as a table, one row a name; the counts are TP, FP, TN, FN."""
    width = max(len(name) for name in (*rows, "crops"))
    head = f"{'crops':{width}}  count      F1  precision  recall  accuracy     TP     FP     TN     FN"
    return [head, *(_score_row(name.ljust(width), scores) for name, scores in rows.items())]


def _bar(stream: TextIO) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(file=stream), transient=True)


def _score_row(name: str, scores: Scores) -> str:
    counts = (scores.true_positive, scores.false_positive, scores.true_negative, scores.false_negative)
    return (
        f"{name}  {scores.count:5d}  {scores.f1:.4f}     {scores.precision:.4f}  {scores.recall:.4f}    "
        f"{scores.accuracy:.4f}  " + "  ".join(f"{count:5d}" for count in counts)
    )


def _sources(counts: Mapping[str, tuple[int, int] | list[int]]) -> str:
    return ", ".join(f"{name} {positive} pointing + {negative} not" for name, (negative, positive) in counts.items())
