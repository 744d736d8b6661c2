from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pgc_graph.build.spec import ModelSpec
from pgc_graph.errors import ModelFileError, OptionError
from pgc_train.average import copy_model, update_average
from pgc_train.checkpoint import Checkpoint, load_checkpoint
from pgc_train.data import find_crops
from pgc_train.evaluate import evaluate_checkpoint
from pgc_train.loop import Report
from pgc_train.options import TrainOptions
from pgc_train.prepare import DataQuery
from pgc_train.run import train_model

OPTIONS = TrainOptions(epochs=3, batch_size=4, learning_rate=0.01, threads=1, cache_size=40, average_decay=0.9)


def _same(first: Checkpoint, second: Checkpoint) -> None:
    torch.testing.assert_close(dict(first.weights), dict(second.weights), atol=0, rtol=0)
    assert first.state.keys() == second.state.keys()
    if first.state:
        torch.testing.assert_close(dict(first.state["model"]), dict(second.state["model"]), atol=0, rtol=0)
        torch.testing.assert_close(
            first.state["optimiser"]["state"], second.state["optimiser"]["state"], atol=0, rtol=0
        )
        assert first.state["scheduler"] == second.state["scheduler"]
    for left, right in zip(first.history, second.history, strict=True):
        assert {**left, "seconds": 0} == {**right, "seconds": 0}


def _query(root: Path) -> DataQuery:
    return DataQuery(roots=(root,), validation_fraction=0.34)


