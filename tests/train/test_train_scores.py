"""ROC-AUC and calibration against plain slow code; predictions as a CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from conftest import REPOSITORY
from pgc_train.calibration import calibrate, roc_auc
from pgc_train.cli import cli

MODEL = REPOSITORY / "models" / "pgc_s_32x32.onnx"


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.mark.parametrize("seed", range(5))
def test_area_is_the_share_of_pairs_in_the_right_order(seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits, labels = generator.integers(-4, 5, 40).astype(float), generator.integers(0, 2, 40).astype(np.float32)
    pairs = [(a > b) + 0.5 * (a == b) for a in logits[labels > 0.5] for b in logits[labels < 0.5]]
    assert roc_auc(logits, labels) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_area_of_one_class_is_unknown() -> None:
    assert roc_auc(np.array([0.1, 2.0]), np.array([1.0, 1.0])) is None


def test_calibration_error_by_hand() -> None:
    probability = np.array([0.05, 0.05, 0.95, 0.95, 1.0])
    logits = np.log(np.clip(probability, 1e-9, 1 - 1e-9) / (1 - np.clip(probability, 1e-9, 1 - 1e-9)))
    result = calibrate(logits, np.array([0, 1, 1, 1, 0], np.float32))
    assert [entry.count for entry in result.bins] == [2, 0, 0, 0, 0, 0, 0, 0, 0, 3]
    assert result.bins[0].pointing == 0.5
    assert result.bins[5].probability is None
    mean = (0.95 + 0.95 + 1.0) / 3
    assert result.error == pytest.approx((2 * 0.45 + 3 * abs(2 / 3 - mean)) / 5, abs=1e-6)


def test_evaluate_reports_area_and_calibration_per_source(crops_root: Path) -> None:
    document = json.loads(_run("evaluate", MODEL, "--data", crops_root, "--json").stdout)
    assert document["roc_auc_by_source"] == {"bars": document["roc_auc"]}
    assert sum(entry["count"] for entry in document["calibration"]["bins"]) == 24
    assert "ROC-AUC" in _run("evaluate", MODEL, "--data", crops_root).stderr


def test_predictions_are_those_of_the_evaluation(crops_root: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    single = next(iter(sorted((crops_root / "pointing").iterdir())))
    out = tmp_path / "p.csv"
    result = _run("predict", MODEL, single, tmp_path / "broken.png", crops_root / "not_pointing", "-o", out)
    assert result.exit_code == 0, result.output
    with out.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    expected = [single, *sorted((crops_root / "not_pointing").iterdir())]
    assert [Path(row["image_path"]) for row in rows] == expected
    for row in rows:
        probability = float(row["probability"])
        assert probability == pytest.approx(1 / (1 + np.exp(-float(row["logit"]))), abs=2e-6)
        assert row["prediction"] == ("pointing" if probability >= 0.5 else "not_pointing")
    scores = json.loads(_run("evaluate", MODEL, "--data", crops_root, "--json").stdout)["scores"]
    assert scores["false_positive"] == sum(row["prediction"] == "pointing" for row in rows[1:])


def test_no_readable_image_leaves_no_file(tmp_path: Path) -> None:
    result = _run("predict", MODEL, tmp_path / "none.png", "-o", tmp_path / "p.csv")
    assert result.exit_code == 2
    assert "none of the 1 images" in result.stderr
    assert not (tmp_path / "p.csv").exists()
