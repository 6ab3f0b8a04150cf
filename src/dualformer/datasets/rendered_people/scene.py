"""A scene of rendered people: what all its clips have in common, and how one of them is rendered.

Shape legend: P people (at most ``MOST_PEOPLE``), T frames, H W pixels, h w cells of ``CELL`` × ``CELL`` pixels, J joints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from dualformer.datasets.rendered_people.actions import NAMES
from dualformer.datasets.rendered_people.backdrop import backdrop, filmed
from dualformer.datasets.rendered_people.bodies import Cones, Materials, dress
from dualformer.datasets.rendered_people.camera import Camera, draw_azimuth, draw_camera
from dualformer.datasets.rendered_people.difficulty import PeopleDifficulty
from dualformer.datasets.rendered_people.draw import Layer, Light, Palette, Pieces, draw, shadow
from dualformer.datasets.rendered_people.exposure import add_noise, compress, soften, tones
from dualformer.datasets.rendered_people.motions import open_motions
from dualformer.datasets.rendered_people.performance import MOST_PEOPLE, ORDERS, Performance, perform
from dualformer.datasets.rendered_people.skeleton import JOINTS

CELL = 4
"""Side in pixels of the cells in which the truth is given."""


@dataclass(frozen=True)
class RenderedPeople:
    """A clip and what is true of every place and time in it. What has P is filled up to ``MOST_PEOPLE``."""

    frames: np.ndarray
    """T H W 3, uint8, RGB."""
    label: int
    """Index into the scene's classes."""
    moving: np.ndarray
    """T h w, float32: the share of each cell that the actor and the partner cover."""
    distractors: np.ndarray
    """T h w, float32: the share of each cell that bystanders cover."""
    velocity: np.ndarray
    """T h w 2, float32: pixels per frame, x to the right and y downwards, of what covers the cell: the mean over all
    people by coverage, 0 where nobody is. The camera's motion is not in it."""
    person: np.ndarray
    """T h w, uint8: who is seen in the middle of the cell, from 1 (the actor); 0 nobody."""
    part: np.ndarray
    """T h w, uint8: which part of the body, from 1, as ``bodies.PARTS`` names them; 0 nobody."""
    action: np.ndarray
    """T h w, uint8: what that person does, from 1, as ``actions.NAMES`` names it; 0 nobody."""
    actions: np.ndarray
    """P T, int64: what each person does, an index into ``actions.NAMES``; -1 where there is no such person."""
    targets: np.ndarray
    """P T, int64: to whom it is done, 0 is the actor; -1 to nobody."""
    joints: np.ndarray
    """P T J 3, float32: x and y in pixels, and metres from the camera; 0 where there is no such person."""


@dataclass(frozen=True, kw_only=True)
class PeopleScene:
    """What all clips of a data set of rendered people have in common."""

    size: int = 112
    """Side of the square frame in pixels, a multiple of 8, 32 or more."""
    frames: int = 16
    """Frames of a clip, 16 or more."""
    fps: int = 5
    """Frames per second written into video files."""
    classes: tuple[str, ...] = ORDERS
    """Class names, from ``ORDERS``; a label is an index into them."""
    difficulty: PeopleDifficulty = PeopleDifficulty()
    motions: str | None = None
    """An npz file of captured motions that drive half of the actions it has (see ``motions``)."""

    def __post_init__(self) -> None:
        if self.size < 32 or self.size % 8:
            raise ValueError(f"PeopleScene.size is {self.size}; it must be a multiple of 8 and at least 32")
        if self.frames < 16:
            raise ValueError(f"PeopleScene.frames is {self.frames}; it must be at least 16")
        if self.fps < 1:
            raise ValueError(f"PeopleScene.fps is {self.fps}; it must be at least 1")
        unknown = [name for name in self.classes if name not in ORDERS]
        if unknown or not self.classes or len(set(self.classes)) < len(self.classes):
            what = f"the unknown class {unknown[0]!r}" if unknown else "no class, or one twice"
            raise ValueError(f"PeopleScene.classes has {what}; they can be {', '.join(ORDERS)}")

    def plain(self) -> dict:
        """The scene as values that JSON knows."""
        return {**asdict(self), "classes": list(self.classes)}

    def render(self, label: int, seed: int | Sequence[int]) -> RenderedPeople:
        """Renders the clip of class ``classes[label]`` that ``seed`` names, always the same one.

        Raises ``ValueError`` for a label outside the scene.
        """
        return render_people(self, label, seed)


