"""What a PGC model is made of: its options, the presets s, c, m and l, and the sizes that follow from them.

Both the ONNX builder and the torch twin read all sizes from here. Nothing heavy is imported.

| preset | base channels | blocks | parameters |
|--------|---------------|--------|------------|
| s      | 32            | 4      | 118,321    |
| c      | 32            | 5      | 212,689    |
| m      | 32            | 6      | 416,785    |
| l      | 64            | 6      | 1,622,049  |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pgc_graph.errors import OptionError

__all__ = [
    "BACKBONES",
    "COLOURS",
    "HEADS",
    "PRESETS",
    "PRESET_NAMES",
    "TOKEN_HEADS",
    "BlockSize",
    "ModelSpec",
    "preset",
    "spec_from_dict",
    "spec_to_dict",
]

BACKBONES = ("inverted_se", "baseline", "convnext")
HEADS = ("auto", "avg", "avgmax_mlp", "transformer", "mlp_mixer")
TOKEN_HEADS = ("transformer", "mlp_mixer")
COLOURS = ("rgb", "luma", "lab", "luv")
PRESET_NAMES = ("s", "c", "m", "l")

_AUTO_HEADS = {"inverted_se": "avgmax_mlp", "baseline": "avg", "convnext": "transformer"}
_MAX_ATTENTION_HEADS = 8


@dataclass(frozen=True)
class BlockSize:
    """The sizes of one block of the backbone.

    Attributes:
        index: Position among the blocks, from 0.
        in_channels: Channels that enter.
        out_channels: Channels that leave.
        stride: 1, or 2 where height and width are halved.
    """

    index: int
    in_channels: int
    out_channels: int
    stride: int

    @property
    def has_skip(self) -> bool:
        """Whether input and output have the same shape, so that the block adds its input."""
        return self.stride == 1 and self.in_channels == self.out_channels


@dataclass(frozen=True)
class ModelSpec:
    """Everything that determines a PGC network but its weights.

    Attributes:
        variant: Name of the preset, or `custom`.
        backbone: `inverted_se`, `baseline` or `convnext`.
        head: `avg`, `avgmax_mlp`, `transformer`, `mlp_mixer`, or `auto`: the one that suits the backbone.
        colour: What the network sees: `rgb`, or `luma`, `lab`, `luv` computed from RGB inside the graph.
        base_channels: Channels of the stem and of the first blocks.
        num_blocks: Blocks of the backbone; every second one after the first doubles channels and halves the size.
        expansion: Widening inside an inverted residual block (inverted_se only).
        se_reduction: Narrowing inside squeeze-and-excitation (inverted_se only).
        dropout: Probability of dropping a value while training, in [0, 1).
        token_grid: Rows and columns of tokens (transformer and mlp_mixer only).
        token_layers: Layers over the tokens (transformer and mlp_mixer only).
        image_size: Height and width of the input in pixels.

    Raises:
        OptionError: A value is unknown or impossible, or the features do not divide into the token grid.
    """

    variant: str = "custom"
    backbone: str = "inverted_se"
    head: str = "auto"
    colour: str = "rgb"
    base_channels: int = 32
    num_blocks: int = 4
    expansion: int = 4
    se_reduction: int = 8
    dropout: float = 0.3
    token_grid: tuple[int, int] = (2, 2)
    token_layers: int = 2
    image_size: tuple[int, int] = (32, 32)

    def __post_init__(self) -> None:
        _check_choice("variant", self.variant, ("custom", *PRESET_NAMES))
        _check_choice("backbone", self.backbone, BACKBONES)
        _check_choice("head", self.head, HEADS)
        _check_choice("colour", self.colour, COLOURS)
        for field in ("base_channels", "num_blocks", "expansion", "se_reduction", "token_layers"):
            _check_count(field, getattr(self, field))
        _check_pair("token_grid", self.token_grid)
        _check_pair("image_size", self.image_size)
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise OptionError(f"dropout is {self.dropout!r}; expected a number from 0 to below 1")
        _check_sizes(self)

    @property
    def resolved_head(self) -> str:
        """The head's kind, `auto` replaced by the one that suits the backbone."""
        return _AUTO_HEADS[self.backbone] if self.head == "auto" else self.head

    @property
    def input_channels(self) -> int:
        """Channels that the stem sees: 1 for luma, otherwise 3."""
        return 1 if self.colour == "luma" else 3

    @property
    def blocks(self) -> tuple[BlockSize, ...]:
        """Sizes of the backbone's blocks, in order."""
        sizes = []
        channels = self.base_channels
        for index in range(self.num_blocks):
            stride = 2 if index > 0 and index % 2 == 0 else 1
            sizes.append(BlockSize(index, channels, channels * stride, stride))
            channels *= stride
        return tuple(sizes)

    @property
    def feature_channels(self) -> int:
        """Channels that leave the backbone."""
        return self.blocks[-1].out_channels

    @property
    def feature_size(self) -> tuple[int, int]:
        """Height and width of what leaves the backbone; 0 where the image is too small."""
        height, width = (_feature_length(self, length) for length in self.image_size)
        return height, width

    @property
    def head_hidden(self) -> int:
        """Width of the hidden layer of the avgmax_mlp head."""
        return max(16, self.feature_channels)

    @property
    def attention_heads(self) -> int:
        """Attention heads of the transformer head: the largest divisor of the feature channels that is at most 8."""
        channels = self.feature_channels
        return max(heads for heads in range(1, _MAX_ATTENTION_HEADS + 1) if channels % heads == 0)

    @property
    def attention_feedforward(self) -> int:
        """Width of the feed-forward part of a transformer layer."""
        return max(128, 2 * self.feature_channels)

    @property
    def token_kernel(self) -> tuple[int, int]:
        """Height and width of the patch of features that is averaged into one token."""
        return self.feature_size[0] // self.token_grid[0], self.feature_size[1] // self.token_grid[1]


