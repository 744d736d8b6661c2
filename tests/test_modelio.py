"""Models survive loading and saving unharmed; a save is all or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_ir.testing import assert_onnx_proto_equal

from pgc_graph import modelio
from pgc_graph.errors import ModelError, ModelFileError, OptionError, PgcGraphError
from sample_models import rich_model

BACKEND = Path(onnx.__file__).parent / "backend" / "test" / "data"
BACKEND_FILES = sorted(path.relative_to(BACKEND).as_posix() for path in BACKEND.rglob("*.onnx"))


def conv_model(folder: Path, location: str = "weights.bin") -> Path:
    """A Conv whose weight, drawn from seed 0, lies in a file beside the model."""
    weight = onnx.numpy_helper.from_array(np.random.default_rng(0).random((4, 3, 3, 3), np.float32), "w")
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 3, 8, 8] x) => (float[n, 4, 6, 6] y) { y = Conv(x, w) }'
    )
    model.graph.initializer.append(weight)
    path = folder / "model.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location=location, size_threshold=0)
    return path


def weight_of(model: ir.Model) -> np.ndarray:
    tensor = model.graph.initializers["w"].const_value
    assert tensor is not None
    return tensor.numpy()


# Nothing is lost.


@pytest.mark.parametrize("name", BACKEND_FILES)
def test_backend_model_survives_load_and_save(name: str, tmp_path: Path) -> None:
    output = tmp_path / "copy.onnx"
    modelio.save(modelio.load(BACKEND / name), output)
    assert_onnx_proto_equal(onnx.load(output), onnx.load(BACKEND / name))


def test_corpus_survives_load_and_save(
    corpus_model: Callable[[str], Path], corpus_names: tuple[str, ...], tmp_path: Path
) -> None:
    for name in corpus_names:
        modelio.save(modelio.load(corpus_model(name)), tmp_path / "copy.onnx")
        assert_onnx_proto_equal(onnx.load(tmp_path / "copy.onnx"), onnx.load(corpus_model(name)))


def test_metadata_docs_functions_and_subgraphs_survive(tmp_path: Path) -> None:
    original = rich_model()
    modelio.save(modelio.load(original), tmp_path / "copy.onnx")
    copy = onnx.load(tmp_path / "copy.onnx")
    assert_onnx_proto_equal(copy, original)
    assert {prop.key: prop.value for prop in copy.metadata_props}["licence"] == "MIT – ü"
    assert [function.name for function in copy.functions] == ["swish"]
    assert (copy.doc_string, copy.graph.node[0].doc_string, copy.model_version) == ("about", "a convolution", 3)


@pytest.mark.slow
def test_operator_test_models_survive() -> None:
    from onnx.backend.test.case.node import collect_testcases

    with pytest.warns(RuntimeWarning):  # onnx's own generators divide by zero on purpose
        cases = collect_testcases(None)
    checked = 0
    for case in cases:
        if case.model is not None:
            assert_onnx_proto_equal(modelio.to_proto(modelio.load(case.model)), case.model)
            checked += 1
    assert checked > 1000


@pytest.mark.parametrize("kind", ["path", "text path", "bytes", "proto"])
def test_every_source_gives_the_same_model(kind: str, tmp_path: Path) -> None:
    proto = rich_model()
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    sources = {"path": path, "text path": str(path), "bytes": path.read_bytes(), "proto": proto}
    assert_onnx_proto_equal(modelio.to_proto(modelio.load(sources[kind])), proto)


def test_a_given_proto_is_not_aliased() -> None:
    proto = rich_model()
    before = proto.SerializeToString(deterministic=True)
    model = modelio.load(proto)
    model.graph.initializers["w"].name = "renamed"
    model.graph[0].name = "other"
    model.metadata_props.clear()
    modelio.to_bytes(model)
    assert proto.SerializeToString(deterministic=True) == before


def test_bytes_are_the_file(tmp_path: Path) -> None:
    model = modelio.load(rich_model())
    modelio.save(model, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == modelio.to_bytes(model)


# External data.


def test_external_data_is_mapped_not_read(tmp_path: Path) -> None:
    model = modelio.load(conv_model(tmp_path))
    assert isinstance(model.graph.initializers["w"].const_value, ir.ExternalTensor)
    assert np.array_equal(weight_of(model), np.random.default_rng(0).random((4, 3, 3, 3), np.float32))


def test_external_data_goes_beside_the_output(tmp_path: Path) -> None:
    path = conv_model(tmp_path)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    modelio.save(modelio.load(path), folder / "out.onnx")
    assert sorted(os.listdir(folder)) == ["out.onnx", "out.onnx.data"]
    (tmp_path / "weights.bin").unlink()
    assert np.array_equal(
        weight_of(modelio.load(folder / "out.onnx")), np.random.default_rng(0).random((4, 3, 3, 3), np.float32)
    )


def test_a_model_can_replace_the_files_it_is_mapped_from(tmp_path: Path) -> None:
    path = conv_model(tmp_path)
    modelio.save(modelio.load(path), path)  # to model.onnx.data
    model = modelio.load(path)
    modelio.save(model, path)
    expected = np.random.default_rng(0).random((4, 3, 3, 3), np.float32)
    assert np.array_equal(weight_of(modelio.load(path)), expected)
    assert np.array_equal(weight_of(model), expected)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(("tmp", "."))]


def test_bytes_of_a_mapped_model_hold_its_weights(tmp_path: Path) -> None:
    model = modelio.load(conv_model(tmp_path))
    data = modelio.to_bytes(model)
    assert np.array_equal(weight_of(modelio.load(data)), weight_of(model))
    assert isinstance(model.graph.initializers["w"].const_value, ir.ExternalTensor)


def test_large_weights_go_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelio, "EMBED_LIMIT_BYTES", 40)
    model = modelio.load(rich_model())
    modelio.save(model, tmp_path / "out.onnx")
    assert sorted(os.listdir(tmp_path)) == ["out.onnx", "out.onnx.data"]
    assert np.array_equal(weight_of(modelio.load(tmp_path / "out.onnx")), weight_of(model))


@pytest.mark.parametrize(
    ("location", "size"),
    [
        pytest.param("weights.bin", None, id="missing"),
        pytest.param("weights.bin", 100, id="truncated"),
        pytest.param("weights.bin", 0, id="empty"),
        pytest.param("../weights.bin", 432, id="outside-the-folder"),
        pytest.param("/etc/hostname", 432, id="absolute"),
    ],
)
def test_bad_external_data_is_a_file_error(location: str, size: int | None, tmp_path: Path) -> None:
    path = conv_model(tmp_path)
    data = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").unlink()
    if size is not None:
        (tmp_path / "weights.bin").write_bytes(data[:size])
    proto = onnx.load(path, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelFileError, match=r"model\.onnx"):
        modelio.load(path)


# All or nothing.


@pytest.mark.parametrize("external", [False, True], ids=["inside", "external"])
def test_a_failed_save_leaves_the_target_alone(external: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = modelio.load(conv_model(tmp_path) if external else rich_model())
    folder = tmp_path / "out"
    folder.mkdir()
    target = folder / "model.onnx"
    target.write_bytes(b"precious")
    model.graph[0].attributes["broken"] = ir.Attr("broken", ir.AttributeType.TENSOR, "no tensor")
    with pytest.raises(ModelError, match="cannot serialise"):
        modelio.save(model, target)
    assert target.read_bytes() == b"precious"
    assert os.listdir(folder) == ["model.onnx"]


@pytest.mark.parametrize("name", ["nowhere/model.onnx", ""], ids=["no-such-folder", "a-folder"])
def test_a_target_that_cannot_be_written_is_an_option_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=str(tmp_path)):
        modelio.save(modelio.load(rich_model()), tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_check_refuses_a_wrong_graph() -> None:
    model = modelio.load(rich_model())
    modelio.check(model)
    model.graph[0].attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", [3, 3])
    with pytest.raises(ModelError, match=r"onnx\.checker"):
        modelio.check(model)


def test_errors_are_of_one_family() -> None:
    assert issubclass(ModelFileError, ModelError)
    assert issubclass(ModelError, PgcGraphError)


def test_outputs_of_unknown_rank_are_accepted_as_runtimes_do(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[n, 3, 8, 8] x) => (float[n, 3, 8, 8] y) { y = Relu (x) }'
    proto = onnx.parser.parse_model(text)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    path = tmp_path / "rankless.onnx"
    path.write_bytes(proto.SerializeToString())
    model = modelio.load(path)
    assert model.graph.outputs[0].shape is None
    modelio.save(model, tmp_path / "again.onnx")
    again = onnx.ModelProto.FromString((tmp_path / "again.onnx").read_bytes())
    assert not again.graph.output[0].type.tensor_type.HasField("shape")
