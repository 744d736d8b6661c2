"""ablate on every kind of source and every kind of input (uint8, float16, NHWC, one image a run) against the plain loop."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from calibrated import calibrated_pgc
from pgc_graph import modelio
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.errors import OptionError
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.sources import ImageSource, image_folder, image_list, npz_images, parquet_images
from pgc_graph.studies.ablation import AblationResult, Intervention, Measure, ablate
from pgc_graph.studies.ablation.explain import explain_ablation
from pgc_graph.studies.ablation.measure import OwnLabels
from pgc_graph.studies.ablation.scores import Scores
from reference.plain_ablation import plain_ablation

COUNT = 7
LABELS = ("0", "1")
NUMBERS = {"float": 1, "float16": 10, "double": 11}  # of element types in ONNX


def pictures() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 3), np.uint8)


def encoded(picture: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG")
    return stream.getvalue()


def label(index: int) -> str:
    return LABELS[index % 3 // 2]


def folder(root: Path) -> ImageSource:
    for index, picture in enumerate(pictures()):
        path = root / f"{index}" / label(index) / "image.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(encoded(picture))
    return image_folder(root)


def listed(root: Path) -> ImageSource:
    found = folder(root)
    (root / "list.txt").write_text("\n".join(path.relative_to(root).as_posix() for path in found.paths()))
    return image_list(root / "list.txt")


def parquet(root: Path) -> ImageSource:
    columns = {
        "image_path": ["same.png"] * COUNT,
        "image_bytes": [encoded(picture) for picture in pictures()],
        "label": [label(index) for index in range(COUNT)],
    }
    pq.write_table(pa.table(columns), root / "a.parquet", row_group_size=3)
    return parquet_images(root / "a.parquet")


def npz(root: Path) -> ImageSource:
    np.savez(root / "a.npz", images=pictures(), labels=np.array([int(label(index)) for index in range(COUNT)]))
    return npz_images(root / "a.npz")


SOURCES: dict[str, Callable[[Path], ImageSource]] = {
    "folder": folder,
    "list": listed,
    "parquet": parquet,
    "npz": npz,
}


def graph(kind: str, batch: str, layout: str) -> ir.Model:
    """Write a classifier of 4x4 images; of uint8 it takes pixels and scales them itself."""
    shape = "4, 4, 3" if layout == "NHWC" else "3, 4, 4"
    first = "Transpose <perm = [0, 3, 1, 2]> (x)" if layout == "NHWC" else "Identity (x)"
    scale = 255.0 if kind == "uint8" else 1.0
    work = "float" if kind == "uint8" else kind
    text = f"""<ir_version: 8, opset_import: ["": 17]>
    agraph ({kind}[{batch}, {shape}] x) => ({work}[{batch}, 1] prob)
    <int64[1] one = {{1}}, float[1, 3, 1, 1] factors = {{0.5, -1.5, 2.0}}, float whole = {{{scale}}}> {{
        nchw = {first}
        cast = Cast <to = {NUMBERS[work]}> (nchw)
        divisor = CastLike (whole, cast)  scaled = Div (cast, divisor)
        scale = CastLike (factors, cast)
        p = Mul (scaled, scale)  q = Sigmoid (p)  last = Add (q, scaled)
        row = ReduceMean <axes = [2, 3], keepdims = 0> (last)
        sums = ReduceSum <keepdims = 1> (row, one)  prob = Sigmoid (sums)
    }}"""
    return modelio.load(onnx.parser.parse_model(text))


def fed(kind: str, layout: str) -> NDArray[np.float32]:
    images = pictures().astype(np.float32) / (1 if kind == "uint8" else np.float32(255))
    return images if layout == "NHWC" else images.transpose(0, 3, 1, 2)


def check(model: ir.Model, source: ImageSource, images: NDArray[np.float32], tolerance: float = 1e-5) -> AblationResult:
    """Ablate in batches of 3, compare every score with the plain loop's, and return the result."""
    seen: list[Scores] = []
    targets = select_targets(find_targets(model), TargetQuery(regexes=("^(p|q|last)$",)))
    result = ablate(
        model,
        source,
        targets,
        measure=Measure(labels=OwnLabels(source.labels())),
        runtime=RuntimeOptions(provider="cpu"),
        batch_size=3,
        on_batch=lambda batch, scores: seen.append(scores),
    )
    plain = plain_ablation(modelio.to_proto(model), images, [target.tensor for target in targets])
    close = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(np.concatenate([s.baseline for s in seen]), plain.baseline, **close)
    np.testing.assert_allclose(np.concatenate([s.ablated for s in seen], axis=1), plain.ablated, **close)
    assert np.ptp(plain.baseline) > 0.01
    return result


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize(
    ("kind", "batch", "layout"),
    [
        ("float", "n", "NCHW"),
        ("float", "1", "NHWC"),
        ("uint8", "n", "NHWC"),
        ("uint8", "1", "NCHW"),
        ("float16", "n", "NHWC"),
        ("float16", "1", "NCHW"),
        ("double", "2", "NCHW"),
    ],
)
def test_every_source_and_input_equals_plain_loop(
    source: Callable[[Path], ImageSource], kind: str, batch: str, layout: str, tmp_path: Path
) -> None:
    tolerance = 4e-3 if kind == "float16" else 1e-5
    result = check(graph(kind, batch, layout), source(tmp_path), fed(kind, layout), tolerance)
    assert result.engine.method == "planned"
    assert [(part.label, part.images) for part in result.labels] == [("0", 5), ("1", 2)]
    assert result.quality is not None
    assert result.quality.count == COUNT


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_floats_of_an_npz_are_fed_as_they_are(layout: str, tmp_path: Path) -> None:
    images = np.random.default_rng(1).normal(size=(5, 3, 4, 4)).astype(np.float32)
    np.savez(tmp_path / "a.npz", images=images)
    given = images if layout == "NCHW" else images.transpose(0, 2, 3, 1)
    check(graph("float", "n", layout), npz_images(tmp_path / "a.npz"), given)


