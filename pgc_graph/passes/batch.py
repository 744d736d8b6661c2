"""Make a model's batch dimension fixed or symbolic.

1. The batch dimension is the first one of the inputs; inputs whose first dimension is another than that of the first input
   are no batches and stay.
2. Shapes stated for other tensors follow: they are inferred anew. An output whose shape cannot be inferred gets the new
   batch size where it stated the old one.
3. A graph exported at a fixed batch size often repeats that size in the target of a Reshape. The target's dimension that
   holds the batch is found by the product of the dimensions before it (memory is row-major), and becomes 0 (copied from
   the operand) where both stand on the same axis, else -1; a -1 that stood elsewhere is replaced by the number that it
   stood for. Such targets fit any batch size (ONNX operator page of Reshape).
4. The target of an Expand becomes 1 there (the operand's own size wins), and the sizes of a Resize the new number.
5. What hard-codes the batch otherwise is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from pgc_graph.analysis.interface import real_inputs
from pgc_graph.errors import OptionError, UnsupportedError
from pgc_graph.passes.batch_operands import BATCH_SYMBOL, free_operands
from pgc_graph.passes.rewrite import Change, Rewrite, Skip
from pgc_graph.passes.shapes import infer_shapes

__all__ = ["batch_inputs", "set_batch"]

Size = int | str


def batch_inputs(model: ir.Model) -> tuple[ir.Value, ...]:
    """Return the inputs whose first dimension is the batch: that of the first input, and all whose size is the same.

    Raises:
        UnsupportedError: The model has no input with a first dimension.
    """
    inputs = [value for value in real_inputs(model) if value.shape is not None and len(value.shape)]
    if not inputs:
        raise UnsupportedError("the model has no input of known rank with a first dimension; it has no batch to set")
    return tuple(value for value in inputs if _first(value) == _first(inputs[0]))


def set_batch(model: ir.Model, batch: Size) -> Rewrite:
    """Set the batch dimension of a model to a number or a symbol.

    Args:
        model: Stays untouched.
        batch: A size of at least 1, or the name of the symbol.

    Returns:
        The model, the same function of every row; changes are inputs, outputs and operands that hard-coded the batch.

    Raises:
        OptionError: `batch` is no size and no name.
        UnsupportedError: The model has no batch dimension, or a node hard-codes it in a way that cannot be undone.
    """
    if (isinstance(batch, int) and batch < 1) or (isinstance(batch, str) and not batch.isidentifier()):
        raise OptionError(
            f"batch {batch!r} is no size and no name; expected a number of at least 1, or a name like batch"
        )
    old = _first(batch_inputs(model)[0])
    names = [str(value.name) for value in batch_inputs(model)]
    skipped = [
        Skip(str(value.name), f"its first dimension is no batch (it is {value.shape})")
        for value in real_inputs(model)
        if value.name not in names
    ]
    if old == batch:
        return Rewrite(model.clone(), (), (*skipped, *(Skip(name, f"has batch {batch} already") for name in names)))
    changed = model.clone()
    inputs = [value for value in changed.graph.inputs if value.name in names]
    stated = {str(value.name): value.shape for value in changed.graph.outputs}
    changes = [Change(str(value.name), f"{value.shape} -> {_with_first(value, batch)}") for value in inputs]
    _forget_shapes(changed)
    if isinstance(old, int):
        for value in inputs:
            value.shape = _with_first(value, BATCH_SYMBOL)
        changes += free_operands(changed, infer_shapes(model), old, batch)
    for value in inputs:
        value.shape = _with_first(value, batch)
    changed = infer_shapes(changed)
    for value in changed.graph.outputs:
        changes += _settle_output(value, stated[str(value.name)], old, batch)
    return Rewrite(changed, tuple(changes), tuple(skipped))


def _first(value: ir.Value) -> Size | None:
    first = None if value.shape is None else value.shape[0]
    return first if isinstance(first, int) or first is None else first.value


def _with_first(value: ir.Value, batch: Size) -> ir.Shape:
    old = value.shape if value.shape is not None else ir.Shape((None,))
    return ir.Shape([batch, *list(old)[1:]], _denotations(old))


def _settle_output(value: ir.Value, stated: ir.Shape | None, old: Size | None, batch: Size) -> Iterator[Change]:
    """Give an output a shape: what was inferred, else what it stated, with the new batch in place of the old."""
    inferred = value.shape
    if stated is None or (inferred is not None and len(inferred) != len(stated)):
        return
    dims: list[int | str | None] = [_plain(dim) for dim in stated]
    for axis, dim in enumerate(inferred if inferred is not None else ()):
        # A stated number that inference does not confirm may have been a multiple of the old batch size.
        if isinstance(dim, int) or (isinstance(old, int) and isinstance(dims[axis], int)):
            dims[axis] = dim if isinstance(dim, int) else batch if dim.value == batch else None
    if dims and old is not None and _plain(stated[0]) == old and (inferred is None or dims[0] in (None, old)):
        dims[0] = batch
    value.shape = ir.Shape(dims, _denotations(stated))
    if value.shape != stated:
        yield Change(str(value.name), f"{stated} -> {value.shape}")


def _denotations(shape: ir.Shape) -> list[str | None]:
    return [shape.get_denotation(axis) for axis in range(len(shape))]


def _plain(dim: int | ir.SymbolicDim) -> int | str | None:
    return dim if isinstance(dim, int) else dim.value


def _forget_shapes(model: ir.Model) -> None:
    """Forget the shapes of all that nodes compute outside of functions."""
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.shape = None
