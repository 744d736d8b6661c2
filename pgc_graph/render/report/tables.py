"""Tables that sort and filter: HTML with the exact values beside what is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from pgc_graph.studies.ablation.result import Summary

__all__ = ["Cell", "Column", "broken", "interval_text", "mean", "number", "sortable_table", "text"]


@dataclass(frozen=True)
class Column:
    """A column: its heading and whether it holds numbers."""

    title: str
    is_number: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell: HTML, the value by which it is sorted and exported, and the interval that is exported beside it."""

    html: str
    value: str
    interval: tuple[float, float] | None = None


def text(value: str) -> Cell:
    """Return a cell of plain text."""
    return Cell(escape(value), value)


def number(value: float | None, pattern: str = "{:+.4f}") -> Cell:
    """Return a cell with a number, exact in its value; a dash where there is none.

    Args:
        value: The number.
        pattern: How it is shown.
    """
    if value is None or not math.isfinite(value):
        return Cell('<span class="none">–</span>', "")
    return Cell(escape(pattern.format(value).replace("-", "−")), repr(value))


def mean(summary: Summary) -> Cell:
    """Return a cell with a mean and, in small print, its 95 % interval."""
    cell = number(summary.mean)
    beside = interval_text(summary)
    if not beside or not cell.value:
        return cell
    return Cell(f'{cell.html} <small class="range">{escape(beside)}</small>', cell.value, summary.interval)


def broken(name: str) -> str:
    """Return a name as HTML that may be broken behind slashes and dots."""
    return escape(name).replace("/", "/<wbr>").replace(".", ".<wbr>")


def interval_text(summary: Summary) -> str:
    """Return the 95 % interval of a mean as `[+0.1000, +0.2000]`, or nothing where there is none."""
    low, high = summary.interval
    return f"[{low:+.4f}, {high:+.4f}]".replace("-", "−") if math.isfinite(low) and math.isfinite(high) else ""


def sortable_table(name: str, caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> str:
    """Return a table with a field that filters its rows, headings that sort them, and a CSV button.

    Args:
        name: Unique in the page; part of ids, and the name of the CSV file.
        caption: What the table shows.
        columns: One a column.
        rows: One cell a column each.
    """
    heads = "".join(
        f'<th scope="col" aria-sort="none"{" class=number" if column.is_number else ""}>'
        f'<button type="button" class="sort" data-kind="{"number" if column.is_number else "text"}">'
        f"{escape(column.title)}</button></th>"
        for column in columns
    )
    body = "".join(_row(columns, row) for row in rows)
    tools = (
        f'<div class="tools"><label for="filter-{name}">Filter</label>'
        f'<input type="search" id="filter-{name}" class="filter" data-table="table-{name}" '
        'placeholder="text in any column" autocomplete="off">'
        f'<output id="count-{name}" for="filter-{name}">{len(rows)} of {len(rows)} rows</output>'
        f'<button type="button" class="csv" data-table="table-{name}">CSV</button></div>'
    )
    return (
        f'{tools}<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f'<table id="table-{name}" data-name="{name}" data-count="count-{name}"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(columns: Sequence[Column], row: Sequence[Cell]) -> str:
    cells = "".join(
        f'<td data-value="{escape(cell.value)}"{_ends(cell)}{" class=number" if column.is_number else ""}>{cell.html}</td>'
        for column, cell in zip(columns, row, strict=True)
    )
    return f"<tr>{cells}</tr>"


def _ends(cell: Cell) -> str:
    return "" if cell.interval is None else f' data-low="{cell.interval[0]!r}" data-high="{cell.interval[1]!r}"'
