from __future__ import annotations

import numpy as np
import pytest

from pgc_graph.errors import OptionError
from pgc_train.sampling import derive_seed, epoch_order, make_pools, positive_weight

LABELS = np.repeat(np.array([0, 1, 0, 1], np.float32), [80, 20, 30, 30])
SYNTHETIC = np.repeat([False, True], [100, 60])


def test_an_epoch_holds_the_shares_asked_for() -> None:
    pools = make_pools(LABELS, SYNTHETIC, synth_share=0.5, pointing_share=0.4)
    order = epoch_order(pools, 0)
    assert len(order) == 200  # as many as there are photographs, and as many drawn ones again
    assert SYNTHETIC[order].sum() == 100
    real = order[~SYNTHETIC[order]]
    assert LABELS[real].sum() == 40
    # 20 pointing photographs fill 40 places: each exactly twice.
    assert set(np.unique(real[LABELS[real] > 0], return_counts=True)[1]) == {2}
    assert len(np.unique(real[LABELS[real] == 0])) == 60


def test_without_shares_every_photograph_comes_once() -> None:
    order = epoch_order(make_pools(LABELS[:100], SYNTHETIC[:100], synth_share=0.4), 3)
    assert sorted(order) == list(range(100))


def test_drawn_crops_alone_fill_an_epoch() -> None:
    order = epoch_order(make_pools(LABELS[100:], SYNTHETIC[100:], synth_share=0.4), 3)
    assert sorted(order) == list(range(60))


def test_epochs_of_given_length_keep_the_shares() -> None:
    order = epoch_order(make_pools(LABELS, SYNTHETIC, synth_share=0.25, length=1000), 0)
    assert len(order) == 1000
    assert SYNTHETIC[order].sum() == 250


def test_the_same_seed_gives_the_same_order() -> None:
    pools = make_pools(LABELS, SYNTHETIC, synth_share=0.5)
    np.testing.assert_array_equal(epoch_order(pools, 1), epoch_order(pools, 1))
    assert not np.array_equal(epoch_order(pools, 1), epoch_order(pools, 2))


def test_positive_weight_is_negatives_per_positive_of_an_epoch() -> None:
    assert positive_weight(make_pools(LABELS[:100], SYNTHETIC[:100])) == pytest.approx(4.0)
    pools = make_pools(LABELS, SYNTHETIC, synth_share=0.5, pointing_share=0.25)
    drawn = epoch_order(pools, 0)
    assert positive_weight(pools) == pytest.approx((LABELS[drawn] == 0).sum() / (LABELS[drawn] == 1).sum())


def test_one_class_is_refused() -> None:
    with pytest.raises(OptionError, match="both classes"):
        positive_weight(make_pools(np.ones(5, np.float32), np.zeros(5, bool)))


def test_derived_seeds_differ_by_purpose_and_epoch() -> None:
    seeds = {derive_seed(0, epoch, purpose) for epoch in range(50) for purpose in range(3)}
    assert len(seeds) == 150
    assert max(seeds) < 2**63
