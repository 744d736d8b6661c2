"""The `pgc-graph` group: commands are listed here and imported only when they run."""

from __future__ import annotations

import importlib
from typing import Any

import click

from pgc_cli.errors import report_errors

__all__ = ["COMMANDS", "LazyGroup", "cli"]

COMMANDS = {
    "build": ("pgc_cli.build", "Write a PGC graph as ONNX from a preset and weights."),
    "inspect": ("pgc_cli.inspect", "Show a model: inputs, operators, parameters, MACs, metadata."),
    "name": ("pgc_cli.name", "Give every unnamed node a name, unique in every scope."),
    "simplify": ("pgc_cli.simplify", "Simplify the graph with onnxsim, checked."),
    "fold-bn": ("pgc_cli.fold_bn", "Fold BatchNormalization into the nodes around it."),
    "opset": ("pgc_cli.opset", "Convert the graph to another opset."),
    "optimize": ("pgc_cli.optimize", "name, simplify, fold-bn and opset in one go."),
    "gate": ("pgc_cli.gate", "Write a model with a gate after every chosen tensor."),
    "bench": ("pgc_cli.bench", "Time models side by side, interleaved, in one run."),
    "ablate": ("pgc_cli.ablate", "Switch tensors off one by one and rank what that does to the score."),
    "heatmap": ("pgc_cli.heatmap", "Draw what each tensor looks at in an image."),
    "demo": ("pgc_cli.demo", "Run optimize, ablate and heatmap on a shipped model and crops."),
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
    """Clean, understand and shrink an image classifier, given as an .onnx file."""


if __name__ == "__main__":
    cli()
