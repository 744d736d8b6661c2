"""Files that name channels: one row a channel, `tensor`, `channel` and, where it has one, `score`.

CSV with a header line, or JSON: a list of such objects, or an object with such a list under `channels`. Further columns and
keys are ignored.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pgc_graph.errors import OptionError

__all__ = ["read_channels"]


def read_channels(path: Path) -> dict[str, dict[int, float | None]]:
    """Read which channels a file names, with their scores.

    Args:
        path: A `.csv` or `.json` file.

    Returns:
        The score by tensor and channel, None where a row has none.

    Raises:
        OptionError: The file cannot be read, is neither, or a row lacks its tensor or its channel.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"cannot read {path}: {error}; expected a .csv or .json file of channels") from error
    rows = _json_rows(text, path) if path.suffix.lower() == ".json" else _csv_rows(text, path)
    found: dict[str, dict[int, float | None]] = {}
    for number, row in enumerate(rows, 1):
        tensor, channel, score = _parsed(row, f"row {number} of {path}")
        if channel in found.setdefault(tensor, {}):
            raise OptionError(f"row {number} of {path} names channel {channel} of {tensor!r} again; expected it once")
        found[tensor][channel] = score
    return found


def _csv_rows(text: str, path: Path) -> Iterable[Mapping[str, Any]]:
    reader = csv.DictReader(io.StringIO(text))
    if not {"tensor", "channel"} <= set(reader.fieldnames or ()):
        raise OptionError(f"{path} has no columns tensor and channel; expected them, and score, in its first line")
    return reader


def _json_rows(text: str, path: Path) -> Iterable[Mapping[str, Any]]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise OptionError(f"{path} is not JSON: {error}; expected a list of tensor, channel and score") from error
    rows = data.get("channels") if isinstance(data, dict) else data
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise OptionError(f"{path} holds no list of channels; expected objects with tensor, channel and score")
    return rows


def _parsed(row: Mapping[str, Any], where: str) -> tuple[str, int, float | None]:
    tensor, channel, score = row.get("tensor"), row.get("channel"), row.get("score")
    if not isinstance(tensor, str) or not tensor:
        raise OptionError(f"{where} has no tensor; expected the name of one")
    number = str(channel).strip()
    if isinstance(channel, bool) or not number.isdecimal():
        raise OptionError(f"{where} has channel {channel!r}; expected a number from 0")
    if score is None or score == "":
        return tensor, int(number), None
    try:
        value = float(score)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{where} has score {score!r}; expected a number") from error
    if not math.isfinite(value):
        raise OptionError(f"{where} has score {score!r}; expected a finite number")
    return tensor, int(number), value
