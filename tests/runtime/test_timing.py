"""Timing: what is run, how often, in which order, on what; and sums that must come out. Never how fast it is."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from pgc_graph import modelio
from pgc_graph.errors import ModelError, OptionError, UnsupportedError
from pgc_graph.runtime.contestants import prepare
from pgc_graph.runtime.timing import TimingOptions, TimingReport, interleave, time_models

QUICK = TimingOptions("cpu", threads=(1,), runs=7, warmup=2)


def small(body: str = "y = Relu(x)", inputs: str = "float[n, 4] x", outputs: str = "float[n, 4] y") -> ir.Model:
    return modelio.load(
        onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => ({outputs}) {{ {body} }}')
    )


# The order of runs.


def record(count: int, **options: object) -> tuple[list[int], tuple[tuple[float, ...], ...]]:
    order: list[int] = []
    actions = [lambda index=index: order.append(index) for index in range(count)]
    return order, interleave(actions, **{"runs": 6, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_round_runs_every_action_once(count: int) -> None:
    order, times = record(count, warmup=3)
    rounds = [order[start : start + count] for start in range(0, len(order), count)]
    assert len(rounds) == 3 + 6
    assert all(sorted(found) == list(range(count)) for found in rounds)
    assert [len(values) for values in times] == [6] * count
    assert all(value >= 0 for values in times for value in values)


def test_the_order_differs_between_rounds_and_repeats_with_the_seed() -> None:
    order, _ = record(3, runs=40, seed=5)
    rounds = Counter(tuple(order[start : start + 3]) for start in range(0, len(order), 3))
    assert len(rounds) == 6
    assert record(3, runs=40, seed=5)[0] == order
    assert record(3, runs=40, seed=6)[0] != order


def test_times_are_milliseconds_of_their_action() -> None:
    # A sleep may take longer than asked for, never less.
    one, three = interleave([lambda: time.sleep(0.001), lambda: time.sleep(0.003)], runs=3)
    assert min(one) >= 1
    assert min(three) >= 3


def test_a_stop_keeps_whole_rounds() -> None:
    answers = itertools.chain([False] * 4, itertools.repeat(True))
    order, times = record(2, warmup=1, stop=lambda: next(answers))
    assert len(order) == 2 * 4
    assert [len(values) for values in times] == [3, 3]


def test_a_stop_during_warm_up_leaves_nothing() -> None:
    answers = itertools.chain([False], itertools.repeat(True))
    order, times = record(2, warmup=3, stop=lambda: next(answers))
    assert (len(order), times) == (2, ((), ()))


def test_time_up_still_gives_one_round() -> None:
    _, times = record(2, runs=None, seconds=1e-12, warmup=1)
    assert [len(values) for values in times] == [1, 1]


# Reports.


@pytest.fixture(scope="module")
def report() -> TimingReport:
    models = [("a", small()), ("b", small("t = Neg(x) y = Exp(t)")), ("a", small())]
    return time_models(models, TimingOptions("cpu", (1, 2), (1, 5), runs=7, warmup=1, profile=True))


def test_every_setting_has_every_model_in_their_order(report: TimingReport) -> None:
    settings = itertools.product((1, 2), (1, 5), ("a", "b", "a"))
    expected = list(settings)
    assert [(item.threads, item.batch_size, item.model) for item in report.latencies] == expected
    assert [(item.threads, item.batch_size, item.model) for item in report.profiles] == expected
    assert (report.provider, report.interrupted, report.warmup) == ("cpu", False, 1)


def test_statistics_are_ordered_and_ratios_are_against_the_first(report: TimingReport) -> None:
    for start in range(0, len(report.latencies), 3):
        first = report.latencies[start]
        assert first.ratio == 1.0
        for item in report.latencies[start : start + 3]:
            assert item.runs == 7
            assert 0 < item.min <= item.p50 <= item.p90 <= item.p99
            assert item.min <= item.mean
            assert item.ratio == pytest.approx(item.p50 / first.p50)
            assert item.rows_per_second == pytest.approx(1e3 * item.batch_size / item.p50)


def test_profiles_add_up(report: TimingReport) -> None:
    for profile in report.profiles:
        assert profile.runs == 20
        for items in (profile.operators, profile.nodes):
            assert sum(item.milliseconds for item in items) == pytest.approx(profile.operator_milliseconds)
            assert list(items) == sorted(items, key=lambda item: -item.milliseconds)
        assert profile.operator_milliseconds <= profile.run_milliseconds
        expected = {"Relu"} if profile.model == "a" else {"Neg", "Exp"}
        assert {item.op_type for item in profile.operators} == expected
        assert all(node.calls == 20 for node in profile.nodes)


def test_a_real_model_is_profiled_by_node(pgc_model: Callable[[str], ir.Model]) -> None:
    (profile,) = time_models([("s", pgc_model("s"))], TimingOptions("cpu", (1,), runs=1, profile=True)).profiles
    convolutions = next(item for item in profile.operators if item.op_type == "Conv")
    assert convolutions.nodes == 22
    assert sum(item.share for item in profile.operators) == pytest.approx(1)
    assert sum(item.share for item in profile.nodes) == pytest.approx(1)
    assert len({(node.node, node.op_type) for node in profile.nodes}) == len(profile.nodes)


def test_a_stop_between_settings_reports_what_was_measured() -> None:
    begun: list[tuple[int, int]] = []
    report = time_models(
        [("a", small())],
        TimingOptions("cpu", (1,), (1, 2, 3), runs=2, warmup=0, profile=True),
        stop=lambda: len(begun) >= 2,
        on_setting=lambda *setting: begun.append(setting),
    )
    assert begun == [(1, 1), (1, 2)]
    assert [item.batch_size for item in report.latencies] == [1]
    assert report.interrupted
    assert report.profiles == ()


# What models are fed.


def fed(model: ir.Model, shapes: dict[str, tuple[int, ...]] | None = None, sizes: tuple[int, ...] = ()) -> object:
    (contestant,) = prepare([("m", model)], shapes=shapes or {}, batch_sizes=sizes, seed=0)
    return {size: {name: array.shape for name, array in feeds.items()} for size, feeds in contestant.feeds.items()}


def test_batch_sizes_fill_open_first_dimensions_alone() -> None:
    two = small("y = Add(x, b)", "float[n, 4] x, float[1, 4] b")
    assert fed(two) == {1: {"x": (1, 4), "b": (1, 4)}}
    assert fed(two, sizes=(2, 8)) == {2: {"x": (2, 4), "b": (1, 4)}, 8: {"x": (8, 4), "b": (1, 4)}}


def test_shapes_given_decide_unless_a_batch_size_does() -> None:
    wide = small(inputs="float[n, w] x", outputs="float[n, w] y")
    assert fed(wide) == {1: {"x": (1, 32)}}
    assert fed(wide, {"x": (3, 7)}) == {3: {"x": (3, 7)}}
    assert fed(wide, {"x": (3, 7)}, (5,)) == {5: {"x": (5, 7)}}


def test_a_fixed_batch_is_taken_as_it_is() -> None:
    fixed = small(inputs="float[6, 4] x", outputs="float[6, 4] y")
    assert fed(fixed) == {6: {"x": (6, 4)}}
    assert fed(fixed, sizes=(6,)) == {6: {"x": (6, 4)}}
    with pytest.raises(OptionError, match="m: batch size 2 does not fit: the model is fixed at 6"):
        fed(fixed, sizes=(2,))


def test_scalars_and_models_without_inputs_are_batch_one() -> None:
    scalar = small("y = Mul(x, s)", "float[n, 4] x, float s")
    assert fed(scalar, sizes=(3,)) == {3: {"x": (3, 4), "s": ()}}
    assert fed(small("y = Constant<value_floats = [1.0]>()", "", "float[1] y")) == {1: {}}


def test_equal_inputs_get_equal_numbers() -> None:
    first, second = prepare([("a", small()), ("b", small())], shapes={}, batch_sizes=(4,), seed=3)
    np.testing.assert_array_equal(first.feeds[4]["x"], second.feeds[4]["x"])


@pytest.mark.parametrize(
    ("models", "shapes", "error", "message"),
    [
        pytest.param([], {}, OptionError, "no model to time", id="none"),
        pytest.param(["n, 4"], {"z": (1, 4)}, OptionError, "no input 'z'.* have x", id="unknown-input"),
        pytest.param(["n, 4"], {"x": (1, 5)}, OptionError, "m0: shape 1x5 does not fit", id="wrong-shape"),
        pytest.param(["2, 4", "3, 4"], {}, OptionError, "m0 takes 2, m1 takes 3", id="unequal-batches"),
    ],
)
def test_what_cannot_be_fed_is_refused(
    models: list[str], shapes: dict[str, tuple[int, ...]], error: type[Exception], message: str
) -> None:
    named = [
        (f"m{index}", small(inputs=f"float[{dims}] x", outputs=f"float[{dims}] y")) for index, dims in enumerate(models)
    ]
    with pytest.raises(error, match=message):
        time_models(named, QUICK, shapes=shapes)


def test_text_cannot_be_drawn() -> None:
    with pytest.raises(UnsupportedError, match="words: input 'x' is not a tensor of numbers"):
        time_models([("words", small("y = Identity(x)", "string[n] x", "string[n] y"))], QUICK)


def test_a_model_that_fails_is_named() -> None:
    broken = small("s = Constant<value = int64[2] {7, 7}>() y = Reshape(x, s)")
    with pytest.raises(ModelError, match="broken: onnxruntime cannot run the model"):
        time_models([("good", small()), ("broken", broken)], QUICK)


def test_a_model_that_is_refused_is_named() -> None:
    with pytest.raises(ModelError, match="odd: onnxruntime refuses the model"):
        time_models([("odd", modelio.load(onnx.parser.parse_model(UNKNOWN)))], QUICK)


UNKNOWN = """<ir_version: 8, opset_import: ["" : 17, "nowhere" : 1]>
g (float[n, 4] x) => (float[n, 4] y) { y = nowhere.Strange(x) }"""


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"threads": ()}, id="no-threads"),
        pytest.param({"threads": (-1,)}, id="negative-threads"),
        pytest.param({"batch_sizes": (0,)}, id="empty-batch"),
        pytest.param({"runs": None}, id="no-end"),
        pytest.param({"runs": 0}, id="no-runs"),
        pytest.param({"seconds": 0.0}, id="no-time"),
        pytest.param({"seconds": float("nan")}, id="time-nan"),
        pytest.param({"warmup": -1}, id="negative-warmup"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(OptionError, match="expected"):
        TimingOptions(**options)  # type: ignore[arg-type]
