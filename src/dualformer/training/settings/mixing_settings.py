"""Settings of what is done to whole batches: mixup, CutMix, label smoothing, several clips of each video."""

from dataclasses import dataclass

from dualformer.training.settings.checks import changed, less_than_one, more_than_zero, not_negative, up_to_one


@dataclass(frozen=True, kw_only=True)
class MixingSettings:
    """Mixing of a run's batches."""

    mixup: float = 0.0
    """Lay two clips of a batch over one another and mix their labels; the parts come from a beta distribution with this
    parameter. 0.8 is usual."""
    cutmix: float = 0.0
    """Put a box of another clip into each and mix the labels by area, with a parameter as that of `mixup`; 1 is usual.
    With both, each batch gets one of them."""
    mix_prob: float = 1.0
    """Part of the batches that `mixup` and `cutmix` mix."""
    switch_prob: float = 0.5
    """Part of the mixed batches that get CutMix, where `mixup` is on as well."""
    label_smoothing: float | None = None
    """Part of every label that is spread over all classes, with `multi_label` over yes and no (default: none, of few
    videos with one label each 0.1)."""
    repeats: int = 1
    """Clips of each video in its batch, each drawn anew. An epoch has that many times the clips: lower `epochs`."""

    def __post_init__(self) -> None:
        self.check_mixing()

    def check_mixing(self) -> None:
        more_than_zero(self, "repeats")
        not_negative(self, "mixup", "cutmix")
        up_to_one(self, "mix_prob", low=0.001)
        up_to_one(self, "switch_prob")
        less_than_one(self, "label_smoothing")
        if not (self.mixup or self.cutmix) and changed(self, "mix_prob"):
            raise ValueError("`mix_prob` does nothing without `mixup` or `cutmix`")
        if not (self.mixup and self.cutmix) and changed(self, "switch_prob"):
            raise ValueError("`switch_prob` chooses between `mixup` and `cutmix`: give both")

    @property
    def mixes(self) -> bool:
        """Whether batches are mixed."""
        return self.mixup > 0 or self.cutmix > 0

    def describe_mixing(self) -> list[str]:
        """Returns what is done to batches in words, for people."""
        lines: list[str] = []
        if self.mixes:
            names = [f"mixup {self.mixup:g}"] if self.mixup else []
            names += [f"CutMix {self.cutmix:g}"] if self.cutmix else []
            share = f" ({self.switch_prob:.0%} CutMix)" if len(names) == 2 else ""
            lines.append(f"{' or '.join(names)}{share} on {self.mix_prob:.0%} of the batches")
        if self.label_smoothing:
            lines.append(f"labels smoothed by {self.label_smoothing:g}")
        if self.repeats > 1:
            lines.append(f"{self.repeats} clips of every video in its batch")
        return lines
