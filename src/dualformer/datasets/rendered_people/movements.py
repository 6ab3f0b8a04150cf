"""From an action and a posture to poses over the phase: keys, swings, steps, jumps and turns, each in a style.

Shape legend: N phases, D degrees of freedom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dualformer.datasets.rendered_people.actions import Action, Gait, columns, key_poses
from dualformer.datasets.rendered_people.skeleton import DOF, IN_METRES, UNITS

_DIMENSIONS = len(DOF)


@dataclass(frozen=True)
class Style:
    """How one person does one action."""

    left: bool
    """Whether left limbs act."""
    size: float
    """Of all angles, 1 as in the table."""
    warp: float
    """The phase is taken to this power: below 1 a quick beginning."""
    lag: np.ndarray
    """D: how much later in phase each joint is at its fastest."""
    error: np.ndarray
    """D: radians by which the keys differ from the table."""
    turn: float
    """Radians by which the body is turned away from where it looks, in the middle."""

    @classmethod
    def draw(cls, rng: np.random.Generator, variety: float) -> Style:
        error = rng.standard_normal(_DIMENSIONS) * UNITS * 9 * variety
        error[IN_METRES] = 0
        return cls(
            left=bool(rng.random() < 0.5),
            size=float(1 + variety * rng.uniform(-0.22, 0.14)),
            warp=float(np.exp(variety * rng.uniform(-0.35, 0.35))),
            lag=variety * rng.uniform(-0.07, 0.07, _DIMENSIONS),
            error=error,
            turn=float(variety * rng.normal(0, 0.12)),
        )


class Movement(NamedTuple):
    """Poses over the phase, and what belongs to them."""

    poses: np.ndarray
    """N × D; x and z are the way of the root from its place."""
    lift: np.ndarray
    """N: metres above the floor."""
    held: np.ndarray
    """N: how much standing feet stay where they are, 0 to 1."""
    done: np.ndarray
    """N: how far the action is at its height, 0 to 1."""


def _smooth(part: np.ndarray) -> np.ndarray:
    part = np.clip(part, 0, 1)
    return part * part * (3 - 2 * part)


def bump(phase: np.ndarray, rise: float, fall: float) -> np.ndarray:
    """0 at the ends, 1 between ``rise`` and ``fall``."""
    return _smooth(phase / rise) * _smooth((1 - phase) / (1 - fall))


def move(action: Action, posture: np.ndarray, phase: np.ndarray, style: Style, *, most_cycles: float) -> Movement:
    """Poses of the action at each phase (N, 0 to 1); at 0 and 1 the ``posture`` (D).

    What goes to and fro does so ``most_cycles`` times at most: more could not be seen in few frames.
    """
    phase = np.clip(phase, 0, 1) ** style.warp
    within = np.sin(math.pi * phase)
    phases, keys = key_poses(action, posture, style.left)
    keys[1:-1] = posture + style.size * (keys[1:-1] - posture) + style.error
    # Each joint a little earlier or later: nobody moves all at once.
    each = np.clip(phase[:, None] + style.lag * within[:, None], 0, 1)
    row = np.clip(np.searchsorted(phases, each, side="right") - 1, 0, len(phases) - 2)
    part = _smooth((each - phases[row]) / (phases[row + 1] - phases[row]))
    column = np.arange(_DIMENSIONS)
    poses = keys[row, column]
    poses = poses + part * (keys[row + 1, column] - poses)

    first, last = (phases[1], phases[-2]) if action.keys else (0.5, 0.5)
    if action.swings:
        strength = bump(phase, first, last)
        through = np.clip((phase - first) / max(last - first, 1e-6), 0, 1)
        for name, angle, cycles in action.swings:
            wave = strength * style.size * np.sin(2 * math.pi * min(cycles, most_cycles) * through)
            for at, sign in columns(name, style.left):
                poses[:, at] += sign * angle * UNITS[at] * wave
    lift = np.zeros(len(phase))
    if action.gait:
        lift += _steps(action.gait, poses, phase, style, most_cycles)
    if action.jump:
        start, end, height = action.jump
        flight = np.clip((phase - start) / (end - start), 0, 1)
        lift += style.size * height * 4 * flight * (1 - flight)
    if action.spin:
        sign = -1.0 if style.left else 1.0
        part = _smooth(phase) if action.spin == 360 else within**2
        poses[:, DOF["yaw"]] += sign * math.radians(action.spin) * part
    poses[:, DOF["yaw"]] += style.turn * within
    held = np.full(len(phase), 1.0 if action.planted else 0.0)
    if action.jump and not action.gait:
        held *= np.clip(1 - 12 * lift, 0, 1)
    return Movement(poses, lift, held, bump(phase, max(first, 0.05), min(last, 0.95)))


def _steps(gait: Gait, poses: np.ndarray, phase: np.ndarray, style: Style, most_cycles: float) -> np.ndarray:
    """Adds steps to the poses in place; returns the height of flight, N metres."""
    there = np.sin(math.pi * phase) ** 2
    way = math.hypot(gait.forwards, gait.aside) * style.size
    there_cycles = min(1.6 * way / gait.stride, most_cycles / 2)
    cycle = 2 * math.pi * (there_cycles * there if way else min(gait.cycles, most_cycles) * phase)
    cycle = cycle + (math.pi if style.left else 0)
    strength = bump(phase, 0.14, 0.86)
    sides = {"l": cycle, "r": cycle + math.pi}
    for side, angle in sides.items():
        forwards = -np.cos(angle) if way == 0 or gait.aside == 0 else 0.3 * np.sin(angle)
        wave = strength * style.size * math.radians(1)
        poses[:, DOF[f"{side}_hip"]] += wave * (gait.swing * forwards + 0.35 * gait.knee * np.maximum(np.sin(angle), 0))
        poses[:, DOF[f"{side}_knee"]] += wave * (4 + gait.knee * np.maximum(np.sin(angle), 0))
        poses[:, DOF[f"{side}_foot"]] += wave * 12 * np.cos(angle)
        poses[:, DOF[f"{side}_flex"]] += wave * (gait.lift_arms - gait.arms * forwards)
        poses[:, DOF[f"{side}_elbow"]] += wave * gait.elbow
        if gait.aside:
            poses[:, DOF[f"{side}_spread"]] += wave * 16 * np.sin(2 * angle)
    poses[:, DOF["bend"]] += strength * math.radians(gait.bend)
    poses[:, DOF["twist"]] += strength * math.radians(0.22 * gait.swing) * np.cos(cycle)
    poses[:, DOF["side"]] += strength * math.radians(3) * np.sin(cycle)
    sign = -1.0 if style.left else 1.0
    poses[:, DOF["z"]] += gait.forwards * style.size * there
    poses[:, DOF["x"]] -= sign * gait.aside * style.size * there
    if gait.round:
        angle = 2 * math.pi * _smooth(phase)
        poses[:, DOF["z"]] += gait.round * style.size * np.sin(angle)
        poses[:, DOF["x"]] += sign * gait.round * style.size * (1 - np.cos(angle))
        poses[:, DOF["yaw"]] += sign * angle
    return strength * gait.bounce * np.abs(np.sin(cycle))


_POSTURES: tuple[dict[str, float], ...] = (
    {},
    {},
    {"l_abd": 12, "r_abd": 12, "l_spread": 8, "r_spread": 8},
    {"l_flex": 35, "r_flex": 30, "l_elbow": 105, "r_elbow": 115, "l_abd": 12, "r_abd": 12, "l_hip": 12, "l_knee": 18},
    {"l_flex": -22, "r_flex": -22, "l_abd": 38, "r_abd": 38, "l_rot": -70, "r_rot": -70, "l_elbow": 95, "r_elbow": 95},
    {"l_flex": 32, "r_flex": 30, "l_rot": -60, "r_rot": -60, "l_elbow": 100, "r_elbow": 105},
    {"bend": 14, "nod": 12, "l_flex": 8, "r_flex": 8},
    {"l_hip": 14, "r_hip": 10, "l_knee": 22, "r_knee": 22, "bend": 14, "l_flex": 15, "r_flex": 15, "l_elbow": 40,
     "r_elbow": 40},
    {"r_flex": 45, "r_elbow": 100, "r_rot": -30, "nod": 18},
)  # fmt: skip
"""Standing, twice; at ease; on guard; hands on the hips; arms folded; stooped; ready; reading something. Degrees."""


def draw_posture(rng: np.random.Generator, variety: float) -> np.ndarray:
    """D, metres and radians: how somebody stands between actions."""
    chosen = _POSTURES[rng.integers(len(_POSTURES))] if rng.random() < variety else _POSTURES[0]
    posture = np.zeros(_DIMENSIONS)
    for side in "lr":
        posture[DOF[f"{side}_abd"]], posture[DOF[f"{side}_elbow"]] = math.radians(7), math.radians(18)
        posture[DOF[f"{side}_spread"]] = math.radians(3)
        posture[DOF[f"{side}_hip"]], posture[DOF[f"{side}_knee"]] = math.radians(5), math.radians(10)
    for name, angle in chosen.items():
        posture[DOF[name]] = math.radians(angle)
    loose = rng.standard_normal(_DIMENSIONS) * math.radians(4) * variety
    loose[IN_METRES] = 0
    for name in ("yaw", "pitch", "roll"):
        loose[DOF[name]] = 0
    return posture + loose
