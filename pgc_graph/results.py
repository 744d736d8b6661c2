"""Turn any result dataclass into plain data and JSON; one schema version for all of them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

__all__ = ["SCHEMA_VERSION", "to_data", "to_json"]

SCHEMA_VERSION = 1


def to_data(result: Any) -> Any:
    """Turn a result into what JSON can hold: dataclasses become dicts, tuples and arrays lists, paths strings.

    A number that JSON cannot hold (NaN, infinities) becomes None.

    Raises:
        TypeError: The result holds something that has no plain form.
    """
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return {field.name: to_data(getattr(result, field.name)) for field in dataclasses.fields(result)}
    if isinstance(result, Mapping):
        return {str(key): to_data(value) for key, value in result.items()}
    if isinstance(result, np.ndarray):
        return to_data(result.tolist())
    if isinstance(result, np.generic):
        return to_data(result.item())
    if isinstance(result, (list, tuple, set, frozenset)):
        return [to_data(item) for item in result]
    if isinstance(result, float):
        return result if math.isfinite(result) else None
    if result is None or isinstance(result, (bool, int, str)):
        return result
    if isinstance(result, PurePath):
        return str(result)
    raise TypeError(f"a {type(result).__name__} has no plain form; results hold numbers, text, paths and dataclasses")


def to_json(result: Any, **extra: Any) -> str:
    """Write a result as one JSON document with its `schema_version`; `extra` adds keys at the top."""
    data = to_data(result)
    document = {"schema_version": SCHEMA_VERSION, **to_data(extra)}
    document.update(data if isinstance(data, dict) else {"result": data})
    return json.dumps(document, indent=2, ensure_ascii=False)
