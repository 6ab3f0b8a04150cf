"""What is true of every place and time of a clip of rendered people.

Shape legend: P people (at most ``MOST_PEOPLE``), T frames, S the 2 edges of a frame's time, H W pixels, h w cells of
``CELL`` × ``CELL`` pixels, J joints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dualformer.datasets.rendered_people.camera import Camera
from dualformer.datasets.rendered_people.draw import Layer

CELL = 4
"""Side in pixels of the cells in which the truth is given."""

MOST_PEOPLE = 3


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
    """T h w, uint8: what that person does, from 1, as the scene's ``action_names`` name it; 0 nobody."""
    actions: np.ndarray
    """P T, int64: what each person does, an index into ``action_names``; -1 where there is no such person."""
    targets: np.ndarray
    """P T, int64: to whom it is done, 0 is the actor; -1 to nobody."""
    joints: np.ndarray
    """P T J 3, float32: x and y in pixels, and metres from the camera; 0 where there is no such person. J are
    ``skeleton.JOINTS`` or ``hands.HAND_JOINTS``."""


class Cast(NamedTuple):
    """Who moves where and does what; people, or hands."""

    joints: np.ndarray
    """P × T × S × J × 3 metres: at the beginning and at the end of each frame's time."""
    actions: np.ndarray
    """P × T, int64."""
    targets: np.ndarray
    """P × T, int64."""
    taking_part: int
    """How many of them, the first, are what the clip is about; the others are bystanders."""


def with_truth(frames: np.ndarray, label: int, layer: Layer, cast: Cast, camera: Camera) -> RenderedPeople:
    """The clip with what is true of it."""
    size = camera.size
    count, cells = len(frames), size // CELL
    rows, column = np.divmod(layer.at, size)
    frame, row = np.divmod(rows, size)
    cell = (frame * cells + row // CELL) * cells + column // CELL
    length = count * cells * cells
    cover = layer.cover / CELL**2
    taking_part = layer.person <= cast.taking_part
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
    there = len(cast.actions)
    actions[:there], targets[:there] = cast.actions, cast.targets
    action = np.zeros(shape, dtype=np.uint8)
    for number in range(there):
        action += ((person == number + 1) * (actions[number] + 1)[:, None, None]).astype(np.uint8)
    joints = np.zeros((MOST_PEOPLE, count, cast.joints.shape[3], 3), dtype=np.float32)
    seen = camera.seen(cast.joints.mean(2))
    joints[:there, ..., 2] = seen[..., 2]
    flat = camera.project(seen).transpose(1, 0, 2, 3)
    joints[:there, ..., :2] = camera.moved(flat).transpose(1, 0, 2, 3)
    return RenderedPeople(frames, label, moving, covered - moving, flow, person, part, action, actions, targets, joints)
