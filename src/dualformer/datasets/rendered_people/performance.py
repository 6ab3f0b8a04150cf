"""Who does what when: the law of the classes, and where all joints are in every frame.

The law. In every clip the actor does four things, one of each kind of ``actions.KINDS``, round and round, and the clip
begins anywhere in the round. Which actions, how fast, in what style, from which posture: all that is drawn without
knowledge of the class. The class is the order of the four kinds in the round: (4 - 1)! = 6 orders. Every action begins
and ends in the clip's posture and at its place, and an action's frames are the same wherever in the round it stands.
So with one seed all classes consist of the very same frames in other orders (to the byte where nothing else moves), and
since the clip begins anywhere, no frame at a known time tells anything either: one frame, the frames shuffled, the mean
frame stay at chance. Partners answer an action within its own frames; what else moves (bystanders, camera, swaying) is
drawn without knowledge of the class and goes to and fro several times a clip, so that it hardly helps to put shuffled
frames in order.

Where the class is an action, the law does not hold: the actor does that alone, once or twice, from the first frame to
the last, mostly after and before some waiting, and a frame tells much of it.

Shape legend: P people, T frames, S the 2 edges of a frame's time, J joints, D degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dualformer.datasets.rendered_people.actions import ACTIONS, BY_KIND, KINDS, NAMES, Action, Kind, action_of
from dualformer.datasets.rendered_people.motions import Motions
from dualformer.datasets.rendered_people.movements import Movement, Style, bump, draw_posture, move
from dualformer.datasets.rendered_people.rounds import frame_order, frames_of_kinds, frames_of_one, orders_of
from dualformer.datasets.rendered_people.skeleton import (
    DOF,
    JOINT,
    REST_HEIGHT,
    Proportions,
    feet_in_place,
    forward_kinematics,
    on_the_floor,
    reach,
)

ORDERS = orders_of(KINDS)
"""Class names: the kinds of actions in their order, round and round, from ``reach``."""


@dataclass(frozen=True)
class Person:
    """A body and how it stands."""

    proportions: Proportions
    posture: np.ndarray
    """D."""
    place: np.ndarray
    """2: x and z in metres."""
    heading: float
    """Radians; 0 looks to +z."""


class Performance(NamedTuple):
    """A clip's people and where they are."""

    people: tuple[Person, ...]
    """The actor first, then the partner if there is one, then bystanders."""
    joints: np.ndarray
    """P × T × S × J × 3 metres: at the beginning and at the end of each frame's time."""
    heads: np.ndarray
    """P × T × 3 × 3: columns are left, up and forwards of each head."""
    actions: np.ndarray
    """P × T, int64: number in ``NAMES`` of what each one does."""
    targets: np.ndarray
    """P × T, int64: the number of the person it is done to, -1 for nobody."""


_CYCLES_A_FRAME = 0.35


class _Part(NamedTuple):
    """An action in a round."""

    action: str
    style: Style
    rows: slice
    """Of the frames in canonical order: kind by kind."""
    phase: np.ndarray
    """n × S: phases at both edges of its frames."""


