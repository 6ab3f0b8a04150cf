"""What people do: a table of actions, each a way from a posture and back to it, in four kinds.

Every action begins and ends in the posture of its clip, so that actions follow each other in any order. ``reach`` is
done with arms, ``kick`` with a leg, ``bend`` with the trunk, ``go`` with all of the body from its place and back.

Angles in the table are degrees, distances metres. ``a`` is the arm that acts and ``b`` the other, ``k`` the leg that
acts and ``s`` the one that stands, drawn anew each time; the table has the right ones. ``fold`` bends the hips over
standing legs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dualformer.datasets.rendered_people.skeleton import DEGREES_OF_FREEDOM, DOF, UNITS

Kind = Literal["reach", "kick", "bend", "go"]
KINDS: tuple[Kind, ...] = ("reach", "kick", "bend", "go")
Angles = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Gait:
    """Steps while the root goes ``forwards`` and ``aside`` (metres) and back, or on the spot, or round."""

    swing: float
    """Of the thighs, degrees to either side."""
    knee: float
    arms: float
    elbow: float = 20.0
    bend: float = 3.0
    cycles: float = 2.0
    """Double steps in an action on the spot or round; else they follow the way."""
    stride: float = 1.3
    """Metres of a double step."""
    forwards: float = 0.0
    aside: float = 0.0
    round: float = 0.0
    """Radius of a circle to walk, metres."""
    bounce: float = 0.0
    """Height of the flight between steps, metres."""
    lift_arms: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Action:
    """One way to move; see the module."""

    kind: Kind
    keys: tuple[tuple[float, Angles], ...] = ()
    """Phase, and angles there; whatever is not named is as in the posture."""
    swings: tuple[tuple[str, float, float], ...] = ()
    """Name, amplitude in degrees and cycles of what goes to and fro from the first key to the last."""
    gait: Gait | None = None
    jump: tuple[float, float, float] | None = None
    """Phases of take-off and landing, and the height in metres."""
    spin: float = 0.0
    """Degrees by which the body turns about its axis, all the way round or there and back."""
    at: str = ""
    """The joint of a partner at which it aims, ``both`` where the two do it together, ``face`` where it only faces the
    partner."""
    limb: Literal["arm", "arms", "leg", ""] = ""
    """What is brought there."""
    distance: float = 1.0
    """Metres between the two when it is done."""
    answers: tuple[str, ...] = ()
    """What the partner does upon it: actions of ``ANSWERS``."""
    planted: bool = True
    """Whether standing feet stay where they are."""


def _both(name: str, angle: float, letters: str) -> dict[str, float]:
    return {f"{letter}.{name}": angle for letter in letters}


def _arms(*, flex: float = 0, abd: float = 0, rot: float = 0, elbow: float = 8) -> dict[str, float]:
    values = {"flex": flex, "abd": abd, "rot": rot, "elbow": elbow}
    return {key: angle for name, value in values.items() for key, angle in _both(name, value, "ab").items()}


def _arm(*, flex: float = 0, abd: float = 0, rot: float = 0, elbow: float = 8, of: str = "a") -> dict[str, float]:
    return {f"{of}.flex": flex, f"{of}.abd": abd, f"{of}.rot": rot, f"{of}.elbow": elbow}


def _leg(*, hip: float = 0, spread: float = 2, knee: float = 5, foot: float = 0, of: str = "k") -> dict[str, float]:
    return {f"{of}.hip": hip, f"{of}.spread": spread, f"{of}.knee": knee, f"{of}.foot": foot}


def _legs(*, hip: float = 0, spread: float = 2, knee: float = 5, foot: float = 0) -> dict[str, float]:
    return {
        **_leg(hip=hip, spread=spread, knee=knee, foot=foot),
        **_leg(hip=hip, spread=spread, knee=knee, foot=foot, of="s"),
    }


def _crouch(depth: float) -> dict[str, float]:
    """Both knees bent, 1 as deep as can be, over the feet."""
    return {**_legs(hip=105 * depth, knee=125 * depth, spread=8, foot=-25 * depth), "pitch": 35 * depth}


_STAGGER = {"bend": -18.0, "pitch": -10.0, "nod": 12.0, **_arms(flex=30, abd=35, elbow=50), **_leg(hip=-25, knee=25)}
_FALLEN = {**_legs(hip=25, knee=30), **_arms(flex=40, abd=60, elbow=40)}

ACTIONS: dict[str, Action] = {
    # with arms
    "punch": Action(
        kind="reach", limb="arm", at="head", distance=0.75, answers=("stagger", "duck", "fall back"),
        keys=((0.3, {**_arm(flex=-25, abd=15, elbow=125), "twist": -25, **_arm(flex=40, abd=10, elbow=120, of="b")}),
              (0.5, {**_arm(flex=92, abd=5, elbow=5), "twist": 35, "bend": 8, **_arm(flex=20, abd=10, elbow=130,
                  of="b")}),
              (0.6, {**_arm(flex=90, abd=5, elbow=8), "twist": 33, "bend": 8, **_arm(flex=20, abd=10, elbow=130,
                  of="b")}))),
    "uppercut": Action(
        kind="reach", at="face", distance=0.8, answers=("stagger", "fall back"),
        keys=((0.35, {**_arm(flex=-30, elbow=80), "bend": 20, "twist": -25, **_crouch(0.25)}),
              (0.6, {**_arm(flex=125, elbow=95), "bend": -8, "twist": 30}))),
    "push": Action(
        kind="reach", limb="arms", at="chest", distance=0.7, answers=("stagger", "fall back", "step back"),
        keys=((0.3, {**_arms(flex=25, abd=12, elbow=130), "bend": -5}),
              (0.55, {**_arms(flex=85, abd=3, elbow=8), "bend": 18, **_leg(hip=25, knee=25)}),
              (0.65, {**_arms(flex=85, abd=3, elbow=8), "bend": 18, **_leg(hip=25, knee=25)}))),
    "pull": Action(
        kind="reach",
        keys=((0.3, {**_arms(flex=80, abd=3, elbow=8), "bend": 20}),
              (0.65, {**_arms(flex=0, abd=12, elbow=120), "bend": -18, **_legs(hip=15, knee=25)}))),
    "point": Action(
        kind="reach", at="face", distance=1.8, answers=("turn round", "point", "step back"),
        keys=((0.35, {**_arm(flex=88, abd=5, elbow=3), "twist": 12}),
            (0.7, {**_arm(flex=90, abd=8, elbow=3), "twist": 12}))),
    "point up": Action(
        kind="reach", keys=((0.35, {**_arm(flex=160, abd=10, elbow=5), "nod": -30}),
            (0.7, {**_arm(flex=160, abd=18, elbow=5), "nod": -30}))),
    "throw": Action(
        kind="reach", at="face", distance=2.0, answers=("duck", "stagger", "catch"),
        keys=((0.4, {**_arm(flex=70, abd=100, rot=70, elbow=105), "twist": -40, "bend": -12, **_leg(hip=20, knee=30,
            of="s")}),
              (0.6, {**_arm(flex=80, abd=10, elbow=10), "twist": 40, "bend": 28}),
                  (0.7, {**_arm(flex=30, abd=-15, elbow=15), "twist": 42, "bend": 35}))),
    "throw under": Action(
        kind="reach", at="face", distance=2.0, answers=("catch",),
        keys=((0.35, {**_arm(flex=-55, elbow=5), "bend": 20, "twist": -15}),
            (0.65, {**_arm(flex=110, elbow=12), "bend": -3}))),
    "swing": Action(
        kind="reach", at="face", distance=1.2, answers=("duck", "stagger", "fall back"),
        keys=((0.35, {**_arm(flex=120, abd=40, elbow=100), **_arm(flex=110, abd=-30, elbow=90, of="b"), "twist": -45}),
              (0.65, {**_arm(flex=60, abd=-30, elbow=10), **_arm(flex=55, abd=25, elbow=30, of="b"), "twist": 45,
                  "bend": 15}))),
    "chop": Action(
        kind="reach", keys=((0.4, {**_arms(flex=165, abd=5, elbow=70), "bend": -10}),
            (0.6, {**_arms(flex=40, elbow=10), "bend": 40, **_legs(hip=10, knee=25)}))),
    "wave": Action(
        kind="reach", at="face", distance=1.8, answers=("wave", "nod"), swings=(("a.rot", 32, 3.0),),
        keys=((0.22, _arm(flex=20, abd=75, rot=75, elbow=75)), (0.8, _arm(flex=20, abd=75, rot=75, elbow=75)))),
    "wave high": Action(
        kind="reach", at="face", distance=2.2, answers=("wave",), swings=(("a.abd", 25, 2.5), ("b.abd", 25, 2.5)),
        keys=((0.25, _arms(abd=150, elbow=15)), (0.78, _arms(abd=150, elbow=15)))),
    "beckon": Action(
        kind="reach", at="face", distance=1.6, answers=("step up", "nod"), swings=(("a.elbow", 35, 2.5),),
        keys=((0.25, _arm(flex=55, abd=5, elbow=75)), (0.8, _arm(flex=55, abd=5, elbow=75)))),
    "clap": Action(
        kind="reach", swings=(("a.abd", 16, 3.5), ("b.abd", 16, 3.5)),
        keys=((0.2, _arms(flex=62, abd=8, rot=-45, elbow=62)), (0.82, _arms(flex=62, abd=8, rot=-45, elbow=62)))),
    "raise arms": Action(
        kind="reach", keys=((0.4, {**_arms(flex=168, abd=8, elbow=5), "bend": -8}),
            (0.62, {**_arms(flex=172, abd=8, elbow=5), "bend": -8}))),
    "spread arms": Action(kind="reach", keys=((0.4, _arms(abd=90, elbow=5)), (0.62, _arms(abd=95, elbow=5)))),
    "flap": Action(kind="reach", swings=(("a.abd", 40, 2.5), ("b.abd", 40, 2.5)), keys=((0.2, _arms(abd=80,
        elbow=12)), (0.8, _arms(abd=80, elbow=12)))),
    "circle arm": Action(kind="reach", keys=((0.25, _arm(flex=88)), (0.45, _arm(flex=178)),
        (0.65, _arm(flex=170, abd=60)), (0.82, _arm(abd=80)))),
    "drink": Action(
        kind="reach", keys=((0.35, {**_arm(flex=48, abd=12, rot=-35, elbow=128)}),
            (0.5, {**_arm(flex=68, abd=25, rot=-35, elbow=128), "nod": -22}),
                            (0.68, {**_arm(flex=66, abd=25, rot=-35, elbow=128), "nod": -22}))),
    "telephone": Action(kind="reach", keys=((0.3, {**_arm(flex=45, abd=40, rot=20, elbow=142), "tilt": 12}),
        (0.72, {**_arm(flex=45, abd=42, rot=20, elbow=142), "tilt": 12}))),
    "pour": Action(kind="reach", keys=((0.3, _arm(flex=70, abd=5, elbow=30)),
        (0.55, _arm(flex=75, abd=40, rot=-80, elbow=45)), (0.7, _arm(flex=75, abd=40, rot=-80, elbow=45)))),
    "lift": Action(
        kind="reach", keys=((0.3, {**_arms(flex=35, elbow=15), "bend": 35, **_crouch(0.4)}),
            (0.65, {**_arms(flex=150, elbow=25), "bend": -8}))),
    "shake hands": Action(
        kind="reach", limb="arm", at="both", distance=0.75, answers=("shake hands",), swings=(("a.flex", 10, 3.0),),
        keys=((0.3, _arm(flex=48, abd=-3, elbow=35)), (0.75, _arm(flex=48, abd=-3, elbow=35)))),
    "high five": Action(
        kind="reach", limb="arm", at="both", distance=0.8, answers=("high five",),
        keys=((0.3, _arm(flex=60, abd=60, rot=70, elbow=100)), (0.5, _arm(flex=120, abd=5, elbow=20)),
            (0.58, _arm(flex=120, abd=5, elbow=20)))),
    "hug": Action(
        kind="reach", limb="", at="both", distance=0.33, answers=("hug",),
        keys=((0.3, {**_arms(flex=65, abd=35, elbow=30)}), (0.45, {**_arms(flex=75, abd=8, rot=-55, elbow=85),
            "bend": 10, "tilt": 18}),
              (0.75, {**_arms(flex=75, abd=8, rot=-55, elbow=88), "bend": 10, "tilt": 18}))),
    "box": Action(
        kind="reach", swings=(("a.elbow", 52, 2.5), ("b.elbow", -52, 2.5), ("twist", -22, 2.5),
            ("a.flex", -22, 2.5), ("b.flex", 22, 2.5)),
        keys=((0.15, _arms(flex=62, abd=8, elbow=70)), (0.85, _arms(flex=62, abd=8, elbow=70)))),
    # with a leg
    "kick": Action(
        kind="kick", limb="leg", at="hips", distance=0.95, answers=("stagger", "fall back", "step back"),
        keys=((0.3, {**_leg(hip=-25, knee=75), "twist": -10}), (0.52, {**_leg(hip=82, knee=5, foot=15), "bend": -12,
            "pitch": -8, **_arms(flex=-10, abd=35, elbow=30)}),
              (0.6, {**_leg(hip=80, knee=12, foot=15), "bend": -12, "pitch": -8, **_arms(flex=-10, abd=35,
                  elbow=30)}))),
    "kick aside": Action(
        kind="kick", keys=((0.3, {**_leg(hip=55, knee=100, spread=20)}),
            (0.55, {**_leg(hip=15, spread=75, knee=5), "side": -28, "roll": -12, **_arms(abd=40, elbow=50)}))),
    "kick back": Action(kind="kick", keys=((0.3, _leg(hip=40, knee=70)),
        (0.58, {**_leg(hip=-42, knee=8, foot=30), "pitch": 38, "bend": 8, **_leg(hip=38, of="s"), **_arms(flex=35,
        abd=15, elbow=40)}))),
    "kick a ball": Action(
        kind="kick", keys=((0.35, {**_leg(hip=-40, knee=80), "twist": 18, **_arm(abd=60, of="b")}),
            (0.55, {**_leg(hip=45, knee=3, foot=30), "twist": -15, "bend": 8, **_arm(abd=50, of="b")}),
                           (0.7, {**_leg(hip=72, knee=10, foot=20), "bend": 5}))),
    "round kick": Action(
        kind="kick", at="face", distance=1.0, answers=("stagger", "duck", "fall back"), spin=40,
        keys=((0.3, {**_leg(hip=60, knee=110, spread=35)}), (0.55, {**_leg(hip=75, spread=40, knee=5), "side": -22,
            "bend": -10, **_arms(abd=35, elbow=60)}))),
    "knee": Action(
        kind="kick", at="face", distance=0.5, answers=("stagger",),
        keys=((0.5, {**_leg(hip=108, knee=115), "bend": 8, **_arms(flex=30, elbow=80)}),
            (0.6, {**_leg(hip=105, knee=115), "bend": 8, **_arms(flex=20, elbow=90)}))),
    "stamp": Action(kind="kick", keys=((0.45, {**_leg(hip=85, knee=95), **_arms(abd=20, elbow=30)}),
        (0.6, {**_leg(hip=8, knee=10), "bend": 10}))),
    "lunge": Action(
        kind="kick", keys=((0.45, {**_leg(hip=75, knee=80), **_leg(hip=-28, knee=18, foot=-25, of="s")}),
            (0.62, {**_leg(hip=75, knee=80), **_leg(hip=-28, knee=18, foot=-25, of="s")}))),
    "stretch leg": Action(kind="kick", keys=((0.45, {**_leg(hip=5, spread=48), **_leg(hip=50, knee=85, spread=15,
        of="s"), "side": 8}), (0.62, {**_leg(hip=5, spread=48), **_leg(hip=50, knee=85, spread=15, of="s"),
        "side": 8}))),
    "heel up": Action(kind="kick", keys=((0.4, {**_leg(hip=5, knee=135), **_arm(flex=-30, elbow=10)}),
        (0.65, {**_leg(hip=-5, knee=138), **_arm(flex=-35, elbow=10)}))),
    "swing leg": Action(kind="kick", swings=(("k.hip", 45, 2.0),), keys=((0.2, {**_leg(hip=5, knee=8),
        **_arms(abd=35)}), (0.8, {**_leg(hip=5, knee=8), **_arms(abd=35)}))),
    # with the trunk
    "bow": Action(
        kind="bend", at="face", distance=1.6, answers=("bow", "nod"),
        keys=((0.4, {"fold": 38, "bend": 38, "nod": 18}), (0.62, {"fold": 40, "bend": 40, "nod": 18}))),
    "bend down": Action(kind="bend", keys=((0.42, {"fold": 72, "bend": 62, **_arms(flex=78, elbow=5)}),
        (0.6, {"fold": 75, "bend": 64, **_arms(flex=82, elbow=5)}))),
    "squat": Action(kind="bend", keys=((0.42, {**_crouch(1.0), **_arms(flex=80, elbow=10)}),
        (0.6, {**_crouch(1.0), **_arms(flex=85, elbow=10)}))),
    "pick up": Action(kind="bend", keys=((0.4, {**_crouch(0.72), "bend": 48, **_arm(flex=88, elbow=5), "nod": 10}),
        (0.55, {**_crouch(0.72), "bend": 50, **_arm(flex=85, elbow=12)}), (0.85, _arm(flex=35, elbow=85)))),
    "sit down": Action(kind="bend", keys=((0.35, {**_legs(hip=88, knee=88), "pitch": 8, **_arms(flex=30, elbow=45)}),
        (0.7, {**_legs(hip=90, knee=88), "pitch": 2, **_arms(flex=30, elbow=45)}))),
    "sit on the floor": Action(kind="bend", keys=((0.4, {**_legs(hip=95, knee=40, spread=8), "bend": 15,
        **_arms(flex=-20, abd=15)}), (0.65, {**_legs(hip=92, knee=25, spread=8), "bend": 15, **_arms(flex=35,
        elbow=30)})), planted=False),
    "kneel": Action(kind="bend", keys=((0.42, {**_leg(hip=80, knee=90), **_leg(hip=-2, knee=92, foot=30, of="s")}),
        (0.65, {**_leg(hip=82, knee=90), **_leg(hip=-2, knee=92, foot=30, of="s"), "bend": 8}))),
    "lean": Action(kind="bend", keys=((0.42, {"side": 36, "roll": 8, **_arm(abd=25, of="a"), **_arm(abd=150,
        elbow=25, of="b")}), (0.6, {"side": 38, "roll": 8, **_arm(abd=25, of="a"), **_arm(abd=152, elbow=25,
        of="b")}))),
    "lean back": Action(kind="bend", keys=((0.42, {"bend": -33, "pitch": -14, "nod": -20, **_legs(hip=10, knee=35),
        **_arms(abd=30, elbow=30)}), (0.6, {"bend": -34, "pitch": -14, "nod": -20, **_legs(hip=10, knee=35),
        **_arms(abd=30, elbow=30)}))),
    "twist": Action(kind="bend", swings=(("twist", 50, 1.5), ("turn", 25, 1.5)), keys=((0.15, _arms(abd=55,
        elbow=75)), (0.85, _arms(abd=55, elbow=75)))),
    "duck": Action(kind="bend", keys=((0.4, {**_crouch(0.6), "bend": 40, "nod": 20, **_arms(flex=70, abd=15,
        elbow=130)}), (0.62, {**_crouch(0.6), "bend": 42, "nod": 20, **_arms(flex=70, abd=15, elbow=130)}))),
    "fall": Action(kind="bend", keys=((0.25, {**_legs(hip=40, knee=65), "roll": 25, **_arms(abd=50)}),
        (0.48, {**_FALLEN, "roll": 88}), (0.68, {**_FALLEN, "roll": 88}),
        (0.85, {**_crouch(0.6), "bend": 30})), planted=False),
    "fall forwards": Action(kind="bend", keys=((0.25, {**_legs(hip=20, knee=70), "pitch": 30, **_arms(flex=70,
        elbow=40)}), (0.48, {**_legs(knee=15), "pitch": 86, **_arms(flex=120, elbow=70)}),
        (0.66, {**_legs(knee=15), "pitch": 86, **_arms(flex=120, elbow=70)}),
        (0.85, {**_crouch(0.7), "bend": 30})), planted=False),
    # from the place and back
    "walk": Action(kind="go", gait=Gait(swing=26, knee=55, arms=24, forwards=0.9), planted=False),
    "walk on the spot": Action(kind="go", gait=Gait(swing=22, knee=65, arms=25, cycles=2.0), planted=False),
    "walk round": Action(kind="go", gait=Gait(swing=26, knee=55, arms=24, round=0.38, cycles=2.0), planted=False),
    "march": Action(kind="go", gait=Gait(swing=38, knee=85, arms=45, elbow=10, cycles=2.0), planted=False),
    "run": Action(kind="go", gait=Gait(swing=42, knee=100, arms=42, elbow=88, bend=14, forwards=1.3, stride=1.9,
        bounce=0.06), planted=False),
    "run on the spot": Action(kind="go", gait=Gait(swing=36, knee=105, arms=42, elbow=88, bend=8, cycles=3.0,
        bounce=0.06), planted=False),
    "sneak": Action(kind="go", gait=Gait(swing=30, knee=70, arms=10, elbow=95, bend=38, forwards=0.7, stride=1.0),
        planted=False),
    "step aside": Action(kind="go", gait=Gait(swing=10, knee=35, arms=8, aside=0.7, stride=0.9), planted=False),
    "step back": Action(kind="go", gait=Gait(swing=18, knee=40, arms=12, forwards=-0.6, stride=0.9), planted=False),
    "turn round": Action(kind="go", spin=360, gait=Gait(swing=10, knee=40, arms=10, cycles=2.0), planted=False),
    "turn away": Action(kind="go", spin=170, gait=Gait(swing=10, knee=40, arms=10, cycles=2.0), planted=False),
    "jump": Action(
        kind="go", jump=(0.4, 0.72, 0.32),
        keys=((0.3, {**_crouch(0.5), **_arms(flex=-40, elbow=10), "bend": 18}),
            (0.46, {**_legs(foot=30), **_arms(flex=150, elbow=10)}),
            (0.62, {**_legs(hip=25, knee=40), **_arms(flex=90, elbow=20)}),
            (0.78, {**_crouch(0.45), **_arms(flex=40, elbow=20), "bend": 15}))),
    "jumping jack": Action(
        kind="go", jump=(0.25, 0.5, 0.12), keys=((0.2, _crouch(0.2)),
            (0.45, {**_legs(spread=28), **_arms(abd=160, elbow=10)}),
            (0.6, {**_crouch(0.15), **_legs(spread=28), **_arms(abd=160, elbow=10)}))),
    "hop": Action(kind="go", jump=(0.35, 0.65, 0.18), keys=((0.25, {**_leg(hip=30, knee=85), **_leg(hip=28, knee=48,
        foot=-18, of="s"), "pitch": 8}), (0.5, {**_leg(hip=25, knee=85), **_arms(abd=50, elbow=40)}),
        (0.75, {**_leg(hip=30, knee=85), **_leg(hip=28, knee=48, foot=-18, of="s"), "pitch": 8}))),
    "climb": Action(kind="go", jump=(0.12, 0.88, 0.45), gait=Gait(swing=-30, knee=80, arms=52, elbow=55, bend=4,
        cycles=2.0, lift_arms=115), planted=False),
    "dance": Action(kind="go", swings=(("side", 18, 2.0), ("twist", 22, 2.0), ("a.abd", 35, 2.0),
        ("b.abd", -35, 2.0), ("k.knee", 28, 2.0), ("k.hip", 16, 2.0), ("s.knee", -28, 2.0),
        ("s.hip", -16, 2.0)), keys=((0.15, {**_arms(abd=50, elbow=60), **_legs(hip=14, knee=28)}),
        (0.85, {**_arms(abd=50, elbow=60), **_legs(hip=14, knee=28)}))),
}  # fmt: skip

ANSWERS: dict[str, Action] = {
    "stagger": Action(kind="go", keys=((0.42, {}), (0.58, _STAGGER), (0.75, _STAGGER)), planted=False),
    "fall back": Action(kind="bend", keys=((0.45, {}), (0.55, {**_STAGGER, **_legs(hip=40, knee=60)}),
        (0.68, {**_FALLEN, "pitch": -85}), (0.82, {**_FALLEN, "pitch": -85})), planted=False),
    "nod": Action(kind="bend", keys=((0.5, {"nod": 28, "bend": 8}),)),
    "catch": Action(kind="reach", keys=((0.6, _arms(flex=65, abd=5, elbow=40)),
        (0.7, _arms(flex=45, abd=0, elbow=85)))),
    "step up": Action(kind="go", gait=Gait(swing=22, knee=50, arms=20, forwards=0.6, stride=1.1), planted=False),
    "wait": Action(kind="bend", keys=((0.5, {"turn": 12}),)),
}  # fmt: skip
"""What partners do besides; they are not counted among the actions of an actor."""

NAMES = (*ACTIONS, *ANSWERS)
"""All, in the order of their numbers in the truth."""
BY_KIND: dict[Kind, tuple[str, ...]] = {
    kind: tuple(name for name, one in ACTIONS.items() if one.kind == kind) for kind in KINDS
}


def action_of(name: str) -> Action:
    return ACTIONS[name] if name in ACTIONS else ANSWERS[name]


_MIRRORED = ("yaw", "roll", "side", "twist", "tilt", "turn")


def columns(name: str, left: bool) -> tuple[tuple[int, float], ...]:
    """Degrees of freedom and signs for a name of the table, where the left limbs act or the right ones."""
    if name == "fold":
        return tuple((DOF[one], 1.0) for one in ("pitch", "l_hip", "r_hip"))
    if "." in name:
        who, what = name.split(".")
        side = "l" if (who in "ak") == left else "r"
        return ((DOF[f"{side}_{what}"], 1.0),)
    return ((DOF[name], -1.0 if left and name in _MIRRORED else 1.0),)


def key_poses(action: Action, posture: np.ndarray, left: bool) -> tuple[np.ndarray, np.ndarray]:
    """Phases (K), and poses there (K × D, metres and radians), from the ``posture`` (D) and back to it."""
    phases = np.array([0.0, *(phase for phase, _ in action.keys), 1.0])
    poses = np.repeat(posture[None], len(phases), axis=0)
    for row, (_, angles) in enumerate(action.keys, start=1):
        added: dict[int, float] = {}
        for name, angle in angles.items():
            for column, sign in columns(name, left):
                # A sum where it folds the hips besides; else what the table says.
                added[column] = added.get(column, 0.0) + sign * angle * UNITS[column]
        for column, angle in added.items():
            relative = DEGREES_OF_FREEDOM[column] in _RELATIVE
            poses[row, column] = angle + (posture[column] if relative else 0.0)
    return phases, poses


_RELATIVE = ("x", "y", "z", "yaw", "twist", "side", "tilt", "turn")
