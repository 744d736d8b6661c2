"""Simplify a graph with onnxsim, losing nothing on the way, and remove what it leaves.

onnxsim (0.8) on its own folds initializers that are also inputs (a gate with a default vanishes), writes some twenty
`onnxsim.*` entries into the metadata, and its `ok` proves nothing unless told to check, and then at batch 1 only. So here:

1. an initializer that is also an input is hidden from it, and put back;
2. what it says of itself is removed; metadata, doc strings, domain and version are the model's own;
3. BatchNormalization stays for `fold_batchnorm`, which says what it did with each;
4. what folding constants adds is limited: where it makes the weights grow by more than `max_constant` bytes, only constants
   up to that size are folded;
5. `cleanup.py` removes what it leaves: in subgraphs, in functions, behind symbolic shapes;
6. both run until nothing changes, so a second call has nothing to do;
7. weights in external data are read, or, above `MAX_READ_BYTES`, hidden from it as if they were inputs;
8. checking is left to the caller (`runtime.parity`, several batch sizes), who keeps the original if the check fails.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx
import onnx_ir as ir
import onnxsim
from google.protobuf.message import DecodeError, EncodeError

from pgc_graph.analysis.names import all_graphs, all_nodes
from pgc_graph.errors import OptionError
from pgc_graph.passes.cleanup import clean
from pgc_graph.passes.names import name_nodes
from pgc_graph.passes.rewrite import Change, Rewrite, Skip

__all__ = ["MAX_CONSTANT_BYTES", "MAX_READ_BYTES", "simplifications", "simplify"]

MAX_CONSTANT_BYTES = 65_536
"""By default a folded constant above this size stays computed where folding it would make the model grow."""

MAX_READ_BYTES = 1_500_000_000
"""External data of more bytes than this are not read: a protobuf message ends at 2 GiB."""

_ROUNDS = 6
_FAILURES = (
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError, AssertionError),
    *(DecodeError, EncodeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError),
)


@dataclass(frozen=True)
class _Options:
    fix_shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    skip: Sequence[str] = ()
    fold_constants: bool = True
    subgraphs: bool = False
    max_constant: int = MAX_CONSTANT_BYTES


def simplify(
    model: ir.Model,
    *,
    fix_shapes: Mapping[str, Sequence[int]] | None = None,
    skip: Sequence[str] = (),
    fold_constants: bool = True,
    subgraphs: bool = False,
    max_constant: int = MAX_CONSTANT_BYTES,
) -> Rewrite:
    """Simplify a model: fold constants, remove what does nothing, fuse what onnxsim can fuse (not BatchNormalization).

    Args:
        model: Stays untouched.
        fix_shapes: Fixed shapes for some inputs, by name.
        skip: Names of onnxsim optimisations to leave out (see `simplifications`).
        fold_constants: Whether to compute what depends on constants alone.
        subgraphs: Whether onnxsim works on the bodies of If, Loop and Scan as well; `cleanup.py` always does.
        max_constant: Where folding makes the weights grow by more bytes than this, larger constants stay computed.

    Returns:
        The simplified model with `changes` by operator; or an unchanged one, with the reason in `skipped`, where onnxsim
        fails.

    Raises:
        OptionError: `fix_shapes` names an input, or `skip` an optimisation, that does not exist.
    """
    _check_options(model, fix_shapes or {}, skip)
    options = _Options(fix_shapes or {}, tuple(skip), fold_constants, subgraphs, max_constant)
    source = _read_external(model)
    current, seen = source, onnx.ModelProto()
    for _ in range(_ROUNDS):
        proto = ir.to_proto(current)
        if proto == seen:
            break
        seen = proto
        try:
            result = _run_onnxsim(proto, options)
        except _FAILURES as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            return Rewrite(model.clone(), (), (Skip("graph", f"onnxsim failed: {reason}"),))
        if result.graph == proto.graph and result.functions == proto.functions and current is not source:
            break
        current = _restore(result, source)
        clean(current)
        name_nodes(current)
    return Rewrite(current, _account(model, current))


def _read_external(model: ir.Model) -> ir.Model:
    """Return a model with its external data in memory, or the model itself if it has none or too much."""
    sizes = [tensor.nbytes for tensor in _external_tensors(model).values()]
    return ir.external_data.load_to_model(model.clone()) if 0 < sum(sizes) <= MAX_READ_BYTES else model


def _external_tensors(model: ir.Model) -> dict[str, ir.ExternalTensor]:
    tensors = {name: value.const_value for name, value in model.graph.initializers.items()}
    return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, ir.ExternalTensor)}


@functools.cache
def simplifications() -> tuple[str, ...]:
    """Return the names of onnxsim's optimisations that `skip` can leave out."""
    from onnxsim.onnx_simplifier import C

    return tuple(sorted(C._list_optimizers()))


