"""Hands before a camera that somebody wears: gestures drawn into the air, in four kinds.

The law is that of ``performance``: every gesture begins and ends in the clip's posture at its place, a clip shows one
of each kind round and round from anywhere, and the class is the order of the kinds.

World axes: x to the left of the camera, y up, z away from it, in metres; the camera is at 0. A hand's own axes: x to
the thumb, y along the fingers, z to where the palm looks. A pose is the wrist's place (3), three angles (turn about y,
tip about x, roll about z) and how far each finger is curled (5, 0 straight to 1 closed, thumb first).

Shape legend: P hands, T frames, S the 2 edges of a frame's time, N phases.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dualformer.datasets.rendered_people.bodies import Cones, Materials, cloth, skin
from dualformer.datasets.rendered_people.camera import Camera, look_at, to_and_fro
from dualformer.datasets.rendered_people.rounds import frame_order, frames_of_kinds, frames_of_one, orders_of

HAND_KINDS = ("line", "round", "angle", "grip")
HAND_ORDERS = orders_of(HAND_KINDS)
"""Class names: the kinds of gestures in their order, round and round, from ``line``."""

_FINGERS = ("thumb", "index", "middle", "ring", "little")
HAND_JOINTS = ("elbow", "wrist", *(f"{finger} {joint}" for finger in _FINGERS for joint in ("base", "middle", "tip")))

_BASES = np.array(((0.03, 0.025, 0.006), (0.029, 0.088, 0), (0.009, 0.092, 0), (-0.011, 0.087, 0), (-0.029, 0.076, 0)))
_LENGTHS = np.array(((0.045, 0.035), (0.045, 0.042), (0.05, 0.046), (0.045, 0.042), (0.036, 0.034)))
_SPREAD = np.array((0.75, 0.08, 0.0, -0.08, -0.18))
"""Radians by which straight fingers point to the thumb's side."""
_FOREARM = 0.42

Way = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Of the drawing: x to the right and y up at each phase, in units of its size; 0 at both ends."""


def _corners(*points: tuple[float, float]) -> Way:
    """From 0 through points and back to 0, slower at corners."""
    stations = np.array(((0.0, 0.0), *points, (0.0, 0.0)))
    length = np.concatenate(((0,), np.cumsum(np.linalg.norm(np.diff(stations, axis=0), axis=1))))
    length /= length[-1]

    def way(phase: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        row = np.clip(np.searchsorted(length, phase, side="right") - 1, 0, len(length) - 2)
        part = (phase - length[row]) / (length[row + 1] - length[row])
        part = part * part * (3 - 2 * part)
        x, y = (stations[row] + part[:, None] * (stations[row + 1] - stations[row])).T
        return x, y

    return way


def _circle(turns: float, flat: float = 1.0, start: float = math.pi / 2) -> Way:
    def way(phase: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        angle = start + 2 * math.pi * turns * phase
        return 0.8 * (np.cos(angle) - math.cos(start)), 0.8 * flat * (np.sin(angle) - math.sin(start))

    return way


def _star() -> Way:
    angles = math.pi / 2 + 2 * math.pi * 2 * np.arange(1, 5) / 5
    return _corners(*((float(np.cos(a)), float(np.sin(a)) - 1) for a in angles))


class Gesture(NamedTuple):
    """One way to move a hand."""

    kind: str
    way: Way | None = None
    nearer: float = 0.0
    """Metres towards the camera in its middle."""
    curl: tuple[float, float, float, float, float] | None = None
    """Of the fingers in its middle."""
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Degrees in its middle."""
    times: float = 0.5
    """How often what is in its middle comes and goes, in halves."""


