"""A group of commands that are listed in a table and imported only when they run."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from pgc_cli.errors import report_errors

__all__ = ["CommandTable", "LazyGroup", "lazy_group"]

CommandTable = Mapping[str, tuple[str, str]]
"""Command name -> (module, one-line help). The module holds a click command called `command`."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is looked up (click's documented LazyGroup pattern)."""

    def __init__(self, *args: Any, table: CommandTable, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the command names in the order of the table."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in self._table:
            return None
        command: click.Command = importlib.import_module(self._table[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._table.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; errors of ours end as one line and an exit code."""
        with report_errors():
            return super().invoke(ctx)


def lazy_group(table: CommandTable, help_text: str) -> LazyGroup:
    """Make the group that a console script runs.

    Args:
        table: Its commands.
        help_text: What `--help` says of the whole.
    """
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
    group = LazyGroup(table=table, help=help_text, context_settings=settings)
    decorated: LazyGroup = click.version_option(package_name="pgc-graph")(group)
    return decorated
