"""`pgc-graph fold-bn`."""

from __future__ import annotations

import click

from pgc_cli.rewrite import RewriteRequest, rewrite_options, run_steps

__all__ = ["command"]


@click.command("fold-bn", short_help="Fold BatchNormalization.")
@rewrite_options
@click.option(
    "--assume-default-inputs",
    is_flag=True,
    help="Take parameters that are graph inputs with a default for constants.",
)
def command(request: RewriteRequest, assume_default_inputs: bool) -> None:
    """Fold every BatchNormalization of MODEL into the Conv, ConvTranspose, Gemm or MatMul before it, else into the Gemm or
    unpadded Conv after it, else write it as one Mul and one Add.

    What is left alone is listed with its reason.

    Example: pgc-graph fold-bn model.onnx -o folded.onnx
    """
    from pgc_cli.steps import fold_step

    run_steps(request, [fold_step(assume_default_inputs=assume_default_inputs)])
