"""Gradients of sums of products of named axes (ONNX operator Einsum).

y = einsum("ab,bc->ac", A, B): gA = einsum("ac,bc->ab", g, B), the output's gradient put in the operand's place. Then

1. an axis of the operand that neither the output nor another operand has was summed over: gA is the same all along it;
2. an operand with an axis twice was read on its diagonal: gA is 0 off it;
3. an axis of size 1 that was broadcast gets the sum.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from pgc_graph.autodiff.context import Context, Gradients
from pgc_graph.autodiff.forms import expand_like, sum_to, unsqueeze

__all__ = ["einsum"]


def einsum(context: Context) -> Gradients:
    """y = the sum over all axes that the output does not name of the product of the operands."""
    operands = [context.operand(index) for index in range(len(context.node.inputs))]
    labels, output = _labels(context, operands)
    return [
        _operand(context, index, operands, labels, output) if context.wants(index) else None
        for index in range(len(operands))
    ]


def _operand(
    context: Context, index: int, operands: Sequence[ir.Value], labels: Sequence[str], output: str
) -> ir.Value:
    own, x = labels[index], operands[index]
    factors = [context.gradient, *(value for other, value in enumerate(operands) if other != index)]
    named = [output, *(label for other, label in enumerate(labels) if other != index)]
    single = "".join(dict.fromkeys(own))
    kept = "".join(label for label in single if label in "".join(named))
    value = context.emit("Einsum", *factors, equation=f"{','.join(named)}->{kept}")
    missing = [place for place, label in enumerate(single) if label not in kept]
    value = unsqueeze(context, value, missing)
    if len(single) == len(own):
        return _spread(context, value, x, missing)
    return _on_diagonal(context, value, x, own, single)


def _spread(context: Context, value: ir.Value, x: ir.Value, missing: Sequence[int]) -> ir.Value:
    """Cases 1 and 3: spread along axes that were summed over, sum along those that were broadcast."""
    dims, sizes = context.dims(x), context.dims(value)
    if any(
        own == 1 and size != 1 for axis, (own, size) in enumerate(zip(dims, sizes, strict=True)) if axis not in missing
    ):
        value = sum_to(context, value, x)
    return expand_like(context, value, x) if missing else value


def _on_diagonal(context: Context, value: ir.Value, x: ir.Value, own: str, single: str) -> ir.Value:
    """Case 2."""
    free = (letter for letter in string.ascii_letters if letter not in own)
    sizes = dict(zip(own, context.static_dims(x), strict=True))
    target, masks, names = "", [], []
    for place, label in enumerate(own):
        if label in own[:place]:
            fresh = next(free)
            masks.append(context.constant(np.eye(sizes[label]), like=x))
            names.append(label + fresh)
            target += fresh
        else:
            target += label
    return context.emit("Einsum", value, *masks, equation=f"{','.join([single, *names])}->{target}")


def _labels(context: Context, operands: Sequence[ir.Value]) -> tuple[list[str], str]:
    """Return the axes of each operand and of the output, "..." spelled out."""
    equation = str(context.attribute("equation")).replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    free = [letter for letter in reversed(string.ascii_letters) if letter not in equation]
    counts = [
        context.rank(value) - len(term.replace("...", "")) if "..." in term else 0
        for term, value in zip(terms, operands, strict=True)
    ]
    widest = max(counts)
    batch = "".join(free[:widest])
    if not arrow:
        once = sorted(letter for letter in set(left) - set(",.") if left.count(letter) == 1)
        right = ("..." if "..." in left else "") + "".join(once)
    spelled = [term.replace("...", batch[widest - count :]) for term, count in zip(terms, counts, strict=True)]
    return spelled, right.replace("...", batch)