@pytest.fixture(scope="module")
def whole_run(crops_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train_model(ModelSpec(base_channels=8, num_blocks=2), _query(crops_root), OPTIONS, folder)
    return folder


def test_a_run_leaves_checkpoints_history_and_summary(whole_run: Path) -> None:
    history = json.loads((whole_run / "history.json").read_text())["epochs"]
    assert [record["epoch"] for record in history] == [1, 2, 3]
    assert {"f1", "precision", "recall", "accuracy", "loss"} <= history[0]["validation"].keys() & history[0][
        "train"
    ].keys()
    log = (whole_run / "train.log").read_text().splitlines()
    assert [line.split()[:2] for line in log] == [["epoch", "1"], ["epoch", "2"], ["epoch", "3"]]
    assert f"F1 {history[2]['validation']['f1']:.4f}" in log[2]
    summary = json.loads((whole_run / "summary.json").read_text())
    assert summary["data"]["training_sources"] == {"bars": [8, 8]}
    assert summary["data"]["validation_sources"] == {"bars": [4, 4]}
    best = max(history, key=lambda record: (record["validation"]["f1"], -record["validation"]["loss"]))
    assert summary["result"]["best_epoch"] == best["epoch"] == load_checkpoint(whole_run).epoch


def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(
    whole_run: Path, crops_root: Path, tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    query = _query(crops_root)
    train_model(tiny_spec, query, dataclasses.replace(OPTIONS, epochs=1), tmp_path)
    torch.manual_seed(99)  # whatever torch's own generator is at must not matter
    train_model(tiny_spec, query, OPTIONS, tmp_path, resume=True)
    for name in ("last.pt", "best.pt"):
        _same(load_checkpoint(whole_run / name), load_checkpoint(tmp_path / name))


def test_ctrl_c_in_an_epoch_loses_only_that_epoch(
    whole_run: Path, crops_root: Path, tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    def interrupt(epoch: int, done: int, total: int) -> None:
        if (epoch, done) == (2, 2):
            raise KeyboardInterrupt

    summary = train_model(tiny_spec, _query(crops_root), OPTIONS, tmp_path, report=Report(step=interrupt))
    assert summary.result.interrupted
    assert summary.result.epochs == load_checkpoint(tmp_path / "last.pt").epoch == 1
    train_model(tiny_spec, _query(crops_root), OPTIONS, tmp_path, resume=True)
    _same(load_checkpoint(whole_run / "last.pt"), load_checkpoint(tmp_path / "last.pt"))


def test_training_learns_what_the_crops_show(crops_root: Path, tiny_spec: ModelSpec, tmp_path: Path) -> None:
    still = dataclasses.replace(OPTIONS.augment, strength=0.0)
    options = dataclasses.replace(OPTIONS, epochs=12, augment=still, average_decay=0.8, learning_rate=0.02)
    summary = train_model(tiny_spec, _query(crops_root), options, tmp_path)
    assert summary.result.best is not None
    assert summary.result.best["validation"]["f1"] == 1.0


def test_another_seed_gives_other_weights(
    whole_run: Path, crops_root: Path, tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    train_model(tiny_spec, _query(crops_root), dataclasses.replace(OPTIONS, seed=1, epochs=1), tmp_path)
    name = "stem.0.weight"
    kept = load_checkpoint(whole_run / "last.pt").weights[name]
    assert not torch.equal(kept, load_checkpoint(tmp_path / "last.pt").weights[name])


@pytest.mark.parametrize("watch", ["f1", "loss"])
def test_the_best_epoch_is_chosen_as_asked(crops_root: Path, tiny_spec: ModelSpec, tmp_path: Path, watch: str) -> None:
    options = dataclasses.replace(OPTIONS, epochs=6, best=watch, learning_rate=0.05, average_decay=0.0)
    summary = train_model(tiny_spec, _query(crops_root), options, tmp_path)
    records = [record["validation"] for record in json.loads((tmp_path / "history.json").read_text())["epochs"]]
    ranks = [(r["f1"], -r["loss"]) if watch == "f1" else (-r["loss"], r["f1"]) for r in records]
    assert summary.result.best_epoch == ranks.index(max(ranks)) + 1
    assert load_checkpoint(tmp_path).epoch == summary.result.best_epoch


def test_overwriting_leaves_nothing_of_the_run_before(crops_root: Path, tiny_spec: ModelSpec, tmp_path: Path) -> None:
    query, options = _query(crops_root), dataclasses.replace(OPTIONS, epochs=1)
    train_model(tiny_spec, query, options, tmp_path)

    def interrupt(epoch: int, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(OptionError, match="nothing to learn from"):
        train_model(tiny_spec, DataQuery(), options, tmp_path, overwrite=True)
    assert load_checkpoint(tmp_path).epoch == 1  # bad data cost nothing
    train_model(tiny_spec, query, options, tmp_path, overwrite=True, report=Report(step=interrupt))
    assert not (tmp_path / "best.pt").exists()
    assert load_checkpoint(tmp_path / "last.pt").epoch == 0


def test_patience_ends_a_run_early(crops_root: Path, tiny_spec: ModelSpec, tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, epochs=30, patience=2, learning_rate=1e-9, average_decay=0.0)
    summary = train_model(tiny_spec, _query(crops_root), options, tmp_path)
    assert summary.result.stopped_early
    assert summary.result.epochs == summary.result.best_epoch + 2 < 30


@pytest.mark.parametrize(
    ("change", "message"),
    [({"learning_rate": 0.5}, "learning_rate"), ({"seed": 3}, "seed")],
    ids=["rate", "seed"],
)
def test_resuming_with_other_options_is_refused(
    whole_run: Path, crops_root: Path, tiny_spec: ModelSpec, change: dict[str, float], message: str
) -> None:
    options = dataclasses.replace(OPTIONS, **change)
    with pytest.raises(OptionError, match=f"another {message}"):
        train_model(tiny_spec, _query(crops_root), options, whole_run, resume=True)


def test_resuming_with_another_design_or_other_data_is_refused(
    whole_run: Path, crops_root: Path, tiny_spec: ModelSpec
) -> None:
    with pytest.raises(OptionError, match="another model design"):
        train_model(dataclasses.replace(tiny_spec, num_blocks=3), _query(crops_root), OPTIONS, whole_run, resume=True)
    query = dataclasses.replace(_query(crops_root), seed=5)
    with pytest.raises(OptionError, match="saw other data"):
        train_model(tiny_spec, query, OPTIONS, whole_run, resume=True)


def test_a_folder_with_a_run_is_not_overwritten_unasked(
    whole_run: Path, crops_root: Path, tiny_spec: ModelSpec
) -> None:
    with pytest.raises(OptionError, match="already holds a run"):
        train_model(tiny_spec, _query(crops_root), OPTIONS, whole_run)


def test_evaluation_of_the_best_repeats_its_record(whole_run: Path, crops_root: Path) -> None:
    checkpoint = load_checkpoint(whole_run)
    result = evaluate_checkpoint(checkpoint, find_crops([crops_root]))
    assert result.scores.count == 24
    assert result.by_source["bars"] == result.scores


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"], ids=["empty", "text", "truncated"]
)
def test_damaged_checkpoints_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"best\.pt"):
        load_checkpoint(path)


def test_missing_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="not found"):
        load_checkpoint(tmp_path / "none.pt")
    with pytest.raises(ModelFileError, match=r"no best\.pt"):
        load_checkpoint(tmp_path)


def test_average_follows_the_closed_form() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = copy_model(model)
    values = np.random.default_rng(0).normal(size=20)
    expected = float(model.weight.item())
    for step, value in enumerate(values, start=1):
        with torch.no_grad():
            model.weight.fill_(value)
        update_average(average, model, 0.5, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert next(average.parameters()).item() == pytest.approx(expected, rel=1e-5)