def render_people(scene: PeopleScene, label: int, seed: int | Sequence[int]) -> RenderedPeople:
    """As ``PeopleScene.render``."""
    if not 0 <= label < len(scene.classes):
        raise ValueError(f"label {label} is outside the scene's {len(scene.classes)} classes")
    dial = scene.difficulty
    # Two generators: where the round begins must not shift the draws of anything else.
    look = np.random.default_rng(seed)
    order = look.spawn(1)[0]
    partner = bool(look.random() < dial.partner)
    bystanders = min(int(look.integers(dial.bystanders + 1)), MOST_PEOPLE - 1 - partner)
    azimuth = draw_azimuth(dial.around, partner, look)
    performance = perform(
        ORDERS.index(scene.classes[label]), scene.frames, bystanders=bystanders, partner=partner,
        away=azimuth + math.pi, variety=dial.variety, sway=dial.sway, look=look, order=order,
        motions=open_motions(scene.motions) if scene.motions else None,
    )  # fmt: skip
    seen = performance.joints[: 2 if partner else 1].reshape(-1, 3)
    camera = draw_camera(
        seen, size=scene.size, frames=scene.frames, azimuth=azimuth, around=dial.around, shake=dial.shake, smallest=dial.smallest,
        largest=dial.largest, rng=look,
    )  # fmt: skip
    # Most places are less colourful than they could be.
    dial = replace(dial, colour=dial.colour * float(look.uniform(0.1, 1)))
    pieces, palette, ends = _dressed(performance, camera, dial, look)
    lamp = _lamp(look)
    light = Light(camera.axes @ lamp, float(look.uniform(0.3, 0.6)))
    layer = draw(pieces, palette, light, camera, shutter=float(look.uniform(0, dial.blur)))
    picture, density = backdrop(
        camera, level=dial.background, colourful=dial.colour, floor_dark=float(look.uniform(0, 0.8)), rng=look
    )
    layer, picture = _held_apart(layer, picture, dial.contrast, look)
    frames = filmed(picture, density, camera, scene.frames)
    if look.random() < dial.shadow:
        dark = shadow(ends.mean(3), pieces.radii, camera, lamp)
        strength = look.uniform(0.25, 0.65)
        frames = _shadowed(frames, dark, strength)
    frames = _painted(frames, layer)
    frames = _filmed_badly(frames, dial, look)
    return _with_truth(frames, label, layer, performance, camera, scene.size)


def _dressed(
    performance: Performance, camera: Camera, dial: PeopleDifficulty, rng: np.random.Generator
) -> tuple[Pieces, Palette, np.ndarray]:
    """The pieces as the camera sees them, what they are made of, and their ends in the world, 2 × C × T × S × 3."""
    materials = Materials()
    ends, hair, people = [], [], []
    dressed: list[Cones] = []
    for number, person in enumerate(performance.people):
        cones, _ = dress(
            person.proportions, materials, rng, colourful=dial.colour, texture=dial.texture, variety=dial.variety
        )
        joints = performance.joints[number]
        frames, edges, count, _ = joints.shape
        flat = joints.transpose(2, 0, 1, 3).reshape(count, -1)
        ends.append((cones.weights() @ flat).reshape(2, -1, frames, edges, 3))
        towards = np.zeros((len(cones.part), frames, 3))
        head = performance.heads[number]
        towards[np.array(cones.is_head)] = (0.55 * head[..., 1] - 0.83 * head[..., 2]) @ camera.axes.T
        hair.append(towards)
        people.append(np.full(len(cones.part), number + 1, dtype=np.uint8))
        dressed.append(cones)
    world = np.concatenate(ends, axis=1)
    pieces = Pieces(
        ends=camera.seen(world),
        radii=np.array([radii for one in dressed for radii in one.radii]),
        materials=np.array([pair for one in dressed for pair in one.materials]),
        split=np.array([split for one in dressed for split in one.split]),
        part=np.array([part for one in dressed for part in one.part], dtype=np.uint8),
        person=np.concatenate(people),
        hair=np.concatenate(hair),
    )
    palette = Palette(
        np.array(materials.first), np.array(materials.second), np.array(materials.pattern), np.array(materials.scale)
    )
    return pieces, palette, world


def _lamp(rng: np.random.Generator) -> np.ndarray:
    """3: where the light comes from."""
    angle, height = rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(25, 80))
    return np.array((math.sin(angle) * math.cos(height), math.sin(height), math.cos(angle) * math.cos(height)))


def _held_apart(
    layer: Layer, picture: np.ndarray, contrast: float, rng: np.random.Generator
) -> tuple[Layer, np.ndarray]:
    """People and background, the ones brighter and the other darker by ``contrast``, or the other way round."""
    bright = 1.0 if rng.random() < 0.5 else 0.0
    if not contrast:
        return layer, picture
    share = np.float32(0.7 * contrast)
    picture = picture + share * (np.float32(0.85 - 0.75 * bright) - picture)
    return layer._replace(colour=layer.colour * (1 - 0.6 * share) + np.float32(0.6 * share * bright)), picture