def _check_options(model: ir.Model, fix_shapes: Mapping[str, Sequence[int]], skip: Sequence[str]) -> None:
    known = {str(value.name): value for value in model.graph.inputs}
    for name, shape in fix_shapes.items():
        if name not in known:
            raise OptionError(f"no input {name!r} to fix the shape of; the model has {', '.join(sorted(known))}")
        own = known[name].shape
        clash = own is not None and (
            len(own) != len(shape)
            or any(isinstance(dim, int) and dim != wanted for dim, wanted in zip(own, shape, strict=True))
        )
        if clash:
            shown = "x".join(map(str, own or ()))
            raise OptionError(f"shape {'x'.join(map(str, shape))} does not fit input {name!r}, which is {shown}")
    for name in skip:
        if name not in simplifications():
            raise OptionError(f"onnxsim has no optimisation {name!r} to skip; it has {', '.join(simplifications())}")


def _run_onnxsim(proto: onnx.ModelProto, options: _Options) -> onnx.ModelProto:
    source = onnx.ModelProto()
    source.CopyFrom(proto)
    defaults = _take_defaults(source)
    hidden = _hide_external(source)
    run = functools.partial(
        onnxsim.simplify,
        skip_fuse_bn=True,
        skip_constant_folding=not options.fold_constants,
        include_subgraph=options.subgraphs,
        certify=False,
    )
    shapes = {name: list(shape) for name, shape in options.fix_shapes.items()} or None
    result, _ = run(source, overwrite_input_shapes=shapes, skipped_optimizers=list(options.skip))
    if _weight_bytes(result) > _weight_bytes(source) + options.max_constant:
        result, _ = run(
            source,
            overwrite_input_shapes=shapes,
            skipped_optimizers=list(options.skip),
            tensor_size_threshold=f"{options.max_constant}B",
        )
    result.graph.initializer.extend(defaults)
    kept = [value for value in result.graph.input if value.name not in hidden]
    del result.graph.input[:]
    result.graph.input.extend(kept)
    used = {name for node in result.graph.node for name in node.input}
    result.graph.initializer.extend(tensor for name, tensor in hidden.items() if name in used)
    return result  # type: ignore[no-any-return]


def _weight_bytes(proto: onnx.ModelProto) -> int:
    """Return the size of all constants of the main graph."""
    constants = [a.t for node in proto.graph.node if node.op_type == "Constant" for a in node.attribute]
    return sum(tensor.ByteSize() for tensor in (*proto.graph.initializer, *constants))


def _take_defaults(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Remove and return the initializers that are also graph inputs."""
    inputs = {value.name for value in proto.graph.input}
    defaults = [tensor for tensor in proto.graph.initializer if tensor.name in inputs]
    kept = [tensor for tensor in proto.graph.initializer if tensor.name not in inputs]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return defaults


def _hide_external(proto: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Make initializers in external data inputs, which onnxsim takes as they come; return them by name."""
    external = onnx.TensorProto.EXTERNAL
    hidden = {tensor.name: tensor for tensor in proto.graph.initializer if tensor.data_location == external}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name not in hidden]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    proto.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)) for name, tensor in hidden.items()
    )
    return hidden


def _restore(result: onnx.ModelProto, model: ir.Model) -> ir.Model:
    simplified = ir.from_proto(result)
    for name, tensor in _external_tensors(model).items():
        if name in simplified.graph.initializers:  # a proto says where the data lie from a folder that it does not know
            simplified.graph.initializers[name].const_value = tensor
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
    old, new = _census(before), _census(after)
    return tuple(Change(what, f"{old[what]} -> {new[what]}") for what in sorted(old | new) if old[what] != new[what])


def _census(model: ir.Model) -> Counter[str]:
    """Count nodes by operator in every scope, initializers and functions."""
    census = Counter(node.op_type for node in all_nodes(model))
    census["initializers"] = sum(len(graph.initializers) for graph in all_graphs(model))
    census["functions"] = len(model.functions)
    return census
