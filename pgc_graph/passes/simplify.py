"""Simplify a graph with onnxsim, losing nothing on the way, and remove what it leaves.

1. Constants are gathered and moved about here first (`fold_constants.py`), and what does nothing is removed
   (`cleanup.py`): in subgraphs, in functions, behind symbolic shapes. On most models onnxsim then finds nothing more,
   and a round with it, which takes most of the time, need not be repeated;
2. onnxsim does the rest (`onnxsim_call.py`); what it forgets is brought back (`carry_over.py`);
3. BatchNormalization stays for `fold_batchnorm`, which says what it did with each;
4. what folding constants adds is limited: where it makes the weights grow by more than `max_constant` bytes, only constants
   up to that size are folded;
5. both run until nothing changes, so a second call has nothing to do;
6. weights in external data are shown to onnxsim, or, above `MAX_READ_BYTES`, hidden from it as if they were inputs; those
   that it leaves as they are stay external;
7. checking is left to the caller (`runtime.parity`, several batch sizes), who keeps the original if the check fails.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, EncodeError

from pgc_graph.analysis.names import all_graphs, all_nodes
from pgc_graph.errors import OptionError
from pgc_graph.passes.carry_over import adopt_types, carry_over
from pgc_graph.passes.cleanup import clean
from pgc_graph.passes.names import name_nodes
from pgc_graph.passes.onnxsim_call import OnnxsimOptions, run_onnxsim
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
        skip: Names of onnxsim optimisations to leave out (see `simplifications`), here as well where the same is done.
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
    options = OnnxsimOptions(fix_shapes or {}, tuple(skip), fold_constants, subgraphs, max_constant)
    current = model.clone()
    _tidy(current, options)
    seen = onnx.ModelProto()
    for _ in range(_ROUNDS):
        proto = _with_data(current)
        if proto == seen:
            break
        seen = proto
        try:
            result, changed = run_onnxsim(proto, options)
        except _FAILURES as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            return Rewrite(model.clone(), (), (Skip("graph", f"onnxsim failed: {reason}"),))
        if changed:
            current = _restore(result, current)
            _tidy(current, options)
        elif not adopt_types(current, result) or not _tidy(current, options):
            break
    return Rewrite(current, _account(model, current))


def _tidy(model: ir.Model, options: OnnxsimOptions) -> int:
    """Do what needs no onnxsim to a model that is ours to edit; return how much was found."""
    limit = options.max_constant if options.fold_constants else None
    found = clean(model, fold_up_to=limit, skip=options.skip)
    name_nodes(model)
    return found


def _with_data(model: ir.Model) -> onnx.ModelProto:
    """Return a model's proto, with its external data inside if they are not too much."""
    size = sum(tensor.nbytes for tensor in _external_tensors(model).values())
    return ir.to_proto(ir.external_data.load_to_model(model.clone()) if 0 < size <= MAX_READ_BYTES else model)


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


def _restore(result: onnx.ModelProto, model: ir.Model) -> ir.Model:
    simplified = ir.from_proto(result)
    for name, tensor in _external_tensors(model).items():
        value = simplified.graph.initializers.get(name)
        if value is not None and isinstance(value.const_value, ir.ExternalTensor):
            value.const_value = tensor  # a proto says where the data lie from a folder that it does not know
    carry_over(model, simplified)
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
