"""Load, check and save ONNX models: the only file that opens or writes `.onnx`.

Models live as `onnx_ir.Model`, which keeps all that a file holds (metadata, doc strings, functions, domains, every
dtype) and maps external data instead of reading it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, EncodeError, Message

from pgc_graph.checker import CHECKER_ERRORS, check_proto
from pgc_graph.errors import ModelError, ModelFileError
from pgc_graph.files import atomic_path

__all__ = ["EMBED_LIMIT_BYTES", "check", "load", "save", "to_bytes", "to_proto", "weight_bytes"]

EMBED_LIMIT_BYTES = 2_000_000_000
"""Weights above this go to a `.data` file beside the model: a protobuf message cannot exceed 2 GiB."""

_GRAPH_ATTRIBUTES = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def load(source: str | os.PathLike[str] | bytes | onnx.ModelProto) -> ir.Model:
    """Load a model from a path, from serialised bytes or from a ModelProto, which is copied.

    Args:
        source: A `.onnx` file, its bytes, or a proto that stays untouched.

    Returns:
        The model; external data is mapped, not read.

    Raises:
        ModelFileError: The file is missing, unreadable, truncated or not a valid ONNX model.
    """
    if isinstance(source, onnx.ModelProto):
        copy = onnx.ModelProto()
        copy.CopyFrom(source)
        return _from_proto(copy, "the given ModelProto", None)
    if isinstance(source, bytes):
        return _from_proto(_parse(source, "the given bytes"), "the given bytes", None)
    path = Path(source)
    return _from_proto(_parse(_read(path), str(path)), str(path), path)


def save(model: ir.Model, path: str | os.PathLike[str]) -> int:
    """Write a model to a file, all or nothing.

    Weights stay inside the file, unless the model came with external data or they exceed `EMBED_LIMIT_BYTES`: then they
    go to `<name>.onnx.data` beside it.

    Returns:
        Bytes written, data included.

    Raises:
        OptionError: The folder does not exist or cannot be written.
        ModelError: The model cannot be serialised.
    """
    target = Path(path)
    if _needs_external_data(model):
        return _save_with_data(model, target)
    data = to_bytes(model)
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)
    return len(data)


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """Return the model as a new ModelProto (external data stays a reference).

    Raises:
        ModelError: The model cannot be serialised.
    """
    try:
        proto = ir.to_proto(model)
    except (ValueError, TypeError, ir.serde.SerdeError, OSError) as error:
        raise ModelError(f"cannot serialise the model: {_first_line(error)}") from error
    _tidy_initializers(proto.graph)
    return proto


def to_bytes(model: ir.Model) -> bytes:
    """Return the model as serialised bytes with its weights inside.

    Raises:
        ModelError: The model cannot be serialised, for instance because it exceeds 2 GiB.
    """
    if _needs_external_data(model):
        model = ir.external_data.load_to_model(model.clone())
    proto = to_proto(model)
    try:
        data: bytes = proto.SerializeToString()
    except (ValueError, EncodeError) as error:
        raise ModelError(f"cannot serialise the model with its weights inside: {_first_line(error)}") from error
    return data


def weight_bytes(model: ir.Model, *, external: bool = False) -> int:
    """Return the size of all initializers of every scope in bytes, or of those alone that are external data."""
    tensors = (value.const_value for graph in model.graphs() for value in graph.initializers.values())
    wanted = ir.ExternalTensor if external else object
    return sum(tensor.nbytes for tensor in tensors if tensor is not None and isinstance(tensor, wanted))


def check(model: ir.Model) -> None:
    """Run onnx's checker with full shape inference over a model.

    Raises:
        ModelError: The checker refuses the model.
    """
    try:
        check_proto(to_proto(model), full=True)
    except CHECKER_ERRORS as error:
        raise ModelError(f"onnx.checker refuses the model: {_first_line(error)}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelFileError(f"model file not found: {path}; check the path") from error
    except IsADirectoryError as error:
        raise ModelFileError(f"{path} is a folder; expected an .onnx file") from error
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}; check its permissions") from error


def _parse(data: bytes, label: str) -> onnx.ModelProto:
    if not data:
        raise ModelFileError(f"{label} is empty; expected an ONNX model")
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except (DecodeError, ValueError) as error:
        raise ModelFileError(f"{label} is not an ONNX model, or is truncated; export or copy it again") from error
    return proto


def _from_proto(proto: onnx.ModelProto, label: str, path: Path | None) -> ir.Model:
    # Arbitrary bytes can parse as a protobuf message with nothing in it that a model needs.
    if proto.ir_version <= 0 or not proto.graph.output:
        raise ModelFileError(f"{label} is not an ONNX model: it has no IR version or no graph output; export it again")
    damaged = _undecodable_field(proto)
    if damaged:
        raise ModelFileError(f"{label} is damaged: {damaged} is not UTF-8 text; export or copy it again")
    try:
        check_proto(proto, path)
    except CHECKER_ERRORS as error:
        raise ModelFileError(f"{label} is not a valid ONNX model: {_first_line(error)}") from error
    try:
        model = ir.from_proto(proto)
    except (ValueError, TypeError, KeyError, NotImplementedError, ir.serde.SerdeError) as error:
        raise ModelFileError(f"{label} cannot be read as an ONNX graph: {_first_line(error)}") from error
    if path is not None:
        ir.external_data.set_base_dir(model.graph, path.resolve().parent)
    _check_external_data(model, label)
    return model


def _check_external_data(model: ir.Model, label: str) -> None:
    # onnx.checker looks whether the file exists, not whether it is all there.
    for graph in model.graphs():
        for tensor in (value.const_value for value in graph.initializers.values()):
            if isinstance(tensor, ir.ExternalTensor):
                if not os.path.isfile(tensor.path):
                    raise ModelFileError(
                        f"{label}: the data of {tensor.name!r} are not at {tensor.path}; copy them there"
                    )
                end, size = (tensor.offset or 0) + tensor.nbytes, os.path.getsize(tensor.path)
                if size < end:
                    raise ModelFileError(
                        f"{label}: the data of {tensor.name!r} end at byte {end:,} of {tensor.path}, which has {size:,}; "
                        "copy the file again"
                    )


def _undecodable_field(message: Message) -> str:
    """Name a text field that holds no text, or return an empty string: protobuf hands such a field out as bytes."""
    if isinstance(message, onnx.TensorProto):
        name: object = message.name  # walking all fields would copy the data
        return "TensorProto.name" if isinstance(name, bytes) else ""
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for item in (value,) if isinstance(value, Message) else value:
                found = _undecodable_field(item)
                if found:
                    return found
        elif field.type == FieldDescriptor.TYPE_STRING:
            items = (value,) if isinstance(value, str | bytes) else value
            if any(isinstance(item, bytes) for item in items):
                return str(field.full_name).removeprefix("onnx.")
    return ""


def _needs_external_data(model: ir.Model) -> bool:
    return weight_bytes(model) > EMBED_LIMIT_BYTES or weight_bytes(model, external=True) > 0


def _save_with_data(model: ir.Model, target: Path) -> int:
    # Both files are finished in a folder of their own, then moved, data first: a reader that finds the new model finds
    # its weights. The model may be mapped from the very file that is replaced; a replaced file stays mapped.
    data_name = f"{target.name}.data"
    with atomic_path(target) as temporary, tempfile.TemporaryDirectory(dir=target.parent) as folder:
        try:
            ir.save(model, Path(folder) / target.name, external_data=data_name)
        except (ValueError, TypeError, ir.serde.SerdeError) as error:
            raise ModelError(f"cannot serialise the model: {_first_line(error)}") from error
        proto = onnx.ModelProto.FromString((Path(folder) / target.name).read_bytes())
        _tidy_initializers(proto.graph)
        written = temporary.write_bytes(proto.SerializeToString())
        data = Path(folder) / data_name
        if data.exists():
            written += data.stat().st_size
            os.replace(data, target.with_name(data_name))
    return written


def _tidy_initializers(graph: onnx.GraphProto) -> None:
    # onnx-ir repeats what every initializer states itself: its type and shape as a value_info, its metadata once more.
    for tensor in graph.initializer:
        for place in reversed(range(len(tensor.metadata_props))):
            if tensor.metadata_props[place] in tensor.metadata_props[:place]:
                del tensor.metadata_props[place]
    names = {tensor.name for tensor in graph.initializer}
    kept = [info for info in graph.value_info if info.name not in names or info.doc_string or info.metadata_props]
    if len(kept) < len(graph.value_info):
        del graph.value_info[:]
        graph.value_info.extend(kept)
    for node in graph.node:
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs) if attribute.type in _GRAPH_ATTRIBUTES else ():
                _tidy_initializers(body)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
