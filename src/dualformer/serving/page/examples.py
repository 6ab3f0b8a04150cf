"""Example videos for the page, rendered when it starts.

They show motions that the weights ``rendered`` know, so that the answers can be judged by eye. With other weights they
still show what the page does.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dualformer.datasets.rendered import ALL, Difficulty, Scene, render
from dualformer.video.encode import write_video

_MOTIONS = ("right", "left-right", "up-down-up")
_ONE_AFTER_ANOTHER = ("right", "up", "left-right")
_SCENE = Scene(classes=ALL, difficulty=Difficulty.at(0.3), wrap=True)
_SEED = 3


@dataclass(frozen=True, kw_only=True)
class Example:
    name: str
    path: Path


def render_examples(folder: Path) -> list[Example]:
    """Writes clips of one motion each, and a longer video of several, into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [_write(folder / f"{motion}.mp4", motion, (motion,)) for motion in _MOTIONS]
    found.append(_write(folder / "one-after-another.mp4", "three, one after another", _ONE_AFTER_ANOTHER))
    return found


def are_known(labels: tuple[str, ...]) -> bool:
    """Whether weights with these labels have learnt what the examples show."""
    return set(labels) >= {*_MOTIONS, *_ONE_AFTER_ANOTHER}


def _write(path: Path, name: str, motions: tuple[str, ...]) -> Example:
    clips = [render(_SCENE, ALL.index(motion), (_SEED, number)).frames for number, motion in enumerate(motions)]
    write_video(path, np.concatenate(clips), fps=_SCENE.fps)
    return Example(name=name, path=path)