def perform(
    shown: int | str,
    frames: int,
    *,
    bystanders: int,
    partner: bool,
    away: float,
    variety: float,
    sway: float,
    look: np.random.Generator,
    order: np.random.Generator,
    motions: Motions | None = None,
) -> Performance:
    """Draws a performance of class ``ORDERS[shown]``, or of the action ``shown``: everything from ``look``, but where
    a round begins, from ``order``.

    ``variety`` of bodies, postures and styles, 0 to 1; ``sway`` of standing bodies, likewise. Bystanders stand on the
    side to which ``away`` points (radians, 0 is +z). ``motions`` drive some of the actions.
    """
    actor = Person(Proportions.draw(look, variety), draw_posture(look, variety), np.zeros(2), 0.0)
    if isinstance(shown, str):
        chosen, counts = _alone(shown, frames, variety, look)
        at = np.arange(frames)
    else:
        counts = frames_of_kinds(frames, variety, look)
        chosen = [_choose(kind, look, partner) for kind in KINDS]
        at = frame_order(shown, counts, int(order.integers(frames)))
    parts = _parts([name for name, _ in chosen], counts, variety, look)

    people = [actor]
    moves = [[_move(part, actor) for part in parts]]
    rounds = [parts]
    orders = [at]
    gap = look.uniform(0.95, 1.5)
    if partner:
        other = Person(
            Proportions.draw(look, variety), draw_posture(look, variety),
            np.array((look.normal(0, 0.06 * variety), gap)), math.pi + look.normal(0, 0.1 * variety),
        )  # fmt: skip
        answers = [_answer(name, part, look, variety) for (name, _), part in zip(chosen, parts, strict=True)]
        people.append(other)
        rounds.append(answers)
        moves.append([_move(part, other) for part in answers])
        orders.append(at)
    for person in _bystanders(bystanders, partner, gap, away, variety, look):
        own = _loop(frames, variety, look)
        people.append(person)
        rounds.append(own)
        moves.append([_move(part, person) for part in own])
        orders.append(np.roll(np.arange(frames), int(look.integers(frames))))

    directed = [partner and action.at != "" for _, action in chosen]
    if partner:
        for part, movement, towards in zip(parts, moves[0], directed, strict=True):
            _approach(part, movement, gap, towards, people)
    joints, heads = _joints(people, moves, rounds, motions, look.spawn(1)[0])
    if partner:
        for part, movement, towards in zip(parts, moves[0], directed, strict=True):
            if towards:
                _touch(part, movement, joints, people)
    in_order = np.stack([one[order] for one, order in zip(joints, orders, strict=True)])
    heads = np.stack([one[order] for one, order in zip(heads, orders, strict=True)])
    if sway:
        _sway(in_order, sway, look)
    numbers = np.stack([_numbers(parts, frames)[order] for parts, order in zip(rounds, orders, strict=True)])
    targets = np.full((len(people), frames), -1)
    if partner:
        to_other = np.zeros(frames, dtype=bool)
        for part, towards in zip(parts, directed, strict=True):
            to_other[part.rows] = towards
        targets[0, to_other[at]] = 1
        targets[1, to_other[at]] = 0
    return Performance(tuple(people), in_order, heads, numbers, targets)


def _choose(kind: Kind, rng: np.random.Generator, partner: bool) -> tuple[str, Action]:
    """An action of a kind; with a partner mostly one that is done to it."""
    names = BY_KIND[kind]
    towards = [name for name in names if ACTIONS[name].at]
    alone = [name for name in names if ACTIONS[name].at != "both"]
    pool = towards if partner and towards and rng.random() < 0.75 else alone
    name = pool[rng.integers(len(pool))]
    return name, ACTIONS[name]


def _alone(
    name: str, frames: int, variety: float, rng: np.random.Generator
) -> tuple[list[tuple[str, Action]], np.ndarray]:
    """The action ``name`` once or twice, and some waiting before and after it, with the frames of each."""
    before, after = (int(rng.integers(3, 5)) * int(rng.random() < 0.5 * variety) for _ in range(2))
    counts = [before, *frames_of_one(frames - before - after, 2, rng).tolist(), after]
    names = ["wait", *[name] * (len(counts) - 2), "wait"]
    found = [(one, count) for one, count in zip(names, counts, strict=True) if count]
    return [(one, action_of(one)) for one, _ in found], np.array([count for _, count in found])


def _parts(names: Sequence[str], counts: np.ndarray, variety: float, rng: np.random.Generator) -> list[_Part]:
    parts, start = [], 0
    for name, count in zip(names, counts.tolist(), strict=True):
        offset = rng.uniform(-0.4, 0.4)
        edges = np.clip((np.arange(count)[:, None] + np.array((0.0, 1.0)) + offset) / count, 0, 1)
        parts.append(_Part(name, Style.draw(rng, variety), slice(start, start + count), edges))
        start += count
    return parts


