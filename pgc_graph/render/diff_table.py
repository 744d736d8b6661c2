"""What differs between two models, as text."""

from __future__ import annotations

from collections.abc import Sequence

from pgc_graph.analysis.diff import NOT_STATED, Difference, ModelDiff, NodeChange
from pgc_graph.analysis.diff_weights import WeightChange
from pgc_graph.render.table import align

__all__ = ["diff_table"]

_SHOWN_WIDTH = 100


def diff_table(diff: ModelDiff, *, limit: int | None = 40) -> str:
    """Write what differs in sections; an empty text where nothing does.

    Args:
        diff: What differs.
        limit: Most lines a section; None for all.
    """
    sections = [
        _section(title, [_fact(item) for item in items], limit)
        for title, items in (
            ("model", diff.header),
            ("opsets", diff.opsets),
            ("metadata", diff.metadata),
            ("inputs", diff.inputs),
            ("outputs", diff.outputs),
            ("functions", diff.functions),
        )
    ]
    sections.append(_section(_counted("nodes", diff.nodes), [row for item in diff.nodes for row in _node(item)], limit))
    sections.append(_section(_counted("weights", diff.weights), [_weight(item) for item in diff.weights], limit))
    sections += _stated(diff.tensors, limit)
    return "\n\n".join(section for section in sections if section)


def _stated(tensors: Sequence[Difference], limit: int | None) -> list[str]:
    """List where two files contradict each other; what only one of them states is counted, unless all is asked for."""
    one_sided = [item for item in tensors if NOT_STATED in (item.before, item.after)]
    if limit is None or not one_sided:
        return [_section("stated types and shapes", [_fact(item) for item in tensors], limit)]
    conflicts = [_fact(item) for item in tensors if item not in one_sided]
    first = sum(item.after == NOT_STATED for item in one_sided)
    counts = f"{first} only in the first file, {len(one_sided) - first} only in the second (--all lists them)"
    return [_section("stated types and shapes", conflicts, limit), f"types and shapes stated once: {counts}"]


def _counted(title: str, changes: Sequence[NodeChange] | Sequence[WeightChange]) -> str:
    kinds = dict.fromkeys(("added", "removed", "changed", "renamed"), 0)
    for change in changes:
        kinds[change.kind] += 1
    return f"{title}: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)


def _section(title: str, rows: list[tuple[str, ...]], limit: int | None) -> str:
    if not rows:
        return ""
    shown = rows if limit is None else rows[:limit]
    lines = [f"  {line}" for line in align(shown)]
    if len(shown) < len(rows):
        lines.append(f"  ... and {len(rows) - len(shown)} more lines (--all shows them)")
    return "\n".join([title, *lines])


def _fact(item: Difference) -> tuple[str, ...]:
    before, after = ("none" if text is None else _short(text) for text in (item.before, item.after))
    return item.name, f"{before} -> {after}"


def _node(change: NodeChange) -> list[tuple[str, ...]]:
    mark = {"added": "+", "removed": "-", "changed": "*", "renamed": "~"}[change.kind]
    place = f"in {change.scope}: " if change.scope else ""
    name = place + str(change.after if change.before is None else change.before)
    details = [_short(text) for text in change.details] or [""]
    return [(mark, change.operator, name, details[0]), *[("", "", "", text) for text in details[1:]]]


def _weight(change: WeightChange) -> tuple[str, ...]:
    mark = {"added": "+", "removed": "-", "changed": "*", "renamed": "~"}[change.kind]
    place = f"in {change.scope}: " if change.scope else ""
    name = place + str(change.after if change.before is None else change.before)
    if change.before is None or change.after is None:
        return mark, name, str(change.after_type or change.before_type)
    texts = [f"renamed to {change.after}"] if change.before != change.after else []
    if change.before_type != change.after_type:
        texts.append(f"{change.before_type} -> {change.after_type}")
    if change.changed_elements:
        largest = "" if change.max_difference is None else f"max |Δ| = {change.max_difference:.3g}, "
        texts.append(f"{largest}{change.changed_elements:,} of {change.elements:,} elements differ")
    return mark, name, ", ".join(texts)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_WIDTH else line[: _SHOWN_WIDTH - 1] + "…"
