"""The torch twin, torch's own exporter and our builder must be one function with one set of names."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from pgc_graph import modelio
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.build.pgc import build_pgc
from pgc_graph.build.spec import BACKBONES, COLOURS, PRESETS, ModelSpec
from pgc_graph.build.weights import init_weights, parameter_count, parameter_shapes
from pgc_graph.runtime.session import RuntimeOptions, open_session
from pgc_train.model import PGC, ProbabilityModel

HEADS = ("avg", "avgmax_mlp", "transformer", "mlp_mixer")
MATRIX = {
    f"{backbone}-{head}-{colour}": ModelSpec(
        backbone=backbone, head=head, colour=colour, base_channels=8, num_blocks=3, expansion=2
    )
    for backbone in BACKBONES
    for head in HEADS
    for colour in COLOURS
}
SPECS = {**MATRIX, **{f"preset-{name}": spec for name, spec in PRESETS.items()}}
DESIGN = {"s": (118_321, 18), "c": (212_689, 22), "m": (416_785, 26), "l": (1_622_049, 26)}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def random_images(count: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(7)
    noise = generator.random((count, 3, 32, 32), np.float32)
    blobs = generator.random((count, 3, 4, 4), np.float32).repeat(8, axis=2).repeat(8, axis=3)
    images: NDArray[np.float32] = 0.3 * noise + 0.7 * blobs
    images[0, :, :16] = 0.0  # black, where Lab and Luv change formula and Luv divides by zero
    images[-1, :, 16:] *= 0.03  # below the threshold of the sRGB curve
    return images


def make_twin(spec: ModelSpec) -> ProbabilityModel:
    """A twin in eval mode in which every parameter and statistic matters."""
    generator = torch.Generator().manual_seed(11)
    network = PGC(spec).eval()
    drawn = init_weights(spec, 3)
    with torch.no_grad():
        for name, values in network.named_parameters():
            values.copy_(torch.from_numpy(drawn[name]))
            if name.endswith("gamma"):
                values.uniform_(0.2, 1.0, generator=generator)
            elif values.ndim == 1:
                values.add_(torch.empty_like(values).uniform_(-0.3, 0.3, generator=generator))
        _randomise_statistics(network, generator)
        _centre_logits(network)
    return ProbabilityModel(network).eval()


def _randomise_statistics(network: PGC, generator: torch.Generator) -> None:
    # Start from real statistics, so that values neither explode nor saturate the sigmoid; then move them.
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    network(torch.from_numpy(random_images(8)))
    for norm in norms:
        norm.eval()
        norm.momentum = 0.1
        shift = torch.empty_like(norm.running_mean).uniform_(-0.3, 0.3, generator=generator)
        norm.running_mean.add_(shift * norm.running_var.sqrt())
        norm.running_var.mul_(torch.empty_like(shift).uniform_(0.6, 1.6, generator=generator))


def _centre_logits(network: PGC) -> None:
    # Logits of spread 1 around 0: where the sigmoid saturates, errors would not show.
    logits = network(torch.from_numpy(random_images(8)))
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    last.weight.div_(logits.std())
    last.bias.sub_(logits.mean()).div_(logits.std())


def export_with_torch(twin: ProbabilityModel) -> onnx.ModelProto:
    buffer = io.BytesIO()
    dynamic = {"images": {0: "batch"}, "prob_pointing": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            twin,
            (torch.from_numpy(random_images(2)),),
            buffer,
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            opset_version=17,
            input_names=["images"],
            output_names=["prob_pointing"],
            dynamic_axes=dynamic,
        )
    return onnx.ModelProto.FromString(buffer.getvalue())


def build_from_twin(twin: ProbabilityModel) -> onnx.ModelProto:
    weights = {name: values.numpy() for name, values in twin.base_model.state_dict().items()}
    return build_pgc(twin.base_model.spec, weights)


def run_onnx(model: onnx.ModelProto, images: NDArray[np.float32]) -> NDArray[np.float32]:
    session = open_session(model.SerializeToString(), RuntimeOptions(provider="cpu", threads=1, optimise=False))
    return session.run({"images": images})[0]


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_builder_twin_and_torch_exporter_agree(spec: ModelSpec) -> None:
    twin = make_twin(spec)
    built, exported = build_from_twin(twin), export_with_torch(twin)
    images = random_images(8)
    with torch.no_grad():
        expected = twin(torch.from_numpy(images)).numpy()
    assert np.ptp(expected) > 0.1, "the images must not all look alike, or nothing is compared"
    for batch in (images, images[:5], images[:1]):
        got = run_onnx(built, batch)
        assert got.shape == (len(batch),)
        np.testing.assert_allclose(got, expected[: len(batch)], rtol=0, atol=1e-5)
        np.testing.assert_allclose(got, run_onnx(exported, batch), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_has_the_names_of_torchs_export(name: str) -> None:
    twin = make_twin(PRESETS[name])
    built, exported = build_from_twin(twin), export_with_torch(twin)

    def nodes(model: onnx.ModelProto) -> list[tuple[str, str, list[str]]]:
        return sorted((n.op_type, n.name, list(n.output)) for n in model.graph.node if n.op_type != "Constant")

    def parameters(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
        initializers = model.graph.initializer
        return {item.name: tuple(item.dims) for item in initializers if item.name.startswith("base_model.")}

    assert nodes(built) == nodes(exported)
    assert parameters(built) == parameters(exported)
    assert [(i.name, i.type) for i in built.graph.input] == [(i.name, i.type) for i in exported.graph.input]
    assert [(o.name, o.type) for o in built.graph.output] == [(o.name, o.type) for o in exported.graph.output]


@pytest.mark.parametrize("spec", MATRIX.values(), ids=MATRIX.keys())
def test_names_of_layers_with_parameters_match_torchs_export(spec: ModelSpec) -> None:
    twin = make_twin(spec)
    kept = {"Conv", "BatchNormalization", "LayerNormalization", "Sigmoid", "Erf", "Relu"}

    def nodes(model: onnx.ModelProto) -> list[tuple[str, str, list[str]]]:
        return sorted((n.op_type, n.name, list(n.output)) for n in model.graph.node if n.op_type in kept)

    assert nodes(build_from_twin(twin)) == nodes(export_with_torch(twin))


@pytest.mark.parametrize("name", PRESETS)
def test_preset_has_the_designs_sizes(name: str) -> None:
    parameters, gates = DESIGN[name]
    spec = PRESETS[name]
    assert sum(values.numel() for values in PGC(spec).parameters() if values.requires_grad) == parameters
    assert parameter_count(spec) == parameters
    model = modelio.load(build_pgc(spec, init_weights(spec, 0)))
    assert len(select_targets(find_targets(model), TargetQuery())) == gates


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_parameter_shapes_are_those_of_the_state_dict(spec: ModelSpec) -> None:
    state = PGC(spec).state_dict()
    expected = {name: tuple(values.shape) for name, values in state.items() if "num_batches_tracked" not in name}
    assert dict(parameter_shapes(spec)) == expected


@pytest.mark.parametrize("name", ["inverted_se-avgmax_mlp-rgb", "convnext-transformer-rgb", "baseline-mlp_mixer-luma"])
def test_initial_weights_are_distributed_like_the_twins(name: str) -> None:
    spec = MATRIX[name]
    drawn = init_weights(spec, 5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = PGC(spec).state_dict()
    for key, values in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        theirs, ours = values.numpy(), drawn[key]
        if theirs.std() == 0:
            np.testing.assert_array_equal(ours, theirs, err_msg=key)
        elif ours.size >= 400:
            assert ours.std() == pytest.approx(theirs.std(), rel=0.2), key
            assert abs(ours.mean()) < 5 * theirs.std() / np.sqrt(ours.size), key
