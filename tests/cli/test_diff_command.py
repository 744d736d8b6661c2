"""`diff`: shapes that one file leaves unsaid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
from click.testing import Result

from pgc_graph import modelio

Cli = Callable[..., Result]


def test_diff_counts_shapes_that_one_file_leaves_unsaid(run_cli: Cli, tmp_path: Path) -> None:
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]> g (float[n, 4] x) => (float[n, 4] y)
        { t = Relu (x) u = Neg (t) y = Abs (u) }""")
    modelio.save(modelio.load(proto), tmp_path / "a.onnx")
    inferred = onnx.shape_inference.infer_shapes(proto)
    modelio.save(modelio.load(inferred), tmp_path / "b.onnx")
    result = run_cli("diff", tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert (
        result.stdout
        == "types and shapes stated once: 0 only in the first file, 2 only in the second (--all lists them)\n"
    )
    assert "t  not stated -> float nx4" in run_cli("diff", tmp_path / "a.onnx", tmp_path / "b.onnx", "--all").stdout
    inferred.graph.value_info[0].type.tensor_type.shape.dim[0].dim_value = 2
    modelio.save(modelio.load(inferred), tmp_path / "c.onnx")
    assert "float nx4 -> float 2x4" in run_cli("diff", tmp_path / "b.onnx", tmp_path / "c.onnx").stdout
