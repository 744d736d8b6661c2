"""Preprocessing is what a plain computation says, and knows what a model wants."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pgc_graph.errors import ImageError, OptionError
from pgc_graph.images import Preprocess, preprocess_from_metadata, read_batches, resize_image, to_tensor


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


# Preprocessing.


def plain_bilinear(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float64]:
    """Bilinear with antialiasing, written out: a triangle filter, widened by the scale when shrinking, axis by axis."""

    def weights(source: int, target: int) -> NDArray[np.float64]:
        scale = source / target
        reach = max(scale, 1.0)
        matrix = np.zeros((target, source))
        for row in range(target):
            centre = (row + 0.5) * scale
            for column in range(source):
                matrix[row, column] = max(0.0, 1.0 - abs((column + 0.5 - centre) / reach))
            matrix[row] /= matrix[row].sum()
        return matrix

    rows, columns = weights(image.shape[0], size[0]), weights(image.shape[1], size[1])
    return np.einsum("ij,jkc,lk->ilc", rows, image.astype(np.float64), columns)


@pytest.mark.parametrize("size", [(32, 32), (16, 40), (80, 20), (120, 90), (50, 60)], ids=str)
def test_resize_is_antialiased_bilinear(size: tuple[int, int]) -> None:
    image = noise(50, 60)
    resized = resize_image(image, size)
    assert resized.shape == (*size, 3)
    assert np.abs(resized - plain_bilinear(image, size)).max() <= 1.01  # of 255


def test_resize_to_the_same_size_changes_nothing() -> None:
    assert np.array_equal(resize_image(noise(9, 7), (9, 7)), noise(9, 7))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_tensor_is_what_the_formula_says(layout: str, order: str) -> None:
    image, mean, std = noise(8, 6), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    tensor = to_tensor(image, Preprocess((8, 6), mean, std, layout, order))
    assert tensor.dtype == np.float32
    assert tensor.flags["C_CONTIGUOUS"]
    assert tensor.shape == ((3, 8, 6) if layout == "NCHW" else (8, 6, 3))
    for row, column, channel in ((0, 0, 0), (7, 5, 2), (3, 4, 1), (6, 1, 0)):
        expected = (image[row, column, channel] / 255 - mean[channel]) / std[channel]
        place = channel if order == "RGB" else 2 - channel
        got = tensor[place, row, column] if layout == "NCHW" else tensor[row, column, place]
        assert got == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"size": (0, 32)}, id="no-rows"),
        pytest.param({"std": (0.2, 0.0, 0.2)}, id="std-zero"),
        pytest.param({"std": (0.2, -0.1, 0.2)}, id="std-negative"),
        pytest.param({"std": (0.2, math.nan, 0.2)}, id="std-nan"),
        pytest.param({"mean": (0.2, math.inf, 0.2)}, id="mean-infinite"),
        pytest.param({"mean": (0.2, 0.2)}, id="two-means"),
        pytest.param({"layout": "CHW"}, id="layout"),
        pytest.param({"channel_order": "GBR"}, id="channel-order"),
    ],
)
def test_impossible_preprocessing_is_an_option_error(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Preprocess(**options)


# Batches.


def test_batches_skip_what_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(5)]
    for index, path in enumerate(paths):
        Image.fromarray(noise(6, 6, index)).save(path)
    paths[1].write_bytes(b"broken")
    preprocess = Preprocess((6, 6))
    batches = list(read_batches(paths, preprocess, batch_size=2))
    assert [batch.tensor.shape for batch in batches] == [(1, 3, 6, 6), (2, 3, 6, 6), (1, 3, 6, 6)]
    assert [path for batch in batches for path in batch.paths] == [paths[0], *paths[2:]]
    assert [skip.path for batch in batches for skip in batch.skipped] == [paths[1]]
    assert np.array_equal(batches[1].tensor[1], to_tensor(noise(6, 6, 3), preprocess))
    assert len(caplog.records) == 1
    assert str(paths[1]) in caplog.text


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_batch_of_broken_files_has_no_rows(layout: str, tmp_path: Path) -> None:
    paths = [tmp_path / "0.png", tmp_path / "1.png"]
    paths[0].write_bytes(b"broken")
    Image.fromarray(noise(6, 6)).save(paths[1])
    batches = list(read_batches(paths, Preprocess((6, 6), layout=layout), batch_size=1))
    assert [batch.tensor.shape[0] for batch in batches] == [0, 1]
    assert batches[0].tensor.shape[1:] == batches[1].tensor.shape[1:]


@pytest.mark.parametrize("count", [0, 3], ids=["none-given", "all-broken"])
def test_no_readable_image_is_an_image_error(count: int, tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(count)]
    for path in paths:
        path.write_bytes(b"broken")
    with pytest.raises(ImageError, match=f"none of the {count} images"):
        list(read_batches(paths, Preprocess()))


# What a model says about its input.

METADATA = {
    "pgc.image_size": "24x40",
    "pgc.mean": "0.5, 0.4, 0.3",
    "pgc.std": "0.2 0.2 0.1",
    "pgc.layout": "NCHW",
    "pgc.channel_order": "BGR",
}


def test_metadata_decides() -> None:
    expected = Preprocess((24, 40), (0.5, 0.4, 0.3), (0.2, 0.2, 0.1), "NCHW", "BGR")
    assert preprocess_from_metadata(METADATA, (None, 3, None, None)) == expected
    assert preprocess_from_metadata(METADATA, (None, 3, 24, 40)) == expected


def test_options_win_over_metadata() -> None:
    got = preprocess_from_metadata(METADATA, (None, 3, None, None), size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1))
    assert (got.size, got.mean, got.std, got.channel_order) == ((8, 8), (0, 0, 0), (1, 1, 1), "BGR")


@pytest.mark.parametrize(
    ("shape", "size", "layout"),
    [
        pytest.param((1, 3, 224, 192), (224, 192), "NCHW", id="nchw"),
        pytest.param((None, 48, 64, 3), (48, 64), "NHWC", id="nhwc"),
        pytest.param((None, 3, None, None), (32, 32), "NCHW", id="open-size"),
        pytest.param((None, None, None, None), (32, 32), "NCHW", id="all-open"),
    ],
)
def test_without_metadata_the_shape_decides(shape: tuple[int | None, ...], size: tuple[int, int], layout: str) -> None:
    assert preprocess_from_metadata({}, shape) == Preprocess(size, layout=layout)


@pytest.mark.parametrize(
    ("metadata", "shape", "size"),
    [
        pytest.param({}, (None, 3, 32, 32), (64, 64), id="size-against-fixed-input"),
        pytest.param({"pgc.image_size": "64x64"}, (None, 3, 32, 32), None, id="metadata-against-fixed-input"),
        pytest.param({}, (None, 1, 32, 32), None, id="one-channel"),
        pytest.param({}, (None, 3), None, id="rank-two"),
        pytest.param({}, (), None, id="scalar"),
        pytest.param({"pgc.image_size": "big"}, (None, 3, 32, 32), None, id="size-is-no-number"),
        pytest.param({"pgc.image_size": "32"}, (None, 3, 32, 32), None, id="size-is-one-number"),
        pytest.param({"pgc.mean": "0.5,0.5"}, (None, 3, 32, 32), None, id="two-means"),
        pytest.param({"pgc.std": "a,b,c"}, (None, 3, 32, 32), None, id="std-is-text"),
        pytest.param({"pgc.std": "0,0,0"}, (None, 3, 32, 32), None, id="std-is-zero"),
        pytest.param({"pgc.layout": "CHWN"}, (None, 3, 32, 32), None, id="unknown-layout"),
        pytest.param({"pgc.layout": "NCHW"}, (None, 3), None, id="layout-but-rank-two"),
    ],
)
def test_contradictions_are_option_errors(
    metadata: dict[str, str], shape: tuple[int | None, ...], size: tuple[int, int] | None
) -> None:
    with pytest.raises(OptionError):
        preprocess_from_metadata(metadata, shape, size=size)


def test_pgc_models_say_how_to_feed_them(pgc_model: Callable[[str], Any]) -> None:
    assert preprocess_from_metadata(pgc_model("s").metadata_props, (None, 3, 32, 32)) == Preprocess()
