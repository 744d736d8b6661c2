"""Studies of channels and of removals that are to end before their first image is scored, and batches read once."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from calibrated import calibrated_pgc, smooth_images
from channel_checks import batches_of
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.errors import OptionError
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.ablation import Intervention
from pgc_graph.studies.ablation.channels import ablate_channel_batches
from pgc_graph.studies.ablation.cumulative import Removal, remove_batches_cumulatively

CPU = RuntimeOptions(provider="cpu", threads=1)


def after(calls: int) -> Callable[[], bool]:
    count = itertools.count()
    return lambda: next(count) >= calls


@pytest.mark.parametrize("calls", [0, 5])
def test_checks_of_channels_end_when_asked_to(calls: int) -> None:
    model, runs = calibrated_pgc("s"), list[int]()
    targets = select_targets(find_targets(model), TargetQuery())[-2:]
    batches = batches_of(smooth_images(4), 2)
    result = ablate_channel_batches(model, batches, targets, runtime=CPU, stop=after(calls), on_runs=runs.append)
    assert result.interrupted
    assert result.image_count == 0
    assert {tensor.way.note for tensor in result.tensors} == {"the study ended before this was checked"}
    assert len(result.channels) == 320
    assert {channel.delta.count for channel in result.channels} == {0}
    assert not runs


@pytest.mark.parametrize("calls", [0, 5])
def test_checks_of_removals_end_when_asked_to(calls: int) -> None:
    model, runs = calibrated_pgc("s"), list[int]()
    targets = select_targets(find_targets(model), TargetQuery())
    order = [Removal(target.tensor) for target in targets]
    result = remove_batches_cumulatively(
        model, batches_of(smooth_images(4), 2), order, targets, runtime=CPU, stop=after(calls), on_runs=runs.append
    )
    assert result.interrupted
    assert result.images == 0
    assert [point.prob.count for point in result.points] == [0] * 19
    assert not runs


def test_batches_that_can_be_read_once_do_not_do_for_resample() -> None:
    model = calibrated_pgc("s")
    targets = select_targets(find_targets(model), TargetQuery())[-1:]
    once = iter(batches_of(smooth_images(4), 2))
    with pytest.raises(OptionError, match="resample looks at the images twice"):
        ablate_channel_batches(model, once, targets, intervention=Intervention("resample"), runtime=CPU)
