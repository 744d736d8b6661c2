"""Comparisons and Pow, whose types were narrower (ONNX operator pages).

    IsNaN                        9   new
    Equal                       11   takes floats; before, booleans and integers
    LessOrEqual, GreaterOrEqual 12   new
    Pow                         12   the exponent may have another type than the base

A comparison with NaN is false, so a <= b is neither a > b nor a or b NaN.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pgc_graph.passes.opset.site import Adapter, CannotConvertError, Site

__all__ = ["equal_down", "is_nan_down", "or_equal_down", "pow_down"]


def or_equal_down(opposite: str) -> Adapter:
    """Return an adapter that writes `<=` or `>=` as not the opposite, and both numbers."""

    def write(site: Site) -> str:
        wrong = _boolean(site, opposite, site.operand(0), site.operand(1))
        site.replace(_boolean(site, "Not", _or_not_a_number(site, wrong)))
        return f"{opposite}, IsNaN, Not"

    return write


def equal_down(site: Site) -> str:
    """Write equality of floats as neither less nor greater, and both numbers."""
    a, b = site.operand(0), site.operand(1)
    if not site.dtype().is_floating_point():
        return ""
    different = _boolean(site, "Or", _boolean(site, "Less", a, b), _boolean(site, "Greater", a, b))
    site.replace(_boolean(site, "Not", _or_not_a_number(site, different)))
    return "Less, Greater, IsNaN, Not"


def _or_not_a_number(site: Site, wrong: ir.Value) -> ir.Value:
    """Add to a condition that one of both operands is NaN; integers and most constants cannot be."""
    for value in dict.fromkeys((site.operand(0), site.operand(1))):
        array = site.constants.value(value)
        if site.dtype().is_floating_point() and (array is None or np.any(np.isnan(array))):
            wrong = _boolean(site, "Or", wrong, _boolean(site, "IsNaN", value, like=value))
    return wrong


def _boolean(site: Site, op_type: str, *operands: ir.Value, like: ir.Value | None = None) -> ir.Value:
    return site.emit(op_type, operands, like=like or site.node.outputs[0], dtype=ir.DataType.BOOL)


def is_nan_down(site: Site) -> str:
    """Write it as neither above 0 nor below 1, which no number is."""
    x = site.operand(0)
    zero, one = (site.constant(name, np.array(number), site.dtype()) for name, number in (("zero", 0), ("one", 1)))
    tests = [site.emit("Greater", [x, zero], like=x, dtype=ir.DataType.BOOL)]
    tests.append(site.emit("Less", [x, one], like=x, dtype=ir.DataType.BOOL))
    number = site.emit("Or", tests, like=x, dtype=ir.DataType.BOOL)
    site.replace(site.emit("Not", [number], like=x, dtype=ir.DataType.BOOL))
    return "Greater, Less, Or, Not"


def pow_down(site: Site) -> str:
    """Give the exponent the base's type; the base's own is what counts."""
    base, exponent = site.operand(0), site.operand(1)
    held, other = site.constants.dtype(base), site.constants.dtype(exponent)
    if held == other or held is None or other is None:
        return ""
    array = site.constants.value(exponent)
    exact = array is not None and np.array_equal(array.astype(held.numpy()).astype(array.dtype), array)
    if not exact and not (held.is_floating_point() and other.is_integer()):
        raise CannotConvertError(f"its exponent is {other.name.lower()}, its base {held.name.lower()}")
    site.set_input(1, site.emit("Cast", [exponent], {"to": int(held)}, like=exponent, dtype=held))
    return "exponent cast"
