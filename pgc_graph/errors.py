"""Every error that pgc-graph raises on purpose.

A message says what was found, what was expected and what to do, in one line; the command line prints it as it stands and
exits with code 2 (code 1 for a failed check). Anything else that escapes is a defect of ours.

    PgcGraphError
    ├── ModelError             the file or the graph
    │   ├── ModelFileError     missing, unreadable, truncated, not ONNX
    │   └── UnsupportedError   a valid graph that this operation cannot treat
    ├── ImageError             an image, or a folder without any
    ├── SelectionError         a filter that matches nothing, a tensor that is not there
    ├── OptionError            a value that makes no sense (std 0, unknown preset, ...)
    ├── ProviderError          an execution provider that cannot run here
    └── ParityError            two graphs that should be the same function are not
"""

from __future__ import annotations

__all__ = [
    "ImageError",
    "ModelError",
    "ModelFileError",
    "OptionError",
    "ParityError",
    "PgcGraphError",
    "ProviderError",
    "SelectionError",
    "UnsupportedError",
]


class PgcGraphError(Exception):
    """Base of all errors that pgc-graph raises on purpose."""


class ModelError(PgcGraphError):
    """The model is the problem."""


class ModelFileError(ModelError):
    """The model file is missing, unreadable, truncated or not ONNX."""


class UnsupportedError(ModelError):
    """The graph is valid, but this operation cannot treat it."""


class ImageError(PgcGraphError):
    """An image cannot be read, or a folder holds none."""


class SelectionError(PgcGraphError):
    """A filter matches nothing, or a named tensor or node does not exist."""


class OptionError(PgcGraphError):
    """An option's value makes no sense."""


class ProviderError(PgcGraphError):
    """The requested execution provider cannot run on this machine."""


class ParityError(PgcGraphError):
    """Two graphs that should compute the same function do not."""