def _shadowed(frames: np.ndarray, dark: np.ndarray, strength: float) -> np.ndarray:
    at = np.flatnonzero(dark)
    pixels = frames.reshape(-1, 3)
    pixels[at] = (pixels[at] * (1 - np.float32(strength) * dark.reshape(-1)[at, None])).astype(np.uint8)
    return pixels.reshape(frames.shape)


def _painted(frames: np.ndarray, layer: Layer) -> np.ndarray:
    """The frames with people in front."""
    pixels = np.ascontiguousarray(frames).reshape(-1, 3)
    behind = pixels[layer.at].astype(np.float32)
    behind += layer.cover[:, None] * (255 * layer.colour - behind)
    behind += 0.5
    pixels[layer.at] = np.clip(behind, 0, 255).astype(np.uint8)
    return pixels.reshape(frames.shape)


def _filmed_badly(frames: np.ndarray, dial: PeopleDifficulty, rng: np.random.Generator) -> np.ndarray:
    """Blur, brightness, flicker, noise and blocks, T × H × W × 3, uint8. All draws are made whatever the dials."""
    draws = rng.random(4)
    brightness = math.exp(rng.uniform(math.log(0.05), math.log(0.35)))
    coarseness = math.exp(rng.uniform(math.log(3), math.log(18)))
    flicker = 1 + dial.flicker * rng.standard_normal(len(frames))
    tint = 1 + 0.12 * dial.colour * rng.uniform(-1, 1, 3)
    if draws[0] < dial.soft:
        frames = soften(frames)
    gain = 1.0
    if draws[1] < dial.dark:  # of the mean level, whatever it was
        gain = min(1.0, brightness * 255 / max(float(frames[:, ::4, ::4].mean()), 1.0))
    gamma = math.exp((draws[3] - 0.5) * min(1.0, 10 * dial.flicker))
    if gain != 1 or dial.flicker or dial.colour:
        if not frames.flags.writeable:
            frames = frames.copy()
        for frame, factor in zip(frames, flicker.tolist(), strict=True):
            table = tones(gain * factor, gamma, tint)
            for channel in range(3):
                frame[..., channel] = table[channel][frame[..., channel]]
    if dial.noise:
        frames = add_noise(frames, dial.noise * draws[2], rng)
    if rng.random() < dial.compression:
        frames = compress(frames, coarseness * min(1.0, 0.3 + gain))
    return frames


def _with_truth(
    frames: np.ndarray, label: int, layer: Layer, performance: Performance, camera: Camera, size: int
) -> RenderedPeople:
    count, cells = len(frames), size // CELL
    rows, column = np.divmod(layer.at, size)
    frame, row = np.divmod(rows, size)
    cell = (frame * cells + row // CELL) * cells + column // CELL
    length = count * cells * cells
    cover = layer.cover / CELL**2
    taking_part = layer.person <= (2 if performance.has_partner else 1)
    shape = (count, cells, cells)

    def pooled(weights: np.ndarray) -> np.ndarray:
        return np.bincount(cell, weights, length).astype(np.float32).reshape(shape)

    moving, covered = pooled(cover * taking_part), pooled(cover)
    flow = np.stack([pooled(cover * layer.velocity[:, axis]) for axis in (0, 1)], axis=-1)
    flow /= np.where(covered > 0, covered, 1)[..., None]
    person, part = np.zeros((2, length), dtype=np.uint8)
    # The pixel at the middle of a cell speaks for it.
    middle = np.flatnonzero((row % CELL == CELL // 2) & (column % CELL == CELL // 2) & (layer.cover >= 0.5))
    person[cell[middle]], part[cell[middle]] = layer.person[middle], layer.part[middle]
    person, part = person.reshape(shape), part.reshape(shape)

    actions = np.full((MOST_PEOPLE, count), -1)
    targets = np.full((MOST_PEOPLE, count), -1)
    there = len(performance.people)
    actions[:there], targets[:there] = performance.actions, performance.targets
    action = np.zeros(shape, dtype=np.uint8)
    for number in range(there):
        action += ((person == number + 1) * (actions[number] + 1)[:, None, None]).astype(np.uint8)
    joints = np.zeros((MOST_PEOPLE, count, len(JOINTS), 3), dtype=np.float32)
    seen = camera.seen(performance.joints.mean(2))
    joints[:there, ..., 2] = seen[..., 2]
    flat = camera.project(seen).transpose(1, 0, 2, 3)
    joints[:there, ..., :2] = camera.moved(flat).transpose(1, 0, 2, 3)
    return RenderedPeople(
        frames, label, moving, covered - moving, flow, person, part, action, actions, targets, joints
    )


assert len(NAMES) < 255
