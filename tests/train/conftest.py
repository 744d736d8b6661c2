"""Tiny labelled crops for the trainer's tests: bright upright bars are pointing, flat ones are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pgc_graph.build.spec import ModelSpec


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw_crops(root: Path, *, groups: int = 6, each: int = 2, seed: int = 0, size: int = 40) -> Path:
    """Write `groups * each` crops of both classes below a folder."""
    generator = np.random.default_rng(seed)
    for label in ("pointing", "not_pointing"):
        (root / label).mkdir(parents=True, exist_ok=True)
        for group in range(groups):
            for index in range(each):
                image = generator.integers(0, 80, (size, size, 3), dtype=np.uint8)
                start = int(generator.integers(8, size - 16))
                if label == "pointing":
                    image[:, start : start + 6] = 230
                else:
                    image[start : start + 6] = 230
                Image.fromarray(image).save(root / label / f"g{group:02d}_{index}.png")
    return root


@pytest.fixture(scope="session")
def crops_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_crops(tmp_path_factory.mktemp("crops") / "bars")


@pytest.fixture
def tiny_spec() -> ModelSpec:
    return ModelSpec(base_channels=8, num_blocks=2, dropout=0.3)
