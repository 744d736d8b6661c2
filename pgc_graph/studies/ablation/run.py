"""Change tensors one at a time and measure what that does to a classifier's score.

The score of a model with one output value an image is that value; with several, it is the value of the class that the
model finds most likely for that image without gates, or of the class that is asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import onnx_ir as ir

from pgc_graph.analysis.interface import own_preprocess
from pgc_graph.analysis.targets import Target
from pgc_graph.errors import OptionError
from pgc_graph.images import ImageBatch
from pgc_graph.preprocess import Preprocess
from pgc_graph.runtime.session import RuntimeOptions, available_cores
from pgc_graph.studies.ablation.again import Images, ReadAgain
from pgc_graph.studies.ablation.intervention import Intervention, scaling
from pgc_graph.studies.ablation.loop import OnBatch, Study, Watcher, run_study
from pgc_graph.studies.ablation.measure import Measure, yardstick
from pgc_graph.studies.ablation.prepare import prepare
from pgc_graph.studies.ablation.reference import pool_of
from pgc_graph.studies.ablation.result import AblationResult
from pgc_graph.studies.ablation.saving import Keeper, Saving, identity, model_digest, open_keeper

__all__ = ["BATCH_SIZE", "ablate", "ablate_batches"]

BATCH_SIZE = 32
"""Images that are read and counted together, where they are small; the engine cuts them into calls."""
_BATCH_BYTES = 2**24

_MOST_DECODERS = 8


def ablate(
    model: ir.Model,
    images: Images,
    targets: Sequence[Target],
    *,
    preprocess: Preprocess | None = None,
    value: float = 0.0,
    intervention: Intervention | None = None,
    measure: Measure | None = None,
    runtime: RuntimeOptions | None = None,
    batch_size: int | None = None,
    on_batch: OnBatch | None = None,
    stop: Callable[[], bool] | None = None,
    saving: Saving | None = None,
    on_resume: Callable[[int], None] | None = None,
) -> AblationResult:
    """Change each of some tensors on each of some images and rank the tensors by what the score loses.

    Args:
        model: A classifier with one image input; stays untouched.
        images: Image files, or any source of images; those that cannot be read are skipped and counted.
        targets: The tensors, from `select_targets`.
        preprocess: How images become input; by default as the model's metadata say.
        value: What a tensor is multiplied by, where no intervention is given; 0 switches it off.
        intervention: What is done to a tensor.
        measure: Which class is scored, what images are labelled as, and what ranks the tensors.
        runtime: Where to run, and on how many threads.
        batch_size: Images that are read together; by default at most 32, and fewer where they are large.
        on_batch: Called with each batch and its scores, in order.
        stop: Asked before each batch; the result covers what is done once it says True.
        saving: Where the scores of each image and gate go, if anywhere; what is done outlasts a kill.
        on_resume: Called with the number of images that were done before, where a run goes on.

    Raises:
        UnsupportedError: The model is no image classifier, or none of the tensors can be gated.
        OptionError: The value, the measure or the batch size makes no sense; scores cannot be saved, or the run that is to
            go on was another one.
        ImageError: None of the images can be read.
        ModelError: onnxruntime cannot run the model.
    """
    if batch_size is not None and batch_size < 1:
        raise OptionError(f"batch size {batch_size} is impossible; expected at least 1")
    preprocess = preprocess or own_preprocess(model)
    chosen = intervention or scaling(value)
    source = ReadAgain(images, preprocess, batch_size or batch_size_of(preprocess), threads=decoders(runtime))
    study = _study(model, targets, chosen, measure, runtime, source)
    keeper = _keeper(saving, study, model, source) if saving is not None else None
    pool = source.donors(chosen.seed) if chosen.mode == "resample" else None
    return run_study(dataclasses.replace(study, pool=pool, keeper=keeper), _watcher(on_batch, stop, on_resume))


def ablate_batches(
    model: ir.Model,
    batches: Iterable[ImageBatch],
    targets: Sequence[Target],
    *,
    value: float = 0.0,
    intervention: Intervention | None = None,
    measure: Measure | None = None,
    runtime: RuntimeOptions | None = None,
    on_batch: OnBatch | None = None,
    stop: Callable[[], bool] | None = None,
) -> AblationResult:
    """Do what `ablate` does with batches of images that are ready for the model.

    Interventions that have to look at the images beforehand (`mean`, `noise`, `resample`) take a list of batches, or
    anything else that can be read more than once. Donors of `resample` are the first 64 images.

    Raises:
        ImageError: There is not a single image.
        OptionError: The batches can be read only once, and the intervention needs more.
        PgcGraphError: As for `ablate`.
    """
    chosen = intervention or scaling(value)
    pool = pool_of(batches, chosen)
    study = _study(model, targets, chosen, measure, runtime, batches)
    return run_study(dataclasses.replace(study, pool=pool), _watcher(on_batch, stop, None))


def batch_size_of(preprocess: Preprocess) -> int:
    """Return how many images are read together where nobody says so; it does not depend on the machine."""
    height, width = preprocess.size
    return max(1, min(BATCH_SIZE, _BATCH_BYTES // (height * width * 3 * 4)))


def _study(
    model: ir.Model,
    targets: Sequence[Target],
    intervention: Intervention,
    measure: Measure | None,
    runtime: RuntimeOptions | None,
    batches: Iterable[ImageBatch],
) -> Study:
    prepared = prepare(model, targets, intervention, runtime or RuntimeOptions())
    rule = yardstick(model, measure or Measure(), has_logit=len(prepared.outputs) > 1)
    return Study(prepared, rule, batches)


def _keeper(saving: Saving, study: Study, model: ir.Model, images: ReadAgain) -> Keeper:
    saving.check()
    digest = model_digest(model, saving.model_file)
    return open_keeper(saving, identity(study.prepared, digest, images, study.rule.measure))


def _watcher(
    on_batch: OnBatch | None, stop: Callable[[], bool] | None, on_resume: Callable[[int], None] | None
) -> Watcher:
    return Watcher(on_batch or (lambda batch, scores: None), on_resume or (lambda done: None), stop or (lambda: False))


def decoders(runtime: RuntimeOptions | None) -> int:
    """Return how many threads decode images beside those that run the model."""
    return max(1, min(_MOST_DECODERS, (runtime.threads if runtime is not None else 0) or available_cores()))
