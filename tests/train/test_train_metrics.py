from __future__ import annotations

import numpy as np
import pytest

from pgc_train.metrics import score_logits


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_scores_agree_with_a_plain_count(threshold: float) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, 300)
    labels = (generator.random(300) < 0.3).astype(np.float32)
    scores = score_logits(logits, labels, threshold)
    table = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for logit, label in zip(logits, labels, strict=True):
        table[bool(1 / (1 + np.exp(-logit)) >= threshold), bool(label)] += 1
    hits, alarms, misses = table[True, True], table[True, False], table[False, True]
    precision, recall = hits / (hits + alarms), hits / (hits + misses)
    assert (scores.true_positive, scores.false_positive, scores.false_negative) == (hits, alarms, misses)
    assert scores.true_negative == table[False, False]
    assert scores.precision == pytest.approx(precision)
    assert scores.recall == pytest.approx(recall)
    assert scores.f1 == pytest.approx(2 * precision * recall / (precision + recall))
    assert scores.accuracy == pytest.approx((hits + table[False, False]) / 300)


def test_loss_weighs_both_classes_alike() -> None:
    scores = score_logits(np.array([2.0, -1.0, -1.0, -1.0]), np.array([1.0, 0.0, 0.0, 0.0]))
    assert scores.loss == pytest.approx((np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0))) / 2)


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_extreme_logits_give_finite_losses(logit: float) -> None:
    assert np.isfinite(score_logits(np.array([logit, logit]), np.array([0.0, 1.0])).loss)


def test_no_positive_call_gives_zero_f1_without_a_warning() -> None:
    scores = score_logits(np.array([-1.0, -1.0]), np.array([1.0, 0.0]))
    assert (scores.f1, scores.precision, scores.recall, scores.accuracy) == (0.0, 0.0, 0.0, 0.5)
