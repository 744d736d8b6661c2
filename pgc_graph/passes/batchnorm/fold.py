"""Fold every BatchNormalization that can be folded exactly, in this order of preference:

1. into the Conv, ConvTranspose, Gemm or MatMul that produces its input (`producer.py`);
2. into the Gemm, MatMul or unpadded Conv that consumes its output (`consumer.py`);
3. as one Mul and one Add (`elementwise.py`).

Everything is computed in float64 and stored in the weights' own type. What is left alone is reported with its reason.
Subgraphs (If, Loop, Scan) and model-local functions are treated like the main graph.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from pgc_graph.analysis.constants import Constants
from pgc_graph.analysis.names import all_nodes
from pgc_graph.passes.batchnorm.affine import Declined, is_batchnorm, read_affine
from pgc_graph.passes.batchnorm.consumer import fold_into_consumer
from pgc_graph.passes.batchnorm.elementwise import replace_by_mul_add
from pgc_graph.passes.batchnorm.producer import fold_into_producer
from pgc_graph.passes.edit import GraphEditor
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
    skipped: list[Skip] = []
    for node, opset in list(_batchnorms(folded)):
        subject = node.name or str(node.outputs[0].name)
        verdict = _fold_one(node, constants, editor, opset)
        if isinstance(verdict, Declined):
            skipped.append(Skip(subject, verdict.reason))
        else:
            changes.append(Change(subject, verdict))
    return Rewrite(folded, tuple(changes), tuple(skipped))


def _fold_one(node: ir.Node, constants: Constants, editor: GraphEditor, opset: int) -> str | Declined:
    affine = read_affine(node, constants, opset)
    if isinstance(affine, Declined):
        return affine
    before = fold_into_producer(node, affine, constants, editor)
    if not isinstance(before, Declined):
        return before
    after = fold_into_consumer(node, affine, constants, editor)
    if not isinstance(after, Declined):
        return after
    alone = replace_by_mul_add(node, affine, editor, opset)
    if isinstance(alone, Declined):
        return Declined(f"{before.reason}; {after.reason}; {alone.reason}")
    return f"{alone} ({before.reason}; {after.reason})"


def _batchnorms(model: ir.Model) -> Iterator[tuple[ir.Node, int]]:
    """Yield every BatchNormalization with the default-domain opset of where it stands."""
    default = model.opset_imports.get("", 1)
    for node in all_nodes(model):
        if is_batchnorm(node):
            yield node, node.version or default


def _shapes_missing(model: ir.Model) -> bool:
    return any(node.inputs[0] is not None and node.inputs[0].shape is None for node, _ in _batchnorms(model))
