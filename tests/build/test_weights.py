from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from pgc_graph.build.pgc import build_pgc
from pgc_graph.build.spec import ModelSpec, preset
from pgc_graph.build.weights import init_weights, load_weights, parameter_count, parameter_shapes
from pgc_graph.errors import ModelError, ModelFileError

SPEC = ModelSpec(base_channels=8, num_blocks=3)
CONVNEXT = ModelSpec(backbone="convnext", base_channels=64, num_blocks=1)


@pytest.fixture
def weights() -> dict[str, NDArray[np.float32]]:
    return init_weights(SPEC, 1)


def test_same_seed_gives_the_same_weights(weights: dict[str, NDArray[np.float32]]) -> None:
    again, other = init_weights(SPEC, 1), init_weights(SPEC, 2)
    assert all(np.array_equal(weights[name], again[name]) for name in weights)
    assert not np.array_equal(weights["stem.0.weight"], other["stem.0.weight"])


def test_initial_weights_have_the_variance_of_their_formula() -> None:
    drawn = init_weights(preset("l"), 0)
    dense, depthwise = drawn["features.5.block.0.weight"], drawn["features.5.block.3.weight"]
    assert dense.std() == pytest.approx(np.sqrt(2 / dense.shape[0]), rel=0.02)
    assert depthwise.std() == pytest.approx(np.sqrt(2 / (depthwise.shape[0] * 9)), rel=0.05)
    matrix = drawn["head.2.weight"]
    limit = np.sqrt(6 / sum(matrix.shape))
    assert abs(matrix).max() == pytest.approx(limit, rel=0.01)
    assert matrix.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)
    squeeze_bias = drawn["features.5.block.6.fc.0.bias"]
    assert 0 < abs(squeeze_bias).max() <= 1 / np.sqrt(1024)
    assert not drawn["head.2.bias"].any()
    assert (drawn["stem.1.running_var"] == 1).all()


def test_initial_layer_scale_is_small_and_norms_are_neutral() -> None:
    drawn = init_weights(CONVNEXT, 0)
    assert (drawn["features.0.0.gamma"] == np.float32(1e-6)).all()
    assert (drawn["stem.1.norm.weight"] == 1).all()
    assert not drawn["head.mixer.layers.0.self_attn.in_proj_bias"].any()


def test_running_statistics_are_not_counted_as_parameters() -> None:
    one_block = ModelSpec(backbone="baseline", base_channels=8, num_blocks=1)
    by_hand = (8 * 3 * 9 + 16) + (8 * 9 + 16) + (8 * 8 + 16) + 16 + (8 + 1)
    assert parameter_count(one_block) == by_hand


def test_file_gives_back_what_was_saved(tmp_path: Path, weights: dict[str, NDArray[np.float32]]) -> None:
    path = tmp_path / "w.safetensors"
    save_file({**weights, "stem.1.num_batches_tracked": np.array(5)}, path)
    loaded = load_weights(path, SPEC)
    assert list(loaded) == list(parameter_shapes(SPEC))
    assert all(np.array_equal(loaded[name], weights[name]) for name in weights)


def test_half_and_double_precision_files_become_float32(
    tmp_path: Path, weights: dict[str, NDArray[np.float32]]
) -> None:
    for dtype in (np.float16, np.float64):
        path = tmp_path / f"{np.dtype(dtype)}.safetensors"
        save_file({name: values.astype(dtype) for name, values in weights.items()}, path)
        loaded = load_weights(path, SPEC)
        assert {values.dtype for values in loaded.values()} == {np.dtype(np.float32)}
        np.testing.assert_allclose(loaded["stem.0.weight"], weights["stem.0.weight"], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        pytest.param("stem.0.weight", None, r"tensor stem\.0\.weight is missing", id="missing"),
        pytest.param("stem.9.weight", np.ones(3, np.float32), r"tensor stem\.9\.weight is unexpected", id="unexpected"),
        pytest.param(
            "stem.1.bias", np.ones(9, np.float32), r"stem\.1\.bias has shape \[9\]; expected \[8\]", id="wrong-shape"
        ),
        pytest.param("stem.1.bias", np.ones(8, np.int32), r"stem\.1\.bias is of type int32", id="wrong-type"),
        pytest.param(
            "stem.1.bias", np.full(8, np.nan, np.float32), r"stem\.1\.bias holds NaN or infinity", id="not-finite"
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    tmp_path: Path,
    weights: dict[str, NDArray[np.float32]],
    name: str,
    value: NDArray[np.float32] | None,
    message: str,
) -> None:
    if value is None:
        del weights[name]
    else:
        weights[name] = value
    path = tmp_path / "w.safetensors"
    save_file(weights, path)
    with pytest.raises(ModelError, match=r"w\.safetensors: tensor .*") as caught:
        load_weights(path, SPEC)
    assert caught.match(message)
    with pytest.raises(ModelError, match=message):
        build_pgc(SPEC, weights)


def test_weights_of_another_preset_are_refused() -> None:
    with pytest.raises(ModelError, match=r"features\.4\.block\.0\.weight is missing"):
        build_pgc(preset("c"), init_weights(preset("s"), 0))


def test_bfloat16_file_is_read(tmp_path: Path, weights: dict[str, NDArray[np.float32]]) -> None:
    path = tmp_path / "w.safetensors"
    save_file({name: values.astype(ml_dtypes.bfloat16) for name, values in weights.items()}, path)
    loaded = load_weights(path, SPEC)
    np.testing.assert_allclose(loaded["stem.0.weight"], weights["stem.0.weight"], rtol=2**-8)


def test_types_that_numpy_lacks_are_refused_in_one_line(tmp_path: Path) -> None:
    header = b'{"stem.0.weight":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))
    with pytest.raises(ModelError, match=r"^.*w\.safetensors holds tensors of a type .*; save them as float32$"):
        load_weights(path, ModelSpec())


@pytest.mark.parametrize(
    "content", [pytest.param(b"", id="empty"), pytest.param(b"not safetensors" * 9, id="other-format")]
)
def test_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"w\.safetensors is not a safetensors file, or is truncated"):
        load_weights(path, SPEC)


def test_truncated_file_is_refused(tmp_path: Path, weights: dict[str, NDArray[np.float32]]) -> None:
    path = tmp_path / "w.safetensors"
    save_file(weights, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match="truncated"):
        load_weights(path, SPEC)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"none\.safetensors not found"):
        load_weights(tmp_path / "none.safetensors", SPEC)
    with pytest.raises(ModelFileError, match="is not a file"):
        load_weights(tmp_path, SPEC)
