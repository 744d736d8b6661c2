"""Damage valid model files and run every command on them, in a process of its own: native code may crash.

    python tests/damage.py FOLDER COMMAND FIRST LAST

prints one JSON line a case: what was run, the exit code, what went to stderr, and what is wrong with that (or nothing).
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from pgc_cli.main import cli

COMMANDS: dict[str, list[str]] = {
    "name": ["MODEL", "-o", "OUT"],
    "simplify": ["MODEL", "-o", "OUT"],
    "fold-bn": ["MODEL", "-o", "OUT"],
    "opset": ["MODEL", "-o", "OUT", "--to", "13"],
    "optimize": ["MODEL", "-o", "OUT", "--opset", "15"],
    "inspect": ["MODEL"],
    "gate": ["MODEL", "-o", "OUT"],
    "rename": ["MODEL", "Conv", "Fold", "-o", "OUT"],
    "extract": ["MODEL", "-o", "OUT"],
    "set-batch": ["MODEL", "--to", "4", "-o", "OUT"],
    "set-metadata": ["MODEL", "key=value", "-o", "OUT"],
    "diff": ["MODEL", "MODEL"],
    "verify": ["MODEL", "MODEL"],
    "bench": ["MODEL", "--seconds", "0.01", "--threads", "1"],
    "ablate": ["--model", "MODEL", "--image", "IMAGE", "--topk-heatmaps", "0", "--threads", "1"],
    "heatmap": ["--model", "MODEL", "--image", "IMAGE", "--output-dir", "MAPS", "--limit", "2"],
}


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut a file off, or flip one to eight of its bits, mostly near its ends, where structure is and not weights."""
    if rng.random() < 0.3:
        return data[: int(rng.integers(0, len(data)))]
    damaged = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        reach = len(damaged) if rng.random() < 0.3 else min(len(damaged), 4000)
        position = int(rng.integers(0, reach))
        damaged[position if rng.random() < 0.5 else len(damaged) - 1 - position] ^= 1 << int(rng.integers(0, 8))
    return bytes(damaged)


def wrong(code: int, exception: BaseException | None, stderr: str, kept: bool, leftovers: list[str]) -> str:
    """Say what is wrong with how a command ended, or return an empty string."""
    errors = [line for line in stderr.splitlines() if line.startswith("Error: ")]
    if exception is not None and not isinstance(exception, SystemExit):
        return f"{type(exception).__name__}: {exception}"
    if code not in (0, 1, 2):
        return f"exit code {code}"
    if code and len(errors) != 1 and not kept:
        return f"{len(errors)} error lines"
    if leftovers:
        return f"left {leftovers}"
    return ""


def run_case(folder: Path, command: str, data: bytes) -> dict[str, object]:
    """Run one command on one damaged file."""
    model, out, maps = folder / "damaged.onnx", folder / "out.onnx", folder / "maps"
    model.write_bytes(data)
    out.unlink(missing_ok=True)
    names = {"MODEL": model, "OUT": out, "IMAGE": folder / "image.png", "MAPS": maps}
    arguments = [command, *(str(names.get(word, word)) for word in COMMANDS[command])]
    result = CliRunner().invoke(cli, arguments)
    kept = result.exit_code == 1 and command in ("simplify", "optimize") and out.exists()
    leftovers = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    if result.exit_code and not kept and out.exists():
        leftovers.append(out.name)
    problem = wrong(result.exit_code, result.exception, result.stderr, kept, leftovers)
    return {"command": command, "code": result.exit_code, "stderr": result.stderr[-300:], "wrong": problem}


def main() -> None:
    folder, command = Path(sys.argv[1]), sys.argv[2]
    sources = sorted(folder.glob("valid_*.onnx"))
    warnings.simplefilter("ignore")
    for case in range(int(sys.argv[3]), int(sys.argv[4])):
        rng = np.random.default_rng(case)
        data = damage(sources[case % len(sources)].read_bytes(), rng)
        print(json.dumps({"case": case, "starts": True}), flush=True)
        print(json.dumps({"case": case, **run_case(folder, command, data)}), flush=True)


if __name__ == "__main__":
    main()
