"""The chart of an ablation: bars, intervals and order, read off the pixels."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pgc_graph.analysis.targets import Target
from pgc_graph.errors import OptionError
from pgc_graph.render.charts import PALETTE
from pgc_graph.render.impact_chart import MOST_TENSORS, Scale, draw_impacts, impact_scale, save_impacts
from pgc_graph.studies.ablation.result import (
    AblationResult,
    EngineReport,
    GateImpact,
    LabelBaseline,
    LabelImpact,
    Quantiles,
    Summary,
)

NAN = math.nan


def summary(mean: float, half: float = 0.0) -> Summary:
    return Summary(9, mean, 0.0, mean, mean, (mean - half, mean + half), Quantiles(*(mean,) * 5))


def result(*impacts: tuple[Summary, ...]) -> AblationResult:
    """Each tensor has one summary, or one for each of two labels."""
    names = ("no", "yes")
    gates = []
    for index, parts in enumerate(impacts):
        labels = tuple(LabelImpact(n, s, s, None, None) for n, s in zip(names, parts, strict=False) if len(parts) > 1)
        target = Target(f"t{index}", f"node{index}", "Mul")
        gates.append(GateImpact(index + 1, index, target, parts[0], parts[0], None, 0, None, labels))
    known = tuple(LabelBaseline(name, 9, summary(1), None) for name in names if len(impacts) and len(impacts[0]) > 1)
    engine = EngineReport("cpu", "planned", "", 1, 1, 0.0)
    return AblationResult(
        "prob", 0.0, summary(1), None, tuple(gates), (), (), (), False, engine, labels=known, image_count=9
    )  # fmt: skip


def spans(picture: Image.Image, colour: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Return first and last column of the bars of a colour, from top to bottom; legend and text lie left of the plot."""
    found = []
    pixels = (np.asarray(picture)[:, 340:, :] == colour).all(axis=2)
    rows = pixels.any(axis=1)
    for row in range(1, len(rows)):
        if rows[row] and not rows[row - 1]:
            columns = np.flatnonzero(pixels[row])
            found.append((int(columns[0]), int(columns[-1])))
    return found


def test_bars_go_left_and_right_of_zero_in_proportion() -> None:
    picture = draw_impacts(result((summary(0.4),), (summary(0.1),), (summary(-0.2),)))
    (first, second, third) = spans(picture, PALETTE[0])
    assert first[0] == pytest.approx(second[0], abs=2)
    assert third[1] == pytest.approx(first[0], abs=2)
    length = first[1] - first[0]
    assert second[1] - second[0] == pytest.approx(length / 4, abs=3)
    assert third[1] - third[0] == pytest.approx(length / 2, abs=3)


def test_labels_stand_side_by_side_in_their_colours() -> None:
    picture = draw_impacts(result((summary(0.4), summary(0.2)), (summary(0.3), summary(0.1))))
    no, yes = spans(picture, PALETTE[0]), spans(picture, PALETTE[1])
    assert [end - start for start, end in no] == sorted((end - start for start, end in no), reverse=True)
    assert no[0][1] - no[0][0] == pytest.approx(2 * (yes[0][1] - yes[0][0]), abs=3)
    assert len(no) == len(yes) == 2


def test_interval_is_drawn_where_it_is() -> None:
    bare, marked = (draw_impacts(result((summary(0.4, half),))) for half in (0.0, 0.1))
    scale = impact_scale([summary(0.4, 0.1)])
    columns = np.flatnonzero((np.asarray(marked)[92:-40] == (28, 30, 34)).all(axis=2).sum(axis=0) > 6)
    assert scale.high == pytest.approx(0.5)
    assert {scale.place(0.3), scale.place(0.5)} <= set(columns.tolist())
    assert bare.size == marked.size


@pytest.mark.parametrize(
    ("summaries", "low", "high"),
    [
        pytest.param([summary(1, 0.5), summary(-1)], -1, 1.5, id="both-sides"),
        pytest.param([summary(2)], 0, 2, id="from-zero"),
        pytest.param([summary(-2, 1)], -3, 0, id="to-zero"),
        pytest.param([summary(1, 50)], -2, 2, id="wide-interval-leaves-the-plot"),
        pytest.param([summary(NAN), summary(1, NAN)], 0, 1, id="no-number"),
        pytest.param([summary(0)], 0, 1, id="nothing"),
        pytest.param([summary(NAN)], 0, 1, id="no-number-at-all"),
    ],
)
def test_scale_holds_what_is_to_be_seen(summaries: list[Summary], low: float, high: float) -> None:
    assert impact_scale(summaries) == Scale(low, high)
    picture = draw_impacts(result(*((one,) for one in summaries)))
    assert picture.size[0] == 1000


def test_long_rankings_are_cut_and_say_so() -> None:
    many = result(*(((summary(1 / (1 + index))),) for index in range(MOST_TENSORS + 5)))
    cut = dataclasses.replace(many, gates=many.gates[:MOST_TENSORS])
    assert draw_impacts(many).size == draw_impacts(cut).size
    assert draw_impacts(many).tobytes() != draw_impacts(cut).tobytes()


def test_chart_is_written_as_png_or_not_at_all(tmp_path: Path) -> None:
    found = result((summary(0.4),))
    save_impacts(found, tmp_path / "a.png")
    save_impacts(found, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with pytest.raises(OptionError, match="no PNG"):
        save_impacts(found, tmp_path / "a.jpg")
    with pytest.raises(OptionError, match="no tensor to draw"):
        save_impacts(result(), tmp_path / "c.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
