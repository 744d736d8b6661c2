"""The judge of gradient rules: one node's gradient against torch in float64 and against central differences.

The gradient model is run by onnxruntime in float64 (where it has the kernels, else only in float32) and in float32. Torch
gets the same inputs in float64. Central differences go along a random direction of each input, through onnxruntime's run of
the model without gradients, so they judge without any knowledge of the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from hypothesis import strategies as st

from pgc_graph import modelio
from pgc_graph.autodiff.gradient import GradientModel, gradient_graph
from pgc_graph.errors import ModelError
from pgc_graph.runtime.opsets import newest_opset
from pgc_graph.runtime.session import RuntimeOptions, open_session

Array = np.ndarray
Reference = Callable[..., "torch.Tensor | Sequence[torch.Tensor]"]

OPSETS = (9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 24, newest_opset())
"""Opsets to draw from."""


def opsets(since: int = 9, last: int = OPSETS[-1]) -> st.SearchStrategy[int]:
    """Draw an opset that has an operator, and that onnxruntime runs it in."""
    return st.sampled_from([opset for opset in OPSETS if since <= opset <= last])


def off_kinks(rng: np.random.Generator, shape: Sequence[int], limit: float = 4.0) -> Array:
    """Draw numbers that keep 0.007 away from every multiple of 0.02, where kinks are."""
    return np.round(rng.uniform(-limit, limit, shape) * 50) / 50 + 0.007


OPTIONS = RuntimeOptions("cpu")


def single_node_model(
    op_type: str,
    inputs: Sequence[Array | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    opset: int,
    constants: Collection[int] = (),
    symbolic: Mapping[int, Sequence[int]] | None = None,
    outputs: int = 1,
) -> ir.Model:
    """Build a model of one node with inputs x0, x1, ... and outputs y0, y1, ...

    Args:
        op_type: The operator.
        inputs: An example of each input, None where it is left out.
        attributes: The node's attributes.
        opset: The opset.
        constants: Which inputs are initializers instead of graph inputs.
        symbolic: Axes whose dimensions are symbolic, by input; equal sizes on an axis share a symbol. By default the
            first axis of input 0.
        outputs: How many outputs the node has.
    """
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(inputs)]
    node = onnx.helper.make_node(op_type, names, [f"y{i}" for i in range(outputs)], name="node", **(attributes or {}))
    free = {0: (0,)} if symbolic is None else symbolic
    given = [
        onnx.helper.make_tensor_value_info(
            f"x{i}",
            onnx.helper.np_dtype_to_tensor_dtype(x.dtype),
            [f"axis{axis}of{size}" if axis in free.get(i, ()) else size for axis, size in enumerate(x.shape)],
        )
        for i, x in enumerate(inputs)
        if x is not None and i not in constants
    ]
    weights = [onnx.numpy_helper.from_array(np.asarray(inputs[i]), f"x{i}") for i in constants if inputs[i] is not None]
    results = [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)]
    version = onnx.helper.make_opsetid("", opset)
    graph = onnx.helper.make_graph([node], "single", given, results, weights)
    ir_version = max(8, onnx.helper.find_min_ir_version_for([version]))
    proto = onnx.helper.make_model_gen_version(graph, opset_imports=[version], ir_version=ir_version)
    proto = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    if not proto.graph.output[0].type.tensor_type.HasField("shape"):  # onnx infers none for GroupNormalization
        proto.graph.output[0].type.CopyFrom(proto.graph.input[0].type)
    return modelio.load(proto)


def check_rule(
    op_type: str,
    inputs: Sequence[Array | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    opset: int,
    reference: Reference,
    wrt: Sequence[int] | None = None,
    constants: Collection[int] = (),
    symbolic: Mapping[int, Sequence[int]] | None = None,
    fixed: Collection[int] = (),
    outputs: int = 1,
    tolerance: float = 1e-5,
    exact: float = 1e-9,
    smooth: bool = True,
    seed: int = 0,
) -> GradientModel:
    """Judge the rule of one operator on one example.

    Args:
        op_type: The operator.
        inputs: Its inputs, floats as float64 (or float32), None where left out.
        attributes: Its attributes.
        opset: The opset of the model.
        reference: The same function in torch, of all inputs that are not None.
        wrt: The inputs to differentiate by; by default all that hold floats.
        constants: Which inputs are initializers.
        symbolic: Axes whose dimensions are symbolic, by input; by default the first axis of input 0.
        fixed: Which inputs keep their type in every run.
        outputs: How many outputs are differentiated.
        tolerance: Allowed error in float32, relative to the largest element of the gradient (at least to 1).
        exact: The same in float64.
        smooth: Whether central differences apply: no kink within 1e-3 of any input.
        seed: Of the random seeds of the outputs, and of the directions.

    Returns:
        The gradient model in float32.
    """
    rng = np.random.default_rng(seed)
    floats = [i for i, x in enumerate(inputs) if x is not None and x.dtype.kind == "f" and i not in fixed]
    wanted = floats if wrt is None else list(wrt)
    made: list[GradientModel] = []
    double = "tensor(double)" in onnx.defs.get_schema(op_type, opset).outputs[0].types
    for dtype, allowed in [(np.float64, exact)] * double + [(np.float32, tolerance)]:
        typed = [x.astype(np.float32).astype(dtype) if i in floats else x for i, x in enumerate(inputs)]
        model = single_node_model(
            op_type, typed, attributes, opset=opset, constants=constants, symbolic=symbolic, outputs=outputs
        )
        gradient = _gradient_of(model, outputs, wanted)
        feeds = {f"x{i}": x for i, x in enumerate(typed) if x is not None and i not in constants}
        expected = _torch_results(reference, typed, wanted, outputs, rng, dtype)
        got = _run(gradient.model, {**feeds, **expected.seeds})
        if got is None:
            assert dtype == np.float64, f"onnxruntime cannot run {op_type}'s gradient in float32 at opset {opset}"
            continue
        for what, ours, theirs in zip(expected.labels, got, expected.arrays, strict=True):
            assert (ours.dtype, ours.shape) == (dtype, theirs.shape), what
            error = np.abs(ours - theirs).max(initial=0)
            assert error <= allowed * max(1.0, np.abs(theirs).max(initial=0)), (what, error)
        if smooth:
            fine = dtype == np.float64 and exact < 1e-8
            _check_differences(model, feeds, expected.seeds, dict(zip(wanted, got[outputs:], strict=True)), rng, fine)
        made.append(gradient)
    return made[-1]


class _Expected:
    """What torch computes: outputs, then gradients, for some random seeds of the outputs."""

    def __init__(self, seeds: dict[str, Array], labels: list[str], arrays: list[Array]) -> None:
        self.seeds, self.labels, self.arrays = seeds, labels, arrays


def _torch_results(
    reference: Reference,
    inputs: Sequence[Array | None],
    wanted: Sequence[int],
    outputs: int,
    rng: np.random.Generator,
    dtype: Any,
) -> _Expected:
    tensors = [None if x is None else torch.tensor(x.astype(np.float64) if x.dtype.kind == "f" else x) for x in inputs]
    for i in wanted:
        tensors[i].requires_grad_(True)  # type: ignore[union-attr]
    result = reference(*[t for t in tensors if t is not None])
    results = [result] if isinstance(result, torch.Tensor) else list(result)[:outputs]
    arrays = [rng.normal(size=tuple(y.shape)).astype(np.float32) for y in results]
    weighed = sum((y * torch.tensor(s.astype(np.float64))).sum() for y, s in zip(results, arrays, strict=True))
    gradients = torch.autograd.grad(weighed, [tensors[i] for i in wanted], allow_unused=True)
    filled = [
        np.zeros(tuple(tensors[i].shape)) if g is None else g.numpy()  # type: ignore[union-attr]
        for i, g in zip(wanted, gradients, strict=True)
    ]
    labels = [f"output {i}" for i in range(len(results))] + [f"gradient of input {i}" for i in wanted]
    seeds = {f"y{i}_seed": s.astype(dtype) for i, s in enumerate(arrays)}
    return _Expected(seeds, labels, [*(y.detach().numpy() for y in results), *filled])


def _gradient_of(model: ir.Model, outputs: int, wanted: Sequence[int]) -> GradientModel:
    before = modelio.to_bytes(model)
    gradient = gradient_graph(model, [f"y{i}" for i in range(outputs)], [f"x{i}" for i in wanted], seeded=True)
    assert modelio.to_bytes(model) == before, "the input model was changed"
    modelio.check(gradient.model)
    assert [g.output for g in gradient.gradients] == [f"x{i}_grad" for i in wanted]
    for value, i in zip(list(gradient.model.graph.outputs)[outputs:], wanted, strict=True):
        origin = next(v for v in (*model.graph.inputs, *model.graph.initializers.values()) if v.name == f"x{i}")
        assert (value.shape, value.dtype) == (origin.shape, origin.dtype)
    return gradient


def _run(model: ir.Model, feeds: dict[str, Array]) -> list[Array] | None:
    """Run a model; None where onnxruntime has no kernel for a type."""
    try:
        session = open_session(model, OPTIONS)
    except ModelError as error:
        if "implement" in str(error).lower() or "type" in str(error).lower():
            return None
        raise
    return session.run(feeds)


def _check_differences(
    model: ir.Model,
    feeds: dict[str, Array],
    seeds: dict[str, Array],
    gradients: dict[int, Array],
    rng: np.random.Generator,
    fine: bool,
) -> None:
    """Compare with (f(x + h u) - f(x - h u)) / 2h for a random direction u of each input that can be fed."""
    session = open_session(model, OPTIONS)
    step, allowed = (1e-5, 1e-5) if fine else (1e-3, 3e-2)
    for i, g in gradients.items():
        name = f"x{i}"
        if name not in feeds:
            continue
        direction = np.sign(rng.normal(size=g.shape)).astype(g.dtype)
        values = []
        for sign in (1, -1):
            moved = np.asarray(
                feeds[name] + sign * step * direction, g.dtype
            )  # numpy before 2 widens numbers without axes
            outputs = session.run({**feeds, name: moved})
            values.append(
                sum(float(np.vdot(y.astype(np.float64), s)) for y, s in zip(outputs, seeds.values(), strict=True))
            )
        slope = (values[0] - values[1]) / (2 * step)
        exact = float(np.vdot(g.astype(np.float64), direction))
        assert abs(slope - exact) <= allowed * max(1.0, float(np.abs(g).sum())), (name, slope, exact)