GESTURES: dict[str, Gesture] = {
    "left": Gesture("line", _corners((-1.3, 0))),
    "right": Gesture("line", _corners((1.3, 0))),
    "up": Gesture("line", _corners((0, 1.2))),
    "down": Gesture("line", _corners((0, -1.2))),
    "to and fro": Gesture("line", _corners((0.8, 0), (-0.8, 0))),
    "up and down": Gesture("line", _corners((0, 0.8), (0, -0.8))),
    "circle": Gesture("round", _circle(-1)),
    "circle counterclockwise": Gesture("round", _circle(1)),
    "oval": Gesture("round", _circle(-1, flat=0.5)),
    "circle twice": Gesture("round", _circle(2, flat=0.8)),
    "eight": Gesture("round", lambda p: (0.7 * np.sin(4 * math.pi * p), 0.9 * (np.cos(2 * math.pi * p) - 1))),
    "square": Gesture("angle", _corners((1.2, 0), (1.2, -1.2), (0, -1.2))),
    "square counterclockwise": Gesture("angle", _corners((0, -1.2), (1.2, -1.2), (1.2, 0))),
    "tick": Gesture("angle", _corners((0.45, -0.8), (1.3, 0.5))),
    "caret": Gesture("angle", _corners((0.6, 1.1), (1.2, 0))),
    "triangle": Gesture("angle", _corners((0.7, -1.2), (-0.7, -1.2))),
    "star": Gesture("angle", _star()),
    "zigzag": Gesture("angle", _corners((0.9, 0), (0, -0.9), (0.9, -0.9))),
    "cross": Gesture("angle", _corners((1, -1), (1, 0), (0, -1))),
    "fist": Gesture("grip", curl=(1, 1, 1, 1, 1)),
    "spread": Gesture("grip", curl=(0, 0, 0, 0, 0)),
    "pinch": Gesture("grip", curl=(0.55, 0.62, 0.1, 0.1, 0.1), times=1.0),
    "two fingers": Gesture("grip", curl=(0.9, 0, 0, 1, 1)),
    "thumb up": Gesture("grip", curl=(0, 1, 1, 1, 1), turn=(0, 0, 60)),
    "push": Gesture("grip", nearer=-0.16, curl=(0, 0, 0, 0, 0), turn=(0, 15, 0)),
    "pull": Gesture("grip", nearer=0.12, curl=(0.8, 0.9, 0.9, 0.9, 0.9)),
    "turn over": Gesture("grip", turn=(165, 0, 0)),
    "rock": Gesture("grip", turn=(0, 0, 40), times=1.5),
    "nod": Gesture("grip", turn=(0, 55, 0), times=1.0),
    "tap": Gesture("grip", turn=(0, 28, 0), nearer=-0.06, times=1.0),
}
HAND_NAMES = tuple(GESTURES)
"""All, in the order of their numbers in the truth."""
_BY_KIND = {kind: tuple(name for name, one in GESTURES.items() if one.kind == kind) for kind in HAND_KINDS}
_POSTURES = np.array(
    (
        (0.1, 0.1, 0.1, 0.1, 0.1),
        (0.8, 0.0, 0.9, 0.95, 0.95),
        (0.8, 0.0, 0.05, 0.95, 0.95),
        (0.3, 0.45, 0.5, 0.5, 0.5),
        (0.9, 0.95, 0.95, 0.95, 0.95),
    )
)
"""Open, pointing, two fingers, loose, closed."""


@dataclass(frozen=True)
class HandPerformance:
    """A clip's hands and where they are."""

    joints: np.ndarray
    """P × T × S × J × 3 metres."""
    actions: np.ndarray
    """P × T, int64: number in ``HAND_NAMES``."""
    left: tuple[bool, ...]


