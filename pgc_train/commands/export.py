"""`pgc-train export`: write a checkpoint as an ONNX graph, checked against torch."""

from __future__ import annotations

from pathlib import Path

import click

from pgc_graph.errors import OptionError
from pgc_train.commands.options import FOLDER

__all__ = ["command"]


@click.command("export", short_help="Write a checkpoint as an ONNX graph, checked against torch.")
@click.argument("checkpoint_path", metavar="CHECKPOINT", type=FOLDER)
@click.option("-o", "--output", type=FOLDER, required=True, help="The .onnx file to write.")
@click.option("--opset", type=int, default=17, show_default=True, help="Of the graph.")
@click.option("--safetensors", type=FOLDER, help="Write the weights to this file too, by the trainer's names.")
@click.option("--dataset", help="pgc.dataset in the metadata  [default: the sources trained on]")
@click.option("--licence", help="pgc.licence in the metadata: of the data or the model.")
@click.option("--metadata", "entries", multiple=True, metavar="KEY=VALUE", help="Any other entry, such as pgc.f1=0.97.")
def command(
    checkpoint_path: Path,
    output: Path,
    opset: int,
    safetensors: Path | None,
    dataset: str | None,
    licence: str | None,
    entries: tuple[str, ...],
) -> None:
    """Write CHECKPOINT, a .pt file or the folder of a run (its best.pt), as the source graph, BatchNorm nodes in.

    \b
    Example:
      pgc-train export runs/s -o pgc_s.onnx --licence "Apache-2.0 data"
    """
    from pgc_train.checkpoint import load_checkpoint
    from pgc_train.export import export_checkpoint

    metadata = dict(_split(entry) for entry in entries)
    metadata.update({key: value for key, value in (("pgc.dataset", dataset), ("pgc.licence", licence)) if value})
    report = export_checkpoint(
        load_checkpoint(checkpoint_path), output, opset=opset, metadata=metadata, safetensors=safetensors
    )
    click.echo(
        f"torch and graph agree on {report.images} images: max |Δ| = {report.max_difference:.2g} of the probability, "
        f"{report.max_logit_difference:.2g} of the logit"
    )
    click.echo(f"wrote {output}")
    if safetensors is not None:
        click.echo(f"wrote {safetensors}")


def _split(entry: str) -> tuple[str, str]:
    key, separator, value = entry.partition("=")
    if not key or not separator:
        raise OptionError(f"metadata {entry!r} is not KEY=VALUE; give for instance pgc.licence=MIT")
    return key, value
