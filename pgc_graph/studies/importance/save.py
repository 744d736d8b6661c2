"""Write the scores of channels as a file that `prune --channels` reads: tensor, channel, score."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from pgc_graph.errors import OptionError
from pgc_graph.files import write_text
from pgc_graph.studies.importance.result import ImportanceResult

__all__ = ["check_scores_path", "save_scores"]

_SUFFIXES = (".csv", ".json")


def check_scores_path(path: Path) -> None:
    """See that scores can be written to a file, before time is spent on them.

    Raises:
        OptionError: Its name ends in neither `.csv` nor `.json`, or its folder does not exist.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise OptionError(f"scores file {path} is neither CSV nor JSON; choose a name that ends in .csv or .json")
    if path.is_dir() or not path.parent.is_dir():
        raise OptionError(f"cannot write scores {path}; choose a file in an existing folder")


def save_scores(result: ImportanceResult, path: Path) -> int:
    """Write one row a channel, the least important first: `tensor`, `channel`, `score` and `estimate`.

    The score is the mean of the absolute estimates, so that what matters either way ranks high; `estimate` is the mean with
    its sign.

    Returns:
        The number of rows.

    Raises:
        OptionError: The file cannot be written, or no tensor has known channels.
    """
    check_scores_path(path)
    if not result.channels:
        raise OptionError("no tensor has known channels, so there are no scores to write; choose other tensors")
    rows = [
        {"tensor": item.tensor, "channel": item.channel, "score": item.absolute, "estimate": item.estimate}
        for item in sorted(result.channels, key=lambda item: (item.absolute, item.tensor, item.channel))
    ]
    if path.suffix.lower() == ".json":
        write_text(path, json.dumps({"channels": rows}, indent=1, ensure_ascii=False) + "\n")
        return len(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
    return len(rows)
