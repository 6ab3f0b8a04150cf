"""A scene of rendered people: what all its clips have in common, and how one of them is rendered.

Shape legend: P people, C cones, T frames, S the 2 edges of a frame's time, H W pixels, J joints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from dualformer.datasets.rendered_people.actions import ACTIONS, NAMES, action_of
from dualformer.datasets.rendered_people.backdrop import backdrop, filmed
from dualformer.datasets.rendered_people.bodies import Cones, Materials, Palette, dress
from dualformer.datasets.rendered_people.camera import Camera, draw_azimuth, draw_camera
from dualformer.datasets.rendered_people.difficulty import PeopleDifficulty
from dualformer.datasets.rendered_people.draw import Layer, Light, Pieces, draw, shadow
from dualformer.datasets.rendered_people.exposure import add_noise, compress, soften, tones
from dualformer.datasets.rendered_people.hands import (
    GESTURES,
    HAND_JOINTS,
    HAND_NAMES,
    HAND_ORDERS,
    dress_hand,
    hand_skin,
    perform_hands,
    worn_camera,
)
from dualformer.datasets.rendered_people.motions import open_motions
from dualformer.datasets.rendered_people.performance import ORDERS, perform
from dualformer.datasets.rendered_people.skeleton import JOINTS
from dualformer.datasets.rendered_people.truth import MOST_PEOPLE, Cast, RenderedPeople, with_truth


@dataclass(frozen=True, kw_only=True)
class PeopleScene:
    """What all clips of a data set of rendered people have in common."""

    size: int = 112
    """Side of the square frame in pixels, a multiple of 8, 32 or more."""
    frames: int = 16
    """Frames of a clip, 16 or more."""
    fps: int = 5
    """Frames per second written into video files."""
    view: Literal["bodies", "hands"] = "bodies"
    """Whole people, or hands close up as who moves them sees them."""
    classes: tuple[str, ...] = ()
    """Class names; a label is an index into them. By default all of ``performance.ORDERS`` or ``hands.HAND_ORDERS``
    by the view, which single frames do not tell; or names of actions (``actions.ACTIONS``, ``hands.GESTURES``), of
    which a clip shows one."""
    difficulty: PeopleDifficulty = field(default_factory=PeopleDifficulty)
    motions: str | None = None
    """An npz file of captured motions that drive half of the actions it has (see ``motions``)."""

    def __post_init__(self) -> None:
        if not self.classes:
            object.__setattr__(self, "classes", self._orders)
        if self.size < 32 or self.size % 8:
            raise ValueError(f"PeopleScene.size is {self.size}; it must be a multiple of 8 and at least 32")
        if self.frames < 16:
            raise ValueError(f"PeopleScene.frames is {self.frames}; it must be at least 16")
        if self.fps < 1:
            raise ValueError(f"PeopleScene.fps is {self.fps}; it must be at least 1")
        if self.motions and self.view == "hands":
            raise ValueError("PeopleScene.motions are of whole bodies and do not drive hands: leave them out")
        actions = HAND_NAMES if self.view == "hands" else tuple(ACTIONS)
        order, action = (next((n for n in self.classes if n in names), None) for names in (self._orders, actions))
        if order and action:
            raise ValueError(f"classes are orders, such as {order!r}, or actions, such as {action!r}, and not both")
        known = self._orders if self.classes[0] in self._orders else actions
        unknown = [name for name in self.classes if name not in known]
        if unknown or len(set(self.classes)) < len(self.classes):
            what = f"{unknown[0]!r} is no class of such clips" if unknown else "one class is named twice"
            raise ValueError(
                f"{what}; classes are the orders {', '.join(self._orders)}, or of the actions {', '.join(actions)}"
            )

    @property
    def _orders(self) -> tuple[str, ...]:
        return HAND_ORDERS if self.view == "hands" else ORDERS

    @property
    def action_names(self) -> tuple[str, ...]:
        """What the numbers of actions in the truth mean."""
        return HAND_NAMES if self.view == "hands" else NAMES

    @property
    def action_kinds(self) -> tuple[str, ...]:
        """Of which kind each of the ``action_names`` is; kinds are what the class names are made of."""
        if self.view == "hands":
            return tuple(GESTURES[name].kind for name in HAND_NAMES)
        return tuple(action_of(name).kind for name in NAMES)

    def shown(self, label: int) -> int | str:
        """What a clip of class ``classes[label]`` shows: the number of an order, or the name of an action."""
        name = self.classes[label]
        return self._orders.index(name) if name in self._orders else name

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
    difficulty = scene.difficulty
    # Two generators: where the round begins must not shift the draws of anything else.
    look = np.random.default_rng(seed)
    order = look.spawn(1)[0]
    stage = (_hands_on_stage if scene.view == "hands" else _people_on_stage)(scene, label, look, order)
    camera = stage.camera
    lamp = _lamp(look)
    light = Light(camera.axes @ lamp, float(look.uniform(0.3, 0.6)))
    layer = draw(stage.pieces, stage.palette, light, camera, shutter=float(look.uniform(0, difficulty.blur)))
    picture, density = backdrop(
        camera, level=difficulty.background, colourful=stage.colourful, floor_dark=float(look.uniform(0, 0.8)), rng=look
    )
    layer, picture = _held_apart(layer, picture, difficulty.contrast, look)
    frames = filmed(picture, density, camera, scene.frames)
    if look.random() < difficulty.shadow and scene.view == "bodies":
        dark = shadow(stage.ends.mean(3), stage.pieces.radii, camera, lamp)
        frames = _shadowed(frames, dark, look.uniform(0.25, 0.65))
    frames = _painted(frames, layer)
    frames = _filmed_badly(frames, difficulty, look)
    return with_truth(frames, label, layer, stage.cast, camera)


class _Stage(NamedTuple):
    """All that is to be drawn."""

    cast: Cast
    camera: Camera
    pieces: Pieces
    palette: Palette
    ends: np.ndarray
    """2 × C × T × S × 3 metres, in the world."""
    colourful: float


def _people_on_stage(scene: PeopleScene, label: int, look: np.random.Generator, order: np.random.Generator) -> _Stage:
    difficulty = scene.difficulty
    shown = scene.shown(label)
    partner = bool(look.random() < _with_partner(shown, difficulty.partner))
    bystanders = min(int(look.integers(difficulty.bystanders + 1)), MOST_PEOPLE - 1 - partner)
    azimuth = draw_azimuth(difficulty.around, partner, look)
    performance = perform(
        shown,
        scene.frames,
        bystanders=bystanders,
        partner=partner,
        away=azimuth + math.pi,
        variety=difficulty.variety,
        sway=difficulty.sway,
        look=look,
        order=order,
        motions=open_motions(scene.motions) if scene.motions else None,
    )
    cast = Cast(performance.joints, performance.actions, performance.targets, 2 if partner else 1)
    camera = draw_camera(
        performance.joints[: cast.taking_part].reshape(-1, 3),
        size=scene.size,
        frames=scene.frames,
        azimuth=azimuth,
        around=difficulty.around,
        shake=difficulty.shake,
        smallest=difficulty.smallest,
        largest=difficulty.largest,
        rng=look,
    )
    colourful = _colourful(difficulty, look)
    materials = Materials()
    dressed = [
        dress(
            person.proportions,
            materials,
            look,
            colourful=colourful,
            texture=difficulty.texture,
            variety=difficulty.variety,
        )
        for person in performance.people
    ]
    # Hair grows from above and behind.
    towards = (0.55 * performance.heads[..., 1] - 0.83 * performance.heads[..., 2]) @ camera.axes.T
    pieces, ends = _pieces(dressed, JOINTS, performance.joints, camera, towards)
    return _Stage(cast, camera, pieces, materials.palette(), ends, colourful)


def _with_partner(shown: int | str, share: float) -> float:
    """How probable a partner is: of an action, the more if it is done to one, and always if two do it together."""
    if isinstance(shown, int):
        return share
    at = action_of(shown).at
    return 1.0 if at == "both" else 2 * share if at else share / 2


def _hands_on_stage(scene: PeopleScene, label: int, look: np.random.Generator, order: np.random.Generator) -> _Stage:
    difficulty = scene.difficulty
    others = int(look.integers(difficulty.bystanders + 1) > 1)
    performance = perform_hands(
        scene.shown(label),
        scene.frames,
        others=others,
        variety=difficulty.variety,
        sway=difficulty.sway,
        look=look,
        order=order,
    )
    cast = Cast(performance.joints, performance.actions, np.full_like(performance.actions, -1), 1)
    camera = worn_camera(scene.size, scene.frames, around=difficulty.around, shake=difficulty.shake, rng=look)
    colourful = _colourful(difficulty, look)
    materials = Materials()
    bare = hand_skin(materials, look, colourful)
    dressed = [
        dress_hand(left, materials, bare, look, colourful=colourful, texture=difficulty.texture)
        for left in performance.left
    ]
    pieces, ends = _pieces(dressed, HAND_JOINTS, performance.joints, camera, None)
    return _Stage(cast, camera, pieces, materials.palette(), ends, colourful)


def _colourful(difficulty: PeopleDifficulty, rng: np.random.Generator) -> float:
    """Most places are less colourful than they could be."""
    return difficulty.colour * float(rng.uniform(0.1, 1))


def _pieces(
    dressed: Sequence[Cones], names: tuple[str, ...], joints: np.ndarray, camera: Camera, towards: np.ndarray | None
) -> tuple[Pieces, np.ndarray]:
    """The cones of all as the camera sees them, and their ends in the world, 2 × C × T × S × 3.

    ``joints`` P × T × S × J × 3, ``towards`` P × T × 3: where hair grows from."""
    _, frames, edges, count, _ = joints.shape
    ends, hair = [], []
    for number, cones in enumerate(dressed):
        flat = joints[number].transpose(2, 0, 1, 3).reshape(count, -1)
        ends.append((cones.weights(names) @ flat).reshape(2, -1, frames, edges, 3))
        hair.append(np.zeros((len(cones.part), frames, 3)))
        if towards is not None:
            hair[-1][np.array(cones.is_head)] = towards[number]
    world = np.concatenate(ends, axis=1)
    pieces = Pieces(
        ends=camera.seen(world),
        radii=np.array([radii for one in dressed for radii in one.radii]),
        materials=np.array([pair for one in dressed for pair in one.materials]),
        split=np.array([split for one in dressed for split in one.split]),
        part=np.array([part for one in dressed for part in one.part], dtype=np.uint8),
        person=np.repeat(np.arange(1, len(dressed) + 1), [len(one.part) for one in dressed]).astype(np.uint8),
        hair=np.concatenate(hair),
    )
    return pieces, world


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


def _filmed_badly(frames: np.ndarray, difficulty: PeopleDifficulty, rng: np.random.Generator) -> np.ndarray:
    """Blur, brightness, flicker, noise and blocks, T × H × W × 3, uint8. All draws are made, however difficult."""
    draws = rng.random(4)
    brightness = math.exp(rng.uniform(math.log(0.05), math.log(0.35)))
    coarseness = math.exp(rng.uniform(math.log(3), math.log(18)))
    flicker = 1 + difficulty.flicker * rng.standard_normal(len(frames))
    tint = 1 + 0.12 * difficulty.colour * rng.uniform(-1, 1, 3)
    if draws[0] < difficulty.soft:
        frames = soften(frames)
    gain = 1.0
    if draws[1] < difficulty.dark:  # of the mean level, whatever it was
        gain = min(1.0, brightness * 255 / max(float(frames[:, ::4, ::4].mean()), 1.0))
    gamma = math.exp((draws[3] - 0.5) * min(1.0, 10 * difficulty.flicker))
    if gain != 1 or difficulty.flicker or difficulty.colour:
        if not frames.flags.writeable:
            frames = frames.copy()
        for frame, factor in zip(frames, flicker.tolist(), strict=True):
            table = tones(gain * factor, gamma, tint)
            for channel in range(3):
                frame[..., channel] = table[channel][frame[..., channel]]
    if difficulty.noise:
        frames = add_noise(frames, difficulty.noise * draws[2], rng)
    if rng.random() < difficulty.compression:
        frames = compress(frames, coarseness * min(1.0, 0.3 + gain))
    return frames
