from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pgc_graph.analysis.targets import Target
from pgc_graph.errors import OptionError
from pgc_graph.render.colormap import lookup_table
from pgc_graph.render.composite import draw_composite, tile_cell, top_heatmaps
from pgc_graph.render.heatmaps import CompositeOptions, HeatmapStyle, picture_name, save_heatmaps
from pgc_graph.render.panels import fit_size, heat_panel
from pgc_graph.studies.heatmap import Heatmap, HeatmapResult

TABLE = lookup_table()
NODES = ["/stem/Mul", "/block.1/Mul", "/block.2/out_act/Mul", "/head/Mul", "/x/Mul"]


def make_heatmap(node: str, values: np.ndarray, *, spatial: bool = True) -> Heatmap:
    values = np.asarray(values, np.float32)
    target = Target(f"{node}_output_0", node, "Mul", "silu")
    bare = Heatmap(target, values, spatial, 0.0)
    return Heatmap(target, values, spatial, float(bare.normalised.mean()))


def make_result(intensities: Sequence[float] = (0.2, 0.8, 0.5, 0.8, 0.1)) -> HeatmapResult:
    """Maps of 10 rows of which a share, by intensity, is 1 and the rest 0."""
    maps = [np.repeat(np.arange(10) < round(10 * share), 10).reshape(10, 10) for share in intensities]
    heatmaps = tuple(make_heatmap(node, values) for node, values in zip(NODES, maps, strict=False))
    return HeatmapResult(heatmaps, "prob_pointing", np.float32([0.9987]), "cpu")


def random_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("sort", "topk", "expected"),
    [
        pytest.param("order", 3, [0, 1, 2], id="order"),
        pytest.param("intensity", 3, [1, 3, 2], id="intensity-ties-keep-order"),
        pytest.param("intensity", 99, [1, 3, 2, 0, 4], id="more-than-there-are"),
    ],
)
def test_choice_of_tiles(sort: str, topk: int, expected: list[int]) -> None:
    chosen = top_heatmaps(make_result(), CompositeOptions(topk=topk, sort=sort))
    assert [NODES.index(heatmap.target.node) for heatmap in chosen] == expected


@pytest.mark.parametrize(
    ("layout", "count", "cells"),
    [
        pytest.param("row", 6, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)], id="row-6"),
        pytest.param("col", 6, [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)], id="col-6"),
        pytest.param("row", 3, [(0, 0), (0, 1), (1, 0)], id="row-3"),
        pytest.param("col", 3, [(0, 0), (1, 0), (0, 1)], id="col-3"),
        pytest.param("col", 1, [(0, 0)], id="col-1"),
    ],
)
def test_cells_of_tiles(layout: str, count: int, cells: list[tuple[int, int]]) -> None:
    assert [tile_cell(index, count, layout) for index in range(count)] == cells


@pytest.mark.parametrize("layout", ["row", "col"])
def test_composite_shows_each_map_in_its_cell(layout: str) -> None:
    image = np.full((32, 32, 3), 128, np.uint8)
    result = make_result()
    page = np.asarray(draw_composite(result, image, TABLE, alpha=1.0, options=CompositeOptions(5, layout=layout)))
    size = fit_size(image, 272)
    for index, heatmap in enumerate(top_heatmaps(result, CompositeOptions(5))):
        row, column = tile_cell(index, 5, layout)
        left, top = 28 + column * (556 + 28), 120 + row * (54 + size[1] + 28) + 54
        expected = heat_panel(heatmap, size, TABLE)
        np.testing.assert_array_equal(page[top : top + size[1], left : left + size[0]], expected)
        overlay = page[top : top + size[1], left + size[0] + 12 : left + 2 * size[0] + 12]
        np.testing.assert_array_equal(overlay, expected)


