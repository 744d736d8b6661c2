"""`pgc-graph set-metadata`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgc_cli.rewrite import RewriteRequest, Step, rewrite_options, run_steps
from pgc_graph.errors import OptionError

if TYPE_CHECKING:
    import onnx_ir as ir

    from pgc_graph.passes.rewrite import Rewrite

__all__ = ["command"]


# The same function to the last bit.
@click.command(
    "set-metadata", short_help="Write and remove metadata.", context_settings={"default_map": {"tolerance": 0.0}}
)
@rewrite_options
@click.argument("entries", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--remove", multiple=True, metavar="KEY", help="Remove an entry; may be given more than once.")
def command(request: RewriteRequest, entries: tuple[str, ...], remove: tuple[str, ...]) -> None:
    """Set entries of MODEL's metadata to values, and remove others; nothing else of the file changes.

    Example: pgc-graph set-metadata model.onnx pgc.image_size=32x32 --remove comment -o described.onnx
    """
    if not entries and not remove:
        raise OptionError("nothing to set or to remove; expected KEY=VALUE or --remove KEY")
    run_steps(request, [_metadata_step(dict(map(_entry, entries)), remove)])


def _entry(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise OptionError(f"{text!r} is no entry; expected KEY=VALUE")
    return key, value


def _metadata_step(entries: dict[str, str], remove: tuple[str, ...]) -> Step:
    from pgc_graph.passes.metadata import set_metadata

    def describe(before: ir.Model, rewrite: Rewrite) -> str:
        return ", ".join(f"{change.subject} {change.action}" for change in rewrite.changes) or "nothing to change"

    return Step("set-metadata", lambda model: set_metadata(model, entries, remove=remove), describe)
