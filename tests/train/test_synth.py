"""Drawn crops: what a seed fixes, what a label means, and that bones and pixels agree."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pgc_graph.errors import OptionError
from pgc_train.hand.body import draw_view, dress, frame
from pgc_train.hand.camera import draw_camera, take_picture
from pgc_train.hand.paint import SKIN_TONES
from pgc_train.hand.poses import NOT_POINTING, POINTING, POSES, draw_pose
from pgc_train.hand.scene import SCENES, draw_scene
from pgc_train.hand.skeleton import (
    FINGERS,
    HandPose,
    HandShape,
    Skeleton,
    build_skeleton,
    draw_shape,
    extension_ratios,
    projected_ratios,
)
from pgc_train.hand.surface import Capsules, render_capsules
from pgc_train.synth import draw_crop, draw_labelled_crop, write_crops

STRAIGHT, BENT = 0.94, 0.72


def _read(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*.png"))}


def _skeleton(name: str, seed: int) -> tuple[Skeleton, HandShape, HandPose]:
    rng = np.random.default_rng([seed, len(name)])
    shape = draw_shape(rng)
    pose = draw_pose(rng, name)
    return build_skeleton(shape, pose), shape, pose


def test_same_seed_draws_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_crops(tmp_path / name, count=12, seed=5, size=32)
    write_crops(tmp_path / "c", count=12, seed=6, size=32)
    first, second, other = (_read(tmp_path / name) for name in ("a", "b", "c"))
    assert first == second
    assert set(first.values()).isdisjoint(other.values())


@pytest.mark.parametrize("fraction", [0.5, 0.3], ids=["half", "third"])
def test_smaller_set_is_the_beginning_of_a_larger_one(tmp_path: Path, fraction: float) -> None:
    write_crops(tmp_path / "small", count=7, seed=3, size=24, pointing_fraction=fraction)
    write_crops(tmp_path / "large", count=15, seed=3, size=24, pointing_fraction=fraction)
    small, large = _read(tmp_path / "small"), _read(tmp_path / "large")
    assert small == {name: large[name] for name in small}
    assert len(large) == 15


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.0, 0), (0.25, 5), (0.5, 10), (1.0, 20)], ids=["none", "quarter", "half", "all"]
)
def test_labels_are_balanced_as_asked(tmp_path: Path, fraction: float, expected: int) -> None:
    report = write_crops(tmp_path / "set", count=20, seed=0, size=16, pointing_fraction=fraction)
    folders = Counter(name.split("/")[0] for name in _read(tmp_path / "set"))
    assert report.pointing == folders["pointing"] == expected
    assert report.not_pointing == folders["not_pointing"] == 20 - expected
    assert sum(report.poses.values()) == 20


@pytest.mark.parametrize("size", [16, 33, 64, 160])
def test_crop_has_the_size_asked_for(size: int) -> None:
    image = draw_crop(np.random.default_rng(2), pointing=True, size=size)
    assert (image.size, image.mode) == ((size, size), "RGB")


def test_written_files_are_rgb_pictures_named_by_pose(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_crops(tmp_path / "set", count=6, seed=1, size=40, progress=lambda done, count: seen.append((done, count)))
    for path in (tmp_path / "set").rglob("*.png"):
        with Image.open(path) as image:
            assert (image.size, image.mode) == ((40, 40), "RGB")
        pose = path.stem.split("_", 1)[1]
        assert (path.parent.name == "pointing") == (pose in POINTING)
    assert seen == [(done, 6) for done in range(1, 7)]
    assert not list((tmp_path / "set").rglob("*.part"))


def test_every_pose_and_skin_tone_appears() -> None:
    crops = [draw_labelled_crop(np.random.default_rng([9, index]), pointing=False, size=16) for index in range(1000)]
    assert {crop.pose for crop in crops} == {*NOT_POINTING, "background", "forearm"}
    assert {crop.label for crop in crops} == {"not_pointing"}
    tones = Counter(int(crop.tone) for crop in crops if crop.tone >= 0)
    assert set(tones) == set(range(len(SKIN_TONES) - 1))
    assert min(tones.values()) > 50


def test_index_with_thumb_is_never_drawn() -> None:
    letters = {name: family.extended for name, family in POSES.items()}
    assert "11000" not in letters.values()
    assert [name for name, value in letters.items() if value == "01000"] == list(POINTING)


@pytest.mark.parametrize("seed", range(40))
def test_pointing_has_exactly_one_straight_finger(seed: int) -> None:
    skeleton, shape, _ = _skeleton("index", seed)
    ratios = dict(zip(FINGERS, extension_ratios(skeleton), strict=True))
    assert ratios.pop("index") > STRAIGHT
    del ratios["thumb"]
    assert max(ratios.values()) < BENT
    upward = dict(zip(FINGERS, projected_ratios(skeleton, np.array([0.0, 1.0, 0.0])), strict=True))
    assert upward["index"] > 0.7
    assert max(upward[name] for name in ("middle", "ring", "little")) < 0.45
    # The thumb lies on the hand: its tip stays within a thumb's breadth of palm, index or folded fingers.
    bones = skeleton.joints[1:].reshape(-1, 3)
    assert np.linalg.norm(bones - skeleton.joints[0, 3], axis=1).min() < 0.22 * max(shape.bones[1, 0] / 0.225, 1.0)


@pytest.mark.parametrize("name", [name for name in POSES if set(POSES[name].extended) <= {"0", "1"}])
def test_stretched_fingers_are_those_of_the_pose(name: str) -> None:
    for seed in range(10):
        skeleton, _, pose = _skeleton(name, seed)
        ratios = extension_ratios(skeleton)
        for finger in range(1, 5):
            assert (ratios[finger] > STRAIGHT) == pose.extended[finger], FINGERS[finger]
            assert (ratios[finger] < BENT) != pose.extended[finger], FINGERS[finger]


@pytest.mark.parametrize("seed", range(25))
def test_bones_keep_their_lengths(seed: int) -> None:
    skeleton, shape, _ = _skeleton(list(POSES)[seed], seed)
    lengths = np.linalg.norm(np.diff(skeleton.joints, axis=1), axis=2)
    np.testing.assert_allclose(lengths[1:], shape.bones[1:], rtol=1e-9)
    np.testing.assert_allclose(lengths[0, [0, 1]], shape.bones[0, [0, 1]], rtol=1e-6)


@pytest.mark.parametrize("seed", range(30))
def test_stretched_fingertips_stay_in_the_picture(seed: int) -> None:
    skeleton, shape, pose = _skeleton("index_middle_ring", seed)
    rng = np.random.default_rng(seed)
    capsules = dress(skeleton, shape, draw_view(rng))
    _, tips = frame(capsules, pose, 100, float(rng.uniform(0.55, 1.1)), rng.normal(0.0, 0.1, 2))
    assert tips.shape == (3, 2)
    assert tips.min() >= 3.0 - 1e-6
    assert tips.max() <= 97.0 + 1e-6


def _by_spheres(capsules: Capsules, size: int) -> np.ndarray:
    """Depth of one capsule by brute force: the highest of many spheres along its axis."""
    grid_y, grid_x = np.mgrid[0:size, 0:size] + 0.5
    depth = np.full((size, size), -np.inf)
    for share in np.linspace(0, 1, 4001):
        x, y, z = capsules.start[0] + share * (capsules.end[0] - capsules.start[0])
        radius = capsules.radius_start[0] + share * (capsules.radius_end[0] - capsules.radius_start[0])
        square = radius**2 - (grid_x - x) ** 2 - (grid_y - y) ** 2
        depth = np.maximum(depth, np.where(square > 0, z + np.sqrt(np.maximum(square, 0)), -np.inf))
    return depth


@pytest.mark.parametrize(
    ("end", "radius"),
    [((50.0, 22.0, 0.0), 8.0), ((45.0, 40.0, 25.0), 8.0), ((31.0, 30.0, 30.0), 8.0), ((50.0, 40.0, 10.0), 7.0)],
    ids=["flat", "leaning", "towards-the-viewer", "tapered"],
)
def test_capsule_depth_equals_swept_spheres(end: tuple[float, float, float], radius: float) -> None:
    capsules = Capsules(
        np.array([[20.0, 20.0, 0.0]]),
        np.array([end]),
        np.array([8.0]),
        np.array([radius]),
        np.array([1]),
        np.array([[0.0, 0.0, 1.0]]),
        np.array([0.01]),
    )
    surface, expected = render_capsules(capsules, 64), _by_spheres(capsules, 64)
    inside = np.isfinite(expected)
    assert (surface.mask != inside).sum() <= 0.02 * inside.sum()
    both = surface.mask & inside
    assert np.abs(surface.depth[both] - expected[both]).max() < (0.02 if radius == 8.0 else 0.5)


@pytest.mark.parametrize("name", SCENES)
def test_scene_fills_the_picture(name: str) -> None:
    pixels = draw_scene(np.random.default_rng(4), 48, name)
    assert pixels.shape == (48, 48, 3)
    assert pixels.dtype == np.float32
    assert 0.0 <= pixels.min() < pixels.max() <= 1.0


def test_camera_aims_at_its_brightness() -> None:
    light = np.random.default_rng(0).random((32, 32, 3), np.float32) * np.float32(0.05)
    means = []
    for seed in range(40):
        camera = draw_camera(np.random.default_rng(seed), 32)
        means.append(np.asarray(take_picture(np.random.default_rng(1), light, camera)).mean() / 255)
    assert 0.2 < float(np.mean(means)) < 0.6
    assert max(means) - min(means) > 0.2


def test_hand_is_visible() -> None:
    """A pointing crop differs from its neighbours' mean picture: no crop is one flat colour."""
    for index in range(60):
        pixels = np.asarray(draw_crop(np.random.default_rng([8, index]), pointing=True, size=48), np.float32)
        assert pixels.std() > 2.0


