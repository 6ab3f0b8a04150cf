"""A body as 19 joints: how long its bones are, how far its joints turn, and where a pose puts them.

World axes: x, y up, z, in metres. A body at rest faces +z with hanging arms; its left is +x. A pose is a row of
``DEGREES_OF_FREEDOM``: root position in metres, angles in radians. The joints are those of common motion capture files.

Shape legend: N rows (people × times), J joints, D degrees of freedom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

JOINTS = (
    *("hips", "spine", "chest", "neck", "head"),
    *("l_shoulder", "l_elbow", "l_wrist", "r_shoulder", "r_elbow", "r_wrist"),
    *("l_hip", "l_knee", "l_ankle", "l_toe", "r_hip", "r_knee", "r_ankle", "r_toe"),
)  # fmt: skip
PARENTS = (-1, 0, 1, 2, 3, 2, 5, 6, 2, 8, 9, 0, 11, 12, 13, 0, 15, 16, 17)
JOINT = {name: number for number, name in enumerate(JOINTS)}

_LIMITS = {
    "x": (-9, 9), "y": (-9, 9), "z": (-9, 9), "yaw": (-999, 999), "pitch": (-200, 200), "roll": (-200, 200),
    "bend": (-35, 85), "side": (-40, 40), "twist": (-55, 55), "nod": (-45, 50), "tilt": (-35, 35), "turn": (-75, 75),
    **{f"{side}_{name}": limits for side in "lr" for name, limits in (
        ("flex", (-60, 180)), ("abd", (-45, 170)), ("rot", (-90, 95)), ("elbow", (0, 148)),
        ("hip", (-45, 125)), ("spread", (-25, 80)), ("turn", (-40, 50)), ("knee", (0, 145)), ("foot", (-30, 50)),
    )},
}  # fmt: skip
"""Metres for the root's position, else degrees. ``pitch`` and ``bend`` go forwards; ``flex`` and ``hip`` raise a limb
forwards, ``abd`` and ``spread`` outwards; ``rot`` and ``turn`` rotate it about itself, outwards."""

DEGREES_OF_FREEDOM = tuple(_LIMITS)
DOF = {name: number for number, name in enumerate(DEGREES_OF_FREEDOM)}
IN_METRES = np.array([name in ("x", "y", "z") for name in DEGREES_OF_FREEDOM])
UNITS = np.where(IN_METRES, 1.0, math.pi / 180)
_LOW, _HIGH = (np.array([limits[k] for limits in _LIMITS.values()]) * UNITS for k in (0, 1))

_REST = {
    "hips": (0, 0, 0), "spine": (0, 0.12, 0), "chest": (0, 0.25, -0.01), "neck": (0, 0.15, 0), "head": (0, 0.27, 0.02),
    "l_shoulder": (0.18, 0.10, 0), "l_elbow": (0, -0.29, 0), "l_wrist": (0, -0.26, 0),
    "l_hip": (0.09, -0.05, 0), "l_knee": (0, -0.43, 0), "l_ankle": (0, -0.41, 0), "l_toe": (0, -0.05, 0.17),
}  # fmt: skip
"""Of a body of 1.75 m: each joint as seen from its parent."""


def _rest_offsets() -> np.ndarray:
    rows = []
    for name in JOINTS:
        x, y, z = _REST[name.replace("r_", "l_", 1) if name.startswith("r_") else name]
        rows.append((-x if name.startswith("r_") else x, y, z))
    return np.array(rows)


REST_OFFSETS = _rest_offsets()
REST_HEIGHT = 1.75


@dataclass(frozen=True, kw_only=True)
class Proportions:
    """Sizes of one body."""

    height: float
    """Metres, from the floor to the top of the head."""
    girth: float
    """Thickness of trunk and limbs, 1 is common."""
    shoulders: float
    """Breadth of the shoulders, 1 is common."""
    hips: float
    legs: float
    """Length of legs and arms for the height, 1 is common."""
    head: float
    """Size of the head for the height: 1 of an adult, up to 1.4 of a child."""

    @classmethod
    def draw(cls, rng: np.random.Generator, variety: float) -> Proportions:
        """Of any person at ``variety`` 1, of an average one at 0. One in six is a child."""
        child = rng.random() < variety / 6
        factors = np.exp(variety * np.clip(rng.standard_normal(5), -2, 2) * (0.055, 0.14, 0.09, 0.09, 0.04))
        height = rng.uniform(1.0, 1.45) if child else REST_HEIGHT * factors[0] * (1 - 0.03 * variety)
        return cls(
            height=float(height),
            girth=float(factors[1]),
            shoulders=float(factors[2]),
            hips=float(factors[3]),
            legs=float(factors[4] * (0.95 if child else 1)),
            head=float(1 + (0.9 * (1.45 - height) if child else 0)),
        )

    def offsets(self) -> np.ndarray:
        """J × 3 metres: each joint as seen from its parent, at rest."""
        offsets = REST_OFFSETS * (self.height / REST_HEIGHT)
        for name, factor in (("shoulder", self.shoulders), ("hip", self.hips)):
            for side in "lr":
                offsets[JOINT[f"{side}_{name}"], 0] *= factor
        for side in "lr":
            for name in ("elbow", "wrist", "knee", "ankle"):
                offsets[JOINT[f"{side}_{name}"]] *= self.legs
        offsets[JOINT["head"]] *= self.head
        return offsets


def within_limits(poses: np.ndarray) -> np.ndarray:
    """N × D, each angle within what joints allow."""
    return np.clip(poses, _LOW, _HIGH)


def _matrices(first: np.ndarray, second: np.ndarray, third: np.ndarray, order: str) -> np.ndarray:
    """… × 3 × 3 from three angles each: rotations about the axes that ``order`` names, the last applied first."""
    product = None
    for axis, angle in zip(order, (first, second, third), strict=True):
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.zeros((*angle.shape, 3, 3))
        a, b = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
        turn[..., "xyz".index(axis), "xyz".index(axis)] = 1
        turn[..., a, a] = turn[..., b, b] = cos
        turn[..., b, a] = sin
        turn[..., a, b] = -sin
        product = turn if product is None else product @ turn
    assert product is not None
    return product


_TRUNK = np.array([[DOF[name] for name in names] for names in (
    ("yaw", "pitch", "roll"), ("twist", "bend", "side"), ("twist", "bend", "side"), ("turn", "nod", "tilt"),
)])  # fmt: skip
"""Rotations of hips, spine, chest, head; about y, x, z."""
_TRUNK_SHARE = np.array([1.0, 0.5, 0.5, 1.0])
_LIMBS = np.array([[DOF[f"{side}_{name}"] for name in names] for side in "lr" for names in (
    ("flex", "abd", "rot"), ("hip", "spread", "turn"),
)])  # fmt: skip
"""Of left arm, left leg, right arm, right leg; about x (backwards), z, y."""
_LIMB_SIGNS = np.array([[-1, 1, 1], [-1, 1, 1], [-1, -1, -1], [-1, -1, -1]])
_HINGES = np.array([DOF[name] for side in "lr" for name in (f"{side}_elbow", f"{side}_knee", f"{side}_foot")])
_HINGE_SIGNS = np.array([-1, 1, 1, -1, 1, 1])


def forward_kinematics(poses: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns joints, N × J × 3 metres, and head frames, N × 3 × 3, whose columns are left, up and forwards.

    ``poses`` N × D, ``offsets`` N × J × 3 or J × 3. The root stands at (x, y, z) of the pose plus the height of
    standing legs: see ``on_the_floor``.
    """
    poses = within_limits(poses)
    rows = len(poses)
    offsets = np.broadcast_to(offsets, (rows, len(JOINTS), 3))
    angles = poses[:, _TRUNK] * _TRUNK_SHARE[:, None]
    trunk = _matrices(angles[..., 0], angles[..., 1], angles[..., 2], "yxz")
    limbs = poses[:, _LIMBS] * _LIMB_SIGNS
    limb = _matrices(limbs[..., 0], limbs[..., 1], limbs[..., 2], "xzy")
    bends = poses[:, _HINGES] * _HINGE_SIGNS
    zero = np.zeros_like(bends)
    hinge = _matrices(bends, zero, zero, "xyz")

    hips = trunk[:, 0]
    spine = hips @ trunk[:, 1]
    chest = spine @ trunk[:, 2]
    head = chest @ trunk[:, 3]
    frames = np.empty((rows, len(JOINTS), 3, 3))
    """The frame in which a joint's own offset is measured: its parent's."""
    frames[:, JOINT["spine"]] = hips
    frames[:, JOINT["chest"]] = spine
    frames[:, JOINT["neck"]] = chest
    frames[:, JOINT["head"]] = head
    for side, (arm, leg) in (("l", (0, 1)), ("r", (2, 3))):
        upper, thigh = chest @ limb[:, arm], hips @ limb[:, leg]
        shin = thigh @ hinge[:, 3 * (side == "r") + 1]
        frames[:, JOINT[f"{side}_shoulder"]] = chest
        frames[:, JOINT[f"{side}_elbow"]] = upper
        frames[:, JOINT[f"{side}_wrist"]] = upper @ hinge[:, 3 * (side == "r")]
        frames[:, JOINT[f"{side}_hip"]] = hips
        frames[:, JOINT[f"{side}_knee"]] = thigh
        frames[:, JOINT[f"{side}_ankle"]] = shin
        frames[:, JOINT[f"{side}_toe"]] = shin @ hinge[:, 3 * (side == "r") + 2]
    frames[:, 0] = hips
    steps = (frames @ offsets[..., None])[..., 0]
    joints = np.empty((rows, len(JOINTS), 3))
    joints[:, 0] = poses[:, :3]
    for joint, parent in enumerate(PARENTS[1:], start=1):
        joints[:, joint] = joints[:, parent] + steps[:, joint]
    return joints, head


