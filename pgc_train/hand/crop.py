"""One labelled crop: pose, person, view, light, scene and camera drawn together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from pgc_graph.errors import OptionError
from pgc_train.hand.body import FINGER, PALM, THUMB, TIP, View, draw_view, dress, frame
from pgc_train.hand.camera import draw_camera, take_picture
from pgc_train.hand.paint import draw_light, draw_skin, paint_surface
from pgc_train.hand.poses import NOT_POINTING, POINTING, POSES, draw_pose
from pgc_train.hand.scene import draw_scene
from pgc_train.hand.skeleton import build_skeleton, draw_shape
from pgc_train.hand.surface import Capsules, Surface, render_capsules

__all__ = ["LABELS", "MINIMUM_SIZE", "DrawnCrop", "check_size", "draw_labelled_crop"]

Floats = npt.NDArray[np.float32]

LABELS = ("not_pointing", "pointing")
MINIMUM_SIZE = 16
_NO_HAND = ("background", "forearm")
_NO_HAND_SHARE = 0.06


@dataclass(frozen=True, eq=False)
class DrawnCrop:
    """A crop and what it shows.

    Attributes:
        image: RGB, square.
        pose: Name of the pose, `background` or `forearm`.
        label: `pointing` or `not_pointing`.
        tone: Place of the skin on the scale of tones, 0 (lightest) to 9; -1 without skin.
    """

    image: Image.Image
    pose: str
    label: str
    tone: float


def draw_labelled_crop(rng: np.random.Generator, *, pointing: bool, size: int = 96) -> DrawnCrop:
    """Draw one crop and tell which pose it shows.

    Raises:
        OptionError: The size is too small.
    """
    check_size(size)
    pose = _choose_pose(rng, pointing)
    label = LABELS[pointing]
    backdrop = np.square(draw_scene(rng, size))
    backdrop *= np.float32(rng.uniform(0.35, 1.2))
    tone = -1.0
    if pose != "background":
        backdrop, tone = _add_hand(rng, backdrop, pose, size)
    image = take_picture(rng, backdrop, draw_camera(rng, size))
    return DrawnCrop(image, pose, label, tone)


def check_size(size: int) -> None:
    """Refuse a crop too small to show a hand.

    Raises:
        OptionError: The size is too small.
    """
    if size < MINIMUM_SIZE:
        raise OptionError(
            f"crop size {size} is too small; expected at least {MINIMUM_SIZE} pixels; give a larger --size"
        )


def _choose_pose(rng: np.random.Generator, pointing: bool) -> str:
    if pointing:
        return str(rng.choice(POINTING))
    if rng.random() < _NO_HAND_SHARE:
        return str(rng.choice(_NO_HAND))
    weights = np.array([POSES[name].weight for name in NOT_POINTING])
    return str(rng.choice(NOT_POINTING, p=weights / weights.sum()))


def _add_hand(rng: np.random.Generator, backdrop: Floats, pose_name: str, size: int) -> tuple[Floats, float]:
    """Draw a hand (or only a forearm) over a backdrop of linear light; also returns the skin's tone."""
    shape, view = draw_shape(rng), _choose_view(rng, pose_name)
    pose = draw_pose(rng, "fist" if pose_name == "forearm" else pose_name)
    capsules = dress(build_skeleton(shape, pose), shape, view)
    factor = 2 if size <= 128 else 1
    fill = float(rng.uniform(0.55, 1.1) if rng.random() < 0.5 else rng.uniform(0.65, 0.95))
    framed, _ = frame(capsules, pose, size * factor, fill, rng.normal(0.0, 0.05, 2))
    hand_length = float(np.median(framed.radius_start / np.maximum(capsules.radius_start, 1e-9)))
    if pose_name == "forearm":
        framed = _only_arm(framed)
    surface = render_capsules(framed, size * factor)
    skin = draw_skin(rng)
    painted = paint_surface(rng, surface, framed, skin, draw_light(rng), hand_length)
    painted *= np.float32(rng.uniform(0.25, 0.7) if rng.random() < 0.2 else rng.uniform(0.7, 1.15))
    return _compose(rng, backdrop, painted, surface, factor), skin.tone


def _choose_view(rng: np.random.Generator, pose_name: str) -> View:
    """Thumbs are mostly shown upright, rings of fingers from the edge and fists leaning; all else from anywhere."""
    if pose_name == "thumb" and rng.random() < 0.6:
        return draw_view(rng, thumb_up=True)
    if pose_name == "fist":
        return draw_view(rng, lean=0.5)
    return draw_view(rng, edge_share=0.75 if pose_name == "round" else 0.35)


def _only_arm(capsules: Capsules) -> Capsules:
    """Forearm and sleeve alone, drawn on past where the hand would be."""
    keep = ~np.isin(capsules.kind, (PALM, FINGER, TIP, THUMB))
    return Capsules(
        2 * capsules.start[keep] - capsules.end[keep],
        capsules.end[keep],
        capsules.radius_start[keep],
        capsules.radius_end[keep],
        capsules.kind[keep],
        capsules.palmar[keep],
        capsules.blend[keep],
    )


def _compose(rng: np.random.Generator, backdrop: Floats, painted: Floats, surface: Surface, factor: int) -> Floats:
    """Reduce the hand to the backdrop's resolution and lay it over, with the shadow that it casts on a near wall."""
    size = len(backdrop)
    blocks = (size, factor, size, factor)
    cover = surface.mask.reshape(blocks).mean(axis=(1, 3), dtype=np.float32)
    colour = painted.reshape(*blocks, 3).mean(axis=(1, 3))
    if rng.random() < 0.3:
        backdrop = backdrop * (1 - np.float32(rng.uniform(0.15, 0.6)) * _shadow(rng, cover))[:, :, None]
    return np.asarray(backdrop * (1 - cover)[:, :, None] + colour, np.float32)


def _shadow(rng: np.random.Generator, cover: Floats) -> Floats:
    """The outline moved aside and softened, (S, S), 0 to 1."""
    size = len(cover)
    cells = int(rng.integers(size // 6, size // 2))
    down, right = (int(value) for value in rng.uniform(-0.14, 0.14, 2) * size)
    moved = np.zeros_like(cover)
    target = (slice(max(down, 0), size + min(down, 0)), slice(max(right, 0), size + min(right, 0)))
    source = (slice(max(-down, 0), size + min(-down, 0)), slice(max(-right, 0), size + min(-right, 0)))
    moved[target] = cover[source]
    small = Image.fromarray(moved).resize((cells, cells), Image.Resampling.BOX)
    return np.asarray(small.resize((size, size), Image.Resampling.BILINEAR), np.float32)
