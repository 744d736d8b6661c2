"""A study whose scores are saved: a classifier of three colours, 29 labelled images in an .npz file, three gates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from pgc_graph import modelio
from pgc_graph.analysis.targets import Target, TargetQuery, find_targets, select_targets
from pgc_graph.sources import npz_images
from pgc_graph.studies.ablation import AblationResult, Intervention, Measure, Saving, ablate
from pgc_graph.studies.ablation.measure import OwnLabels
from pgc_graph.studies.ablation.saving.journal import journal_folder

COUNT, SIZE = 29, 4
NAMES = ("red", "green", "blue")
FORMATS = (".csv", ".json", ".npz", ".parquet")
TEXT = """<ir_version: 8, opset_import: ["": 17], metadata_props: ["pgc.labels": "red,green,blue"]>
agraph (float[n, 3, 4, 4] x) => (float[n, 3] prob) <float[1, 3, 1, 1] scale = {3.0, 4.0, 5.0}> {
    p = Mul (x, scale)  half = Sigmoid (p)  last = Sub (p, half)
    row = ReduceMean <axes = [2, 3], keepdims = 0> (last)  prob = Softmax <axis = -1> (row)
}"""
MODES = {
    "zero": Intervention(),
    "mean": Intervention("mean"),
    "resample": Intervention("resample", seed=3),
    "noise": Intervention("noise", seed=5),
}


def model() -> ir.Model:
    return modelio.load(onnx.parser.parse_model(TEXT))


def images() -> np.ndarray:
    return np.random.default_rng(0).random((COUNT, 3, 4, 4), np.float32)


def label(index: int) -> str:
    return NAMES[index % 3]


def write_images(folder: Path) -> Path:
    np.savez(folder / "images.npz", images=images(), labels=[label(index) for index in range(COUNT)])
    return folder / "images.npz"


def targets() -> tuple[Target, ...]:
    return select_targets(find_targets(model()), TargetQuery(regexes=("^(p|half|last)$",)))


def run(
    npz: Path, saving: Saving, mode: str = "zero", stop: Callable[[], bool] | None = None, **more: Any
) -> AblationResult:
    source = npz_images(npz)
    return ablate(
        model(),
        source,
        targets(),
        intervention=MODES[mode],
        measure=Measure(labels=OwnLabels(source.labels())),
        batch_size=SIZE,
        saving=saving,
        stop=stop,
        **more,
    )


def after(calls: int) -> Callable[[], bool]:
    """Say stop after so many batches."""
    left = iter([False] * calls)
    return lambda: next(left, True)


def bytes_of(path: Path) -> tuple[bytes, bytes]:
    assert not journal_folder(path).exists()
    return path.read_bytes(), path.with_name(f"{path.stem}.summary.json").read_bytes()
