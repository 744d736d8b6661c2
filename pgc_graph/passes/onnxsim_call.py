"""Hand a model to onnxsim and take back what it made of it, without what it loses and adds on the way.

onnxsim (0.8) folds initializers that are also inputs (a gate with a default vanishes) and takes each call a while to look
for operators that it has never heard of. So here:

1. an initializer that is also an input is hidden from it, and put back;
2. so are weights in external data, which it is shown as inputs;
3. BatchNormalization stays (`skip_fuse_bn`);
4. where folding constants makes the weights grow by more than `max_constant` bytes, only constants up to that size are
   folded;
5. the operators that onnx knows are made known to it once a process, and again where a model uses another domain's.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx
import onnxsim
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

__all__ = ["OnnxsimOptions", "run_onnxsim"]

_OWN_DOMAINS = frozenset({"", "ai.onnx"})
_FORGOTTEN = frozenset({"metadata_props", "denotation"})
_DOCUMENTED = (onnx.AttributeProto, onnx.TensorProto)


@dataclass(frozen=True)
class OnnxsimOptions:
    """What onnxsim is asked to do; see `simplify`."""

    fix_shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    skip: Sequence[str] = ()
    fold_constants: bool = True
    subgraphs: bool = False
    max_constant: int = 0


def run_onnxsim(proto: onnx.ModelProto, options: OnnxsimOptions) -> tuple[onnx.ModelProto, bool]:
    """Run onnxsim once.

    Args:
        proto: Stays untouched.
        options: What to do.

    Returns:
        Its result, and whether it did more than infer the types and shapes of tensors. The result lacks what onnxsim
        loses (`carry_over.py` brings it back).
    """
    given, defaults, hidden = _hide(proto)
    result = _call(given, options)
    if _differs(given, result) and _weight_bytes(result) > _weight_bytes(given) + options.max_constant:
        result = _call(given, options, tensor_size_threshold=f"{options.max_constant}B")
    changed = _differs(given, result)
    result.graph.initializer.extend(defaults)
    kept = [value for value in result.graph.input if value.name not in hidden]
    del result.graph.input[:]
    result.graph.input.extend(kept)
    used = set(_used_names(result.graph.node))
    result.graph.initializer.extend(tensor for name, tensor in hidden.items() if name in used)
    return result, changed


def _call(given: onnx.ModelProto, options: OnnxsimOptions, **limits: str) -> onnx.ModelProto:
    _import_schemas()
    foreign = any(imported.domain not in _OWN_DOMAINS for imported in given.opset_import)
    result, _ = onnxsim.simplify(
        given,
        skip_fuse_bn=True,
        skip_constant_folding=not options.fold_constants,
        include_subgraph=options.subgraphs,
        certify=False,
        import_custom_schemas=foreign,
        overwrite_input_shapes={name: list(shape) for name, shape in options.fix_shapes.items()} or None,
        skipped_optimizers=list(options.skip),
        **limits,
    )
    return result  # type: ignore[no-any-return]


@functools.cache
def _import_schemas() -> int:
    # onnxsim brings an onnx of its own, which can be older than the one installed.
    return onnxsim.import_onnx_schemas()  # type: ignore[no-any-return]


def _differs(given: onnx.ModelProto, result: onnx.ModelProto) -> bool:
    """Say whether two protos differ in anything but inferred types and what onnxsim forgets."""
    before, after = given.graph, result.graph
    # The order of Constant nodes, which onnxsim changes each time, means nothing.
    constants, others = _split(before.node)
    new_constants, new_others = _split(after.node)
    pairs = [(others, new_others), (before.input, after.input), (given.functions, result.functions)]
    by_name = [
        (constants, new_constants),
        ({t.name: t for t in before.initializer}, {t.name: t for t in after.initializer}),
    ]
    return (
        [value.name for value in before.output] != [value.name for value in after.output]
        or any(old.keys() != new.keys() for old, new in by_name)
        or any(len(old) != len(new) for old, new in pairs)
        or any(not _alike(item, new[name]) for old, new in by_name for name, item in old.items())
        or any(not _alike(item, other) for old, new in pairs for item, other in zip(old, new, strict=True))
    )


def _split(nodes: Iterable[onnx.NodeProto]) -> tuple[dict[str, onnx.NodeProto], list[onnx.NodeProto]]:
    constants, others = {}, []
    for node in nodes:
        if node.op_type == "Constant" and node.output:
            constants[node.output[0]] = node
        else:
            others.append(node)
    return constants, others


def _alike(given: Message, result: Message) -> bool:
    return bool(given == result or _plain(given) == _plain(result))


def _plain(message: Message) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    _strip(copy)
    return copy


def _strip(message: Message) -> None:
    """Remove what onnxsim forgets."""
    for descriptor, value in message.ListFields():
        documents = descriptor.name == "doc_string" and isinstance(message, _DOCUMENTED)
        if descriptor.name in _FORGOTTEN or documents:
            message.ClearField(descriptor.name)
        elif descriptor.type == FieldDescriptor.TYPE_MESSAGE:
            for item in (value,) if isinstance(value, Message) else value:
                _strip(item)


def _used_names(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    """Yield the names of tensors that nodes use, themselves or in their subgraphs."""
    for node in nodes:
        yield from node.input
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _used_names(body.node)
                yield from (value.name for value in body.output)


def _weight_bytes(proto: onnx.ModelProto) -> int:
    """Return the size of all constants of the main graph."""
    constants = [a.t for node in proto.graph.node if node.op_type == "Constant" for a in node.attribute]
    return sum(tensor.ByteSize() for tensor in (*proto.graph.initializer, *constants))


def _hide(
    proto: onnx.ModelProto,
) -> tuple[onnx.ModelProto, list[onnx.TensorProto], dict[str, onnx.TensorProto]]:
    """Return a copy without the initializers that are also inputs, and with those in external data as mere inputs.

    Returns:
        The copy (the proto itself where there is nothing to hide), the former, and the latter by name.
    """
    inputs = {value.name for value in proto.graph.input}
    external = onnx.TensorProto.EXTERNAL
    defaults = [tensor for tensor in proto.graph.initializer if tensor.name in inputs]
    hidden = {t.name: t for t in proto.graph.initializer if t.name not in inputs and t.data_location == external}
    if not defaults and not hidden:
        return proto, [], {}
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    kept = [tensor for tensor in proto.graph.initializer if tensor.name not in inputs and tensor.name not in hidden]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(kept)
    copy.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)) for name, tensor in hidden.items()
    )
    return copy, defaults, hidden
