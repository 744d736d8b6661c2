"""Bones of a hand: proportions, joint angles, and where the joints come to lie.

Lengths are in hand lengths (wrist to the tip of the middle finger = 1). The frame of the hand: x towards the thumb, y
towards the fingertips, z out of the palm; the wrist is the origin. Fingers in order: thumb, index, middle, ring, little.
Proportions after common anthropometric tables of the adult hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "FINGERS",
    "HandPose",
    "HandShape",
    "Skeleton",
    "build_skeleton",
    "draw_shape",
    "extension_ratios",
    "projected_ratios",
]

Array = npt.NDArray[np.float64]

FINGERS = ("thumb", "index", "middle", "ring", "little")

_BASES = np.array(
    [
        [0.100, 0.075, 0.020],
        [0.122, 0.465, 0.0],
        [0.022, 0.480, -0.008],
        [-0.075, 0.450, -0.004],
        [-0.160, 0.395, 0.012],
    ]
)
_BONES = np.array(
    [[0.245, 0.175, 0.140], [0.225, 0.135, 0.105], [0.245, 0.155, 0.110], [0.230, 0.145, 0.108], [0.180, 0.105, 0.098]]
)
_RADII = np.array(
    [
        [0.088, 0.064, 0.054, 0.044],
        [0.058, 0.049, 0.043, 0.036],
        [0.060, 0.050, 0.044, 0.037],
        [0.057, 0.048, 0.042, 0.035],
        [0.050, 0.042, 0.037, 0.031],
    ]
)
_THUMB_REST = np.array([0.62, 0.68, 0.39])
_THUMB_FLAT = np.array([0.36, 0.84, 0.36])
_THUMB_STRAIGHT = {
    "out": np.array([[0.68, 0.66, 0.30], [0.72, 0.68, 0.12], [0.66, 0.75, 0.02]]),
    "up": np.array([[0.78, 0.50, 0.36], [0.92, 0.36, 0.14], [0.96, 0.26, -0.06]]),
    "beside": np.array([[0.50, 0.82, 0.28], [0.22, 0.97, 0.08], [0.10, 0.99, 0.04]]),
}


@dataclass(frozen=True, eq=False)
class HandShape:
    """Proportions of one person's hand.

    Attributes:
        bases: First joint of each finger, (5, 3), hand lengths.
        bones: Lengths of the three bones of each finger, (5, 3).
        radii: Thickness at the four joints of each finger, (5, 4).
        palm_width: Factor on the width of palm and wrist.
        thickness: Factor that is already in `radii`, for palm and wrist.
    """

    bases: Array
    bones: Array
    radii: Array
    palm_width: float
    thickness: float


@dataclass(frozen=True, eq=False)
class HandPose:
    """Angles of one hand, in radians, and what the thumb does.

    Attributes:
        name: Of the pose, as in `pgc_train.hand.poses.POSES`.
        extended: Which of the five fingers are stretched out.
        flexion: Bend at the three joints of index to little, (4, 3); 0 is straight.
        spread: Sideways angle of index to little, (4,); positive towards the thumb.
        thumb: `out`, `up`, `beside` (straight), `over` (on folded fingers), `side` (loose at the index knuckle), `palm`
            (laid into the palm) or `touch` (meets fingertips).
        touched: Fingers that a touching thumb meets, indices into `FINGERS`.
        thumb_offset: Random displacement of the thumb's goal, (3,).
    """

    name: str
    extended: tuple[bool, bool, bool, bool, bool]
    flexion: Array
    spread: Array
    thumb: str
    touched: tuple[int, ...]
    thumb_offset: Array


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Joints of a posed hand in its own frame.

    Attributes:
        joints: Four joints of each finger, base to tip, (5, 4, 3), hand lengths.
        palmar: Direction that the inner side of each finger bone faces, (5, 3, 3).
    """

    joints: Array
    palmar: Array


def draw_shape(rng: np.random.Generator) -> HandShape:
    """Draw the proportions of one person's hand."""
    thickness = float(rng.uniform(0.84, 1.2))
    width = float(rng.uniform(0.9, 1.14))
    length = rng.uniform(0.9, 1.08)
    bases = _BASES * np.array([width, 1.0, 1.0])
    bones = _BONES * length * rng.uniform(0.95, 1.05, (5, 1))
    radii = _RADII * thickness * rng.uniform(0.95, 1.05, (5, 1))
    return HandShape(bases, bones, radii, width, thickness)


