"""Ablation on a Ray cluster of several nodes: the figures of one machine, to 1e-9, whatever the shards and whoever dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from calibrated import calibrated_pgc
from pgc_graph.analysis.targets import Target, TargetQuery, find_targets, select_targets
from pgc_graph.errors import ImageError, OptionError, UnsupportedError
from pgc_graph.images import SkippedImage, find_images
from pgc_graph.results import to_data
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.sources import FileImages
from pgc_graph.studies.ablation import Intervention, Measure, ablate, ablate_on_cluster
from pgc_graph.studies.ablation.collect import Collector
from pgc_graph.studies.ablation.measure import OwnLabels
from pgc_graph.studies.ablation.moments import merge_moments
from pgc_graph.studies.ablation.reference import TensorStatistics
from pgc_graph.studies.ablation.shards import check_shared, cut_shards
from ray_nodes import ray_nodes

MODEL = calibrated_pgc("s")
TARGETS: tuple[Target, ...] = select_targets(find_targets(MODEL), TargetQuery())
MODES = {
    "zero": Intervention(),
    "mean": Intervention("mean"),
    "resample": Intervention("resample", seed=3),
    "noise": Intervention("noise", sigma=0.7, seed=5),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """75 drawn images in two folders named like classes, one of them no image."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(7)
    for index in range(75):
        path = folder / ("pointing" if index % 3 else "not_pointing") / f"{index:03d}.png"
        path.parent.mkdir(exist_ok=True)
        patches = rng.integers(0, 256, (5, 5, 3), np.uint8)
        Image.fromarray(patches).resize((40, 40), Image.Resampling.BICUBIC).save(path)
    (folder / "pointing" / "010.png").write_bytes(b"no image")
    return find_images(folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_nodes(2) as nodes:
        yield nodes


def close(one: Any, other: Any) -> bool:
    """Compare results: numbers to 1e-9, all else exactly."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(close(first, second) for first, second in zip(one, other, strict=True))
    if isinstance(one, float):
        return bool(one == pytest.approx(other, rel=1e-9, abs=1e-9, nan_ok=True))
    return bool(one == other)


def on_one_machine(pictures: tuple[Path, ...], intervention: Intervention) -> Any:
    return to_data(
        ablate(MODEL, pictures, TARGETS, intervention=intervention, measure=labelled(pictures), batch_size=8)
    )


def labelled(pictures: tuple[Path, ...]) -> Measure:
    return Measure(labels=OwnLabels(FileImages(pictures).labels()), rank_by="loss")


@pytest.mark.slow
class TestNodes:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("size", [0, 8, 40, 1000], ids="shards-of-{}".format)
    def test_any_sharding_gives_the_result_of_one_machine(
        self, cluster: Any, pictures: tuple[Path, ...], mode: str, size: int
    ) -> None:
        steps: list[tuple[int, int]] = []
        found = ablate_on_cluster(
            MODEL,
            pictures,
            TARGETS,
            intervention=MODES[mode],
            measure=labelled(pictures),
            batch_size=8,
            shard_images=size,
            on_shard=lambda done, total: steps.append((done, total)),
        )
        assert found.engine.method == "planned"
        assert (found.image_count, found.skipped_count) == (74, 1)
        assert close(to_data(found), on_one_machine(pictures, MODES[mode]))
        assert steps[-1] == (75, 75)
        assert len(steps) == {0: 5, 8: 10, 40: 2, 1000: 1}[size]

    def test_node_killed_in_the_middle_changes_nothing(self, cluster: Any, pictures: tuple[Path, ...]) -> None:
        many = pictures * 20
        third = cluster.add_node(num_cpus=1)
        seen: list[int] = []

        def kill(done: int, total: int) -> None:
            seen.append(done)
            if len(seen) == 20:
                cluster.remove_node(third, allow_graceful=False)

        found = ablate_on_cluster(MODEL, many, TARGETS, batch_size=8, shard_images=8, on_shard=kill)
        assert seen == [min(8 * index, len(many)) for index in range(1, len(seen) + 1)]
        assert found.image_count == 74 * 20
        assert close(to_data(found), to_data(ablate(MODEL, many, TARGETS, batch_size=8)))

    def test_stopped_study_covers_the_shards_that_are_done(self, cluster: Any, pictures: tuple[Path, ...]) -> None:
        steps: list[int] = []
        found = ablate_on_cluster(
            MODEL,
            pictures * 20,
            TARGETS,
            batch_size=8,
            shard_images=8,
            on_shard=lambda done, total: steps.append(done),
            stop=lambda: len(steps) >= 3,
        )
        assert found.interrupted
        assert 20 <= found.image_count <= steps[-1] < 75 * 20
        assert found.gates[0].delta.count == found.image_count

    def test_error_on_a_worker_is_one_of_ours(self, cluster: Any, pictures: tuple[Path, ...], tmp_path: Path) -> None:
        gone = FileImages([*pictures[:8], tmp_path / "gone.png"])
        found = ablate_on_cluster(MODEL, gone, TARGETS)
        assert found.skipped_count == 1  # it is not here either
        with pytest.raises(ImageError, match="none of the 1 images could be read"):
            ablate_on_cluster(MODEL, FileImages([tmp_path / "gone.png"]), TARGETS)


def test_providers_that_workers_do_not_have_are_refused(pictures: tuple[Path, ...]) -> None:
    with pytest.raises(OptionError, match="engine ray runs on processors, not on cuda"):
        ablate_on_cluster(MODEL, pictures, TARGETS, runtime=RuntimeOptions("cuda"))


def test_file_that_only_workers_cannot_read_is_an_error(pictures: tuple[Path, ...], tmp_path: Path) -> None:
    part = Collector(TARGETS, has_logit=True)
    part.skip([SkippedImage(tmp_path / "gone.png", "image not found")])
    check_shared(FileImages([tmp_path / "gone.png"]), part)
    part = Collector(TARGETS, has_logit=True)
    part.skip([SkippedImage(pictures[0], "image not found")])
    with pytest.raises(ImageError, match="can be read here, but a worker says: image not found"):
        check_shared(FileImages(pictures), part)


def test_shards_cover_every_image_once(pictures: tuple[Path, ...]) -> None:
    source = FileImages(pictures)
    shards = list(cut_shards(source, 16))
    found = [entry.path for shard in shards for entry in shard.source.read(range(len(shard.source)))]
    assert tuple(found) == pictures
    assert [(shard.start, shard.stop) for shard in shards] == [(0, 16), (16, 32), (32, 48), (48, 64), (64, 75)]


def statistics(values: np.ndarray) -> TensorStatistics:
    axes = (0, 2)
    return TensorStatistics(
        values.mean(axis=axes, keepdims=True), values.std(axis=axes, keepdims=True), values.shape[1:], values.dtype
    )


@given(cut=st.integers(1, 19), scale=st.sampled_from([1.0, 1e-9, 1e6]), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_statistics_of_parts_merge_into_those_of_the_whole(cut: int, scale: float, seed: int) -> None:
    values = 0.99999 + scale * np.random.default_rng(seed).normal(size=(20, 3, 4))
    merged = merge_moments("t", statistics(values[:cut]), cut, statistics(values[cut:]), 20 - cut)
    whole = statistics(values)
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-13, atol=1e-13 * scale)
    np.testing.assert_allclose(merged.std, whole.std, rtol=1e-6)
    assert (merged.shape, merged.dtype) == (whole.shape, whole.dtype)


def test_statistics_of_other_shapes_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="tensor 't' is"):
        merge_moments("t", statistics(np.ones((2, 3, 4))), 2, statistics(np.ones((2, 3, 5))), 2)
