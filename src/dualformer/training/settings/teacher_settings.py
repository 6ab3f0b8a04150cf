"""Settings of the teacher: token labelling and distillation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dualformer.training.settings.checks import changed, more_than_zero, up_to_one

SCORES = "scores.json"
"""The file of a folder of stored scores that names their teacher and its settings."""

Rest = Literal["none", "zero"]
"""What becomes of the scores that are not among a token's highest."""
Distill = Literal["tokens", "clip", "features", "both"]


@dataclass(frozen=True, kw_only=True)
class TeacherSettings:
    """Teacher of a run."""

    teacher: str | None = None
    """Weights that say of every clip, as the network sees it, what is in it: a file, a hub id, or "rendered". With
    `distill=clip` also an exported model (.pt2, .onnx or .pte) that takes B 3 T H W, normalised, and gives B classes.
    It stays as it is, and is no part of what is trained."""
    teacher_scores: str | None = None
    """In place of `teacher`: a folder that `dualformer teach` wrote, with what a teacher says of each video's tokens,
    or what the probe of a frozen encoder says of its clips."""
    distill: Distill = "tokens"
    """What is learnt from the teacher: its classes of every token of the last stage, by a second head that is left out
    afterwards (token labelling, as the paper's tiny and small); those of the whole clip; or both. From an encoder: the
    probe's classes of the clip, the features that it reads them off (compared by their direction, with a linear layer
    that is left out afterwards), or both."""
    distill_weight: float = 0.5
    """Part of the loss that is the teacher's; the rest is the label's. With both, the two share it evenly."""
    temperature: float = 1.0
    """With `distill=clip` or both: what both networks' scores are divided by before they are compared. Above 1, the
    classes that are less likely count more."""
    teacher_topk: int = 5
    """Classes that the teacher names for each token; they share the token's label in the proportions of its softmax."""
    teacher_rest: Rest = "none"
    """What the other classes get: nothing, or (zero) what the authors' code gave them by mistake. It set their scores
    to zero and not their parts, which leaves them most of the label; their published figures came from it."""

    def check_teach(self) -> None:
        more_than_zero(self, "temperature", "teacher_topk")
        up_to_one(self, "distill_weight", low=0.001)
        if self.teacher and self.teacher_scores:
            raise ValueError("`teacher_scores` takes the place of `teacher`: give one of them")
        if not self.teaches and (lonely := changed(self, "distill", "distill_weight", "temperature", *_OF_TOKENS)):
            raise ValueError(f"`{lonely}` does nothing without `teacher` or `teacher_scores`")
        if self.teacher and self.distill == "features":
            raise ValueError(
                "`distill=features` is for the `teacher_scores` of an encoder, which dualformer teach writes: a "
                "`teacher` gives scores only"
            )
        if self.distill in ("tokens", "features") and changed(self, "temperature"):
            raise ValueError("`temperature` is for `distill=clip` or both")
        if (self.distill in ("clip", "features") or self.learns_clips) and (lonely := changed(self, *_OF_TOKENS)):
            raise ValueError(f"`{lonely}` is for `distill=tokens` or both")

    @property
    def teaches(self) -> bool:
        """Whether there is a teacher."""
        return bool(self.teacher or self.teacher_scores)

    @property
    def learns_clips(self) -> bool:
        """Whether what is learnt are stored scores of clips, which do not depend on how a clip was cut."""
        return bool(self.teacher_scores) and self.distill != "tokens"


def scores_file(folder: Path) -> Path:
    """Returns the file `SCORES` of a folder. Raises ``FileNotFoundError`` where there is none."""
    path = folder / SCORES
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no stored scores there; make them with dualformer teach")
    return path


_OF_TOKENS = ("teacher_topk", "teacher_rest")
