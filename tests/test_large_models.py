"""Many nodes, and weights of more than 2 GB in external data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from pgc_graph import modelio
from pgc_graph.analysis.names import FreshNames
from pgc_graph.passes.batchnorm import fold_batchnorm
from pgc_graph.passes.names import SNG_MAX_NODES, fill_names
from pgc_graph.runtime.parity import compare, random_feeds

BIG = 2_200_000_000 // 4


def chain(count: int) -> onnx.ModelProto:
    nodes = [onnx.helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(count)]
    inputs, outputs = (
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"])] for name in ("t0", f"t{count}")
    )
    graph = onnx.helper.make_graph(nodes, "chain", inputs, outputs)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def test_more_nodes_than_sng4onnx_is_asked_for_are_numbered_in_graph_order() -> None:
    named = fill_names(modelio.load(chain(SNG_MAX_NODES + 1))).model
    assert [node.name for node in named.graph] == [f"sng_Relu_{index}" for index in range(SNG_MAX_NODES + 1)]


def test_a_long_chain_of_constants_is_evaluated() -> None:
    proto = chain(3_000)
    parameters = ["t3000", "t3000", "t3000", "t3000"]
    proto.graph.node.append(onnx.helper.make_node("BatchNormalization", ["x", *parameters], ["y"]))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1.0, 2.0], np.float32), "t0"))
    del proto.graph.input[:], proto.graph.output[:]
    for field, name in ((proto.graph.input, "x"), (proto.graph.output, "y")):
        field.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 2]))
    folded = fold_batchnorm(modelio.load(proto)).model
    assert [node.op_type for node in folded.graph] == ["Mul", "Add"]


def test_a_name_wanted_often_is_numbered_on() -> None:
    fresh = FreshNames(modelio.load(chain(1)))
    assert [fresh.claim("name") for _ in range(50_000)][-1] == "name_49999"


def sparse_model(folder: Path, *, data: str = "weights.bin") -> Path:
    """A Gather from a table of more than 2 GB that takes no room on the disk, and a Conv with a BatchNormalization."""
    folder.mkdir()
    with (folder / data).open("wb") as file:
        file.truncate(BIG * 4)
        file.seek(4 * 8)
        file.write(np.arange(8, dtype=np.float32).tobytes())
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
        g (int64[n] rows, float[n, 2, 3, 3] x) => (float[n, 8] y, float[n, 2, 3, 3] z)
        <float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] s = {1, 2}, float[2] v = {3, 4}>
        { y = Gather (table, rows) c = Conv (x, w) z = BatchNormalization (c, s, s, s, v) }""")
    table = proto.graph.initializer.add(
        name="table", data_type=onnx.TensorProto.FLOAT, dims=[BIG // 8, 8], data_location=onnx.TensorProto.EXTERNAL
    )
    for key, value in {"location": data, "offset": "0", "length": str(BIG * 4)}.items():
        table.external_data.add(key=key, value=value)
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize("limit", [1_000, 10_000_000], ids=["hidden", "read"])
def test_simplify_keeps_external_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    import pgc_graph.passes.simplify as module

    monkeypatch.setattr(module, "MAX_READ_BYTES", limit)
    table = np.random.default_rng(0).random((64, 64), np.float32)
    (tmp_path / "weights.bin").write_bytes(table.tobytes())
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
        g (float[n, 64] x) => (float[n, 64] y) { t = Identity (x) u = MatMul (t, table) y = Identity (u) }""")
    tensor = proto.graph.initializer.add(
        name="table", data_type=onnx.TensorProto.FLOAT, dims=[64, 64], data_location=onnx.TensorProto.EXTERNAL
    )
    for key, value in {"location": "weights.bin", "offset": "0", "length": str(table.nbytes)}.items():
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    model = modelio.load(tmp_path / "model.onnx")
    rewrite = module.simplify(model)
    assert not rewrite.skipped
    assert [node.op_type for node in rewrite.model.graph] == ["MatMul"]
    assert [value.name for value in rewrite.model.graph.inputs] == ["x"]
    assert compare(model, rewrite.model, feeds=list(random_feeds(model, runs=2)), tolerance=0).passed
    (tmp_path / "out").mkdir()
    modelio.save(rewrite.model, tmp_path / "out" / "simple.onnx")
    kept = modelio.load(tmp_path / "out" / "simple.onnx").graph.initializers["table"].const_value
    assert isinstance(kept, ir.ExternalTensor)
    np.testing.assert_array_equal(kept.numpy(), table)
    assert not module.simplify(rewrite.model).changes


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux counts it")
def test_weights_above_2_gb_pass_through_in_bounded_memory(tmp_path: Path, run_python: Callable[..., Any]) -> None:
    source = sparse_model(tmp_path / "in")
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "named.onnx"
    result = run_python(
        "-c",
        f"""
import resource
resource.setrlimit(resource.RLIMIT_DATA, (1_500_000_000, 1_500_000_000))  # private memory; mapped files do not count
from pgc_graph import modelio
from pgc_graph.passes.names import fill_names
from pgc_graph.passes.batchnorm import fold_batchnorm
folded = fold_batchnorm(fill_names(modelio.load({str(source)!r})).model)
modelio.save(folded.model, {str(target)!r})
print(len(folded.changes))
""",
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["1"]
    model = modelio.load(target)
    assert [node.op_type for node in model.graph] == ["Gather", "Conv"]
    tensor = model.graph.initializers["table"].const_value
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy()[1], np.arange(8, dtype=np.float32))
    assert {path.name for path in target.parent.iterdir()} == {"named.onnx", "named.onnx.data"}
