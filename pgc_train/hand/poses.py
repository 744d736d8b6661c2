"""Named hand poses and the joint angles drawn for them.

`pointing` is the index finger alone. Index and thumb together are ambiguous and are never drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pgc_graph.errors import OptionError
from pgc_train.hand.skeleton import HandPose

__all__ = ["NOT_POINTING", "POINTING", "POSES", "PoseFamily", "draw_pose"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PoseFamily:
    """What a named pose looks like.

    Attributes:
        extended: One letter per finger, thumb to little: `1` stretched, `0` folded, `h` half bent, `t` bent to the thumb.
        thumbs: What the thumb may do, see `HandPose.thumb`.
        weight: How often the pose is drawn among those of its label.
    """

    extended: str
    thumbs: tuple[str, ...]
    weight: float


_FOLDED = ("over", "over", "side", "palm")

POSES: dict[str, PoseFamily] = {
    "index": PoseFamily("01000", ("over", "over", "over", "side", "palm"), 1.0),
    "fist": PoseFamily("00000", ("over", "over", "over", "side"), 17.0),
    "thumb": PoseFamily("10000", ("out", "up"), 5.0),
    "middle": PoseFamily("00100", _FOLDED, 2.0),
    "ring": PoseFamily("00010", ("over", "palm"), 1.0),
    "little": PoseFamily("00001", _FOLDED, 3.0),
    "thumb_little": PoseFamily("10001", ("out", "up"), 3.0),
    "thumb_middle": PoseFamily("10100", ("out",), 1.0),
    "index_middle": PoseFamily("01100", ("over", "over", "palm"), 11.0),
    "index_little": PoseFamily("01001", ("over", "over", "palm"), 3.5),
    "index_ring": PoseFamily("01010", ("over",), 0.8),
    "middle_ring": PoseFamily("00110", ("over",), 0.8),
    "ring_little": PoseFamily("00011", ("over", "palm"), 0.8),
    "thumb_index_middle": PoseFamily("11100", ("out", "up"), 5.0),
    "thumb_index_little": PoseFamily("11001", ("out", "up"), 2.0),
    "index_middle_ring": PoseFamily("01110", ("over", "palm"), 6.0),
    "index_middle_little": PoseFamily("01101", ("touch", "over"), 2.5),
    "index_ring_little": PoseFamily("01011", ("touch", "over"), 2.5),
    "middle_ring_little": PoseFamily("00111", ("over", "side"), 2.0),
    "thumb_index_middle_ring": PoseFamily("11110", ("out",), 1.5),
    "four": PoseFamily("01111", ("palm", "palm", "beside"), 7.0),
    "open": PoseFamily("11111", ("out", "out", "up", "beside"), 11.0),
    "ok": PoseFamily("0t111", ("touch",), 6.0),
    "thumb_to_middle": PoseFamily("01t11", ("touch",), 2.0),
    "thumb_to_ring": PoseFamily("011t1", ("touch",), 2.0),
    "thumb_to_little": PoseFamily("0111t", ("touch",), 2.5),
    "round": PoseFamily("0tttt", ("touch",), 5.0),
    "relaxed": PoseFamily("hhhhh", ("beside", "side", "out"), 5.0),
}

POINTING = ("index",)
NOT_POINTING = tuple(name for name in POSES if name not in POINTING)

# Degrees at the three joints of a finger, lowest and highest.
_STRETCHED = np.array([[-12.0, 18.0], [0.0, 16.0], [0.0, 10.0]])
_TIGHT = np.array([[70.0, 95.0], [92.0, 112.0], [45.0, 72.0]])
_LOOSE = np.array([[48.0, 78.0], [92.0, 116.0], [35.0, 65.0]])
_HALF = np.array([[18.0, 50.0], [30.0, 65.0], [15.0, 40.0]])
_MEETING = np.array([[34.0, 62.0], [42.0, 68.0], [18.0, 40.0]])
_REST_SPREAD = np.array([4.0, 0.0, -5.0, -11.0])


def draw_pose(rng: np.random.Generator, name: str) -> HandPose:
    """Draw joint angles for a named pose.

    Raises:
        OptionError: There is no pose of that name.
    """
    if name not in POSES:
        raise OptionError(f"hand pose {name!r} is unknown; expected one of {', '.join(POSES)}")
    family = POSES[name]
    letters = family.extended
    folded = _TIGHT if rng.random() < 0.6 else _LOOSE
    ranges = {"1": _STRETCHED, "0": folded, "h": _HALF, "t": _MEETING}
    # Neighbouring fingers of one hand bend alike, so most of the draw is shared.
    shared, own = rng.random((1, 3)), rng.random((4, 3))
    mixed = 0.65 * shared + 0.35 * own
    flexion = np.empty((4, 3))
    for finger, letter in enumerate(letters[1:]):
        low, high = ranges[letter].T
        flexion[finger] = low + (high - low) * mixed[finger]
    if letters[1] == "1" and rng.random() < 0.15:
        flexion[0] += np.array([rng.uniform(0, 10), rng.uniform(5, 18), rng.uniform(0, 10)])
    touched = tuple(finger for finger in range(1, 5) if letters[finger] == "t")
    if not touched:
        touched = _first_folded(rng, letters)
    extended = tuple(letter == "1" for letter in letters)
    return HandPose(
        name=name,
        extended=(extended[0], extended[1], extended[2], extended[3], extended[4]),
        flexion=np.radians(flexion),
        spread=np.radians(_draw_spread(rng, letters)),
        thumb=str(rng.choice(family.thumbs)),
        touched=touched,
        thumb_offset=rng.normal(0.0, 0.09, 3),
    )


def _first_folded(rng: np.random.Generator, letters: str) -> tuple[int, ...]:
    """Folded fingers that the thumb lies on (one or two: the count says which) or touches."""
    folded = tuple(finger for finger in range(1, 5) if letters[finger] == "0")
    return folded[: int(rng.random() < 0.6)] if len(folded) > 1 else folded[:1]


def _draw_spread(rng: np.random.Generator, letters: str) -> Array:
    """Sideways angles of index to little in degrees, (4,)."""
    factor = rng.uniform(-0.2, 2.2)
    spread = _REST_SPREAD * factor + rng.normal(0.0, 1.5, 4)
    if letters[1:3] == "11" and rng.random() < 0.7:
        spread += np.array([7.0, -5.0, -6.0, -6.0]) * rng.uniform(0.2, 1.4)
    for finger, letter in enumerate(letters[1:]):
        if letter in "0t":
            # Folded fingers point at one spot near the base of the thumb.
            spread[finger] = np.array([-3.0, 2.0, 6.0, 10.0])[finger] + rng.normal(0.0, 2.0)
    if letters == "01000":
        spread[0] = rng.normal(2.0, 6.0)
    return np.asarray(spread)
