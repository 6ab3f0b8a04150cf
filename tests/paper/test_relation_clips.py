"""The local × global bench: what no statistic of frames without their order may tell, and what the order does tell."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import relations_leaks as leaks
from dualformer.cli.main import main
from dualformer.datasets.rendered import write_dataset
from dualformer.paper.relation_clips import (
    CUE,
    TASKS,
    RelationClips,
    RelationCurriculum,
    Relations,
    RelationTask,
    draw_layout,
    render_relation,
)
from dualformer.video.pyav_reader import PyAVReader

CLIPS = 1600


def test_a_linear_model_finds_what_there_is_to_find() -> None:
    rng = np.random.default_rng(3)
    features, labels = rng.normal(size=(600, 20)), rng.integers(2, size=600)
    assert abs(leaks.accuracy(features, labels) - 0.5) < 0.06
    features[:, 7] += labels  # a quarter of what it would take to tell them apart without a mistake
    assert 0.6 < leaks.accuracy(features, labels) < 0.8


@pytest.mark.parametrize("shown", ["both", "global"])
def test_no_statistic_without_order_tells_the_class(shown: RelationTask) -> None:
    """`local` and `both` ask about the very same clips, so these are drawn once."""
    tasks = ("local", "both") if shown == "both" else ("global",)
    clips = RelationClips(Relations(task=shown), CLIPS, seed=11)
    ways, found = [], []
    for i in range(CLIPS):
        item = clips[i]
        found.append(leaks.statistics(item["clip"][..., 0].numpy()))
        ways.append([int(item["label"]), *np.sign(item["drifts"].numpy().sum((0, 1, 2))).tolist()])
    label, cue, gesture = np.array(ways).T
    labels = {"local": gesture > 0, "both": cue == gesture, "global": cue == gesture}
    assert (labels[shown] == label).all()
    for task in tasks:
        shares = {name: leaks.accuracy(np.stack([row[name] for row in found]), labels[task]) for name in found[0]}
        assert all(abs(share - 0.5) < 0.05 for share in shares.values()), (task, shares)


@pytest.mark.parametrize("task", ["local", "global"])
def test_files_tell_nothing(task: RelationTask, tmp_path: Path) -> None:
    """Size of the file and of its packets, which is all that a file says without its pictures. `both` has the files of
    `local`, and `benchmarks/relations_leaks.py` asks thousands of each."""
    scene = Relations(task=task)
    write_dataset(tmp_path, scene, clips_per_class={"train": 80}, seed=5)
    sizes, labels = leaks.file_sizes(tmp_path, scene)
    assert sizes.shape == (160, 33) and labels.sum() == 80
    # Chance itself may be 12 points off with 160 clips: three standard errors.
    assert abs(leaks.accuracy(sizes, labels) - 0.5) < 0.12


@pytest.mark.parametrize("task", TASKS)
def test_render_writes_videos_of_a_task(task: RelationTask, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    arguments = ["render", str(out), "--classes", task, "--train", "2", "--val", "0", "--test", "1", "--seed", "4"]
    assert main(arguments) == 0
    scene, said = Relations(task=task), capsys.readouterr().out
    assert f"rendering 6 videos of 2 classes into {out}" in said and "6 videos written, 0 were there already" in said
    assert "--stride 1" in said
    assert json.loads((out / "rendered.json").read_text())["scene"]["task"] == task
    for split, count in (("train", 2), ("test", 1)):
        for label, name in enumerate(scene.classes):
            files = sorted((out / split / name).glob("*.mp4"))
            assert [path.name for path in files] == [f"{name}_{i:04d}.mp4" for i in range(count)]
            for i, path in enumerate(files):
                clip = scene.render(label, (4, zlib.crc32(split.encode()), label, i))
                assert clip.label == label
                with PyAVReader(path) as video:
                    shown = video.read(range(len(video))).numpy()
                # H.264 keeps the stripes and loses some of the noise.
                assert shown.shape == clip.frames.shape == (16, 64, 64, 3)
                assert np.corrcoef(shown[..., 1].ravel(), clip.frames[..., 1].ravel())[0, 1] > 0.8
    assert main(arguments) == 0
    assert "0 videos written, 6 were there already" in capsys.readouterr().out
    assert main([*arguments, "--difficulty", "1"]) == 2
    assert f"--difficulty does nothing with --classes {task}" in capsys.readouterr().err


@pytest.mark.parametrize("task", TASKS)
def test_each_direction_alone_stays_at_chance(task: RelationTask) -> None:
    scene, rng = Relations(task=task), np.random.default_rng(0)
    ways = rng.integers(2, size=(4000, 2))
    labels = np.array([scene.label(cue, gesture) for cue, gesture in ways.tolist()])
    assert abs(labels.mean() - 0.5) < 0.03
    for number, name in enumerate(("cue", "gesture")):
        share = (labels == ways[:, number]).mean()
        assert share == 1 if (task, name) == ("local", "gesture") else abs(share - 0.5) < 0.03


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("task", TASKS)
def test_a_drift_the_other_way_shows_the_same_frames_in_reverse(task: RelationTask, which: int) -> None:
    scene = Relations(task=task, noise=0)
    for seed in range(10):
        ways = [0, 0]
        one = render_relation(scene, ways[0], ways[1], seed).frames[..., 0].astype(int)
        ways[which] = 1
        other = render_relation(scene, ways[0], ways[1], seed).frames[..., 0].astype(int)
        layout = draw_layout(scene, np.random.default_rng(seed))
        begin, duration = layout.begins[which], layout.patches[which].duration
        place = (one != other).any(0)  # the patch
        assert place.any()
        for frame in range(16):
            step = np.clip(frame - begin, 0, duration)
            back = one[begin + duration - step][place] - other[frame][place]
            assert np.abs(back).max() <= 1  # of rounding
        assert np.abs(one[0] - one[-1]).max() <= 1  # it stands after the drift as before


@pytest.mark.parametrize("task", TASKS)
def test_who_knows_where_and_when_to_look_sees_the_drift(task: RelationTask) -> None:
    """Brightness moves along its own gradient: over a patch, the product of both derivatives has the drift's sign."""
    scene, right = Relations(task=task), []
    for seed in range(200):
        ways = np.random.default_rng((7, seed)).integers(2, size=2)
        clip = render_relation(scene, int(ways[0]), int(ways[1]), seed).frames[..., 0].astype(float)
        layout = draw_layout(scene, np.random.default_rng(seed))
        for patch, (x, y), begin, way in zip(*layout, ways, strict=True):
            inside = np.hypot(*(np.mgrid[:64, :64] + 0.5 - np.array((y, x))[:, None, None])) < patch.radius
            seen = clip[begin : begin + patch.duration + 1]
            along = np.gradient(seen, axis=2)
            over = np.diff(seen, axis=0)
            product = -(over * (along[1:] + along[:-1]))[:, inside].sum()
            right.append((product > 0) == way)
    assert np.mean(right) > 0.97


