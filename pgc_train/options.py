"""What a training run is told: one frozen bundle, stored in its checkpoints."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pgc_graph.errors import OptionError

__all__ = ["RESAMPLING", "AugmentOptions", "TrainOptions"]

RESAMPLING = ("share", "none", "balanced", "weighted")

_FIRST_STRENGTH = 0.3


@dataclass(frozen=True)
class AugmentOptions:
    """How far training crops are changed; each range is scaled by `strength`, 0 = not at all.

    Attributes:
        strength: Scales all ranges and probabilities below.
        ramp: Epochs over which the strength grows from 0.3 of its value to all of it: learning starts faster on crops
            that are changed little.
        rotation: Degrees either way, for every crop.
        turn_share: Share of the crops turned by any angle at all.
        scale: Largest zoom factor; the smallest is its inverse.
        stretch: Largest change of the aspect ratio.
        shear: Largest shear.
        shift: Largest translation, as a share of the side.
        light: Largest factor of brightness; its inverse is the smallest; contrast, gamma and cast are tamer.
        grey_share: Share turned grey.
        blur_share: Share made coarse by scaling down and up.
        noise: Largest standard deviation of pixel noise, in units of [0, 1].
        cut_share: Share with a rectangle painted over.
    """

    strength: float = 0.75
    ramp: int = 10
    rotation: float = 25.0
    turn_share: float = 0.25
    scale: float = 1.3
    stretch: float = 1.2
    shear: float = 0.15
    shift: float = 0.12
    light: float = 1.8
    grey_share: float = 0.15
    blur_share: float = 0.25
    noise: float = 0.06
    cut_share: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 2:
            raise OptionError(f"augmentation strength {self.strength} is out of range; expected 0 to 2")

    def in_epoch(self, epoch: int) -> AugmentOptions:
        """Return the options of an epoch, counted from 1, while the strength still grows."""
        grown = min(1.0, (epoch - 1) / self.ramp) if self.ramp else 1.0
        return dataclasses.replace(self, strength=self.strength * (_FIRST_STRENGTH + (1.0 - _FIRST_STRENGTH) * grown))


@dataclass(frozen=True)
class TrainOptions:
    """How a model is fitted.

    Attributes:
        epochs: Passes over the sampled crops.
        batch_size: Crops a step.
        learning_rate: Of AdamW, after a linear warm-up over the first epoch.
        weight_decay: Of AdamW, on convolution and linear weights only.
        label_smoothing: How far the targets 0 and 1 are drawn towards a half.
        average_decay: Of the moving average of the weights, which is what is evaluated and exported; 0 = none.
        best: What makes an epoch the best: `f1` or `loss` of the validation crops; the other decides ties.
        plateau: What the learning rate watches: `f1` or `loss`; F1 on few crops jumps, and would cut it too soon.
        plateau_patience: Epochs without progress before the learning rate is cut.
        plateau_factor: What it is multiplied by then.
        patience: Epochs without progress before the run ends early; 0 = never.
        samples_per_epoch: Crops an epoch; 0 = as many as there are.
        synth_share: Share of an epoch's crops drawn from the synthetic ones.
        pointing_share: Share of pointing crops among an epoch's photographs; 0 = as many as there are. What is left of
            the imbalance is weighed by the loss.
        resampling: Which photographs an epoch takes: `share`, by `pointing_share`; `none`, as they come; `balanced`, half
            of them pointing; `weighted`, the same, but drawn anew each time, so that a crop may come twice or not at all.
        keep: How many of the last and of the best epochs are kept in checkpoints of their own; 0 = none.
        seed: Of initial weights, sampling, augmentation and dropout.
        threads: Of torch; 0 = its own choice.
        cache_size: Side in pixels at which training crops are kept.
        augment: How training crops are changed.
    """

    epochs: int = 40
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    average_decay: float = 0.998
    best: str = "f1"
    plateau: str = "loss"
    plateau_patience: int = 4
    plateau_factor: float = 0.5
    patience: int = 0
    samples_per_epoch: int = 0
    synth_share: float = 0.4
    pointing_share: float = 0.35
    resampling: str = "share"
    keep: int = 0
    seed: int = 0
    threads: int = 0
    cache_size: int = 64
    augment: AugmentOptions = AugmentOptions()

    def __post_init__(self) -> None:
        for field in ("best", "plateau"):
            if getattr(self, field) not in ("f1", "loss"):
                raise OptionError(f"{field} cannot watch {getattr(self, field)!r}; expected f1 or loss")
        if self.resampling not in RESAMPLING:
            raise OptionError(f"unknown resampling {self.resampling!r}; expected {', '.join(RESAMPLING)}")
        if not 0 <= self.synth_share < 1:
            raise OptionError(f"synthetic share {self.synth_share} is impossible; expected 0 or more and below 1")
        if not 0 <= self.pointing_share < 1:
            raise OptionError(f"pointing share {self.pointing_share} is impossible; expected 0 or more and below 1")
        if not 0 <= self.label_smoothing < 1 or not 0 <= self.average_decay < 1:
            raise OptionError(
                f"label smoothing {self.label_smoothing} and average decay {self.average_decay} must be 0 or more "
                "and below 1"
            )
        if min(self.epochs, self.batch_size, self.cache_size) < 1 or self.learning_rate <= 0:
            raise OptionError("epochs, batch size, cache size and learning rate must be above 0")

    @property
    def photographed_share(self) -> float:
        """The share of pointing crops among an epoch's photographs; 0 = as they come."""
        return {"share": self.pointing_share, "none": 0.0}.get(self.resampling, 0.5)
