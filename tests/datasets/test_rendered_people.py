"""Rendered people: only the order of frames tells the class; bodies are bodies; the truth is what the frames show."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dualformer.cli.main import main
from dualformer.datasets.rendered import write_dataset
from dualformer.datasets.rendered_people.actions import ACTIONS, ANSWERS, BY_KIND, KINDS, NAMES
from dualformer.datasets.rendered_people.bodies import PARTS
from dualformer.datasets.rendered_people.clips import PeopleClips
from dualformer.datasets.rendered_people.difficulty import PeopleDifficulty
from dualformer.datasets.rendered_people.hands import HAND_JOINTS, HAND_ORDERS
from dualformer.datasets.rendered_people.movements import Style, draw_posture, move
from dualformer.datasets.rendered_people.performance import ORDERS, Performance, perform
from dualformer.datasets.rendered_people.rounds import frame_order, frames_of_kinds
from dualformer.datasets.rendered_people.scene import PeopleScene
from dualformer.datasets.rendered_people.skeleton import (
    DEGREES_OF_FREEDOM,
    JOINT,
    JOINTS,
    PARENTS,
    REST_OFFSETS,
    Proportions,
    forward_kinematics,
    on_the_floor,
)
from dualformer.datasets.rendered_people.truth import CELL, MOST_PEOPLE, RenderedPeople

VIEWS = ("bodies", "hands")
STILL = replace(PeopleDifficulty.at(0.8), shake=0, sway=0, bystanders=0, noise=0, flicker=0, partner=1, soft=0)
"""Hard, but nothing moves besides the actor and the partner."""


def fingerprints(clip: RenderedPeople) -> list[bytes]:
    return [frame.tobytes() for frame in clip.frames]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dial", [PeopleDifficulty(), STILL], ids=["plain", "hard"])
def test_with_one_seed_all_classes_are_the_same_frames_in_other_orders(view: str, dial: PeopleDifficulty) -> None:
    scene = PeopleScene(size=48, view=view, difficulty=dial)  # type: ignore[arg-type]
    assert len(scene.classes) == 6
    for seed in range(3):
        clips = [fingerprints(scene.render(label, seed)) for label in range(6)]
        assert len({tuple(clip) for clip in clips}) == 6
        assert len({tuple(sorted(clip)) for clip in clips}) == 1


def test_a_frame_at_a_known_time_shows_every_kind_alike_in_every_class() -> None:
    counts = frames_of_kinds(16, 1.0, np.random.default_rng(3))
    kind_of = np.repeat(np.arange(4), counts)
    for label in range(6):
        orders = np.stack([frame_order(label, counts, start) for start in range(16)])
        for time in range(16):
            assert sorted(orders[:, time]) == list(range(16))
        round_ = [
            kind
            for kind, other in zip(kind_of[orders[0]], np.roll(kind_of[orders[0]], 1), strict=True)
            if kind != other
        ]
        assert [KINDS[kind] for kind in round_] == ORDERS[label].split("-")


def test_every_kind_gets_three_frames_at_least() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        frames = int(rng.integers(16, 70))
        counts = frames_of_kinds(frames, 1.0, rng)
        assert counts.sum() == frames and counts.min() >= 3


def nearest_accuracy(rows: np.ndarray, labels: np.ndarray) -> float:
    """Of nearest neighbours, every clip asked against all others."""
    far = np.square(rows).sum(1) - 2 * rows @ rows.T
    np.fill_diagonal(far, np.inf)
    return float((labels[far.argmin(1)] == labels).mean())


def ridge_accuracy(rows: np.ndarray, labels: np.ndarray) -> float:
    """Of ridge regression onto classes, learnt on the first two thirds."""
    cut = 2 * len(rows) // 3
    kernel = rows[:cut] @ rows[:cut].T
    weights = np.linalg.solve(kernel + kernel.trace() / cut * np.eye(cut), np.eye(6)[labels[:cut]] - 1 / 6)
    return float(((rows[cut:] @ rows[:cut].T @ weights).argmax(1) == labels[cut:]).mean())


def test_one_frame_or_frames_without_order_tell_nothing() -> None:
    """From true joints, which say more than pixels: the poses in the middle, at first and last, and on average."""
    labels = np.arange(600) % 6
    rows = []
    for number, label in enumerate(labels.tolist()):
        look = np.random.default_rng((5, number))
        cast = perform(
            label, 16, bystanders=0, partner=False, away=0.0, variety=0.5, sway=0, look=look, order=look.spawn(1)[0]
        )
        joints = cast.joints[0].mean(1)
        joints = (joints - joints[:, :1]).reshape(16, -1)
        rows.append((joints[8], joints[[0, 15]].ravel(), np.concatenate((joints.mean(0), joints.std(0)))))
    for columns in zip(*rows, strict=True):
        feature = np.stack(columns)
        feature = (feature - feature.mean(0)) / (feature.std(0) + 1e-6)
        # Chance is 1/6 ± 0.03 (two deviations) of all and ± 0.053 of the last third.
        assert nearest_accuracy(feature, labels) < 0.25
        assert ridge_accuracy(feature, labels) < 0.25


@pytest.mark.parametrize("name", NAMES)
def test_every_action_begins_and_ends_in_the_posture_and_keeps_bones(name: str) -> None:
    action = ACTIONS.get(name) or ANSWERS[name]
    rng = np.random.default_rng(1)
    posture = draw_posture(rng, 1.0)
    movement = move(action, posture, np.linspace(0, 1, 33), Style.draw(rng, 1.0), most_cycles=9)
    turned = movement.poses - posture
    turned[:, 3] = (turned[:, 3] + np.pi) % (2 * np.pi) - np.pi  # a turn all the way round is none
    assert np.abs(turned[[0, -1]]).max() < 1e-9
    assert np.abs(movement.lift[[0, -1]]).max() < 1e-9
    # Nothing jumps: in 1/32 of an action no joint turns by 90 degrees, nor is anything but the way of steps long.
    assert np.abs(np.diff(movement.poses[:, 3:], axis=0)).max() < 1.6
    assert np.abs(turned).max() > 0.1
    offsets = Proportions.draw(rng, 1.0).offsets()
    joints, _ = forward_kinematics(movement.poses, offsets)
    joints = on_the_floor(joints, movement.lift)
    bones = np.linalg.norm(joints[:, 1:] - joints[:, list(PARENTS[1:])], axis=-1)
    assert np.allclose(bones, np.linalg.norm(offsets[1:], axis=-1))
    assert joints[..., 1].min() > 0


def test_rest_stands_upright_with_its_left_at_the_left() -> None:
    joints, heads = forward_kinematics(np.zeros((1, len(DEGREES_OF_FREEDOM))), REST_OFFSETS)
    joints = on_the_floor(joints, np.zeros(1))[0]
    assert joints[JOINT["head"], 1] == pytest.approx(1.75, abs=0.03)
    assert joints[JOINT["l_wrist"], 0] > 0.1 > -0.1 > joints[JOINT["r_wrist"], 0]
    assert joints[JOINT["l_toe"], 2] > joints[JOINT["l_ankle"], 2] + 0.1
    assert np.allclose(heads[0], np.eye(3))


def test_a_kick_raises_the_foot_and_a_bow_lowers_the_head() -> None:
    posture = draw_posture(np.random.default_rng(0), 0.0)
    heights = {}
    for name in ("kick", "bow", "raise arms"):
        style = Style.draw(np.random.default_rng(0), 0.0)
        movement = move(ACTIONS[name], posture, np.linspace(0, 1, 21), style, most_cycles=9)
        joints, _ = forward_kinematics(movement.poses, REST_OFFSETS)
        heights[name] = on_the_floor(joints, movement.lift)[..., 1]
    ankles, wrists = [JOINT["l_ankle"], JOINT["r_ankle"]], [JOINT["l_wrist"], JOINT["r_wrist"]]
    assert heights["kick"][:, ankles].max() > 0.6
    assert heights["bow"][:, JOINT["head"]].min() < 1.35
    assert heights["raise arms"][:, wrists].min(1).max() > 1.8
    assert heights["raise arms"][:, ankles].max() < 0.2


def test_there_are_many_actions_of_every_kind() -> None:
    assert {kind: len(names) >= 10 for kind, names in BY_KIND.items()} == dict.fromkeys(KINDS, True)
    assert len(NAMES) == len(set(NAMES)) < 255


@pytest.mark.parametrize("seed", range(4))
def test_hands_that_are_shaken_meet(seed: int) -> None:
    """In the first clip in which the actor does that in 8 frames or more."""

    def drawn(number: int) -> Performance:
        look = np.random.default_rng((seed, number))
        return perform(
            0, 48, bystanders=0, partner=True, away=0.0, variety=0.3, sway=0, look=look, order=look.spawn(1)[0]
        )

    number = NAMES.index("shake hands")
    cast = next(cast for cast in map(drawn, range(200)) if (cast.actions[0] == number).sum() >= 8)
    shaking = cast.actions[0] == number
    assert (cast.actions[1, shaking] == number).all()
    assert (cast.targets[:2, shaking] == [[1], [0]]).all()
    wrists = cast.joints[:, :, 0][:, :, [JOINT["l_wrist"], JOINT["r_wrist"]]]
    gap = np.linalg.norm(wrists[0][:, :, None] - wrists[1][:, None], axis=-1).min((1, 2))
    assert gap[shaking].min() < 0.05 < gap[~shaking].min() + 0.3


@pytest.mark.parametrize("view", VIEWS)
def test_what_moves_is_where_the_frames_differ_from_the_background(view: str) -> None:
    scene = PeopleScene(size=64, view=view)  # type: ignore[arg-type]
    for seed in range(4):
        clip = scene.render(seed % 6, (1, seed))
        assert clip.frames.shape == (16, 64, 64, 3) and clip.frames.dtype == np.uint8
        background = clip.frames[0, 0, 0].astype(int)
        differs = (np.abs(clip.frames.astype(int) - background).max(-1) > 12).astype(np.float32)
        share = differs.reshape(16, 16, CELL, 16, CELL).mean((2, 4))
        assert np.abs(share - clip.moving).mean() < 0.02
        assert clip.moving.max() <= 1 + 1e-5 and not clip.distractors.any()
        assert ((clip.person > 0) == (clip.part > 0)).all() and ((clip.person > 0) == (clip.action > 0)).all()
        assert clip.part.max() <= len(PARTS)


def test_the_truth_tells_people_apart() -> None:
    dial = replace(PeopleDifficulty.at(0.6), partner=1, bystanders=1, smallest=0.6)
    scene = PeopleScene(size=96, difficulty=dial)
    seen: Counter[int] = Counter()
    for seed in range(8):
        clip = scene.render(0, seed)
        seen.update(np.unique(clip.person).tolist())
        mine = clip.person == 1
        assert (clip.action[mine] == np.broadcast_to(clip.actions[0, :, None, None] + 1, mine.shape)[mine]).all()
        assert clip.moving[mine].min() > 0
        assert (clip.distractors[clip.person == 3] > 0).all()
        assert clip.joints.shape == (MOST_PEOPLE, 16, len(JOINTS), 3)
        there = clip.actions[:, 0] >= 0
        assert there[:2].all() and (clip.joints[there, ..., 2] > 0.1).all() and not clip.joints[~there].any()
    assert seen[1] == seen[2] == 8 and seen[3] >= 2


def test_velocity_is_the_way_of_joints() -> None:
    """Of a slow clip: a hand's cells move as the wrist does from frame to frame."""
    scene = PeopleScene(size=96, frames=96)
    clip = scene.render(0, 3)
    found, wanted = [], []
    for side, part in (("l", "left forearm"), ("r", "right forearm")):
        ends = clip.joints[0, :, [JOINT[f"{side}_elbow"], JOINT[f"{side}_wrist"]], :2].mean(0)
        steps = (ends[2:] - ends[:-2]) / 2
        for time in range(1, 95):
            mine = clip.part[time] == 1 + PARTS.index(part)
            if mine.sum() >= 3 and np.linalg.norm(steps[time - 1]) > 0.5:
                found.append(clip.velocity[time][mine].mean(0))
                wanted.append(steps[time - 1])
    found, wanted = np.array(found), np.array(wanted)
    assert len(found) > 20
    assert np.median(np.linalg.norm(found - wanted, axis=1)) < 0.3 * np.median(np.linalg.norm(wanted, axis=1))


