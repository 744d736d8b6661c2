"""The parameters of a PGC network by name: their shapes, a seeded initialisation, and reading them from a file.

Names are those of the trainer's state_dict. `num_batches_tracked` counters, which no graph needs, are passed over.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from pgc_graph.build.network import write_network
from pgc_graph.build.spec import ModelSpec
from pgc_graph.errors import ModelError, ModelFileError

__all__ = ["check_weights", "init_weights", "load_weights", "parameter_count", "parameter_shapes"]

Array = NDArray[np.float32]

_COUNTER = "num_batches_tracked"
_STATISTICS = ("running_mean", "running_var")
_LAYER_SCALE = 1e-6


@functools.lru_cache(maxsize=32)
def parameter_shapes(spec: ModelSpec) -> Mapping[str, tuple[int, ...]]:
    """Return the shape of every parameter and running statistic by name, in the order of computation."""
    return MappingProxyType(write_network(spec, None, 17).shapes)


def parameter_count(spec: ModelSpec) -> int:
    """Return the number of trainable parameters (running statistics are not trained)."""
    shapes = parameter_shapes(spec)
    return sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(_STATISTICS))


def init_weights(spec: ModelSpec, seed: int) -> dict[str, Array]:
    """Draw the parameters of an untrained network, from the distributions that the trainer starts with.

    Convolutions: normal with variance 2 / fan-out (He et al. 2015), their biases uniform within 1 / sqrt(fan-in);
    matrices: uniform (Glorot and Bengio 2010) with biases 0; normalisations: 1 and 0; layer scales: 1e-6.

    Args:
        spec: The network.
        seed: Any whole number of at least 0; the same seed gives the same parameters.

    Returns:
        float32 arrays by name.
    """
    generator = np.random.default_rng(seed)
    shapes = parameter_shapes(spec)
    return {name: _initial(name, shapes, generator).astype(np.float32) for name in shapes}


def load_weights(path: str | os.PathLike[str], spec: ModelSpec) -> dict[str, Array]:
    """Read the parameters of a network from a safetensors file.

    Args:
        path: The file; its tensors bear the trainer's names and are float16, bfloat16, float32 or float64.
        spec: The network that they must fit.

    Returns:
        float32 arrays by name.

    Raises:
        ModelFileError: The file is missing, unreadable or not a safetensors file.
        ModelError: A tensor is missing, unexpected, of the wrong shape or type, or not finite.
    """
    file = Path(path)
    if not file.is_file():
        what = "is not a file" if file.exists() else "not found"
        raise ModelFileError(f"weights file {file} {what}; expected a .safetensors file")
    try:
        with safe_open(file, framework="numpy") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelFileError(f"{file} is not a safetensors file, or is truncated: {error}; save it again") from error
    except OSError as error:
        raise ModelFileError(f"cannot read {file}: {error.strerror}; check its permissions") from error
    except (TypeError, AttributeError) as error:
        # What safetensors raises for types that numpy lacks, such as float8.
        raise ModelError(f"{file} holds tensors of a type that numpy lacks ({error}); save them as float32") from error
    return check_weights(spec, tensors, str(file))


def check_weights(
    spec: ModelSpec, weights: Mapping[str, NDArray[Any]], source: str = "the weights"
) -> dict[str, Array]:
    """Return the weights as float32, once it is sure that they fit a network.

    Args:
        spec: The network.
        weights: Arrays by name.
        source: What to call them in messages.

    Raises:
        ModelError: A tensor is missing, unexpected, of the wrong shape or type, or not finite.
    """
    shapes = parameter_shapes(spec)
    given = {name: values for name, values in weights.items() if not name.endswith(_COUNTER)}
    what = f"the {spec.backbone} network with head {spec.resolved_head} (variant {spec.variant})"
    for name in shapes:
        if name not in given:
            raise ModelError(
                f"{source}: tensor {name} is missing; expected all those of {what}; check the model options"
            )
    for name in given:
        if name not in shapes:
            raise ModelError(
                f"{source}: tensor {name} is unexpected; it is none of those of {what}; check the model options"
            )
    return {name: _checked(name, given[name], shape, source) for name, shape in shapes.items()}


def _checked(name: str, values: NDArray[Any], shape: tuple[int, ...], source: str) -> Array:
    if tuple(values.shape) != shape:
        raise ModelError(
            f"{source}: tensor {name} has shape {list(values.shape)}; expected {list(shape)}; check the model options"
        )
    if values.dtype.kind != "f" and values.dtype.name != "bfloat16":
        raise ModelError(f"{source}: tensor {name} is of type {values.dtype}; expected float32; save it as float32")
    single: Array = np.ascontiguousarray(values, np.float32)
    if not np.isfinite(single).all():
        raise ModelError(f"{source}: tensor {name} holds NaN or infinity; expected finite numbers; train again")
    return single


def _initial(name: str, shapes: Mapping[str, tuple[int, ...]], generator: np.random.Generator) -> NDArray[np.float64]:
    shape = shapes[name]
    if len(shape) == 4:
        fan_out = shape[0] * math.prod(shape[2:])
        return generator.normal(0.0, math.sqrt(2 / fan_out), shape)
    if len(shape) == 2:
        limit = math.sqrt(6 / sum(shape))
        return generator.uniform(-limit, limit, shape)
    if name.endswith("gamma"):
        return np.full(shape, _LAYER_SCALE)
    if name.endswith(("weight", "running_var")):
        return np.ones(shape)
    weight = shapes.get(f"{name.removesuffix('bias')}weight", ())
    if len(weight) == 4:
        limit = 1 / math.sqrt(math.prod(weight[1:]))
        return generator.uniform(-limit, limit, shape)
    return np.zeros(shape)
