"""The command line as a whole: quick to start, complete in its help, one line for every mistake."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import click
import pytest
from click.testing import Result

from pgc_cli.main import COMMANDS, cli

HEAVY = ("onnx", "numpy", "onnx_ir", "onnxruntime", "PIL", "matplotlib", "torch", "rich")
PRESENT = [name for name, (module, _) in COMMANDS.items() if importlib.util.find_spec(module) is not None]


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


def test_help_lists_every_command(run_cli: Callable[..., Result]) -> None:
    result = run_cli("--help")
    assert result.exit_code == 0
    for name, (_, text) in COMMANDS.items():
        assert f"  {name}  " in result.stdout
        assert text.split()[0] in result.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []], ids=["help", "version", "bare"])
def test_starting_imports_nothing_heavy(arguments: list[str], run_python: Callable[..., CompletedProcess[str]]) -> None:
    code = (
        "import sys\n"
        "from pgc_cli.main import cli\n"
        f"cli({arguments!r}, standalone_mode=False)\n"
        f"print('HEAVY', [name for name in {HEAVY} if name in sys.modules])\n"
    )
    result = run_python("-c", code)
    assert "HEAVY []" in result.stdout or "HEAVY" not in result.stdout
    if arguments:
        assert "HEAVY []" in result.stdout


@pytest.mark.parametrize("name", PRESENT)
def test_command_help_imports_neither_onnx_nor_torch(
    name: str, run_python: Callable[..., CompletedProcess[str]]
) -> None:
    code = (
        "import sys\n"
        "from pgc_cli.main import cli\n"
        f"cli([{name!r}, '--help'], standalone_mode=False)\n"
        "print('HEAVY', [name for name in ('onnx', 'onnx_ir', 'onnxruntime', 'torch') if name in sys.modules])\n"
    )
    result = run_python("-c", code)
    assert result.stderr == ""
    assert result.stdout.splitlines()[-1] == "HEAVY []"


@pytest.mark.parametrize("name", PRESENT)
def test_command_explains_itself(name: str, run_cli: Callable[..., Result]) -> None:
    result = run_cli(name, "--help")
    assert result.exit_code == 0
    assert "Example: pgc-graph " in result.stdout
    for parameter in command(name).params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.opts[-1] in result.stdout


@pytest.mark.parametrize("name", PRESENT)
def test_command_has_a_first_sentence_and_a_short_help(name: str) -> None:
    found = command(name)
    assert found.name == name
    assert found.short_help
    assert found.help


MISTAKES = {
    "unknown-command": ["nothing"],
    "unknown-option": ["inspect", "model.onnx", "--nothing"],
    "no-model": ["inspect"],
    "missing-file": ["inspect", "nowhere.onnx"],
    "text-file": ["inspect", "letter.onnx"],
    "empty-file": ["inspect", "empty.onnx"],
    "folder": ["inspect", "."],
    "rewrite-missing-file": ["name", "nowhere.onnx", "-o", "out.onnx"],
    "rewrite-text-file": ["fold-bn", "letter.onnx", "-o", "out.onnx"],
    "no-output-folder": ["build", "-o", "nowhere/out.onnx"],
    "output-is-a-folder": ["build", "-o", "."],
}


@pytest.mark.parametrize("arguments", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_and_code_2(
    arguments: list[str], run_cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letter.onnx").write_text("Dear reader,\n" * 30)
    (tmp_path / "empty.onnx").write_bytes(b"")
    before = sorted(tmp_path.iterdir())
    result = run_cli(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line and not line.startswith(("Usage:", "Try "))]
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    assert sorted(tmp_path.iterdir()) == before


def test_a_defect_of_ours_is_a_traceback(run_cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(command("inspect"), "callback", broken)
    with pytest.raises(ZeroDivisionError):
        run_cli("inspect", "model.onnx")


def test_the_script_and_the_module_are_the_same(run_python: Callable[..., CompletedProcess[str]]) -> None:
    result = run_python("-m", "pgc_cli.main", "--version")
    assert (result.returncode, result.stderr) == (0, "")
    assert "version" in result.stdout
