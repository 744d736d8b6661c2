"""Write a PGC network as an ONNX model: the source graph, with its BatchNorm nodes in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from pgc_graph.build.network import write_network
from pgc_graph.build.spec import ModelSpec
from pgc_graph.build.weights import check_weights
from pgc_graph.errors import OptionError

__all__ = ["MAX_OPSET", "MIN_OPSET", "build_pgc", "default_metadata"]

MIN_OPSET = 13
MAX_OPSET = min(26, onnx.defs.onnx_opset_version())
"""The newest opset that has been run, as far as the installed onnx knows it."""


def build_pgc(
    spec: ModelSpec,
    weights: Mapping[str, NDArray[Any]],
    *,
    opset: int = 17,
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """Write a network as an ONNX model.

    Args:
        spec: The network.
        weights: Its parameters by the trainer's names; stored as float32.
        opset: The opset to write for, from `MIN_OPSET` to `MAX_OPSET`.
        metadata: Entries for `metadata_props`, added to `default_metadata(spec)` and winning over it.

    Returns:
        A checked model: `images` `(batch, 3, H, W)` float32 in [0, 1] in, `prob_pointing` `(batch,)` float32 out.

    Raises:
        OptionError: The opset is out of range.
        ModelError: The weights do not fit the network.
    """
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise OptionError(f"opset {opset} cannot be written; expected {MIN_OPSET} to {MAX_OPSET}")
    net = write_network(spec, check_weights(spec, weights), opset)
    net.graph.producer_name = "pgc-graph"
    net.graph.ir_version = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
    model: onnx.ModelProto = gs.export_onnx(net.graph)
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    # GraphSurgeon has no place for metadata: it is added to what it exports.
    onnx.helper.set_model_props(model, {**default_metadata(spec), **(metadata or {})})
    onnx.checker.check_model(model, full_check=True)
    return model


def default_metadata(spec: ModelSpec) -> dict[str, str]:
    """Return what a model says about its own input and output: image size, normalisation, layout, labels, variant."""
    height, width = spec.image_size
    return {
        "pgc.image_size": f"{height}x{width}",
        "pgc.mean": "0.0,0.0,0.0",
        "pgc.std": "1.0,1.0,1.0",
        "pgc.layout": "NCHW",
        "pgc.channel_order": "RGB",
        "pgc.labels": "not_pointing,pointing",
        "pgc.variant": spec.variant,
    }
