from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from pgc_graph.analysis.targets import Target
from pgc_graph.errors import OptionError
from pgc_graph.render.colormap import colourise, lookup_table
from pgc_graph.render.panels import PANEL_SIDE, blend, draw_panels, fit_size, heat_panel, image_panel
from pgc_graph.render.text import font, shorten
from pgc_graph.studies.heatmap import Heatmap

TABLE = lookup_table()


def make_heatmap(node: str, values: np.ndarray, *, spatial: bool = True) -> Heatmap:
    values = np.asarray(values, np.float32)
    target = Target(f"{node}_output_0", node, "Mul", "silu")
    bare = Heatmap(target, values, spatial, 0.0)
    return Heatmap(target, values, spatial, float(bare.normalised.mean()))


def random_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", ["turbo", "viridis", "gray", "tab10"])
@pytest.mark.parametrize("invert", [False, True], ids=["forwards", "backwards"])
def test_lookup_table_equals_the_colour_map(name: str, invert: bool) -> None:
    positions = np.linspace(0, 1, 256)
    expected = matplotlib.colormaps[name](positions)[:, :3]
    table = lookup_table(name, invert=invert)
    assert table.shape == (256, 3)
    assert table.dtype == np.uint8
    np.testing.assert_allclose(table / 255.0, expected[::-1] if invert else expected, atol=0.51 / 255)


def test_colourise_clips_and_takes_the_ends() -> None:
    coloured = colourise(np.float32([[-1.0, 0.0, 1.0, 2.0, 0.5]]), TABLE)
    np.testing.assert_array_equal(coloured[0], TABLE[[0, 0, 255, 255, 128]])


def test_unknown_colour_map_names_some() -> None:
    with pytest.raises(OptionError, match=r"unknown colour map 'terbo'; expected turbo, viridis"):
        lookup_table("terbo")


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        pytest.param(32, 32, (320, 320), id="square"),
        pytest.param(100, 50, (160, 320), id="portrait"),
        pytest.param(600, 800, (320, 240), id="landscape-photograph"),
        pytest.param(1, 2000, (320, 1), id="a-line"),
    ],
)
def test_panels_keep_proportions(height: int, width: int, expected: tuple[int, int]) -> None:
    image = random_image(height, width)
    assert fit_size(image, 320) == expected
    assert image_panel(image, expected).shape == (expected[1], expected[0], 3)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (44, 44), (17, 50), (100, 100)])
def test_enlarged_crop_keeps_its_pixels_sharp(height: int, width: int) -> None:
    image = random_image(height, width)
    size = fit_size(image, 320)
    panel = image_panel(image, size)
    rows = ((np.arange(height) + 0.5) * size[1] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * size[0] / width).astype(int)
    np.testing.assert_array_equal(panel[rows][:, columns], image)


def test_shrunk_photograph_keeps_its_mean_colour() -> None:
    image = random_image(900, 1200)
    panel = image_panel(image, fit_size(image, 320))
    np.testing.assert_allclose(panel.mean(axis=(0, 1)), image.mean(axis=(0, 1)), atol=1.0)


def test_map_of_places_is_interpolated_and_a_strip_is_not() -> None:
    values = np.array([[0.0, 1.0, 0.0, 1.0]])
    smooth = heat_panel(make_heatmap("/a", values), (320, 40), lookup_table("gray"))[20, :, 0]
    steps = heat_panel(make_heatmap("/a", values, spatial=False), (320, 40), lookup_table("gray"))[20, :, 0]
    np.testing.assert_array_equal(steps, np.repeat([0, 255, 0, 255], 80))
    assert 100 < smooth[80] < 155
    assert smooth[40] < 10
    assert smooth[120] > 245


def test_corner_of_the_map_lies_on_the_same_corner_of_the_image() -> None:
    values = np.zeros((4, 6))
    values[0, 5] = 1.0
    panel = heat_panel(make_heatmap("/a", values), (300, 200), TABLE)
    np.testing.assert_array_equal(panel[5, 295], TABLE[255])
    np.testing.assert_array_equal(panel[195, 5], TABLE[0])


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.55, 1.0])
def test_overlay_is_the_weighted_mixture(alpha: float) -> None:
    image, heat = random_image(9, 7), random_image(9, 7)[::-1]
    expected = np.rint(alpha * heat.astype(float) + (1 - alpha) * image.astype(float))
    mixed = blend(image, heat, alpha)
    assert mixed.dtype == np.uint8
    assert np.abs(mixed - expected).max() <= 1
    assert (mixed == expected).mean() > 0.99


def test_three_panels_stand_side_by_side() -> None:
    image = random_image(40, 80)
    heatmap = make_heatmap("/stem/Mul", np.arange(16).reshape(4, 4))
    size = fit_size(image, PANEL_SIDE)
    original = image_panel(image, size)
    picture = np.asarray(draw_panels(heatmap, original, TABLE, alpha=0.4, header="001 | /stem/Mul"))
    heat = heat_panel(heatmap, size, TABLE)
    top, lefts = picture.shape[0] - size[1] - 18, [18 + index * (size[0] + 14) for index in range(3)]
    for left, expected in zip(lefts, (original, heat, blend(original, heat, 0.4)), strict=True):
        np.testing.assert_array_equal(picture[top : top + size[1], left : left + size[0]], expected)
    assert (picture[:40].min(axis=2) < 100).any(), "the header line is written"
    for left in lefts:
        assert (picture[40 : top - 2, left : left + size[0]].min(axis=2) < 100).any(), "the panel's title is written"


def test_long_text_keeps_its_end() -> None:
    face = font(17)
    text = "/base_model/" + "very_long_name/" * 20 + "Mul"
    short = shorten(text, face, 300)
    assert short.startswith("…")
    assert text.endswith(short[1:])
    assert face.getlength(short) <= 300
    assert shorten("/stem/Mul", face, 300) == "/stem/Mul"
