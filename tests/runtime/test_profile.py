"""Profiles: sums by hand, and what onnxruntime records of a loop."""

from __future__ import annotations

import onnx
import pytest

from pgc_graph import modelio
from pgc_graph.runtime.profile import read_profile
from pgc_graph.runtime.timing import TimingOptions, time_models


def event(name: str, ts: int, dur: int, op_type: str = "", tid: int = 1) -> dict[str, object]:
    category = "Node" if op_type else "Session"
    return {"cat": category, "name": name, "ts": ts, "dur": dur, "tid": tid, "args": {"op_name": op_type}}


EVENTS = [
    event("session_initialization", 0, 50),
    event("a_kernel_time", 101, 90, "Conv"),
    event("model_run", 100, 100),
    event("a_kernel_time", 210, 40, "Conv"),
    event("If_kernel_time", 250, 100, "If"),
    event("inner_kernel_time", 260, 30, "Conv"),
    event("inner_kernel_time", 290, 20, "Conv"),
    event("b_kernel_time", 350, 10, "Add"),
    event("model_run", 200, 170),
    event("a_kernel_time", 410, 60, "Conv"),
    event("model_run", 400, 80),
]


def test_subgraphs_count_once_and_warm_up_not_at_all() -> None:
    profile = read_profile(EVENTS, model="m", threads=1, batch_size=2, warmup=1)
    assert (profile.runs, profile.run_milliseconds) == (2, 0.125)
    assert profile.operator_milliseconds == pytest.approx((40 + 100 + 10 + 60) / 2000)
    found = {(node.node, node.op_type): (node.calls, round(2000 * node.milliseconds)) for node in profile.nodes}
    assert found == {
        ("a", "Conv"): (2, 100),
        ("If", "If"): (1, 50),
        ("inner", "Conv"): (2, 50),
        ("b", "Add"): (1, 10),
    }
    shares = {item.op_type: (item.nodes, item.share) for item in profile.operators}
    assert shares == {
        "Conv": (2, pytest.approx(150 / 210)),
        "If": (1, pytest.approx(50 / 210)),
        "Add": (1, pytest.approx(10 / 210)),
    }


def test_the_order_of_events_does_not_matter() -> None:
    assert read_profile(EVENTS[::-1], model="m", threads=1, batch_size=2) == read_profile(
        EVENTS, model="m", threads=1, batch_size=2
    )


def test_a_profile_without_runs_is_empty() -> None:
    profile = read_profile(EVENTS[:1], model="m", threads=1, batch_size=1)
    assert (profile.runs, profile.nodes, profile.run_milliseconds) == (0, (), 0.0)


LOOP = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 4] x) => (float[n, 4] y) {
    trips = Constant<value = int64 {50}>()
    yes = Constant<value = bool {1}>()
    y = Loop(trips, yes, x)<body = b (int64 i, bool c, float[n, 4] s) => (bool d, float[n, 4] t) {
        d = Identity(c) u = Sin(s) t = Cos(u)
    }>
}
"""


def test_a_loop_in_onnxruntime_counts_once() -> None:
    model = modelio.load(onnx.parser.parse_model(LOOP))
    (profile,) = time_models([("loop", model)], TimingOptions("cpu", (1,), (512,), runs=1, profile=True)).profiles
    calls = {node.op_type: node.calls for node in profile.nodes}
    assert (calls["Loop"], calls["Sin"], calls["Cos"]) == (20, 1000, 1000)
    assert profile.operator_milliseconds <= profile.run_milliseconds
