"""What explain_ablation says against figures worked out by hand; the plan as a file against the plain loop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from calibrated import calibrated_pgc, smooth_images
from pgc_graph import modelio
from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
from pgc_graph.errors import OptionError
from pgc_graph.images import Preprocess, find_images
from pgc_graph.studies.ablation.explain import PLAN_KEY, Explanation, GatePlan, explain_ablation, plan_model
from pgc_graph.studies.ablation.intervention import Intervention, scaling
from reference.plain_ablation import plain_ablation

FILTERS = ", ".join(map(str, range(-18, 18)))
SMALL = f"""<ir_version: 8, opset_import: ["": 17]>
agraph (float[n, 3, 4, 4] x) => (float[n, 1] prob)
<float[2, 3, 1, 1] w = {{1, 2, 3, 4, 5, 6}}, float[2, 2, 3, 3] v = {{{FILTERS}}}, float[1, 2, 1, 1] u = {{1, 2}}> {{
    stem = Conv (x, w)
    left = Relu (stem)  squared = Mul (left, left)  wide = Conv <pads = [1, 1, 1, 1]> (squared, v)
    last = Add (wide, stem)  narrow = Conv (last, u)
    row = ReduceMean <axes = [2, 3], keepdims = 0> (narrow)  prob = Sigmoid (row)
}}"""
STEM, WIDE, NARROW = 16 * 2 * 3, 16 * 2 * 2 * 9, 16 * 2
BIG = Preprocess(size=(4, 4))


def explained(value: float = 0.0) -> Explanation:
    model = modelio.load(onnx.parser.parse_model(SMALL))
    query = TargetQuery(regexes=("^(stem|left|squared|last)$",))
    return explain_ablation(
        model, select_targets(find_targets(model), query), intervention=scaling(value), preprocess=BIG
    )


def facts(gate: GatePlan) -> tuple[str, bool, tuple[str, ...], int, int]:
    return gate.target.tensor, gate.cut, gate.shared_with, gate.nodes, gate.macs


def test_gates_at_zero_are_cuts_or_share_what_follows_the_addition() -> None:
    explanation = explained()
    # Below the addition: Add, Conv, ReduceMean, Sigmoid; of these only the Conv counts.
    assert [facts(gate) for gate in explanation.gates] == [
        ("stem", True, ("last",), 0, 0),
        ("left", False, ("squared",), 4, NARROW),
        ("squared", False, ("left",), 4, NARROW),
        ("last", True, ("stem",), 0, 0),
    ]
    model = STEM + WIDE + NARROW
    assert explanation.model_macs == model
    assert explanation.plain_macs == 5 * model
    assert explanation.plan_macs == model + NARROW
    assert (explanation.plan_nodes, explanation.graphs, explanation.uncounted) == (12, 1, ())
    assert (explanation.engine.method, explanation.engine.suffix_runs) == ("planned", 1)


def test_gates_at_another_value_run_all_that_lies_below() -> None:
    explanation = explained(0.5)
    # One node more each: the multiplication by 0.5.
    assert [facts(gate) for gate in explanation.gates] == [
        ("stem", False, (), 8, WIDE + NARROW),
        ("left", False, (), 7, WIDE + NARROW),
        ("squared", False, (), 6, WIDE + NARROW),
        ("last", False, (), 4, NARROW),
    ]
    assert explanation.plan_macs == STEM + 4 * (WIDE + NARROW) + NARROW


def test_model_whose_rows_depend_on_each_other_costs_what_the_plain_loop_costs() -> None:
    text = SMALL.replace("last = Add (wide, stem)", "m = ReduceMean <axes = [0]> (wide)  last = Sub (wide, m)")
    model = modelio.load(onnx.parser.parse_model(text))
    targets = select_targets(find_targets(model), TargetQuery(regexes=("^stem$",)))
    explanation = explain_ablation(model, targets, preprocess=BIG)
    assert explanation.engine.method == "plain"
    assert explanation.plan_macs == explanation.plain_macs == 2 * explanation.model_macs
    assert (explanation.gates[0].cut, explanation.gates[0].macs) == (False, explanation.model_macs)


@pytest.mark.parametrize("variant", ["s", "l"])
def test_remainders_of_pgc_add_up_to_the_plan(variant: str) -> None:
    model = calibrated_pgc(variant)
    explanation = explain_ablation(model, select_targets(find_targets(model), TargetQuery()))
    different = {frozenset((gate.target.tensor, *gate.shared_with)): gate for gate in explanation.gates}
    live = [gate for gate in different.values() if not gate.cut]
    assert len(live) == explanation.engine.suffix_runs
    assert explanation.model_macs + sum(gate.macs for gate in live) == explanation.plan_macs
    assert sum(gate.cut for gate in explanation.gates) == explanation.engine.constant_gates
    assert not explanation.uncounted


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_saved_plan_answers_for_every_gate_as_the_plain_loop_does(value: float, tmp_path: Path) -> None:
    model = calibrated_pgc("s")
    targets = select_targets(find_targets(model), TargetQuery())
    modelio.save(plan_model(model, targets, intervention=scaling(value)), tmp_path / "plan.onnx")
    saved = onnx.load(tmp_path / "plan.onnx")
    onnx.checker.check_model(saved, full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "plan.onnx", providers=["CPUExecutionProvider"])
    images = smooth_images(5)
    outputs = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"images": images}), strict=True))
    described = json.loads({item.key: item.value for item in saved.metadata_props}[PLAN_KEY])
    assert described["intervention"]["value"] == value
    tensors = [gate["tensor"] for gate in described["gates"]]
    plain = plain_ablation(modelio.to_proto(model), images, tensors, value=value, logit="/base_model/Squeeze_output_0")
    assert tensors == [target.tensor for target in targets]
    score, logit = described["baseline"]
    np.testing.assert_allclose(outputs[score].ravel(), plain.baseline, atol=1e-5)
    np.testing.assert_allclose(outputs[logit].ravel(), plain.baseline_logit, atol=1e-5)
    for gate, wanted, wanted_logit in zip(described["gates"], plain.ablated, plain.ablated_logit, strict=True):
        for result, expected in zip(gate["results"], (wanted, wanted_logit), strict=True):
            found = outputs[result].ravel() if isinstance(result, str) else np.repeat(result, len(images))
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_model_stays_untouched() -> None:
    model = calibrated_pgc("s")
    before = modelio.to_bytes(model)
    targets = select_targets(find_targets(model), TargetQuery())
    explain_ablation(model, targets)
    plan_model(model, targets)
    assert modelio.to_bytes(model) == before


@pytest.mark.parametrize("mode", ["mean", "resample", "noise"])
def test_plan_of_any_mode_is_a_valid_model_that_says_what_it_takes(mode: str, repository: Path) -> None:
    model = calibrated_pgc("s")
    targets = select_targets(find_targets(model), TargetQuery(limit=4))
    images = find_images(repository / "models" / "crops", limit=3)
    plan = plan_model(model, targets, intervention=Intervention(mode), images=images)
    modelio.check(plan)
    described = json.loads(plan.metadata_props[PLAN_KEY])
    extra = [name for name in (described["donors"], *described["noise"]) if name]
    assert [value.name for value in plan.graph.inputs] == ["images", *extra]
    assert len(extra) == {"mean": 0, "resample": 1, "noise": 4}[mode]
    explanation = explain_ablation(model, targets, intervention=Intervention(mode))
    assert explanation.engine.method == "planned"
    if mode == "mean":
        with pytest.raises(OptionError, match="give images"):
            plan_model(model, targets, intervention=Intervention(mode))
