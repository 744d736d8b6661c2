"""Colour maps as tables of 256 colours; they come from matplotlib, the drawing does not."""

from __future__ import annotations

import matplotlib
import numpy as np
from numpy.typing import NDArray

from pgc_graph.errors import OptionError

__all__ = ["colourise", "lookup_table"]

_ENTRIES = 256


def lookup_table(name: str = "turbo", *, invert: bool = False) -> NDArray[np.uint8]:
    """Sample a colour map (turbo: Mikhailov 2019) at 256 even steps from low to high.

    Args:
        name: A colour map that matplotlib knows.
        invert: Whether the table runs backwards.

    Returns:
        `(256, 3)` uint8 RGB.

    Raises:
        OptionError: matplotlib knows no such colour map.
    """
    if name not in matplotlib.colormaps:
        raise OptionError(
            f"unknown colour map {name!r}; expected turbo, viridis, magma, inferno, jet, gray or another of matplotlib's"
        )
    # matplotlib's own conversion to bytes cuts instead of rounding.
    table = np.rint(255 * matplotlib.colormaps[name](np.linspace(0.0, 1.0, _ENTRIES))[:, :3])
    return np.ascontiguousarray(table[::-1] if invert else table).astype(np.uint8)


def colourise(values: NDArray[np.float32], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colour a map: 0 gets the table's first colour, 1 its last; values outside are clipped.

    Args:
        values: `(h, w)`, in [0, 1].
        table: `(256, 3)` uint8, from `lookup_table`.

    Returns:
        `(h, w, 3)` uint8 RGB.
    """
    steps = np.rint(np.clip(values, 0.0, 1.0) * (_ENTRIES - 1)).astype(np.intp)
    coloured: NDArray[np.uint8] = table[steps]
    return coloured
