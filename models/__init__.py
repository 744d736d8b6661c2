"""Models and drawn crops that ship with pgc-graph."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

__all__ = ["crops_folder", "model_path", "source_path"]


def model_path(variant: str) -> Path:
    """Return the file of a shipped model, cleaned and ready to run.

    Args:
        variant: `s` or `l`.

    Raises:
        FileNotFoundError: No such model ships.
    """
    return _existing(f"pgc_{variant}_32x32.onnx")


def source_path(variant: str) -> Path:
    """Return the file of a shipped source graph, as exported: BatchNormalization nodes are all there.

    Args:
        variant: `s`.

    Raises:
        FileNotFoundError: No such source graph ships.
    """
    return _existing(f"pgc_{variant}_32x32_source.onnx")


def crops_folder() -> Path:
    """Return the folder of drawn hand crops, with `pointing/` and `not_pointing/` below it."""
    return _existing("crops")


def _existing(name: str) -> Path:
    path = Path(str(resources.files(__name__))) / name
    if not path.exists():
        raise FileNotFoundError(f"{name} does not ship with this build of pgc-graph")
    return path
