"""What is counted as wrong, and how much."""

from __future__ import annotations

from dataclasses import dataclass

from dualformer.training.settings.data_settings import RENDERED


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Loss of a run."""

    multi_label: bool = False
    """A video may have several labels, separated by ; in a CSV file or on a row each: the network says yes or no to
    every class for itself, and the best epoch is that of the highest mean average precision."""
    class_weights: str | None = None
    """What each class counts for: balanced (rare classes count more), or a CSV file (class,weight). With --multi-label
    it is what a video that has the label counts for, beside one that does not."""

    def check_loss(self, data: str, *, teaches: bool, confusion_every: int) -> None:
        """``data``, ``teaches`` and ``confusion_every``: what the run's other options say."""
        if data == RENDERED and self.class_weights:
            raise ValueError("--class-weights does nothing with --data rendered, which has as many of each class")
        if not self.multi_label:
            return
        if data == RENDERED:
            raise ValueError("--multi-label is for a CSV file: rendered videos have one label each")
        if teaches:
            raise ValueError(
                "--multi-label goes with no teacher: what one says of a clip are parts of a single label; leave "
                "--teacher and --teacher-scores out"
            )
        if confusion_every:
            raise ValueError(
                "--confusion-every is for videos of one label each: with several, no class is taken for another; leave "
                "it out with --multi-label"
            )
