"""`pgc-graph demo`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from pgc_cli.progress import note
from pgc_graph.errors import OptionError

__all__ = ["command"]


@click.command("demo", short_help="Try everything on a shipped model.")
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    default=Path("pgc-demo"),
    show_default=True,
    help="Where the results go; made if it is not there.",
)
def command(output_dir: Path) -> None:
    """Run optimize, ablate and heatmap on a shipped model and drawn hand crops, showing each command line.

    Example: pgc-graph demo
    """
    import pgc_models

    pointing, large = pgc_models.crops_folder() / "pointing", pgc_models.model_path("l")
    crop = pointing / "synth000025_index.png"
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"cannot make {output_dir}: {error.strerror}; choose another --output-dir") from error
    clean = output_dir / "pgc_s_clean.onnx"
    _run("optimize", pgc_models.source_path("s"), "-o", clean)
    _run("inspect", clean)
    _run(
        "ablate",
        "--model",
        large,
        "--image-dir",
        pointing,
        "--topk-image",
        crop,
        "--quiet",
        "--topk-output-dir",
        output_dir / "ablation",
    )
    _run("heatmap", "--model", large, "--image", crop, "--output-dir", output_dir / "heatmaps", "--composite-topk", 6)
    click.echo(f"""
Done. Look at
  {output_dir / "ablation" / "ablation_top_features.png"}   the six tensors that the model depends on most
  {output_dir / "heatmaps" / "top_features_composite.png"}   what the model looks at in one crop
  {clean}   the cleaned model: smaller, the same function""")


def _run(*words: object) -> None:
    """Show a command line and run it in this process."""
    from pgc_cli.main import cli

    arguments = [str(word) for word in words]
    note(f"\n$ pgc-graph {shlex.join(arguments)}")
    code = cli.main(arguments, prog_name="pgc-graph", standalone_mode=False)
    if code:
        click.get_current_context().exit(int(code))
