from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pgc_graph.errors import ImageError, OptionError
from pgc_graph.images import Preprocess
from pgc_train.data import (
    Crop,
    decode_for_inference,
    decode_for_training,
    find_crops,
    fingerprint,
    hold_out_groups,
    read_splits,
)
from pgc_train.prepare import DataQuery, choose_crops, load_training_data


def _image(path: Path, value: int = 100, size: int = 12) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(path)
    return path


def test_label_is_the_nearest_label_folder(tmp_path: Path) -> None:
    _image(tmp_path / "pointing" / "not_pointing" / "deep" / "a_1.png")
    _image(tmp_path / "set" / "pointing" / "b_1.jpg")
    crops = {crop.path.name: crop for crop in find_crops([tmp_path / "pointing", tmp_path / "set"])}
    assert crops["a_1.png"].label == 0
    assert crops["b_1.jpg"].label == 1
    assert crops["b_1.jpg"].source == "set"
    assert crops["b_1.jpg"].group == "set/b"


def test_a_file_under_two_roots_counts_once(crops_root: Path) -> None:
    assert len(find_crops([crops_root, crops_root / "pointing"])) == 24


def test_images_outside_label_folders_are_ignored_or_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _image(tmp_path / "other" / "a.png")
    with pytest.raises(ImageError, match="pointing or not_pointing"):
        find_crops([tmp_path])
    _image(tmp_path / "pointing" / "b.png")
    assert len(find_crops([tmp_path])) == 1
    assert "1 images" in caplog.text


def test_splits_reads_rows_of_one_split(tmp_path: Path) -> None:
    table = tmp_path / "splits.csv"
    table.write_text(
        "image_path,label,source,group,split\nx/1.png,pointing,x,g1,train\nx/2.png,not_pointing,x,g2,val\n"
        "x/3.png,pointing,x,g3,cross\n"
    )
    assert read_splits(table, "train") == (Crop(tmp_path / "x/1.png", 1, "x", "x/g1"),)
    assert read_splits(table, "cross")[0].group == "x/g3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_path,label\n", "no column 'source'"),
        ("image_path,label,source,group,split\na.png,fist,x,g,train\n", "label 'fist'"),
    ],
    ids=["missing column", "unknown label"],
)
def test_bad_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "splits.csv"
    table.write_text(text)
    with pytest.raises(OptionError, match=message):
        read_splits(table, "train")


def test_hold_out_takes_whole_groups_of_every_source() -> None:
    crops = [
        Crop(Path(f"{source}/{group}_{index}.png"), index % 2, source, f"{source}/{group}")
        for source in ("a", "b")
        for group in range(20)
        for index in range(4)
    ]
    training, validation = hold_out_groups(crops, 0.15, seed=0)
    assert {crop.group for crop in training}.isdisjoint({crop.group for crop in validation})
    assert len(training) + len(validation) == len(crops)
    for source in ("a", "b"):
        held = [crop for crop in validation if crop.source == source]
        assert len(held) == 12  # three of twenty groups of four
    assert hold_out_groups(crops, 0.15, seed=0) == (training, validation)
    assert hold_out_groups(crops, 0.15, seed=1) != (training, validation)


def test_hold_out_of_one_group_is_refused() -> None:
    crops = [Crop(Path(f"a_{index}.png"), index % 2, "s", "s/a") for index in range(10)]
    with pytest.raises(OptionError, match="--val-data"):
        hold_out_groups(crops, 0.2, seed=0)


def test_inference_pixels_are_those_of_every_other_command(crops_root: Path) -> None:
    crops = find_crops([crops_root])[:3]
    decoded = decode_for_inference(crops, Preprocess())
    for crop, row in zip(crops, decoded.pixels, strict=True):
        with Image.open(crop.path) as image:
            plain = np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR), np.float32) / 255
        np.testing.assert_allclose(row, plain.transpose(2, 0, 1), atol=1e-6)


def test_unreadable_crops_are_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _image(tmp_path / "pointing" / "a_1.png")
    (tmp_path / "pointing" / "b_1.png").write_bytes(b"not an image")
    decoded = decode_for_training(find_crops([tmp_path]), 16)
    assert decoded.pixels.shape == (1, 3, 16, 16)
    assert decoded.skipped == 1
    assert "b_1.png" in caplog.text
    with pytest.raises(ImageError, match="none of the 1 crops"):
        decode_for_training(decoded.crops[:0] + find_crops([tmp_path])[1:], 16)


def test_fingerprint_tells_labels_and_files_apart(crops_root: Path) -> None:
    crops = find_crops([crops_root])
    assert fingerprint(crops) == fingerprint(find_crops([crops_root]))
    assert fingerprint(crops) != fingerprint(crops[1:])


def test_drawn_crops_are_never_held_out_beside_photographs(crops_root: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn"
    shutil.copytree(crops_root, drawn)
    query = DataQuery(roots=(crops_root,), synthetic_roots=(drawn,), validation_fraction=0.3)
    photographs, synthetic, validation = choose_crops(query)
    assert {crop.source for crop in validation} == {"bars"}
    assert {crop.source for crop in synthetic} == {"drawn"}
    assert len(photographs) + len(validation) == 24
    data = load_training_data(query, Preprocess(), 16)
    assert data.synthetic.sum() == 24
    assert data.synthetic.size == len(photographs) + 24


def test_the_same_file_on_both_sides_is_refused(crops_root: Path) -> None:
    with pytest.raises(OptionError, match="both training and validation"):
        choose_crops(DataQuery(roots=(crops_root,), validation_roots=(crops_root / "pointing",)))


def test_validation_of_one_class_is_refused(crops_root: Path, tmp_path: Path) -> None:
    _image(tmp_path / "pointing" / "z_1.png")
    with pytest.raises(OptionError, match="1 pointing and 0 not_pointing"):
        load_training_data(DataQuery(roots=(crops_root,), validation_roots=(tmp_path,)), Preprocess(), 16)
