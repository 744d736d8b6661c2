"""Reverse-mode differentiation: a graph that returns what it returned before, and gradients of it.

The gradient of a tensor is the sum, over the nodes that read it, of that node's vector-Jacobian product (Griewank and
Walther, "Evaluating Derivatives", 2008, chapter 3). Nodes are visited from the outputs back to the tensors asked for:

1. Only nodes between the two are differentiated; forward tensors are read where they are, nothing is computed twice.
2. What is differentiated is the sum over all rows of outputs with one number a row, so that each row of a gradient is the
   gradient of that row's own output (rows of a batch are independent); or, with `seeded`, the sum of outputs times seeds,
   which are fed: a vector-Jacobian product.
3. A gradient has the type and shape of its tensor, open dimensions included.
4. An operator whose gradient is needed and that has no rule is refused by name. Where no differentiable path leads from an
   output to a tensor, its gradient is zero, which is said in `skipped`.
5. Model-local functions are inlined first. An initializer that is a graph input as well is no constant; before IR version 4
   every initializer is such an input and yet a constant, so such a model is raised to version 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from pgc_graph.autodiff.context import Rule, Writer
from pgc_graph.autodiff.emitter import Emitter
from pgc_graph.autodiff.forms import ones_like, zeros_like
from pgc_graph.autodiff.sweep import FLOATS, backward
from pgc_graph.autodiff.table import RULES
from pgc_graph.errors import OptionError, SelectionError, UnsupportedError
from pgc_graph.passes.rewrite import Change, Rewrite, Skip
from pgc_graph.passes.shapes import infer_shapes

__all__ = ["OLDEST_OPSET", "Gradient", "GradientModel", "gradient_graph"]

OLDEST_OPSET = 9
"""Rules emit operators as they are from this opset on."""

_FREE_INITIALIZERS_IR = 4  # from here on an initializer need not be an input


@dataclass(frozen=True)
class Gradient:
    """The gradient of one tensor.

    Attributes:
        tensor: The tensor, as asked for.
        output: The graph output that holds its gradient: `<tensor>_grad`, or a fresh name like it.
    """

    tensor: str
    output: str


@dataclass(frozen=True, eq=False)
class GradientModel(Rewrite):
    """The outcome of `gradient_graph`.

    Attributes:
        gradients: One a tensor asked for, in that order.
        seeds: The graph input that weighs each differentiated output, by the output's name; empty without `seeded`.
    """

    gradients: tuple[Gradient, ...] = ()
    seeds: tuple[tuple[str, str], ...] = ()


def gradient_graph(
    model: ir.Model,
    outputs: str | Sequence[str],
    wrt: Sequence[str],
    *,
    seeded: bool = False,
    rules: Mapping[tuple[str, str], Rule] | None = None,
) -> GradientModel:
    """Add the gradient of outputs with respect to tensors to a model's outputs.

    Args:
        model: Stays untouched; opset 9 or newer.
        outputs: The floating-point tensors to differentiate: graph outputs, or any tensors of the main graph. Without
            `seeded` each must have one number a row: shape (N), (N, 1), ... or none.
        wrt: The floating-point tensors to differentiate by: inner tensors, graph inputs, initializers, gates.
        seeded: Whether each output gets a graph input `<output>_seed` of its shape, by which it is weighted.
        rules: Further rules by (domain, operator), which win over those of `pgc_graph.autodiff.table.RULES`.

    Returns:
        The model; its outputs are those of before, then one gradient a tensor of `wrt`. Skipped are tensors that no
        differentiable path leads to: their gradient is zero.

    Raises:
        OptionError: `outputs` or `wrt` is empty, or names a tensor twice.
        SelectionError: A tensor does not exist in the main graph, or holds no floating-point numbers.
        UnsupportedError: An operator between the two has no rule, or none that suits; an output has more than one number
            a row; or the opset is too old.
    """
    targets = [outputs] if isinstance(outputs, str) else list(outputs)
    _check_names(targets, wrt)
    emitter = Emitter(_prepared(model))
    if emitter.opset < OLDEST_OPSET:
        raise UnsupportedError(f"gradients need opset {OLDEST_OPSET}, the model has {emitter.opset}; convert it first")
    emitter.complete_shapes()
    ends, starts = _tensors(emitter.model, targets), _tensors(emitter.model, wrt)
    names = {value: emitter.claim(f"{value.name}_grad") for value in starts}
    seeds = {value: _seed(emitter, value, seeded=seeded) for value in ends}
    found = backward(emitter, {**RULES, **(rules or {})}, seeds, names)
    skipped = []
    for value, gradient in found.items():
        if gradient is None:
            skipped.append(Skip(str(value.name), "no differentiable path leads to it: its gradient is zero"))
        _add_output(emitter, gradient, value, names[value])
    emitter.remove_unused()
    changes = [Change(str(value.name), f"its gradient is output {name}") for value, name in names.items()]
    return GradientModel(
        emitter.model,
        tuple(changes),
        tuple(skipped),
        tuple(Gradient(str(value.name), name) for value, name in names.items()),
        tuple((str(value.name), str(seed.name)) for value, seed in seeds.items()) if seeded else (),
    )


def _check_names(outputs: Sequence[str], wrt: Sequence[str]) -> None:
    for what, names in (("outputs", outputs), ("wrt", wrt)):
        if not names:
            raise OptionError(f"no tensors given as {what}; expected the name of at least one")
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise OptionError(f"tensor {twice[0]!r} is given twice as {what}; expected each name once")


def _prepared(model: ir.Model) -> ir.Model:
    """Return a copy that is ours to edit: functions inlined, shapes inferred, initializers no inputs (case 5)."""
    copy = model.clone()
    if copy.functions:
        InlinePass()(copy)
    copy = infer_shapes(copy)
    for value in copy.graph.initializers.values():
        if value.const_value is not None and (value.shape is None or value.type is None):
            value.shape, value.type = ir.Shape(value.const_value.shape.numpy()), ir.TensorType(value.const_value.dtype)
    if copy.ir_version < _FREE_INITIALIZERS_IR:
        copy.ir_version = _FREE_INITIALIZERS_IR
        copy.graph.inputs[:] = [value for value in copy.graph.inputs if not value.is_initializer()]
    return copy


def _tensors(model: ir.Model, names: Sequence[str]) -> list[ir.Value]:
    values = {str(value.name): value for value in (*model.graph.inputs, *model.graph.initializers.values())}
    values.update({str(value.name): value for node in model.graph for value in node.outputs if value.name})
    for name in names:
        if name not in values:
            raise SelectionError(
                f"no tensor of the main graph is named {name!r}; check the name (tensors of subgraphs and functions have "
                "no gradient outside of them)"
            )
        if values[name].dtype not in FLOATS:
            raise SelectionError(f"tensor {name!r} holds {values[name].dtype or 'an unknown type'}, expected floats")
    return [values[name] for name in names]


def _seed(emitter: Emitter, value: ir.Value, *, seeded: bool) -> ir.Value:
    """Return the gradient of an output with respect to itself: fed, or ones (case 2)."""
    if seeded:
        return emitter.graph_input(f"{value.name}_seed", value)
    if value.shape is None or any(dim != 1 for dim in value.shape[1:]):
        raise UnsupportedError(
            f"output {value.name!r} is of shape {value.shape or 'unknown'}, expected one number a row; select one, or "
            "weigh them with seeded=True"
        )
    return ones_like(Writer(emitter, str(value.name)), value)


def _add_output(emitter: Emitter, gradient: ir.Value | None, value: ir.Value, name: str) -> None:
    """Make a gradient a graph output of the name that was promised."""
    if gradient is None:
        gradient = zeros_like(Writer(emitter, str(value.name)), value)
    output = gradient if gradient.name == name else emitter.alias(gradient, name)
    output.shape, output.type = value.shape if value.shape is not None else output.shape, value.type
    emitter.model.graph.outputs.append(output)
