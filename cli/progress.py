"""Progress on stderr while a terminal watches, silence when piped."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator

import click

__all__ = ["note", "progress_bar", "show_warnings"]


def note(message: str) -> None:
    """Write a note for the reader on stderr."""
    click.echo(message, err=True)


def show_warnings() -> None:
    """Let the library's warnings reach stderr, one line each."""
    root = logging.getLogger()
    if not any(isinstance(handler, _EchoHandler) for handler in root.handlers):
        root.addHandler(_EchoHandler(logging.WARNING))


class _EchoHandler(logging.Handler):
    """Writes to whatever stderr is at the time, which a StreamHandler does not."""

    def emit(self, record: logging.LogRecord) -> None:
        note(f"Warning: {record.getMessage()}")


@contextlib.contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function `(done, total)` that draws a bar with rate and time left on a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class RateColumn(ProgressColumn):
        """How many a second."""

        def render(self, task: Task) -> Text:
            return Text("" if not task.speed else f"{task.speed:,.{0 if task.speed >= 10 else 2}f}/s")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=None)
        begun = False

        def advance(done: int, total: int) -> None:
            nonlocal begun
            if begun:
                progress.update(task, completed=done, total=total)
            else:  # what was done before the bar began says nothing about the rate
                progress.reset(task, completed=done, total=total)
                begun = True

        yield advance
