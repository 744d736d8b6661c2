"""Activations are recognised as one operator or as the nodes that exporters make of them, and addresses find them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx.parser
import onnx_ir as ir
import pytest
import torch

from pgc_graph import modelio
from pgc_graph.analysis.addresses import is_address, term_finds
from pgc_graph.analysis.patterns import activation_kind
from pgc_graph.analysis.targets import Target, TargetQuery, find_targets, select_targets
from pgc_graph.errors import OptionError, SelectionError


def kinds(body: str, opset: int = 18) -> list[str]:
    """The kinds of a graph's activations, in graph order."""
    head = f'<ir_version: 10, opset_import: ["" : {opset}]> g (float[n, 4] x, float[n, 4] z) => (float[n, 4] y)'
    text = f"{head} {{ {body} }}"
    return [kind for node in ir.from_proto(onnx.parser.parse_model(text)).graph if (kind := activation_kind(node))]


HALF, ROOT, ONE = (
    f"{name} = Constant <value = float {{{value}}}> ()"
    for name, value in (("half", 0.5), ("root", 1.414213), ("one", 1.0))
)
SIX = "three = Constant <value = float {3}> () zero = Constant <value = float {0}> () six = Constant <value = float {6}> ()"
ERF = f"{HALF} {ROOT} {ONE} d = Div(x, root) e = Erf(d) f = Add(e, one)"
CLIP = f"{SIX} a = Add(x, three) f = Clip(a, zero, six)"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param("s = Sigmoid(x) y = Mul(x, s)", ["silu"], id="silu"),
        pytest.param("s = Sigmoid(x) y = Mul(s, x)", ["silu"], id="silu-the-other-way"),
        pytest.param("s = Sigmoid(z) y = Mul(x, s)", ["gate"], id="squeeze-and-excitation"),
        pytest.param("s = HardSigmoid(z) y = Mul(s, x)", ["hard_gate"], id="hard-squeeze-and-excitation"),
        pytest.param(f"{ROOT} b = Mul(x, root) s = Sigmoid(b) y = Mul(x, s)", ["swish"], id="swish-with-beta"),
        pytest.param("b = Mul(x, z) s = Sigmoid(b) y = Mul(x, s)", ["gate"], id="beta-that-is-no-constant"),
        pytest.param("y = Relu(x)", ["relu"], id="relu"),
        pytest.param(f"{SIX} y = Clip(x, zero, six)", ["relu"], id="relu6"),
        pytest.param(f"{SIX} y = Clip(x, three, six)", [], id="clip-elsewhere"),
        pytest.param("y = HardSwish(x)", ["hardswish"], id="hardswish"),
        pytest.param("s = HardSigmoid(x) y = Mul(x, s)", ["hardswish"], id="hardswish-of-two-nodes"),
        pytest.param(f"{CLIP} m = Mul(x, f) y = Div(m, six)", ["relu", "hardswish"], id="hardswish-of-four"),
        pytest.param(f"{CLIP} q = Div(f, six) y = Mul(x, q)", ["relu", "hardswish"], id="hardswish-divided-first"),
        pytest.param(f"{CLIP} m = Mul(z, f) y = Div(m, six)", ["relu"], id="clip-of-another-tensor"),
        pytest.param(f"{ERF} m = Mul(x, f) y = Mul(m, half)", ["gelu"], id="gelu-halved-last"),
        pytest.param(f"{ERF} h = Mul(half, x) y = Mul(h, f)", ["gelu"], id="gelu-halved-first"),
        pytest.param(f"{ERF} h = Mul(f, half) y = Mul(h, x)", ["gelu"], id="gelu-half-the-curve"),
        pytest.param(f"{ERF} m = Mul(z, f) y = Mul(m, half)", [], id="erf-of-another-tensor"),
        pytest.param("y = other.Relu(x)", [], id="another-domain"),
        pytest.param("y = Mul(x, z)", [], id="plain-product"),
        pytest.param("y = Div(x, z)", [], id="plain-quotient"),
    ],
)
def test_kind(body: str, expected: list[str]) -> None:
    assert kinds(body) == expected


def test_gelu_and_swish_operators() -> None:
    assert kinds("y = Gelu(x)", 20) == ["gelu"]
    assert kinds("y = Swish(x)", 24) == ["swish"]


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        pytest.param(torch.nn.SiLU(), "silu", id="silu"),
        pytest.param(torch.nn.GELU(), "gelu", id="gelu"),
        pytest.param(torch.nn.GELU(approximate="tanh"), "gelu", id="gelu-tanh"),
        pytest.param(torch.nn.Hardswish(), "hardswish", id="hardswish"),
        pytest.param(torch.nn.ReLU6(), "relu", id="relu6"),
    ],
)
def test_what_torch_exports_is_recognised_once(layer: torch.nn.Module, kind: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter announces its successor
        torch.onnx.export(layer, (torch.zeros(1, 3, 4, 4),), tmp_path / "layer.onnx", opset_version=13, dynamo=False)
    model = modelio.load(tmp_path / "layer.onnx")
    assert [target.kind for target in find_targets(model) if target.kind] == [kind]
    assert find_targets(model)[-1].kind == kind


TARGETS = tuple(
    Target(f"{node}_output_0", node, op_type, kind)
    for node, op_type, kind in (
        ("/base/stem/stem.2/Mul", "Mul", "silu"),
        ("/base/features/features.2/block.1/Mul", "Mul", "silu"),
        ("/base/features/features.2/se/Mul", "Mul", "gate"),
        ("/base/features/features.20/block.1/Mul", "Mul", "silu"),
        ("/base/features/features.20/se/Mul", "Mul", "hard_gate"),
        ("/base/features/features.2/Conv", "Conv", ""),
    )
)


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        pytest.param("silu@features.2", [1], id="whole-parts-only"),
        pytest.param("SiLU@Features.2", [1], id="case-does-not-matter"),
        pytest.param("se@*", [2, 4], id="every-gate"),
        pytest.param("gate@*", [2], id="one-kind"),
        pytest.param("conv@features.2", [5], id="operator"),
        pytest.param("*@features.2", [1, 2, 5], id="anything-there"),
        pytest.param("silu@features.*/block.?", [1, 3], id="wildcards"),
        pytest.param("all@stem", [0], id="any-activation"),
        pytest.param("relu@*", [], id="none"),
        pytest.param("features.2", [1, 2, 3, 4, 5], id="plain-text-as-before"),
    ],
)
def test_term(term: str, expected: list[int]) -> None:
    assert [index for index, target in enumerate(TARGETS) if term_finds(term, target)] == expected


def test_name_with_an_at_sign_is_still_found_by_its_text() -> None:
    assert term_finds("net@conv1", Target("net@conv1:0", "net@conv1", "Conv"))
    assert not is_address("@conv1")
    assert not is_address("a/b@conv1")


@pytest.mark.parametrize(("pattern", "count"), [("silu", 20), ("se", 6), ("relu", 7), ("all", 33)])
def test_patterns_of_a_pgc_model(pattern: str, count: int, pgc_model: Callable[[str], ir.Model]) -> None:
    assert len(select_targets(find_targets(pgc_model("l")), TargetQuery(patterns=(pattern,)))) == count


def test_pattern_that_is_not_there_and_one_that_does_not_exist() -> None:
    with pytest.raises(SelectionError, match="pattern 'gelu'"):
        select_targets(TARGETS, TargetQuery(patterns=("gelu",)))
    with pytest.raises(OptionError, match="unknown pattern 'elu'; expected silu"):
        select_targets(TARGETS, TargetQuery(patterns=("elu",)))
