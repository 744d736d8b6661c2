"""The rules of the house, read off the syntax trees: who may import whom, which library lives where, how long a file is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("pgc_graph", "pgc_train", "cli", "models")
    for path in (ROOT / folder).rglob("*.py")
)

GROUND = {"errors", "files", "checker", "modelio", "preprocess", "images", "sources", "results"}
MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "checker": set(),
    "modelio": {"errors", "files", "checker"},
    "preprocess": {"errors"},
    "images": {"errors", "files", "preprocess"},
    "sources": {"errors", "preprocess", "images"},
    "results": {"errors", "files"},
    "analysis": GROUND,
    "build": GROUND | {"analysis"},
    "passes": GROUND | {"analysis"},
    "autodiff": GROUND | {"analysis", "passes"},
    "runtime": GROUND | {"analysis"},
    "studies": GROUND | {"analysis", "passes", "autodiff", "runtime"},
    "render": GROUND | {"analysis", "studies"},
    "pgc_cli": GROUND
    | {"pgc_graph", "analysis", "build", "passes", "autodiff", "runtime", "studies", "render", "pgc_models"},
    "pgc_models": {"errors"},
    "pgc_train": GROUND | {"pgc_graph", "analysis", "build", "passes", "runtime", "manners"},
    "pgc_graph": GROUND | {"analysis", "build", "passes", "autodiff", "runtime", "studies", "render"},
}
"""Room -> the rooms that it may import, beside itself. `pgc_graph` is the package's own __init__, which names them all."""

LIVES_IN = {
    "torch": {"pgc_train"},
    "onnxruntime": {"runtime"},
    "ray": {"runtime"},
    "matplotlib": {"render"},
    "onnx_graphsurgeon": {"build"},
    "onnxsim": {"passes"},
    "sng4onnx": {"passes"},
    "pyarrow": {"sources", "studies"},
    "click": {"pgc_cli", "pgc_train"},
    "rich": {"pgc_cli", "pgc_train"},
}
"""Third-party package -> the only rooms that import it."""

MANNERS = {"errors", "lazy", "progress"}
"""The part of the command line that `pgc-train` shares: how commands are listed, end, and show progress."""

FILE_CALLS = {("onnx", "load"), ("onnx", "save"), ("onnx", "load_model"), ("onnx", "save_model"), ("ir", "load")}
FILE_CALLS |= {("ir", "save"), ("onnx_ir", "load"), ("onnx_ir", "save")}
FOLDERS = {"cli": "pgc_cli", "models": "pgc_models", "pgc_train": "pgc_train"}


def room_of(path: str) -> str:
    parts = PurePosixPath(path).with_suffix("").parts
    if parts[0] != "pgc_graph":
        return FOLDERS[parts[0]]
    return "pgc_graph" if parts[1] == "__init__" else parts[1]


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name; of `from package import name`, package.name, which may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level
            yield from ((node.lineno, f"{dots}{node.module or ''}.{alias.name}") for alias in node.names)


def import_violation(room: str, module: str) -> str:
    """Say what is wrong with an import, or return an empty string."""
    parts = module.split(".")
    if not parts[0]:
        return "is relative"
    if parts[0] in ("cli", "models"):
        return f"is known as pgc_{parts[0]} once installed"
    if parts[0] in LIVES_IN:
        homes = LIVES_IN[parts[0]]
        return "" if room in homes else f"lives in {', '.join(sorted(homes))}"
    if parts[0] not in ("pgc_graph", "pgc_cli", "pgc_models", "pgc_train"):
        return ""
    target = parts[1] if parts[0] == "pgc_graph" and len(parts) > 1 and parts[1] in MAY_IMPORT else parts[0]
    if parts[0] == "pgc_cli" and len(parts) > 1 and parts[1] in MANNERS and room != "pgc_cli":
        target = "manners"
    return "" if target == room or target in MAY_IMPORT[room] else f"is no business of {room}"


def violations(path: str, source: str) -> list[str]:
    """List what breaks the rules in one file."""
    room, tree, lines = room_of(path), ast.parse(source), len(source.splitlines())
    found = [f"{path}: {lines} lines; at most 300"] if lines > 300 else []
    for line, module in imported_modules(tree):
        problem = import_violation(room, module)
        found += [f"{path}:{line}: {module} {problem}"] if problem else []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.body[0].lineno + 1
            found += [f"{path}:{node.lineno}: {node.name} has {length} lines; at most 50"] if length > 50 else []
        if not isinstance(node, ast.Call):
            continue
        call = node.func
        if isinstance(call, ast.Name) and call.id == "print":
            found.append(f"{path}:{node.lineno}: print; the library logs, the commands echo")
        is_file_call = isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name)
        if is_file_call and (call.value.id, call.attr) in FILE_CALLS and room != "modelio":
            found.append(f"{path}:{node.lineno}: {call.value.id}.{call.attr}; only modelio opens model files")
    return found


