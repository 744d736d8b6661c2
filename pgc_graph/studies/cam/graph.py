"""One ONNX model that returns the score of an image and its class-activation maps.

The gradient is that of `pgc_graph.autodiff`, seeded with the class; the seed and the formula are nodes as well, so the
model needs nothing but images, and its batch stays as open as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from pgc_graph.analysis.channels import channel_axis
from pgc_graph.autodiff.context import Writer
from pgc_graph.autodiff.emitter import Emitter
from pgc_graph.autodiff.forms import cast
from pgc_graph.autodiff.gradient import GradientModel, gradient_graph
from pgc_graph.errors import SelectionError, UnsupportedError
from pgc_graph.passes.rewrite import Change, Rewrite, Skip
from pgc_graph.passes.shapes import infer_shapes
from pgc_graph.studies.ablation.classes import read_target
from pgc_graph.studies.cam.formulas import FORMULAS, Axes
from pgc_graph.studies.cam.methods import GRAPH_METHODS, check_method
from pgc_graph.studies.cam.score import Explained, emit_seed, explained_tensor

__all__ = ["CamModel", "CamOutput", "cam_model", "divide", "tensor_axes"]

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class CamOutput:
    """Where the map of one tensor is.

    Attributes:
        tensor: The tensor.
        output: The graph output with its map: `<tensor>_cam`, `(N, H, W)` float32, or `(N, T)` for tokens.
    """

    tensor: str
    output: str


@dataclass(frozen=True, eq=False)
class CamModel(Rewrite):
    """The outcome of `cam_model`.

    Attributes:
        maps: One a tensor that has a map, in the order asked for.
    """

    maps: tuple[CamOutput, ...] = ()


def cam_model(model: ir.Model, tensors: Sequence[str], *, method: str = "gradcam", target: str = "argmax") -> CamModel:
    """Add class-activation maps of tensors to a model's outputs.

    Args:
        model: An image classifier; stays untouched.
        tensors: Tensors with channels and places: `(N, C, H, W)`, `(N, H, W, C)` or tokens `(N, T, C)`.
        method: `gradcam`, `gradcam++`, `layercam` or `xgradcam` (`pgc_graph.studies.cam.formulas`).
        target: The class: `argmax` (each image's own; of a single score the class that it is the probability of), a
            class's name or its index.

    Returns:
        The model: its outputs of before, then the maps. Skipped are tensors without places, and those that the class's
        logit does not depend on.

    Raises:
        OptionError: An unknown method or class.
        SelectionError: A tensor is not there, or none is given.
        UnsupportedError: None of the tensors can have a map, the score is no score, or the graph cannot be differentiated.
    """
    check_method(method, GRAPH_METHODS)
    typed = infer_shapes(model)
    explained = explained_tensor(typed, read_target(typed, target))
    axes, skipped = divide(typed, tensors)
    gradient = _gradient(typed, explained, tuple(axes))
    skipped += [Skip(skip.subject, _NO_PATH) for skip in gradient.skipped]
    if gradient.skipped:
        dead = {skip.subject for skip in gradient.skipped}
        gradient = _gradient(typed, explained, [tensor for tensor in axes if tensor not in dead])
    maps = _write_maps(gradient, explained, method, axes)
    changes = tuple(Change(item.tensor, f"its {method} map is output {item.output}") for item in maps)
    return CamModel(gradient.model, changes, tuple(skipped), maps)


_NO_PATH = "has no influence on the class that could be differentiated"


def divide(model: ir.Model, tensors: Sequence[str]) -> tuple[dict[str, Axes], list[Skip]]:
    """Tell the tensors that can have a map, with their axes, from those that cannot, with reasons.

    Args:
        model: Its shapes are inferred.
        tensors: Names; one that is given twice counts once.

    Raises:
        SelectionError: A tensor is not in the main graph, or none is given.
        UnsupportedError: None of them can have a map.
    """
    if not tensors:
        raise SelectionError("no tensor to draw; expected at least one")
    values = {str(value.name): value for value in model.graph.inputs}
    values |= {str(value.name): value for node in model.graph for value in node.outputs if value.name}
    axes: dict[str, Axes] = {}
    skipped: list[Skip] = []
    for tensor in dict.fromkeys(tensors):
        if tensor not in values:
            raise SelectionError(f"the model has no tensor {tensor!r}; list them with --list-layers --include-all")
        found = tensor_axes(values[tensor])
        if isinstance(found, Axes):
            axes[tensor] = found
        else:
            skipped.append(Skip(tensor, found))
    if not axes:
        raise UnsupportedError(
            f"none of the {len(skipped)} tensors has a map: {skipped[0].subject!r} {skipped[0].reason}"
        )
    return axes, skipped


def tensor_axes(value: ir.Value) -> Axes | str:
    """Say where a tensor has its channels and places, or why it cannot have a map."""
    if not isinstance(value.type, ir.TensorType) or value.dtype not in _FLOATS:
        return f"holds {value.dtype or 'an unknown type'}, not floats that can be differentiated"
    rank = None if value.shape is None else len(value.shape)
    if rank not in (3, 4):
        shown = "of unknown rank" if value.shape is None else f"of shape {value.shape}"
        return f"is {shown}; a map needs channels and places: (N, C, H, W), (N, H, W, C) or tokens (N, T, C)"
    axis = channel_axis(value)
    if axis is None or axis == 0:
        return f"is of shape {value.shape}: which axis holds its channels is not known"
    return Axes(axis, tuple(index for index in range(1, rank) if index != axis))


def _gradient(model: ir.Model, explained: Explained, tensors: Sequence[str]) -> GradientModel:
    if not tensors:
        raise UnsupportedError(f"none of the tensors {_NO_PATH}; choose tensors between the image and the score")
    return gradient_graph(model, explained.tensor, tensors, seeded=True)


def _write_maps(
    gradient: GradientModel, explained: Explained, method: str, axes: dict[str, Axes]
) -> tuple[CamOutput, ...]:
    """Replace, in place, the seed by nodes and the gradients among the outputs by maps."""
    graph, emitter = gradient.model.graph, Emitter(gradient.model)
    values = {str(value.name): value for value in graph.inputs}
    values |= {str(value.name): value for node in graph for value in node.outputs}
    ((_, seed),) = gradient.seeds
    chosen = emit_seed(Writer(emitter, f"{explained.tensor}_class"), explained, values[explained.tensor])
    values[seed].replace_all_uses_with(chosen)
    graph.inputs.remove(values[seed])
    for item in gradient.gradients:
        graph.outputs.remove(values[item.output])
    maps = []
    for item in gradient.gradients:
        writer = Writer(emitter, item.tensor)
        activation, slope = (cast(writer, values[name], ir.DataType.FLOAT) for name in (item.tensor, item.output))
        drawn = FORMULAS[method](writer, activation, slope, axes[item.tensor])
        name = emitter.claim(f"{item.tensor}_cam")
        graph.outputs.append(emitter.alias(drawn, name))
        maps.append(CamOutput(item.tensor, name))
    graph.sort()
    return tuple(maps)
