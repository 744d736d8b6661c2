"""report as a user runs it, and its page in a browser where there is one (PGC_GRAPH_BROWSER=required: there must be)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from conftest import REPOSITORY

MODEL = REPOSITORY / "models" / "pgc_s_32x32.onnx"
CROPS = REPOSITORY / "models" / "crops"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from click.testing import CliRunner

    from pgc_cli.main import cli

    path = tmp_path_factory.mktemp("report") / "report.html"
    words = ["report", "--model", str(MODEL), "--image-dir", str(CROPS), "-o", str(path), "--seconds", "0.05"]
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert (result.exit_code, result.stdout[:10]) == (0, "[OK] Saved")
    return path


@pytest.fixture
def page(report: Path) -> Iterator[Any]:
    if BROWSER is None:
        assert os.environ.get("PGC_GRAPH_BROWSER") != "required", "a browser must be here, and there is none"
        pytest.skip("needs chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="dark")
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(report.as_uri())
        page.wait_for_selector("html[data-ready]")
        yield page
        browser.close()
    assert said == []


def column(page: Any, index: int) -> list[str]:
    cells = page.locator(f"#table-ablation tbody tr:not([hidden]) td:nth-child({index})")
    return [cell.get_attribute("data-value") for cell in cells.all()]


def test_page_sorts_and_filters(page: Any) -> None:
    button = page.locator("#table-ablation th:nth-child(4) button")
    for state in ("ascending", "descending"):
        button.click()
        values = [float(value) for value in column(page, 4)]
        assert values == sorted(values, reverse=state == "descending")
        assert page.locator("#table-ablation th:nth-child(4)").get_attribute("aria-sort") == state
    page.fill("#filter-ablation", "features.2 silu")
    names = column(page, 2)
    assert names
    assert all("features.2" in name for name in names)
    assert page.locator("#count-ablation").inner_text() == f"{len(names)} of 18 rows"
    with page.expect_download() as saved:
        page.click(".tools button.csv[data-table=table-ablation]")
    lines = Path(saved.value.path()).read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == 1 + len(names)
    assert lines[0].startswith("rank,tensor,kind,mean Δ,mean Δ low,mean Δ high")


def test_nodes_are_chosen_by_mouse_and_keyboard(page: Any) -> None:
    page.locator("#node-0").click()
    assert page.locator("#details h3").inner_text() == "/base_model/stem/stem.0/Conv"
    assert page.locator("#details figure svg").count() == 2
    assert page.locator("#details canvas").count() == 2
    page.locator("#node-0").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("#details h3").inner_text() == "/base_model/stem/stem.2/Sigmoid"
    before = page.locator("#graph-svg").bounding_box()["width"]
    page.click("#zoom-in")
    assert page.locator("#graph-svg").bounding_box()["width"] > 1.3 * before


@pytest.mark.parametrize("button", ["#figure-impact .png", "#graph .tools .png", "#example-0 .png-tiles"])
def test_pictures_are_saved_as_png(page: Any, button: str) -> None:
    from PIL import Image

    with page.expect_download() as saved:
        page.locator(button).click()
    with Image.open(saved.value.path()) as image:
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 20


def test_page_fits_a_phone_and_prints(page: Any) -> None:
    assert page.pdf(format="A4")[:5] == b"%PDF-"
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_other_files_are_refused_before_the_work(run_cli: Callable[..., Result], tmp_path: Path) -> None:
    result = run_cli("report", "--model", MODEL, "--image-dir", CROPS, "-o", tmp_path / "report.pdf")
    assert result.exit_code == 2
    assert "ends in .html" in result.stderr
    assert list(tmp_path.iterdir()) == []
