"""Simplify a graph with onnxsim, losing nothing on the way.

onnxsim (0.8) on its own folds initializers that are also inputs (a gate with a default vanishes), writes some twenty
`onnxsim.*` entries into the metadata, and its `ok` proves nothing unless told to check, and then at batch 1 only. So here:

1. an initializer that is also an input is hidden from it, and put back;
2. what it says of itself is removed; metadata, doc strings, domain and version are the model's own;
3. BatchNormalization stays for `fold_batchnorm`, which says what it did with each;
4. checking is left to the caller (`runtime.parity`, several batch sizes), who keeps the original if the check fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import onnx
import onnx_ir as ir
import onnxsim

from pgc_graph.errors import OptionError
from pgc_graph.passes.names import fill_names
from pgc_graph.passes.rewrite import Change, Rewrite, Skip

__all__ = ["simplify"]


def simplify(
    model: ir.Model,
    *,
    fix_shapes: Mapping[str, Sequence[int]] | None = None,
    skip: Sequence[str] = (),
) -> Rewrite:
    """Simplify a model: fold constants, remove what does nothing, fuse what onnxsim can fuse (not BatchNormalization).

    Args:
        model: Stays untouched.
        fix_shapes: Fixed shapes for some inputs, by name.
        skip: Names of onnxsim optimisations to leave out.

    Returns:
        The simplified model with `changes` by operator; or an unchanged one, with the reason in `skipped`, where onnxsim
        fails.

    Raises:
        OptionError: `fix_shapes` names an input that does not exist.
    """
    known = {str(value.name) for value in model.graph.inputs}
    for name in fix_shapes or {}:
        if name not in known:
            raise OptionError(f"no input {name!r} to fix the shape of; the model has {', '.join(sorted(known))}")
    proto = ir.to_proto(model)
    defaults = _take_defaults(proto)
    try:
        result, _ = onnxsim.simplify(
            proto,
            skip_fuse_bn=True,
            overwrite_input_shapes={name: list(shape) for name, shape in (fix_shapes or {}).items()} or None,
            skipped_optimizers=list(skip) or None,
            certify=False,
        )
    except (RuntimeError, ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return Rewrite(model.clone(), (), (Skip("graph", f"onnxsim failed: {' '.join(str(error).split())[:200]}"),))
    result.graph.initializer.extend(defaults)
    simplified = fill_names(_restore(result, model)).model
    return Rewrite(simplified, _account(model, simplified))


def _take_defaults(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Remove and return the initializers that are also graph inputs."""
    inputs = {value.name for value in proto.graph.input}
    defaults = [tensor for tensor in proto.graph.initializer if tensor.name in inputs]
    kept = [tensor for tensor in proto.graph.initializer if tensor.name not in inputs]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return defaults


def _restore(result: onnx.ModelProto, model: ir.Model) -> ir.Model:
    simplified = ir.from_proto(result)
    simplified.metadata_props.clear()
    simplified.metadata_props.update(model.metadata_props)
    simplified.graph.metadata_props.clear()
    simplified.graph.metadata_props.update(model.graph.metadata_props)
    simplified.doc_string, simplified.domain = model.doc_string, model.domain
    simplified.producer_name, simplified.producer_version = model.producer_name, model.producer_version
    simplified.model_version = model.model_version
    simplified.graph.name, simplified.graph.doc_string = model.graph.name, model.graph.doc_string
    return simplified


def _account(before: ir.Model, after: ir.Model) -> tuple[Change, ...]:
    old = Counter(node.op_type for node in before.graph)
    new = Counter(node.op_type for node in after.graph)
    return tuple(
        Change(op_type, f"{old[op_type]} -> {new[op_type]}")
        for op_type in sorted(old | new)
        if old[op_type] != new[op_type]
    )
