"""How much is left after simplify and fold-bn, and how long they take, against onnxsim, onnxslim and onnxoptimizer alone.

Each tool takes the bytes of a model and gives bytes back, in this process, in rounds whose order is drawn anew. What is
printed: the fastest round and its ratio to ours, nodes and BatchNormalization left (subgraphs included), file size, and
the largest |Δ| over the outputs, relative to their largest value where that exceeds 1. Where another tool leaves fewer
nodes, the operators and names of those that ours leaves follow.

    python benchmarks/passes.py --rounds 10
    python benchmarks/passes.py model.onnx other.onnx
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from pgc_graph import modelio
from pgc_graph.analysis.names import all_nodes
from pgc_graph.errors import PgcGraphError
from pgc_graph.passes.batchnorm import fold_batchnorm
from pgc_graph.passes.names import fill_names
from pgc_graph.passes.simplify import simplify
from pgc_graph.render.table import align
from pgc_graph.runtime.parity import ParityReport, compare, random_feeds
from pgc_graph.runtime.timing import interleave

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("PGC_GRAPH_SHARED", REPOSITORY.parent / "shared"))
TOLERANCE = 1e-4
SHOWN_NAMES = 4
OURS = "ours"
Tool = Callable[[bytes], bytes]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one tool made of one model."""

    tool: str
    milliseconds: float
    nodes: Counter[str]
    names: dict[str, list[str]]
    bytes: int
    parity: str


def ours(data: bytes) -> bytes:
    """As `pgc-graph optimize` does, without its checks."""
    model = fill_names(modelio.load(data)).model
    return modelio.to_bytes(fold_batchnorm(simplify(model).model).model)


def onnxsim_alone(data: bytes) -> bytes:
    import onnxsim

    result, _ = onnxsim.simplify(onnx.load_from_string(data), certify=False)
    return bytes(result.SerializeToString())


def onnxslim(data: bytes) -> bytes:
    import onnxslim

    return bytes(onnxslim.slim(onnx.load_from_string(data)).SerializeToString())


def onnxoptimizer(data: bytes) -> bytes:
    import onnxoptimizer

    passes = onnxoptimizer.get_fuse_and_elimination_passes()
    return bytes(onnxoptimizer.optimize(onnx.load_from_string(data), passes, fixed_point=True).SerializeToString())


TOOLS: dict[str, Tool] = {
    OURS: ours,
    "onnxsim": onnxsim_alone,
    "onnxslim": onnxslim,
    "onnxoptimizer": onnxoptimizer,
}


def main() -> None:
    options = parse()
    for path in options.models or find_models():
        print(f"\n{path.name}")
        measure(path.read_bytes(), TOOLS, options.rounds, options.feeds)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, help="the corpus and the shipped source graph if left out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--feeds", type=int, default=8, help="random inputs of the parity check")
    return parser.parse_args()


def find_models() -> list[Path]:
    found = sorted((SHARED / "corpus").glob("*.onnx"))
    if not found:
        print(f"no corpus in {SHARED}; set PGC_GRAPH_SHARED to measure on it too")
    return [*found, REPOSITORY / "models" / "pgc_s_32x32_source.onnx"]


def measure(data: bytes, tools: dict[str, Tool], rounds: int, feeds: int) -> None:
    source = modelio.load(data)
    results: dict[str, bytes] = {}

    def action(name: str) -> Callable[[], None]:
        def run() -> None:
            results[name] = tools[name](data)

        return run

    working, failures = [], []
    for name in tools:
        if name != OURS and importlib.util.find_spec(name) is None:
            failures.append((name, f"not installed; pip install {name} to compare with it"))
            continue
        try:
            action(name)()
            working.append(name)
        except Exception as error:  # noqa: BLE001  another tool may raise anything; it is printed
            failures.append((name, f"fails: {type(error).__name__}: {' '.join(str(error).split())[:90]}"))
    times = interleave([action(name) for name in working], runs=rounds)
    inputs = list(random_feeds(source, runs=feeds))
    outcomes = [
        judge(name, results[name], min(values), source, inputs) for name, values in zip(working, times, strict=True)
    ]
    present(source, len(data), outcomes, failures)
    print(f"  {OURS}: {account(source)}")


def account(source: ir.Model) -> str:
    """Say what became of each BatchNormalization: one that is only rewritten as Mul and Add costs as much as before."""
    rewrite = fold_batchnorm(simplify(fill_names(source).model).model)
    replaced = [change for change in rewrite.changes if change.action.startswith("replaced")]
    parts = [f"{len(rewrite.changes) - len(replaced)} BN folded", f"{len(replaced)} written as Mul and Add"]
    parts += [f"{len(rewrite.skipped)} left"] + [f"{skip.subject}: {skip.reason}" for skip in rewrite.skipped]
    return ", ".join(parts)


def judge(tool: str, data: bytes, milliseconds: float, source: ir.Model, feeds: list[dict[str, np.ndarray]]) -> Outcome:
    model = modelio.load(data)
    names: dict[str, list[str]] = {}
    for node in all_nodes(model):
        names.setdefault(node.op_type, []).append(str(node.name))
    counts = Counter({op_type: len(found) for op_type, found in names.items()})
    try:
        parity = parity_words(compare(source, model, feeds=feeds, tolerance=TOLERANCE))
    except PgcGraphError as error:
        parity = f"fails: {' '.join(str(error).split())[:90]}"
    return Outcome(tool, milliseconds, counts, names, len(data), parity)


def parity_words(report: ParityReport) -> str:
    worst = max(output.max_difference / max(1.0, output.max_magnitude) for output in report.outputs)
    return f"{'ok' if report.passed else 'FAILED'} {worst:.1e}"


def present(source: ir.Model, size: int, outcomes: Sequence[Outcome], failures: Sequence[tuple[str, str]]) -> None:
    before = Counter(node.op_type for node in all_nodes(source))
    reference = next((outcome for outcome in outcomes if outcome.tool == OURS), outcomes[0])
    rows = [("tool", "ms", "against ours", "BN", "nodes", "bytes", "size", "parity")]
    rows.append(("(before)", "", "", str(before["BatchNormalization"]), str(before.total()), f"{size:,}", "1.00x", ""))
    for outcome in outcomes:
        ratio = f"{outcome.milliseconds / reference.milliseconds:.2f}x"
        batchnorms, nodes = str(outcome.nodes["BatchNormalization"]), str(outcome.nodes.total())
        grown = f"{outcome.bytes / size:.2f}x"
        times = (f"{outcome.milliseconds:.0f}", ratio)
        rows.append((outcome.tool, *times, batchnorms, nodes, f"{outcome.bytes:,}", grown, outcome.parity))
    print("\n".join(f"  {line}" for line in align(rows, right=(1, 2, 3, 4, 5, 6))))
    for name, reason in failures:
        print(f"  {name}: {reason}")
    for outcome in outcomes:
        if outcome.nodes.total() < reference.nodes.total():
            print(f"  {outcome.tool} leaves fewer nodes: {difference(reference, outcome)}")


def difference(ours: Outcome, other: Outcome) -> str:
    """Say which operators are more and fewer in ours, with the names of nodes of those that are more."""
    parts = []
    for op_type in sorted(ours.nodes.keys() | other.nodes.keys()):
        gap = ours.nodes[op_type] - other.nodes[op_type]
        if gap:
            shown = ", ".join(ours.names[op_type][-SHOWN_NAMES:]) if gap > 0 else ""
            parts.append(f"{gap:+d} {op_type}" + (f" (such as {shown})" if shown else ""))
    return "ours has " + "; ".join(parts)


if __name__ == "__main__":
    main()
