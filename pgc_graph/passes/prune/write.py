"""Write new values for constant inputs, in place where that is the same for all who read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.passes.edit import GraphEditor

__all__ = ["Operand", "write_constants"]

Operand: TypeAlias = tuple[ir.Node, int]
"""A node and the index of one of its inputs."""


def write_constants(arrays: Mapping[Operand, NDArray[np.generic]], editor: GraphEditor) -> None:
    """Give constant inputs of nodes new values.

    An initializer keeps its name if all who read it get the same; else each different array becomes a constant of its own.

    Args:
        arrays: The new value by node and input, of the old one's type.
        editor: Of the model.
    """
    by_value: dict[ir.Value, list[Operand]] = {}
    for node, index in arrays:
        value = node.inputs[index]
        assert value is not None
        by_value.setdefault(value, []).append((node, index))
    for value, operands in by_value.items():
        first = arrays[operands[0]]
        alike = all(_equal(arrays[operand], first) for operand in operands[1:])
        if alike and value.is_initializer() and len(operands) == len(value.uses()) and not value.is_graph_output():
            _overwrite(value, first)
        else:
            _replace(value, operands, arrays, editor)


def _equal(left: NDArray[np.generic], right: NDArray[np.generic]) -> bool:
    return left.shape == right.shape and left.tobytes() == right.tobytes()


def _overwrite(value: ir.Value, array: NDArray[np.generic]) -> None:
    dtype = value.dtype or ir.DataType.from_numpy(array.dtype)
    value.const_value = ir.tensor(np.array(array, order="C"), dtype=dtype, name=value.name)
    value.shape = ir.Shape(array.shape)


def _replace(
    value: ir.Value, operands: list[Operand], arrays: Mapping[Operand, NDArray[np.generic]], editor: GraphEditor
) -> None:
    made: dict[tuple[tuple[int, ...], bytes], ir.Value] = {}
    for node, index in operands:
        array = arrays[node, index]
        key = (array.shape, array.tobytes())
        if key not in made:
            dtype = value.dtype or ir.DataType.from_numpy(array.dtype)
            made[key] = editor.constant(f"{value.name}_pruned", array, dtype, node)
        node.replace_input_with(index, made[key])
    editor.remove_orphans([value])
