"""How `pgc-graph heatmap` draws a map: what a tensor holds, or what of it speaks for a class."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgc_graph.errors import OptionError

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    from pgc_graph.analysis.targets import Target
    from pgc_graph.images import Preprocess
    from pgc_graph.runtime.session import RuntimeOptions
    from pgc_graph.studies.heatmap import HeatmapResult

__all__ = ["METHOD_NAMES", "MapReader", "MethodRequest", "method_fields", "method_options"]

Function = TypeVar("Function", bound=Callable[..., Any])
MapReader = Callable[["NDArray[Any]"], "HeatmapResult"]
"""Draws the maps of one image, ready for the model: `(C, H, W)` or as the model wants it."""

METHOD_NAMES = (
    "activation",
    "gradcam",
    "gradcam++",
    "layercam",
    "xgradcam",
    "ablationcam",
    "eigencam",
    "integrated-gradients",
    "smoothgrad",
)
"""What `--method` takes: `activation` and the names of `pgc_graph.studies.cam`."""

_GRAPH_METHODS = ("gradcam", "gradcam++", "layercam", "xgradcam")
_INPUT_METHODS = ("integrated-gradients", "smoothgrad")


@dataclass(frozen=True)
class MethodRequest:
    """How maps are drawn, and where the model that draws them goes, if anywhere.

    Attributes:
        name: One of `METHOD_NAMES`.
        target: The class that maps speak of.
        steps: Of integrated-gradients and smoothgrad.
        noise: Of smoothgrad, a share of the range of the values fed.
        seed: Of smoothgrad.
        save_model: An .onnx file for the image's score and maps in one model.
    """

    name: str
    target: str
    steps: int
    noise: float
    seed: int
    save_model: Path | None

    @property
    def draws_input(self) -> bool:
        """Whether the one map is that of the image itself, and no tensor is chosen."""
        return self.name in _INPUT_METHODS

    def reader(
        self,
        model: ir.Model,
        targets: Sequence[Target],
        *,
        preprocess: Preprocess,
        reduce: str,
        runtime: RuntimeOptions,
    ) -> MapReader:
        """Return what draws the maps of one image; integrated-gradients compares with a black one.

        Raises:
            PgcGraphError: As `map_reader` and `class_activation_maps` do.
        """
        import numpy as np

        from pgc_graph.images import to_tensor
        from pgc_graph.studies.cam import CamOptions, class_activation_maps
        from pgc_graph.studies.heatmap import map_reader

        if self.name == "activation":
            return map_reader(model, targets, reduce=reduce, runtime=runtime)
        asked: dict[str, Any] = {
            "method": self.name,
            "target": self.target,
            "options": CamOptions(self.steps, self.noise, self.seed),
            "baseline": to_tensor(np.zeros((8, 8, 3), np.uint8), preprocess),
            "runtime": runtime,
        }
        return lambda row: class_activation_maps(model, row[None], targets, **asked)[0]

    def check(self, model_path: Path) -> None:
        """Find out before the work, not after it, that the model cannot be written.

        Raises:
            OptionError: The method is none that a model can be made of, the file is the input itself, or its folder is not
                there.
        """
        if self.save_model is None:
            return
        from pgc_cli.options import check_output

        if self.name not in _GRAPH_METHODS:
            raise OptionError(f"--save-model cannot write {self.name}; expected --method {'|'.join(_GRAPH_METHODS)}")
        check_output(self.save_model, (model_path,), force=False)
        if self.save_model.is_dir() or not self.save_model.resolve().parent.is_dir():
            raise OptionError(f"cannot write {self.save_model}; expected a file in a folder that exists")

    def save(self, model: ir.Model, targets: Sequence[Target]) -> None:
        """Write the model from images to score and maps, if asked for.

        Raises:
            OptionError: The file cannot be written.
        """
        if self.save_model is None:
            return
        from pgc_graph import modelio
        from pgc_graph.studies.cam import cam_model

        cam = cam_model(model, [target.tensor for target in targets], method=self.name, target=self.target)
        modelio.save(cam.model, self.save_model)


def method_options(function: Function) -> Function:
    """--method, --target, --cam-steps, --noise, --seed and --save-model, handed over as `method: MethodRequest`."""

    @click.option(
        "--method",
        type=click.Choice(METHOD_NAMES),
        default="activation",
        show_default=True,
        help="What a map shows: the tensor itself, or what speaks for a class (docs/class-maps.md).",
    )
    @click.option(
        "--target", default="argmax", show_default=True, help="The class to explain: argmax (as found), name or index."
    )
    @click.option(
        "--cam-steps",
        type=click.IntRange(1),
        default=50,
        show_default=True,
        help="Points of integrated-gradients, noisy copies of smoothgrad.",
    )
    @click.option(
        "--noise", type=float, default=0.15, show_default=True, help="Of smoothgrad: a share of the range of the input."
    )
    @click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of smoothgrad's noise.")
    @click.option(
        "--save-model",
        type=click.Path(path_type=Path),
        help="With gradcam, gradcam++, layercam or xgradcam: write the model from images to score and maps.",
    )
    @functools.wraps(function)
    def wrapper(
        *args: Any,
        method: str,
        target: str,
        cam_steps: int,
        noise: float,
        seed: int,
        save_model: Path | None,
        **kwargs: Any,
    ) -> Any:
        request = MethodRequest(method, target, cam_steps, noise, seed, save_model)
        return function(*args, method=request, **kwargs)

    return wrapper  # type: ignore[return-value]


def method_fields(result: HeatmapResult) -> dict[str, Any]:
    """Say in JSON how maps were drawn: the method and, where it explains a class, which one and its logit (or score)."""
    from pgc_graph.studies.cam import CamResult

    if not isinstance(result, CamResult):
        return {"method": "activation"}
    explained = None if result.class_index is None else result.explained
    return {"method": result.method, "class": result.class_index, "label": result.class_label, "explained": explained}
