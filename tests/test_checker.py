"""onnx.checker through `checker`: what it refuses though runtimes run it is read, and all else is checked as strictly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import Result

from pgc_graph import modelio
from pgc_graph.errors import ModelError, ModelFileError

GROUPS = """<ir_version: 8, opset_import: ["": 18]> g (float[n, 4, 3, 3] x) => (float[n, 4, 3, 3] y)
    <float[2] s = {1.0, 2.0}> { t = Relu (x) y = GroupNormalization <num_groups = 2> (t, s, s) }"""
BRANCH = """<ir_version: 8, opset_import: ["": 18]> g (float[n, 4] x, bool b, float[2] s) => (float[n, 4] y) {
    y = If (b) < then_branch = a () => (float[n, 4] p) { p = GroupNormalization <num_groups = 2> (x, s, s) },
                 else_branch = e () => (float[n, 4] q) { q = Relu (x) }> }"""
FUNCTION = """<ir_version: 8, opset_import: ["": 20, "ours": 1]> g (float[n, 4] x, float[2] s) => (float[n, 4] y) {
    y = ours.group (x, s) }
    <domain: "ours", opset_import: ["": 18]> group (a, s) => (b) { b = GroupNormalization <num_groups = 2> (a, s, s) }"""


@pytest.mark.parametrize("text", [GROUPS, BRANCH, FUNCTION], ids=["main graph", "branch", "function"])
def test_withdrawn_group_normalization_is_read_and_checked(text: str) -> None:
    model = modelio.load(onnx.parser.parse_model(text))
    modelio.check(model)
    assert "withdrawn" not in str(modelio.to_proto(model))


@pytest.mark.parametrize(
    "text",
    [
        GROUPS.replace("Relu (x)", "Relu (z)"),
        GROUPS.replace("Relu (x)", "Relu (x, x)"),
        GROUPS.replace("GroupNormalization <num_groups = 2> (t, s, s)", "Scatter (t, s, s)"),
    ],
    ids=["missing tensor", "too many inputs", "withdrawn before this opset"],
)
def test_all_else_is_refused_as_before(text: str) -> None:
    with pytest.raises(ModelFileError):
        modelio.load(onnx.parser.parse_model(text))


def test_a_wrong_shape_beside_it_is_found() -> None:
    model = modelio.load(onnx.parser.parse_model(GROUPS.replace("Relu (x)", "MatMul (x, x)")))
    modelio.check(model)
    proto = modelio.to_proto(model)
    proto.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 5
    with pytest.raises(ModelError):
        modelio.check(modelio.load(proto))


@pytest.mark.parametrize("target", [17, 21])
def test_its_owner_converts_it(target: int, tmp_path: Path, run_cli: Callable[..., Result]) -> None:
    onnx.save(onnx.parser.parse_model(GROUPS), tmp_path / "groups.onnx")
    result = run_cli("opset", tmp_path / "groups.onnx", "--to", target, "-o", tmp_path / "out.onnx")
    assert result.exit_code == 0, result.output
    onnx.checker.check_model(onnx.load(tmp_path / "out.onnx"), full_check=True)


def test_its_weights_may_lie_beside_it(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(GROUPS)
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.float32([1, 2]), "s"))
    path = tmp_path / "groups.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="s.bin", size_threshold=0)
    tensor = modelio.load(path).graph.initializers["s"].const_value
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), [1, 2])
    (tmp_path / "s.bin").unlink()
    with pytest.raises(ModelFileError, match=r"data of 's' are not at .*s\.bin"):
        modelio.load(path)
