"""Settings of the loss: labels and class weights."""

from dataclasses import dataclass

from dualformer.training.settings.data_settings import RENDERED_DATA


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Loss of a run."""

    multi_label: bool = False
    """A video may have several labels, separated by ; in a CSV file or on a row each: the network says yes or no to
    every class for itself, and the best epoch is that of the highest mean average precision."""
    class_weights: str | None = None
    """What each class counts for: balanced (rare classes count more), or a CSV file (class,weight). With `multi_label`
    it is what a video that has the label counts for, beside one that does not."""

    def check_loss(self, data: str, *, teaches: bool, confusion_every: int) -> None:
        """``data``, ``teaches`` and ``confusion_every`` are the run's other settings."""
        if data in RENDERED_DATA and self.class_weights:
            raise ValueError(f"`class_weights` does nothing with `data={data}`, which has as many of each class")
        if not self.multi_label:
            return
        if data in RENDERED_DATA:
            raise ValueError("`multi_label` is for a CSV file: rendered videos have one label each")
        if teaches:
            raise ValueError(
                "`multi_label` goes with no teacher: what one says of a clip are parts of a single label; leave "
                "`teacher` and `teacher_scores` out"
            )
        if confusion_every:
            raise ValueError(
                "`confusion_every` is for videos of one label each: with several, no class is taken for another; leave "
                "it out with `multi_label`"
            )
