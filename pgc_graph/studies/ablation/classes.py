"""Classes by name: which one is scored, and which one each image shows.

The names of a model's classes are its metadata `pgc.labels`, comma-separated, in the order of its output's columns. A
model with one output column has two classes: the column is the probability of class 1.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from pgc_graph.analysis.interface import dimensions, score_output
from pgc_graph.errors import OptionError

__all__ = ["TargetClass", "class_index", "class_names", "folder_labels", "read_labels", "read_target"]


@dataclass(frozen=True)
class TargetClass:
    """The class whose score counts.

    Attributes:
        column: Which column of the output; None for the one that is the largest without gates, image by image.
        negated: Whether it is the other class than the column's: 1 - score, minus the logit.
    """

    column: int | None = None
    negated: bool = False


def class_names(model: ir.Model) -> tuple[str, ...]:
    """Return the names of the model's classes, none if its metadata do not say."""
    names = model.metadata_props.get("pgc.labels", "").split(",")
    return tuple(name.strip() for name in names if name.strip())


def read_target(model: ir.Model, text: str) -> TargetClass:
    """Find the class that is to be scored.

    Args:
        model: The classifier.
        text: `argmax`, the name of a class or its index.

    Raises:
        OptionError: There is no such class.
        UnsupportedError: The model has no score.
    """
    if text == "argmax":
        return TargetClass()
    names = class_names(model)
    index = class_index(text, names)
    if index is None:
        known = f"{', '.join(names)} or an index" if names else "an index (the model's metadata name no classes)"
        raise OptionError(f"there is no class {text!r}; expected argmax, {known}")
    shape = dimensions(score_output(model)) or ()
    single = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
    if not single:
        return TargetClass(index)
    if index > 1:
        raise OptionError(f"there is no class {text!r}: a single output has classes 0 and 1")
    return TargetClass(0, negated=index == 0)


def class_index(label: str, names: Sequence[str]) -> int | None:
    """Return the index of a class by name or by number, or None if it is neither."""
    if label in names:
        return list(names).index(label)
    return int(label) if label.isdecimal() and (not names or int(label) < len(names)) else None


def folder_labels(paths: Sequence[Path]) -> dict[Path, str]:
    """Label images by the names of the folders that they lie in."""
    return {path: path.resolve().parent.name for path in paths}


def read_labels(file: Path, paths: Sequence[Path]) -> dict[Path, str]:
    """Label images by a CSV file with columns `image_path` and `label`.

    Args:
        file: The file; its paths may be absolute, or relative to the file's folder or the current one.
        paths: The images.

    Raises:
        OptionError: The file cannot be read, lacks a column, contradicts itself, or says nothing about an image.
    """
    labels: dict[Path, str] = {}
    for line, (name, label) in enumerate(_rows(file), start=2):
        for path in {(file.parent / name).resolve(), Path(name).resolve()}:
            if labels.setdefault(path, label) != label:
                raise OptionError(f"{file}, line {line}: {name} is {label!r} here and {labels[path]!r} before")
    found = {path: labels.get(path.resolve()) for path in paths}
    missing = [path for path, label in found.items() if label is None]
    if missing:
        raise OptionError(f"{file} has no label for {len(missing)} of {len(paths)} images, first: {missing[0]}")
    return {path: label for path, label in found.items() if label is not None}


def _rows(file: Path) -> list[tuple[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns: Sequence[str] = reader.fieldnames or ()
            if not {"image_path", "label"} <= set(columns):
                shown = ", ".join(columns) or "none"
                raise OptionError(f"{file} has columns {shown}; expected image_path and label in its first line")
            rows: list[Mapping[str, str | None]] = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OptionError(f"cannot read labels from {file}: {error}; expected a CSV file") from error
    for line, row in enumerate(rows, start=2):
        if not row["image_path"] or not row["label"]:
            raise OptionError(f"{file}, line {line}: no image_path or no label; fill it in or remove the line")
    return [(str(row["image_path"]), str(row["label"]).strip()) for row in rows]