def preset(name: str) -> ModelSpec:
    """Return the spec of a preset.

    Args:
        name: `s`, `c`, `m` or `l`.

    Raises:
        OptionError: There is no such preset.
    """
    _check_choice("preset", name, PRESET_NAMES)
    return PRESETS[name]


def spec_to_dict(spec: ModelSpec) -> dict[str, Any]:
    """Return a spec as plain values that JSON can hold (tuples as lists)."""
    values = dataclasses.asdict(spec)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def spec_from_dict(values: Mapping[str, Any]) -> ModelSpec:
    """Rebuild a spec from the plain values that `spec_to_dict` gave; absent keys take their defaults.

    Raises:
        OptionError: A key is unknown, or a value makes no sense.
    """
    known = {field.name for field in dataclasses.fields(ModelSpec)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise OptionError(f"unknown model option {unknown[0]!r}; expected some of {', '.join(sorted(known))}")
    fields: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in values.items()}
    return ModelSpec(**fields)


def _feature_length(spec: ModelSpec, length: int) -> int:
    is_convnext = spec.backbone == "convnext"
    # 4x4 stride 4 without padding against 3x3 stride 2 with padding 1; between the stages likewise 2x2 against 3x3.
    length = length // 4 if is_convnext else (length + 1) // 2
    for block in spec.blocks:
        if block.stride == 2:
            length = length // 2 if is_convnext else (length + 1) // 2
    return length


def _check_choice(field: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionError(f"unknown {field} {value!r}; expected {', '.join(choices[:-1])} or {choices[-1]}")


def _check_count(field: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionError(f"{field} is {value!r}; expected a whole number of at least 1")


def _check_pair(field: str, value: object) -> None:
    if not isinstance(value, tuple) or len(value) != 2:
        raise OptionError(f"{field} is {value!r}; expected two whole numbers: rows, columns")
    for part in value:
        _check_count(field, part)


def _check_sizes(spec: ModelSpec) -> None:
    image, features, grid = ("x".join(map(str, pair)) for pair in (spec.image_size, spec.feature_size, spec.token_grid))
    if min(spec.feature_size) < 1:
        raise OptionError(f"image_size {image} is too small for {spec.num_blocks} {spec.backbone} blocks; enlarge it")
    if spec.resolved_head not in TOKEN_HEADS:
        return
    if any(length % parts for length, parts in zip(spec.feature_size, spec.token_grid, strict=True)):
        raise OptionError(
            f"the {features} features do not divide into a token_grid of {grid}; choose another grid, image_size or "
            "num_blocks"
        )


PRESETS: dict[str, ModelSpec] = {
    "s": ModelSpec("s", head="avgmax_mlp", base_channels=32, num_blocks=4),
    "c": ModelSpec("c", head="avgmax_mlp", base_channels=32, num_blocks=5),
    "m": ModelSpec("m", head="avgmax_mlp", base_channels=32, num_blocks=6),
    "l": ModelSpec("l", head="avgmax_mlp", base_channels=64, num_blocks=6),
}
"""The published family: inverted residuals with squeeze-and-excitation, 32x32 RGB."""
