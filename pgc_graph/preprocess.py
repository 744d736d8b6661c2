"""How an image becomes a model's input, as the model's metadata say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pgc_graph.errors import OptionError

__all__ = ["Preprocess", "preprocess_from_metadata"]


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes a model's input: resize (bilinear), scale to [0, 1], subtract mean, divide by std.

    Attributes:
        size: Height and width in pixels.
        mean: Per channel, in units of [0, 1], in RGB order.
        std: Per channel, in units of [0, 1], in RGB order.
        layout: `NCHW` or `NHWC`.
        channel_order: `RGB` or `BGR`.
        pixels: Whether the model takes pixels as they are, 0 to 255, since its input is uint8; mean and std are 0 and 1.
    """

    size: tuple[int, int] = (32, 32)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    layout: str = "NCHW"
    channel_order: str = "RGB"
    pixels: bool = False

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise OptionError(f"input size {self.size[0]}x{self.size[1]} is impossible; expected at least 1x1")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(map(math.isfinite, (*self.mean, *self.std))):
            raise OptionError(f"mean {self.mean} and std {self.std} must be three finite numbers each (R, G, B)")
        if min(self.std) <= 0:
            raise OptionError(f"std {self.std} would divide by zero or flip signs; expected three numbers above 0")
        if self.layout not in ("NCHW", "NHWC"):
            raise OptionError(f"unknown layout {self.layout!r}; expected NCHW or NHWC")
        if self.channel_order not in ("RGB", "BGR"):
            raise OptionError(f"unknown channel order {self.channel_order!r}; expected RGB or BGR")
        if self.pixels and (any(self.mean) or set(self.std) != {1.0}):
            raise OptionError(
                f"mean {self.mean} and std {self.std} have no meaning for uint8 input, which takes pixels as they are; "
                "leave them out"
            )


def preprocess_from_metadata(
    metadata: Mapping[str, str],
    input_shape: Sequence[int | None],
    *,
    size: tuple[int, int] | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    pixels: bool = False,
) -> Preprocess:
    """Decide how to feed images to a model: given options win over its metadata, which wins over its input's shape.

    Args:
        metadata: The model's `metadata_props` (`pgc.image_size`, `pgc.mean`, `pgc.std`, `pgc.layout`, `pgc.channel_order`).
        input_shape: The image input's four dimensions, None where symbolic.
        size: Height and width to use whatever the model says.
        mean: Mean to use whatever the model says.
        std: Standard deviation to use whatever the model says.
        pixels: Whether the input is uint8 and takes pixels as they are.

    Raises:
        OptionError: The input is not an RGB image batch, a size contradicts a fixed input, or metadata cannot be read.
    """
    seen = _layout_from_shape(input_shape) if len(input_shape) != 4 or "pgc.layout" not in metadata else ""
    layout = metadata.get("pgc.layout") or seen
    rows, columns = (2, 3) if layout == "NCHW" else (1, 2)
    fixed = (input_shape[rows], input_shape[columns])
    chosen = size or _size_from_metadata(metadata) or (fixed[0] or 32, fixed[1] or 32)
    for got, wanted in zip(chosen, fixed, strict=True):
        if wanted is not None and got != wanted:
            raise OptionError(
                f"input size {chosen[0]}x{chosen[1]} does not fit the model, whose input is fixed at "
                f"{fixed[0]}x{fixed[1]}; leave the size out"
            )
    return Preprocess(
        size=chosen,
        mean=mean or _triple(metadata, "pgc.mean") or (0.0, 0.0, 0.0),
        std=std or _triple(metadata, "pgc.std") or (1.0, 1.0, 1.0),
        layout=layout,
        channel_order=metadata.get("pgc.channel_order", "RGB"),
        pixels=pixels,
    )


def _layout_from_shape(shape: Sequence[int | None]) -> str:
    if len(shape) == 4 and shape[1] == 3:
        return "NCHW"
    if len(shape) == 4 and shape[3] == 3:
        return "NHWC"
    if len(shape) == 4 and shape[1] is None and shape[3] is None:
        return "NCHW"
    shown = "x".join("?" if dim is None else str(dim) for dim in shape) or "a scalar"
    raise OptionError(f"the model's input is {shown}; expected an RGB image batch: Nx3xHxW or NxHxWx3")


def _size_from_metadata(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    text = metadata.get("pgc.image_size")
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise OptionError(f"metadata pgc.image_size is {text!r}; expected HEIGHTxWIDTH such as 32x32")
    return int(height), int(width)


def _triple(metadata: Mapping[str, str], key: str) -> tuple[float, float, float] | None:
    text = metadata.get(key)
    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.replace(",", " ").split())
    except ValueError as error:
        raise OptionError(f"metadata {key} is {text!r}; expected three numbers such as 0.0,0.0,0.0") from error
    return red, green, blue
