"""Which rule belongs to which operator: the one place where all of them are listed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pgc_graph.autodiff import (
    activations,
    conv,
    einsum,
    elementwise,
    linear,
    norm,
    pool,
    pool_windows,
    products,
    reduce,
    resize,
    selection,
    shape,
    smooth,
)
from pgc_graph.autodiff.context import Context, Gradients, Rule

__all__ = ["RULES", "no_gradient"]


def no_gradient(context: Context) -> Gradients:
    """A step function, whose derivative is zero wherever it has one."""
    return [None for _ in context.node.inputs]


_STEPS: dict[str, Rule] = dict.fromkeys(("Ceil", "Floor", "Round", "Sign"), no_gradient)

_READS_SHAPE_ONLY: dict[str, Rule] = dict.fromkeys(
    ("Bernoulli", "EyeLike", "RandomNormalLike", "RandomUniformLike", "Shape", "Size"), no_gradient
)

_ELEMENTWISE: dict[str, Rule] = {
    "Abs": elementwise.absolute,
    "Add": elementwise.add,
    "Cast": elementwise.convert,
    "CastLike": elementwise.convert,
    "Div": elementwise.div,
    "Dropout": elementwise.dropout,
    "Exp": elementwise.exp,
    "Identity": elementwise.identity,
    "Log": elementwise.log,
    "Max": elementwise.extremum,
    "Mean": elementwise.mean,
    "Min": elementwise.extremum,
    "Mul": products.multiply,
    "Neg": elementwise.neg,
    "Pow": elementwise.power,
    "Reciprocal": elementwise.reciprocal,
    "Sqrt": elementwise.sqrt,
    "Sub": elementwise.sub,
    "Sum": elementwise.add,
    "Where": elementwise.where,
}

_ACTIVATIONS: dict[str, Rule] = {
    "Celu": activations.celu,
    "Clip": activations.clip,
    "Elu": activations.elu,
    "Erf": smooth.erf,
    "Gelu": smooth.gelu,
    "HardSigmoid": activations.hard_sigmoid,
    "HardSwish": activations.hard_swish,
    "LeakyRelu": activations.leaky_relu,
    "Mish": smooth.mish,
    "PRelu": activations.prelu,
    "Relu": activations.relu,
    "Selu": activations.selu,
    "Sigmoid": activations.sigmoid,
    "Softplus": smooth.softplus,
    "Softsign": smooth.softsign,
    "Swish": smooth.swish,
    "Tanh": activations.tanh,
    "ThresholdedRelu": activations.relu,
}

_WINDOWS: dict[str, Rule] = {
    "AveragePool": pool_windows.average_pool,
    "Conv": conv.conv,
    "ConvTranspose": conv.conv_transpose,
    "GlobalAveragePool": pool.global_average_pool,
    "GlobalLpPool": pool.global_lp_pool,
    "GlobalMaxPool": pool.global_max_pool,
    "LpPool": pool_windows.lp_pool,
    "MaxPool": pool_windows.max_pool,
}

_PLACES: dict[str, Rule] = {
    "Concat": selection.concat,
    "DepthToSpace": shape.depth_to_space,
    "Einsum": einsum.einsum,
    "Expand": shape.expand,
    "Flatten": shape.reshaped,
    "Gather": selection.gather,
    "Pad": selection.pad_rule,
    "Reshape": shape.reshaped,
    "Resize": resize.resize,
    "Slice": selection.slice_rule,
    "SpaceToDepth": shape.space_to_depth,
    "Split": selection.split,
    "Squeeze": shape.reshaped,
    "Tile": shape.tile,
    "Transpose": shape.transposed,
    "Unsqueeze": shape.reshaped,
    "Upsample": resize.resize,
}

_PRODUCTS: dict[str, Rule] = {
    "Gemm": linear.gemm,
    "MatMul": linear.matmul,
}

_NORMALISATION: dict[str, Rule] = {
    "BatchNormalization": norm.batch_normalization,
    "GroupNormalization": norm.group_normalization,
    "InstanceNormalization": norm.instance_normalization,
    "LayerNormalization": norm.layer_normalization,
    "LogSoftmax": norm.log_softmax,
    "RMSNormalization": norm.layer_normalization,
    "Softmax": norm.softmax,
}

_REDUCTIONS: dict[str, Rule] = {
    "ReduceL1": reduce.reduce_l1,
    "ReduceL2": reduce.reduce_l2,
    "ReduceLogSum": reduce.reduce_log_sum,
    "ReduceLogSumExp": reduce.reduce_log_sum_exp,
    "ReduceMax": reduce.reduce_extremum,
    "ReduceMean": reduce.reduce_mean,
    "ReduceMin": reduce.reduce_extremum,
    "ReduceProd": reduce.reduce_prod,
    "ReduceSum": reduce.reduce_sum,
    "ReduceSumSquare": reduce.reduce_sum_square,
}

_SECTIONS = (
    _STEPS,
    _READS_SHAPE_ONLY,
    _ELEMENTWISE,
    _ACTIVATIONS,
    _PRODUCTS,
    _NORMALISATION,
    _REDUCTIONS,
    _WINDOWS,
    _PLACES,
)

RULES: Mapping[tuple[str, str], Rule] = MappingProxyType(
    {("", op_type): rule for section in _SECTIONS for op_type, rule in section.items()}
)
"""The rule of each operator, by (domain, operator)."""
