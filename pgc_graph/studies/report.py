"""Everything that a report of one model on some images says, gathered in one go; nothing is drawn here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from pgc_graph import modelio
from pgc_graph.analysis.blocks import GraphBlocks, find_blocks
from pgc_graph.analysis.interface import image_input
from pgc_graph.analysis.summary import ModelSummary, summarise
from pgc_graph.analysis.targets import Target, find_targets
from pgc_graph.errors import OptionError
from pgc_graph.images import ImageBatch, Preprocess
from pgc_graph.passes.shapes import infer_shapes
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.runtime.timing import TimingOptions, TimingReport, time_models
from pgc_graph.sources import ImageSource
from pgc_graph.studies.ablation import AblationResult, Measure, ablate
from pgc_graph.studies.ablation.measure import yardstick
from pgc_graph.studies.ablation.scores import Scores
from pgc_graph.studies.heatmap import Heatmap
from pgc_graph.studies.report_images import Chooser, Example, Mistake, Place, draw_from, show_mistakes

__all__ = ["NodeMaps", "ReportData", "ReportRequest", "gather_report"]

_TAPPED_AT_ONCE = 64
_MOST_MAPPED = 1024


@dataclass(frozen=True)
class ReportRequest:
    """How much a report shows.

    Attributes:
        examples: Images whose heatmaps are shown, over all labels.
        tensors: Tensors that each of them is shown with, from the most important one.
        mistakes: Images shown among the worst errors.
        seconds: How long latency is measured.
    """

    examples: int = 12
    tensors: int = 6
    mistakes: int = 12
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.examples < 1 or self.tensors < 1 or self.mistakes < 0 or not self.seconds > 0:
            raise OptionError(
                f"a report of {self.examples} images, {self.tensors} tensors, {self.mistakes} errors and {self.seconds} s "
                "of timing says nothing; expected at least 1 image and tensor, 0 errors and more than 0 s"
            )


@dataclass(frozen=True, eq=False)
class NodeMaps:
    """What all tensors that have places see in one image.

    Attributes:
        place: Which image.
        maps: By tensor.
    """

    place: Place
    maps: Mapping[str, Heatmap]


@dataclass(frozen=True, eq=False)
class ReportData:
    """What a report says.

    Attributes:
        name: What the model is called.
        summary: What it is.
        timing: What it takes, a batch of one (or as many as the model insists on).
        graph: Its nodes, by block.
        ablation: What each tensor does for the score.
        examples: Images with each label and what the most important tensors see in them.
        mistakes: The worst errors, then the hardest of the rest; empty without labels that are classes of the model.
        node_maps: For one image of each of the first two labels, what every tensor sees in it.
    """

    name: str
    summary: ModelSummary
    timing: TimingReport
    graph: GraphBlocks
    ablation: AblationResult
    examples: tuple[Example, ...]
    mistakes: tuple[Mistake, ...]
    node_maps: tuple[NodeMaps, ...]


def gather_report(
    model: ir.Model,
    images: ImageSource,
    targets: Sequence[Target],
    *,
    name: str,
    preprocess: Preprocess,
    request: ReportRequest | None = None,
    measure: Measure | None = None,
    runtime: RuntimeOptions | None = None,
    file_bytes: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> ReportData:
    """Describe, time and ablate a model, and look at some of the images with it.

    Args:
        model: A classifier with one image input; stays untouched.
        images: What it is tried on.
        targets: The tensors that are switched off one by one, from `select_targets`.
        name: What the model is called.
        preprocess: How images become input.
        request: How much is shown.
        measure: Which class is scored, what images are labelled as, and what ranks the tensors.
        runtime: Where to run, and on how many threads.
        file_bytes: Size of the file that the model came from.
        on_progress: Told how many of how many images are scored.

    Raises:
        PgcGraphError: As for `summarise`, `time_models`, `ablate` and `activation_maps`.
    """
    request, runtime, measure = request or ReportRequest(), runtime or RuntimeOptions(), measure or Measure()
    shapes = _input_shapes(model, preprocess)
    summary = summarise(model, input_shapes=shapes, file_bytes=file_bytes)
    rule = yardstick(model, measure, has_logit=True)
    chooser, done = Chooser(rule, examples=request.examples, mistakes=request.mistakes), 0

    def on_batch(batch: ImageBatch, scores: Scores) -> None:
        nonlocal done
        chooser.batch(batch, scores)
        done += len(batch.paths)
        on_progress(done, len(images))

    ablation = ablate(
        model, images, targets, preprocess=preprocess, measure=measure, runtime=runtime, on_batch=on_batch
    )
    top = [impact.target for impact in ablation.gates[: request.tensors]]
    examples = draw_from(model, images, chooser.examples(), top, preprocess, runtime)
    graph = find_blocks(_with_shapes(model))
    options = TimingOptions(runtime.provider, (runtime.threads,), (), None, request.seconds)
    return ReportData(
        name=name,
        summary=summary,
        timing=time_models([(name, model)], options, shapes=shapes),
        graph=graph,
        ablation=ablation,
        examples=examples,
        mistakes=show_mistakes(images, chooser.mistakes(), rule.names, preprocess),
        node_maps=_node_maps(model, images, graph, examples, preprocess, runtime),
    )


def _with_shapes(model: ir.Model) -> ir.Model:
    # Inference serialises the model, and a protobuf message has a limit.
    return infer_shapes(model) if modelio.weight_bytes(model) <= modelio.EMBED_LIMIT_BYTES else model


def _input_shapes(model: ir.Model, preprocess: Preprocess) -> dict[str, tuple[int, ...]]:
    source = image_input(model)
    height, width = preprocess.size
    rest = (3, height, width) if preprocess.layout == "NCHW" else (height, width, 3)
    return {source.name: (source.fixed_batch or 1, *rest)}


def _node_maps(
    model: ir.Model,
    images: ImageSource,
    graph: GraphBlocks,
    examples: Sequence[Example],
    preprocess: Preprocess,
    runtime: RuntimeOptions,
) -> tuple[NodeMaps, ...]:
    """Map every tensor of rank four, a few dozen at a time: all activations of a large model do not fit in memory."""
    wanted = {node.tensor for node in graph.nodes if node.shape is not None and len(node.shape) == 4}
    targets = [target for target in find_targets(model) if target.tensor in wanted][:_MOST_MAPPED]
    chunks = [targets[start : start + _TAPPED_AT_ONCE] for start in range(0, len(targets), _TAPPED_AT_ONCE)]
    shown = list({example.place.label: example.place for example in reversed(examples)}.values())[::-1][:2]
    found = []
    for place in shown:
        maps: dict[str, Heatmap] = {}
        for chunk in chunks:
            (example,) = draw_from(model, images, [place], chunk, preprocess, runtime)
            maps |= {item.target.tensor: item for item in example.maps.heatmaps if item.values.size > 1}
        found.append(NodeMaps(place, maps))
    return tuple(found)
