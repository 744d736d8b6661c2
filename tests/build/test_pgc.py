from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnx.reference
import pytest
from numpy.typing import NDArray

from pgc_graph import modelio
from pgc_graph.build.pgc import MAX_OPSET, MIN_OPSET, build_pgc, default_metadata
from pgc_graph.build.spec import ModelSpec, preset
from pgc_graph.build.weights import init_weights, parameter_shapes
from pgc_graph.errors import OptionError
from pgc_graph.images import Preprocess, preprocess_from_metadata
from pgc_graph.runtime.session import RuntimeOptions, open_session

SPECS = {
    "inverted_se": ModelSpec(base_channels=8, num_blocks=3, colour="lab"),
    "baseline-mlp_mixer": ModelSpec(
        backbone="baseline", head="mlp_mixer", base_channels=8, num_blocks=3, colour="luma"
    ),
    "convnext-transformer": ModelSpec(backbone="convnext", base_channels=8, num_blocks=3, colour="luv"),
}


def random_weights(spec: ModelSpec) -> dict[str, NDArray[np.float32]]:
    """Weights none of which is at its neutral value, with logits of spread 1 around 0."""
    generator = np.random.default_rng(3)
    weights = init_weights(spec, 4)
    for name, shape in parameter_shapes(spec).items():
        if len(shape) == 1:
            middle = 1.0 if name.endswith(("weight", "running_var", "gamma")) else 0.0
            weights[name] = generator.uniform(middle - 0.5, middle + 0.5, shape).astype(np.float32)
    if spec.colour == "lab":
        weights["stem.1.running_var"] *= 3e3  # L* reaches 100
    # Where the sigmoid saturates, or all images look alike, nothing would be compared.
    last = [name.removesuffix(".weight") for name, shape in parameter_shapes(spec).items() if len(shape) == 2][-1]
    probabilities = run(build_pgc(spec, weights), random_images(8)).astype(np.float64)
    logits = np.log(probabilities / (1 - probabilities))
    weights[f"{last}.weight"] /= np.float32(logits.std())
    weights[f"{last}.bias"] = (weights[f"{last}.bias"] - np.float32(logits.mean())) / np.float32(logits.std())
    return weights


def random_images(count: int, size: tuple[int, int] = (32, 32)) -> NDArray[np.float32]:
    """Two-coloured images of different brightness."""
    generator = np.random.default_rng(5)
    images = 0.2 * generator.random((count, 3, *size), np.float32)
    images[:, :, : size[0] // 2] += 0.8 * generator.random((count, 3, 1, 1), np.float32)
    return images


def run(model: onnx.ModelProto, images: NDArray[np.float32]) -> NDArray[np.float32]:
    session = open_session(model.SerializeToString(), RuntimeOptions(provider="cpu", threads=1, optimise=False))
    return session.run({"images": images})[0]


@pytest.mark.parametrize("opset", range(MIN_OPSET, MAX_OPSET + 1))
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_every_opset_computes_the_same(spec: ModelSpec, opset: int) -> None:
    weights = random_weights(spec)
    model = build_pgc(spec, weights, opset=opset)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    got = run(model, random_images(8))
    assert np.ptp(got) > 0.1
    # Below opset 17 LayerNormalization is written out, which rounds differently; the spread of 1 amplifies it.
    np.testing.assert_allclose(got, run(build_pgc(spec, weights), random_images(8)), rtol=0, atol=3e-5)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_onnx_reference_evaluator_agrees(spec: ModelSpec) -> None:
    model = build_pgc(spec, random_weights(spec))
    (expected,) = onnx.reference.ReferenceEvaluator(model).run(None, {"images": random_images(2)})
    np.testing.assert_allclose(run(model, random_images(2)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_rows_of_a_batch_do_not_depend_on_each_other(spec: ModelSpec) -> None:
    model = build_pgc(spec, random_weights(spec))
    images = random_images(5)
    together = run(model, images)
    assert together.shape == (5,)
    alone = np.concatenate([run(model, image[None]) for image in images])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("opset", "ir_version"), [(13, 7), (15, 8), (17, 8), (18, 8), (19, 9), (21, 10)])
def test_ir_version_suits_the_opset(opset: int, ir_version: int) -> None:
    assert build_pgc(preset("s"), init_weights(preset("s"), 0), opset=opset).ir_version == ir_version


@pytest.mark.parametrize("opset", [0, MIN_OPSET - 1, MAX_OPSET + 1])
def test_other_opsets_are_refused(opset: int) -> None:
    with pytest.raises(OptionError, match=f"opset {opset} cannot be written; expected 13 to {MAX_OPSET}"):
        build_pgc(preset("s"), init_weights(preset("s"), 0), opset=opset)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_model_is_valid_and_names_are_unique(spec: ModelSpec) -> None:
    model = build_pgc(spec, init_weights(spec, 0))
    modelio.check(modelio.load(model))
    node_names = [node.name for node in model.graph.node]
    tensor_names = [name for node in model.graph.node for name in node.output]
    tensor_names += [item.name for item in model.graph.initializer]
    assert len(set(node_names)) == len(node_names)
    assert len(set(tensor_names)) == len(tensor_names)
    assert all(node_names)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_all_parameters_are_in_the_graph_and_used(spec: ModelSpec) -> None:
    model = build_pgc(spec, init_weights(spec, 0))
    used = {name for node in model.graph.node for name in node.input}
    stored = {item.name.removesuffix("_transposed") for item in model.graph.initializer}
    assert {f"base_model.{name}" for name in parameter_shapes(spec)} <= stored
    assert {item.name for item in model.graph.initializer} <= used


def test_names_are_the_designs() -> None:
    model = build_pgc(preset("s"), init_weights(preset("s"), 0))
    names = {node.name for node in model.graph.node if node.op_type == "Mul"}
    for name in ("stem/stem.2", "features/features.2/block/block.5", "features/features.2/out_act"):
        assert f"/base_model/{name}/Mul" in names
    assert [item.name for item in model.graph.input] == ["images"]
    assert [item.name for item in model.graph.output] == ["prob_pointing"]
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert sum(node.op_type == "BatchNormalization" for node in model.graph.node) == 2 + 4 * 3 + 1


def test_metadata_tells_how_to_feed_the_model() -> None:
    spec = dataclasses.replace(preset("s"), image_size=(48, 40))
    model = build_pgc(spec, init_weights(spec, 0), metadata={"dataset": "drawn", "pgc.variant": "mine"})
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert found == {**default_metadata(spec), "dataset": "drawn", "pgc.variant": "mine"}
    assert found["pgc.labels"] == "not_pointing,pointing"
    assert default_metadata(spec)["pgc.variant"] == "s"
    assert preprocess_from_metadata(found, (None, 3, 48, 40)) == Preprocess(size=(48, 40))
    assert run(model, random_images(2, (48, 40))).shape == (2,)


def test_building_leaves_the_weights_alone_and_is_repeatable() -> None:
    spec = SPECS["convnext-transformer"]
    weights = random_weights(spec)
    before = {name: values.copy() for name, values in weights.items()}
    first, second = build_pgc(spec, weights), build_pgc(spec, weights)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    assert all(np.array_equal(weights[name], before[name]) for name in before)


def test_caller_may_change_weights_after_building() -> None:
    spec = SPECS["inverted_se"]
    weights = random_weights(spec)
    model = build_pgc(spec, weights)
    expected = run(model, random_images(1))
    for values in weights.values():
        values[...] = 0
    np.testing.assert_array_equal(run(model, random_images(1)), expected)
