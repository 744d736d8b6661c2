"""Ablation of channels against the plain loop: every channel of every tensor, the whole model, one image at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings

from calibrated import calibrated_pgc, smooth_images
from channel_checks import MODES, check_channels, graph, methods
from pgc_graph import modelio
from pgc_graph.analysis.interface import dimensions
from pgc_graph.analysis.macs import count_macs
from pgc_graph.analysis.targets import TargetQuery, find_targets
from pgc_graph.passes.shapes import infer_shapes
from pgc_graph.studies.ablation import Intervention
from pgc_graph.studies.ablation.channels.program import compile_channels
from pgc_graph.studies.ablation.plan import Question
from random_networks import networks

EVERY = TargetQuery(include_all=True)


@pytest.mark.parametrize("intervention", MODES.values(), ids=MODES)
def test_pgc_equals_plain_loop(intervention: Intervention) -> None:
    result = check_channels(calibrated_pgc("s"), smooth_images(3), TargetQuery(), intervention, every=47, size=2)
    assert methods(result) == {"compiled"}
    assert len(result.channels) == 2176
    assert result.channels[0].delta.mean > 1e-3  # the interventions do something


@given(network=networks())
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.parametrize("mode", ["zero", "noise"])
def test_random_network_equals_plain_loop(mode: str, network: onnx.ModelProto) -> None:
    images = np.random.default_rng(3).random((3, 3, 8, 8), np.float32) - 0.5
    result = check_channels(modelio.load(network), images, EVERY, MODES[mode], tolerance=2e-5)
    assert methods(result) == {"compiled"}


BODIES = {
    "depthwise-then-strided": (
        "d = Conv <group = 4, pads = [1, 1, 1, 1]> (p, w4x1x3x3)  s = Sigmoid (d)  e = Mul (d, s)"
        "  last = Conv <strides = [2, 2], pads = [1, 0, 0, 1]> (e, w4x4x3x3)"
    ),
    "grouped": "c = Conv <group = 2, pads = [1, 1, 1, 1]> (p, w6x2x3x3)  last = Relu (c)",
    "dilated": "c = Conv <dilations = [2, 2]> (p, w4x4x2x2)  last = Tanh (c)",
    "auto-pad": """c = Conv <auto_pad = "SAME_UPPER"> (p, w4x4x3x3)  last = Tanh (c)""",
    "two-filters-a-channel": "c = Conv <group = 4> (p, w8x1x1x1)  last = Relu (c)",
    "squeeze-and-excite": (
        "m = GlobalAveragePool (p)  f = Conv (m, w2x4x1x1)  r = Relu (f)  g = Conv (r, w4x2x1x1)  h = HardSigmoid (g)"
        "  q = Mul (p, h)  c = Conv (q, w5x4x1x1, w5)  t = Tanh (c)  last = Conv (t, w4x5x1x1)"
    ),
    "excited-by-others": (
        "m = GlobalMaxPool (p)  g = Conv (m, w4x4x1x1)  h = Sigmoid (g)  k = Softplus (p)  j = Exp (x)"
        "  i = Conv (j, w4x3x1x1)  q = Mul (h, i)  c = Conv (q, w4x4x1x1)  last = Add (c, k)"
    ),
    "excited-and-read-twice": (
        "m = GlobalAveragePool (p)  f = Conv (m, w4x4x1x1)  g = Sigmoid (f)  q = Mul (p, g)  c = Conv (q, w4x4x1x1)"
        "  last = Add (c, q)"
    ),
    "residual": "c = Conv (p, w4x4x1x1)  r = Add (c, p)  s = Sigmoid (r)  last = Mul (r, s)",
    "residual-of-others": ("c = Conv (p, w4x4x1x1)  o = Neg (p)  k = Relu (sum)  r = Sub (c, k)  last = Mul (r, r)"),
    "pooled": (
        "a1 = AveragePool <kernel_shape = [2, 2]> (p)  m = MaxPool <kernel_shape = [2, 2]> (a1)"
        "  last = Conv (m, w4x4x1x1)"
    ),
    "normalised-by-instance": "i = InstanceNormalization (p, w4, w4)  last = Conv (i, w4x4x1x1)",
    "softmax-over-channels": "s = Softmax <axis = 1> (p)  last = Mul (s, p)",
    "concat-of-three": (
        "u = Relu (p)  v = Neg (u)  c = Concat <axis = 1> (v, x, u)  last = Conv <pads = [1, 1, 1, 1]> (c, w4x11x3x3)"
    ),
    "concat-then-pool": (
        "u = Relu (p)  c = Concat <axis = 1> (x, u)  g = GlobalAveragePool (c)  s = Sigmoid (g)  last = Mul (c, s)"
    ),
    "head-of-two-pools": (
        "u = ReduceMean <axes = [2, 3], keepdims = 0> (p)  v = ReduceMax <axes = [2, 3], keepdims = 0> (p)"
        "  c = Concat <axis = -1> (u, v)  h = Gemm <alpha = 0.5, transB = 1> (c, w6x8, w6)  r = Relu (h)"
        "  l = MatMul (r, w6x4)  last = Unsqueeze (l, spatial)"
    ),
    "flattened": (
        "u = GlobalAveragePool (p)  f = Flatten (u)  r = Reshape (f, flat)  t = Tanh (r)  l = MatMul (t, w4x4)"
        "  last = Unsqueeze (l, spatial)"
    ),
    "tokens": (
        "s = Shape <start = 0, end = 2> (p)  m = Constant <value_ints = [-1]> ()  k = Concat <axis = 0> (s, m)"
        "  t = Reshape (p, k)  o = Transpose <perm = [0, 2, 1]> (t)  l = MatMul (o, w4x4)"
        "  b = Transpose <perm = [0, 2, 1]> (l)"
        "  y = Tanh (b)  z = Shape (p)  last = Reshape (y, z)"
    ),
    "captured-by-a-subgraph": (
        """yes = Constant <value = bool {1}> ()
        inner = If (yes) < then_branch = a () => (float[n, 4, 6, 6] t) { u = Sigmoid (p)  t = Mul (u, sum) },
                           else_branch = b () => (float[n, 4, 6, 6] e) { e = Identity (p) } >
        last = Conv (inner, w4x4x1x1)"""
    ),
    "leads-nowhere": "unused = Neg (p)  k = Relu (sum)  last = Identity (k)",
}


@pytest.mark.parametrize("mode", ["zero", "resample"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_odd_graph_equals_plain_loop(body: str, mode: str) -> None:
    images = np.random.default_rng(5).random((5, 3, 6, 6), np.float32) - 0.5
    query = TargetQuery(regexes=("^[a-oq-z]$|^p$|^last$|^row$|^inner$|^unused$",))
    result = check_channels(graph(body), images, query, MODES[mode], size=2)
    assert methods(result) == {"compiled"}


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        # Block 3 is run to its projection: squeeze-and-excite (2 x 256 x 32), project, head (128 x 64 + 64).
        ("features.3/block/block.5/Mul", 2 * 256 * 32 - 256 * 32 + 64 * 256 * 64 + 128 * 64 + 64),
        ("features.3/block/block.6/Mul", 128 * 64 + 64),  # rank one at the projection
        ("features.3/out_act/Mul", 64),  # rank one at the head's first layer
    ],
)
def test_channel_costs_what_is_below_the_first_mixing_operator(name: str, macs: int, repository: Path) -> None:
    model = infer_shapes(modelio.load(repository / "models" / "pgc_s_32x32.onnx"))
    question = Question(model, (f"/base_model/features/{name}_output_0",), ("prob_pointing",), Intervention())
    program = compile_channels(question)
    assert program is not None
    shapes = {str(v.name): (1, *(dim or 0 for dim in (dimensions(v) or ())[1:])) for v in program.items.graph.inputs}
    shapes[program.channels] = (10,)
    count = count_macs(program.items, input_shapes=shapes)
    assert not count.uncounted
    assert count.total * count.batch == 10 * macs


def test_corpus_model_is_compiled(corpus_model: Callable[[str], Path]) -> None:
    model = modelio.load(corpus_model("resnet20_cifar10"))
    images = smooth_images(2, seed=4)
    tensors = [target.tensor for target in find_targets(model) if target.op_type in ("Relu", "Add")]
    query = TargetQuery(regexes=tuple(f"^{re.escape(name)}$" for name in tensors[::6]))
    result = check_channels(model, images, query, MODES["zero"], every=11, target="9")
    assert methods(result) == {"compiled"}
