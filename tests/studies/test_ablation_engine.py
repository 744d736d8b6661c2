"""How the planned engine runs: what it is given at once, what a plan holds once for all its copies, and the self-check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from calibrated import calibrated_pgc, smooth_images
from pgc_graph import modelio
from pgc_graph.analysis.targets import Target, TargetQuery, find_targets, select_targets
from pgc_graph.images import ImageBatch
from pgc_graph.runtime.session import RuntimeOptions
from pgc_graph.studies.ablation import ablate_batches
from pgc_graph.studies.ablation.intervention import Intervention
from pgc_graph.studies.ablation.prepare import Choice, choose_runner, prepare
from pgc_graph.studies.ablation.scores import Scores, Wanted
from pgc_graph.studies.ablation.workers import Job, in_order
from reference.plain_ablation import plain_ablation

CPU = RuntimeOptions(provider="cpu")


def choose(model: ir.Model, targets: Sequence[Target], images: NDArray[np.float32]) -> Choice:
    return choose_runner(prepare(model, targets, Intervention(), CPU), images, Wanted())


def sigmoid_mul(model: ir.Model) -> tuple[Target, ...]:
    return select_targets(find_targets(model), TargetQuery())


def job(first: int, count: int) -> Job:
    """Images whose first pixel counts up."""
    images = np.zeros((count, 3, 2, 2), np.float32)
    images[:, 0, 0, 0] = np.arange(first, first + count)
    paths = tuple(Path(f"{index}.png") for index in range(first, first + count))
    return Job(ImageBatch(paths, images, ()), Wanted(positions=np.arange(first, first + count, dtype=np.int64)))


@pytest.mark.parametrize("rows", [1, 3, 8, 100])
@pytest.mark.parametrize("workers", [1, 3])
def test_jobs_are_cut_into_calls_and_come_back_whole_and_in_order(rows: int, workers: int) -> None:
    calls: list[int] = []

    def run(images: NDArray[np.float32], wanted: Wanted) -> Scores:
        calls.append(len(images))
        seen = images[:, 0, 0, 0].astype(np.float64)
        np.testing.assert_array_equal(wanted.positions, seen)
        return Scores(seen, np.stack([seen, 2 * seen]), None, None, np.zeros(len(seen), np.int64))

    jobs = [job(0, 7), job(7, 0), job(7, 8), job(15, 1)]
    found = list(in_order(run, jobs, workers, rows))
    assert [item for item, _ in found] == jobs
    assert found[1][1] is None
    kept = [scores for _, scores in found if scores is not None]
    np.testing.assert_array_equal(np.concatenate([scores.baseline for scores in kept]), np.arange(16))
    np.testing.assert_array_equal(np.concatenate([scores.ablated for scores in kept], axis=1)[1], 2 * np.arange(16))
    assert max(calls) <= rows
    assert len(calls) == sum(-(-count // rows) for count in (7, 8, 1))


def test_no_more_jobs_are_read_than_the_workers_need() -> None:
    read: list[int] = []

    def jobs() -> list[Job]:
        for index in range(50):
            read.append(index)
            yield job(4 * index, 4)

    def run(images: NDArray[np.float32], wanted: Wanted) -> Scores:
        seen = images[:, 0, 0, 0].astype(np.float64)
        return Scores(seen, seen[None], None, None, np.zeros(len(seen), np.int64))

    ahead = [len(read) - done for done, _ in enumerate(in_order(run, jobs(), workers=2, rows=2))]
    assert max(ahead) <= 4


@pytest.mark.parametrize(("variant", "rows"), [("l", 8), ("s", 16)])
def test_calls_are_as_large_as_the_largest_tensor_allows(variant: str, rows: int) -> None:
    model = calibrated_pgc(variant)
    choice = choose(model, sigmoid_mul(model), smooth_images(3))
    assert choice.report.method == "planned"
    assert choice.rows == rows


def test_batchnorm_is_folded_once_and_copies_share_their_weights() -> None:
    model = calibrated_pgc("s")
    assert any(node.op_type == "BatchNormalization" for node in model.graph)
    (plan,) = choose(model, sigmoid_mul(model), smooth_images(3)).plans
    operators = [node.op_type for node in plan.model.graph]
    assert "BatchNormalization" not in operators
    weights = {str(node.inputs[1].name) for node in plan.model.graph if node.op_type == "Conv" and node.inputs[1]}
    assert len(weights) == sum(node.op_type == "Conv" for node in model.graph) < operators.count("Conv")


def test_tensor_between_convolution_and_batchnorm_is_planned_and_equals_plain_loop() -> None:
    model = calibrated_pgc("s")
    targets = select_targets(find_targets(model), TargetQuery(op_types=("Conv", "Mul"), include_all=True))
    images = smooth_images(5)
    choice = choose(model, targets, images)
    assert choice.report.method == "planned"
    seen: list[Scores] = []
    batch = ImageBatch(tuple(Path(f"{index}") for index in range(5)), images, ())
    ablate_batches(model, [batch], targets, runtime=CPU, on_batch=lambda _, scores: seen.append(scores))
    plain = plain_ablation(modelio.to_proto(model), images, [target.tensor for target in targets])
    np.testing.assert_allclose(seen[0].ablated, plain.ablated, atol=1e-5)


@pytest.mark.parametrize("rows", ["n", "1", "2"])
def test_constant_that_a_concat_reads_has_as_many_rows_as_there_are_images(rows: str) -> None:
    """The shape that the graph states for the constant may be right, or that of an export with one image, or wrong."""
    text = f"""
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[n, 3, 4, 4] x) => (float[n, 1] prob)
        <float[{rows}, 3, 4, 4] joined, float[1, 6] w = {{1, -2, 3, 0.5, -1, 2}}>
        {{
            s = Sigmoid(x)
            g = Mul(x, s)
            joined = Neg(g)
            both = Concat<axis=1>(joined, x)
            m = GlobalAveragePool(both)
            flat = Flatten(m)
            z = Gemm<transB=1>(flat, w)
            prob = Sigmoid(z)
        }}"""
    model = modelio.load(onnx.parser.parse_model(text))
    images = np.random.default_rng(0).random((5, 3, 4, 4), np.float32)
    seen: list[Scores] = []
    batch = ImageBatch(tuple(Path(f"{index}") for index in range(5)), images, ())
    targets = select_targets(find_targets(model), TargetQuery(regexes=("^g$",)))
    ablate_batches(model, [batch], targets, runtime=CPU, on_batch=lambda _, scores: seen.append(scores))
    plain = plain_ablation(modelio.to_proto(model), images, ["g"])
    np.testing.assert_allclose(seen[0].ablated, plain.ablated, atol=1e-6)


@pytest.mark.parametrize("gate", [0, 1])
def test_self_check_sees_a_plan_that_is_wrong_for_one_gate_of_either_half(gate: int) -> None:
    """Gates are checked on the first image and on the last in turns."""
    from pgc_graph.studies.ablation.selfcheck import compare, start_check

    def scores(images: NDArray[np.float32], gates: Sequence[int], wrong: float = 0.0) -> Scores:
        seen = images.mean(axis=(1, 2, 3)).astype(np.float64)
        ablated = np.stack([seen * (index + 2) + (wrong if index == gate else 0) for index in gates])
        return Scores(seen, ablated, None, None, np.zeros(len(seen), np.int64))

    images = smooth_images(4)
    check = start_check(lambda gates, _: lambda some, wanted: scores(some, gates), 2, images, Wanted())
    right, allowed = compare(check, lambda some, wanted: scores(some, (0, 1)), ir.DataType.FLOAT)
    assert right <= allowed
    wrong, allowed = compare(check, lambda some, wanted: scores(some, (0, 1), wrong=0.1), ir.DataType.FLOAT)
    assert wrong > allowed
