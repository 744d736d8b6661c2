"""Bar charts: lengths, colours and scales, read off the pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pgc_graph.errors import OptionError
from pgc_graph.render.charts import PALETTE, Bar, BarGroup, draw_bars, save_bars, scale_end, tick_step


def widths(picture: Image.Image, colour: tuple[int, int, int]) -> list[int]:
    """Return the widths of the rectangles of a colour, from top to bottom."""
    rows = (np.asarray(picture) == colour).all(axis=2).sum(axis=1)
    return [int(rows[row]) for row in range(1, len(rows)) if rows[row] and not rows[row - 1]]


def test_bars_are_as_long_as_their_values_on_one_scale() -> None:
    groups = [
        BarGroup("one", (Bar("a", 10, 10), Bar("b", 5, 5))),
        BarGroup("two", (Bar("a", 2.5, 2.5), Bar("b", 0, 0))),
    ]
    picture = draw_bars(groups, title="Latency")
    blue, orange = widths(picture, PALETTE[0]), widths(picture, PALETTE[1])
    assert (len(blue), len(orange)) == (2, 2)
    assert blue[1] == pytest.approx(blue[0] / 4, abs=4)
    assert orange[0] == pytest.approx(blue[0] / 2, abs=4)
    assert orange[1] <= 2


def test_a_picture_is_the_same_each_time() -> None:
    groups = [BarGroup("g", (Bar("α", 1, 1.5, "1 ms"),))]
    first, second = (draw_bars(groups, title="t", subtitle="s") for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_more_bars_make_a_taller_picture_of_the_same_width() -> None:
    sizes = [draw_bars([BarGroup("g", (Bar("a", 1, 1),) * count)], title="t").size for count in (1, 2, 20)]
    assert len({width for width, _ in sizes}) == 1
    assert sizes[0][1] < sizes[1][1] < sizes[2][1]


@pytest.mark.parametrize(
    ("bars", "expected"),
    [
        pytest.param([Bar("a", 1, 1.5), Bar("b", 2, 2)], 2.0, id="largest-value"),
        pytest.param([Bar("a", 1, 1.5), Bar("b", 1, 1)], 1.5, id="largest-spread"),
        pytest.param([Bar("a", 1, 50), Bar("b", 2, 2)], 4.0, id="far-spread-leaves-the-plot"),
        pytest.param([Bar("a", 0, 0)], 1.0, id="nothing"),
    ],
)
def test_the_scale_ends_where_bars_stay_readable(bars: list[Bar], expected: float) -> None:
    assert scale_end(bars) == expected
    draw_bars([BarGroup("g", tuple(bars))], title="t")


@pytest.mark.parametrize("end", [1e-6, 0.21, 1.0, 5.9, 6.0, 6.1, 17, 99, 12345.6])
def test_ticks_are_round_and_few(end: float) -> None:
    step = tick_step(end)
    assert 2 <= int(end / step + 1e-9) <= 6
    assert f"{step:e}"[0] in "125"


@pytest.mark.parametrize(
    ("value", "spread"), [(-1, 1), (2, 1), (float("nan"), 1), (1, float("inf")), (1, float("nan"))]
)
def test_a_bar_that_cannot_be_drawn_is_refused(value: float, spread: float) -> None:
    with pytest.raises(OptionError, match="bar 'a'"):
        Bar("a", value, spread)


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(OptionError, match="no bar"):
        draw_bars([BarGroup("empty", ())], title="t")


def test_the_file_holds_the_picture(tmp_path: Path) -> None:
    groups = [BarGroup("g", (Bar("a", 1, 2, "note"),))]
    save_bars(groups, tmp_path / "c.png", title="t", subtitle="s")
    with Image.open(tmp_path / "c.png") as saved:
        assert saved.format == "PNG"
        assert saved.tobytes() == draw_bars(groups, title="t", subtitle="s").tobytes()


@pytest.mark.parametrize(
    ("name", "message"), [("c.jpg", "no PNG"), ("c", "no PNG"), ("nowhere/c.png", "cannot write chart")]
)
def test_a_file_that_cannot_be_written_is_refused(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=message):
        save_bars([BarGroup("g", (Bar("a", 1, 2),))], tmp_path / name, title="t")
    assert list(tmp_path.iterdir()) == []
