"""What goes into a classifier and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from pgc_graph.errors import OptionError, UnsupportedError
from pgc_graph.preprocess import Preprocess, preprocess_from_metadata

__all__ = [
    "ImageInput",
    "dimensions",
    "feed_shapes",
    "image_input",
    "own_preprocess",
    "real_inputs",
    "score_output",
]


@dataclass(frozen=True)
class ImageInput:
    """The image input of a classifier.

    Attributes:
        name: Its tensor name.
        shape: Four dimensions, None where symbolic or unknown.
        dtype: Its element type.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: ir.DataType

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that the graph insists on, or None if any will do."""
        return self.shape[0]

    @property
    def takes_pixels(self) -> bool:
        """Whether it holds whole numbers from 0 to 255, pixels as they are."""
        return self.dtype == ir.DataType.UINT8


def real_inputs(model: ir.Model) -> tuple[ir.Value, ...]:
    """Return the graph inputs that must be fed: those without a default value (initializer)."""
    return tuple(value for value in model.graph.inputs if value.name not in model.graph.initializers)


def dimensions(value: ir.Value) -> tuple[int | None, ...] | None:
    """Return a tensor's shape with None for symbolic dimensions, or None if its rank is unknown."""
    if value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else None for dim in value.shape)


def feed_shapes(
    model: ir.Model, given: Mapping[str, Sequence[int]], *, batch: int = 1
) -> dict[str, tuple[int | None, ...] | None]:
    """Say what shape to feed to each input, as far as the model and the caller tell.

    Args:
        model: Its metadata `pgc.image_size` and `pgc.layout` decide open dimensions of images.
        given: Shapes for some inputs by name.
        batch: What a symbolic first dimension becomes.

    Returns:
        Dimensions by input, None where nothing tells; None instead of dimensions where even the rank is unknown.

    Raises:
        OptionError: `given` names an input that does not exist, or contradicts its fixed shape.
    """
    inputs = {str(value.name): value for value in real_inputs(model)}
    for name, shape in given.items():
        if name not in inputs:
            raise OptionError(f"no input {name!r} to give a shape to; the model has {', '.join(inputs) or 'none'}")
        fixed = dimensions(inputs[name])
        if fixed is not None and not _fits(shape, fixed):
            shown = "x".join("?" if dim is None else str(dim) for dim in fixed) or "a scalar"
            raise OptionError(f"shape {'x'.join(map(str, shape))} does not fit input {name!r}, which is {shown}")
    return {
        name: tuple(given[name]) if name in given else _known_shape(value, model.metadata_props, batch)
        for name, value in inputs.items()
    }


def image_input(model: ir.Model) -> ImageInput:
    """Find the one input of an image classifier: a batch of RGB images.

    Raises:
        UnsupportedError: The model has not exactly one input, or it is not a batch of 3-channel images, of floats or uint8.
    """
    inputs = real_inputs(model)
    if len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs) or "none"
        raise UnsupportedError(f"the model has {len(inputs)} inputs ({names}); expected one image input")
    (value,) = inputs
    shape = dimensions(value)
    shown = "of unknown rank" if value.shape is None else "x".join(str(dim) for dim in value.shape) or "a scalar"
    if shape is None or len(shape) != 4:
        raise UnsupportedError(f"model input {value.name!r} is {shown}; expected a batch of images: Nx3xHxW or NxHxWx3")
    if 3 not in (shape[1], shape[3]) and not (shape[1] is None and shape[3] is None):
        raise UnsupportedError(f"model input {value.name!r} is {shown}; expected 3 channels (RGB): Nx3xHxW or NxHxWx3")
    dtype = value.dtype
    if dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.UINT8):
        raise UnsupportedError(f"model input {value.name!r} holds {dtype}; expected float32, float16, float64 or uint8")
    return ImageInput(str(value.name), shape, dtype)


def score_output(model: ir.Model) -> ir.Value:
    """Return the output that scores an image: the only one, or the last one that has at most two dimensions.

    Raises:
        UnsupportedError: No output can be a score.
    """
    outputs = [value for value in model.graph.outputs if len(value.shape or ()) <= 2]
    if not outputs:
        names = ", ".join(repr(value.name) for value in model.graph.outputs)
        raise UnsupportedError(
            f"no output of the model is a score (found {names}); expected (N), (N, 1) or (N, classes)"
        )
    return outputs[-1]


def _fits(shape: Sequence[int], fixed: Sequence[int | None]) -> bool:
    return len(shape) == len(fixed) and all(wanted in (None, dim) for dim, wanted in zip(shape, fixed, strict=True))


def _known_shape(value: ir.Value, metadata: Mapping[str, str], batch: int) -> tuple[int | None, ...] | None:
    shape = dimensions(value)
    if not shape:
        return shape
    height, _, width = metadata.get("pgc.image_size", "").partition("x")
    size = (int(height), int(width)) if height.isdigit() and width.isdigit() else (None, None)
    known: tuple[int | None, ...] = (batch,)
    if len(shape) == 4:
        is_last = metadata.get("pgc.layout") == "NHWC" or (shape[1] != 3 and shape[3] == 3)
        known = (batch, *size, 3) if is_last else (batch, 3, *size)
    known += (None,) * (len(shape) - len(known))
    return tuple(given if dim is None else dim for dim, given in zip(shape, known, strict=True))


def own_preprocess(model: ir.Model) -> Preprocess:
    """Return how images become a classifier's input, as its metadata and its image input say.

    Raises:
        UnsupportedError: The model has no image input.
        PgcGraphError: Its metadata make no sense.
    """
    taken = image_input(model)
    return preprocess_from_metadata(model.metadata_props, taken.shape, pixels=taken.takes_pixels)