@pytest.mark.parametrize("view", VIEWS)
def test_clips_depend_on_seed_and_number_alone(view: str) -> None:
    scene = PeopleScene(size=48, view=view)  # type: ignore[arg-type]
    dial = PeopleDifficulty.at(1.0)
    clips = PeopleClips(scene, 6, seed=7, difficulty=dial)
    again = PeopleClips(scene, 100, seed=7, difficulty=dial)
    other = PeopleClips(scene, 6, seed=8, difficulty=dial)
    for i in (5, 0):
        assert all(torch.equal(clips[i][name], again[i][name]) for name in clips[i])
    assert not torch.equal(clips[0]["clip"], other[0]["clip"])
    assert not torch.equal(clips[0]["clip"], clips[1]["clip"])
    joints = len(JOINTS) if view == "bodies" else len(HAND_JOINTS)
    (batch,) = DataLoader(clips, batch_size=6)
    assert {name: tuple(value.shape[1:]) for name, value in batch.items()} == {
        "clip": (16, 48, 48, 3), "label": (), "moving": (16, 12, 12), "distractors": (16, 12, 12),
        "velocity": (16, 12, 12, 2), "person": (16, 12, 12), "part": (16, 12, 12), "action": (16, 12, 12),
        "actions": (3, 16), "targets": (3, 16), "joints": (3, 16, joints, 3),
    }  # fmt: skip
    with pytest.raises(IndexError):
        clips[6]


