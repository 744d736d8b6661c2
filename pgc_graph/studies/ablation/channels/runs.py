"""What follows from changing each channel of one tensor: the form that each tensor below it is known in."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pgc_graph.analysis.channels import channel_axis
from pgc_graph.analysis.interface import dimensions
from pgc_graph.errors import UnsupportedError
from pgc_graph.studies.ablation.channels.forms import Delta, Dense, Few, Form, Part, Scaled
from pgc_graph.studies.ablation.channels.sheet import Sheet

__all__ = ["ChannelRuns"]


class ChannelRuns:
    """What follows from changing each channel of one tensor, form by form."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.forms: dict[ir.Value, Form] = {}
        self._dense: dict[ir.Value, ir.Value] = {}
        shape, axis = dimensions(sheet.gate), channel_axis(sheet.gate)
        if shape is None or axis is None or shape[axis] is None:
            raise UnsupportedError(f"tensor {sheet.gate.name!r} has no known number of channels")
        self.count = int(shape[axis] or 0)
        changed = sheet.changes.changed(0, sheet.gate)
        changed.type, changed.shape = sheet.gate.type, sheet.gate.shape
        few = Few((Part(0, changed),))
        self.forms[sheet.gate] = few if axis == 1 else Dense(self._with_channel(sheet.gate, changed, axis, 0))

    def few(self, value: ir.Value) -> Few | None:
        """Return the form of a tensor of which few channels change, or None."""
        form = self.forms.get(value)
        return form if isinstance(form, Few) else None

    def whole(self, value: ir.Value) -> ir.Value | None:
        """Return the changed tensor `(1, C, ...)` where it is the gate's channels that change, each in its place."""
        few, shape = self.few(value), dimensions(value)
        if few is None or len(few.parts) != 1 or few.parts[0].first or shape is None or shape[1] != self.count:
            return None
        return few.parts[0].values

    def dense(self, value: ir.Value) -> ir.Value:
        """Return a tensor with a row for each channel of the chunk; what nothing changes has one row."""
        if value not in self._dense:
            self._dense[value] = self._densified(value, self.forms.get(value))
        return self._dense[value]

    def change(self, value: ir.Value, part: Part) -> ir.Value:
        """Return `(B, 1, ...)`: the changed channel minus the unchanged one."""
        sheet, shape = self.sheet, dimensions(value) or ()
        base = value
        if shape[1] != self.count:
            ends = [sheet.integers(part.first), sheet.integers(part.first + self.count), sheet.integers(1)]
            base = sheet.front("Slice", [value, *ends], f"{value.name}_part", like=part.values)
        change = sheet.front("Sub", [part.values, base], f"{value.name}_change", like=part.values)
        return sheet.pick(change, len(shape))

    def _densified(self, value: ir.Value, form: Form | None) -> ir.Value:
        if form is None:
            return value
        if isinstance(form, Dense):
            return form.value
        if isinstance(form, Delta):
            return self.sheet.add("Add", [value, form.change], f"{value.name}_changed")
        if isinstance(form, Scaled):
            source = form.source if form.few is None else self._merged(form.source, form.few)
            return self.sheet.add("Mul", [source, form.factor], f"{value.name}_rescaled")
        return self._merged(value, form)

    def _merged(self, value: ir.Value, few: Few) -> ir.Value:
        for part in few.parts:
            value = self._with_channel(value, part.values, 1, part.first, merged=value)
        return value

    def _with_channel(
        self, value: ir.Value, values: ir.Value, axis: int, first: int, merged: ir.Value | None = None
    ) -> ir.Value:
        """Return a tensor with one of its channels replaced: `(B, ...)`."""
        sheet = self.sheet
        shape = dimensions(value) or dimensions(values) or ()
        total = shape[axis]
        rank = len(shape)
        places = np.arange(int(total or 0), dtype=np.int64) - first
        index = sheet.constant(places.reshape([-1 if at == axis else 1 for at in range(rank)]), "channel_numbers")
        rows = sheet.reshape(sheet.channels, [-1, *[1] * (rank - 1)], "channel_rows")
        mask = sheet.add("Equal", [index, rows], f"{value.name}_is_changed")
        picked = values
        if dimensions(values) != shape:
            picked = sheet.pick(values, rank)
        result = sheet.add("Where", [mask, picked, merged or value], f"{value.name}_merged")
        result.type, result.shape = value.type, ir.Shape(["items", *shape[1:]])
        return result
