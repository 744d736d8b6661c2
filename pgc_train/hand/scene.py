"""What lies behind the hand: walls, rooms, windows, shelves, people, patterns. Pillow drawings, sRGB."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from pgc_train.hand.paint import SKIN_TONES, smooth_noise

__all__ = ["SCENES", "draw_face", "draw_scene"]

Floats = npt.NDArray[np.float32]
Colour = tuple[int, int, int]


def draw_scene(rng: np.random.Generator, size: int, name: str | None = None) -> Floats:
    """Draw a background, (size, size, 3) sRGB, 0 to 1; one of `SCENES`, at random where none is named."""
    names = list(SCENES)
    weights = np.array([SCENES[other][1] for other in names])
    chosen = name if name is not None else str(rng.choice(names, p=weights / weights.sum()))
    image = SCENES[chosen][0](rng, size)
    if rng.random() < 0.6:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.035 * size))))
    pixels = np.asarray(image, np.float32) / np.float32(255)
    return _light_falloff(rng, pixels)


def _light_falloff(rng: np.random.Generator, pixels: Floats) -> Floats:
    """Uneven light: a slope across the picture, sometimes a vignette."""
    size = len(pixels)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    angle, strength = rng.uniform(0, 6.28), rng.uniform(0.0, 0.3)
    slope = 1 + np.float32(strength) * (
        np.float32(np.cos(angle)) * axis[None, :] + np.float32(np.sin(angle)) * axis[:, None]
    )
    if rng.random() < 0.3:
        slope = slope * (1 - np.float32(rng.uniform(0.1, 0.35)) * (axis[None, :] ** 2 + axis[:, None] ** 2))
    return np.asarray(np.clip(pixels * slope[:, :, None], 0.0, 1.0), np.float32)


def _colour(rng: np.random.Generator, low: float = 5.0, high: float = 250.0, saturation: float = 0.0) -> Colour:
    """A random colour: a grey in the range, tinted; without a saturation mostly dull as indoors, sometimes vivid."""
    grey = rng.uniform(low, high)
    saturation = saturation or float(rng.choice((0.05, 0.15, 0.4), p=(0.5, 0.35, 0.15)))
    tint = np.clip(grey * (1 + saturation * rng.normal(0.0, 1.0, 3)), 0, 255).astype(int)
    return int(tint[0]), int(tint[1]), int(tint[2])


def _wall_colour(rng: np.random.Generator) -> Colour:
    return _colour(rng, 30, 250, float(rng.choice([0.02, 0.06, 0.15])))


def _wall(rng: np.random.Generator, size: int) -> Image.Image:
    """A plain wall, perhaps with a little texture."""
    grain = smooth_noise(rng, int(rng.integers(2, 40)), size) - 0.5
    pixels = np.array(_wall_colour(rng), np.float32) * (1 + np.float32(rng.uniform(0, 0.15)) * grain)[:, :, None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _room(rng: np.random.Generator, size: int) -> Image.Image:
    """A wall with large upright or lying rectangles: doors, furniture, screens, pictures."""
    image = _wall(rng, size)
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 8))):
        left, top = rng.uniform(-0.3, 1.0, 2) * size
        width, height = rng.uniform(0.05, 0.9, 2) * size
        box = (left, top, left + width, top + height)
        outline = _colour(rng) if rng.random() < 0.5 else None
        pen.rectangle(box, _colour(rng), outline, max(1, size // 40))
    return image.rotate(float(rng.normal(0, 8)), Image.Resampling.BILINEAR, fillcolor=_wall_colour(rng))


def _window(rng: np.random.Generator, size: int) -> Image.Image:
    """A bright window with bars in a darker wall: strong back light."""
    image = Image.new("RGB", (size, size), _colour(rng, 20, 150, 0.1))
    pen = ImageDraw.Draw(image)
    left, top = rng.uniform(-0.4, 0.4, 2) * size
    right, bottom = np.array([left, top]) + rng.uniform(0.5, 1.4, 2) * size
    pen.rectangle((left, top, right, bottom), _colour(rng, 215, 255, 0.02))
    if rng.random() < 0.4:
        pen.rectangle((left, (top + bottom) / 2, right, bottom), _colour(rng, 90, 220, 0.2))
    bar = _colour(rng, 20, 160, 0.1)
    for share in np.arange(1, int(rng.integers(2, 6))) / 4:
        x, y = left + share * (right - left), top + share * (bottom - top)
        pen.line((x, top, x, bottom), bar, max(1, int(size * rng.uniform(0.01, 0.05))))
        pen.line((left, y, right, y), bar, max(1, int(size * rng.uniform(0.01, 0.05))))
    return image.rotate(float(rng.normal(0, 10)), Image.Resampling.BILINEAR, fillcolor=bar)


def _shelf(rng: np.random.Generator, size: int) -> Image.Image:
    """Rows of books, bricks or tiles."""
    image = Image.new("RGB", (size, size), _wall_colour(rng))
    pen = ImageDraw.Draw(image)
    rows, columns = int(rng.integers(2, 9)), int(rng.integers(3, 12))
    base, varied = _colour(rng, 40, 230), rng.random() < 0.6
    tall, wide = size / rows, size / columns
    for row in range(rows):
        for column in range(columns + 1):
            left = (column - 0.5 * (row % 2)) * wide
            fill = _colour(rng, 20, 240) if varied else _vary(rng, base)
            gap = 0.02 * size * rng.uniform(0.5, 1.5)
            pen.rectangle((left, row * tall, left + wide - 0.01 * size, (row + 1) * tall - gap), fill)
    return image


def _pattern(rng: np.random.Generator, size: int) -> Image.Image:
    """Curtain folds, checks or stripes."""
    axis = np.linspace(0, 1, size, dtype=np.float32)
    warp = np.float32(rng.uniform(0, 0.3)) * smooth_noise(rng, 3, size)
    angle = rng.uniform(0, 3.14)
    across = np.float32(np.cos(angle)) * axis[None, :] + np.float32(np.sin(angle)) * axis[:, None] + warp
    wave = 0.5 + 0.5 * np.sin(across * np.float32(rng.uniform(12, 90)))
    if rng.random() < 0.5:
        other = np.float32(-np.sin(angle)) * axis[None, :] + np.float32(np.cos(angle)) * axis[:, None]
        wave = 0.5 * wave + 0.25 + 0.25 * np.sin(other * np.float32(rng.uniform(12, 90)))
    first, second = np.array(_colour(rng), np.float32), np.array(_colour(rng), np.float32)
    pixels = first + wave[:, :, None] * (second - first)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _clutter(rng: np.random.Generator, size: int) -> Image.Image:
    """Noise at several scales in random colours: foliage, desks, crowds."""
    pixels = np.full((size, size, 3), rng.uniform(40, 180), np.float32)
    for cells in (3, 7, 16, 32)[: int(rng.integers(2, 5))]:
        small = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        field = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC), np.float32) - np.float32(127)
        grey = field.mean(axis=2, keepdims=True)
        pixels += np.float32(rng.uniform(0.15, 0.7) * (4 / cells) ** 0.25) * (
            grey + np.float32(0.7 * rng.random() ** 3) * (field - grey)
        )
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 12))):
        points = rng.uniform(-0.2, 1.2, (int(rng.integers(2, 5)), 2)) * size
        flat = [float(value) for value in points.ravel()]
        if len(points) > 2:
            pen.polygon(flat, _colour(rng))
        else:
            pen.line(flat, _colour(rng), int(rng.integers(1, max(2, size // 12))))
    return image


def _person(rng: np.random.Generator, size: int) -> Image.Image:
    """A person behind the hand: shirt, neck and face before some other scene."""
    image = (_wall if rng.random() < 0.6 else _room)(rng, size)
    pen = ImageDraw.Draw(image)
    x, y = rng.uniform(-0.2, 1.2) * size, rng.uniform(-0.1, 0.6) * size
    head = rng.uniform(0.14, 0.42) * size
    shirt = _colour(rng, 10, 230, 0.5)
    shoulders = (x - 2.4 * head, y + 1.35 * head, x + 2.4 * head, y + 6 * head)
    pen.rounded_rectangle(shoulders, head, shirt)
    if rng.random() < 0.4:
        for step in range(8):
            offset = float(shoulders[0] + step * 0.6 * head)
            pen.line((offset, shoulders[1], offset, size), _vary(rng, shirt), max(1, size // 50))
            level = float(shoulders[1] + step * 0.5 * head)
            pen.line((shoulders[0], level, shoulders[2], level), _vary(rng, shirt), max(1, size // 60))
    draw_face(rng, pen, (x, y), head)
    return image


def draw_face(rng: np.random.Generator, pen: ImageDraw.ImageDraw, centre: tuple[float, float], head: float) -> None:
    """Draw a rough face: neck, oval, hair, eyes, mouth."""
    x, y = centre
    skin = _vary(rng, SKIN_TONES[int(rng.integers(0, len(SKIN_TONES)))])
    hair = _colour(rng, 5, 110, 0.3)
    pen.rectangle((x - 0.4 * head, y + 0.5 * head, x + 0.4 * head, y + 1.7 * head), _vary(rng, skin))
    pen.ellipse((x - 0.9 * head, y - 1.3 * head, x + 0.9 * head, y + 0.6 * head), hair)
    pen.ellipse((x - 0.75 * head, y - head, x + 0.75 * head, y + head), skin)
    for side in (-0.32, 0.32):
        pen.ellipse((x + (side - 0.13) * head, y - 0.2 * head, x + (side + 0.13) * head, y - 0.05 * head), hair)
    pen.rectangle((x - 0.25 * head, y + 0.5 * head, x + 0.25 * head, y + 0.58 * head), (140, 70, 70))


def _vary(rng: np.random.Generator, colour: Colour) -> Colour:
    """A colour close to another."""
    factor = rng.uniform(0.75, 1.12) * (1 + 0.04 * rng.normal(0.0, 1.0, 3))
    near = np.clip(np.array(colour) * factor, 0, 255).astype(int)
    return int(near[0]), int(near[1]), int(near[2])


SCENES: dict[str, tuple[Callable[[np.random.Generator, int], Image.Image], float]] = {
    "wall": (_wall, 4.0),
    "room": (_room, 3.0),
    "window": (_window, 1.5),
    "shelf": (_shelf, 1.0),
    "pattern": (_pattern, 1.0),
    "clutter": (_clutter, 2.0),
    "person": (_person, 2.0),
}