def test_dark_clips_go_down_to_five_percent() -> None:
    scene = PeopleScene(size=48, difficulty=replace(PeopleDifficulty.at(0.5), dark=1, noise=0))
    means = [scene.render(0, seed).frames.mean() / 255 for seed in range(24)]
    assert 0.03 < min(means) < 0.1 and max(means) < 0.45


def test_difficulty_and_scene_check_themselves() -> None:
    with pytest.raises(ValueError, match=r"shake is 0\.5"):
        PeopleDifficulty(shake=0.5)
    with pytest.raises(ValueError, match="more than largest"):
        PeopleDifficulty(smallest=0.9, largest=0.5)
    with pytest.raises(ValueError, match="level of difficulty"):
        PeopleDifficulty.at(1.1)
    with pytest.raises(ValueError, match="multiple of 8"):
        PeopleScene(size=60)
    with pytest.raises(ValueError, match="at least 16"):
        PeopleScene(frames=8)
    with pytest.raises(
        ValueError, match=r"'stroll' is no class of such clips; classes are the orders .*, or of .*walk"
    ):
        PeopleScene(classes=("stroll",))
    for classes in ((ORDERS[0], "walk"), ("walk", ORDERS[0])):
        with pytest.raises(
            ValueError, match=f"orders, such as '{ORDERS[0]}', or actions, such as 'walk', and not both"
        ):
            PeopleScene(classes=classes)
    with pytest.raises(ValueError, match="'walk' is no class"):
        PeopleScene(classes=("circle", "walk"), view="hands")
    with pytest.raises(ValueError, match="named twice"):
        PeopleScene(classes=("walk", "walk"))
    with pytest.raises(ValueError, match="do not drive hands"):
        PeopleScene(view="hands", motions="motions.npz")
    with pytest.raises(ValueError, match="outside the scene"):
        PeopleScene(classes=ORDERS[:2]).render(2, 0)
    assert PeopleScene(view="hands").classes == HAND_ORDERS
    assert len(PeopleScene().action_kinds) == len(PeopleScene().action_names) == len(NAMES)


