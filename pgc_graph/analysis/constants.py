"""Which tensors are constants, and their values.

A tensor is a constant if it is

1. an initializer that is not a graph input (from IR version 4 on, an initializer that is also an input can be
   overridden by whoever runs the model, and before version 4 every initializer had to be one; `assume_default_inputs`
   takes them for constants all the same);
2. the output of a Constant node;
3. the shape of a tensor whose dimensions are all known;
4. computed from constants alone by deterministic operators (exporters leave chains of Identity, Cast, Expand, CastLike),
   evaluated by `onnx.reference`.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from pgc_graph.analysis.names import all_graphs, graph_nodes

__all__ = ["MAX_ELEMENTS", "RANDOM_OPERATORS", "Constants", "evaluate"]

logger = logging.getLogger(__name__)

MAX_ELEMENTS = 50_000_000
"""Tensors with more elements are not evaluated: they are not parameters of a layer."""

RANDOM_OPERATORS = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout"}
)
"""Operators that may draw random numbers."""

_REFUSALS = (
    *(NotImplementedError, RuntimeError, ValueError, TypeError, LookupError),
    *(ArithmeticError, AttributeError, AssertionError),
)
"""What the reference raises where it knows no operator, or a node cannot be computed (an index out of range)."""

Array = NDArray[Any]


class Constants:
    """Evaluates constant tensors of one model, each at most once."""

    def __init__(self, model: ir.Model, *, assume_default_inputs: bool = False) -> None:
        self._model = model
        self._known: dict[ir.Value, Array | None] = {}
        inputs = [value for graph in all_graphs(model) for value in graph.inputs]
        self._overridable = set() if assume_default_inputs else set(inputs)
        # A function's body has opsets of its own.
        self._opsets = {
            node: function.opset_imports.get("")
            for function in model.functions.values()
            for node in graph_nodes(function.graph)
        }

    def value(self, value: ir.Value | None) -> Array | None:
        """Return a tensor's constant value, or None if it depends on what the model is fed."""
        if value is None:
            return None
        if value.producer() is None:
            return self._leaf(value)  # never remembered: folding replaces the values of initializers
        if value not in self._known:
            self._resolve(value)
        return self._known[value]

    def dtype(self, value: ir.Value | None) -> ir.DataType | None:
        """Return a tensor's element type, from its value where the graph does not state it (as in functions)."""
        if value is None or value.dtype is not None:
            return None if value is None else value.dtype
        array = self.value(value)
        return None if array is None else ir.DataType.from_numpy(array.dtype)

    def overridable(self, value: ir.Value | None) -> bool:
        """Say whether a tensor is an initializer that whoever runs the model can replace."""
        return value is not None and value in self._overridable and value.const_value is not None

    def _resolve(self, wanted: ir.Value) -> None:
        # An explicit stack: chains of constants can be longer than Python's recursion limit.
        stack = [wanted]
        while stack:
            value = stack[-1]
            node = value.producer()
            if value in self._known or node is None:
                stack.pop()
            elif not _foldable(node):
                self._known[value] = None
            else:
                operands = self._operands(node)
                if any(map(self._is_fed, operands)):  # spares the look at all that comes before its other operands
                    self._known.update(dict.fromkeys(node.outputs))
                    continue
                pending = [v for v in operands if v not in self._known and v.producer() is not None]
                if pending:
                    stack.extend(pending)
                else:
                    self._evaluate(node)

    def _opset(self, node: ir.Node) -> int:
        return self._opsets.get(node) or self._model.opset_imports.get("") or int(onnx.defs.onnx_opset_version())

    def _leaf(self, value: ir.Value) -> Array | None:
        if value.const_value is None or value in self._overridable or value.const_value.size > MAX_ELEMENTS:
            return None
        return value.const_value.numpy()

    def _is_fed(self, value: ir.Value) -> bool:
        """Say whether a tensor is known to be no constant."""
        if value.producer() is not None:
            return value in self._known and self._known[value] is None
        return value.const_value is None or value in self._overridable

    def _operands(self, node: ir.Node) -> list[ir.Value]:
        """Return the tensors whose values matter: of some operands only the shape or type does."""
        if node.op_type == "Shape" and _shape_of(node) is not None:
            return []
        values = node.inputs[:1] if node.op_type == "CastLike" else node.inputs
        return [value for value in values if value is not None]

    def _evaluate(self, node: ir.Node) -> None:
        for output in node.outputs:
            self._known[output] = None
        special = _shape_of(node) if node.op_type == "Shape" else None
        if node.op_type == "Constant" and "value" in node.attributes:
            special = node.attributes["value"].as_tensor().numpy()
        if special is not None:
            self._known[node.outputs[0]] = special
            return
        operands = self._operands(node)
        values = [array for array in map(self.value, operands) if array is not None]
        if len(values) < len(operands) or (node.inputs and not operands):
            return
        direct = _DIRECT.get(node.op_type)
        if direct is None:
            feeds = {str(value.name): array for value, array in zip(operands, values, strict=True)}
            results = evaluate(node, feeds, self._opset(node))
        else:
            results = direct(node, values)
        for output, array in zip(node.outputs, results, strict=False):
            self._known[output] = array if array.size <= MAX_ELEMENTS else None


def _foldable(node: ir.Node) -> bool:
    return (
        node.domain in ("", "ai.onnx")
        and node.op_type not in RANDOM_OPERATORS
        and not any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
        and not any(a.is_ref() for a in node.attributes.values())
    )


def _shape_of(node: ir.Node) -> Array | None:
    """Return what a Shape node computes if the dimensions that it reads are known."""
    value = node.inputs[0]
    if value is None or value.shape is None:
        return None
    dims = value.shape[node.attributes.get_int("start", 0) : node.attributes.get_int("end", None)]
    return None if any(not isinstance(dim, int) for dim in dims) else np.asarray(dims, np.int64)


def _cast_like(node: ir.Node, values: list[Array]) -> list[Array]:
    like = node.inputs[1]
    if like is None or like.dtype is None:
        return []
    return [array.astype(like.dtype.numpy()) for array in values]


def _expand(node: ir.Node, values: list[Array]) -> list[Array]:
    array, shape = values
    try:
        return [np.broadcast_to(array, np.broadcast_shapes(array.shape, tuple(shape.tolist())))]
    except ValueError as error:
        logger.debug("%s is taken for not constant: %s", node.name, error)
        return []


def _identity(node: ir.Node, values: list[Array]) -> list[Array]:
    return values


_DIRECT = {"CastLike": _cast_like, "Expand": _expand, "Identity": _identity}
"""Operators that exporters write by the dozen before each layer; the reference takes the longest to set itself up."""


def evaluate(node: ir.Node, feeds: dict[str, Array], version: int) -> list[Array]:
    """Evaluate one node with the reference implementation; no results where it has none for the operator.

    Args:
        node: Any node without subgraphs.
        feeds: Its inputs by name.
        version: Opset of the default domain.
    """
    proto = ir.to_proto(node)
    inputs = [onnx.ValueInfoProto(name=name) for name in feeds]
    outputs = [onnx.ValueInfoProto(name=name) for name in proto.output if name]
    graph = onnx.helper.make_graph([proto], "constant", inputs, outputs)
    single = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)])
    try:
        results = iter(ReferenceEvaluator(single).run(None, feeds))
    except _REFUSALS as error:
        logger.debug("%s is taken for not constant: %s", node.name, error)
        return []
    return [np.asarray(next(results)) if name else np.zeros(0) for name in proto.output]
