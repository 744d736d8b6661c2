"""Metadata is written and removed; every other byte of the model stays."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from sample_models import rich_model

from pgc_graph import modelio
from pgc_graph.errors import OptionError, SelectionError
from pgc_graph.passes.metadata import set_metadata


def without_metadata(data: bytes) -> onnx.ModelProto:
    proto = onnx.ModelProto.FromString(data)
    del proto.metadata_props[:]
    return proto


@pytest.mark.parametrize("name", ["mnasnet_small", "resnet20_cifar10_dynamo", "rich"])
def test_nothing_else_changes(corpus_model: Any, name: str) -> None:
    model = modelio.load(rich_model() if name == "rich" else corpus_model(name))
    before = modelio.to_bytes(model)
    rewrite = set_metadata(model, {"pgc.image_size": "16x16", "note": "a=b – ü"})
    assert modelio.to_bytes(model) == before
    assert without_metadata(modelio.to_bytes(rewrite.model)) == without_metadata(before)
    assert rewrite.model.metadata_props["note"] == "a=b – ü"
    assert rewrite.model.metadata_props == {**model.metadata_props, "pgc.image_size": "16x16", "note": "a=b – ü"}


def test_entries_are_removed_and_what_is_so_already_is_skipped() -> None:
    rewrite = set_metadata(modelio.load(rich_model()), {"pgc.image_size": "8x8"}, remove=["licence"])
    assert rewrite.model.metadata_props == {"pgc.image_size": "8x8"}
    assert [change.subject for change in rewrite.changes] == ["licence"]
    assert [skip.subject for skip in rewrite.skipped] == ["pgc.image_size"]


@pytest.mark.parametrize(
    ("entries", "remove", "error", "words"),
    [
        ({"": "x"}, [], OptionError, "has no key"),
        ({"a": "x"}, ["a"], OptionError, "'a' is both set and removed"),
        ({}, ["nothing"], SelectionError, "no metadata key 'nothing'"),
    ],
    ids=["empty-key", "both", "missing"],
)
def test_nonsense_is_refused(entries: dict[str, str], remove: list[str], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        set_metadata(modelio.load(rich_model()), entries, remove=remove)
