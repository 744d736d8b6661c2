from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from pgc_train.cli import COMMANDS, cli

TINY = ("--base-channels", "8", "--num-blocks", "2", "--epochs", "1", "--batch-size", "4", "--threads", "1")


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def trained(crops_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "runs" / "tiny"
    result = _run("train", *TINY, "--data", crops_root, "--val-fraction", "0.34", "--output-dir", folder)
    assert result.exit_code == 0, result.output
    assert "validation F1" in result.stdout
    assert result.stderr == ""
    return folder


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from pgc_train.cli import cli\n"
        "for arguments in (['--help'], ['train', '--help']):\n"
        "    cli(arguments, standalone_mode=False)\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy', 'PIL', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    result = _run(name, "--help")
    assert result.exit_code == 0
    assert f"pgc-train {name}" in result.output


def test_train_evaluate_export_go_together(trained: Path, crops_root: Path, tmp_path: Path) -> None:
    result = _run("evaluate", trained, "--data", crops_root, "--by-source")
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["crops", "all", "bars"]
    document = json.loads(_run("evaluate", trained, "--data", crops_root, "--json").stdout)
    assert document["scores"]["count"] == 24
    result = _run("export", trained, "-o", tmp_path / "m.onnx", "--safetensors", tmp_path / "m.safetensors")
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "m.safetensors"}
    exported = json.loads(_run("evaluate", tmp_path / "m.onnx", "--data", crops_root, "--json").stdout)
    assert exported["scores"]["loss"] == pytest.approx(document["scores"]["loss"], abs=1e-5)
    assert exported["scores"]["f1"] == document["scores"]["f1"]


def test_evaluate_reads_one_split_of_a_table(trained: Path, crops_root: Path, tmp_path: Path) -> None:
    table = tmp_path / "splits.csv"
    rows = [f"{path},{path.parent.name},bars,{path.stem[:3]},cross" for path in sorted(crops_root.rglob("g00*.png"))]
    table.write_text("\n".join(["image_path,label,source,group,split", *rows]))
    document = json.loads(_run("evaluate", trained, "--splits", table, "--split", "cross", "--json").stdout)
    assert document["scores"]["count"] == 4
    assert _run("evaluate", trained, "--splits", table, "--split", "none").exit_code == 2


def test_overrides_make_a_custom_design(trained: Path) -> None:
    spec = json.loads((trained / "summary.json").read_text())["spec"]
    assert (spec["variant"], spec["base_channels"], spec["num_blocks"]) == ("custom", 8, 2)


def _one_line_error(result: Result, message: str) -> None:
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("Error: ")
    assert message in lines[0]


def test_missing_and_empty_folders_are_one_line_errors(tmp_path: Path) -> None:
    out = tmp_path / "run"
    _one_line_error(_run("train", "--output-dir", out), "nothing to learn from")
    _one_line_error(_run("train", "--data", tmp_path / "none", "--output-dir", out), "does not exist")
    (tmp_path / "empty").mkdir()
    _one_line_error(_run("train", "--data", tmp_path / "empty", "--output-dir", out), "no images")
    assert not out.exists()


def test_one_class_is_a_one_line_error(crops_root: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pointing").symlink_to(crops_root / "pointing")
    result = _run("train", "--data", crops_root / "pointing", "--output-dir", tmp_path / "run")
    _one_line_error(result, "pointing and 0 not_pointing")


def test_resume_and_existing_runs(trained: Path, crops_root: Path) -> None:
    arguments = ("train", *TINY, "--data", crops_root, "--val-fraction", "0.34", "--output-dir", trained)
    _one_line_error(_run(*arguments), "already holds a run")
    _one_line_error(_run(*arguments, "--resume", "--overwrite"), "contradict")
    _one_line_error(_run(*arguments, "--resume", "--lr", "0.5"), "another learning_rate")
    result = _run(*arguments, "--resume")
    assert result.exit_code == 0
    assert "best epoch 1 of 1" in result.stdout


def test_unreadable_crops_are_warned_about(crops_root: Path, tmp_path: Path) -> None:
    for label in ("pointing", "not_pointing"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for index in range(4):
            image = np.full((16, 16, 3), 50 * index, np.uint8)
            Image.fromarray(image).save(tmp_path / "data" / label / f"g{index}_0.png")
    (tmp_path / "data" / "pointing" / "g9_0.png").write_bytes(b"broken")
    code, out = "from pgc_train.cli import cli; cli()", tmp_path / "run"
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            "train",
            *TINY,
            "--data",
            tmp_path / "data",
            "--val-data",
            crops_root,
            "--output-dir",
            out,
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    assert result.stderr.count("Warning: skipped") == 1
    assert "1 unreadable" in result.stdout


@pytest.mark.parametrize("entry", ["novalue", "=x"])
def test_bad_metadata_is_a_one_line_error(trained: Path, tmp_path: Path, entry: str) -> None:
    _one_line_error(_run("export", trained, "-o", tmp_path / "m.onnx", "--metadata", entry), "KEY=VALUE")


def test_a_missing_output_folder_is_a_one_line_error(trained: Path, tmp_path: Path) -> None:
    _one_line_error(_run("export", trained, "-o", tmp_path / "none" / "m.onnx"), "cannot write")


def test_synth_draws_crops_that_train_can_use(tmp_path: Path) -> None:
    out = tmp_path / "drawn"
    result = _run("synth", out, "--count", "6", "--size", "32")
    assert result.exit_code == 0, result.output
    assert len(list((out / "pointing").iterdir())) == len(list((out / "not_pointing").iterdir())) == 3
    _one_line_error(_run("synth", out, "--count", "6"), "--overwrite")
    assert _run("synth", out, "--count", "2", "--overwrite").exit_code == 0
    assert len(list(out.rglob("*.png"))) == 2
