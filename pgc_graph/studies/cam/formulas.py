"""The formulas of class-activation maps, written as ONNX nodes.

`A` is an activation with channels k and places i, `G` the gradient of the class's logit y by it, both float32 and of one
shape. A method weighs the channels and adds them up, L = ReLU(Σ_k w_k A_k):

    gradcam      w_k = mean_i G_ki                                 Selvaraju et al. 2017, equations 1 and 2
    gradcam++    w_k = Σ_i α_ki ReLU(G_ki)                         Chattopadhay et al. 2018, equations 5 and 19
                 α = G² / (2 G² + Σ_j A_kj · G³) = 1 / (2 + Σ_j A_kj · G)
    xgradcam     w_k = Σ_i G_ki A_ki / Σ_i A_ki                    Fu et al. 2020, equation 8
    layercam     L = ReLU(Σ_k ReLU(G_k) A_k), place by place       Jiang et al. 2021, equations 5 and 6

1. gradcam++ explains exp(y), whose derivatives are exp(y) times powers of G: the factor exp(y), one number an image, is
   left out. G² is cancelled, since G³ underflows in float32 where G does not; where G is 0, ReLU(G) is 0 as well.
2. Where a denominator is 0, it is taken for 1: in xgradcam a channel that is 0 everywhere then weighs 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import onnx_ir as ir

from pgc_graph.autodiff.context import Writer
from pgc_graph.autodiff.forms import equal, reduce, scalar

__all__ = ["FORMULAS", "Axes", "Formula", "gradcam", "gradcam_plus_plus", "layercam", "xgradcam"]


@dataclass(frozen=True)
class Axes:
    """Where a tensor has its channels and its places.

    Attributes:
        channel: The axis of the channels: 1 in `(N, C, H, W)`, 2 in tokens `(N, T, C)`.
        places: All other axes but that of the batch: (2, 3) and (1,).
    """

    channel: int
    places: tuple[int, ...]


Formula = Callable[[Writer, ir.Value, ir.Value, Axes], ir.Value]
"""From a writer, an activation, its gradient and its axes to the map `(N, places...)`."""


def gradcam(writer: Writer, a: ir.Value, g: ir.Value, axes: Axes) -> ir.Value:
    """Weigh each channel by its mean gradient."""
    return _weighted(writer, a, reduce(writer, "ReduceMean", g, axes.places), axes)


def gradcam_plus_plus(writer: Writer, a: ir.Value, g: ir.Value, axes: Axes) -> ir.Value:
    """Weigh each channel by its positive gradients, each place by how much it takes to explain the class (case 1)."""
    total = reduce(writer, "ReduceSum", a, axes.places)
    denominator = writer.emit("Add", writer.emit("Mul", total, g), scalar(writer, 2.0, g))
    share = writer.emit("Div", writer.emit("Relu", g), _not_zero(writer, denominator))
    return _weighted(writer, a, reduce(writer, "ReduceSum", share, axes.places), axes)


def xgradcam(writer: Writer, a: ir.Value, g: ir.Value, axes: Axes) -> ir.Value:
    """Weigh each channel by its mean gradient, each place by its share of the channel (case 2)."""
    product = reduce(writer, "ReduceSum", writer.emit("Mul", a, g), axes.places)
    total = _not_zero(writer, reduce(writer, "ReduceSum", a, axes.places))
    return _weighted(writer, a, writer.emit("Div", product, total), axes)


def layercam(writer: Writer, a: ir.Value, g: ir.Value, axes: Axes) -> ir.Value:
    """Weigh each place of each channel by its own positive gradient."""
    return _weighted(writer, a, writer.emit("Relu", g), axes)


FORMULAS: Mapping[str, Formula] = MappingProxyType(
    {"gradcam": gradcam, "gradcam++": gradcam_plus_plus, "layercam": layercam, "xgradcam": xgradcam}
)
"""The formula of each method that can be written as nodes."""


def _weighted(writer: Writer, a: ir.Value, weights: ir.Value, axes: Axes) -> ir.Value:
    weighed = writer.emit("Mul", a, weights)
    return writer.emit("Relu", reduce(writer, "ReduceSum", weighed, [axes.channel], keepdims=False))


def _not_zero(writer: Writer, x: ir.Value) -> ir.Value:
    return writer.emit("Where", equal(writer, x, scalar(writer, 0.0, x)), scalar(writer, 1.0, x), x)
