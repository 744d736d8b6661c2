"""`pgc-graph ablate --per-channel` and `--cumulative` on images from anywhere, and with what they do not go together."""

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
LABELS = ("not_pointing", "pointing", "pointing", "not_pointing", "pointing")
CHANNELS = ("--per-channel", "--cumulative", "--cumulative-steps", 3)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and the same five images four times."""
    root = tmp_path_factory.mktemp("sources")
    modelio.save(calibrated_pgc("s"), root / "pgc_s.onnx")
    pixels = [(image * 255).round().astype(np.uint8).transpose(1, 2, 0) for image in smooth_images(5)]
    paths = [root / "images" / label / f"{index}.png" for index, label in enumerate(LABELS)]
    for path, image in zip(paths, pixels, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    (root / "list.txt").write_text("".join(f"{path.relative_to(root)}\n" for path in paths), encoding="utf-8")
    np.savez(root / "images.npz", images=np.stack(pixels), labels=np.array(LABELS))
    table = {"image_path": [path.name for path in paths], "image_bytes": [path.read_bytes() for path in paths]}
    pq.write_table(pa.table({**table, "label": LABELS, "split": ["test"] * 5}), root / "images.parquet")
    return root


def ablate(run_cli: Run, files: Path, *more: object) -> Result:
    chosen = ("--op-type", "Mul", "--name-contains", "features.3/out_act", "--topk-heatmaps", 0)
    return run_cli("ablate", "--model", files / "pgc_s.onnx", *chosen, *more)


def figures(document: dict[str, Any], more: tuple[object, ...]) -> dict[str, float]:
    """Return the numbers that do not depend on where images come from or stand, by name."""
    found = {f"point {point['removed']}": point["quality"]["loss"] for point in document["cumulative"]["points"]}
    found |= {f"label {label['label']}": label["prob"]["mean"] for label in document["labels"]}
    if "--per-channel" in more:
        return found | {f"channel {item['channel']}": item["delta"]["mean"] for item in document["channels"]}
    return found | {f"gate {item['position']}": item["delta"]["mean"] for item in document["gates"]}


@pytest.mark.parametrize("more", [CHANNELS, ("--cumulative",)], ids=["channels", "tensors"])
@pytest.mark.parametrize("source", ["--image-list list.txt", "--parquet images.parquet", "--npz images.npz"])
def test_source_gives_what_the_folder_gives(files: Path, run_cli: Run, source: str, more: tuple[object, ...]) -> None:
    option, name = source.split()
    expected, result = (
        ablate(run_cli, files, where, files / path, *more, "--json")
        for where, path in (("--image-dir", "images"), (option, name))
    )
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert [label["images"] for label in document["labels"]] == [2, 3]
    assert document["image_count"] == 5
    assert figures(document, more) == pytest.approx(figures(json.loads(expected.stdout), more), abs=1e-6)


def test_cumulative_goes_with_save_chart_costs_and_stats(files: Path, run_cli: Run, tmp_path: Path) -> None:
    outputs = ("--save", tmp_path / "s.csv", "--chart", tmp_path / "c.png", "--cumulative-chart", tmp_path / "k.png")
    npz = ("--npz", files / "images.npz")
    document = json.loads(ablate(run_cli, files, *npz, *outputs, "--cumulative", "--costs", "--stats", "--json").stdout)
    assert len(document["costs"]) == len(document["gates"]) == 1
    assert [point["removed"] for point in document["cumulative"]["points"]] == [0, 1]
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"s.csv", "s.summary.json", "c.png", "k.png"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        *(
            pytest.param(f"--per-channel {more}", f"{more.split()[0]} is about whole tensors; leave it out", id=more)
            for more in ("--save x.csv", "--resume", "--chart x.png", "--stats", "--costs")
        ),
        pytest.param("--per-channel --engine ray", "--per-channel runs on this machine alone", id="ray-channels"),
        pytest.param("--cumulative --engine ray", "--cumulative runs on this machine alone", id="ray-cumulative"),
    ],
)
def test_options_that_do_not_go_together_are_refused(files: Path, run_cli: Run, more: str, message: str) -> None:
    result = ablate(run_cli, files, "--npz", files / "images.npz", *more.split())
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not result.stdout
