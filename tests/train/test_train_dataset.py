"""Crops in one Parquet file: what stands in it, who lies in which split, and who can read it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import REPOSITORY
from pgc_graph.errors import ImageError, OptionError
from pgc_graph.images import load_image
from pgc_graph.sources import parquet_images
from pgc_train.assign import assign_groups
from pgc_train.cli import cli
from pgc_train.dataset import DatasetQuery, write_dataset

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["to-parquet", *(str(argument) for argument in arguments)])


def _rows(path: Path) -> list[dict[str, object]]:
    return list(pq.read_table(path).to_pylist())


def test_table_holds_every_crop_with_its_file_and_whole_groups(crops_root: Path, tmp_path: Path) -> None:
    query = DatasetQuery((crops_root,), 0.2, 0.2, embed=True)
    report = write_dataset(query, tmp_path / "d.parquet")
    rows = _rows(tmp_path / "d.parquet")
    columns = ["split", "label", "class_id", "image_path", "source", "group", "image_bytes"]
    assert pq.read_schema(tmp_path / "d.parquet").names == columns
    files = sorted(crops_root.rglob("*.png"))
    assert sorted((tmp_path / str(row["image_path"])).resolve() for row in rows) == sorted(map(Path.resolve, files))
    splits: dict[object, set[object]] = {}
    for row in rows:
        path = tmp_path / str(row["image_path"])
        assert row["image_bytes"] == path.read_bytes()
        assert row["label"] == path.parent.name == ("not_pointing", "pointing")[int(str(row["class_id"]))]
        assert row["source"] == "bars"
        splits.setdefault(row["group"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert report.splits == {"train": (8, 8), "val": (2, 2), "test": (2, 2)}
    assert (report.rows, report.groups, report.skipped) == (24, 6, 0)


def test_the_group_expression_decides_who_stays_together(crops_root: Path, tmp_path: Path) -> None:
    write_dataset(DatasetQuery((crops_root,), 0.5, 0.0, group="_([0-9])[.]png"), tmp_path / "d.parquet")
    by_split = {(row["split"], str(row["image_path"])[-5]) for row in _rows(tmp_path / "d.parquet")}
    assert len(by_split) == 2
    report = write_dataset(DatasetQuery((crops_root,), 0.25, 0.25, group=".+"), tmp_path / "d.parquet")
    assert report.groups == 24
    assert report.splits == {"train": (6, 6), "val": (3, 3), "test": (3, 3)}


def test_ablate_and_its_source_read_the_table(crops_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    write_dataset(DatasetQuery((crops_root,), 0.2, 0.2, embed=True), path)
    source = parquet_images(path, split="val")
    assert source.labels() == ("not_pointing", "pointing")
    for entry in source.read(range(len(source))):
        np.testing.assert_array_equal(entry.load(), load_image(tmp_path / entry.path))
    arguments = ["ablate", "--model", str(REPOSITORY / "models" / "pgc_s_32x32.onnx"), "--parquet", str(path)]
    command = [sys.executable, "-m", "pgc_cli.main", *arguments, "--split", "val", "--json", "--quiet"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    scored = json.loads(result.stdout)["images"]
    assert [Path(image["path"]) for image in scored] == list(source.paths())


def test_rows_of_a_table_keep_their_split(crops_root: Path, tmp_path: Path) -> None:
    table = tmp_path / "annotation.csv"
    paths = sorted(crops_root.rglob("*.png"))
    splits = {f"g{index:02d}": name for index, name in enumerate(("train", "val", "cross", "", "", ""))}
    lines = [f"{path},{path.parent.name},{splits[path.stem[:3]]}" for path in paths]
    table.write_text("\n".join(["image_path,label,split", *lines]))
    report = write_dataset(DatasetQuery((table,), 0.2, 0.2), tmp_path / "d.parquet")
    for row in _rows(tmp_path / "d.parquet"):
        given = splits[Path(str(row["image_path"])).stem[:3]]
        assert row["split"] == given or not given
        assert row["source"] == tmp_path.name
    assert report.splits["cross"] == (2, 2)
    lines[0] = lines[0].replace(",train", ",val")
    table.write_text("\n".join(["image_path,label,split", *lines]))
    with pytest.raises(OptionError, match="two splits of the tables"):
        write_dataset(DatasetQuery((table,)), tmp_path / "d.parquet")


def test_files_that_cannot_be_read_are_left_out_and_counted(tmp_path: Path, crops_root: Path) -> None:
    table = tmp_path / "annotation.csv"
    good = sorted(crops_root.rglob("*.png"))[:3]
    (tmp_path / "broken.png").write_bytes(b"no image")
    lines = [f"{path},pointing,{path.stem}" for path in [*good, tmp_path / "broken.png", tmp_path / "none.png"]]
    table.write_text("\n".join(["image_path,label,group", *lines]))
    report = write_dataset(DatasetQuery((table,), 0.3, 0.0, embed=True), tmp_path / "d.parquet")
    assert (report.rows, report.skipped) == (3, 2)
    table.write_text("image_path,label\nnone.png,pointing\n")
    (tmp_path / "d.parquet").unlink()
    with pytest.raises(ImageError, match="none of the 1 crops"):
        write_dataset(DatasetQuery((table,), 0.0, 0.0), tmp_path / "d.parquet")
    assert not (tmp_path / "d.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--group", "["), "no regular expression"),
        (("--group", "x[0-9]+"), "finds nothing in"),
        (("--group", "bars"), r"1 group\(s\) cannot fill 3 splits"),
        (("--val-fraction", "0.7", "--test-fraction", "0.6"), "are impossible"),
    ],
    ids=["bad expression", "no match", "one group", "shares"],
)
def test_bad_options_are_a_one_line_error_and_leave_no_file(
    crops_root: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = _run(crops_root, "-o", tmp_path / "d.parquet", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert re.search(message, result.stderr)
    assert list(tmp_path.iterdir()) == []


def test_inputs_that_overlap_are_refused(crops_root: Path, tmp_path: Path) -> None:
    result = _run(crops_root, crops_root / "pointing", "-o", tmp_path / "d.parquet")
    assert result.exit_code == 2
    assert "lies in another of the inputs" in result.stderr


def test_the_summary_is_printed_as_text_and_as_json(crops_root: Path, tmp_path: Path) -> None:
    shares = ("--val-fraction", "0.2", "--test-fraction", "0.2")
    result = _run(crops_root, "-o", tmp_path / "d.parquet", *shares)
    assert [line.split() for line in result.stdout.splitlines()[2:5]] == [
        ["train", "8", "8", "66.7%"],
        ["val", "2", "2", "16.7%"],
        ["test", "2", "2", "16.7%"],
    ]
    document = json.loads(_run(crops_root, "-o", tmp_path / "d.parquet", *shares, "--json").stdout)
    assert document["splits"]["val"] == [2, 2]


@given(
    sizes=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=60, max_size=120), seed=st.integers(0, 99)
)
@settings(max_examples=30, deadline=None)
def test_every_class_is_spread_as_asked_within_a_group(sizes: list[tuple[int, int]], seed: int) -> None:
    counts = [pair if sum(pair) else (1, 1) for pair in sizes]
    groups = np.repeat(np.arange(len(counts), dtype=np.uint64), [sum(pair) for pair in counts])
    labels = np.concatenate([np.repeat(np.array([0, 1], np.uint8), pair) for pair in counts])
    places = assign_groups(groups, labels, SHARES, seed)
    assert all(len(set(places[groups == group])) == 1 for group in range(len(counts)))
    for label in (0, 1):
        total = int((labels == label).sum())
        for place, share in enumerate(SHARES.values()):
            assert abs(int(((labels == label) & (places == place)).sum()) - share * total) <= 10
    np.testing.assert_array_equal(places, assign_groups(groups, labels, SHARES, seed))


def test_memory_does_not_grow_with_the_rows(tmp_path: Path, crops_root: Path) -> None:
    code = (
        "import sys, resource; from pathlib import Path\n"
        "from pgc_graph.sources import ParquetRow, write_parquet\n"
        "with write_parquet(Path(sys.argv[1]), embed=True) as table:\n"
        "    for index in range(int(sys.argv[2])):\n"
        "        data = index.to_bytes(4, 'little') * 1500\n"
        "        table.add(ParquetRow('train', 'pointing', 1, f'{index}.png', 's', 'g', data))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peaks = []
    for count in (10_000, 50_000):
        command = [sys.executable, "-c", code, str(tmp_path / "d.parquet"), str(count)]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        assert pq.read_metadata(tmp_path / "d.parquet").num_rows == count
    assert peaks[1] - peaks[0] < 60_000  # kilobytes, where 240 MB more were written
