"""The `pgc-train` group: commands are listed here and imported only when they run, torch with them."""

from __future__ import annotations

import importlib
from typing import Any

import click

from pgc_train.commands.shared import report_errors

__all__ = ["COMMANDS", "LazyGroup", "cli"]

COMMANDS = {
    "synth": ("pgc_train.commands.synth", "Draw labelled hand crops."),
    "train": ("pgc_train.commands.train", "Fit a model on folders of crops."),
    "evaluate": ("pgc_train.commands.evaluate", "Score a checkpoint or an ONNX model on labelled crops."),
    "export": ("pgc_train.commands.export", "Write a checkpoint as an ONNX graph, checked against torch."),
}
"""Command name -> (module, one-line help). The module holds a click command called `command`."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is looked up (click's documented LazyGroup pattern)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the command names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; errors of ours end as one line and an exit code."""
        with report_errors():
            return super().invoke(ctx)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="pgc-graph")
def cli() -> None:
    """Train a pointing classifier on crops of hands and write it as an .onnx file."""


if __name__ == "__main__":
    cli()
