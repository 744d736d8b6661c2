"""A posed skeleton dressed with capsules, turned, projected and framed in a crop."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pgc_train.hand.skeleton import HandPose, HandShape, Skeleton
from pgc_train.hand.surface import Capsules

__all__ = ["FINGER", "FOREARM", "PALM", "SLEEVE", "THUMB", "TIP", "View", "draw_view", "dress", "frame"]

Array = npt.NDArray[np.float64]

PALM, FINGER, TIP, THUMB, FOREARM, SLEEVE = range(6)


@dataclass(frozen=True, eq=False)
class View:
    """How a hand is seen.

    Attributes:
        rotation: From the hand's frame to the camera's (x right, y up, z to the viewer), (3, 3); a left hand has
            determinant -1.
        distance: Of the camera, in hand lengths.
        wrist: Angles of the forearm against the hand, sideways and towards the palm, radians.
        sleeve: Where the sleeve begins, in hand lengths from the wrist; beyond the picture for a bare arm.
    """

    rotation: Array
    distance: float
    wrist: tuple[float, float]
    sleeve: float


def draw_view(
    rng: np.random.Generator, *, thumb_up: bool = False, edge_share: float = 0.35, lean: float = 0.28
) -> View:
    """Draw a viewpoint: palm, back or edge of the hand, any turn in the picture, sometimes towards the camera.

    Args:
        rng: Generator.
        thumb_up: Turn the picture so that the side of the thumb is up, as a thumb is shown.
        edge_share: How often any side is seen, not about the palm or the back.
        lean: Typical tilt towards or away from the camera, radians.
    """
    kind = rng.random()
    facing = 0.0 if rng.random() < 0.55 else np.pi
    yaw = facing + (rng.normal(0.0, 0.42) if kind > edge_share else rng.uniform(-np.pi, np.pi))
    toward = rng.random() < 0.14
    # Leaning forward brings a stretched finger towards the lens; past 65 degrees nobody could tell it from a fist.
    pitch = rng.uniform(0.65, 1.13) if toward else rng.normal(0.0, lean)
    roll = rng.normal(0.0, 0.42) if rng.random() < 0.65 else rng.uniform(-np.pi, np.pi)
    mirror = np.diag([1.0 if rng.random() < 0.5 else -1.0, 1.0, 1.0])
    rotation = _about(0, pitch) @ _about(1, yaw) @ mirror
    if thumb_up:
        roll = rng.normal(np.pi / 2 - np.arctan2(rotation[1, 0], rotation[0, 0]), 0.35)
    wrist = (float(rng.normal(0.0, 0.18)), float(rng.normal(0.0, 0.3)))
    sleeve = float(rng.uniform(0.05, 0.9)) if rng.random() < 0.45 else 9.0
    return View(_about(2, roll) @ rotation, float(rng.uniform(2.6, 8.0)), wrist, sleeve)


def dress(skeleton: Skeleton, shape: HandShape, view: View) -> Capsules:
    """Cover bones with capsules and turn them into the camera's frame, in hand lengths (y still up)."""
    rows = [*_palm(skeleton, shape), *_forearm(shape, view), *_fingers(skeleton, shape)]
    start, end, first, second, kind, palmar, blend = (np.array(column) for column in zip(*rows, strict=True))
    turn = view.rotation.T
    start, start_scale = _project(start @ turn, view.distance)
    end, end_scale = _project(end @ turn, view.distance)
    return Capsules(start, end, first * start_scale, second * end_scale, kind, palmar @ turn, blend)


def frame(capsules: Capsules, pose: HandPose, size: int, fill: float, shift: Array) -> tuple[Capsules, Array]:
    """Scale and move capsules so that the hand fills a share of a size x size picture.

    Args:
        capsules: In hand lengths, y up.
        pose: Says which fingertips have to stay inside.
        size: Side in pixels.
        fill: Longer side of the hand's box over the side of the picture.
        shift: Of the centre of the hand, as a share of the side, (2,).

    Returns:
        The capsules in pixels with y down, and the ends of the stretched fingers in pixels, (K, 2).
    """
    inside = (capsules.kind != FOREARM) & (capsules.kind != SLEEVE)
    flip = np.array([1.0, -1.0, 1.0])
    start, end = capsules.start * flip, capsules.end * flip
    points = np.concatenate([start[inside, :2], end[inside, :2]])
    radii = np.concatenate([capsules.radius_start[inside], capsules.radius_end[inside]])[:, None]
    low, high = (points - radii).min(axis=0), (points + radii).max(axis=0)
    tips = _tips(end, pose)
    scale = size * fill / float((high - low).max())
    if len(tips):
        scale = min(scale, 0.94 * size / max(float(np.ptp(tips, axis=0).max()), 1e-6))
    offset = size * (0.5 + shift) - scale * (low + high) / 2
    if len(tips):
        placed = tips * scale + offset
        offset = (
            offset + np.maximum(0.03 * size - placed.min(axis=0), 0) + np.minimum(0.97 * size - placed.max(axis=0), 0)
        )
    move = np.array([*offset, 0.0])
    framed = replace(
        capsules,
        start=start * scale + move,
        end=end * scale + move,
        radius_start=capsules.radius_start * scale,
        radius_end=capsules.radius_end * scale,
        palmar=capsules.palmar * flip,
        blend=capsules.blend * scale,
    )
    return framed, tips * scale + offset