def build_skeleton(shape: HandShape, pose: HandPose) -> Skeleton:
    """Place the joints of a posed hand by forward kinematics, the thumb's by reaching for its goal."""
    joints = np.zeros((5, 4, 3))
    palmar = np.zeros((5, 3, 3))
    along = np.stack([np.sin(pose.spread), np.cos(pose.spread), np.zeros(4)], axis=1)[:, None, :]
    angles = np.cumsum(pose.flexion, axis=1)[:, :, None]
    out = np.array([0.0, 0.0, 1.0])
    directions = np.cos(angles) * along + np.sin(angles) * out
    palmar[1:] = np.cos(angles) * out - np.sin(angles) * along
    joints[1:, 0] = shape.bases[1:]
    joints[1:, 1:] = shape.bases[1:, None] + np.cumsum(directions * shape.bones[1:, :, None], axis=1)
    joints[0] = _thumb_joints(shape, pose, joints)
    palmar[0] = _unit(np.array([-0.75, 0.15, 0.65]))
    return Skeleton(joints, palmar)


def extension_ratios(skeleton: Skeleton) -> Array:
    """How straight each finger is: base-to-tip distance over the sum of its bones, (5,), 1 = straight."""
    chord = np.linalg.norm(skeleton.joints[:, 3] - skeleton.joints[:, 0], axis=1)
    bones = np.linalg.norm(np.diff(skeleton.joints, axis=1), axis=2).sum(axis=1)
    return np.asarray(chord / bones)


def projected_ratios(skeleton: Skeleton, axis: Array) -> Array:
    """How far each finger reaches along a direction: (tip - base) . axis over the sum of its bones, (5,)."""
    reach = (skeleton.joints[:, 3] - skeleton.joints[:, 0]) @ (axis / np.linalg.norm(axis))
    bones = np.linalg.norm(np.diff(skeleton.joints, axis=1), axis=2).sum(axis=1)
    return np.asarray(reach / bones)


def _thumb_joints(shape: HandShape, pose: HandPose, joints: Array) -> Array:
    """Four joints of the thumb, (4, 3)."""
    base, bones = shape.bases[0], shape.bones[0]
    if pose.thumb in _THUMB_STRAIGHT:
        directions = _THUMB_STRAIGHT[pose.thumb] + pose.thumb_offset
        steps = np.stack([_unit(direction) for direction in directions]) * bones[:, None]
        return np.vstack([base, base + np.cumsum(steps, axis=0)])
    goal = _thumb_goal(shape, pose, joints) + 0.25 * pose.thumb_offset
    rest = _THUMB_FLAT if pose.thumb == "side" else _THUMB_REST
    knuckle = base + bones[0] * _unit(0.6 * rest + 0.6 * _unit(goal - base))
    reach = goal - knuckle
    distance = float(np.clip(np.linalg.norm(reach), abs(bones[1] - bones[2]) + 0.06, 0.985 * (bones[1] + bones[2])))
    forward = _unit(reach)
    pole = np.array([0.6, 0.5, 0.6])
    sideways = _unit(pole - (pole @ forward) * forward)
    foot = (bones[1] ** 2 - bones[2] ** 2 + distance**2) / (2 * distance)
    rise = np.sqrt(max(bones[1] ** 2 - foot**2, 0.0))
    middle = knuckle + foot * forward + rise * sideways
    return np.stack([base, knuckle, middle, knuckle + distance * forward])


def _thumb_goal(shape: HandShape, pose: HandPose, joints: Array) -> Array:
    """Point that the thumb's tip reaches for, (3,)."""
    if pose.thumb == "touch":
        tips = joints[list(pose.touched), 3]
        return np.asarray(tips.mean(axis=0) + np.array([0.01, 0.0, 0.02]))
    folded = [finger for finger in range(1, 5) if not pose.extended[finger]]
    if pose.thumb == "over" and folded:
        finger = folded[min(len(pose.touched), len(folded) - 1)]
        middle = joints[finger, 1:3].mean(axis=0)
        return np.asarray(middle + np.array([0.0, 0.0, shape.radii[finger, 1] + 0.75 * shape.radii[0, 3]]))
    if pose.thumb == "side":
        return np.asarray(shape.bases[1] + np.array([0.03, 0.10, 0.075]))
    return np.array([-0.03, 0.36, 0.13])


def _unit(vector: Array) -> Array:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9))
