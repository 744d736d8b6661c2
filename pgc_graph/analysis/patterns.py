"""Which activation a node completes, whether it is one operator or several.

1. `silu`: x * sigmoid(x) (Elfwing et al. 2018), a Mul whose other operand is the Sigmoid's own input.
2. `gate`: x * sigmoid(something else), the form of squeeze-and-excitation (Hu et al. 2018); `hard_gate` with a
   HardSigmoid, as in MobileNetV3 (Howard et al. 2019).
3. `swish`: x * sigmoid(beta * x) with a constant beta (Ramachandran et al. 2017), or ONNX's Swish (opset 24).
4. `relu`: Relu, or a Clip whose lower bound is 0, as ReLU6 is exported.
5. `gelu`: Gelu (opset 20), or x * 0.5 * (1 + erf(x / sqrt 2)) in any order, or its tanh form (Hendrycks and Gimpel 2016).
6. `hardswish`: HardSwish (opset 14), x * HardSigmoid(x), or x * clip(x + 3, 0, 6) / 6 in any order.

Of an activation of several nodes, the last one has the kind: its output is what the layer hands on.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

__all__ = ["PATTERNS", "SIGMOID_MUL", "activation_kind", "pattern_kinds"]

SIGMOID_MUL = frozenset({"silu", "gate"})
"""The kinds of Sigmoid→Mul products."""

_SYNONYMS = {"se": frozenset({"gate", "hard_gate"})}
_KINDS = frozenset({"silu", "gate", "hard_gate", "swish", "relu", "gelu", "hardswish"})
PATTERNS = ("silu", "relu", "gelu", "hardswish", "swish", "se", "all")
"""What a pattern may be called."""

_BY_OPERATOR = {"Relu": "relu", "Gelu": "gelu", "HardSwish": "hardswish", "Swish": "swish"}
_SCALING = frozenset({"Mul", "Div"})
_POLYNOMIAL = frozenset({"Add", "Sub", "Mul", "Div", "Pow"})
_MOST_STEPS = 16  # nodes of one activation; the tanh form of gelu has nine


def pattern_kinds(pattern: str) -> frozenset[str]:
    """Return the kinds that a pattern stands for: itself, `gate` and `hard_gate` for `se`, every one for `all`."""
    if pattern == "all":
        return _KINDS
    return _SYNONYMS.get(pattern, frozenset({pattern}) & _KINDS)


def activation_kind(node: ir.Node) -> str:
    """Return the kind of activation that a node completes, or an empty text."""
    if not _is_standard(node):
        return ""
    if node.op_type in _BY_OPERATOR:
        return _BY_OPERATOR[node.op_type]
    if node.op_type == "Clip":
        return "relu" if _clips_at_zero(node) else ""
    if node.op_type not in _SCALING:
        return ""
    return _sigmoid_product(node) or _scaled_product(node)


def _is_standard(node: ir.Node) -> bool:
    return node.domain in ("", "ai.onnx")


def _made_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type in op_types and _is_standard(node) else None


def _is_constant(value: ir.Value | None) -> bool:
    if value is None or value.is_graph_input():
        return value is None
    return value.const_value is not None or _made_by(value, "Constant") is not None


def _sigmoid_product(node: ir.Node) -> str:
    """Tell the products with a sigmoid apart, by what the sigmoid is fed: cases 1 to 3 and HardSigmoid's of case 6."""
    if node.op_type != "Mul":
        return ""
    for gate, other in (node.inputs, node.inputs[::-1]):
        sigmoid = _made_by(gate, "Sigmoid", "HardSigmoid")
        if sigmoid is None:
            continue
        fed = sigmoid.inputs[0]
        if sigmoid.op_type == "HardSigmoid":
            return "hardswish" if fed is other else "hard_gate"
        if fed is other:
            return "silu"
        scaling = _made_by(fed, "Mul")
        if scaling is not None and other in scaling.inputs and any(map(_is_constant, scaling.inputs)):
            return "swish"
        return "gate"
    return ""


def _scaled_product(node: ir.Node) -> str:
    """Recognise x * constant * f(x) for the f of cases 5 and 6, in whatever order it is multiplied out."""
    for x, curve in _splits(node):
        if _made_by(curve, "Clip") is not None and _depends_only_on(curve.producer(), x):
            return "hardswish"
        total = _made_by(curve, "Add")
        bends = [_made_by(operand, "Erf", "Tanh") for operand in (total.inputs if total is not None else ())]
        if any(bend is not None and _depends_only_on(bend, x) for bend in bends):
            return "gelu"
    return ""


def _splits(node: ir.Node) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Yield the two factors, in both orders, of a product of two tensors and a constant made by two nodes."""
    scaled = _scaled(node)
    product = _made_by(scaled, "Mul")
    if product is not None:
        pair = product.inputs
    elif node.op_type == "Mul" and scaled is None:
        inner = next(((value, _made_by(value, *_SCALING)) for value in node.inputs if _made_by(value, *_SCALING)), None)
        if inner is None or inner[1] is None:
            return
        pair = (_scaled(inner[1]), next((value for value in node.inputs if value is not inner[0]), None))
    else:
        return
    for first, second in (pair, pair[::-1]):
        if first is not None and second is not None:
            yield first, second


def _scaled(node: ir.Node) -> ir.Value | None:
    """Return what a node multiplies by a constant or divides by one, or None if it does neither."""
    first, second = node.inputs
    if _is_constant(second):
        return first
    return second if node.op_type == "Mul" and _is_constant(first) else None


def _depends_only_on(node: ir.Node | None, x: ir.Value) -> bool:
    """Return whether a node's first operand is a polynomial of x: sums, products and powers of x and of constants."""
    if node is None:
        return False
    waiting, found = [node.inputs[0]], False
    for _ in range(_MOST_STEPS):
        if not waiting:
            return found
        value = waiting.pop()
        if value is x:
            found = True
        elif not _is_constant(value):
            inner = _made_by(value, *_POLYNOMIAL)
            if inner is None:
                return False
            waiting.extend(inner.inputs)
    return False


def _clips_at_zero(node: ir.Node) -> bool:
    attribute = node.attributes.get("min")  # before opset 11
    if attribute is not None:
        return attribute.as_float() == 0.0
    lower = node.inputs[1] if len(node.inputs) > 1 else None
    if lower is None:
        return False
    if lower.const_value is None:
        constant = _made_by(lower, "Constant")
        held = None if constant is None else constant.attributes.get("value")
        return held is not None and held.as_tensor().size == 1 and float(held.as_tensor().numpy().item()) == 0.0
    return lower.const_value.size == 1 and float(lower.const_value.numpy().item()) == 0.0
