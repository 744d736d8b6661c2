"""Images of every kind are found and decode alike; damaged ones end in one line."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pgc_graph.errors import ImageError
from pgc_graph.images import find_images, load_image


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


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
