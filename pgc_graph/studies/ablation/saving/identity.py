"""What decides the scores of a run: two runs with the same identity end with the same file."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from pgc_graph import modelio
from pgc_graph.errors import ModelFileError
from pgc_graph.results import to_data
from pgc_graph.runtime.providers import choose_provider, runtime_version
from pgc_graph.studies.ablation.again import ReadAgain
from pgc_graph.studies.ablation.measure import Measure, OwnLabels
from pgc_graph.studies.ablation.prepare import Prepared

__all__ = ["Identity", "identity", "model_digest", "to_identity"]


@dataclass(frozen=True)
class Identity:
    """What decides the scores of a run, as plain data.

    Attributes:
        model: The SHA-256 of the model.
        images: The fingerprint of the images, and how many there are.
        options: Everything that was asked for.
        versions: Of the libraries that compute.
    """

    model: str
    images: dict[str, Any]
    options: dict[str, Any]
    versions: dict[str, str]

    def differences(self, other: Identity) -> list[str]:
        """Say in what another run, before this one, was different; nothing where it was the same."""
        found = []
        if self.model != other.model:
            found.append(f"the model (SHA-256 {other.model[:12]}... before, {self.model[:12]}... now)")
        if self.images != other.images:
            before, now = (identity.images.get("count") for identity in (other, self))
            found.append(f"the images ({before} before, {now} now)" if before != now else "the images (files changed)")
        for what, mine, theirs in (("", self.options, other.options), ("version of ", self.versions, other.versions)):
            for name in sorted(mine.keys() | theirs.keys()):
                if mine.get(name) != theirs.get(name):
                    found.append(f"{what}{name} ({_short(theirs.get(name))} before, {_short(mine.get(name))} now)")
        return found


def identity(prepared: Prepared, model: str, images: ReadAgain, measure: Measure) -> Identity:
    """Describe a run.

    Args:
        prepared: What is run.
        model: The model's digest.
        images: The images, and how they become input.
        measure: What is measured.
    """
    intervention = {f"intervention.{name}": value for name, value in to_data(prepared.intervention).items()}
    options = {
        **intervention,
        "tensors": [target.tensor for target in prepared.targets],
        "target": measure.target,
        "labels": _labels(measure),
        "rank_by": measure.rank_by,
        "preprocess": to_data(images.preprocess),
        "batch_size": images.batch_size,
        "provider": choose_provider(prepared.options.provider),
    }
    versions = {
        "pgc-graph": version("pgc-graph"),
        "onnxruntime": runtime_version(),
        "onnx": onnx.__version__,
        "numpy": np.__version__,
    }
    seen = {"count": len(images.source), "fingerprint": images.source.fingerprint()}
    return Identity(model, seen, options, versions)


def model_digest(model: ir.Model, file: Path | None) -> str:
    """Return the SHA-256 of a model's file followed by its external data, or of the model as it would be written.

    Raises:
        ModelFileError: The file is gone.
    """
    if file is None:
        return hashlib.sha256(modelio.to_bytes(model)).hexdigest()
    try:
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256")
    except OSError as error:
        raise ModelFileError(f"cannot read {file} again: {error.strerror}; leave it where it is") from error
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                found.update(value.const_value.tobytes())
    return found.hexdigest()


def to_identity(data: Mapping[str, Any]) -> Identity:
    """Read an identity from plain data; what is missing is empty."""
    fields = {field.name: data.get(field.name, {}) for field in dataclasses.fields(Identity)}
    return Identity(**{**fields, "model": str(data.get("model", ""))})


def _labels(measure: Measure) -> Any:
    labels = measure.labels
    if labels is None or isinstance(labels, OwnLabels):
        return None if labels is None else list(labels.names)
    found = hashlib.sha256()
    for path, label in sorted(labels.items()):
        found.update(f"{path}\0{label}\n".encode(errors="surrogateescape"))
    return found.hexdigest()


def _short(value: Any) -> str:
    text = f"{len(value)} of them" if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