def test_batch_dependent_uint8_graph_is_noticed_though_images_come_one_by_one(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> agraph (uint8[n, 3, 4, 4] x) => (float[n, 1] prob)
    <int64[1] one = {1}> {
        f = Cast <to = 1> (x)  p = Relu (f)  m = ReduceMean <axes = [0]> (p)  last = Sub (p, m)
        row = ReduceMean <axes = [2, 3], keepdims = 0> (last)
        sums = ReduceSum <keepdims = 1> (row, one)  prob = Sigmoid (sums)
    }"""
    model = modelio.load(onnx.parser.parse_model(text))
    targets = select_targets(find_targets(model), TargetQuery(regexes=("^p$",)))
    assert ablate(model, npz(tmp_path), targets, batch_size=1).engine.method == "plain"
    assert explain_ablation(model, targets).engine.method == "plain"


def test_mean_and_std_have_no_meaning_for_uint8() -> None:
    model = graph("uint8", "n", "NCHW")
    model.metadata_props["pgc.mean"] = "0.5,0.5,0.5"
    with pytest.raises(OptionError, match="no meaning for uint8 input"):
        ablate(model, [], select_targets(find_targets(model), TargetQuery(regexes=("^p$",))))


@pytest.mark.parametrize("mode", ["mean", "resample", "noise"])
def test_every_source_has_the_same_images_twice(mode: str, tmp_path: Path) -> None:
    model = graph("float", "n", "NCHW")
    targets = select_targets(find_targets(model), TargetQuery(regexes=("^(p|q)$",)))
    found = []
    for name, make in SOURCES.items():
        (tmp_path / name).mkdir()
        source = make(tmp_path / name)
        if mode != "resample" or name != "parquet":  # whose rows are all called alike here: nobody is their own donor
            found.append(ablate(model, source, targets, intervention=Intervention(mode, seed=3)).gates)
    assert all(gates == found[0] for gates in found)


def test_unreadable_images_keep_their_position(tmp_path: Path) -> None:
    source = folder(tmp_path)
    model = graph("float", "n", "NCHW")
    targets = select_targets(find_targets(model), TargetQuery(regexes=("^p$",)))
    paths = list(source.paths())
    paths[3].write_bytes(b"no image")
    seen: list[int] = []
    result = ablate(
        model,
        source,
        targets,
        batch_size=2,
        on_batch=lambda batch, scores: seen.extend([] if batch.positions is None else batch.positions.tolist()),
    )
    assert seen == [0, 1, 2, 4, 5, 6]
    assert (result.image_count, result.skipped_count) == (COUNT - 1, 1)
    assert [image.path for image in result.images] == [*paths[:3], *paths[4:]]


def test_pgc_on_a_folder_equals_pgc_on_its_parquet_file(tmp_path: Path) -> None:
    model = calibrated_pgc("s")
    targets = select_targets(find_targets(model), TargetQuery(limit=3))
    (tmp_path / "folder").mkdir()
    one, other = (ablate(model, source, targets) for source in (folder(tmp_path / "folder"), parquet(tmp_path)))
    assert one.gates == other.gates
