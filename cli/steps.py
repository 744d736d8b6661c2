"""The passes as steps of a command: each pass with the words for what it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pgc_cli.rewrite import Step
from pgc_graph.errors import OptionError

if TYPE_CHECKING:
    import onnx_ir as ir

    from pgc_graph.passes.rewrite import Rewrite

__all__ = ["fold_step", "name_step", "opset_step", "simplify_step"]


def name_step() -> Step:
    """Name the unnamed nodes."""
    from pgc_graph.passes.names import fill_names

    def describe(before: ir.Model, rewrite: Rewrite) -> str:
        named = sum(change.action == "named" for change in rewrite.changes)
        renamed = len(rewrite.changes) - named
        return f"{named} nodes named" + (f", {renamed} duplicate names changed" if renamed else "")

    return Step("name", fill_names, describe)


def simplify_step(
    *,
    fix_shapes: Mapping[str, Sequence[int]] | None = None,
    skip: Sequence[str] = (),
    fold_constants: bool = True,
    subgraphs: bool = False,
    max_constant: int | None = None,
) -> Step:
    """Simplify with onnxsim; the original stays where the check fails."""
    from pgc_graph.passes.simplify import MAX_CONSTANT_BYTES, simplify

    def describe(before: ir.Model, rewrite: Rewrite) -> str:
        return f"{before.graph.num_nodes()} -> {rewrite.model.graph.num_nodes()} nodes"

    def apply(model: ir.Model) -> Rewrite:
        return simplify(
            model,
            fix_shapes=fix_shapes,
            skip=skip,
            fold_constants=fold_constants,
            subgraphs=subgraphs,
            max_constant=MAX_CONSTANT_BYTES if max_constant is None else max_constant,
        )

    return Step("simplify", apply, describe, may_keep_original=True)


def fold_step(*, assume_default_inputs: bool = False) -> Step:
    """Fold BatchNormalization."""
    from pgc_graph.passes.batchnorm import fold_batchnorm

    def describe(before: ir.Model, rewrite: Rewrite) -> str:
        total = len(rewrite.changes) + len(rewrite.skipped)
        replaced = sum(change.action.startswith("replaced") for change in rewrite.changes)
        folded = len(rewrite.changes) - replaced
        parts = [f"{folded} of {total} BatchNormalization folded"]
        parts += [f"{replaced} written as Mul and Add"] if replaced else []
        parts += [f"{len(rewrite.skipped)} left"] if rewrite.skipped else []
        return ", ".join(parts)

    return Step("fold-bn", lambda model: fold_batchnorm(model, assume_default_inputs=assume_default_inputs), describe)


def opset_step(target: int, *, ir_version: int | None = None) -> Step:
    """Convert to an opset that the installed onnxruntime loads, and to an IR version if one is given."""
    from pgc_graph.passes.opset import convert_opset
    from pgc_graph.runtime.opsets import newest_ir_version, newest_opset

    if ir_version is not None and ir_version > newest_ir_version():
        raise OptionError(
            f"IR version {ir_version} is too new; the installed onnxruntime loads up to {newest_ir_version()}"
        )

    def describe(before: ir.Model, rewrite: Rewrite) -> str:
        source = before.opset_imports.get("", before.opset_imports.get("ai.onnx", target))
        actions = Counter(change.action.partition(":")[0] for change in rewrite.changes)
        versions = f"opset {source} -> {target}, IR {before.ir_version} -> {rewrite.model.ir_version}"
        words = ", ".join(f"{count} {action}" for action, count in sorted(actions.items()))
        return f"{versions}, {words or 'no node changed'}"

    def apply(model: ir.Model) -> Rewrite:
        return convert_opset(model, target, ir_version=ir_version, newest=newest_opset())

    return Step("opset", apply, describe)
