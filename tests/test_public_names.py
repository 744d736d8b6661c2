"""The names of `import pgc_graph`: all there, all documented, none of them imported before it is used."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

import pgc_graph

HEAVY = ("onnx", "numpy", "onnx_ir", "onnxruntime", "PIL", "matplotlib", "torch", "google", "sympy")


@pytest.mark.parametrize("name", pgc_graph.__all__)
def test_name_resolves_and_is_documented(name: str) -> None:
    value = getattr(pgc_graph, name)
    assert isinstance(value, str) or inspect.getdoc(value)


def test_type_checkers_see_the_same_names(repository: Path) -> None:
    tree = ast.parse((repository / "pgc_graph" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: node.module for node in imports for alias in node.names}
    homes = {name: f"pgc_graph.{module}" for module, names in pgc_graph._HOMES.items() for name in names}
    assert seen == homes
    assert sorted([*seen, "__version__"]) == sorted(pgc_graph.__all__)
    assert set(pgc_graph.__all__) <= set(dir(pgc_graph))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pgc_graph.nothing  # noqa: B018


def test_the_version_is_that_of_the_project(repository: Path) -> None:
    import tomllib

    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert pgc_graph.__version__ == project["version"]


def test_importing_the_package_imports_nothing_heavy(run_python: Callable[..., CompletedProcess[str]]) -> None:
    code = f"import sys, pgc_graph; print([name for name in {HEAVY} if name in sys.modules])"
    result = run_python("-c", code)
    assert (result.stdout.strip(), result.stderr) == ("[]", "")


def test_the_example_of_the_package_runs(
    run_python: Callable[..., CompletedProcess[str]], pgc_model: Callable[[str], object], tmp_path: Path
) -> None:
    pgc_graph.save(pgc_model("s"), tmp_path / "model.onnx")
    lines = (pgc_graph.__doc__ or "").splitlines()
    code = "\n".join(line[4:] for line in lines if line.startswith("    "))
    result = run_python("-c", code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert (tmp_path / "clean.onnx").is_file()
