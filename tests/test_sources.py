"""Sources of images: the same pixels and labels out of folders, lists, Parquet and .npz files, from any position."""

from __future__ import annotations

import io
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pgc_graph.errors import ImageError, OptionError
from pgc_graph.images import Preprocess, find_images, to_tensor
from pgc_graph.sources import (
    FileImages,
    ImageSource,
    image_folder,
    image_list,
    npz_images,
    parquet_images,
    read_ahead,
    to_picture,
    to_row,
)

COUNT = 23
NAMES = ("left", "right")


def pixels(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (7, 9, 3), np.uint8)


def label(index: int) -> str:
    return NAMES[index % 2]


def encoded(index: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels(index)).save(stream, format="PNG")
    return stream.getvalue()


def write_folder(root: Path) -> ImageSource:
    for index in range(COUNT):
        path = root / f"{index:02d}" / label(index) / "image.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(encoded(index))
    return image_folder(root)


def write_list(root: Path) -> ImageSource:
    write_folder(root / "images")
    names = [path.relative_to(root).as_posix() for path in find_images(root)]
    (root / "list.txt").write_text("\n".join([names[0], "", *names[1:-1], str(root / names[-1])]))
    return image_list(root / "list.txt")


def rows(split: bool = True) -> dict[str, list[Any]]:
    """Columns of all images, with rows of another split between them."""
    columns: dict[str, list[Any]] = {"image_path": [], "image_bytes": [], "label": [], "split": []}
    for index in range(COUNT):
        for part in ("val", "train") if split else ("val",):
            row = (f"{part}/{index}.png", encoded(index if part == "val" else 99), label(index), part)
            for values, value in zip(columns.values(), row, strict=True):
                values.append(value)
    return columns


def write_parquet(root: Path) -> ImageSource:
    pq.write_table(pa.table(rows()), root / "a.parquet", row_group_size=10)
    return parquet_images(root / "a.parquet", split="val")


def write_single_group(root: Path) -> ImageSource:
    pq.write_table(pa.table(rows(split=False)), root / "a.parquet")
    return parquet_images(root / "a.parquet")


def write_npz(root: Path) -> ImageSource:
    images = np.stack([pixels(index) for index in range(COUNT)])
    np.savez(root / "a.npz", images=images, labels=[label(index) for index in range(COUNT)])
    return npz_images(root / "a.npz")


def write_compressed(root: Path) -> ImageSource:
    images = np.stack([pixels(index) for index in range(COUNT)])
    np.savez_compressed(root / "a.npz", labels=np.array([label(i) for i in range(COUNT)]), images=images)
    return npz_images(root / "a.npz")


MAKERS: dict[str, Callable[[Path], ImageSource]] = {
    "folder": write_folder,
    "list": write_list,
    "parquet-split": write_parquet,
    "parquet-one-group": write_single_group,
    "npz": write_npz,
    "npz-compressed": write_compressed,
}


@pytest.fixture(params=MAKERS.values(), ids=MAKERS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> ImageSource:
    made: ImageSource = request.param(tmp_path)
    return made


@pytest.mark.parametrize(
    "positions",
    [range(COUNT), range(9, 12), [0, 1, 10, 22], [22], range(5, 5)],
    ids=["all", "stretch", "some", "last", "none"],
)
def test_any_positions_can_be_read_again(source: ImageSource, positions: range | list[int]) -> None:
    assert len(source) == COUNT
    assert source.labels() == NAMES
    for _ in range(2):
        entries = list(source.read(positions))
        assert [entry.label for entry in entries] == [label(position) for position in positions]
        for entry, position in zip(entries, positions, strict=True):
            assert np.array_equal(entry.load(), pixels(position))


def test_source_can_be_sent_to_another_process(source: ImageSource) -> None:
    there = pickle.loads(pickle.dumps(source))
    (entry,) = there.read([3])
    assert np.array_equal(entry.load(), pixels(3))
    assert there.fingerprint() == source.fingerprint()


def test_fingerprint_changes_with_the_files(source: ImageSource, tmp_path: Path) -> None:
    before = source.fingerprint()
    path = next(path for path in sorted(tmp_path.rglob("*.*")) if path.suffix != ".txt" and path.is_file())
    os.utime(path, ns=(1, 1))
    assert source.fingerprint() != before


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [1, 4, 50])
def test_batches_come_in_order_with_positions_and_labels(source: ImageSource, size: int, threads: int) -> None:
    preprocess = Preprocess((6, 5), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), layout="NHWC")
    batches = list(read_ahead(source, range(2, COUNT), preprocess, batch_size=size, threads=threads))
    assert [len(batch.paths) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    positions = [int(position) for batch in batches for position in batch.positions]  # type: ignore[union-attr]
    assert positions == list(range(2, COUNT))
    assert [name for batch in batches for name in batch.labels] == [label(position) for position in positions]
    for row, position in zip(np.concatenate([batch.tensor for batch in batches]), positions, strict=True):
        assert np.array_equal(row, to_tensor(pixels(position), preprocess))


def test_batches_are_decoded_no_further_than_needed(tmp_path: Path) -> None:
    loaded: list[int] = []

    class Watched(FileImages):
        def read(self, positions: Any) -> Any:
            for entry, position in zip(super().read(positions), positions, strict=True):
                loaded.append(position)
                yield entry

    write_folder(tmp_path)
    batches = read_ahead(Watched(find_images(tmp_path)), range(COUNT), Preprocess((6, 6)), batch_size=2)
    next(batches)
    assert max(loaded) < 8
    batches.close()


def test_images_that_cannot_be_decoded_keep_their_place(tmp_path: Path) -> None:
    columns = rows(split=False)
    columns["image_bytes"][1] = b"no image"
    columns["image_bytes"][2] = None
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    (first, second) = list(read_ahead(parquet_images(tmp_path / "a.parquet", limit=6), range(6), Preprocess((6, 6)),
                                      batch_size=3))  # fmt: skip
    assert (first.positions.tolist(), second.positions.tolist()) == ([0], [3, 4, 5])  # type: ignore[union-attr]
    assert [skip.path.as_posix() for skip in first.skipped] == ["val/1.png", "val/2.png"]
    assert "no bytes" in first.skipped[1].reason


def test_limit_takes_the_first(tmp_path: Path) -> None:
    write_folder(tmp_path / "f")
    write_parquet(tmp_path)
    write_npz(tmp_path)
    sources = [
        image_folder(tmp_path / "f", limit=1),
        parquet_images(tmp_path / "a.parquet", split="val", limit=1),
        npz_images(tmp_path / "a.npz", limit=1),
    ]
    for source in sources:
        assert len(source) == 1
        assert source.labels() == ("left",)
        (entry,) = source.read(range(1))
        assert np.array_equal(entry.load(), pixels(0))


def test_floats_are_ready_for_the_model(tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(4, 3, 5, 6)).astype(np.float32)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([1, 0, 1, 1]))
    source = npz_images(tmp_path / "a.npz")
    assert source.labels() == ("0", "1")
    (entry,) = source.read([2])
    assert entry.label == "1"
    assert entry.path == Path(f"{tmp_path / 'a.npz'}#2")
    assert np.array_equal(to_row(entry.load(), Preprocess((5, 6), (0.5,) * 3)), images[2])
    assert np.array_equal(to_row(entry.load(), Preprocess((5, 6), layout="NHWC")), images[2].transpose(1, 2, 0))
    with pytest.raises(OptionError, match="float32 is 3x5x6; expected 3x6x6"):
        to_row(entry.load(), Preprocess((6, 6)))


