"""Where the logit of a classifier is found, and where there is none."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import onnx_ir as ir
import pytest

from pgc_graph import modelio
from pgc_graph.analysis.interface import score_output
from pgc_graph.analysis.logit import logit_tensor


@pytest.mark.parametrize(
    ("tail", "logit"),
    [
        pytest.param("y = Sigmoid (a)", "a", id="sigmoid"),
        pytest.param("y = Softmax <axis = 1> (a)", "a", id="softmax"),
        pytest.param("s = Sigmoid (a)  y = Identity (s)", "a", id="identity-behind"),
        pytest.param("s = Softmax (a)  f = Flatten (s)  y = Cast <to = 1> (f)", "a", id="flatten-and-cast-behind"),
        pytest.param("b = Flatten (a)  y = Sigmoid (b)", "b", id="nearest-tensor"),
        pytest.param("y = Neg (a)", None, id="no-squashing"),
        pytest.param("s = Sigmoid (a)  y = Neg (s)", None, id="arithmetic-behind"),
        pytest.param("s = Sigmoid (a)  y = Mul (a, s)", None, id="silu"),
        pytest.param("s = Sigmoid (a)  y = Transpose <perm = [0, 1]> (s)", None, id="reordered"),
        pytest.param("y = own.Sigmoid (a)", None, id="other-domain"),
    ],
)
def test_logit_is_what_the_last_squashing_reads(tail: str, logit: str | None) -> None:
    model = modelio.load(
        onnx.parser.parse_model(
            f"""<ir_version: 8, opset_import: ["": 17, "own": 1]>
            agraph (float[n, 3] x) => (float[n, 3] y) {{ a = Neg (x)  {tail} }}"""
        )
    )
    found = logit_tensor(score_output(model))
    assert (None if found is None else found.name) == logit


def test_logit_of_a_pgc_model_is_the_last_layer(pgc_model: Callable[[str], ir.Model]) -> None:
    found = logit_tensor(score_output(pgc_model("s")))
    assert found is not None
    assert found.name == "/base_model/Squeeze_output_0"