def _tips(end: Array, pose: HandPose) -> Array:
    """Ends of the stretched fingers in the plane, (K, 2); the last capsules are the fingers', three each."""
    return np.asarray(end[-15:][2::3][list(pose.extended), :2])


Row = tuple[Array, Array, float, float, int, Array, float]

_OUT = np.array([0.0, 0.0, 1.0])


def _palm(skeleton: Skeleton, shape: HandShape) -> list[Row]:
    """Metacarpals, the ball of the thumb's side of the wrist, the heel of the hand and the webs between fingers."""
    thick, wide = shape.thickness, shape.palm_width
    rows: list[Row] = []
    for finger in range(1, 5):
        base = shape.bases[finger]
        root = np.array([0.085 - 0.055 * (finger - 1), 0.02, 0.0]) * np.array([wide, 1, 1])
        rows.append((root, base, 0.078 * thick, shape.radii[finger, 0] * 1.1, PALM, _OUT, 0.055))
    heel = np.array([-0.105 * wide, 0.10, 0.015])
    rows.append((heel, shape.bases[4] + np.array([-0.01, -0.06, 0.0]), 0.075 * thick, 0.055 * thick, PALM, _OUT, 0.055))
    rows.append(
        (shape.bases[0], shape.bases[1] + np.array([0.0, -0.12, 0.02]), 0.07 * thick, 0.05 * thick, PALM, _OUT, 0.055)
    )
    for finger in range(1, 4):
        first = _between(skeleton.joints[finger, 0], skeleton.joints[finger, 1], 0.2)
        second = _between(skeleton.joints[finger + 1, 0], skeleton.joints[finger + 1, 1], 0.25)
        rows.append((first, second, 0.042 * thick, 0.04 * thick, PALM, _OUT, 0.04))
    return rows


def _forearm(shape: HandShape, view: View) -> list[Row]:
    """Two parallel bones from the wrist away from the hand, then the sleeve around them."""
    thick, wide = shape.thickness, shape.palm_width
    side, bend = view.wrist
    away = np.array([np.sin(side), -np.cos(side) * np.cos(bend), np.sin(bend)])
    rows: list[Row] = []
    for sign in (-1.0, 1.0):
        wrist = np.array([sign * 0.058 * wide + 0.005, 0.0, 0.0])
        elbow = wrist + 1.5 * away + np.array([sign * 0.05, 0.0, 0.0])
        rows.append((wrist, elbow, 0.088 * thick, 0.15 * thick, FOREARM, _OUT, 0.065))
        if view.sleeve < 1.5:
            cuff = _between(wrist, elbow, view.sleeve / 1.5)
            girth = (0.105 + 0.05 * view.sleeve) * thick + 0.02
            rows.append((cuff, elbow + 0.5 * away, girth, 0.2 * thick + 0.02, SLEEVE, _OUT, 0.03))
    return rows


def _fingers(skeleton: Skeleton, shape: HandShape) -> list[Row]:
    """Three capsules a finger, thumb first."""
    rows: list[Row] = []
    for finger in range(5):
        for bone in range(3):
            start, end = skeleton.joints[finger, bone], skeleton.joints[finger, bone + 1]
            first, second = shape.radii[finger, bone], shape.radii[finger, bone + 1]
            if bone == 2:
                end = end - second * (end - start) / max(float(np.linalg.norm(end - start)), 1e-9) * 0.7
            kind = TIP if bone == 2 else (THUMB if finger == 0 else FINGER)
            blend = 0.05 if finger == 0 and bone == 0 else 0.012
            rows.append((start, end, first, second, kind, skeleton.palmar[finger, bone], blend))
    return rows


def _between(first: Array, second: Array, share: float) -> Array:
    return np.asarray(first + share * (second - first))


def _project(points: Array, distance: float) -> tuple[Array, Array]:
    """Weak perspective: points (N, 3) and the scale at each, (N,)."""
    scale = distance / np.maximum(distance - points[:, 2], 0.5)
    return points * scale[:, None], scale


def _about(axis: int, angle: float) -> Array:
    """Rotation matrix about one axis."""
    cosine, sine = np.cos(angle), np.sin(angle)
    first, second = [other for other in range(3) if other != axis]
    turn = np.eye(3)
    turn[first, first] = turn[second, second] = cosine
    turn[first, second], turn[second, first] = -sine, sine
    return turn
