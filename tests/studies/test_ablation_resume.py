"""Resumed runs: one that stopped anywhere ends with the same bytes as one that was left in peace."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgc_graph import modelio
from pgc_graph.errors import OptionError
from pgc_graph.images import SkippedImage
from pgc_graph.sources import npz_images
from pgc_graph.studies.ablation import Intervention, Measure, Saving, ablate
from pgc_graph.studies.ablation.measure import OwnLabels
from pgc_graph.studies.ablation.saving.journal import Journal, journal_folder
from pgc_graph.studies.ablation.saving.record import Record
from pgc_graph.studies.ablation.scores import Scores
from saved_runs import (
    COUNT,
    FORMATS,
    MODES,
    NAMES,
    SIZE,
    TEXT,
    after,
    bytes_of,
    images,
    label,
    model,
    run,
    targets,
    write_images,
)


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    return write_images(tmp_path)


# Going on.


@pytest.mark.parametrize("mode", MODES)
def test_run_that_was_stopped_anywhere_ends_with_the_same_bytes(mode: str, npz: Path, tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.csv", tmp_path / "out.csv"
    expected = run(npz, Saving(whole), mode)
    for stops in ((1,), (3, 1), (7,), (8,)):
        for calls in stops:
            stopped = run(npz, Saving(path, resume=True), mode, after(calls))
            assert stopped.interrupted == (calls < 8)
            if stopped.interrupted:
                assert not path.exists()
        done: list[int] = []
        result = run(npz, Saving(path, resume=True), mode, on_resume=done.append)
        assert result == expected
        assert bytes_of(path) == bytes_of(whole)
        if sum(stops) < 8:
            assert 0 < done[0] < COUNT
        path.unlink()


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_ends_with_the_same_bytes(suffix: str, npz: Path, tmp_path: Path) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    run(npz, Saving(whole))
    run(npz, Saving(path), stop=after(4))
    run(npz, Saving(path, resume=True))
    assert bytes_of(path) == bytes_of(whole)


@given(cut=st.integers(0, 4000), junk=st.binary(max_size=40), flip=st.booleans())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_journal_torn_off_anywhere_ends_with_the_same_bytes(
    cut: int, junk: bytes, flip: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    np.savez(folder / "images.npz", images=images(), labels=[label(index) for index in range(COUNT)])
    run(folder / "images.npz", Saving(folder / "whole.csv"))
    run(folder / "images.npz", Saving(folder / "out.csv"), stop=after(5))
    scores = journal_folder(folder / "out.csv") / "scores.bin"
    data = bytearray(scores.read_bytes())[: cut % (scores.stat().st_size + 1)]
    if flip and data:
        data[cut % len(data)] ^= 1
    scores.write_bytes(bytes(data) + junk)
    run(folder / "images.npz", Saving(folder / "out.csv", resume=True))
    assert bytes_of(folder / "out.csv") == bytes_of(folder / "whole.csv")


def test_kept_means_are_not_measured_again(npz: Path, tmp_path: Path) -> None:
    run(npz, Saving(tmp_path / "out.csv"), "mean", after(3))
    path = journal_folder(tmp_path / "out.csv") / "statistics.npz"
    with np.load(path) as arrays:
        kept = {name: arrays[name] + 1 if name.startswith("mean") else arrays[name] for name in arrays.files}
    np.savez(path, **kept)
    resumed = run(npz, Saving(tmp_path / "out.csv", resume=True), "mean")
    fresh = run(npz, Saving(tmp_path / "other.csv"), "mean")
    assert resumed.gates != fresh.gates


def test_nothing_to_go_on_with_begins_anew(npz: Path, tmp_path: Path) -> None:
    run(npz, Saving(tmp_path / "whole.csv"))
    run(npz, Saving(tmp_path / "out.csv", resume=True))
    assert bytes_of(tmp_path / "out.csv") == bytes_of(tmp_path / "whole.csv")


def test_run_that_has_done_nothing_leaves_nothing(npz: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    assert run(npz, Saving(tmp_path / "out.csv"), stop=lambda: True).image_count == 0
    assert sorted(tmp_path.iterdir()) == before


def test_random_stops_many_times(npz: Path, tmp_path: Path) -> None:
    run(npz, Saving(tmp_path / "whole.npz"), "resample")
    chance = random.Random(1)
    path = tmp_path / "out.npz"
    while run(npz, Saving(path, resume=True), "resample", after(chance.randrange(4))).interrupted:
        pass
    assert bytes_of(path) == bytes_of(tmp_path / "whole.npz")


# What is refused.


def test_unfinished_run_is_not_overwritten(npz: Path, tmp_path: Path) -> None:
    run(npz, Saving(tmp_path / "out.csv"), stop=after(3))
    with pytest.raises(OptionError, match=r"unfinished run is in .*out.csv.journal; go on with --resume"):
        run(npz, Saving(tmp_path / "out.csv"))


def test_another_run_is_not_gone_on_with(npz: Path, tmp_path: Path) -> None:
    saving = Saving(tmp_path / "out.csv", resume=True)
    run(npz, saving, "noise", after(3))
    source, rule = npz_images(npz), Measure(labels=OwnLabels(NAMES))

    def again(**changes: Any) -> None:
        options = {"intervention": MODES["noise"], "measure": rule, "batch_size": SIZE} | changes
        changed = options.pop("model", model())
        chosen = options.pop("targets", targets())
        ablate(changed, options.pop("images", source), chosen, saving=saving, **options)

    other = modelio.load(onnx.parser.parse_model(TEXT.replace("5.0", "6.0")))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"model": other}, r"differs in the model \(SHA-256 \w{12}... before, \w{12}... now\);"),
        ({"intervention": Intervention("noise", seed=6)}, r"intervention.seed \(5 before, 6 now\)"),
        ({"intervention": Intervention()}, "intervention.mode .noise before, zero now."),
        ({"batch_size": 5}, "batch_size .4 before, 5 now."),
        ({"targets": targets()[:1]}, "tensors .3 of them before, 1 of them now."),
        ({"measure": Measure("red", rule.labels)}, "target .argmax before, red now."),
        ({"measure": Measure()}, "labels"),
        ({"images": npz_images(npz, limit=9)}, "the images .29 before, 9 now."),
    ]
    for changes, message in cases:
        with pytest.raises(OptionError, match=message):
            again(**changes)
    os.utime(npz, ns=(1, 1))
    with pytest.raises(OptionError, match=r"the images .files changed."):
        again()


def test_header_that_cannot_be_read_is_an_error(npz: Path, tmp_path: Path) -> None:
    run(npz, Saving(tmp_path / "out.csv"), stop=after(3))
    (journal_folder(tmp_path / "out.csv") / "header.json").write_text("{")
    with pytest.raises(OptionError, match=r"cannot read .*header.json"):
        run(npz, Saving(tmp_path / "out.csv", resume=True))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no advisory locks")
def test_two_runs_at_once_are_one_too_many(npz: Path, tmp_path: Path) -> None:
    run(npz, Saving(tmp_path / "out.csv"), stop=after(3))
    journal = Journal(journal_folder(tmp_path / "out.csv"))
    with pytest.raises(OptionError, match="another run is at"):
        run(npz, Saving(tmp_path / "out.csv", resume=True))
    journal.close()
    run(npz, Saving(tmp_path / "out.csv", resume=True))


# Records on disk.


@given(seed=st.integers(0, 1000), parts=st.sets(st.sampled_from(["logit", "truth", "labels", "none"])))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_record_comes_back_as_it_went(seed: int, parts: set[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = np.random.default_rng(seed)
    count, gates = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    logit = (rng.normal(size=count), rng.normal(size=(gates, count))) if "logit" in parts else (None, None)
    judged = [
        rng.integers(0, 9, count),
        rng.integers(0, 9, (gates, count)),
        rng.random(count),
        rng.random((gates, count)),
    ]
    scores = Scores(
        rng.random(count), rng.random((gates, count)), *logit, rng.integers(0, 9, count),
        *(judged if "truth" in parts else [None] * 4),
    )  # fmt: skip
    paths = tuple(Path(os.fsdecode(b"b\xff\xc3\xa4 " + bytes([65 + index]))) for index in range(count))
    record = Record(
        paths,
        ("é",) * count if "labels" in parts else None,
        rng.integers(0, 2**40, count),
        (SkippedImage(Path("x"), "why"),),
        None if "none" in parts else scores,
    )
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder)
    for _ in range(2):
        journal.append(record)
    journal.close()
    again = Journal(folder)
    for found in again.replay():
        assert (found.paths, found.labels, found.skipped) == (record.paths, record.labels, record.skipped)
        np.testing.assert_array_equal(found.positions, record.positions)
        for name, array in vars(scores).items():
            there = None if found.scores is None else getattr(found.scores, name)
            if array is None or "none" in parts:
                assert there is None
            else:
                assert there.dtype == array.dtype
                np.testing.assert_array_equal(there, array)
    again.close()
