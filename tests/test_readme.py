"""The README stays true: its commands run as they stand, its table names every command, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY
from pgc_cli.main import COMMANDS

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")), REPOSITORY / "models" / "MODELS.md"]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def shell_lines(text: str) -> list[str]:
    joined = "\n".join(blocks(text, "bash")).replace("\\\n", " ")
    return [line.split("  #")[0].strip() for line in joined.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's relative paths work and nothing of ours can be overwritten."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("models", "README.md", "docs"):
        (folder / name).symlink_to(REPOSITORY / name)
    return folder


def test_session_in_the_readme_runs_as_it_stands(checkout: Path) -> None:
    session = [line for line in shell_lines(README) if line.startswith("pgc-graph")]
    assert len(session) == 4
    for line in session:
        command = [sys.executable, "-m", "pgc_cli.main", *shlex.split(line)[1:]]
        result = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{line}\n{result.stderr}"
    assert (checkout / "clean.onnx").is_file()


def test_library_example_in_the_readme_runs(checkout: Path) -> None:
    (code,) = blocks(README, "python")
    result = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "15 folded, 0 left" in result.stdout


GRADIENTS = (REPOSITORY / "docs" / "autodiff.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", blocks(GRADIENTS, "python"), ids=["gradient", "rule"])
def test_page_on_gradients_runs(checkout: Path, code: str) -> None:
    result = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


CLASS_MAPS = (REPOSITORY / "docs" / "class-maps.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", blocks(CLASS_MAPS, "python"), ids=["maps"])
def test_page_on_class_maps_runs(checkout: Path, code: str) -> None:
    result = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("pointing") == 4


LEARNING = (REPOSITORY / "docs" / "learning.md").read_text(encoding="utf-8")


def test_commands_of_the_page_on_learning_run(checkout: Path) -> None:
    for line in shell_lines(LEARNING):
        command = [sys.executable, "-m", "pgc_cli.main", *shlex.split(line)[1:]]
        result = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{line}\n{result.stderr}"


LIBRARY = (REPOSITORY / "docs" / "library.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", blocks(LIBRARY, "python"), ids=re.findall(r"^## (.+)$", LIBRARY, re.MULTILINE))
def test_library_page_runs(checkout: Path, code: str) -> None:
    result = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_make_targets_in_the_readme_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = {line.split()[1] for line in shell_lines(README) if line.startswith("make ")}
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_table_names_every_command() -> None:
    named = set(re.findall(r"^\| `pgc-graph ([a-z-]+)", README, re.MULTILINE))
    assert named == set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_and_pictures_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_shown_in_the_docs_exist_with_these_options(page: Path) -> None:
    """Options and commands only: what the pages show may need data that does not ship."""
    import click

    from pgc_cli.main import cli

    for line in shell_lines(page.read_text(encoding="utf-8")):
        words = shlex.split(line)
        if words[:1] != ["pgc-graph"] or len(words) < 2 or words[1].startswith("-"):
            continue
        command = cli.get_command(click.Context(cli), words[1])
        assert command is not None, f"{page.name}: {line}"
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        unknown = [word for word in words if word.startswith("--") and word.split("=")[0] not in known | {"--help"}]
        assert not unknown, f"{page.name}: {line}"