@pytest.mark.parametrize(
    "preprocess",
    [Preprocess((7, 9), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), channel_order="BGR"), Preprocess((7, 9), pixels=True)],
    ids=["floats", "pixels"],
)
def test_picture_of_a_row_is_the_image(preprocess: Preprocess) -> None:
    assert np.array_equal(to_picture(to_tensor(pixels(0), preprocess), preprocess), pixels(0))
    assert np.array_equal(to_picture(pixels(0), preprocess), pixels(0))


# What cannot be read.


def write_bad(root: Path) -> None:
    np.savez(root / "other.npz", x=np.zeros(3))
    np.savez(root / "gray.npz", images=np.zeros((2, 4, 4, 1), np.uint8))
    np.savez(root / "empty.npz", images=np.zeros((0, 4, 4, 3), np.uint8))
    np.savez(root / "labels.npz", images=np.zeros((2, 4, 4, 3), np.uint8), labels=["a"])
    np.savez(root / "objects.npz", images=np.zeros((2, 4, 4, 3), np.uint8), labels=np.array(["a", 1], object))
    whole = (root / "labels.npz").read_bytes()
    (root / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (root / "empty.txt").write_text("\n \n")
    (root / "binary.txt").write_bytes(b"\xff\xfe\xff")
    table = pa.table(rows())
    pq.write_table(table.drop_columns(["image_bytes"]), root / "narrow.parquet")
    pq.write_table(table.drop_columns(["split"]), root / "unsplit.parquet")
    pq.write_table(table, root / "a.parquet")
    pq.write_table(table.slice(0, 0), root / "empty.parquet")
    (root / "cut.parquet").write_bytes((root / "a.parquet").read_bytes()[:-30])


BAD = {
    "missing-npz": (npz_images, "none.npz", "not found"),
    "other-array": (npz_images, "other.npz", "holds x; expected an array 'images'"),
    "gray": (npz_images, "gray.npz", "uint8 2x4x4x1; expected uint8 .N, H, W, 3."),
    "no-image": (npz_images, "empty.npz", "0x4x4x3; expected .* at least one"),
    "few-labels": (npz_images, "labels.npz", "'labels' is <U1 1 beside 2 images"),
    "object-labels": (npz_images, "objects.npz", "'labels' holds Python objects"),
    "cut-npz": (npz_images, "cut.npz", "cannot read images from"),
    "missing-list": (image_list, "none.txt", "image list not found"),
    "empty-list": (image_list, "empty.txt", "is empty"),
    "binary-list": (image_list, "binary.txt", "expected a UTF-8 text"),
    "missing-parquet": (parquet_images, "none.parquet", "not found"),
    "cut-parquet": (parquet_images, "cut.parquet", "expected a Parquet file"),
    "narrow-parquet": (parquet_images, "narrow.parquet", "no column image_bytes .found image_path, label, split"),
    "empty-parquet": (parquet_images, "empty.parquet", "has no rows"),
}


@pytest.mark.parametrize(("opening", "name", "message"), BAD.values(), ids=BAD)
def test_bad_file_is_one_line(opening: Callable[[Path], ImageSource], name: str, message: str, tmp_path: Path) -> None:
    write_bad(tmp_path)
    with pytest.raises((ImageError, OptionError), match=message) as caught:
        opening(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_split_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    write_bad(tmp_path)
    with pytest.raises(OptionError, match=r"split is 'test' \(found train, val\)"):
        parquet_images(tmp_path / "a.parquet", split="test")
    with pytest.raises(ImageError, match="no column split"):
        parquet_images(tmp_path / "unsplit.parquet", split="val")


def test_missing_pyarrow_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(OptionError, match=r"need pyarrow, which is missing; pip install 'pgc-graph\[parquet\]'"):
        parquet_images(tmp_path / "a.parquet")
