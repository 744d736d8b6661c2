from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from pgc_train.augment import augment, change_light, damage, move
from pgc_train.options import AugmentOptions

OPTIONS = AugmentOptions(strength=1.0)
STILL = AugmentOptions(
    strength=1.0,
    rotation=0,
    turn_share=0,
    scale=1,
    stretch=1,
    shear=0,
    shift=0,
    light=1,
    grey_share=0,
    blur_share=0,
    noise=0,
    cut_share=0,
)


def _pixels(count: int = 8, size: int = 48, seed: int = 0) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 3, size // 8, size // 8), dtype=np.uint8)
    return torch.from_numpy(coarse.repeat(8, axis=2).repeat(8, axis=3))


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [(32, 32), (24, 40)], ids=["square", "oblong"])
def test_output_has_the_models_shape_and_range(size: tuple[int, int]) -> None:
    images = augment(_pixels(), size, OPTIONS, _generator())
    assert images.shape == (8, 3, *size)
    assert images.dtype == torch.float32
    assert images.isfinite().all()
    assert 0.0 <= float(images.min()) <= float(images.max()) <= 1.0


def test_same_generator_state_gives_the_same_batch_and_leaves_torch_alone() -> None:
    before = torch.get_rng_state()
    first = augment(_pixels(), (32, 32), OPTIONS, _generator(5))
    assert torch.equal(first, augment(_pixels(), (32, 32), OPTIONS, _generator(5)))
    assert not torch.equal(first, augment(_pixels(), (32, 32), OPTIONS, _generator(6)))
    assert torch.equal(before, torch.get_rng_state())


def test_input_stays_untouched() -> None:
    pixels = _pixels()
    kept = pixels.clone()
    augment(pixels, (48, 48), OPTIONS, _generator())
    assert torch.equal(pixels, kept)


def test_crops_of_a_batch_are_changed_differently() -> None:
    images = augment(_pixels(1).expand(6, -1, -1, -1), (32, 32), OPTIONS, _generator())
    assert all((images[0] - images[index]).abs().max() > 0.02 for index in range(1, 6))


def test_strength_zero_resizes_as_inference_does() -> None:
    pixels = _pixels(3)
    images = augment(pixels, (32, 32), dataclasses.replace(OPTIONS, strength=0.0), _generator())
    for row, stored in zip(images.numpy(), pixels.numpy(), strict=True):
        resized = Image.fromarray(stored.transpose(1, 2, 0)).resize((32, 32), Image.Resampling.BILINEAR)
        # Pillow rounds to 8 bits after each of its two passes.
        np.testing.assert_allclose(row, np.asarray(resized).transpose(2, 0, 1) / 255, atol=1.1 / 255)


def test_without_ranges_move_only_flips() -> None:
    images = _pixels(40).float() / 255
    moved = move(images, STILL, _generator())
    flipped = [bool((a - b).abs().max() > 1e-4) for a, b in zip(moved, images, strict=True)]
    assert 8 < sum(flipped) < 32
    for image, result, is_flipped in zip(images, moved, flipped, strict=True):
        torch.testing.assert_close(result, image.flip(2) if is_flipped else image, atol=1e-4, rtol=0)


def test_full_turns_cover_all_directions_and_keep_the_middle() -> None:
    images = torch.zeros((200, 3, 33, 33))
    images[:, :, :16, 16] = 1.0  # a finger that points up
    moved = move(images, dataclasses.replace(STILL, turn_share=1.0), _generator())
    rows, columns = torch.meshgrid(torch.arange(33.0) - 16, torch.arange(33.0) - 16, indexing="ij")
    inner = (rows**2 + columns**2 < 15**2) * moved[:, 0]
    angles = torch.atan2((inner * rows).sum((1, 2)), (inner * columns).sum((1, 2)))
    counts = torch.histc(angles, 8, -torch.pi, torch.pi)
    assert counts.min() > 8


def test_without_ranges_light_changes_only_the_hue_and_shade() -> None:
    grey = torch.full((30, 3, 8, 8), 0.5)
    changed = change_light(grey, STILL, _generator())
    # A turned hue leaves grey grey; light from a side is a ramp about the same mean.
    torch.testing.assert_close(changed[:, 0], changed[:, 1], atol=1e-5, rtol=0)
    torch.testing.assert_close(changed.mean((1, 2, 3)), torch.full((30,), 0.5), atol=1e-2, rtol=0)


def test_grey_share_one_gives_luma() -> None:
    images = _pixels(4).float() / 255
    changed = change_light(images, dataclasses.replace(STILL, grey_share=1.0), _generator())
    torch.testing.assert_close(changed[:, 0], changed[:, 2], atol=1e-5, rtol=0)


def test_without_shares_damage_changes_nothing() -> None:
    images = torch.rand((5, 3, 32, 32), generator=_generator())
    assert torch.equal(damage(images, STILL, _generator()), images)


def test_cut_paints_one_colour_over_a_part() -> None:
    images = torch.full((20, 3, 32, 32), 0.5)
    cut = damage(images, dataclasses.replace(STILL, cut_share=1.0), _generator())
    changed = (cut != 0.5).any(dim=1)
    assert 0.0 < changed.float().mean() < 0.2
    for image, mask in zip(cut, changed, strict=True):
        assert all(len(channel[mask].unique()) <= 1 for channel in image)


def test_strength_grows_over_the_ramp() -> None:
    options = AugmentOptions(strength=1.0, ramp=4)
    strengths = [options.in_epoch(epoch).strength for epoch in range(1, 8)]
    assert strengths == pytest.approx([0.3, 0.475, 0.65, 0.825, 1.0, 1.0, 1.0])
    assert AugmentOptions(strength=0.5, ramp=0).in_epoch(1).strength == 0.5
