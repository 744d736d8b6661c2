"""What every command that rewrites a model does: load, run passes, check parity after each, save, report."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgc_cli.errors import EXIT_CHECK_FAILED
from pgc_cli.options import check_output, json_option, model_argument, output_option
from pgc_cli.parity import check_parity, parity_words, worst_output
from pgc_cli.progress import note, show_warnings
from pgc_graph.errors import OptionError, ParityError

if TYPE_CHECKING:
    import onnx_ir as ir

    from pgc_graph.passes.rewrite import Rewrite
    from pgc_graph.runtime.parity import ParityReport

__all__ = ["RewriteRequest", "Step", "rewrite_options", "run_steps"]

Function = TypeVar("Function", bound=Callable[..., Any])
_SHOWN_REASONS = 10


@dataclass(frozen=True)
class RewriteRequest:
    """Where a model comes from and goes to, and how its parity is checked.

    Attributes:
        source: The file to read.
        output: The file to write.
        force: Whether the output may replace the source.
        as_json: Whether results are one JSON document.
        verify: Whether parity is checked.
        runs: Random inputs a check.
        seed: Of the random inputs.
        tolerance: Largest |Δ| allowed (relative where outputs exceed 1).
        shapes: Shapes of random inputs by name.
    """

    source: Path
    output: Path
    force: bool
    as_json: bool
    verify: bool
    runs: int
    seed: int
    tolerance: float
    shapes: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Step:
    """One pass: its name, what runs it, how to say what it did, and how it is checked.

    Attributes:
        name: What it is called.
        apply: Runs it.
        describe: Says in a few words what it did, from the model before and the outcome.
        may_keep_original: Whether the original stays where the check fails.
        check: Takes the place of `check_parity`, with its arguments, where equal means something else.
    """

    name: str
    apply: Callable[[ir.Model], Rewrite]
    describe: Callable[[ir.Model, Rewrite], str]
    may_keep_original: bool = False
    check: Callable[..., ParityReport] | None = None


@dataclass(frozen=True, eq=False)
class StepOutcome:
    """What a step did, as `--json` shows it."""

    step: str
    summary: str
    parity: ParityReport | None
    kept_original: bool
    changes: tuple[Any, ...]
    skipped: tuple[Any, ...]


def rewrite_options(function: Function) -> Function:
    """MODEL, -o, --force, --json and the options of the parity check, handed over as `request: RewriteRequest`."""

    @model_argument
    @output_option
    @json_option
    @click.option("--verify/--no-verify", default=True, show_default=True, help="Check that outputs stay the same.")
    @click.option("--runs", type=click.IntRange(1), default=4, show_default=True, help="Random inputs a check.")
    @click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random inputs.")
    @click.option(
        "--tolerance",
        type=click.FloatRange(0),
        default=1e-5,
        show_default=True,
        help="Largest |Δ| allowed; in proportion where outputs exceed 1.",
    )
    @click.option(
        "--input-shape",
        multiple=True,
        metavar="NAME=D,D,...",
        help="Shape of an input for the check, for instance images=1,3,32,32.",
    )
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        names = ("force", "as_json", "verify", "runs", "seed", "tolerance")
        taken = {name: kwargs.pop(name) for name in names}
        shapes = dict(parse_shape(text) for text in kwargs.pop("input_shape"))
        source, output = kwargs.pop("model_path"), kwargs.pop("output")
        request = RewriteRequest(source=source, output=output, shapes=shapes, **taken)
        return function(*args, request=request, **kwargs)

    return wrapper  # type: ignore[return-value]


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Parse `NAME=1,3,32,32`.

    Raises:
        OptionError: It has another form.
    """
    name, _, dims = text.rpartition("=")
    parts = dims.replace("x", ",").split(",")
    if not name or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise OptionError(f"{text!r} is no shape; expected NAME=1,3,32,32")
    return name, tuple(int(part) for part in parts)


