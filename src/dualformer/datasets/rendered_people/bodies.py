"""What bodies are drawn as: cones with round ends between joints, dressed in materials.

Shape legend: P people, C cones, J joints, M materials.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from dualformer.datasets.rendered_people.skeleton import JOINTS, REST_HEIGHT, Proportions
from dualformer.datasets.rendered_people.textures import patterns

PARTS = (
    *("head", "trunk", "left upper arm", "left forearm", "left hand", "right upper arm", "right forearm"),
    *("right hand", "left thigh", "left shin", "left foot", "right thigh", "right shin", "right foot", "thing"),
)  # fmt: skip
"""Names of the parts of a body; in the truth they count from 1, and 0 is nobody."""
_PART = {name: number for number, name in enumerate(PARTS, start=1)}

Mix = dict[str, float]
"""A point as a weighted sum of joints."""


class Palette(NamedTuple):
    """Materials as arrays, one row each."""

    first: np.ndarray
    second: np.ndarray
    pattern: np.ndarray
    scale: np.ndarray


@dataclass
class Materials:
    """Colours and patterns, one row each."""

    first: list[np.ndarray] = field(default_factory=list)
    """Colours (3, 0 to 1)."""
    second: list[np.ndarray] = field(default_factory=list)
    pattern: list[int] = field(default_factory=list)
    scale: list[tuple[float, float]] = field(default_factory=list)
    """Patterns a metre along the limb, and a radius across."""

    def add(self, first: np.ndarray, second: np.ndarray, pattern: int, scale: tuple[float, float]) -> int:
        self.first.append(np.clip(first, 0.02, 0.98))
        self.second.append(np.clip(second, 0.02, 0.98))
        self.pattern.append(pattern)
        self.scale.append(scale)
        return len(self.first) - 1

    def palette(self) -> Palette:
        return Palette(np.array(self.first), np.array(self.second), np.array(self.pattern), np.array(self.scale))


@dataclass
class Cones:
    """Cones between points that are sums of joints. All lists have one entry a cone."""

    ends: list[tuple[Mix, Mix]] = field(default_factory=list)
    radii: list[tuple[float, float]] = field(default_factory=list)
    """Metres at both ends."""
    materials: list[tuple[int, int]] = field(default_factory=list)
    """From the first end up to ``split``, and from there."""
    split: list[float] = field(default_factory=list)
    part: list[int] = field(default_factory=list)
    is_head: list[bool] = field(default_factory=list)

    def add(
        self, part: str, start: Mix, end: Mix, radii: tuple[float, float], material: int,
        *, other: int | None = None, split: float = 1.0, is_head: bool = False,
    ) -> None:  # fmt: skip
        self.ends.append((start, end))
        self.radii.append(radii)
        self.materials.append((material, material if other is None else other))
        self.split.append(split)
        self.part.append(_PART[part])
        self.is_head.append(is_head)

    def weights(self, joints: tuple[str, ...] = JOINTS) -> np.ndarray:
        """2 C × J: the ends of all cones as sums of joints, first ends first."""
        number = {name: at for at, name in enumerate(joints)}
        table = np.zeros((2 * len(self.ends), len(joints)))
        for cone, pair in enumerate(self.ends):
            for which, mix in enumerate(pair):
                for name, weight in mix.items():
                    table[cone + which * len(self.ends), number[name]] += weight
        return table


def colour(rng: np.random.Generator, strength: float, low: float = 0.06, high: float = 0.92) -> np.ndarray:
    """3, 0 to 1: any brightness; ``strength`` 0 is grey."""
    chroma = rng.uniform(-1, 1, 3)
    return rng.uniform(low, high) + 0.35 * strength * (chroma - chroma.mean())


def skin(rng: np.random.Generator, strength: float) -> np.ndarray:
    """3, 0 to 1: skin from dark to light; ``strength`` 0 is grey."""
    tone = rng.uniform(0.14, 0.88)
    warm = np.array((0.16, 0.0, -0.11)) * (0.7 + 0.6 * (1 - abs(2 * tone - 1)))
    return tone + strength * (warm + rng.normal(0, 0.025, 3))


def cloth(rng: np.random.Generator, materials: Materials, strength: float, texture: float) -> int:
    """A new material for clothes."""
    first = colour(rng, strength)
    second = first + texture * rng.uniform(-1, 1) * 0.5 + texture * strength * rng.uniform(-0.3, 0.3, 3)
    plain = rng.random() > 0.65 * texture
    chosen = 0 if plain else int(rng.integers(1, len(patterns())))
    return materials.add(first, second, chosen, (float(rng.uniform(1.5, 6)), float(rng.uniform(0.15, 0.5))))


def _between(first: str, second: str, part: float) -> Mix:
    return {first: 1 - part, second: part}


def dress(
    proportions: Proportions, materials: Materials, rng: np.random.Generator, *, colourful: float, texture: float,
    variety: float,
) -> Cones:  # fmt: skip
    """Cones of one body in new clothes."""
    bare = materials.add(skin(rng, colourful), np.zeros(3), 0, (1, 1))
    hair_tone = rng.choice((0.06, 0.12, 0.25, 0.45, 0.75))
    hair = materials.add(hair_tone + colourful * np.array((0.05, 0.0, -0.05)), np.zeros(3), 0, (1, 1))
    if rng.random() < 0.1 * variety:
        hair = cloth(rng, materials, colourful, 0.0)
    shirt = cloth(rng, materials, colourful, texture)
    trousers = cloth(rng, materials, colourful, texture)
    if rng.random() < 0.12 * variety:
        trousers = shirt
    shoes = cloth(rng, materials, colourful, 0.0)
    draws = rng.random(8)
    sleeve = 0.0 if draws[0] < 0.08 * variety else 0.55 if draws[0] < 0.5 * variety else 2.0
    leg = 0.7 if draws[1] < 0.2 * variety else 2.0
    size = proportions.height / REST_HEIGHT
    broad, head = size * proportions.girth, size * proportions.head
    loose = 1 + 0.25 * variety * draws[2]
    cones = Cones()

    cones.add(
        "head",
        _between("neck", "head", 0.46),
        _between("neck", "head", 0.66),
        (0.085 * head, 0.1 * head),
        bare,
        other=hair,
        is_head=True,
    )
    if draws[3] < 0.35 * variety:  # long hair
        cones.add(
            "head", _between("neck", "head", 0.6), _between("neck", "head", 0.05), (0.1 * head, 0.085 * head), hair
        )
    cones.add(
        "head", {"neck": 1.05, "chest": -0.05}, _between("neck", "head", 0.4), (0.06 * broad, 0.052 * broad), bare
    )
    cones.add(
        "trunk",
        _between("l_shoulder", "r_shoulder", 0.16),
        _between("l_shoulder", "r_shoulder", 0.84),
        (0.082 * broad, 0.082 * broad),
        shirt,
    )
    for one, other in (("l", "r"), ("r", "l")):
        top = {f"{one}_shoulder": 0.72, f"{other}_shoulder": 0.28, "chest": 0.12, "neck": -0.12}
        low = {f"{one}_hip": 0.95, f"{other}_hip": 0.05, "hips": -0.25, "spine": 0.25}
        cones.add("trunk", top, low, (0.1 * broad, 0.098 * broad * proportions.hips), shirt)
    cones.add("trunk", {"chest": 1.0}, {"hips": 0.7, "spine": 0.3}, (0.115 * broad, 0.115 * broad * loose), shirt)
    cones.add(
        "trunk", _between("l_hip", "r_hip", 0.1), _between("l_hip", "r_hip", 0.9), (0.1 * broad, 0.1 * broad), trousers
    )
    for side, word in (("l", "left"), ("r", "right")):
        shoulder, elbow, wrist = (f"{side}_{name}" for name in ("shoulder", "elbow", "wrist"))
        upper = shirt if sleeve > 0 else bare
        cones.add(
            f"{word} upper arm",
            {shoulder: 1},
            {elbow: 1},
            (0.056 * broad * loose, 0.045 * broad * loose),
            upper,
            other=bare if sleeve < 1 else upper,
            split=min(sleeve, 1.0),
        )
        cones.add(
            f"{word} forearm",
            {elbow: 1},
            {wrist: 1},
            (0.044 * broad * loose, 0.031 * broad),
            shirt if sleeve > 1 else bare,
        )
        cones.add(
            f"{word} hand", {wrist: 1.05, elbow: -0.05}, {wrist: 1.36, elbow: -0.36}, (0.034 * size, 0.036 * size), bare
        )
        hip, knee, ankle, toe = (f"{side}_{name}" for name in ("hip", "knee", "ankle", "toe"))
        cones.add(
            f"{word} thigh",
            {hip: 1},
            {knee: 1},
            (0.09 * broad, 0.06 * broad * loose),
            trousers,
            other=bare if leg < 1 else None,
            split=leg,
        )
        cones.add(
            f"{word} shin", {knee: 1}, {ankle: 1}, (0.058 * broad * loose, 0.042 * broad), trousers if leg > 1 else bare
        )
        cones.add(
            f"{word} foot",
            {ankle: 1.12, knee: -0.02, toe: -0.1},
            {toe: 0.95, ankle: 0.05},
            (0.046 * size, 0.036 * size),
            shoes,
        )
    if draws[4] < 0.2 * variety:  # a skirt or a coat
        hem = draws[5] * 0.6 + 0.35
        middle = {"l_hip": 0.5 * (1 - hem), "r_hip": 0.5 * (1 - hem), "l_knee": 0.5 * hem, "r_knee": 0.5 * hem}
        cones.add(
            "trunk",
            {"hips": 1},
            middle,
            (0.12 * broad, (0.125 + 0.05 * hem) * broad),
            shirt if draws[5] < 0.4 else trousers,
        )
    if draws[6] < 0.15 * variety:  # a hat
        hat = cloth(rng, materials, colourful, 0.0)
        cones.add(
            "head", _between("neck", "head", 0.78), _between("neck", "head", 0.95), (0.112 * head, 0.085 * head), hat
        )
    if draws[7] < 0.2 * variety:  # something in a hand
        thing = cloth(rng, materials, colourful, texture)
        long, side = rng.uniform(0.2, 2.2), "lr"[rng.integers(2)]
        wrist, elbow = f"{side}_wrist", f"{side}_elbow"
        radius = rng.uniform(0.015, 0.1 / (0.4 + long))
        cones.add(
            "thing", {wrist: 1.25, elbow: -0.25}, {wrist: 1.25 + long, elbow: -0.25 - long}, (radius, radius), thing
        )
    return cones
