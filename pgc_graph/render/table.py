"""Results as aligned plain text: the same on a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pgc_graph.analysis.macs import MacCount
from pgc_graph.analysis.summary import ModelSummary, ParameterCount, TensorInfo
from pgc_graph.analysis.targets import Target

__all__ = ["align", "summary_table"]

_SHOWN_UNCOUNTED = 10


def align(rows: Iterable[Sequence[str]], *, right: Sequence[int] = (), gap: str = "  ") -> list[str]:
    """Pad the cells of rows to columns.

    Args:
        rows: Rows of cells; a row may be shorter than others.
        right: Columns, from 0, that hold numbers and align to the right.
        gap: What stands between columns.

    Returns:
        One line a row, without trailing blanks.
    """
    table = [list(row) for row in rows]
    count = max(map(len, table), default=0)
    widths = [max((len(row[column]) for row in table if column < len(row)), default=0) for column in range(count)]
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append(gap.join(cells).rstrip())
    return lines


def summary_table(summary: ModelSummary) -> str:
    """Write a model's summary as text in sections."""
    sections = [
        _head(summary),
        _section("inputs", [_tensor_row(info) for info in summary.inputs]),
        _section("outputs", [_tensor_row(info) for info in summary.outputs]),
        _section(f"nodes: {summary.nodes}", [(name, f"{count:,}") for name, count in summary.operators.items()], (1,)),
        _section("functions", [(name,) for name in summary.functions]),
        _section("metadata", [(key, " ".join(value.split())) for key, value in sorted(summary.metadata.items())]),
        _section(f"Sigmoid→Mul tensors: {len(summary.sigmoid_mul)}", [_target_row(t) for t in summary.sigmoid_mul]),
        _uncounted(summary.macs),
    ]
    return "\n\n".join(section for section in sections if section)


def _head(summary: ModelSummary) -> str:
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in summary.opset_imports.items())
    rows = [("opset", opsets), ("IR version", str(summary.ir_version)), ("producer", summary.producer or "not stated")]
    if summary.file_bytes is not None:
        beside = f" and {summary.external_bytes:,} bytes of weights beside it" if summary.external_bytes else ""
        rows.append(("file", f"{summary.file_bytes:,} bytes{beside}"))
    rows += [("parameters", _parameters(summary.parameters)), ("MACs", _macs(summary.macs))]
    return "\n".join(align(rows))


def _parameters(count: ParameterCount) -> str:
    parts = [
        (count.weights, "weights"),
        (count.statistics, "BatchNorm statistics"),
        (count.indices, "for shapes and axes"),
    ]
    shown = ", ".join(f"{number:,} {name}" for number, name in parts if number)
    detail = f": {shown}" if count.elements != count.weights else ""
    return f"{count.elements:,} in {count.tensors} tensors, {count.bytes:,} bytes{detail}"


def _macs(count: MacCount) -> str:
    shapes = ", ".join(f"{name} {_shape(shape)}" for name, shape in count.input_shapes.items())
    parts = ", ".join(f"{name} {macs:,}" for name, macs in count.by_operator.items())
    missing = f"; {len(count.uncounted)} nodes not counted" if count.uncounted else ""
    return f"{count.total:,} for one image" + (f" ({parts})" if parts else "") + f", fed {shapes or 'nothing'}{missing}"


def _uncounted(count: MacCount) -> str:
    nodes = count.uncounted
    rows: list[tuple[str, ...]] = [(node.op_type, node.node, node.reason) for node in nodes[:_SHOWN_UNCOUNTED]]
    if len(nodes) > _SHOWN_UNCOUNTED:
        rows.append((f"... and {len(nodes) - _SHOWN_UNCOUNTED} more (--json lists all)",))
    return _section(f"not counted in MACs: {len(nodes)} (--input-shape may help)", rows)


def _section(title: str, rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    return "\n".join([title, *(f"  {line}" for line in align(rows, right=right))]) if rows else ""


def _tensor_row(info: TensorInfo) -> tuple[str, ...]:
    return info.name, info.dtype, _shape(info.shape), "has a default" if info.has_default else ""


def _target_row(target: Target) -> tuple[str, ...]:
    return target.kind, target.node, target.tensor


def _shape(shape: Sequence[int | str | None] | None) -> str:
    if shape is None:
        return "of unknown rank"
    return "x".join("?" if dim is None else str(dim) for dim in shape) or "scalar"