def test_difficulties_hold_and_are_independent() -> None:
    scene = Relations(task="both", distance=(24, 30), gap=(2, 3))
    clips = RelationClips(scene, 400, seed=3)
    difficulties = [clips.difficulty(i) for i in range(400)]
    assert {each.gap for each in difficulties} == {2, 3}
    distances, radii = (np.array([getattr(each, name) for each in difficulties]) for name in ("distance", "radius"))
    assert 24 <= distances.min() < 24.5 and 29.5 < distances.max() <= 30
    assert 2.5 <= radii.min() < 2.6 and 6.9 < radii.max() <= 7
    small = RelationClips(replace(scene, radius=(2.5, 2.5), distance=(26, 28)), 400, seed=3)
    assert {small.difficulty(i).radius for i in range(400)} == {2.5}
    assert all(26 <= small.difficulty(i).distance <= 28 for i in range(400))
    related = np.corrcoef(np.stack((distances, [each.gap for each in difficulties], radii)))
    assert np.abs(related - np.eye(3)).max() < 0.15
    # Nothing is drawn outside of the patches: what differs from the background lies as near to the centres as said.
    clip = render_relation(replace(scene, noise=0), 0, 1, 4)
    layout = draw_layout(scene, np.random.default_rng(4))
    assert clip.difficulty == layout.difficulty
    assert clip.difficulty.distance == pytest.approx(np.hypot(*(layout.where[1] - layout.where[0])))
    away = np.array([np.hypot(*(np.mgrid[:64, :64] + 0.5 - np.array((y, x))[:, None, None])) for x, y in layout.where])
    outside = (away > np.array([CUE.radius, clip.difficulty.radius])[:, None, None] + 1).all(0)
    assert np.ptp(clip.frames[:, outside]) == 0


