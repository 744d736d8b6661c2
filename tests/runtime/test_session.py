"""Sessions run models as onnx says they run, quietly, and their failures are ours to word."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import CompletedProcess

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from pgc_graph import modelio
from pgc_graph.errors import ModelError
from pgc_graph.runtime.parity import random_feeds
from pgc_graph.runtime.session import RuntimeOptions, available_cores, open_session

CPU = RuntimeOptions("cpu", threads=1)


def model(body: str, inputs: str = "float[n, 4] x", outputs: str = "float[n, 4] y") -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => ({outputs}) {{ {body} }}')


@pytest.mark.parametrize("optimise", [True, False])
def test_a_session_computes_what_the_reference_computes(optimise: bool, pgc_model: Callable[[str], ir.Model]) -> None:
    small = pgc_model("s")
    session = open_session(small, RuntimeOptions("cpu", threads=1, optimise=optimise))
    feeds = next(random_feeds(small, seed=3))
    expected = ReferenceEvaluator(modelio.to_proto(small)).run(None, feeds)
    assert (session.input_names, session.output_names, session.provider) == (("images",), ("prob_pointing",), "cpu")
    assert np.abs(session.run(feeds)[0] - expected[0]).max() < 1e-5


def test_outputs_come_in_the_order_asked_for() -> None:
    session = open_session(
        model("a = Neg(x) b = Relu(x)", outputs="float[n, 4] a, float[n, 4] b").SerializeToString(), CPU
    )
    x = np.ones((2, 4), np.float32)
    assert [array[0, 0] for array in session.run({"x": x})] == [-1, 1]
    assert [array[0, 0] for array in session.run({"x": x}, ["b", "a"])] == [1, -1]
    assert [array[0, 0] for array in session.run({"x": x}, ["b"])] == [1]


def test_an_input_with_a_default_can_be_fed_or_left_out() -> None:
    proto = model("y = Mul(x, gate)", "float[n, 4] x, float gate")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(2, np.float32), "gate"))
    session = open_session(modelio.load(proto), CPU)
    x = np.ones((1, 4), np.float32)
    assert session.input_names == ("x",)
    assert session.run({"x": x})[0][0, 0] == 2
    assert session.run({"x": x, "gate": np.array(0, np.float32)})[0][0, 0] == 0


@pytest.mark.parametrize(
    "feeds",
    [
        pytest.param({}, id="missing"),
        pytest.param({"z": np.zeros((1, 4), np.float32)}, id="unknown"),
        pytest.param({"x": np.zeros((1, 5), np.float32)}, id="shape"),
        pytest.param({"x": np.zeros((1, 4), np.float64)}, id="dtype"),
        pytest.param({"x": np.zeros(4, np.float32)}, id="rank"),
    ],
)
def test_bad_feeds_are_a_model_error_of_one_line(feeds: dict[str, np.ndarray]) -> None:
    session = open_session(modelio.load(model("y = Relu(x)")), CPU)
    with pytest.raises(ModelError) as caught:
        session.run(feeds)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "proto",
    [
        pytest.param(model("y = other.Op(x)").SerializeToString(), id="unknown-operator"),
        pytest.param(b"not a model", id="garbage"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_onnxruntime_refuses_is_a_model_error_of_one_line(proto: bytes) -> None:
    with pytest.raises(ModelError, match="onnxruntime refuses the model") as caught:
        open_session(proto, CPU)
    assert "\n" not in str(caught.value)


def test_a_failure_while_running_names_the_node() -> None:
    session = open_session(
        modelio.load(model("s = Constant<value_ints = [7]>() [bad] y = Reshape(x, s)", outputs="float[7] y")), CPU
    )
    with pytest.raises(ModelError, match="bad"):
        session.run({"x": np.zeros((2, 4), np.float32)})


def test_cores_are_counted() -> None:
    assert available_cores() >= 1


QUIET = """
import numpy, onnx
from pgc_graph import modelio
from pgc_graph.errors import ModelError
from pgc_graph.runtime.session import RuntimeOptions, open_session
text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 4] x) => (float[%s] y) { %s }'
parse = lambda shape, body: modelio.load(onnx.parser.parse_model(text % (shape, body)))
session = open_session(parse("n, 4", "y = Relu(x)"), RuntimeOptions("auto"))
assert session.run({"x": numpy.ones((2, 4), numpy.float32)})[0].sum() == 8
reshaping = open_session(parse("7", "s = Constant<value_ints = [7]>() y = Reshape(x, s)"))
for failing in (
    lambda: reshaping.run({"x": numpy.ones((2, 4), numpy.float32)}),
    lambda: open_session(onnx.parser.parse_model(text % ("n, 4", "y = other.Op(x)")).SerializeToString()),
):
    try:
        failing()
    except ModelError:
        continue
    raise SystemExit("no error")
"""


def test_onnxruntime_prints_nothing(run_python: Callable[..., CompletedProcess[str]]) -> None:
    result = run_python("-c", QUIET)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
