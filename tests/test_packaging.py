"""What pyproject.toml promises: every package ships, and the lower bounds are those that are tested."""

from __future__ import annotations

import re
import tomllib

from conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_folder_with_code_is_listed_as_a_package() -> None:
    installed = {"cli": "pgc_cli", "models": "pgc_models"}
    found = set()
    for root in ("pgc_graph", "pgc_train", "cli", "models"):
        for init in (REPOSITORY / root).rglob("__init__.py"):
            parts = init.parent.relative_to(REPOSITORY).parts
            found.add(".".join((installed.get(parts[0], parts[0]), *parts[1:])))
    assert found == set(PROJECT["tool"]["setuptools"]["packages"])


def test_every_python_folder_is_a_package() -> None:
    for root in ("pgc_graph", "pgc_train", "cli", "models"):
        for path in (REPOSITORY / root).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), path


def test_lower_bounds_are_the_tested_ones() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    bounds = {}
    for requirement in [*PROJECT["project"]["dependencies"], *extras["train"], *extras["dev"]]:
        name, bound = re.match(r"([a-z0-9-]+)>=([0-9.]+)", requirement).groups()  # type: ignore[union-attr]
        bounds[name] = bound
    pinned = dict(line.split("==") for line in (REPOSITORY / "tests/lowest.txt").read_text().split() if "==" in line)
    for name in bounds.keys() - {"mypy", "ruff", "onnxscript"}:
        assert pinned[name].startswith(bounds[name]), name
