"""Line charts: what is drawn where."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pgc_graph.errors import OptionError
from pgc_graph.render.charts import PALETTE
from pgc_graph.render.curves import Curve, draw_curves, save_curves


def places(picture: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    """Return `(n, 2)`: x and y of the pixels of a colour left of the legend."""
    rows, columns = np.nonzero((np.asarray(picture) == colour).all(axis=2))
    return np.stack([columns, rows], axis=1)[columns < 800 - 4]


def test_curve_goes_through_its_points_on_the_scale_of_the_axes() -> None:
    picture = draw_curves([Curve("a", ((0, 1.0), (5, 0.0), (10, 0.5)))], title="t")
    found = places(picture, PALETTE[0])
    left, right, top, bottom = 84, 800, 100, 560 - 68
    for x, y in ((left, top), ((left + right) // 2, bottom), (right - 6, (top + bottom) // 2)):
        assert np.abs(found - [x, y]).sum(axis=1).min() <= 6, (x, y)


def test_values_outside_of_0_and_1_widen_the_scale() -> None:
    picture = draw_curves([Curve("a", ((0, -3.0), (10, 5.0))), Curve("b", ((0, 1.0), (10, 1.0)))], title="t")
    flat = places(picture, PALETTE[1])
    middle = 100 + (560 - 168) * (5 - 1) / 8
    assert np.abs(flat[:, 1] - middle).max() <= 5


def test_value_that_is_no_number_interrupts_the_line() -> None:
    picture = draw_curves([Curve("a", ((0, 0.5), (4, 0.5), (5, math.nan), (6, 0.5), (10, 0.5)))], title="t")
    columns = set(places(picture, PALETTE[0])[:, 0].tolist())
    gap = 84 + round(716 * 0.5)
    assert not columns & set(range(gap - 50, gap + 50))
    assert {84 + 50, 800 - 50} <= columns


def test_curve_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    save_curves([Curve("a", ((0, 0.5), (1, 0.2)))], tmp_path / "curve.png", title="t", subtitle="s", axis="x")
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.size == (1000, 560)
    with pytest.raises(OptionError, match="no PNG"):
        save_curves([Curve("a", ((0, 0.5),))], tmp_path / "curve.jpg", title="t")
    with pytest.raises(OptionError, match="no point to draw"):
        save_curves([Curve("a", ((0, math.nan),))], tmp_path / "none.png", title="t")
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]