def test_the_truth_says_what_drifts_where_and_which_way() -> None:
    scene = Relations(task="both", noise=0)
    for seed, (cue, gesture) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        clip = render_relation(scene, cue, gesture, seed)
        assert clip.drifts.shape == (16, 16, 16, 2)
        patches, _, begins = draw_layout(scene, np.random.default_rng(seed))
        for number, (way, begin, patch) in enumerate(zip((cue, gesture), begins, patches, strict=True)):
            said = clip.drifts[..., number]
            during = np.flatnonzero(said.any((1, 2)))
            assert during.tolist() == list(range(begin, begin + patch.duration + 1))
            assert set(np.sign(said[during]).ravel().tolist()) <= {0.0, 2.0 * way - 1}
            # The area of a disc, in cells of 4 × 4 pixels.
            assert np.abs(said[during]).sum((1, 2)) == pytest.approx(np.pi * patch.radius**2 / 16, rel=0.02)


def test_clips_depend_on_seed_and_number_alone() -> None:
    clips, again = (RelationClips(Relations(task="both"), 50, seed=8) for _ in range(2))
    for i in (3, 0, 49):
        assert (clips[i]["clip"] == again[i]["clip"]).all() and clips[i]["label"] == again[i]["label"]
    assert not (clips[0]["clip"] == RelationClips(Relations(task="both"), 50, seed=9)[0]["clip"]).all()
    # Local and both show the same clips, and ask about them differently.
    local = RelationClips(Relations(task="local"), 50, seed=8)
    assert all((clips[i]["clip"] == local[i]["clip"]).all() for i in range(20))
    assert {(int(clips[i]["label"]), int(local[i]["label"])) for i in range(50)} == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_lessons_go_from_plain_to_hard_and_end_even() -> None:
    scene, curriculum = Relations(task="both", radius=(4, 10), wavelength=4, noise=12), RelationCurriculum(1200)
    found = [curriculum(i, scene) for i in (0, 200, 400, 650, 900, 1199)]
    np.testing.assert_allclose([lean for _, lean in found], [1, 0.75, 0.5, 0.5, 0.5, 0.5])
    leans = [curriculum(i, replace(scene, task="local"))[1] for i in (0, 200, 400, 650, 900, 1199)]
    np.testing.assert_allclose(leans, [1, 1, 1, 0.75, 0.5, 0.5])
    seen = [[*each.radius, each.wavelength, each.duration, each.noise] for each, _ in found]
    plain = [CUE.radius, CUE.radius, CUE.wavelength, CUE.duration, 4]
    hard = [4, 10, 4, 4, 12]
    np.testing.assert_allclose(seen, [plain, plain, plain, [44**0.5, 110**0.5, 8, 5, 8], hard, hard])
    # As large and slow as there is room for, where there is none for one like the cue.
    tight = Relations(task="both", radius=(3, 4), distance=(20, 60), frames=12)
    first, _ = curriculum(0, tight)
    assert first.radius == (8, 8) and first.duration == 5
    far, _ = curriculum(0, Relations(task="both", radius=(3, 4), distance=(60, 64)))
    assert far.radius == (pytest.approx(51 - 62 / 2**0.5),) * 2
    both, local = (
        RelationClips(replace(scene, task=task), 1200, seed=1, curriculum=curriculum) for task in ("both", "local")
    )
    # A cue that always drifts to the right leaves "same" to be what "right" is; later that tells nothing.
    alike = [bool(both[i]["label"] == local[i]["label"]) for i in (*range(10), *range(900, 980))]
    assert all(alike[:10]) and 0.3 < np.mean(alike[10:]) < 0.7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "neither"}, "it must be one of local, global, both"),
        ({"size": 32}, "at least 48"),
        ({"distance": (10, 20)}, "overlap below 19"),
        ({"distance": (66, 70)}, "room for"),
        ({"gap": (3, 1)}, "two rising whole numbers"),
        ({"frames": 10}, "cue, gap and gesture take 11"),
        ({"radius": (6.0, 4.0)}, "two rising numbers from 2 to 12"),
        ({"wavelength": 1.0}, "between 2 and 32"),
        ({"noise": 65}, "between 0 and 64"),
    ],
)
def test_what_cannot_be_drawn_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Relations(**settings)
