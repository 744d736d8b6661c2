"""Write files so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pgc_graph.errors import OptionError

__all__ = ["atomic_path", "write_text"]

_NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENAMETOOLONG)


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside the target, moved onto the target when the block ends without an error.

    The temporary file keeps the target's suffix (image encoders choose the format by it). If the block raises, the
    temporary file is removed and the target stays as it was.

    Args:
        target: The file to write. Its folder must exist.

    Raises:
        OptionError: The target's folder does not exist, cannot be written or is full, or the target is a folder.
    """
    if os.path.isdir(target):  # Path.is_dir raises where a name is too long
        raise OptionError(f"{target} is a folder; expected the path of a file to write")
    temporary = _temporary_beside(target)
    try:
        yield temporary
        os.chmod(temporary, _default_mode())
        os.replace(temporary, target)
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise
        raise OptionError(f"cannot write {target}: {error.strerror}; choose another path or make room") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Write text to a file as UTF-8, all or nothing.

    Raises:
        OptionError: As for `atomic_path`.
    """
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _temporary_beside(target: Path) -> Path:
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.stem[:40]}-", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        reason = error.strerror or "unknown reason"
        raise OptionError(f"cannot write {target}: {reason}; choose a path in an existing, writable folder") from error
    os.close(handle)
    return Path(name)


def _default_mode() -> int:
    # mkstemp makes files private (0600); what the user asked for should follow their umask like any other file.
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
