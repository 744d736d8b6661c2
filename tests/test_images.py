"""Images of every kind decode alike, and preprocessing is what a plain computation says."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pgc_graph.errors import ImageError, OptionError
from pgc_graph.images import (
    Preprocess,
    find_images,
    load_image,
    preprocess_from_metadata,
    read_batches,
    resize_image,
    to_tensor,
)


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def gradient(height: int, width: int) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [rows * 255 / (height - 1), columns * 255 / (width - 1), (rows + columns) * 100 / (height + width)]
    return np.stack(channels, axis=-1).astype(np.uint8)


# Decoding.


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".PNG"])
def test_lossless_formats_decode_exactly(suffix: str, tmp_path: Path) -> None:
    pixels = noise(7, 5)
    options: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}", **options)
    decoded = load_image(tmp_path / f"a{suffix}")
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, pixels)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_jpeg_decodes_nearly(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(gradient(32, 48)).save(tmp_path / f"a{suffix}", quality=95)
    difference = load_image(tmp_path / f"a{suffix}").astype(int) - gradient(32, 48)
    assert np.abs(difference).mean() < 2


def test_gray_becomes_three_equal_channels(tmp_path: Path) -> None:
    gray = noise(6, 4)[..., 0]
    Image.fromarray(gray).save(tmp_path / "a.png")
    assert np.array_equal(load_image(tmp_path / "a.png"), np.stack([gray] * 3, axis=-1))


def test_palette_becomes_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode=None).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
    image.putdata([0, 1, 2, 1])
    image.save(tmp_path / "a.png")
    expected = [[[255, 0, 0], [0, 255, 0]], [[10, 20, 30], [0, 255, 0]]]
    assert load_image(tmp_path / "a.png").tolist() == expected


def test_alpha_is_dropped(tmp_path: Path) -> None:
    pixels = noise(5, 5)
    alpha = np.full((5, 5, 1), 90, np.uint8)
    Image.fromarray(np.concatenate([pixels, alpha], axis=-1)).save(tmp_path / "a.png")
    assert np.array_equal(load_image(tmp_path / "a.png"), pixels)


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    bits = np.array([[True, False], [False, True]])
    Image.fromarray(bits).save(tmp_path / "a.png")
    assert np.array_equal(load_image(tmp_path / "a.png")[..., 1], bits * 255)


def test_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red, green, blue = load_image(tmp_path / "a.jpg").reshape(-1, 3).mean(axis=0)
    assert (red > 240, green < 15, blue < 15) == (True, True, True)


def test_sixteen_bits_keep_their_brightness(tmp_path: Path) -> None:
    deep = np.array([[0, 257 * 128], [257 * 200, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert np.abs(load_image(tmp_path / "a.png")[..., 0].astype(int) - [[0, 128], [200, 255]]).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int, tmp_path: Path) -> None:
    upright = noise(4, 6)
    # What a camera stores for each orientation (EXIF 2.32, tag 0x0112), written with numpy alone.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(load_image(tmp_path / "a.png"), upright)


# Damage.


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise(40, 40)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "webp"])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.9])
def test_a_truncated_image_is_an_image_error(kind: str, part: float, tmp_path: Path) -> None:
    data, path = encoded(kind), tmp_path / f"a.{kind}"
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ImageError, match=str(path)) as caught:
        load_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "webp"])
def test_flipped_bytes_give_an_image_or_our_error(kind: str, tmp_path: Path) -> None:
    data, path, generator = encoded(kind), tmp_path / f"a.{kind}", np.random.default_rng(3)
    for _ in range(60):
        damaged = bytearray(data)
        for position in generator.integers(0, min(len(data), 400), 3):
            damaged[position] = generator.integers(0, 256)
        path.write_bytes(damaged)
        try:
            assert load_image(path).shape[2] == 3
        except ImageError:
            continue


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize("side", [10_000, 60_000, 2**31 - 1], ids=str)
def test_a_huge_image_is_an_image_error(side: int, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_header(side, side) + bytes(50))
    with pytest.raises(ImageError, match=r"a\.png"):
        load_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    "content", [None, b"", b"hello", b"\x89PNG\r\n\x1a\n"], ids=["missing", "empty", "text", "magic"]
)
def test_what_is_no_image_is_an_image_error(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.png"):
        load_image(tmp_path / "a.png")


def test_a_folder_is_an_image_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        load_image(tmp_path)


# Finding.


def test_images_are_found_recursively_in_order(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.JPG", "a/b/c.webp", "a.bmp", "notes.txt", "c.gif", "a/.hidden.png", "d.jpeg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a/.hidden.png", "a/b/c.webp", "a/z.JPG", "a.bmp", "b.png", "d.jpeg"]
    assert [path.name for path in find_images(tmp_path, limit=2)] == [".hidden.png", "c.webp"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "does not exist"), ("file.png", "is not a folder"), ("empty", "no images")],
)
def test_a_folder_without_images_is_an_image_error(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.png").write_bytes(b"")
    with pytest.raises(ImageError, match=message):
        find_images(tmp_path / name)


def test_all_photographs_decode(photos: Path) -> None:
    paths = find_images(photos)
    assert len(paths) > 100
    for path in paths[:: max(1, len(paths) // 60)]:
        assert load_image(path).ndim == 3


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
