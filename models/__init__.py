"""Models and drawn crops that ship with pgc-graph."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

__all__ = ["crops_folder", "model_path"]


def model_path(variant: str) -> Path:
    """Return the file of a shipped model.

    Args:
        variant: `s` or `l`.

    Raises:
        FileNotFoundError: No such model ships.
    """
    path = _folder() / f"pgc_{variant}_32x32.onnx"
    if not path.is_file():
        raise FileNotFoundError(f"no model {variant!r} ships with pgc-graph")
    return path


def crops_folder() -> Path:
    """Return the folder of drawn hand crops, with `pointing/` and `not_pointing/` below it."""
    return _folder() / "crops"


def _folder() -> Path:
    return Path(str(resources.files(__name__)))
