"""Pruning whole networks: shipped, of every PGC kind, of the corpus and drawn at random, against the zeroed model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calibrated import calibrated_model
from conftest import CORPUS_NAMES
from pgc_graph import modelio
from pgc_graph.analysis.macs import count_macs, count_node_macs
from pgc_graph.build.spec import BACKBONES, HEADS, ModelSpec
from pgc_graph.errors import OptionError, SelectionError, UnsupportedError
from pgc_graph.passes.batchnorm import fold_batchnorm
from pgc_graph.passes.prune.choose import choose_channels
from pruning import channel_counts, is_alive, judge, random_channels
from random_networks import STEPS, networks

NETWORK_SETTINGS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


@pytest.mark.parametrize("name", ["pgc_s_32x32", "pgc_s_32x32_source", "pgc_l_32x32"])
@pytest.mark.parametrize("seed", [0, 1], ids=["first draw", "second draw"])
def test_shipped_models(repository: Path, name: str, seed: int) -> None:
    model = modelio.load(repository / "models" / f"{name}.onnx")
    pruned = judge(model, random_channels(model, seed, tensors=0.2, share=0.1))
    assert sum((pruned.removed or {}).values()) > 0
    assert is_alive(pruned.model)


@pytest.mark.parametrize("folded", [False, True], ids=["as built", "folded"])
def test_network_that_behaves_like_a_trained_one(pgc_model: Any, folded: bool) -> None:
    model = fold_batchnorm(pgc_model("s")).model if folded else pgc_model("s")
    pruned = judge(model, random_channels(model, 3, tensors=0.15, share=0.1))
    assert sum((pruned.removed or {}).values()) > 0
    assert is_alive(pruned.model)


@pytest.mark.parametrize("head", HEADS[1:])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_kind_of_pgc(backbone: str, head: str) -> None:
    spec = ModelSpec(backbone=backbone, head=head, base_channels=16, num_blocks=3)
    model = calibrated_model(spec)
    pruned = judge(model, random_channels(model, 5, tensors=0.3, share=0.1))
    assert sum((pruned.removed or {}).values()) > 0
    assert is_alive(pruned.model)
    for share in (0.9, 0.6):
        channels = choose_channels(model, share)
        smaller = judge(model, channels)
        assert not smaller.skipped
        assert is_alive(smaller.model)
        assert count_macs(smaller.model).total <= share * count_macs(model).total


@pytest.mark.parametrize("name", CORPUS_NAMES)
def test_corpus(corpus_model: Callable[[str], Path], name: str) -> None:
    model = modelio.load(corpus_model(name))
    pruned = judge(model, random_channels(model, 0, tensors=0.1, share=0.1), tolerance=1e-4, runs=1)
    assert sum((pruned.removed or {}).values()) > 0
    assert is_alive(pruned.model)


@pytest.mark.parametrize("name", CORPUS_NAMES)
def test_half_of_the_macs_of_the_corpus(corpus_model: Callable[[str], Path], name: str) -> None:
    model = modelio.load(corpus_model(name))
    pruned = judge(model, choose_channels(model, 0.5), tolerance=1e-4, runs=1)
    assert not pruned.skipped
    share = count_macs(pruned.model).total / count_macs(model).total
    assert 0.45 < share <= 0.5


@given(networks(steps=(*STEPS, "batchnorm", "arithmetic", "used", "again", "dropout")), st.integers(0, 2**31))
@settings(max_examples=60, **NETWORK_SETTINGS)
def test_random_channels_of_random_networks(proto: onnx.ModelProto, seed: int) -> None:
    model = modelio.load(proto)
    judge(model, random_channels(model, seed), tolerance=2e-5)


@given(networks(), st.floats(0.3, 0.95))
@settings(max_examples=30, **NETWORK_SETTINGS)
def test_share_of_macs_of_random_networks(proto: onnx.ModelProto, share: float) -> None:
    model = modelio.load(proto)
    try:
        channels = choose_channels(model, share)
    except UnsupportedError:  # a small network may have no more to give
        return
    pruned = judge(model, channels, tolerance=2e-5)
    assert count_macs(pruned.model).total <= share * count_macs(model).total + 1


@pytest.mark.slow
@given(networks(steps=(*STEPS, "batchnorm", "arithmetic", "used", "again", "dropout")), st.integers(0, 2**31))
@settings(max_examples=2000, **NETWORK_SETTINGS)
def test_random_channels_of_many_random_networks(proto: onnx.ModelProto, seed: int) -> None:
    model = modelio.load(proto)
    judge(model, random_channels(model, seed), tolerance=2e-5)


def test_lowest_scores_go_first_and_a_group_counts_the_sum(pgc_model: Any) -> None:
    model = fold_batchnorm(pgc_model("s")).model
    tensor = "/base_model/features/features.0/block/block.6/Mul_output_0"
    count = channel_counts(model)[tensor]
    scores = {tensor: {channel: float(count - channel) for channel in range(count)}}
    channels = choose_channels(model, 0.97, scores)
    gone = channels[tensor]
    assert gone == list(range(count - len(gone), count))
    more = {tensor: scores[tensor], tensor.replace("block.6", "block.5"): {count - 1: 1000.0}}
    assert count - 1 not in choose_channels(model, 0.97, more)[tensor]


def test_no_more_goes_than_needed(repository: Path) -> None:
    model = modelio.load(repository / "models" / "pgc_s_32x32.onnx")
    total = count_macs(model).total
    assert sum(count_node_macs(model).values()) == total
    shares = [count_macs(judge(model, choose_channels(model, wanted)).model).total / total for wanted in (0.8, 0.7)]
    assert np.all(np.abs(np.array(shares) - (0.8, 0.7)) < 0.01)
    assert choose_channels(model, 1.0) == {}


def test_share_of_channels_is_kept_in_every_tensor(repository: Path) -> None:
    model = modelio.load(repository / "models" / "pgc_s_32x32.onnx")
    tensor = "/base_model/features/features.2/block/block.5/Mul_output_0"
    pruned = judge(model, choose_channels(model, 0.4, keep_channels=0.4))
    before, after = channel_counts(model), channel_counts(pruned.model)
    assert after[tensor] < before[tensor]
    assert all(after[name] >= 0.4 * count for name, count in before.items())


def test_tensors_keep_multiples(repository: Path) -> None:
    model = modelio.load(repository / "models" / "pgc_s_32x32.onnx")
    pruned = judge(model, choose_channels(model, 0.6, multiple_of=8))
    before, after = channel_counts(model), channel_counts(pruned.model)
    assert 0.4 < count_macs(pruned.model).total / count_macs(model).total <= 0.6
    assert all(after[name] % 8 == 0 or after[name] == count for name, count in before.items())


def test_wrong_scores_and_shares_are_refused(repository: Path) -> None:
    model = modelio.load(repository / "models" / "pgc_s_32x32.onnx")
    with pytest.raises(SelectionError, match="nowhere"):
        choose_channels(model, 0.5, {"nowhere": {0: 1.0}})
    with pytest.raises(OptionError, match="has 0 to 31"):
        choose_channels(model, 0.5, {"/base_model/stem/stem.2/Mul_output_0": {32: 1.0}})
    with pytest.raises(OptionError, match="above 0"):
        choose_channels(model, 0.0)
    with pytest.raises(OptionError, match="from 0 to 1"):
        choose_channels(model, 0.5, keep_channels=1.5)
    with pytest.raises(OptionError, match="multiples of 0"):
        choose_channels(model, 0.5, multiple_of=0)
    with pytest.raises(UnsupportedError, match="the least that pruning leaves"):
        choose_channels(model, 1e-6)
