"""The quickstart renders videos, trains a network on them and evaluates it, with every part of the package.

The videos of eight motions differ in nothing but how things move. Nano Conv learns them, starting from the weights
that come with the package; where it is asked for, another one learns from scratch, for comparison. They are evaluated
on files that they did not see, and so are two controls that take the motion away: a network that passes those has not
learnt motion.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class QuickstartConfig:
    """Settings of the quickstart. The defaults take a few minutes on two cores."""

    out: str = "quickstart"
    """Folder for videos, training runs and the report."""
    train_videos: int = 40
    """Rendered videos of each class to train on."""
    val_videos: int = 5
    """Of each class, to choose the best epoch by."""
    test_videos: int = 25
    """Of each class, to judge by in the end."""
    difficulty: float = 0.7
    """0 is one bright actor on a flat background, 1 is textured, faint, noisy and shaken."""
    epochs: int = 5
    """Times that the training videos are gone through."""
    start: str = "rendered"
    """Weights to start from."""
    scratch: bool = False
    """Train a second network from random weights, with the same videos and as many steps, to compare."""
    seed: int = 0
    """Of the videos and of the training."""

    def __post_init__(self) -> None:
        for name in ("train_videos", "val_videos", "test_videos", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, not {getattr(self, name)}")
