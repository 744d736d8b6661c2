"""Inputs for a model from images and from .npz files."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.interface import dimensions, image_input, real_inputs
from pgc_graph.errors import OptionError
from pgc_graph.images import Preprocess, read_batches

__all__ = ["image_feeds", "npz_feeds"]

_BATCH = 8
Feeds = dict[str, NDArray[Any]]


def image_feeds(model: ir.Model, paths: Sequence[Path], preprocess: Preprocess) -> Iterator[Feeds]:
    """Read images as inputs, in batches of a size that the model takes; the last image fills up a fixed batch.

    Args:
        model: A classifier with one image input.
        paths: The images.
        preprocess: How they become inputs.

    Raises:
        ImageError: None of them can be read.
        UnsupportedError: The model does not take one batch of RGB images.
    """
    taken = image_input(model)
    size = taken.fixed_batch or _BATCH
    for batch in read_batches(paths, preprocess, batch_size=size):
        rows = len(batch.tensor)
        if rows:
            fill = size - rows if taken.fixed_batch else 0
            tensor = np.concatenate([batch.tensor, np.repeat(batch.tensor[-1:], fill, axis=0)])
            yield {taken.name: tensor.astype(taken.dtype.numpy())}


def npz_feeds(model: ir.Model, path: Path) -> Feeds:
    """Read one input from an .npz file: an array for each graph input, under its name.

    Args:
        model: The model that will be fed.
        path: A file as `numpy.savez` writes it.

    Raises:
        OptionError: The file cannot be read, lacks an input, has one too many, or an array has another type or shape than
            the input.
    """
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it holds one array without a name")
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise OptionError(f"feeds file not found: {path}; check the path") from error
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise OptionError(f"cannot read feeds from {path}: {error}; expected an .npz file by numpy.savez") from error
    inputs = {str(value.name): value for value in model.graph.inputs}
    needed = [str(value.name) for value in real_inputs(model)]
    for name in needed:
        if name not in arrays:
            held = ", ".join(arrays) or "nothing"
            raise OptionError(f"{path} holds {held}; expected an array {name!r} for the input of that name")
    for name, array in arrays.items():
        if name not in inputs:
            raise OptionError(f"{path} holds {name!r}, which is no input; the model has {', '.join(inputs)}")
        _check(inputs[name], array, path)
    return arrays


def _check(value: ir.Value, array: NDArray[Any], path: Path) -> None:
    dtype, shape = value.dtype, dimensions(value)
    if dtype is not None and dtype != ir.DataType.STRING and array.dtype != dtype.numpy():
        raise OptionError(f"{path}: array {value.name!r} holds {array.dtype}; the model's input holds {dtype.numpy()}")
    if shape is None:
        return
    fits = len(shape) == array.ndim and all(dim in (None, got) for dim, got in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = "x".join("?" if dim is None else str(dim) for dim in shape) or "a scalar"
        got = "x".join(map(str, array.shape)) or "a scalar"
        raise OptionError(f"{path}: array {value.name!r} is {got}; the model's input is {wanted}")
