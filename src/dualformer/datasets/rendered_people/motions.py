"""Bodies driven by captured motions: an optional file of joint positions, of which the package ships none.

The file is NumPy's ``npz``: ``pos`` (frames × 19 × 3, metres, y up, joints as in ``skeleton.JOINTS``), ``start`` and
``length`` (frames of each motion), ``label`` (what it shows), ``fps``.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from dualformer.datasets.rendered_people.movements import bump
from dualformer.datasets.rendered_people.skeleton import JOINT, JOINTS, PARENTS, Proportions

_LABELS: dict[str, tuple[str, ...]] = {
    "punch": ("punch/box",), "box": ("punch/box",), "wave": ("wave/cheer",), "wave high": ("wave/cheer",),
    "throw": ("throw",), "push": ("push",), "point": ("hand signals", "gesture/daily"), "swing": ("swordplay",),
    "beckon": ("hand signals",), "lift": ("gesture/daily",), "raise arms": ("wave/cheer", "exercise"),
    "kick": ("soccer kick", "kick"), "kick a ball": ("soccer kick",), "round kick": ("kick",),
    "pick up": ("bend/pick",), "bend down": ("bend/pick",), "sit down": ("sit/lie/stand",), "fall": ("fall/die",),
    "duck": ("roll/dodge", "hit/block"), "squat": ("exercise", "crouch/sneak"),
    "walk": ("walk",), "walk on the spot": ("walk",), "walk round": ("walk", "walk uneven terrain"), "run": ("run",),
    "run on the spot": ("run",), "march": ("walk", "stylised walk"), "sneak": ("crouch/sneak",), "jump": ("jump",),
    "hop": ("jump",), "jumping jack": ("exercise", "jump"), "climb": ("climb/hang",), "dance": ("dance",),
}  # fmt: skip
"""What the file may show for each action; others are always made from the table."""
_SECONDS = (0.8, 2.0)
_ARRAYS = ("pos", "start", "length", "label", "fps")
_NEEDED = (
    f"`motions` needs an npz file of pos (frames × {len(JOINTS)} × 3), fps, and start, length and label of each motion"
)


class Motions:
    """Captured motions of a file, by action. Raises ``ValueError`` for a file of another form."""

    def __init__(self, path: Path | str, share: float = 0.5) -> None:
        """``share`` of the actions that the file has are driven by it."""
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path} does not exist; `motions` is an npz file of joint positions")
        data = _read(path)
        if fault := _fault(data):
            raise ValueError(f"{path} {fault}; {_NEEDED}")
        self._positions = data["pos"].astype(np.float32)
        self._start, self._length, self._fps = data["start"], data["length"], float(data["fps"])
        labels = [str(label) for label in data["label"]]
        self.path, self.share = str(path), share
        self._of = {
            action: [i for i, label in enumerate(labels) if label in wanted and self._length[i] > 1.2 * self._fps]
            for action, wanted in _LABELS.items()
        }

    def drive(
        self, action: str, joints: np.ndarray, proportions: Proportions, phase: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Replaces the joints of an action (N × J × 3, in place) by those of a captured motion, if the file has one.

        The root stays where it is; bones keep their length; at both ends of the ``phase`` (N) nothing changes.
        """
        draws = rng.random(3)
        found = self._of.get(action, [])
        if not found or draws[0] >= self.share:
            return
        number = found[int(draws[1] * len(found))]
        length = int(self._length[number])
        window = min(length - 1, int(self._fps * (_SECONDS[0] + draws[2] * (_SECONDS[1] - _SECONDS[0]))))
        first = int(rng.integers(max(1, length - window)))
        at = np.clip(np.rint(first + phase * window).astype(np.int64), 0, length - 1)
        shown = self._positions[self._start[number] + at]
        across = shown[0, JOINT["l_hip"]] - shown[0, JOINT["r_hip"]]
        # Turned so that the left hip is at the left at first: the body looks where it looked.
        turn = math.atan2(float(across[2]), float(across[0]))
        cos, sin = math.cos(turn), math.sin(turn)
        shown = shown @ np.array(((cos, 0, -sin), (0, 1, 0), (sin, 0, cos)), dtype=np.float32)
        strength = bump(phase, 0.2, 0.8)[:, None]
        before = joints.copy()
        for joint, parent in enumerate(PARENTS):
            if parent < 0:
                continue
            own = before[:, joint] - before[:, parent]
            size = np.linalg.norm(own, axis=1, keepdims=True)
            other = shown[:, joint] - shown[:, parent]
            other = other / np.maximum(np.linalg.norm(other, axis=1, keepdims=True), 1e-6) * size
            way = own + strength * (other - own)
            joints[:, joint] = (
                joints[:, parent] + way / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-6) * size
            )


@lru_cache(maxsize=2)
def open_motions(path: str) -> Motions:
    """The motions of a file, read once a process."""
    return Motions(path)


def _read(path: Path | str) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no npz file, or only a part of one; {_NEEDED}")
    try:
        with np.load(path) as data:
            return {name: data[name] for name in _ARRAYS if name in data}
    except (ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged, or holds objects in place of numbers; {_NEEDED}") from error


def _fault(data: Mapping[str, np.ndarray]) -> str | None:
    """Returns what is wrong with the arrays of a file of motions."""
    if missing := [name for name in _ARRAYS if name not in data]:
        return f"lacks {missing[0]}"
    positions, start, length, label, fps = (data[name] for name in _ARRAYS)
    if positions.shape[1:] != (len(JOINTS), 3):
        return f"has positions of shape {positions.shape}"
    if positions.dtype.kind not in "fiu" or not np.isfinite(positions).all():
        return "has positions that are not finite numbers"
    if not start.shape == length.shape == label.shape or start.ndim != 1:
        return f"has {start.size} start, {length.size} length and {label.size} label, which must be as many"
    if fps.dtype.kind not in "fiu" or fps.size != 1 or not 0 < fps < np.inf:
        return f"has {fps} fps, which must be one number above 0"
    for first, count, name in zip(start.tolist(), length.tolist(), label, strict=True):
        if type(first) is not int or type(count) is not int or first < 0 or count < 1 or first + count > len(positions):
            return f"has a motion ({name}) of {count} frames from {first} on, of {len(positions)} frames in all"
    return None