@pytest.mark.parametrize("view", VIEWS)
def test_where_classes_are_actions_a_clip_shows_one(view: str) -> None:
    classes = ("circle", "fist", "push") if view == "hands" else ("hug", "walk", "kick")
    scene = PeopleScene(size=48, view=view, classes=classes, difficulty=STILL)  # type: ignore[arg-type]
    waited = 0
    for seed in range(12):
        label = seed % 3
        clip = scene.render(label, (2, seed))
        done = [scene.action_names[number] for number in clip.actions[0]]
        assert clip.label == label and set(done) <= {classes[label], "wait"}
        assert done.count(classes[label]) >= 8
        waited += "wait" in done
        together = classes[label] == "hug"
        assert not together or (clip.actions[1] == scene.action_names.index("hug")).sum() == done.count("hug")
    assert (waited > 0) == (view == "bodies")


def test_the_verb_renders_actions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--size", "32", "--frames", "16", "--train", "1", "--val", "0", "--test", "0"]
    out = tmp_path / "videos"
    assert main(["render", str(out), "--classes", "people", "--actions", "punch", "shake hands", *size]) == 0
    said = capsys.readouterr().out
    assert "2 videos written" in said and said.endswith(f"next: dualformer train --data {out}\n")
    assert sorted(path.name for path in (out / "train").iterdir()) == ["punch", "shake hands"]
    assert main(["render", str(out), "--classes", "people", "--actions", "punsch", *size]) == 2
    assert "'punsch' is no class of such clips; classes are" in capsys.readouterr().err
    assert main(["render", str(out), "--actions", "punch", *size]) == 2
    assert "--actions are of people or hands, not of --classes horizontal" in capsys.readouterr().err
    for option, value, bound in (
        ("--size", "0", "at least 1"),
        ("--frames", "0", "at least 1"),
        ("--seed", "-1", "0 or"),
    ):
        assert main(["render", str(out), "--classes", "people", option, value]) == 2
        assert f"{option} must be {bound}" in capsys.readouterr().err
    motions = tmp_path / "motions.csv"
    motions.write_text("label\n")
    assert main(["render", str(tmp_path / "no"), "--classes", "people", "--motions", str(motions), *size]) == 2
    assert f"{motions} is no npz file, or only a part of one; --motions needs" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def made_motions(path: Path) -> Path:
    """An npz of one walk in which somebody raises the left arm."""
    frames = 90
    poses = np.zeros((frames, len(DEGREES_OF_FREEDOM)))
    joints, _ = forward_kinematics(poses, REST_OFFSETS)
    raised = np.linspace(0, 2.5, frames)
    for name, long in (("l_elbow", 0.29), ("l_wrist", 0.55)):
        joints[:, JOINT[name]] = joints[:, JOINT["l_shoulder"]]
        joints[:, JOINT[name], 0] += long * np.sin(raised)
        joints[:, JOINT[name], 1] -= long * np.cos(raised)
    np.savez(
        path, pos=joints.astype(np.float16), start=[0], length=[frames], label=["walk"], fps=30,
    )  # fmt: skip
    return path


