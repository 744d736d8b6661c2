"""What a camera makes of a scene: exposure, blur, low resolution, noise, colour cast, JPEG."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

__all__ = ["Camera", "draw_camera", "take_picture"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Camera:
    """One camera and one moment.

    Attributes:
        brightness: Mean tone (0 to 1) that the automatic exposure aims at.
        strictness: How closely the exposure follows the scene, 0 (fixed) to 1.
        highlights: Linear light that bright areas may reach; above 1 they are blown out.
        contrast: Exponent of the tone curve around the middle; 1 leaves it.
        cast: Factors of red, green and blue.
        black: Lifted black level (haze, flare), 0 to 1.
        saturation: 1 leaves colours, 0 makes them grey.
        defocus: Radius of the blur as a share of the side.
        motion: Displacement during the exposure as a share of the side, (x, y).
        resolution: Side of the original in pixels; the picture's own side or more leaves it.
        noise: Standard deviation, sRGB 0 to 1.
        quality: Of JPEG; 0 for none.
    """

    brightness: float
    strictness: float
    highlights: float
    contrast: float
    cast: tuple[float, float, float]
    black: float
    saturation: float
    defocus: float
    motion: tuple[float, float]
    resolution: int
    noise: float
    quality: int


def draw_camera(rng: np.random.Generator, size: int) -> Camera:
    """Draw a camera: most pictures are fair, some dark, pale, blurred, coarse or noisy."""
    dark = rng.random() < 0.15
    cast = np.clip(rng.normal(1.0, 0.05, 3), 0.8, 1.2)
    moving = rng.random() < 0.2
    angle, length = rng.uniform(0, 6.28), rng.uniform(0.02, 0.09) if moving else 0.0
    return Camera(
        brightness=float(rng.uniform(0.14, 0.32) if dark else np.clip(rng.normal(0.52, 0.11), 0.3, 0.8)),
        strictness=float(rng.uniform(0.5, 1.0)),
        highlights=float(rng.uniform(0.7, 1.3) if rng.random() < 0.7 else rng.uniform(1.3, 4.0)),
        contrast=float(rng.uniform(0.8, 1.35)),
        cast=(float(cast[0]), float(cast[1]), float(cast[2])),
        black=float(rng.uniform(0.0, 0.12) if rng.random() < 0.3 else 0.0),
        saturation=float(np.clip(rng.normal(1.05, 0.2), 0.0, 1.6)),
        defocus=float(rng.uniform(0.004, 0.022) if rng.random() < 0.4 else 0.0),
        motion=(float(length * np.cos(angle)), float(length * np.sin(angle))),
        resolution=int(rng.integers(26, 64)) if rng.random() < 0.3 else size,
        noise=float(rng.uniform(0.01, 0.04) if dark or rng.random() < 0.2 else rng.uniform(0.0, 0.015)),
        quality=int(rng.integers(25, 95)) if rng.random() < 0.6 else 0,
    )


def take_picture(rng: np.random.Generator, light: Floats, camera: Camera) -> Image.Image:
    """Turn linear light, (S, S, 3), into an RGB picture of the same side."""
    size = len(light)
    exposed = light * (np.array(camera.cast, np.float32) * np.float32(_exposure(light, camera)))
    tones = np.sqrt(np.clip(_smear(exposed, camera.motion), 0.0, 1.0))
    if camera.contrast != 1.0:
        tones = np.clip(0.5 + (tones - 0.5) * np.float32(camera.contrast), 0.0, 1.0)
    grey = tones.mean(axis=2, keepdims=True)
    tones = grey + np.float32(camera.saturation) * (tones - grey)
    tones = camera.black + (1 - camera.black) * tones
    image = Image.fromarray((np.clip(tones, 0.0, 1.0) * 255 + 0.5).astype(np.uint8))
    if camera.defocus > 0:
        image = image.filter(ImageFilter.GaussianBlur(camera.defocus * size))
    if camera.resolution < size:
        image = image.resize((camera.resolution, camera.resolution), Image.Resampling.BOX)
    image = _compress(_add_noise(rng, image, camera.noise), camera.quality)
    return image if image.width == size else image.resize((size, size), Image.Resampling.BICUBIC)


def _exposure(light: Floats, camera: Camera) -> float:
    """Factor that brings the mean tone near its aim without losing more of the bright areas than the camera allows."""
    luma = light.mean(axis=2).ravel()
    mean_tone = float(np.sqrt(np.clip(luma, 0.0, 1.0)).mean())
    exposure = (camera.brightness / max(mean_tone, 0.02)) ** (2 * camera.strictness)
    bright = float(np.partition(luma, int(0.92 * len(luma)))[int(0.92 * len(luma))])
    return float(min(exposure, camera.highlights / max(bright, 0.02)))


def _smear(light: Floats, motion: tuple[float, float]) -> Floats:
    """Mean over the positions that a moving picture takes."""
    size = len(light)
    reach = max(abs(motion[0]), abs(motion[1])) * size
    steps = int(np.ceil(reach))
    if steps < 1:
        return light
    total = np.zeros_like(light)
    for share in np.linspace(-0.5, 0.5, steps + 1):
        shift = (round(share * motion[1] * size), round(share * motion[0] * size))
        total += _shifted(light, *shift)
    return total / np.float32(steps + 1)


def _shifted(light: Floats, down: int, right: int) -> Floats:
    """A picture moved by whole pixels, its border repeated."""
    rows = np.clip(np.arange(light.shape[0]) - down, 0, light.shape[0] - 1)
    columns = np.clip(np.arange(light.shape[1]) - right, 0, light.shape[1] - 1)
    return light[rows][:, columns]


def _add_noise(rng: np.random.Generator, image: Image.Image, strength: float) -> Image.Image:
    pixels = np.asarray(image, np.float32)
    grain = rng.standard_normal(pixels.shape, np.float32) * np.float32(255 * strength)
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


def _compress(image: Image.Image, quality: int) -> Image.Image:
    if quality == 0:
        return image
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    stream.seek(0)
    return Image.open(stream).convert("RGB")
