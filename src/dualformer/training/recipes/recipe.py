"""What a recipe is: settings of a run, what they are for, and what is to be expected of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dualformer.training.settings.train_config import TrainConfig

HEADINGS = ("Data", "Expected", "Hardware", "Time", "Command")
"""What every recipe's text tells."""

RANDOM = "random"
"""What ``--from`` calls weights that are drawn."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a run. The function that makes it gives it name and text (`find.py`)."""

    name: str = ""
    text: str = ""
    """The function's docstring."""
    data: str
    """The data set, in a few words."""
    expected: str
    """Top-1, or top-1 / top-5, in percent; a dash where nobody has measured it."""
    views: str
    """Test views, clips x crops."""
    needs: Mapping[str, str]
    """Options that only the user can give, without dashes, and what they have to name, in words."""
    settings: Mapping[str, Any]
    """Fields of `TrainConfig`; what is not there has its default."""

    @property
    def batch(self) -> int:
        """Clips of an optimizer step, over all devices."""
        return self.settings["batch_size"] * self.settings.get("accumulate", 1)

    def check_given(self, arguments: Sequence[str]) -> None:
        """``ValueError`` where command-line ``arguments`` do not give what the recipe needs."""
        for option, words in self.needs.items():
            if not any(argument.startswith(f"--{option}") for argument in arguments):
                raise ValueError(f"the recipe {self.name} needs --{option}: {words}")

    def settings_from(self, start: str | None) -> dict[str, Any]:
        """The settings for these starting weights: a slow backbone is for one that has learnt something before."""
        settings = dict(self.settings)
        if start == RANDOM:
            settings["backbone_lr"] = None
        return settings

    def config(self, **changes: Any) -> TrainConfig:
        """A run by this recipe. ``changes`` must name the data, where the recipe does not."""
        return TrainConfig(**(self.settings_from(changes.get("start")) | changes))

    def note_on_batch(self, clips: int) -> str | None:
        """A line about a run whose steps take another number of ``clips``, None where they take as many as here."""
        if clips == self.batch:
            return None
        remedy = "change --batch-size, --accumulate or --devices"
        if clips < self.batch and self.batch % clips == 0:
            remedy = f"--accumulate, times {self.batch // clips}, makes up for it"
        return (
            f"the recipe {self.name} takes {self.batch} clips a step, this run {clips}, at the learning rate for "
            f"{self.batch}: {remedy}"
        )
