"""What each tensor looks at in one image: activations reduced over channels, from a single forward pass."""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.interface import image_input, score_output
from pgc_graph.analysis.targets import Target
from pgc_graph.errors import OptionError, SelectionError, UnsupportedError
from pgc_graph.passes.taps import add_taps
from pgc_graph.runtime.session import RuntimeOptions, open_session

__all__ = ["REDUCTIONS", "Heatmap", "HeatmapResult", "SkippedTarget", "activation_maps"]

logger = logging.getLogger(__name__)

REDUCTIONS: Mapping[str, Callable[..., Any]] = {"mean": np.mean, "max": np.max, "sum": np.sum}
"""How the channels of a tensor become one map."""

_CHANNELS_FIRST_OPS = frozenset(
    {
        "AveragePool",
        "BatchNormalization",
        "Conv",
        "ConvTranspose",
        "DepthToSpace",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "GroupNormalization",
        "InstanceNormalization",
        "LRN",
        "MaxPool",
        "SpaceToDepth",
    }
)
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Heatmap:
    """One tensor's activation on one image.

    Attributes:
        target: The tensor.
        values: `(h, w)` float32, reduced over channels, in the tensor's own units.
        spatial: Whether rows and columns are places in the image; False for a strip of features or a table of tokens.
        intensity: The mean of `normalised`, in [0, 1].
    """

    target: Target
    values: NDArray[np.float32]
    spatial: bool
    intensity: float

    @property
    def normalised(self) -> NDArray[np.float32]:
        """The map stretched so that its lowest value is 0 and its highest 1; all 0 where it is constant."""
        return _normalise(self.values)


@dataclass(frozen=True)
class SkippedTarget:
    """A tensor that has no map, and why."""

    target: Target
    reason: str


@dataclass(frozen=True, eq=False)
class HeatmapResult:
    """All maps of one image.

    Attributes:
        heatmaps: One entry a tensor, in the order asked for.
        score_name: The output that scores the image.
        scores: `(K,)` float32, that output for the image: K classes, or 1 for a single probability.
        provider: Where the model ran: `cpu`, `cuda` or `tensorrt`.
        labels: The classes' names from the model's metadata, or nothing.
        skipped: Tensors that have no map, with reasons.
    """

    heatmaps: tuple[Heatmap, ...]
    score_name: str
    scores: NDArray[np.float32]
    provider: str
    labels: tuple[str, ...] = ()
    skipped: tuple[SkippedTarget, ...] = ()

    @property
    def score_text(self) -> str:
        """The score in words: `prob_pointing=0.9987`, or the highest of several classes: `scores[3]=0.8700 (cat)`."""
        if self.scores.size == 1:
            return f"{self.score_name}={self.scores[0]:.4f}"
        top = int(np.argmax(self.scores))
        label = f" ({self.labels[top]})" if len(self.labels) == self.scores.size else ""
        return f"{self.score_name}[{top}]={self.scores[top]:.4f}{label}"


def activation_maps(
    model: ir.Model,
    tensor_row: NDArray[np.floating[Any]],
    targets: Sequence[Target],
    *,
    reduce: str = "mean",
    runtime: RuntimeOptions | None = None,
) -> HeatmapResult:
    """Run a model once on one image and reduce each target's activation to a map.

    A tensor `(N, C, H, W)` becomes an `(H, W)` map; `(N, H, W, C)`, recognised by following the graph upstream to the
    model's input or the next operator that fixes the layout, likewise. `(N, C)` becomes a `(1, C)` strip and `(N, A, B)`
    an `(A, B)` table, neither reduced.

    Args:
        model: Stays untouched.
        tensor_row: One row of the model's input, `(3, H, W)` or `(H, W, 3)`, from `pgc_graph.images.to_tensor`.
        targets: The tensors, in the order in which their maps are wanted.
        reduce: `mean`, `max` or `sum` over channels.
        runtime: How to run the model.

    Raises:
        OptionError: An unknown reduction.
        SelectionError: No targets, or one that the main graph does not hold.
        UnsupportedError: The model is no image classifier, or none of the targets has a map.
        ModelError: onnxruntime cannot run the model.
    """
    if reduce not in REDUCTIONS:
        raise OptionError(f"unknown reduction {reduce!r}; expected {', '.join(REDUCTIONS)}")
    if not targets:
        raise SelectionError("no tensor to draw; expected at least one")
    score, activations, provider = _run(model, tensor_row, [target.tensor for target in targets], runtime)
    batch = image_input(model).fixed_batch or 1
    values = {str(value.name): value for node in model.graph for value in node.outputs}
    heatmaps: list[Heatmap] = []
    skipped: list[SkippedTarget] = []
    for target in targets:
        activation = activations.get(target.tensor)
        reason = _reason_without_map(activation)
        if activation is None or reason:
            logger.warning("no map of tensor %s: it %s", target.tensor, reason)
            skipped.append(SkippedTarget(target, reason))
            continue
        axis = _channel_axis(values.get(target.tensor), model)
        heatmaps.append(_heatmap(target, activation, batch, axis, reduce))
    if not heatmaps:
        raise UnsupportedError(
            f"none of the {len(targets)} tensors has a map: {targets[0].tensor!r} {skipped[0].reason}"
        )
    labels = tuple(label.strip() for label in model.metadata_props.get("pgc.labels", "").split(",") if label.strip())
    name, scores = str(score_output(model).name), _first_row(score, batch)
    return HeatmapResult(tuple(heatmaps), name, scores, provider, labels, tuple(skipped))


