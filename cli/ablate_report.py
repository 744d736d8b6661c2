"""How `pgc-graph ablate` presents what it finds: lines as they come, or one JSON document at the end."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgc_cli.ablate_costs import cost_table
from pgc_cli.ablate_removal import curve_lines
from pgc_cli.ablate_tables import label_table, stats_table
from pgc_cli.progress import note, progress_bar

if TYPE_CHECKING:
    from pgc_graph.analysis.targets import Target
    from pgc_graph.images import ImageBatch
    from pgc_graph.studies.ablation import AblationResult, GateImpact
    from pgc_graph.studies.ablation.cost import BlockCost
    from pgc_graph.studies.ablation.cumulative import CumulativeResult
    from pgc_graph.studies.ablation.scores import Scores

__all__ = ["Printer", "list_targets"]

_RANKED_BY = {
    "delta": "mean Δ",
    "logit": "mean Δ of the logit",
    "loss": "rise of the loss",
    "accuracy": "fall of accuracy",
    "f1": "fall of F1",
}


def list_targets(targets: Sequence[Target], *, as_json: bool) -> str:
    """Return the listing of `--list-targets`; a star marks Sigmoid→Mul tensors."""
    if as_json:
        from pgc_graph.results import to_json

        return to_json({"targets": tuple(targets)})
    return "\n".join(
        f"[{index:03d}] {'*' if target.is_sigmoid_mul else ' '} {target.op_type:<8} {target.node} -> {target.tensor}"
        for index, target in enumerate(targets)
    )


class Printer:
    """Prints an ablation while it runs and when it is done."""

    def __init__(
        self, model_path: Path, provider: str, images: int, *, quiet: bool, as_json: bool, stats: bool
    ) -> None:
        self._model_path = model_path
        self._provider = provider
        self._images = images
        self._lines = not (quiet or as_json)
        self._as_json = as_json
        self._stats = stats
        self._done = 0
        self._announced = False
        self._advance: Callable[[int, int], None] = lambda done, total: None

    @contextlib.contextmanager
    def progress(self) -> Iterator[None]:
        """Show a progress bar, unless lines for each image run over the same terminal."""
        if self._lines and sys.stdout.isatty():
            yield
            return
        with progress_bar("ablate") as advance:
            self._advance = advance
            yield

    def resume(self, done: int) -> None:
        """Count images that a run before this one has scored."""
        self._done = done
        note(f"[INFO] resumed: {done} images were scored before")
        self._advance(done, self._images)

    def _announce(self) -> None:
        if not self._announced:
            self._announced = True
            note(f"[INFO] provider: {self._provider}")

    def batch(self, batch: ImageBatch, scores: Scores) -> None:
        """Print the lines of a batch; with one image alone, its lines wait for `finish`."""
        self._announce()
        for path, baseline in zip(batch.paths, scores.baseline, strict=True):
            self._done += 1
            if self._lines and self._images > 1:
                click.echo(f"[IMAGE {self._done:04d}] {path}: baseline={baseline:.4f}")
        self._advance(self._done, self._images)

    def shard(self, done: int, total: int) -> None:
        """Take note of images that were scored elsewhere, of which there are no lines."""
        self._announce()
        self._done = done
        self._advance(done, total)

    def finish(
        self, result: AblationResult, costs: Sequence[BlockCost] = (), curve: CumulativeResult | None = None
    ) -> None:
        """Print the aggregate, costs in the order of the ranking, the curve: what was skipped on stderr, else on stdout."""
        if result.skipped_count:
            note(f"Skipped {result.skipped_count} unreadable images")
        if result.skipped_tensors:
            first = result.skipped_tensors[0]
            note(
                f"Skipped {len(result.skipped_tensors)} tensors without a gate (first: {first.subject} {first.reason})"
            )
        if self._as_json:
            from pgc_graph.results import to_json

            extra = {**({"costs": costs} if costs else {}), **({} if curve is None else {"cumulative": curve})}
            click.echo(to_json(result, model=self._model_path, **extra))
            return
        if self._images == 1:
            self._single(result)
        else:
            baseline = result.baseline
            click.echo(
                f"\nProcessed {result.image_count} images. Baseline prob: mean={baseline.mean:.4f} "
                f"std={baseline.std:.4f} min={baseline.min:.4f} max={baseline.max:.4f}"
            )
        click.echo(f"\nAggregate feature impact (sorted by {_RANKED_BY[result.rank_by]}):")
        for impact in result.gates:
            click.echo(_ranking_line(impact))
        tables = label_table(result), stats_table(result) if self._stats else []
        for lines in (*tables, cost_table(result, costs) if costs else []):
            if lines:
                click.echo("\n".join(["", *lines]))
        if curve is not None:
            click.echo("\n".join(curve_lines(curve)))

    def _single(self, result: AblationResult) -> None:
        if not self._lines:
            return
        (image,) = result.images
        click.echo(f"[BASELINE] {image.path}: prob={image.prob:.4f}")
        for impact in sorted(result.gates, key=lambda impact: impact.position):
            tensor = impact.target.tensor
            click.echo(f"[ABLATE] {tensor}: prob={impact.prob.mean:.4f} delta={impact.delta.mean:+.4f}")


def _ranking_line(impact: GateImpact) -> str:
    target = impact.target
    line = (
        f"{impact.rank:02d}. {target.op_type:<8} {target.node} ({target.tensor}) -> "
        f"meanΔ={impact.delta.mean:+.4f} stdΔ={impact.delta.std:.4f} meanProb={impact.prob.mean:.4f}"
    )
    if impact.logit_delta is not None:
        line += f" meanΔlogit={impact.logit_delta.mean:+.4f}"
    if impact.non_finite:
        line += f" non-finite={impact.non_finite}"
    return line
