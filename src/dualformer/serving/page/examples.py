"""Example videos for the page, rendered when it starts.

They show motions that the weights ``rendered`` know, so that the answers can be judged by eye. With other weights they
still show what the page does.
"""

from pathlib import Path

import numpy as np

from dualformer.datasets.rendered import ALL, Difficulty, Scene, render
from dualformer.video.encode import write_video

_MOTIONS = ("right", "left-right", "up-down-up")
_ONE_AFTER_ANOTHER = ("right", "up", "left-right")
_SCENE = Scene(classes=ALL, difficulty=Difficulty.at(0.3), wrap=True)
_SEED = 3


def render_examples(folder: Path) -> dict[str, Path]:
    """Writes clips of one motion each and a longer video of several into ``folder``; returns paths by name."""
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, Path] = {}
    for file, name, motions in (
        *((motion, motion, (motion,)) for motion in _MOTIONS),
        ("one-after-another", "three, one after another", _ONE_AFTER_ANOTHER),
    ):
        clips = [render(_SCENE, ALL.index(motion), (_SEED, number)).frames for number, motion in enumerate(motions)]
        written[name] = folder / f"{file}.mp4"
        write_video(written[name], np.concatenate(clips), fps=_SCENE.fps)
    return written


def are_known(labels: tuple[str, ...]) -> bool:
    """Whether weights with these labels have learnt what the examples show."""
    return set(labels) >= {*_MOTIONS, *_ONE_AFTER_ANOTHER}
