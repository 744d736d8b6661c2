from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest

from pgc_graph.build.spec import PRESETS, BlockSize, ModelSpec, preset, spec_from_dict, spec_to_dict
from pgc_graph.errors import OptionError


def test_blocks_double_channels_and_halve_size_at_every_second_block() -> None:
    assert ModelSpec(base_channels=8, num_blocks=5).blocks == (
        BlockSize(0, 8, 8, 1),
        BlockSize(1, 8, 8, 1),
        BlockSize(2, 8, 16, 2),
        BlockSize(3, 16, 16, 1),
        BlockSize(4, 16, 32, 2),
    )


@pytest.mark.parametrize(
    ("backbone", "image_size", "num_blocks", "expected"),
    [
        pytest.param("inverted_se", (32, 32), 4, (8, 8), id="inverted-32"),
        pytest.param("baseline", (33, 48), 3, (9, 12), id="odd-sizes-round-up"),
        pytest.param("convnext", (32, 32), 6, (2, 2), id="convnext-32"),
        pytest.param("convnext", (39, 32), 3, (4, 4), id="convnext-rounds-down"),
    ],
)
def test_feature_size_follows_the_strides(
    backbone: str, image_size: tuple[int, int], num_blocks: int, expected: tuple[int, int]
) -> None:
    spec = ModelSpec(backbone=backbone, head="avg", image_size=image_size, num_blocks=num_blocks)
    assert spec.feature_size == expected


@pytest.mark.parametrize(
    ("backbone", "head"), [("inverted_se", "avgmax_mlp"), ("convnext", "transformer"), ("baseline", "avg")]
)
def test_auto_head_suits_the_backbone(backbone: str, head: str) -> None:
    assert ModelSpec(backbone=backbone).resolved_head == head


@pytest.mark.parametrize(("channels", "heads"), [(8, 8), (12, 6), (20, 5), (7, 7), (11, 1), (64, 8)])
def test_attention_heads_are_the_largest_divisor_up_to_eight(channels: int, heads: int) -> None:
    assert ModelSpec(base_channels=channels, num_blocks=1).attention_heads == heads


@pytest.mark.parametrize("name", PRESETS)
def test_spec_survives_json(name: str) -> None:
    spec = dataclasses.replace(preset(name), token_grid=(4, 2), colour="lab")
    assert spec_from_dict(json.loads(json.dumps(spec_to_dict(spec)))) == spec


def test_absent_keys_take_their_defaults() -> None:
    assert spec_from_dict({"base_channels": 16}) == ModelSpec(base_channels=16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"variant": "xl"}, "unknown variant 'xl'", id="variant"),
        pytest.param({"backbone": "resnet"}, "unknown backbone 'resnet'", id="backbone"),
        pytest.param({"head": "mlp"}, "unknown head 'mlp'", id="head"),
        pytest.param({"colour": "hsv"}, "unknown colour 'hsv'", id="colour"),
        pytest.param({"base_channels": 0}, "base_channels is 0", id="no-channels"),
        pytest.param({"num_blocks": 2.0}, "num_blocks is 2.0", id="blocks-not-whole"),
        pytest.param({"expansion": True}, "expansion is True", id="expansion-bool"),
        pytest.param({"dropout": 1.0}, "dropout is 1.0", id="dropout-all"),
        pytest.param({"dropout": float("nan")}, "dropout is nan", id="dropout-nan"),
        pytest.param({"token_grid": (2,)}, "token_grid is", id="grid-short"),
        pytest.param({"image_size": (0, 32)}, "image_size is 0", id="image-empty"),
        pytest.param({"image_size": (3, 3), "backbone": "convnext"}, "too small for 4 convnext blocks", id="too-small"),
        pytest.param({"head": "transformer", "token_grid": (3, 2)}, "8x8 features do not divide", id="grid-uneven"),
        pytest.param({"head": "mlp_mixer", "num_blocks": 9}, "do not divide into a token_grid of 2x2", id="grid-large"),
    ],
)
def test_impossible_values_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        ModelSpec(**changes)


def test_token_grid_is_free_where_no_head_uses_it() -> None:
    assert ModelSpec(token_grid=(3, 5)).token_grid == (3, 5)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(OptionError, match="unknown preset 'x'; expected s, c, m or l"):
        preset("x")
    with pytest.raises(OptionError, match="unknown model option 'layers'"):
        spec_from_dict({"layers": 3})


def test_importing_spec_loads_nothing_heavy() -> None:
    heavy = {"numpy", "onnx", "onnx_graphsurgeon", "torch"}
    code = f"import sys, pgc_graph.build.spec as _; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
