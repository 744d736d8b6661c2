"""rename, extract, set-batch, set-metadata, diff and verify as a user runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from calibrated import smooth_images
from click.testing import Result
from PIL import Image
from sample_models import rich_model

from pgc_graph import modelio

Cli = Callable[..., Result]
STEM = "/base_model/stem/stem.2/Mul_output_0"
REWRITES: dict[str, list[str]] = {
    "rename": ["^/base_model/", "/"],
    "extract": ["--inputs", STEM],
    "set-batch": ["--to", "8"],
    "set-metadata": ["pgc.note=a=b", "--remove", "pgc.variant"],
}


@pytest.fixture
def source(tmp_path: Path, pgc_model: Any) -> Path:
    path = tmp_path / "source.onnx"
    modelio.save(pgc_model("s"), path)
    return path


def spoiled(source: Path, name: str, part: str) -> Path:
    """Write a copy with one weight multiplied."""
    proto = onnx.ModelProto.FromString(source.read_bytes())
    weight = next(tensor for tensor in proto.graph.initializer if part in tensor.name)
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(1.1), weight.name))
    path = source.with_name(name)
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize("name", REWRITES)
def test_rewrite_writes_a_valid_checked_model(run_cli: Cli, source: Path, tmp_path: Path, name: str) -> None:
    before, out = source.read_bytes(), tmp_path / "out.onnx"
    result = run_cli(name, source, *REWRITES[name], "-o", out)
    assert result.exit_code == 0, result.output
    assert "parity ok: max |Δ| = " in result.stdout
    assert f"Saved {out}" in result.stdout
    assert source.read_bytes() == before
    onnx.checker.check_model(str(out), full_check=True)
    assert run_cli("diff", source, out).exit_code == 1


@pytest.mark.parametrize("name", ["rename", "set-metadata"])
def test_what_must_be_exact_is_checked_to_the_bit(run_cli: Cli, source: Path, tmp_path: Path, name: str) -> None:
    document = json.loads(run_cli(name, source, *REWRITES[name], "-o", tmp_path / "out.onnx", "--json").stdout)
    assert document["steps"][0]["parity"]["tolerance"] == 0
    assert document["steps"][0]["parity"]["outputs"][0]["max_difference"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rename", "MODEL", ".+", "same", "-o", "OUT"], "would both be named 'same'"),
        (["rename", "MODEL", "nothing", "x", "-o", "OUT"], "changes no tensor and node name"),
        (["extract", "MODEL", "-o", "OUT"], "neither inputs nor outputs"),
        (["extract", "MODEL", "--outputs", "nowhere", "-o", "OUT"], "no tensor 'nowhere'"),
        (["set-batch", "MODEL", "--to", "0", "-o", "OUT"], "no size and no name"),
        (["set-batch", "MODEL", "--to", "-3", "-o", "OUT"], "no size and no name"),
        (["set-metadata", "MODEL", "-o", "OUT"], "nothing to set or to remove"),
        (["set-metadata", "MODEL", "entry", "-o", "OUT"], "'entry' is no entry"),
        (["set-metadata", "MODEL", "--remove", "no", "-o", "OUT"], "no metadata key 'no'"),
        (["diff", "MODEL", "nowhere.onnx"], "not found: nowhere.onnx"),
        (["verify", "MODEL", "nowhere.onnx"], "not found: nowhere.onnx"),
        (["verify", "MODEL", "MODEL", "--image", "no.png"], "image not found: no.png"),
        (["verify", "MODEL", "MODEL", "--image-dir", "no"], "no does not exist"),
        (["verify", "MODEL", "MODEL", "--feeds", "no.npz"], "feeds file not found"),
        (["verify", "MODEL", "MODEL", "--feeds", "MODEL"], "cannot read feeds"),
        (["verify", "MODEL", "MODEL", "--image", "a.png", "--feeds", "b.npz"], "are both given"),
        (["verify", "MODEL", "MODEL", "--input-shape", "images=1,3,16,16"], "does not fit input 'images'"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    run_cli: Cli, source: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    names = {"MODEL": source, "OUT": tmp_path / "out.onnx"}
    result = run_cli(*(names.get(argument, argument) for argument in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert words in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.onnx"]


def test_a_part_that_runs_otherwise_is_not_written(
    run_cli: Cli, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pgc_graph.passes.extract as module
    from pgc_graph.passes.rewrite import Change, Rewrite

    right = module.extract
    other = modelio.load(spoiled(source, "bad.onnx", "features.2.block.0.weight"))
    wrong = lambda model, *tensors: Rewrite(right(other, *tensors).model, (Change("part", "wrong"),))  # noqa: E731
    monkeypatch.setattr(module, "extract", wrong)
    result = run_cli("extract", source, "--inputs", STEM, "-o", tmp_path / "out.onnx")
    assert result.exit_code == 1
    assert "nothing was written" in result.stderr
    assert not (tmp_path / "out.onnx").exists()


def test_a_short_option_ends_a_list_of_tensors(run_cli: Cli, source: Path, tmp_path: Path) -> None:
    last = "/base_model/features/features.2/out_act/Mul_output_0"
    result = run_cli("extract", source, "--outputs", STEM, last, "-o", tmp_path / "out.onnx")
    assert result.exit_code == 0, result.output
    assert [value.name for value in modelio.load(tmp_path / "out.onnx").graph.outputs] == [STEM, last]


def test_rename_can_be_limited_to_nodes(run_cli: Cli, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    result = run_cli("rename", source, "^/base_model", "", "--nodes", "-o", out)
    assert "0 tensors and" in result.stdout
    model = modelio.load(out)
    assert not any(str(node.name).startswith("/base_model") for node in model.graph)
    assert any(str(value.name).startswith("/base_model") for node in model.graph for value in node.outputs)


def test_set_batch_there_and_back_is_no_difference(run_cli: Cli, source: Path, tmp_path: Path) -> None:
    # PGC states the shapes of all its tensors as onnx infers them.
    fixed, free, whole = (tmp_path / name for name in ("fixed.onnx", "free.onnx", "whole.onnx"))
    run_cli("set-batch", source, "--to", "4", "-o", fixed)
    assert run_cli("set-batch", fixed, "--to", "batch", "-o", free).exit_code == 0
    run_cli("set-batch", source, "--to", "n", "-o", whole)
    assert run_cli("set-batch", whole, "--to", "batch", "-o", tmp_path / "again.onnx").exit_code == 0
    assert run_cli("diff", tmp_path / "again.onnx", free).stdout == "No difference\n"


def test_diff_of_equal_models_is_code_0(run_cli: Cli, source: Path) -> None:
    result = run_cli("diff", source, source)
    assert (result.exit_code, result.stdout) == (0, "No difference\n")
    document = json.loads(run_cli("diff", source, source, "--json").stdout)
    assert document["equal"] is True
    assert document["nodes"] == document["weights"] == []


def test_diff_shows_what_changed_and_all_of_it_on_request(run_cli: Cli, source: Path, tmp_path: Path) -> None:
    folded = tmp_path / "folded.onnx"
    run_cli("fold-bn", source, "-o", folded)
    short, full = run_cli("diff", source, folded), run_cli("diff", source, folded, "--all")
    assert short.exit_code == full.exit_code == 1
    assert "more lines (--all shows them)" in short.stdout
    assert "more lines" not in full.stdout
    count = sum(node.op_type == "BatchNormalization" for node in modelio.load(source).graph)
    assert f"nodes: {count} removed" in full.stdout
    assert "max |Δ| = " in full.stdout
    document = json.loads(run_cli("diff", source, folded, "--json").stdout)
    assert sum(change["kind"] == "removed" for change in document["nodes"]) == count


def test_diff_names_scopes_of_bodies_and_functions(run_cli: Cli, tmp_path: Path) -> None:
    proto = rich_model()
    modelio.save(modelio.load(proto), tmp_path / "a.onnx")
    proto.functions[0].node[0].op_type = "Tanh"
    modelio.save(modelio.load(proto), tmp_path / "b.onnx")
    result = run_cli("diff", tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert "in function local.swish: " in result.stdout


def test_verify_random_images_and_arrays(run_cli: Cli, source: Path, tmp_path: Path) -> None:
    folded, crops = tmp_path / "folded.onnx", tmp_path / "crops"
    run_cli("fold-bn", source, "-o", folded)
    crops.mkdir()
    images = smooth_images(11)
    for place, image in enumerate(images):
        Image.fromarray((image.transpose(1, 2, 0) * 255).astype(np.uint8)).save(crops / f"{place:02}.png")
    np.savez(tmp_path / "a.npz", images=images)
    for options, inputs in (
        ([], "4 inputs"),
        (["--runs", "2", "--seed", "5"], "2 inputs"),
        (["--image-dir", crops], "2 inputs"),
        (["--image", crops / "00.png"], "1 input"),
        (["--feeds", tmp_path / "a.npz", "--feeds", tmp_path / "a.npz"], "2 inputs"),
    ):
        result = run_cli("verify", source, folded, *options)
        assert result.exit_code == 0, result.output
        assert f"all 1 outputs agree, over {inputs}" in result.stdout
        assert "prob_pointing" in result.stdout


def test_verify_fills_up_a_fixed_batch_of_images(run_cli: Cli, source: Path, tmp_path: Path) -> None:
    fixed = tmp_path / "fixed.onnx"
    run_cli("set-batch", source, "--to", "4", "-o", fixed)
    crops = [tmp_path / f"{place}.png" for place in range(6)]
    for path, image in zip(crops, smooth_images(6), strict=True):
        Image.fromarray((image.transpose(1, 2, 0) * 255).astype(np.uint8)).save(path)
    options = [item for path in crops for item in ("--image", path)]
    result = run_cli("verify", fixed, source, *options)
    assert result.exit_code == 0, result.output
    assert "over 2 inputs" in result.stdout


def test_verify_names_the_first_tensor_and_node_that_differ(run_cli: Cli, source: Path, tmp_path: Path) -> None:
    bad = spoiled(source, "bad.onnx", "features.1.block.0.weight")
    node = next(
        n for n in modelio.load(bad).graph if any("features.1.block.0.weight" in str(v.name) for v in n.inputs if v)
    )
    result = run_cli("verify", source, bad)
    assert result.exit_code == 1
    assert "DIFFERS" in result.stdout
    assert f"First tensor that differs: {node.outputs[0].name} " in result.stdout
    assert f"computed by Conv {node.name}" in result.stdout
    found = json.loads(run_cli("verify", source, bad, "--json").stdout)
    assert (found["passed"], found["divergence"]["node"]) == (False, node.name)
    without = run_cli("verify", source, bad, "--no-bisect")
    assert without.exit_code == 1
    assert "First tensor" not in without.stdout
    assert run_cli("verify", source, bad, "--tolerance", "1").exit_code == 0
    assert run_cli("verify", source, bad, "--rtol", "1").exit_code == 0


def _external(proto: onnx.ModelProto, path: Path) -> None:
    onnx.save(proto, str(path), save_as_external_data=True, location="weights.data", size_threshold=0)


def _before_defaults(proto: onnx.ModelProto, path: Path) -> None:
    """Write a file of IR version 3, where every initializer is a graph input as well."""
    proto.ir_version = 3
    inputs = [onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in proto.graph.initializer]
    proto.graph.input.extend(inputs)
    onnx.save(proto, str(path))


@pytest.mark.parametrize("write", [_external, _before_defaults], ids=["external-data", "ir-3"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["rename", "^", "net::"],
        ["extract", "--inputs", "/features/stage2/unit1/activ/Relu_output_0"],
        ["extract", "--outputs", "/features/stage2/unit1/activ/Relu_output_0"],
        ["set-batch", "--to", "2"],
        ["set-metadata", "a=b"],
    ],
    ids=["rename", "extract-back", "extract-front", "set-batch", "set-metadata"],
)
def test_weights_beside_the_file_and_weights_among_the_inputs(
    run_cli: Cli, corpus_model: Any, tmp_path: Path, arguments: list[str], write: Callable[..., None]
) -> None:
    path, out = tmp_path / "model.onnx", tmp_path / "out" / "out.onnx"
    out.parent.mkdir()
    write(onnx.load(str(corpus_model("resnet20_cifar10"))), path)
    name, *options = arguments
    result = run_cli(name, path, *options, "-o", out)
    assert result.exit_code == 0, result.output
    onnx.checker.check_model(str(out), full_check=True)
    if name != "extract":
        # A fixed batch takes the feeds of a fixed batch, so the written file is the reference.
        assert run_cli("verify", out, path).exit_code == 0
