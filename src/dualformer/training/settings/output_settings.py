"""Settings of the output: what a run writes, and when."""

from dataclasses import dataclass

from dualformer.training.settings.checks import more_than_zero, not_negative


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """Record of a run."""

    out: str = "runs/train"
    """Folder of the run: config.json, clips.png, metrics.jsonl, curves.png, best and last weights, checkpoints."""
    resume: bool = False
    """Go on with the run in `out` where it stopped, to the same bits."""
    licence: str = ""
    """Terms of use to write into the weights, an SPDX identifier where there is one."""
    max_steps: int | None = None
    """Stop after this many optimizer steps of the schedule, to try things out."""
    save_minutes: float = 5.0
    """Save a checkpoint this often, besides at the start and at the end of every epoch."""
    keep: int = 2
    """Newest checkpoints to keep. A second one is what is left where the first turns out damaged."""
    tensorboard: bool = False
    """Write event files for TensorBoard into `out`, too."""
    confusion_every: int = 0
    """Draw the confusion matrix of the validation clips after every so many epochs; 0 draws none."""

    def check_record(self) -> None:
        more_than_zero(self, "max_steps", "save_minutes", "keep")
        not_negative(self, "confusion_every")
