"""Results become JSON that any reader takes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from pgc_graph.results import SCHEMA_VERSION, to_data, to_json


@dataclass(frozen=True)
class Part:
    name: str
    scores: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Whole:
    path: Path
    parts: tuple[Part, ...]
    image: Any = field(default_factory=lambda: np.arange(4, dtype=np.float32).reshape(2, 2))


def test_dataclasses_become_nested_dicts() -> None:
    assert to_data(Whole(Path("a/b.png"), (Part("Δ", (1.0, 0.5)),))) == {
        "path": str(Path("a/b.png")),
        "parts": [{"name": "Δ", "scores": [1.0, 0.5]}],
        "image": [[0.0, 1.0], [2.0, 3.0]],
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(float("nan"), None, id="nan"),
        pytest.param([float("inf"), -float("inf"), 1.5], [None, None, 1.5], id="infinities"),
        pytest.param(np.array([np.nan, 2.0]), [None, 2.0], id="nan-in-array"),
        pytest.param(np.float32(0.5), 0.5, id="numpy-float"),
        pytest.param(np.int64(2**60), 2**60, id="numpy-int"),
        pytest.param(np.bool_(True), True, id="numpy-bool"),
        pytest.param(np.zeros((0, 3)), [], id="empty-array"),
        pytest.param(MappingProxyType({1: "a"}), {"1": "a"}, id="mapping"),
        pytest.param(None, None, id="none"),
        pytest.param((True, 1, "x"), [True, 1, "x"], id="tuple"),
    ],
)
def test_plain_form(value: Any, expected: Any) -> None:
    data = to_data(value)
    assert data == expected
    assert type(data) is type(expected)


@pytest.mark.parametrize("value", [object(), b"bytes", 1j, Part], ids=["object", "bytes", "complex", "class"])
def test_what_has_no_plain_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="no plain form"):
        to_data(value)


def test_document_carries_its_version_and_extras() -> None:
    text = to_json(Part("ü", (float("nan"),)), path=Path("m.onnx"))
    document = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert document == {"schema_version": SCHEMA_VERSION, "path": "m.onnx", "name": "ü", "scores": [None]}
    assert "ü" in text


def test_a_list_becomes_the_result_of_a_document() -> None:
    assert json.loads(to_json([1, 2])) == {"schema_version": SCHEMA_VERSION, "result": [1, 2]}
