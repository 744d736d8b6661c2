"""A damaged file ends in one line of ours, whatever the damage, or loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from pgc_graph import modelio
from pgc_graph.errors import ModelError, ModelFileError
from sample_models import rich_model


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "not found", id="missing"),
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"this is a letter, not a model\n" * 20, "not an ONNX model", id="text"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(100), "not an ONNX model", id="picture"),
        pytest.param(bytes(1000), "not an ONNX model", id="zeros"),
        pytest.param(b"\x08\x08", "no graph output", id="header-only"),
    ],
)
def test_not_a_model_is_a_file_error(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message) as caught:
        modelio.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_a_file_error(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is a folder"):
        modelio.load(tmp_path)


def test_text_that_is_not_utf8_is_a_file_error() -> None:
    data = rich_model().SerializeToString().replace(b"first", b"fir\xe9t")
    with pytest.raises(ModelFileError, match=r"NodeProto\.name is not UTF-8"):
        modelio.load(data)


def test_an_invalid_graph_is_a_file_error() -> None:
    proto = rich_model()
    proto.graph.node[0].input[1] = "nowhere"
    with pytest.raises(ModelFileError, match="nowhere"):
        modelio.load(proto)


def try_all_of_it(data: bytes) -> bool:
    """Load, serialise; say whether it loads. Any error but ours fails the test."""
    problems, loads = [], False
    try:
        model = modelio.load(data)
        loads = True
        modelio.to_bytes(model)
    except ModelError as error:
        problems.append(str(error))
    assert not any("\n" in problem for problem in problems)
    return loads


def test_a_file_truncated_anywhere_is_refused_or_whole() -> None:
    data = rich_model().SerializeToString()
    outcomes = [try_all_of_it(data[:length]) for length in range(len(data))]
    # Between two top-level fields (metadata, functions) what is left of the file is a valid one.
    assert outcomes.count(True) < 10


def test_a_truncated_real_model_is_refused(pgc_model: Callable[[str], ir.Model]) -> None:
    data = modelio.to_bytes(pgc_model("s"))
    assert not any(try_all_of_it(data[: len(data) * part // 50]) for part in range(50))


def flipped(data: bytes, count: int, generator: np.random.Generator) -> bytes:
    damaged = bytearray(data)
    for position in generator.integers(0, len(data), count):
        damaged[position] = generator.integers(0, 256)
    return bytes(damaged)


@pytest.mark.parametrize("count", [1, 3, 20])
def test_flipped_bytes_give_our_error_or_a_model(count: int) -> None:
    generator, data = np.random.default_rng(count), rich_model().SerializeToString()
    outcomes = [try_all_of_it(flipped(data, count, generator)) for _ in range(200)]
    assert outcomes.count(False) > 100


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 5, 50])
def test_many_flipped_bytes_give_our_error_or_a_model(count: int, pgc_model: Callable[[str], ir.Model]) -> None:
    generator = np.random.default_rng(100 + count)
    for data, trials in ((rich_model().SerializeToString(), 3000), (modelio.to_bytes(pgc_model("s")), 200)):
        for _ in range(trials):
            try_all_of_it(flipped(data, count, generator))
