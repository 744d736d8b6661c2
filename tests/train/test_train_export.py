from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from safetensors.numpy import load_file

from pgc_graph.build.spec import ModelSpec
from pgc_graph.build.weights import load_weights
from pgc_graph.errors import OptionError, ParityError
from pgc_train import export
from pgc_train.checkpoint import Checkpoint
from pgc_train.export import checkpoint_metadata, export_checkpoint, probe_images
from pgc_train.model import PGC, ProbabilityModel

SPECS = {
    "inverted_se": ModelSpec(base_channels=8, num_blocks=3),
    "baseline-lab": ModelSpec(backbone="baseline", colour="lab", base_channels=8, num_blocks=2),
    "convnext-mixer": ModelSpec(backbone="convnext", head="mlp_mixer", base_channels=8, num_blocks=2),
}


def _checkpoint(spec: ModelSpec) -> Checkpoint:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PGC(spec).train()
        with torch.no_grad():
            for _ in range(4):  # BatchNorm statistics that are not 0 and 1
                model(torch.rand(8, 3, 32, 32))
    scores = {"f1": 0.5, "precision": 0.25, "recall": 1.0}
    history = ({"epoch": 1, "validation": scores},)
    return Checkpoint(
        spec, model.state_dict(), {"seed": 7}, {"training_sources": {"b": [1, 1], "a": [2, 2]}}, history, {}
    )


@pytest.mark.parametrize("name", SPECS)
def test_the_written_file_computes_what_torch_computes(name: str, tmp_path: Path) -> None:
    checkpoint = _checkpoint(SPECS[name])
    report = export_checkpoint(checkpoint, tmp_path / "model.onnx")
    assert report.max_difference <= 1e-5
    model = onnx.load(tmp_path / "model.onnx")
    network = PGC(SPECS[name])
    network.load_state_dict(checkpoint.weights)
    images = probe_images(SPECS[name], seed=3)[:6]
    with torch.inference_mode():
        wanted = ProbabilityModel(network).eval()(torch.from_numpy(images)).numpy()
    (got,) = ReferenceEvaluator(model).run(None, {"images": images})
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_metadata_names_data_scores_and_what_was_given(tmp_path: Path) -> None:
    checkpoint = _checkpoint(SPECS["inverted_se"])
    export_checkpoint(checkpoint, tmp_path / "m.onnx", metadata={"pgc.licence": "MIT", "pgc.f1": "0.9"}, opset=18)
    model = onnx.load(tmp_path / "m.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["pgc.licence"] == "MIT"
    assert metadata["pgc.f1"] == "0.9"
    assert metadata["pgc.recall"] == "1.0000"
    assert metadata["pgc.dataset"] == "b,a"
    assert metadata["pgc.seed"] == "7"
    assert metadata["pgc.image_size"] == "32x32"
    assert model.opset_import[0].version == 18
    assert "BatchNormalization" in {node.op_type for node in model.graph.node}
    assert "pgc.f1" in checkpoint_metadata(checkpoint)


def test_safetensors_hold_the_trainers_parameters(tmp_path: Path) -> None:
    spec = SPECS["inverted_se"]
    checkpoint = _checkpoint(spec)
    export_checkpoint(checkpoint, tmp_path / "m.onnx", safetensors=tmp_path / "m.safetensors")
    tensors = load_file(tmp_path / "m.safetensors")
    assert tensors.keys() == {name for name in checkpoint.weights if not name.endswith("num_batches_tracked")}
    for name, tensor in load_weights(tmp_path / "m.safetensors", spec).items():
        np.testing.assert_array_equal(tensor, checkpoint.weights[name].numpy())


def test_a_graph_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = _checkpoint(SPECS["inverted_se"])
    build = export.build_pgc

    def build_wrongly(spec: ModelSpec, weights: dict[str, np.ndarray], **options: object) -> onnx.ModelProto:
        changed = {name: value * 1.001 if name == "stem.0.weight" else value for name, value in weights.items()}
        return build(spec, {**changed, "head.5.bias": weights["head.5.bias"] + 1e-3}, **options)

    monkeypatch.setattr(export, "build_pgc", build_wrongly)
    with pytest.raises(ParityError, match="differs from torch"):
        export_checkpoint(checkpoint, tmp_path / "m.onnx", safetensors=tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_an_impossible_opset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="opset 3"):
        export_checkpoint(_checkpoint(SPECS["inverted_se"]), tmp_path / "m.onnx", opset=3)
    assert list(tmp_path.iterdir()) == []


def test_probe_images_are_in_range_and_differ() -> None:
    images = probe_images(ModelSpec())
    assert images.shape == (40, 3, 32, 32)
    assert 0.0 <= images.min() < images.max() <= 1.0
    assert len({image.tobytes() for image in images}) == 40