@pytest.mark.parametrize("path", SOURCES)
def test_file_keeps_the_rules(path: str) -> None:
    assert violations(path, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", [path for path in SOURCES if not path.endswith("__init__.py")])
def test_module_says_what_it_offers(path: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert ast.get_docstring(tree), "a module docstring"
    assert "__all__" in names, "__all__"


def test_every_room_has_a_rule() -> None:
    assert {room_of(path) for path in SOURCES} <= set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        pytest.param("pgc_graph/analysis/x.py", "from pgc_graph.runtime.session import open_session", id="upwards"),
        pytest.param("pgc_graph/passes/x.py", "from pgc_graph import runtime", id="upwards-from-package"),
        pytest.param("pgc_graph/runtime/x.py", "import pgc_graph.passes.names", id="sideways"),
        pytest.param("pgc_graph/studies/x.py", "def f():\n    import pgc_graph.render.table", id="inside-a-function"),
        pytest.param("pgc_graph/render/x.py", "from pgc_graph.runtime import parity", id="render-computes"),
        pytest.param("pgc_graph/studies/x.py", "import pgc_graph", id="the-package-itself"),
        pytest.param("pgc_graph/modelio.py", "from pgc_graph.analysis import names", id="ground-upwards"),
        pytest.param("pgc_graph/build/x.py", "import torch.nn", id="torch-in-the-library"),
        pytest.param("cli/x.py", "from torch import nn", id="torch-in-a-command"),
        pytest.param("pgc_graph/studies/x.py", "import onnxruntime", id="onnxruntime-outside-runtime"),
        pytest.param("pgc_graph/studies/x.py", "import matplotlib.pyplot as plt", id="matplotlib-outside-render"),
        pytest.param("pgc_graph/passes/x.py", "import onnx_graphsurgeon as gs", id="graphsurgeon-outside-build"),
        pytest.param("pgc_graph/errors.py", "import click", id="click-in-the-library"),
        pytest.param("cli/x.py", "import pgc_train.loop", id="trainer-in-a-command"),
        pytest.param("pgc_graph/studies/x.py", "from pgc_train import loop", id="trainer-in-the-library"),
        pytest.param("pgc_graph/studies/x.py", "from pgc_cli.progress import note", id="command-in-the-library"),
        pytest.param("cli/x.py", "import cli.options", id="folder-name-cli"),
        pytest.param("cli/x.py", "from models import model_path", id="folder-name-models"),
        pytest.param("cli/x.py", "from .options import SIZE", id="relative"),
        pytest.param("cli/x.py", "from . import options", id="relative-package"),
        pytest.param("pgc_graph/studies/x.py", "def f():\n    print('done')", id="print"),
        pytest.param("pgc_graph/studies/x.py", "import onnx\nmodel = onnx.load('x.onnx')", id="opens-a-model"),
        pytest.param("pgc_graph/passes/x.py", "ir.save(model, 'x.onnx')", id="writes-a-model"),
        pytest.param("pgc_graph/studies/x.py", "\n" * 301, id="long-file"),
        pytest.param("pgc_graph/studies/x.py", "def f():\n" + "    a = 1\n" * 51, id="long-function"),
    ],
)
def test_checker_finds_a_broken_rule(path: str, source: str) -> None:
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        pytest.param("pgc_graph/studies/x.py", "from pgc_graph.passes.gates import insert_gates", id="downwards"),
        pytest.param("pgc_graph/analysis/x.py", "from pgc_graph import modelio\nimport onnx", id="ground"),
        pytest.param("pgc_train/x.py", "import torch\nfrom pgc_graph.build.spec import preset", id="trainer"),
        pytest.param("cli/x.py", "import click\nfrom pgc_models import model_path", id="command"),
        pytest.param("pgc_graph/studies/x.py", "def f():\n" + "    a = 1\n" * 50, id="fifty-lines"),
    ],
)
def test_checker_lets_good_code_pass(path: str, source: str) -> None:
    assert violations(path, source) == []
