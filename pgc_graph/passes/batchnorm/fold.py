"""Fold every BatchNormalization that can be folded exactly, in this order of preference:

1. into the Conv, ConvTranspose, Gemm or MatMul that produces its input (`producer.py`);
2. into the Gemm, MatMul, unpadded Conv that consumes its output (`consumer.py`);
3. as one Mul and one Add (`elementwise.py`).

Identity, Dropout in inference, other BatchNormalizations, and Mul, Add, Sub and Div by per-channel constants that stand
next to it, with no other user between, fold along with it (`chain.py`); if all together do not fold, it is tried alone.
Everything is computed in float64 and stored in the weights' own type. What is left alone is reported with its reason.
Subgraphs (If, Loop, Scan) and model-local functions are treated like the main graph.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from pgc_graph.analysis.constants import Constants
from pgc_graph.analysis.names import graph_nodes
from pgc_graph.passes.batchnorm.affine import Declined, is_batchnorm, read_affine
from pgc_graph.passes.batchnorm.chain import Span, spans
from pgc_graph.passes.batchnorm.consumer import fold_into_consumer
from pgc_graph.passes.batchnorm.elementwise import replace_by_mul_add
from pgc_graph.passes.batchnorm.producer import fold_into_producer
from pgc_graph.passes.edit import GraphEditor, remove_unused_initializers
from pgc_graph.passes.rewrite import Change, Rewrite, Skip
from pgc_graph.passes.shapes import infer_shapes

__all__ = ["fold_batchnorm"]


def fold_batchnorm(model: ir.Model, *, assume_default_inputs: bool = False) -> Rewrite:
    """Remove BatchNormalization nodes by folding them into their neighbours.

    Args:
        model: Stays untouched.
        assume_default_inputs: Treat parameters that are graph inputs with a default as constants. Whoever overrides
            such an input afterwards changes nothing any more.

    Returns:
        The folded model; `changes` and `skipped` have one entry a BatchNormalization: where it went or why it stays.
    """
    folded = infer_shapes(model) if _shapes_missing(model) else model.clone()
    editor = GraphEditor(folded)
    constants = Constants(folded, assume_default_inputs=assume_default_inputs)
    changes: list[Change] = []
    pending = list(_batchnorms(folded))
    while True:
        # A fold can remove what kept another node from folding: what is left is tried again until nothing changes.
        done, left = _sweep(pending, constants, editor)
        changes += done
        if not done or not left:
            break
        pending = [item for item in pending if item[0].graph is not None]
    remove_unused_initializers(folded)
    order = {_subject(node): position for position, (node, _) in enumerate(_batchnorms(model))}
    changes.sort(key=lambda change: order.get(change.subject, len(order)))
    return Rewrite(folded, tuple(changes), tuple(left))


def _sweep(
    pending: list[tuple[ir.Node, int]], constants: Constants, editor: GraphEditor
) -> tuple[list[Change], list[Skip]]:
    changes: list[Change] = []
    skipped: list[Skip] = []
    for node, opset in pending:
        if node.graph is None:
            continue  # folded along with another one
        verdict = _fold_one(node, constants, editor, opset)
        if isinstance(verdict, Declined):
            skipped.append(Skip(_subject(node), verdict.reason))
        else:
            changes += verdict
    return changes, skipped


def _fold_one(node: ir.Node, constants: Constants, editor: GraphEditor, opset: int) -> list[Change] | Declined:
    affine = read_affine(node, constants, opset)
    if isinstance(affine, Declined):
        return affine
    candidates = list(spans(node, affine, constants, opset))
    reasons: list[str] = []
    for fold in (fold_into_producer, fold_into_consumer):
        for span in candidates:
            verdict = fold(span, constants, editor)
            if not isinstance(verdict, Declined):
                return _account(span, verdict)
            reasons.append(verdict.reason)
    why = list(dict.fromkeys(reasons))
    for span in candidates:
        verdict = replace_by_mul_add(span, constants, editor)
        if not isinstance(verdict, Declined):
            return _account(span, f"{verdict} ({'; '.join(why)})")
        why.append(verdict.reason)
    return Declined("; ".join(dict.fromkeys(why)))


def _account(span: Span, action: str) -> list[Change]:
    return [Change(_subject(link.node), action) for link in span.core if is_batchnorm(link.node)]


def _subject(node: ir.Node) -> str:
    return node.name or str(node.outputs[0].name)


def _batchnorms(model: ir.Model) -> Iterator[tuple[ir.Node, int]]:
    """Yield every BatchNormalization with the default-domain opset of where it stands."""
    default = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 1))
    bodies = [(model.graph, default)]
    bodies += [(function.graph, function.opset_imports.get("", default)) for function in model.functions.values()]
    for graph, opset in bodies:
        for node in graph_nodes(graph):
            if is_batchnorm(node):
                yield node, opset


def _shapes_missing(model: ir.Model) -> bool:
    nodes = [node for node, _ in _batchnorms(model)]
    if not nodes:
        return False
    return any(value.shape is None for node in model.graph.all_nodes() for value in node.outputs if value.name)
