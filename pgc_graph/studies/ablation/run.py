"""Scale tensors one at a time and measure what that does to a classifier's score.

The score of a model with one output value an image is that value; with several, it is the value of the class that the
model finds most likely for that image without gates, or of the class that is asked for.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import onnx_ir as ir

from pgc_graph.analysis.interface import image_input
from pgc_graph.analysis.targets import Target
from pgc_graph.errors import ImageError, OptionError
from pgc_graph.images import ImageBatch, Preprocess, SkippedImage, preprocess_from_metadata, read_batches
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.ablation.collect import Collector
from pgc_graph.studies.ablation.measure import Measure, Yardstick, yardstick
from pgc_graph.studies.ablation.prepare import Prepared, choose_runner, prepare
from pgc_graph.studies.ablation.result import AblationResult, EngineReport
from pgc_graph.studies.ablation.scores import Scores, Wanted
from pgc_graph.studies.ablation.workers import in_order

__all__ = ["BATCH_SIZE", "ablate", "ablate_batches"]

BATCH_SIZE = 8
"""Images a call: small batches stay in the processor's caches."""

OnBatch = Callable[[ImageBatch, Scores], None]


def ablate(
    model: ir.Model,
    images: Sequence[Path],
    targets: Sequence[Target],
    *,
    preprocess: Preprocess | None = None,
    value: float = 0.0,
    measure: Measure | None = None,
    runtime: RuntimeOptions | None = None,
    batch_size: int = BATCH_SIZE,
    on_batch: OnBatch | None = None,
    stop: Callable[[], bool] | None = None,
) -> AblationResult:
    """Scale each of some tensors on each of some images and rank the tensors by what the score loses.

    Args:
        model: A classifier with one image input; stays untouched.
        images: Image files; those that cannot be read are skipped and counted.
        targets: The tensors, from `select_targets`.
        preprocess: How images become input; by default as the model's metadata say.
        value: What a tensor is multiplied by; 0 switches it off.
        measure: Which class is scored, what images are labelled as, and what ranks the tensors.
        runtime: Where to run, and on how many threads.
        batch_size: Images a call.
        on_batch: Called with each batch and its scores, in order.
        stop: Asked before each batch; the result covers what is done once it says True.

    Raises:
        UnsupportedError: The model is no image classifier, or none of the tensors can be gated.
        OptionError: The value, the measure or the batch size makes no sense.
        ImageError: None of the images can be read.
        ModelError: onnxruntime cannot run the model.
    """
    if batch_size < 1:
        raise OptionError(f"batch size {batch_size} is impossible; expected at least 1")
    if preprocess is None:
        preprocess = preprocess_from_metadata(model.metadata_props, image_input(model).shape)
    batches = read_batches(images, preprocess, batch_size=batch_size)
    return ablate_batches(
        model, batches, targets, value=value, measure=measure, runtime=runtime, on_batch=on_batch, stop=stop
    )


def ablate_batches(
    model: ir.Model,
    batches: Iterable[ImageBatch],
    targets: Sequence[Target],
    *,
    value: float = 0.0,
    measure: Measure | None = None,
    runtime: RuntimeOptions | None = None,
    on_batch: OnBatch | None = None,
    stop: Callable[[], bool] | None = None,
) -> AblationResult:
    """Do what `ablate` does with batches of images that are ready for the model.

    Raises:
        ImageError: There is not a single image.
        PgcGraphError: As for `ablate`.
    """
    prepared = prepare(model, targets, value, runtime or RuntimeOptions())
    has_logit = len(prepared.outputs) > 1
    rule = yardstick(model, measure or Measure(), has_logit=has_logit)
    prepared = dataclasses.replace(prepared, wanted=Wanted(rule.target))
    waiting = iter(batches)
    first, skipped = _first_with_images(waiting)
    second = next(waiting, None)
    choice = choose_runner(prepared, first.tensor, all_images=second is None)
    collector = Collector(prepared.targets, has_logit=has_logit, names=rule.names, rank_by=rule.measure.rank_by)
    stopped = stop or (lambda: False)
    todo = itertools.takewhile(
        lambda batch: not stopped(), itertools.chain([first], [second] if second else [], waiting)
    )
    for batch, scores in in_order(lambda b: choice.run(b.tensor, rule.wanted(b.paths)), todo, choice.workers):
        skipped.extend(batch.skipped)
        if scores is not None:
            collector.add(batch.paths, scores, rule.labels(batch.paths), rule.truth(batch.paths))
            if on_batch is not None:
                on_batch(batch, scores)
    return _result(prepared, rule, collector, choice.report, tuple(skipped), interrupted=stopped())


def _result(
    prepared: Prepared,
    rule: Yardstick,
    collector: Collector,
    report: EngineReport,
    skipped: tuple[SkippedImage, ...],
    *,
    interrupted: bool,
) -> AblationResult:
    return AblationResult(
        score_output=prepared.outputs[0],
        value=prepared.value,
        baseline=collector.baseline(),
        baseline_logit=collector.baseline_logit(),
        gates=collector.ranking(),
        images=tuple(collector.images),
        skipped_images=skipped,
        skipped_tensors=prepared.skipped,
        interrupted=interrupted,
        engine=report,
        target=rule.measure.target,
        rank_by=rule.measure.rank_by,
        quality=collector.quality(),
        labels=collector.labels(),
    )


def _first_with_images(batches: Iterable[ImageBatch]) -> tuple[ImageBatch, list[SkippedImage]]:
    """Return the first batch that has images, and what was skipped in the batches before it."""
    skipped: list[SkippedImage] = []
    for batch in batches:
        if batch.paths:
            return batch, skipped
        skipped.extend(batch.skipped)
    raise ImageError("there is no image to run the model on; give at least one")
