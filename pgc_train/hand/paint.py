"""Skin, cloth and light on the visible surface of a hand. Colours are linear light, 0 to 1 for paper white."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from pgc_train.hand.body import FINGER, FOREARM, SLEEVE, THUMB, TIP
from pgc_train.hand.surface import Capsules, Surface

__all__ = ["SKIN_TONES", "Light", "Skin", "draw_light", "draw_skin", "paint_surface", "smooth_noise"]

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

# From very light to very dark, sRGB: the ten shades of the Monk scale, a little redder as cameras see living skin.
SKIN_TONES = (
    (246, 228, 217), (242, 220, 205), (240, 212, 185), (228, 196, 165), (208, 168, 134),
    (168, 124, 92), (134, 92, 68), (100, 66, 50), (66, 48, 40), (44, 35, 31),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Skin:
    """Colours of one person, linear light.

    Attributes:
        tone: Place on the scale of skin tones, 0 (lightest) to 9 (darkest).
        back: Of the back of the hand, (3,).
        palm: Of the palm, (3,).
        knuckle: Factor at joints and fingertips, (3,).
        nail: Factor of the nails, (3,).
        sleeve: Of the cloth, (3,).
        stripes: Stripes of the cloth a hand length; 0 for plain cloth.
        band: Begin and end of a bracelet or watch along the forearm (0 to 1), equal for none.
    """

    tone: float
    back: Array
    palm: Array
    knuckle: Array
    nail: Array
    sleeve: Array
    stripes: float
    band: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Light:
    """Light on the hand.

    Attributes:
        direction: Towards the light, (3,), x right, y down, z to the viewer.
        ambient: Share that comes from everywhere.
        wrap: How far light reaches around edges; large for a soft source.
        gloss: Strength of highlights.
        colour: (3,).
        occlusion: Strength of the darkening in hollows.
    """

    direction: Array
    ambient: float
    wrap: float
    gloss: float
    colour: Array
    occlusion: float


def draw_skin(rng: np.random.Generator) -> Skin:
    """Draw a person's skin and clothes."""
    tone = float(rng.uniform(0.0, 9.0))
    low = min(int(tone), 8)
    scale = np.array(SKIN_TONES, np.float64) / 255.0
    colour = scale[low] + (tone - low) * (scale[low + 1] - scale[low])
    red = rng.normal(0.04, 0.035)
    colour = colour * np.array([1.0 + 0.6 * red, 1.0 - 0.4 * red, 1.0 - np.clip(rng.normal(0.04, 0.04), -0.02, 0.15)])
    back = np.clip(colour, 0.02, 1.0) ** 2
    lighter = 0.08 + 0.055 * tone
    palm = back ** (1 - 0.45 * lighter) * np.array([1.06, 0.97, 0.95])
    sleeve = (
        (rng.uniform(0.15, 0.95) * rng.uniform(0.35, 1.0, 3)) ** 2
        if rng.random() < 0.6
        else np.full(3, rng.uniform(0, 0.9) ** 2)
    )
    start = float(rng.uniform(0.02, 0.12))
    width = float(rng.uniform(0.03, 0.12)) if rng.random() < 0.15 else 0.0
    painted = rng.random(3) * 1.2 if rng.random() < 0.12 else np.array([1.12, 1.02, 1.05])
    return Skin(
        tone=tone,
        back=back,
        palm=palm,
        knuckle=np.array([1.06, 0.90, 0.88]) * rng.uniform(0.82, 1.0),
        nail=painted,
        sleeve=sleeve,
        stripes=float(rng.uniform(4, 20)) if rng.random() < 0.3 else 0.0,
        band=(start, start + width),
    )


def draw_light(rng: np.random.Generator) -> Light:
    """Draw light: soft or hard, mostly from above and in front, sometimes from behind."""
    direction = rng.normal(0.0, 1.0, 3) + np.array([0.0, -0.6, 0.7])
    hard = rng.random() < 0.45
    return Light(
        direction=direction / np.linalg.norm(direction),
        ambient=float(rng.uniform(0.12, 0.4) if hard else rng.uniform(0.4, 0.85)),
        wrap=float(rng.uniform(0.0, 0.25) if hard else rng.uniform(0.2, 0.8)),
        gloss=float(rng.uniform(0.0, 0.25) ** 1.5),
        colour=np.clip(rng.normal(1.0, 0.045, 3), 0.85, 1.15),
        occlusion=float(rng.uniform(0.3, 1.0)),
    )