def test_captured_motions_drive_bodies(tmp_path: Path) -> None:
    path = made_motions(tmp_path / "motions.npz")
    plain, driven = PeopleScene(size=48), PeopleScene(size=48, motions=str(path))
    differing = 0
    for seed in range(30):
        one, other = plain.render(0, seed), driven.render(0, seed)
        walks = np.isin(
            one.actions[0], [NAMES.index(name) for name in ("walk", "walk on the spot", "march", "walk round")]
        )
        same = (one.joints == other.joints).all((0, 2, 3))
        differing += not same.all()
        assert walks.any() or same.all()
    assert differing >= 2
    clips = [fingerprints(driven.render(label, 1)) for label in range(6)]
    assert len({tuple(sorted(clip)) for clip in clips}) == 1
    with pytest.raises(FileNotFoundError, match="does not exist"):
        PeopleScene(size=48, motions=str(tmp_path / "none.npz")).render(0, 0)


def test_people_are_written_as_class_folders(tmp_path: Path) -> None:
    scene = PeopleScene(size=48, frames=24, classes=ORDERS[:2])
    assert write_dataset(tmp_path / "set", scene, clips_per_class={"train": 2, "test": 1}, seed=0) == 6
    videos = sorted((tmp_path / "set").rglob("*.mp4"))
    assert {video.parent.name for video in videos} == set(ORDERS[:2]) and len(videos) == 6
    with av.open(str(videos[0])) as container:
        assert sum(1 for _ in container.decode(video=0)) == 24