_SOLES = np.array(
    [0.10, 0.1, 0.1, 0.1, 0.02, 0.07, 0.05, 0.04, 0.07, 0.05, 0.04, 0.1, 0.06, 0.07, 0.025, 0.1, 0.06, 0.07, 0.025]
)
"""How high above the floor each joint comes to lie, metres."""
_ANKLES = np.array([JOINT["l_ankle"], JOINT["r_ankle"]])


def on_the_floor(joints: np.ndarray, lift: np.ndarray) -> np.ndarray:
    """Returns the joints (N × J × 3) moved up or down so that the lowest is ``lift`` (N, metres) above the floor."""
    lowest = (joints[..., 1] - _SOLES).min(axis=1)
    moved = joints.copy()
    moved[..., 1] += (lift - lowest)[:, None]
    return moved


def feet_in_place(joints: np.ndarray, home: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Returns the joints (N × J × 3) moved on the floor so that the foot that stands, or both, stay where they were.

    ``home`` (2 × 2) is where left and right ankle stand at rest, x and z; ``held`` (N) is how much that counts, 0 to 1.
    """
    ankles = joints[:, _ANKLES]
    weight = np.exp(-(ankles[..., 1] - ankles[..., 1].min(axis=1, keepdims=True)) / 0.04)
    weight *= (held / weight.sum(axis=1))[:, None]
    away = (weight[..., None] * (ankles[..., [0, 2]] - home)).sum(axis=1)
    moved = joints.copy()
    moved[..., 0] -= away[:, None, 0]
    moved[..., 2] -= away[:, None, 1]
    return moved


def reach(joints: np.ndarray, limb: tuple[str, str, str], target: np.ndarray, weight: np.ndarray) -> None:
    """Bends a limb (names of its three joints) in place so that its end goes ``weight`` (N) of the way to ``target``
    (N × 3), as far as it is long; the middle joint bends the way it did."""
    root, middle, end = (JOINT[name] for name in limb)
    used = np.flatnonzero(weight > 1e-3)
    if not len(used):
        return
    start, elbow, hand = joints[used, root], joints[used, middle], joints[used, end]
    upper = np.linalg.norm(elbow - start, axis=1)
    lower = np.linalg.norm(hand - elbow, axis=1)
    goal = hand + weight[used, None] * (target[used] - hand)
    way = goal - start
    far = np.maximum(np.linalg.norm(way, axis=1), 1e-6)
    straight = way / far[:, None]
    far = np.clip(far, np.abs(upper - lower) + 0.02, 0.999 * (upper + lower))
    along = (upper**2 - lower**2 + far**2) / (2 * far)
    out = elbow - start
    out = out - (out * straight).sum(1, keepdims=True) * straight + 1e-4
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    aside = np.sqrt(np.maximum(upper**2 - along**2, 0))
    joints[used, middle] = start + along[:, None] * straight + aside[:, None] * out
    moved = start + far[:, None] * straight
    for joint in [JOINT[f"{limb[2][0]}_toe"]] if "ankle" in limb[2] else []:
        joints[used, joint] += moved - hand
    joints[used, end] = moved