def perform_hands(
    shown: int | str, frames: int, *, others: int, variety: float, sway: float, look: np.random.Generator,
    order: np.random.Generator,
) -> HandPerformance:  # fmt: skip
    """Draws a performance of class ``HAND_ORDERS[shown]``, or of the gesture ``shown``; see ``performance.perform``.

    ``others`` 1: the other hand is there as well and does one gesture again and again."""
    left = bool(look.random() < 0.3 * variety)
    if isinstance(shown, str):
        counts = frames_of_one(frames, 2, look)
        chosen = [shown] * len(counts)
        at = np.arange(frames)
    else:
        counts = frames_of_kinds(frames, variety, look)
        chosen = [_BY_KIND[kind][look.integers(len(_BY_KIND[kind]))] for kind in HAND_KINDS]
        at = frame_order(shown, counts, int(order.integers(frames)))
    joints, numbers = _gestures(chosen, counts, left, variety, look)
    found, actions, sides = [joints[at]], [numbers[at]], [left]
    for _ in range(min(others, 1)):
        times = int(look.integers(2, 4))
        name = HAND_NAMES[look.integers(len(HAND_NAMES))]
        share = np.full(times, frames // times)
        share[: frames % times] += 1
        joints, numbers = _gestures([name] * times, share, not left, variety, look)
        joints[..., 0] += (1 if not left else -1) * look.uniform(0.12, 0.2)
        joints[..., 1] -= look.uniform(0, 0.08)
        shift = int(look.integers(frames))
        found.append(np.roll(joints, shift, axis=0))
        actions.append(np.roll(numbers, shift))
        sides.append(not left)
    moved = np.stack(found)
    if sway:
        times = np.stack([to_and_fro(2 * frames, look) for _ in range(3 * len(found))]).reshape(
            len(found), 3, frames, 2
        )
        moved += 0.006 * sway * times.transpose(0, 2, 3, 1)[:, :, :, None]
    return HandPerformance(moved, np.stack(actions), tuple(sides))


def _gestures(
    names: list[str], counts: np.ndarray, left: bool, variety: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """T × S × J × 3 metres and T numbers, one gesture after the other, from one posture at one place."""
    chosen = int(rng.integers(len(_POSTURES))) if rng.random() < max(variety, 0.3) else 1
    curl = np.clip(_POSTURES[chosen] + 0.1 * variety * rng.standard_normal(5), 0, 1)
    place = np.array(
        (rng.uniform(-0.05, 0.05), rng.uniform(-0.1, 0.0), rng.uniform(0.38, 0.38 + 0.2 * max(variety, 0.3)))
    )
    angles = np.radians((rng.normal(0, 15 * variety), rng.normal(-25, 15 * variety), rng.normal(0, 15 * variety)))
    size = 1 + 0.12 * variety * np.clip(rng.standard_normal(), -2, 2)
    shoulder = np.array((-0.25 if not left else 0.25, -0.42, 0.12)) + 0.06 * variety * rng.standard_normal(3)
    found, numbers = [], []
    for name, count in zip(names, counts.tolist(), strict=True):
        edges = np.clip((np.arange(count)[:, None] + np.array((0.0, 1.0)) + rng.uniform(-0.4, 0.4)) / count, 0, 1)
        phase = edges.reshape(-1) ** float(np.exp(variety * rng.uniform(-0.3, 0.3)))
        found.append(_gesture(GESTURES[name], phase, place, angles, curl, left, size, shoulder, variety, rng))
        numbers.append(np.full(count, HAND_NAMES.index(name)))
    joints = np.concatenate(found)
    return joints.reshape(-1, 2, *joints.shape[1:]), np.concatenate(numbers)


def _gesture(
    gesture: Gesture, phase: np.ndarray, place: np.ndarray, angles: np.ndarray, curl: np.ndarray, left: bool,
    size: float, shoulder: np.ndarray, variety: float, rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """N × J × 3 metres."""
    reach, tilt = rng.uniform(0.07, 0.13), variety * rng.normal(0, 0.12)
    lean = variety * rng.normal(0, 0.3, 2)
    middle = np.sin(math.pi * 2 * gesture.times * phase) ** 2 if gesture.times != 0.5 else np.sin(math.pi * phase) ** 2
    wrist = np.repeat(place[None], len(phase), axis=0)
    if gesture.way:
        easy = 0.5 - 0.5 * np.cos(math.pi * phase)
        x, y = gesture.way(0.6 * phase + 0.4 * easy)
        right, up = math.cos(tilt) * x - math.sin(tilt) * y, math.sin(tilt) * x + math.cos(tilt) * y
        wrist[:, 0] -= reach * right  # x is to the left
        wrist[:, 1] += reach * up
        wrist[:, 2] += reach * (lean[0] * right + lean[1] * up)
    wrist[:, 2] -= gesture.nearer * middle
    turned = angles + middle[:, None] * np.radians(
        np.array(gesture.turn) * (1 + 0.15 * variety * rng.standard_normal())
    )
    curled = np.repeat(curl[None], len(phase), axis=0)
    if gesture.curl:
        curled += middle[:, None] * (np.array(gesture.curl) - curled)
    return hand_joints(wrist, turned, curled, left, size, shoulder)


def hand_joints(
    wrist: np.ndarray, angles: np.ndarray, curl: np.ndarray, left: bool, size: float, shoulder: np.ndarray
) -> np.ndarray:
    """N × J × 3 metres, from the wrist's place (N × 3), angles (N × 3, radians) and curls (N × 5).

    A right hand's thumb is at its left when the fingers point up and the palm looks away from the camera."""
    rows = len(wrist)
    bend = np.stack((math.radians(75) * curl, math.radians(165) * curl), axis=-1)  # N 5 2
    bend[:, 0] *= 0.55
    aside = _SPREAD * (1 - 0.8 * curl)
    aside[:, 0] = _SPREAD[0] - 1.2 * curl[:, 0]
    along = np.cos(bend)
    ways = np.stack((np.sin(aside)[..., None] * along, np.cos(aside)[..., None] * along, np.sin(bend)), axis=-1)
    ways *= _LENGTHS[..., None]
    own = np.empty((rows, 5, 3, 3))
    own[:, :, 0] = _BASES
    own[:, :, 1] = own[:, :, 0] + ways[:, :, 0]
    own[:, :, 2] = own[:, :, 1] + ways[:, :, 1]
    own *= size
    if left:
        own[..., 0] *= -1
    turn, tip, roll = angles.T * np.array(((-1 if left else 1), 1, (-1 if left else 1)))[:, None]
    zero, one = np.zeros(rows), np.ones(rows)

    def stacked(*values: np.ndarray) -> np.ndarray:
        return np.stack(values, axis=-1).reshape(rows, 3, 3)

    about_y = stacked(np.cos(turn), zero, np.sin(turn), zero, one, zero, -np.sin(turn), zero, np.cos(turn))
    about_x = stacked(one, zero, zero, zero, np.cos(tip), np.sin(tip), zero, -np.sin(tip), np.cos(tip))
    about_z = stacked(np.cos(roll), -np.sin(roll), zero, np.sin(roll), np.cos(roll), zero, zero, zero, one)
    joints = np.empty((rows, len(HAND_JOINTS), 3))
    joints[:, 2:] = own.reshape(rows, 15, 3) @ (about_z @ about_x @ about_y).transpose(0, 2, 1) + wrist[:, None]
    joints[:, 1] = wrist
    back = shoulder - wrist
    joints[:, 0] = wrist + back * (_FOREARM * size / np.linalg.norm(back, axis=1, keepdims=True))
    joints[:, 0, 2] = np.maximum(joints[:, 0, 2], 0.22)  # not behind the camera, where nothing is drawn
    return joints


def dress_hand(
    left: bool, materials: Materials, bare: int, rng: np.random.Generator, *, colourful: float, texture: float
) -> Cones:
    """Cones of a hand of material ``bare`` in a new sleeve."""
    sleeve = cloth(rng, materials, colourful, texture)
    word = "left" if left else "right"
    up = rng.uniform(0.2, 0.95)
    cones = Cones()
    cones.add(f"{word} forearm", {"elbow": 1}, {"wrist": 1}, (0.05, 0.029), sleeve, other=bare, split=up)
    cones.add(f"{word} forearm", {"elbow": 1}, {"elbow": 1 - up, "wrist": up}, (0.055, 0.042), sleeve)
    for finger in _FINGERS:
        base, middle, tip = (f"{finger} {joint}" for joint in ("base", "middle", "tip"))
        thick = 0.0105 if finger == "thumb" else 0.0092
        cones.add(f"{word} hand", {"wrist": 0.92, base: 0.08}, {base: 1}, (0.02, 0.0135), bare)
        cones.add(f"{word} hand", {base: 1}, {middle: 1}, (thick * 1.1, thick), bare)
        cones.add(f"{word} hand", {middle: 1}, {tip: 1}, (thick, thick * 0.85), bare)
    return cones


def hand_skin(materials: Materials, rng: np.random.Generator, colourful: float) -> int:
    """A new material for both hands of one person."""
    return materials.add(skin(rng, colourful), np.zeros(3), 0, (1, 1))


def worn_camera(size: int, frames: int, *, around: float, shake: float, rng: np.random.Generator) -> Camera:
    """A camera at 0 that looks ahead and, with ``around``, somewhat downwards."""
    down = around * math.radians(rng.uniform(0, 25))
    axes = look_at(np.zeros(3), np.array((0.0, -math.sin(down), math.cos(down))))
    focal = size * rng.uniform(0.75, 1.25)
    reach = shake * size
    centre = np.full(2, size / 2) + rng.uniform(-0.08, 0.08, 2) * size * around
    centre[1] += focal * math.tan(down) * 0.8  # the hand stays in sight
    shift = np.stack([reach * to_and_fro(frames, rng) for _ in range(2)], axis=-1)
    return Camera(
        np.zeros(3), axes, float(focal), centre, shift, 1 + shake * to_and_fro(frames, rng),
        0.7 * shake * to_and_fro(frames, rng), size,
    )  # fmt: skip
