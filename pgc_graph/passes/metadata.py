"""Write and remove entries of a model's metadata; nothing else of the model is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from pgc_graph.errors import OptionError, SelectionError
from pgc_graph.passes.rewrite import Change, Rewrite, Skip

__all__ = ["set_metadata"]


def set_metadata(model: ir.Model, entries: Mapping[str, str], *, remove: Sequence[str] = ()) -> Rewrite:
    """Set entries of `metadata_props`, and remove others.

    Args:
        model: Stays untouched.
        entries: Value by key; a key that is there already gets the new value in its place.
        remove: Keys to remove.

    Returns:
        The model with one change an entry; skipped are entries that have their value already.

    Raises:
        OptionError: A key is empty, or is both set and removed.
        SelectionError: A key to remove is not there.
    """
    if "" in entries:
        raise OptionError(f"metadata value {entries['']!r} has no key; expected KEY=VALUE")
    changed = model.clone()
    props = changed.metadata_props
    for key in remove:
        if key in entries:
            raise OptionError(f"metadata key {key!r} is both set and removed; choose one")
        if key not in props:
            known = ", ".join(sorted(props)) or "no metadata"
            raise SelectionError(f"the model has no metadata key {key!r} to remove; it has {known}")
    changes, skipped = [], []
    for key in dict.fromkeys(remove):
        changes.append(Change(key, f"removed (was {props.pop(key)!r})"))
    for key, value in entries.items():
        if props.get(key) == value:
            skipped.append(Skip(key, "has this value already"))
            continue
        changes.append(Change(key, f"{props[key]!r} -> {value!r}" if key in props else f"added {value!r}"))
        props[key] = value
    return Rewrite(changed, tuple(changes), tuple(skipped))
