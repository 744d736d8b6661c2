"""`pgc-graph ablate` on lists, Parquet and .npz files: the same ranking as on the folder that they were made from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from PIL import Image

from calibrated import calibrated_pgc, smooth_images
from pgc_graph import modelio

Run = Callable[..., Result]
CLASSES = ("not_pointing", "pointing")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model and five images in two folders named like its classes, and the same as a list, Parquet and .npz file."""
    modelio.save(calibrated_pgc("s"), tmp_path / "s.onnx")
    pictures = [(image * 255).round().astype(np.uint8).transpose(1, 2, 0) for image in smooth_images(5)]
    for index, picture in enumerate(pictures):
        path = tmp_path / "images" / CLASSES[index // 3] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    paths = sorted((tmp_path / "images").rglob("*.png"))
    (tmp_path / "list.txt").write_text("".join(f"{path.relative_to(tmp_path)}\n" for path in paths))
    labels = [path.parent.name for path in paths]
    rows = {"image_path": list(map(str, paths)), "image_bytes": [path.read_bytes() for path in paths], "label": labels}
    other = {"image_path": ["x.png"], "image_bytes": [paths[0].read_bytes()], "label": ["?"]}
    split = pa.array(["val"] * 5 + ["train"])
    table = pa.concat_tables([pa.table(rows), pa.table(other)]).append_column("split", split)
    pq.write_table(table, tmp_path / "a.parquet")
    np.savez(tmp_path / "a.npz", images=np.stack(pictures), labels=labels)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def document(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize("line", ["--image-list list.txt", "--parquet a.parquet --split val", "--npz a.npz"])
def test_ranking_equals_that_of_the_folder(line: str, place: Path, run_cli: Run) -> None:
    common = ("ablate", "--model", "s.onnx", "--limit", 4, "--json", "--topk-heatmaps", 0)
    folder = document(run_cli(*common, "--image-dir", "images"))
    found = document(run_cli(*common, *line.split()))
    assert found["gates"] == folder["gates"]
    assert [label["label"] for label in found["labels"]] == list(CLASSES)
    assert found["labels"] == folder["labels"]


@pytest.mark.parametrize("line", ["--parquet a.parquet", "--npz a.npz"])
def test_heatmaps_are_drawn_of_the_first_image(line: str, place: Path, run_cli: Run) -> None:
    run = ("ablate", "--model", "s.onnx", "--limit", 2, "--quiet", "--topk-heatmaps", 1)
    pages = []
    for options in (("--image-dir", "images"), tuple(line.split())):
        out = place / f"out{len(pages)}"
        result = run_cli(*run, *options, "--max-images", 3, "--topk-output-dir", out)
        assert result.exit_code == 0, result.stderr
        pages.append(next(path for path in sorted(out.glob("0*.png"))).read_bytes())
    assert pages[0] == pages[1]


def test_labels_of_a_csv_file_count_for_parquet_rows(place: Path, run_cli: Run) -> None:
    paths = sorted((place / "images").rglob("*.png"))
    (place / "labels.csv").write_text("image_path,label\nx.png,b\n" + "".join(f"{path},a\n" for path in paths))
    options = ("--parquet", "a.parquet", "--labels", "labels.csv", "--limit", 1, "--topk-heatmaps", 0, "--json")
    found = document(run_cli("ablate", "--model", "s.onnx", *options))
    assert [(label["label"], label["images"]) for label in found["labels"]] == [("a", 5), ("b", 1)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("--npz a.npz --parquet a.parquet", "both --parquet and --npz", id="two"),
        pytest.param("--npz a.npz --split val", "no meaning without --parquet", id="split-of-npz"),
        pytest.param("--parquet a.parquet --split test", "found train, val", id="no-such-split"),
        pytest.param("--parquet list.txt", "expected a Parquet file", id="no-parquet"),
        pytest.param("--npz list.txt", "expected an .npz file", id="no-npz"),
        pytest.param("--image-list none.txt", "image list not found", id="no-list"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(line: str, message: str, place: Path, run_cli: Run) -> None:
    result = run_cli("ablate", "--model", "s.onnx", *line.split())
    assert (result.exit_code, result.stdout) == (2, "")
    errors = [text for text in result.stderr.splitlines() if text.startswith("Error: ")]
    assert len(errors) == 1
    assert message in errors[0]
