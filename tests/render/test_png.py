"""Pictures come back from Pillow's own PNG reader as they were."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pgc_graph.render.png import encode_png


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1), (40, 33)])
@pytest.mark.parametrize("flat", [False, True], ids=["noise", "flat"])
def test_round_trip(height: int, width: int, flat: bool) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (height, width, 3)).astype(np.uint8)
    pixels = np.full_like(pixels, 250) if flat else pixels
    data = encode_png(Image.fromarray(pixels))
    assert data == encode_png(Image.fromarray(pixels))
    with Image.open(io.BytesIO(data)) as picture:
        picture.verify()
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(picture), pixels)
