"""What each tensor looks at in one image: activations reduced over channels, from a single forward pass."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pgc_graph.analysis.channels import feature_map_axis
from pgc_graph.analysis.interface import image_input, score_output
from pgc_graph.analysis.targets import Target
from pgc_graph.errors import OptionError, SelectionError, UnsupportedError
from pgc_graph.passes.taps import add_taps
from pgc_graph.runtime.session import RuntimeOptions, open_session

__all__ = ["REDUCTIONS", "Heatmap", "HeatmapResult", "SkippedTarget", "activation_maps", "map_reader"]

logger = logging.getLogger(__name__)

REDUCTIONS: Mapping[str, Callable[..., Any]] = {"mean": np.mean, "max": np.max, "sum": np.sum}
"""How the channels of a tensor become one map."""

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Heatmap:
    """One tensor's activation on one image.

    Attributes:
        target: The tensor.
        values: `(h, w)` float32, reduced over channels, in the tensor's own units.
        spatial: Whether rows and columns are places in the image; False for a strip of features or a table of tokens.
        intensity: The mean of `normalised`, in [0, 1].
        limits: The values that get the lowest and the highest colour; None for the map's own.
    """

    target: Target
    values: NDArray[np.float32]
    spatial: bool
    intensity: float
    limits: tuple[float, float] | None = None

    @property
    def normalised(self) -> NDArray[np.float32]:
        """The map stretched so that its lowest value, or limit, is 0 and its highest 1; all 0 where they are equal."""
        return _normalise(self.values, self.limits)

    def with_limits(self, limits: tuple[float, float] | None) -> Heatmap:
        """Return the map with other limits, and the intensity that it then has."""
        intensity = float(_normalise(self.values, limits).mean())
        return dataclasses.replace(self, limits=limits, intensity=intensity)


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


def map_reader(
    model: ir.Model, targets: Sequence[Target], *, reduce: str = "mean", runtime: RuntimeOptions | None = None
) -> Callable[[NDArray[np.floating[Any]]], HeatmapResult]:
    """Open one session for many images, and return what `activation_maps` returns for each row that it is given.

    Raises:
        OptionError: An unknown reduction.
        SelectionError: No targets, or one that the main graph does not hold.
        UnsupportedError: The model is no image classifier.
        ModelError: onnxruntime refuses the model.
    """
    if reduce not in REDUCTIONS:
        raise OptionError(f"unknown reduction {reduce!r}; expected {', '.join(REDUCTIONS)}")
    if not targets:
        raise SelectionError("no tensor to draw; expected at least one")
    source, score = image_input(model), str(score_output(model).name)
    batch = source.fixed_batch or 1
    tensors = [target.tensor for target in targets]
    tapped = add_taps(model, tensors, require_types=False).model
    # Rewriting does not pay for a few images, and without it every tensor is the file's own.
    session = open_session(tapped, dataclasses.replace(runtime or RuntimeOptions(), optimise=False))
    wanted = [score, *(name for name in dict.fromkeys(tensors) if name in session.output_names and name != score)]
    values = {str(value.name): value for node in model.graph for value in node.outputs}
    axes = {tensor: feature_map_axis(values.get(tensor), model) for tensor in tensors}
    labels = tuple(label.strip() for label in model.metadata_props.get("pgc.labels", "").split(",") if label.strip())

    def read(tensor_row: NDArray[np.floating[Any]]) -> HeatmapResult:
        row = np.asarray(tensor_row, dtype=source.dtype.numpy())
        feeds = {source.name: np.repeat(row[np.newaxis], batch, axis=0)}
        arrays = dict(zip(wanted, session.run(feeds, wanted), strict=True))
        heatmaps, skipped = _heatmaps(targets, arrays, batch, axes, reduce)
        return HeatmapResult(heatmaps, score, _first_row(arrays[score], batch), session.provider, labels, skipped)

    return read


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
    return map_reader(model, targets, reduce=reduce, runtime=runtime)(tensor_row)


def _heatmaps(
    targets: Sequence[Target], arrays: Mapping[str, Any], batch: int, axes: Mapping[str, int], reduce: str
) -> tuple[tuple[Heatmap, ...], tuple[SkippedTarget, ...]]:
    heatmaps: list[Heatmap] = []
    skipped: list[SkippedTarget] = []
    for target in targets:
        activation = arrays.get(target.tensor)
        reason = _reason_without_map(activation)
        if activation is None or reason:
            logger.warning("no map of tensor %s: it %s", target.tensor, reason)
            skipped.append(SkippedTarget(target, reason))
        else:
            heatmaps.append(_heatmap(target, activation, batch, axes[target.tensor], reduce))
    if not heatmaps:
        raise UnsupportedError(
            f"none of the {len(targets)} tensors has a map: {targets[0].tensor!r} {skipped[0].reason}"
        )
    return tuple(heatmaps), tuple(skipped)


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


def _normalise(values: NDArray[np.float32], limits: tuple[float, float] | None = None) -> NDArray[np.float32]:
    finite = values[np.isfinite(values)].astype(np.float64)
    low, high = limits or ((finite.min(), finite.max()) if finite.size else (0.0, 0.0))
    if high <= low:
        return np.zeros_like(values)
    stretched = np.clip((values.astype(np.float64) - low) / (high - low), 0.0, 1.0)
    bounded: NDArray[np.float32] = np.nan_to_num(stretched, nan=0.0, posinf=1.0, neginf=0.0).astype(np.float32)
    return bounded


def _first_row(score: Array, batch: int) -> NDArray[np.float32]:
    row = score[0] if score.ndim and score.shape[0] == batch else score
    return np.asarray(row, dtype=np.float32).reshape(-1)
