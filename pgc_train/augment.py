"""Change training crops at random, a batch at a time, all crops of a batch differently.

Geometry works on the stored crop, which is larger than the model's input; shrinking to the input is bilinear with
antialiasing, as inference does it; light, colour and damage work on the small image. Every random number comes from the
generator given: the same generator state gives the same batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from pgc_train.options import AugmentOptions

__all__ = ["augment", "change_light", "damage", "move"]

_LUMA = (0.299, 0.587, 0.114)
_COARSE_SIDES = (14, 16, 20, 24)


def augment(pixels: Tensor, size: tuple[int, int], options: AugmentOptions, generator: torch.Generator) -> Tensor:
    """Turn stored crops into training input.

    Args:
        pixels: `(N, 3, S, S)` uint8.
        size: Height and width of the model's input.
        options: How far to go; strength 0 only resizes.
        generator: Where all randomness comes from.

    Returns:
        `(N, 3, H, W)` float32 in [0, 1].
    """
    images = pixels.float().div_(255.0)
    if options.strength > 0:
        images = move(images, options, generator)
    if images.shape[2:] != size:
        images = functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
    if options.strength > 0:
        images = damage(change_light(images, options, generator), options, generator)
    return images.clamp_(0.0, 1.0)


def move(images: Tensor, options: AugmentOptions, generator: torch.Generator) -> Tensor:
    """Flip, turn, zoom, stretch, shear and shift; what comes in from outside is the nearest edge or one colour.

    Args:
        images: `(N, 3, H, W)` in [0, 1].
        options: Ranges.
        generator: Where all randomness comes from.
    """
    count, strength = len(images), options.strength
    angle = _symmetric(count, generator) * math.radians(options.rotation) * strength
    anywhere = _uniform(count, generator) * (2.0 * math.pi)
    angle = torch.where(_chosen(count, options.turn_share * strength, generator), anywhere, angle)
    zoom = _factor(count, options.scale, strength, generator)
    stretch = _factor(count, options.stretch, strength, generator).sqrt()
    shear = _symmetric(count, generator) * options.shear * strength
    flip = torch.where(_chosen(count, 0.5, generator), -1.0, 1.0)
    cosine, sine = angle.cos(), angle.sin()
    across, down = stretch / zoom, 1.0 / (stretch * zoom)
    matrix = torch.stack(
        [
            torch.stack([flip * across * cosine, flip * (shear * cosine - sine) * down], dim=1),
            torch.stack([across * sine, (shear * sine + cosine) * down], dim=1),
        ],
        dim=1,
    )  # (N, 2, 2), output coordinates -> input coordinates, both in [-1, 1]
    shift = _symmetric((count, 2, 1), generator) * (2.0 * options.shift * strength)
    grid = functional.affine_grid(torch.cat([matrix, shift], dim=2), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    outside = (grid.abs().amax(dim=3, keepdim=True) > 1.0).permute(0, 3, 1, 2)
    tinted = _chosen((count, 1, 1, 1), 0.4 * strength, generator)
    return torch.where(outside & tinted, _uniform((count, 3, 1, 1), generator), moved)


def change_light(images: Tensor, options: AugmentOptions, generator: torch.Generator) -> Tensor:
    """Change hue, saturation, colour cast, contrast, brightness and gamma, and let light fall from one side.

    Args:
        images: `(N, 3, H, W)` in [0, 1].
        options: Ranges.
        generator: Where all randomness comes from.

    Returns:
        `(N, 3, H, W)` in [0, 1].
    """
    count, strength = len(images), options.strength
    tame = math.sqrt(options.light)
    gain = _factor((count, 3, 1), math.sqrt(tame), strength, generator)  # a colour cast
    colour = _colour_matrix(count, options, generator) * gain  # (N, 3, 3), rows are output channels
    changed = torch.einsum("nij,njhw->nihw", colour, images)
    middle = changed.mean(dim=(1, 2, 3), keepdim=True)
    contrast = _factor((count, 1, 1, 1), tame, strength, generator)
    brightness = _factor((count, 1, 1, 1), options.light, strength, generator)
    slope = _symmetric((count, 2), generator) * 0.4 * strength * _chosen((count, 1), 0.4, generator)
    changed = ((changed - middle) * contrast + middle) * brightness * _light_from_side(slope, images.shape[2:])
    gamma = _factor((count, 1, 1, 1), tame, strength, generator)
    # The tiny floor keeps 0 ** gamma defined and changes no pixel that 8 bits can hold.
    return changed.clamp(1e-4, 1.0) ** gamma


def damage(images: Tensor, options: AugmentOptions, generator: torch.Generator) -> Tensor:
    """Make some crops coarse, noisy, or paint a rectangle over a part.

    Args:
        images: `(N, 3, H, W)` in [0, 1].
        options: Ranges.
        generator: Where all randomness comes from.
    """
    count, strength = len(images), options.strength
    size = (images.shape[2], images.shape[3])
    side = _COARSE_SIDES[int(torch.randint(len(_COARSE_SIDES), (1,), generator=generator))]
    coarse = functional.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)
    coarse = functional.interpolate(coarse, size, mode="bilinear", align_corners=False)
    images = torch.where(_chosen((count, 1, 1, 1), options.blur_share * strength, generator), coarse, images)
    amount = _uniform((count, 1, 1, 1), generator) * options.noise * strength
    amount = amount * _chosen((count, 1, 1, 1), 0.5, generator)
    images = images + torch.randn(images.shape, generator=generator) * amount
    cut = _rectangles(count, size, generator) & _chosen((count, 1, 1, 1), options.cut_share * strength, generator)
    return torch.where(cut, _uniform((count, 3, 1, 1), generator), images)


def _colour_matrix(count: int, options: AugmentOptions, generator: torch.Generator) -> Tensor:
    # Rotation about the grey axis turns the hue (Rodrigues' formula), a blend with luma changes the saturation.
    strength = options.strength
    angle = (_symmetric((count, 1, 1), generator) * 0.35 * strength).expand(count, 3, 3)
    axis = 1.0 / math.sqrt(3.0)
    cross = torch.tensor([[0.0, -axis, axis], [axis, 0.0, -axis], [-axis, axis, 0.0]])
    hue = angle.cos() * torch.eye(3) + angle.sin() * cross + (1.0 - angle.cos()) * torch.full((3, 3), 1.0 / 3.0)
    saturation = _factor((count, 1, 1), options.light, strength, generator)
    grey = _chosen((count, 1, 1), options.grey_share * strength, generator)
    saturation = torch.where(grey, 0.0, saturation)
    luma = torch.tensor(_LUMA).expand(3, 3)
    return (saturation * torch.eye(3) + (1.0 - saturation) * luma) @ hue


def _light_from_side(slope: Tensor, size: torch.Size) -> Tensor:
    rows = torch.linspace(-1.0, 1.0, size[0]).view(1, 1, -1, 1)
    columns = torch.linspace(-1.0, 1.0, size[1]).view(1, 1, 1, -1)
    return 1.0 + slope[:, 0].view(-1, 1, 1, 1) * rows + slope[:, 1].view(-1, 1, 1, 1) * columns


def _rectangles(count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    inside = torch.ones((count, 1, 1, 1), dtype=torch.bool)
    for axis, length in enumerate(size):
        centre = _uniform((count, 1, 1, 1), generator) * length
        half = (0.05 + 0.13 * _uniform((count, 1, 1, 1), generator)) * length
        shape = (1, 1, -1, 1) if axis == 0 else (1, 1, 1, -1)
        inside = inside & ((torch.arange(length).view(shape) + 0.5 - centre).abs() < half)
    return inside


def _uniform(shape: int | tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator)


def _symmetric(shape: int | tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * 2.0 - 1.0


def _factor(shape: int | tuple[int, ...], largest: float, strength: float, generator: torch.Generator) -> Tensor:
    return torch.exp(_symmetric(shape, generator) * (math.log(largest) * strength))


def _chosen(shape: int | tuple[int, ...], share: float, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) < share