def run_steps(
    request: RewriteRequest,
    steps: Sequence[Step],
    *,
    measure: Callable[[ir.Model, ir.Model], Any] | None = None,
    describe_measure: Callable[[Any], str] = str,
) -> None:
    """Load, run the steps with a parity check after each, save, and print the account.

    Args:
        request: From where to where.
        steps: What to run.
        measure: Compares the first and the last version once the latter is saved; `comparison` in the JSON document.
        describe_measure: Says as text what was measured.

    Raises:
        ParityError: A check failed where the original cannot stand in; nothing is written.
        PgcGraphError: The model cannot be read, treated or written.
    """
    from pgc_graph import modelio

    show_warnings()
    check_output(request.output, (request.source,), force=request.force)
    original = model = modelio.load(request.source)
    outcomes: list[StepOutcome] = []
    for step in steps:
        model, outcome = _run_step(request, step, model)
        outcomes.append(outcome)
        if not request.as_json:
            click.echo(_lines(outcome, len(model.graph.outputs)))
    before = request.source.stat().st_size + modelio.weight_bytes(original, external=True)
    after = modelio.save(model, request.output)
    extra = {} if measure is None else {"comparison": measure(original, model)}
    _report(request, (original, model), (before, after), outcomes, extra)
    if extra and not request.as_json:
        click.echo(describe_measure(extra["comparison"]))
    if any(outcome.kept_original for outcome in outcomes):
        click.get_current_context().exit(EXIT_CHECK_FAILED)


def _run_step(request: RewriteRequest, step: Step, model: ir.Model) -> tuple[ir.Model, StepOutcome]:
    rewrite = step.apply(model)
    parity = _parity(request, step, model, rewrite.model) if request.verify else None
    failed = parity is not None and not parity.passed
    if failed and parity is not None and not step.may_keep_original:
        worst = worst_output(parity)
        detail = worst.note or f"differs by {worst.max_difference:.3g}, allowed {worst.tolerance:g}"
        raise ParityError(
            f"{step.name} changed the function of {request.source}: {worst.name!r} {detail}; nothing was written"
        )
    if failed:
        note(f"Warning: {step.name} changed the function of {request.source}; the original graph is kept")
    kept = failed or (step.may_keep_original and bool(rewrite.skipped))
    for skip in rewrite.skipped if kept and not failed else ():
        note(f"Warning: {skip.reason}; the original graph is kept")
    summary = "kept the original" if kept else step.describe(model, rewrite)
    outcome = StepOutcome(step.name, summary, parity, kept, () if kept else rewrite.changes, rewrite.skipped)
    return (model if kept else rewrite.model), outcome


def _parity(request: RewriteRequest, step: Step, before: ir.Model, after: ir.Model) -> ParityReport:
    return (step.check or check_parity)(
        before,
        after,
        runs=request.runs,
        seed=request.seed,
        tolerance=request.tolerance,
        shapes=request.shapes,
    )


def _lines(outcome: StepOutcome, outputs: int) -> str:
    lines = [f"{outcome.step + ':':<10} {outcome.summary}; {parity_words(outcome.parity, outputs)}"]
    lines += [f"           left {skip.subject}: {skip.reason}" for skip in outcome.skipped[:_SHOWN_REASONS]]
    if len(outcome.skipped) > _SHOWN_REASONS:
        lines.append(f"           ... and {len(outcome.skipped) - _SHOWN_REASONS} more (--json lists all)")
    return "\n".join(lines)


def _report(
    request: RewriteRequest,
    models: tuple[ir.Model, ir.Model],
    files: tuple[int, int],
    outcomes: list[StepOutcome],
    extra: dict[str, Any],
) -> None:
    """Print what came out; `models` and the sizes of their `files` in bytes are before and after."""
    from pgc_graph.results import to_json

    sizes = {"nodes_before": models[0].graph.num_nodes(), "nodes_after": models[1].graph.num_nodes()}
    bytes_before, bytes_after = files
    if bytes_after > 1.05 * bytes_before:
        note(f"Warning: the file grew from {bytes_before:,} to {bytes_after:,} bytes")
    if request.as_json:
        sizes |= {"bytes_before": bytes_before, "bytes_after": bytes_after}
        click.echo(to_json({"input": request.source, "output": request.output, **sizes, **extra, "steps": outcomes}))
        return
    nodes = f"{sizes['nodes_before']} -> {sizes['nodes_after']} nodes"
    click.echo(f"Saved {request.output} ({nodes}, {bytes_before:,} -> {bytes_after:,} bytes)")
