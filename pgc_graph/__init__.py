"""Pure-ONNX graph engineering for image classifiers.

Everything public is reachable from here and imported when it is first used: `import pgc_graph` itself takes no time.

    import pgc_graph as pgc

    model = pgc.load("model.onnx")
    clean = pgc.fold_batchnorm(model).model
    pgc.assert_parity(model, clean)
    pgc.save(clean, "clean.onnx")
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgc_graph.analysis.diff import ModelDiff, diff_models
    from pgc_graph.analysis.summary import ModelSummary, summarise
    from pgc_graph.analysis.targets import Target, TargetQuery, find_targets, select_targets
    from pgc_graph.autodiff.gradient import gradient_graph
    from pgc_graph.build.pgc import build_pgc
    from pgc_graph.build.spec import ModelSpec, preset
    from pgc_graph.build.weights import init_weights, load_weights
    from pgc_graph.errors import PgcGraphError
    from pgc_graph.images import Preprocess, find_images
    from pgc_graph.modelio import load, save
    from pgc_graph.passes.batch import set_batch
    from pgc_graph.passes.batchnorm import fold_batchnorm
    from pgc_graph.passes.extract import extract
    from pgc_graph.passes.fold_gates import fold_gates
    from pgc_graph.passes.gates import insert_gates
    from pgc_graph.passes.metadata import set_metadata
    from pgc_graph.passes.names import fill_names
    from pgc_graph.passes.opset import convert_opset
    from pgc_graph.passes.prune import prune_channels
    from pgc_graph.passes.rename import rename
    from pgc_graph.passes.rewrite import Rewrite
    from pgc_graph.passes.simplify import simplify
    from pgc_graph.passes.taps import add_taps
    from pgc_graph.render.heatmaps import save_heatmaps
    from pgc_graph.runtime.parity import assert_parity, compare
    from pgc_graph.runtime.session import RuntimeOptions
    from pgc_graph.runtime.timing import TimingOptions, time_models
    from pgc_graph.studies.ablation import ablate
    from pgc_graph.studies.cam import cam_model, class_activation_maps
    from pgc_graph.studies.heatmap import activation_maps
    from pgc_graph.studies.verify import Verification, verify

    __version__: str

__all__ = [
    "ModelDiff",
    "ModelSpec",
    "ModelSummary",
    "PgcGraphError",
    "Preprocess",
    "Rewrite",
    "RuntimeOptions",
    "Target",
    "TargetQuery",
    "TimingOptions",
    "Verification",
    "__version__",
    "ablate",
    "activation_maps",
    "add_taps",
    "assert_parity",
    "build_pgc",
    "cam_model",
    "class_activation_maps",
    "compare",
    "convert_opset",
    "diff_models",
    "extract",
    "fill_names",
    "find_images",
    "find_targets",
    "fold_batchnorm",
    "fold_gates",
    "gradient_graph",
    "init_weights",
    "insert_gates",
    "load",
    "load_weights",
    "preset",
    "prune_channels",
    "rename",
    "save",
    "save_heatmaps",
    "select_targets",
    "set_batch",
    "set_metadata",
    "simplify",
    "summarise",
    "time_models",
    "verify",
]

_HOMES = {
    "analysis.diff": ("ModelDiff", "diff_models"),
    "analysis.summary": ("ModelSummary", "summarise"),
    "analysis.targets": ("Target", "TargetQuery", "find_targets", "select_targets"),
    "autodiff.gradient": ("gradient_graph",),
    "build.pgc": ("build_pgc",),
    "build.spec": ("ModelSpec", "preset"),
    "build.weights": ("init_weights", "load_weights"),
    "errors": ("PgcGraphError",),
    "images": ("Preprocess", "find_images"),
    "modelio": ("load", "save"),
    "passes.batch": ("set_batch",),
    "passes.batchnorm": ("fold_batchnorm",),
    "passes.extract": ("extract",),
    "passes.fold_gates": ("fold_gates",),
    "passes.gates": ("insert_gates",),
    "passes.metadata": ("set_metadata",),
    "passes.names": ("fill_names",),
    "passes.opset": ("convert_opset",),
    "passes.prune": ("prune_channels",),
    "passes.rename": ("rename",),
    "passes.rewrite": ("Rewrite",),
    "passes.simplify": ("simplify",),
    "passes.taps": ("add_taps",),
    "render.heatmaps": ("save_heatmaps",),
    "runtime.parity": ("assert_parity", "compare"),
    "runtime.session": ("RuntimeOptions",),
    "runtime.timing": ("TimingOptions", "time_models"),
    "studies.ablation": ("ablate",),
    "studies.cam": ("cam_model", "class_activation_maps"),
    "studies.heatmap": ("activation_maps",),
    "studies.verify": ("Verification", "verify"),
}
_MODULE_OF = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("pgc-graph")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
