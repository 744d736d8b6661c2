"""Which crops an epoch sees, in which order, and how much the positive class weighs among them.

Crops come in up to four pools: photographed or drawn, pointing or not. An epoch takes a share of each pool, each
without replacement as far as it goes, and shuffles them together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgc_graph.errors import OptionError

__all__ = ["Pools", "derive_seed", "epoch_order", "make_pools", "positive_weight"]


@dataclass(frozen=True, eq=False)
class Pools:
    """What an epoch is drawn from.

    Attributes:
        members: Indices into the crops, one array a pool: photographs not pointing and pointing, drawn likewise.
        counts: How many crops of each pool an epoch takes.
        anew: Whether photographs are drawn independently, one by one, instead of without replacement.
    """

    members: tuple[NDArray[np.int64], ...]
    counts: tuple[int, ...]
    anew: bool = False


def derive_seed(seed: int, *path: int) -> int:
    """Derive an independent seed, below 2**63, for one purpose of one epoch from the run's seed."""
    return int(np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def make_pools(
    labels: NDArray[np.float32],
    synthetic: NDArray[np.bool_],
    *,
    synth_share: float = 0.0,
    pointing_share: float = 0.0,
    length: int = 0,
    anew: bool = False,
) -> Pools:
    """Decide how many crops of which kind an epoch takes.

    Args:
        labels: `(N,)`, 0 or 1.
        synthetic: `(N,)`, which crops are drawn ones.
        synth_share: Share of the epoch that is drawn; void where only one kind is there.
        pointing_share: Share of pointing crops among the photographs; 0, or a class missing = as they come.
        length: Crops an epoch; 0 = as many as there are photographs, plus the drawn share.
        anew: Whether photographs are drawn independently, so that one may come twice or not at all.
    """
    real, drawn = int((~synthetic).sum()), int(synthetic.sum())
    if not real or not drawn:
        synth_share = float(not real)
    length = length or (round(real / (1.0 - synth_share)) if real else drawn)
    from_drawn = round(synth_share * length)
    members, counts = [], []
    for kind, count, share in ((~synthetic, length - from_drawn, pointing_share), (synthetic, from_drawn, 0.0)):
        classes = [np.flatnonzero(kind & (labels < 0.5)), np.flatnonzero(kind & (labels > 0.5))]
        total = len(classes[0]) + len(classes[1])
        natural = len(classes[1]) / total if total else 0.0
        pointing = round(count * (share if share and 0.0 < natural < 1.0 else natural))
        members += classes
        counts += [count - pointing, pointing]
    return Pools(tuple(members), tuple(counts), anew)


def epoch_order(pools: Pools, seed: int) -> NDArray[np.int64]:
    """Draw an epoch's crops.

    Args:
        pools: What to draw from.
        seed: Which draw.

    Returns:
        `(epoch length,)` indices into the crops.
    """
    generator = np.random.default_rng(seed)
    # The first two pools are photographs.
    anew = (pools.anew, pools.anew, False, False)
    pairs = zip(pools.members, pools.counts, anew[: len(pools.members)], strict=True)
    taken = [_take(pool, count, generator, anew=drawn) for pool, count, drawn in pairs]
    return generator.permutation(np.concatenate(taken))


def positive_weight(pools: Pools) -> float:
    """Return negatives per positive among the crops that an epoch sees.

    Raises:
        OptionError: Only one class is there.
    """
    negative, positive = sum(pools.counts[0::2]), sum(pools.counts[1::2])
    if not negative or not positive:
        raise OptionError(
            f"an epoch sees {positive} pointing and {negative} not_pointing training crops; "
            "expected some of both classes"
        )
    return negative / positive


def _take(pool: NDArray[np.int64], count: int, generator: np.random.Generator, *, anew: bool) -> NDArray[np.int64]:
    if not count:
        return pool[:0]
    if anew:
        return generator.choice(pool, count)
    rounds = -(-count // len(pool))
    return np.concatenate([generator.permutation(pool) for _ in range(rounds)])[:count]