@pytest.mark.parametrize("invert", [False, True], ids=["forwards", "backwards"])
def test_legend_runs_from_low_to_high(invert: bool) -> None:
    table = lookup_table("turbo", invert=invert)
    page = np.asarray(
        draw_composite(make_result(), random_image(32, 32), table, alpha=0.5, options=CompositeOptions(4))
    )
    bar = page[-74 + 22 + 10, (page.shape[1] - 480) // 2 :][:480]
    np.testing.assert_array_equal(bar, table[np.rint(np.linspace(0, 255, 480)).astype(int)])


def test_captions_and_title_of_the_caller_are_drawn() -> None:
    def draw(**fields: object) -> np.ndarray:
        options = CompositeOptions(2, sort="order", **fields)  # type: ignore[arg-type]
        return np.asarray(draw_composite(make_result(), random_image(32, 32), TABLE, alpha=0.5, options=options))

    plain, titled = draw(), draw(title="By ablation")
    captioned = draw(captions={"/block.1/Mul_output_0": "meanΔ=+0.9932"})
    assert (plain != titled).any(axis=2)[:120].any()
    assert not (plain != titled).any(axis=2)[120:].any()
    changed = (plain != captioned).any(axis=2)
    assert changed[120:174, 584:].any()
    assert not changed[:, :584].any()
    assert not changed[174:].any()


def test_files_are_numbered_named_and_the_same_every_time(tmp_path: Path) -> None:
    image = random_image(48, 64)
    result = make_result()
    for folder in ("first", "second/deeper"):
        saved = save_heatmaps(result, image, tmp_path / folder, composite=CompositeOptions(3))
        assert [path.name for path in saved.paths] == [
            "001_stem_Mul.png",
            "002_block_1_Mul.png",
            "003_block_2_out_act_Mul.png",
            "004_head_Mul.png",
            "005_x_Mul.png",
        ]
        assert saved.composite_path == tmp_path / folder / "top_features_composite.png"
        assert saved.composite_count == 3
        assert {path.name for path in (tmp_path / folder).iterdir()} == {
            *(path.name for path in saved.paths),
            "top_features_composite.png",
        }
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second/deeper" / path.name).read_bytes()
        with Image.open(path) as picture:
            assert picture.format == "PNG"


def test_no_composite_unless_asked(tmp_path: Path) -> None:
    saved = save_heatmaps(make_result(), random_image(8, 8), tmp_path)
    assert saved.composite_path is None
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize(
    ("node", "name"),
    [
        pytest.param("/base_model/stem/stem.2/Mul", "007_base_model_stem_stem_2_Mul.png", id="usual"),
        pytest.param("層", "007_tensor.png", id="no-latin-letter"),
        pytest.param("../../etc/passwd", "007_etc_passwd.png", id="path-like"),
    ],
)
def test_picture_name(node: str, name: str) -> None:
    assert picture_name(7, node) == name


def test_very_long_name_is_cut_at_the_front() -> None:
    name = picture_name(1, "/block" * 100 + "/last/Mul")
    assert len(name) < 140
    assert re.fullmatch(r"001_\w+_last_Mul\.png", name)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_out_of_range(alpha: float) -> None:
    with pytest.raises(OptionError, match="alpha"):
        HeatmapStyle(alpha=alpha)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"topk": 0}, "at least 1", id="topk"),
        pytest.param({"output": Path("page.jpg")}, "is no PNG", id="not-png"),
        pytest.param({"sort": "name"}, "unknown composite order", id="sort"),
        pytest.param({"layout": "grid"}, "unknown composite layout", id="layout"),
    ],
)
def test_impossible_composites(fields: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        CompositeOptions(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "composite"),
    [
        pytest.param(HeatmapStyle(cmap="terbo"), None, id="colour-map"),
        pytest.param(HeatmapStyle(), CompositeOptions(output=Path("001_stem_Mul.png")), id="composite-over-a-heatmap"),
    ],
)
def test_nothing_is_written_when_something_is_wrong(
    tmp_path: Path, options: HeatmapStyle, composite: CompositeOptions | None
) -> None:
    with pytest.raises(OptionError):
        save_heatmaps(make_result(), random_image(8, 8), tmp_path / "out", options=options, composite=composite)
    assert not (tmp_path / "out").exists()


def test_output_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("taken", encoding="utf-8")
    with pytest.raises(OptionError, match="cannot make folder"):
        save_heatmaps(make_result(), random_image(8, 8), tmp_path / "out")