def paint_surface(
    rng: np.random.Generator, surface: Surface, capsules: Capsules, skin: Skin, light: Light, hand_length: float
) -> Floats:
    """Colour of each pixel of a surface, (S, S, 3) linear light, zero outside of its mask.

    Args:
        rng: Draws the mottling of the skin.
        surface: What is visible.
        capsules: The parts, in pixels.
        skin: Colours.
        light: Light.
        hand_length: Pixels of one hand length.
    """
    mask = surface.mask
    part, along = surface.part[mask], surface.along[mask]
    normals = _normals(surface)[mask]
    facing = np.einsum("ij,ij->i", normals, capsules.palmar.astype(np.float32)[part])
    colour = _material(rng, capsules.kind[part], along, facing, surface, skin)
    brightness = _shade(normals, light) * _hollows(surface, light.occlusion, hand_length)[mask]
    lit = colour * (brightness[:, None] * light.colour.astype(np.float32))
    if light.gloss > 0.004:
        half = light.direction + np.array([0.0, 0.0, 1.0])
        aligned = normals @ (half / max(float(np.linalg.norm(half)), 0.2)).astype(np.float32)
        lit += np.float32(light.gloss) * np.maximum(aligned, 0.0)[:, None] ** 16
    picture = np.zeros((*mask.shape, 3), np.float32)
    picture[mask] = lit
    return picture


def smooth_noise(rng: np.random.Generator, cells: int, size: int) -> Floats:
    """Smooth random field in 0 to 1, (size, size), with about `cells` bumps a side."""
    small = Image.fromarray(rng.integers(0, 256, (cells, cells), np.uint8))
    return np.asarray(small.resize((size, size), Image.Resampling.BICUBIC), np.float32) / np.float32(255)


def _normals(surface: Surface) -> Floats:
    """Unit normals from the slope of the depth map, (S, S, 3); steep steps between parts are limited."""
    down, right = np.gradient(surface.depth)
    limit = 2.2
    right, down = np.clip(right, -limit, limit), np.clip(down, -limit, limit)
    length = 1.0 / np.sqrt(1.0 + right * right + down * down)
    return np.stack([-right * length, -down * length, length], axis=2).astype(np.float32)


def _material(
    rng: np.random.Generator,
    kind: npt.NDArray[np.int64],
    along: Floats,
    facing: Floats,
    surface: Surface,
    skin: Skin,
) -> Floats:
    """Colour of the material under white light of each masked pixel, (P, 3)."""
    inner = np.clip(0.5 + 1.4 * facing, 0.0, 1.0)[:, None]
    colour = (skin.back + inner * (skin.palm - skin.back)).astype(np.float32)
    jointed = (kind == FINGER) | (kind == TIP) | (kind == THUMB)
    near_joint = np.exp(-np.square(np.minimum(along, 1.0 - along) / np.float32(0.10))) * (jointed & (kind != TIP))
    near_tip = np.clip((along - 0.35) * 1.5, 0.0, 0.7) * (kind == TIP)
    colour *= 1 + (near_joint + near_tip)[:, None] * (skin.knuckle - 1).astype(np.float32)
    nail = (kind == TIP) & (facing < -0.72) & (along > 0.45) & (along < 0.97)
    colour[nail] *= skin.nail.astype(np.float32)
    size = len(surface.mask)
    mottling = smooth_noise(rng, int(rng.integers(6, 24)), size)[surface.mask]
    colour *= (1 + np.float32(rng.uniform(0.05, 0.3)) * (mottling - np.float32(0.5)))[:, None]
    arm = kind == FOREARM
    banded = arm & (along >= skin.band[0]) & (along < skin.band[1])
    colour[banded] = (skin.sleeve[::-1] * 0.5).astype(np.float32)
    cloth = kind == SLEEVE
    folds = (0.7 + 0.6 * mottling[cloth]) * (1 + 0.5 * (skin.stripes > 0) * np.sin(6.28 * skin.stripes * along[cloth]))
    colour[cloth] = (skin.sleeve * folds[:, None]).astype(np.float32)
    return np.asarray(colour, np.float32)


def _shade(normals: Floats, light: Light) -> Floats:
    """Brightness of each masked pixel, (P,)."""
    wrap = np.float32(light.wrap)
    direct = np.maximum(normals @ light.direction.astype(np.float32) + wrap, 0.0) / (1 + wrap)
    sky = 0.75 - 0.25 * normals[:, 1]
    return np.asarray(light.ambient * sky + (1.25 - light.ambient) * direct, np.float32)


def _hollows(surface: Surface, strength: float, hand_length: float) -> Floats:
    """Darkening where the surface lies lower than its surroundings, (S, S), 1 = none (depth darkening)."""
    size = len(surface.mask)
    floor = np.float32(surface.depth[surface.mask].min()) if surface.mask.any() else np.float32(0)
    depth = np.where(surface.mask, surface.depth, floor)
    around = np.zeros_like(depth)
    for share in (0.04, 0.09):
        cells = int(np.clip(size / max(share * hand_length, 1.0), 4, size))
        small = Image.fromarray(depth).resize((cells, cells), Image.Resampling.BOX)
        around += np.asarray(small.resize((size, size), Image.Resampling.BICUBIC), np.float32) / 2
    below = np.maximum(around - depth, 0.0) / np.float32(0.09 * hand_length)
    return np.asarray(1.0 / (1.0 + np.float32(strength * 1.6) * below), np.float32)
