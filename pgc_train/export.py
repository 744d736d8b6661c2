"""Write a checkpoint as an ONNX source graph, after checking that it computes what torch computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from pgc_graph import modelio
from pgc_graph.build.pgc import build_pgc
from pgc_graph.build.spec import ModelSpec
from pgc_graph.errors import ParityError
from pgc_graph.files import atomic_path
from pgc_graph.runtime.session import RuntimeOptions, open_session
from pgc_train.checkpoint import Checkpoint
from pgc_train.evaluate import restore_model
from pgc_train.model import PGC

__all__ = ["TOLERANCE", "ExportReport", "build_checked", "checkpoint_metadata", "export_checkpoint", "probe_images"]

TOLERANCE = 1e-5
_BATCHES = (1, 7, 32)


@dataclass(frozen=True)
class ExportReport:
    """How far the graph's output is from torch's.

    Attributes:
        images: Images compared.
        max_difference: The largest |Δ| of the probability.
        max_logit_difference: The largest |Δ| of the logit, divided by the largest |logit| where that exceeds 1.
    """

    images: int
    max_difference: float
    max_logit_difference: float


def export_checkpoint(
    checkpoint: Checkpoint,
    output: Path,
    *,
    opset: int = 17,
    metadata: Mapping[str, str] | None = None,
    safetensors: Path | None = None,
) -> ExportReport:
    """Write a checkpoint as ONNX, and its weights as safetensors where asked for; nothing is written if they disagree.

    Args:
        checkpoint: What was trained.
        output: The .onnx file to write.
        opset: Of the graph.
        metadata: Entries of the model's metadata that win over the checkpoint's.
        safetensors: A file for the weights under the trainer's parameter names.

    Raises:
        ParityError: The graph does not compute what torch computes.
        ModelError: The graph cannot be built, run or serialised.
        OptionError: The opset or a path is impossible.
    """
    model, report = build_checked(checkpoint, opset=opset, metadata=metadata)
    modelio.save(model, output)
    if safetensors is not None:
        with atomic_path(safetensors) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in _weights(checkpoint).items()}, temporary)
    return report


def build_checked(
    checkpoint: Checkpoint, *, opset: int = 17, metadata: Mapping[str, str] | None = None
) -> tuple[ir.Model, ExportReport]:
    """Build the graph of a checkpoint and compare it with torch on probe images.

    Raises:
        ParityError: Probabilities differ by more than `TOLERANCE`, or logits by more, relative to their size.
        ModelError: The graph cannot be built or run.
    """
    weights = {name: tensor.numpy() for name, tensor in _weights(checkpoint).items()}
    notes = {**checkpoint_metadata(checkpoint), **(metadata or {})}
    model = modelio.load(build_pgc(checkpoint.spec, weights, opset=opset, metadata=notes))
    report = _compare(model, restore_model(checkpoint))
    if not (report.max_difference <= TOLERANCE and report.max_logit_difference <= TOLERANCE):
        raise ParityError(
            f"the graph differs from torch by {report.max_difference:.3g} in probability and "
            f"{report.max_logit_difference:.3g} in logit; expected at most {TOLERANCE:g}; nothing was written"
        )
    return model, report


def checkpoint_metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """Say what a checkpoint was trained on and how well it does on its validation crops, as `pgc.*` entries."""
    entries = {
        "pgc.dataset": ",".join(checkpoint.data["training_sources"]),
        "pgc.seed": str(checkpoint.options["seed"]),
    }
    if checkpoint.history:
        scores = checkpoint.history[-1]["validation"]
        for name in ("f1", "precision", "recall"):
            entries[f"pgc.{name}"] = f"{scores[name]:.4f}"
    return entries


def probe_images(spec: ModelSpec, seed: int = 0) -> NDArray[np.float32]:
    """Draw images that exercise a network: noise, plain colours, and noise enlarged to blobs, dark to bright.

    Returns:
        `(N, 3, H, W)` float32 in [0, 1].
    """
    generator = np.random.default_rng(seed)
    height, width = spec.image_size
    images = []
    for index in range(sum(_BATCHES)):
        side = (1, 4, 8, max(height, width))[index % 4]
        small = generator.random((3, side, side))
        rows, columns = np.arange(height) * side // height, np.arange(width) * side // width
        images.append(small[:, rows][:, :, columns] * generator.uniform(0.2, 1.0))
    return np.stack(images).astype(np.float32)


def _compare(model: ir.Model, network: PGC) -> ExportReport:
    images = probe_images(network.spec)
    session = open_session(_with_logit(model), RuntimeOptions(provider="cpu", optimise=False))
    results: list[list[NDArray[Any]]] = []
    start = 0
    for count in _BATCHES:
        results.append(session.run({session.input_names[0]: images[start : start + count]}))
        start += count
    probability, logit = (np.concatenate([result[index].ravel() for result in results]) for index in (0, 1))
    with torch.inference_mode():
        wanted = network(torch.from_numpy(images))
    wanted_logit, wanted_probability = wanted.double().numpy(), torch.sigmoid(wanted).double().numpy()
    scale = max(1.0, float(np.abs(wanted_logit).max()))
    return ExportReport(
        images=len(images),
        max_difference=float(np.abs(probability - wanted_probability).max()),
        max_logit_difference=float(np.abs(logit - wanted_logit).max()) / scale,
    )


def _with_logit(model: ir.Model) -> ir.Model:
    # Probabilities of a trained network saturate: what differs inside may not show in them. The logit shows it.
    tapped = model.clone()
    producer = tapped.graph.outputs[0].producer()
    while producer is not None and producer.op_type != "Sigmoid":
        producer = producer.inputs[0].producer() if producer.inputs[0] is not None else None
    if producer is None or producer.inputs[0] is None:
        raise ParityError("the graph's output does not come from a Sigmoid; expected prob_pointing = sigmoid(logit)")
    tapped.graph.outputs.append(producer.inputs[0])
    return tapped


def _weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in checkpoint.weights.items() if not name.endswith("num_batches_tracked")}