def _run(
    model: ir.Model, tensor_row: NDArray[np.floating[Any]], tensors: Sequence[str], runtime: RuntimeOptions | None
) -> tuple[Array, Mapping[str, Any], str]:
    source = image_input(model)
    score = str(score_output(model).name)
    tapped = add_taps(model, tensors, require_types=False).model
    # One pass does not earn back what onnxruntime's rewriting costs, and without it every tensor is the file's own.
    session = open_session(tapped, dataclasses.replace(runtime or RuntimeOptions(), optimise=False))
    row = np.asarray(tensor_row, dtype=source.dtype.numpy())
    feeds = {source.name: np.repeat(row[np.newaxis], source.fixed_batch or 1, axis=0)}
    wanted = [score, *(name for name in dict.fromkeys(tensors) if name in session.output_names and name != score)]
    arrays = dict(zip(wanted, session.run(feeds, wanted), strict=True))
    return arrays[score], arrays, session.provider


def _reason_without_map(activation: Any) -> str:
    if activation is None or not isinstance(activation, np.ndarray):
        return "is not a plain tensor"
    if activation.dtype.kind not in "fiub":
        return f"holds {activation.dtype}, not numbers"
    return "" if activation.size else "is empty"


def _heatmap(target: Target, activation: Array, batch: int, channel_axis: int, reduce: str) -> Heatmap:
    has_batch = activation.ndim > 1 and activation.shape[0] == batch
    row = (activation[0] if has_batch else activation).astype(np.float32)
    spatial = row.ndim >= 3
    if row.ndim == 3 and has_batch:
        row = REDUCTIONS[reduce](row, axis=channel_axis - 1)
    elif row.ndim >= 3:
        row = REDUCTIONS[reduce](row, axis=tuple(range(row.ndim - 2)))
    values = np.ascontiguousarray(np.atleast_2d(row), dtype=np.float32)
    if not np.isfinite(values).all():
        logger.warning("tensor %s holds values that are not finite; they are drawn as lowest or highest", target.tensor)
    return Heatmap(target, values, spatial, float(_normalise(values).mean()))


def _normalise(values: NDArray[np.float32]) -> NDArray[np.float32]:
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size or finite.max() <= finite.min():
        return np.zeros_like(values)
    stretched = (values.astype(np.float64) - finite.min()) / (finite.max() - finite.min())
    bounded: NDArray[np.float32] = np.nan_to_num(stretched, nan=0.0, posinf=1.0, neginf=0.0).astype(np.float32)
    return bounded


def _first_row(score: Array, batch: int) -> NDArray[np.float32]:
    row = score[0] if score.ndim and score.shape[0] == batch else score
    return np.asarray(row, dtype=np.float32).reshape(-1)


def _channel_axis(value: ir.Value | None, model: ir.Model) -> int:
    """Find where a 4-D tensor's channels are, 1 or 3: ONNX convolutions are channels-first, whatever the input's layout."""
    queue, seen = deque([value] if value is not None else []), set[int]()
    while queue:
        current = queue.popleft()
        if id(current) in seen:
            continue
        seen.add(id(current))
        node = current.producer()
        if node is None:
            if current.is_graph_input() and current.name == image_input(model).name:
                return _input_channel_axis(model)
        elif node.op_type in _CHANNELS_FIRST_OPS:
            return 1
        elif node.op_type == "Transpose" and len(node.attributes.get_ints("perm", ())) == 4:
            return 3 if tuple(node.attributes.get_ints("perm")) == (0, 2, 3, 1) else 1
        else:
            queue.extend(operand for operand in node.inputs if operand is not None)
    return 1


def _input_channel_axis(model: ir.Model) -> int:
    shape = image_input(model).shape
    layout = model.metadata_props.get("pgc.layout") or ("NCHW" if shape[1] == 3 or shape[3] != 3 else "NHWC")
    return 3 if layout == "NHWC" else 1
