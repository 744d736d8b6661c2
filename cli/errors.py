"""How the command line ends: one line and exit code 2 for bad input, 1 for a failed check, tracebacks for our defects."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import NoReturn

import click

from pgc_graph.errors import ParityError, PgcGraphError

__all__ = ["EXIT_BAD_INPUT", "EXIT_CHECK_FAILED", "EXIT_INTERRUPTED", "fail", "report_errors"]

EXIT_CHECK_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """Turn the errors of pgc-graph into one line on stderr and an exit code."""
    try:
        yield
    except ParityError as error:
        fail(str(error), EXIT_CHECK_FAILED)
    except PgcGraphError as error:
        fail(str(error), EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        fail("interrupted", EXIT_INTERRUPTED)


def fail(message: str, code: int) -> NoReturn:
    """Write one line on stderr and exit."""
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    sys.exit(code)