def _answer(name: str, part: _Part, rng: np.random.Generator, variety: float) -> _Part:
    """What the partner does in the frames of an actor's action."""
    answers = action_of(name).answers or ("wait",)
    chosen = answers[rng.integers(len(answers))]
    style = Style.draw(rng, variety)
    if action_of(name).at == "both":
        style = Style(part.style.left, style.size, part.style.warp, style.lag, style.error, 0.0)
    return _Part(chosen, style, part.rows, part.phase)


def _loop(frames: int, variety: float, rng: np.random.Generator) -> list[_Part]:
    """What a bystander does: one action again and again, or a few."""
    times = int(rng.integers(2, 5))
    pool = [name for name, one in ACTIONS.items() if one.at != "both"]
    same = rng.random() < 0.5
    names = [pool[rng.integers(len(pool))] for _ in range(times)]
    if same:
        names = [names[0] if rng.random() < 0.8 else "wait"] * times
    share = np.full(times, frames // times)
    share[: frames % times] += 1
    parts = _parts(names, share, variety, rng)
    return [part._replace(style=parts[0].style) for part in parts] if same else parts


def _bystanders(
    count: int, partner: bool, gap: float, away: float, variety: float, rng: np.random.Generator
) -> list[Person]:
    """People beside and behind, as the camera sees them, none within 0.85 m of another."""
    taken = [np.zeros(2), np.array((0.0, gap))] if partner else [np.zeros(2)]
    found = []
    for _ in range(count):
        # Several draws, of which the first that is free counts, so that all clips draw as much.
        angles, far = away + rng.uniform(-1.9, 1.9, 12), rng.uniform(0.9, 3.2, 12)
        places = np.stack((np.sin(angles) * far, np.cos(angles) * far), axis=-1)
        free = np.min([np.linalg.norm(places - one, axis=1) for one in taken], axis=0) > 0.85
        place = places[int(free.argmax())]
        taken.append(place)
        found.append(
            Person(Proportions.draw(rng, variety), draw_posture(rng, variety), place, rng.uniform(0, 2 * math.pi))
        )
    return found


def _move(part: _Part, person: Person) -> Movement:
    return move(
        action_of(part.action),
        person.posture,
        part.phase.reshape(-1),
        part.style,
        most_cycles=_CYCLES_A_FRAME * len(part.phase),
    )


def _approach(part: _Part, movement: Movement, gap: float, towards: bool, people: Sequence[Person]) -> None:
    """Lets the actor step up to the partner and back, in place; or keeps the way short enough."""
    action = action_of(part.action)
    phase = part.phase.reshape(-1)
    if not towards:
        movement.poses[:, DOF["z"]] = np.minimum(movement.poses[:, DOF["z"]], gap - 0.55)
        return
    own, other = (person.proportions.height / REST_HEIGHT for person in people[:2])
    way = max(gap - action.distance * (own + other) / 2, -0.1) / own
    near = bump(phase, 0.4, 0.7)
    movement.poses[:, DOF["z"]] += way * near
    step = np.sin(2 * math.pi * near) * math.radians(30 * min(1.0, abs(way) / 0.5)) * ((near > 0) & (near < 1))
    for side, sign in (("l", 1.0), ("r", -1.0)):
        movement.poses[:, DOF[f"{side}_hip"]] += sign * step
        movement.poses[:, DOF[f"{side}_knee"]] += np.abs(step)


def _numbers(parts: Sequence[_Part], frames: int) -> np.ndarray:
    numbers = np.empty(frames, dtype=np.int64)
    for part in parts:
        numbers[part.rows] = NAMES.index(part.action)
    return numbers


def _joints(
    people: Sequence[Person],
    moves: Sequence[Sequence[Movement]],
    rounds: Sequence[Sequence[_Part]],
    motions: Motions | None,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """P × T × S × J × 3 and P × T × 3 × 3, in canonical order."""
    poses = np.concatenate([one.poses for person in moves for one in person])
    lift = np.concatenate([one.lift for person in moves for one in person])
    held = np.concatenate([one.held for person in moves for one in person])
    rows = len(poses) // len(people)
    offsets = np.stack([person.proportions.offsets() for person in people])
    height = np.array([person.proportions.height for person in people]) / REST_HEIGHT
    ways = poses[:, [DOF["x"], DOF["z"]]].copy()
    poses[:, :3] = 0
    joints, heads = forward_kinematics(poses, np.repeat(offsets, rows, axis=0))
    if motions is not None:
        for number, (person, own) in enumerate(zip(people, rounds, strict=True)):
            for part in own:
                at = slice(number * rows + 2 * part.rows.start, number * rows + 2 * part.rows.stop)
                motions.drive(part.action, joints[at], person.proportions, part.phase.reshape(-1), rng)
    joints = on_the_floor(joints, lift * np.repeat(height, rows))
    rest, _ = forward_kinematics(np.stack([person.posture for person in people]), offsets)
    homes = rest[:, [JOINT["l_ankle"], JOINT["r_ankle"]]][..., [0, 2]]
    for number, person in enumerate(people):
        at = slice(number * rows, (number + 1) * rows)
        own = feet_in_place(joints[at], homes[number], held[at])
        own[..., [0, 2]] += (ways[at] * height[number])[:, None]
        turn = _about_y(person.heading)
        own = own @ turn.T
        own[..., [0, 2]] += person.place
        joints[at] = own
        heads[at] = turn @ heads[at]
    shape = (len(people), rows // 2, 2)
    return joints.reshape(*shape, *joints.shape[1:]), heads.reshape(*shape, 3, 3)[:, :, 0]


def _about_y(angle: float) -> np.ndarray:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array(((cos, 0, sin), (0, 1, 0), (-sin, 0, cos)))


def _touch(part: _Part, movement: Movement, joints: np.ndarray, people: Sequence[Person]) -> None:
    """Brings the actor's hand or foot to the partner, in place, where both are near enough."""
    action = action_of(part.action)
    if not action.limb:
        return
    actor = joints[0, part.rows].reshape(-1, *joints.shape[3:])
    other = joints[1, part.rows].reshape(-1, *joints.shape[3:])
    side = "l" if part.style.left else "r"
    arm = (f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist")
    if action.at == "both":
        middle = (actor[:, JOINT[arm[2]]] + other[:, JOINT[arm[2]]]) / 2
        reach(actor, arm, middle, movement.done)
        reach(other, arm, middle, movement.done)
        joints[1, part.rows] = other.reshape(joints[1, part.rows].shape)
    else:
        aim = other[:, JOINT[action.at]].copy()
        # To the skin, not to the joint.
        away = actor[:, JOINT["chest"]] - other[:, JOINT["chest"]]
        aim[:, [0, 2]] += (
            0.1 * away[:, [0, 2]] / np.maximum(np.linalg.norm(away[:, [0, 2]], axis=1, keepdims=True), 0.1)
        )
        if action.at == "head":
            aim[:, 1] -= 0.12
        for one in "lr" if action.limb == "arms" else side:
            limb = (
                (f"{one}_hip", f"{one}_knee", f"{one}_ankle")
                if action.limb == "leg"
                else (f"{one}_shoulder", f"{one}_elbow", f"{one}_wrist")
            )
            reach(actor, limb, aim, 0.8 * movement.done**3)
    joints[0, part.rows] = actor.reshape(joints[0, part.rows].shape)


def _sway(joints: np.ndarray, strength: float, rng: np.random.Generator) -> None:
    """Lets everybody sway a little, in place: the higher a joint the more, several times a clip."""
    people, frames = joints.shape[:2]
    cycles = rng.uniform(1.5, 5, (people, 2, 1))
    phase = rng.uniform(0, 2 * math.pi, (people, 2, 1))
    time = (np.arange(frames)[:, None] + np.array((0.0, 1.0))).reshape(-1) / frames
    wave = 0.02 * strength * np.sin(2 * math.pi * cycles * time + phase)
    wave = wave.reshape(people, 2, frames, 2).transpose(0, 2, 3, 1)
    joints[..., [0, 2]] += wave[..., None, :] * joints[..., 1:2]