def test_drawing_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pgc_train.synth import write_crops;"
        f"write_crops(Path({str(tmp_path / 'set')!r}), count=2, seed=0, size=32);"
        "print(sorted({'torch', 'scipy', 'onnx', 'onnxruntime', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"count": 0}, "crop count 0"),
        ({"seed": -1}, "seed -1"),
        ({"size": 8}, "crop size 8"),
        ({"pointing_fraction": 1.5}, "pointing fraction 1.5"),
    ],
    ids=["count", "seed", "size", "fraction"],
)
def test_senseless_requests_are_refused_untouched(tmp_path: Path, changes: dict[str, float], words: str) -> None:
    request = {"count": 2, "seed": 0, "size": 32, **changes}
    with pytest.raises(OptionError, match=words):
        write_crops(tmp_path / "set", **request)  # type: ignore[arg-type]
    assert not (tmp_path / "set").exists()


def test_full_folder_is_refused_unless_told(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_crops(root, count=4, seed=0, size=16)
    before = _read(root)
    with pytest.raises(OptionError, match="not empty"):
        write_crops(root, count=2, seed=0, size=16)
    assert _read(root) == before
    (root / "notes.txt").write_text("kept")
    write_crops(root, count=2, seed=1, size=16, overwrite=True)
    assert len(_read(root)) == 2
    assert (root / "notes.txt").read_text() == "kept"


def test_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OptionError, match="is a file"):
        write_crops(tmp_path / "file", count=1, seed=0, size=16)
    with pytest.raises(OptionError, match="cannot be written"):
        write_crops(tmp_path / "file" / "below", count=1, seed=0, size=16)


def test_unknown_pose_is_refused() -> None:
    with pytest.raises(OptionError, match="hand pose 'gun' is unknown"):
        draw_pose(np.random.default_rng(0), "gun")
