"""Rendered videos: the law that only the order of frames tells the class, the truth of motion, the dials, the files."""

import json
import multiprocessing
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dualformer.datasets import rendered_draw
from dualformer.datasets.rendered import (
    ALL,
    HORIZONTAL,
    VERTICAL,
    Difficulty,
    RenderedClips,
    Scene,
    render,
    write_dataset,
)
from dualformer.datasets.rendered_scene import MotionClass, path_positions

PER_CLASS = 300


def centroids(frames: np.ndarray) -> np.ndarray:
    """T × 2 (x, y) pixels, of what differs from the flat background of a clip without distractors."""
    weight = np.abs(frames[..., 0].astype(np.float64) - frames[0, 0, 0, 0])
    at = np.arange(frames.shape[1]) + 0.5
    return np.stack((weight.sum(1) @ at, weight.sum(2) @ at), axis=-1) / weight.sum((1, 2))[:, None]


def around(frames: np.ndarray) -> np.ndarray:
    """T × 2 (x, y) pixels, the same on a frame whose opposite edges touch."""
    weight = np.abs(frames[..., 0].astype(np.float64) - np.median(frames[..., 0]))
    size = frames.shape[1]
    turn = np.exp(2j * np.pi * (np.arange(size) + 0.5) / size)
    return np.angle(np.stack((weight.sum(1) @ turn, weight.sum(2) @ turn), axis=-1)) % (2 * np.pi) * size / (2 * np.pi)


def ks(one: np.ndarray, other: np.ndarray) -> float:
    """Kolmogorov–Smirnov distance in units of its scale: above 2.2 with probability 1e-4 if both are of one kind."""
    both = np.sort(np.concatenate((one, other)))
    gap = np.searchsorted(np.sort(one), both, "right") / len(one)
    gap -= np.searchsorted(np.sort(other), both, "right") / len(other)
    return float(np.abs(gap).max() * np.sqrt(len(one) * len(other) / (len(one) + len(other))))


def worst_ks(features: np.ndarray, labels: np.ndarray) -> float:
    """Over features (clips × features) and classes, the largest distance of a class from all others."""
    return max(
        ks(features[labels == label, k], features[labels != label, k])
        for label in np.unique(labels)
        for k in range(features.shape[1])
    )


def accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Of a ridge regression onto classes, learnt from the first two thirds of the clips, on the last."""
    features = (features - features.mean(0)) / (features.std(0) + 1e-9)
    features = np.concatenate((features, np.ones((len(features), 1))), axis=1)
    cut = 2 * len(features) // 3
    seen, wanted = features[:cut], np.eye(labels.max() + 1)[labels[:cut]]
    weights = np.linalg.solve(seen.T @ seen + 30 * np.eye(seen.shape[1]), seen.T @ wanted)
    return float(((features[cut:] @ weights).argmax(1) == labels[cut:]).mean())


class Clips(NamedTuple):
    labels: np.ndarray
    tracks: np.ndarray
    """clips T 2: the actor measured from the pixels."""
    brightness: np.ndarray
    """clips 2: mean and standard deviation over all pixels and frames."""
    pictures: np.ndarray
    """clips × features: mean and variance over time of every 4 × 4 cell."""
    directions: np.ndarray
    """clips T: sign of the actor's horizontal velocity, from the truth."""


@pytest.fixture(scope="module")
def clips() -> Clips:
    """Plain clips of all horizontal classes, each with a seed of its own, shuffled."""
    scene = Scene()
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(8), PER_CLASS))
    rows = []
    for i, label in enumerate(labels):
        clip = render(scene, int(label), (2024, i))
        grey = clip.frames[..., 0].astype(np.float32)
        cells = grey.reshape(32, 16, 4, 16, 4).mean((2, 4))
        velocity = (clip.velocity[..., 0] * clip.moving).sum((1, 2))
        rows.append(
            (
                centroids(clip.frames),
                (grey.mean(), grey.std()),
                np.concatenate((cells.mean(0).ravel(), cells.var(0).ravel())),
                np.sign(velocity),
            )
        )
    return Clips(labels, *(np.array(column) for column in zip(*rows, strict=True)))


def unordered(tracks: np.ndarray) -> np.ndarray:
    """clips × 6: mean, spread and extent of the set of positions in x and y."""
    return np.concatenate((tracks.mean(1), tracks.std(1), np.ptp(tracks, axis=1)), axis=1)


def gaps(tracks: np.ndarray) -> np.ndarray:
    """How evenly the set of positions lies along x: sorted distances between neighbours, and their squares."""
    steps = np.diff(np.sort(tracks[..., 0], axis=1), axis=1)
    steps = steps / steps.mean(1, keepdims=True)
    return np.concatenate((steps, steps**2), axis=1)


def test_the_classes_are_all_patterns_of_one_to_four_strokes() -> None:
    assert HORIZONTAL == (
        "right", "left", "right-left", "left-right", "right-left-right", "left-right-left",
        "right-left-right-left", "left-right-left-right",
    )  # fmt: skip
    swap = {"right": "down", "left": "up", "-": "-"}
    assert tuple("-".join(swap[part] for part in name.split("-")) for name in HORIZONTAL) == VERTICAL
    assert ALL == HORIZONTAL + VERTICAL


@pytest.mark.parametrize("frames", [16, 30, 32, 64])
@pytest.mark.parametrize("name", ALL)
def test_every_class_visits_the_same_places_in_the_order_that_its_name_says(name: str, frames: int) -> None:
    motion = MotionClass.of(name)
    said = [1 if part in ("right", "down") else -1 for part in name.split("-")]
    even = np.arange(0, frames, 2)
    for seed in range(20):
        places = path_positions(motion, frames, np.random.default_rng(seed))
        assert sorted(places) == sorted([*even, *(even + 0.5)])
        for parity in (0, 1):
            seen = places[parity::2]
            assert sorted(seen - seen.min()) == list(even)
            assert [sign for sign, _ in groupby(np.sign(np.diff(seen)))] == said


@pytest.mark.parametrize("axis", [HORIZONTAL, VERTICAL])
@pytest.mark.parametrize("wrap", [False, True])
def test_with_one_seed_all_classes_of_an_axis_are_the_same_frames_in_other_orders(
    axis: tuple[str, ...], wrap: bool
) -> None:
    textured = Difficulty(background=1, texture=1, contrast=0.3, colour=1, distractors=3)
    scene = Scene(size=32, frames=16, classes=axis, wrap=wrap, difficulty=textured)
    for seed in range(5):
        ordered = [[frame.tobytes() for frame in render(scene, label, seed).frames] for label in range(8)]
        assert all(sorted(frames) == sorted(ordered[0]) for frames in ordered)
        assert len({b"".join(frames) for frames in ordered}) == 8


def test_the_set_of_positions_does_not_tell_the_class(clips: Clips) -> None:
    for stride in (1, 2):
        assert worst_ks(unordered(clips.tracks[:, ::stride]), clips.labels) < 2.2
    anytime = clips.tracks[np.arange(len(clips.tracks)), np.random.default_rng(1).integers(32, size=len(clips.tracks))]
    assert worst_ks(anytime, clips.labels) < 2.2
    assert worst_ks(clips.brightness, clips.labels) < 2.2


def test_that_law_is_tested_sharply_enough_to_see_paths_a_tenth_shorter(clips: Clips) -> None:
    middle = clips.tracks.mean(1, keepdims=True)
    four = (clips.labels >= 6)[:, None, None]
    shorter = np.where(four, middle + 0.9 * (clips.tracks - middle), clips.tracks)
    assert worst_ks(unordered(shorter), clips.labels) > 2.2


def test_what_ignores_order_is_at_chance_and_what_sees_order_is_not(clips: Clips) -> None:
    chance = 1 / 8
    ordered = np.sort(clips.tracks, axis=1).reshape(len(clips.tracks), -1)
    assert abs(accuracy(clips.pictures, clips.labels) - chance) < 0.05
    assert abs(accuracy(np.concatenate((ordered, clips.pictures), axis=1), clips.labels) - chance) < 0.05
    assert accuracy(clips.directions, clips.labels) > 0.97


def test_how_evenly_positions_lie_tells_nothing_unless_frames_are_left_out(clips: Clips) -> None:
    chance = 1 / 8
    assert abs(accuracy(gaps(clips.tracks), clips.labels) - chance) < 0.05
    assert abs(accuracy(gaps(clips.tracks[:, ::2]), clips.labels) - chance) < 0.05
    assert accuracy(gaps(clips.tracks[:, ::4]), clips.labels) > 2 * chance


def test_a_frame_of_known_time_tells_nothing_if_the_frame_wraps_and_something_if_not() -> None:
    labels = np.tile(np.arange(8), PER_CLASS)
    seen = {}
    for wrap in (True, False):
        scene = Scene(size=32, frames=16, wrap=wrap)
        tracks = [around(render(scene, int(k), (7, i), times=(0, 8, 15)).frames) for i, k in enumerate(labels)]
        seen[wrap] = worst_ks(np.array(tracks).reshape(len(labels), -1), labels)
    assert seen[True] < 2.2
    assert seen[False] > 4


@pytest.mark.parametrize("label", range(16))
def test_the_truth_is_the_motion_that_the_pixels_show(label: int) -> None:
    scene = Scene(classes=ALL)
    clip = render(scene, label, 5)
    assert clip.label == label
    assert (clip.frames.shape, clip.moving.shape, clip.velocity.shape) == (
        (32, 64, 64, 3), (32, 16, 16), (32, 16, 16, 2),
    )  # fmt: skip
    assert (clip.frames.dtype, clip.moving.dtype, clip.velocity.dtype) == (np.uint8, np.float32, np.float32)
    grey = clip.frames[..., 0].astype(np.float64)
    base = grey[0, 0, 0]
    cover = ((grey - base) / (grey.max() - base)).reshape(32, 16, 4, 16, 4).mean((2, 4))
    np.testing.assert_allclose(clip.moving, cover, atol=0.01)
    measured = np.gradient(centroids(clip.frames), axis=0)
    true = (clip.velocity * clip.moving[..., None]).sum((1, 2)) / clip.moving.sum((1, 2))[:, None]
    np.testing.assert_allclose(true, measured, atol=0.12)
    assert not clip.velocity[clip.moving == 0].any()
    assert not clip.distractors.any()
    half = render(scene, label, 5, times=range(1, 32, 2))
    assert np.array_equal(half.frames, clip.frames[1::2])
    assert np.array_equal(half.moving, clip.moving[1::2])
    true = (half.velocity * half.moving[..., None]).sum((1, 2)) / half.moving.sum((1, 2))[:, None]
    np.testing.assert_allclose(true, np.gradient(centroids(half.frames), axis=0), atol=0.12)


def test_cells_shared_by_actor_and_distractors_have_the_mean_velocity_of_what_is_seen() -> None:
    scene = Scene(difficulty=Difficulty(distractors=3))
    for seed in range(20):
        clip = render(scene, 0, seed)
        plain = render(replace(scene, difficulty=Difficulty()), 0, seed)
        assert np.array_equal(clip.moving, plain.moving)
        assert (clip.moving + clip.distractors).max() <= 1 + 1e-5
        both = clip.moving + clip.distractors
        share = clip.moving / np.where(both > 0, both, 1)
        np.testing.assert_allclose(clip.velocity, plain.velocity * share[..., None], atol=1e-5)


def test_shake_moves_everything_together_and_is_not_in_the_velocity(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(difficulty=Difficulty(background=1, texture=1, distractors=3, drift=0.2, shake=0.1))
    shifts = np.random.default_rng(0).integers(-6, 7, (32, 2))
    monkeypatch.setattr(rendered_draw, "camera_shake", lambda reach, frames, rng: np.zeros((frames, 2)))
    still = render(scene, 2, 9)
    monkeypatch.setattr(rendered_draw, "camera_shake", lambda reach, frames, rng: shifts.astype(float))
    shaken = render(scene, 2, 9)
    inner = slice(6, 58)
    for t, (x, y) in enumerate(shifts):
        moved = np.roll(still.frames[t].astype(int), (y, x), axis=(0, 1))
        assert np.abs(moved[inner, inner] - shaken.frames[t][inner, inner]).max() <= 1
    for clip in (still, shaken):
        weight = clip.moving * (clip.distractors == 0)
        clip_velocity = (clip.velocity * weight[..., None]).sum((1, 2)) / weight.sum((1, 2))[:, None]
        np.testing.assert_allclose(clip_velocity, np.gradient(centre_of(still), axis=0), atol=0.6)


def centre_of(clip: rendered_draw.Rendered) -> np.ndarray:
    """T × 2 (x, y) pixels, to about half a pixel: the actor's centre from its share of cells."""
    at = 4 * np.arange(clip.moving.shape[1]) + 2.0
    total = clip.moving.sum((1, 2))[:, None]
    return np.stack((clip.moving.sum(1) @ at, clip.moving.sum(2) @ at), axis=-1) / total


def test_the_shake_of_the_camera_stays_within_its_reach_and_varies() -> None:
    for seed in range(20):
        shake = rendered_draw.camera_shake(3.0, 32, np.random.default_rng(seed))
        assert np.abs(shake).max() <= 3
        assert shake.std() > 0.3
        assert np.array_equal(2 * shake, np.rint(2 * shake))
        assert np.abs(np.diff(shake, axis=0)).max() <= 4.0


def measure(dial: Difficulty, seeds: int = 30) -> dict[str, float]:
    """What the dials turn, as medians over clips: of 255 where it is about brightness."""
    rows = []
    for seed in range(seeds):
        clip = render(Scene(difficulty=dial), seed % 8, (3, seed))
        frames = clip.frames.astype(np.float64)
        grey = frames.mean(-1)
        cells = np.repeat(np.repeat(clip.moving, 4, 1), 4, 2)
        others = np.repeat(np.repeat(clip.distractors, 4, 1), 4, 2)
        free = (cells == 0) & (others == 0)
        always = free.all(0)
        actor = [grey[t][cells[t] == cells[t].max()].mean() - grey[t][free[t]].mean() for t in range(32)]
        inside = [grey[t][cells[t] > 0.999].std() for t in range(32) if (cells[t] > 0.999).any()]
        rows.append(
            {
                "space": grey[0][free[0]].std(),
                "time": frames[:, always].std(0).mean(),
                "frames": grey[:, always].mean(1).std(),
                "step": float(np.mean(actor)),
                "texture": float(np.mean(inside)) if inside else np.nan,
                "colour": np.ptp(frames[0][free[0]].mean(0)),
                "distractors": float(clip.distractors.sum((1, 2)).mean() * 16),
                "area": float(clip.moving.sum((1, 2)).mean() * 16),
            }
        )
    found = {key: float(np.nanmedian([row[key] for row in rows])) for key in rows[0]}
    found["dark"] = float(np.mean([row["step"] < 0 for row in rows]))
    return found


def test_the_plainest_clips_are_flat_grey_still_and_clean() -> None:
    plain = measure(Difficulty.at(0))
    assert Difficulty.at(0) == Difficulty()
    assert [plain[key] for key in ("space", "time", "frames", "colour", "distractors", "dark")] == [0] * 6
    assert 0.5 * 255 < plain["step"] <= 0.6 * 255 + 1
    assert plain["texture"] < 0.5


def test_the_hardest_clips_are_textured_noisy_coloured_faint_and_crowded() -> None:
    hard = measure(Difficulty.at(1))
    assert hard["space"] > 20
    assert hard["time"] > 12
    assert hard["frames"] > 3
    assert hard["colour"] > 30
    assert hard["distractors"] > 10
    assert 0.2 < hard["dark"] < 0.8
    assert hard["texture"] > 12


@pytest.mark.parametrize(
    ("dial", "key", "low", "high"),
    [
        (Difficulty(noise=10), "time", 9.0, 10.5),
        (Difficulty(noise=10), "frames", 0.0, 1.0),
        (Difficulty(flicker=0.1), "frames", 3.0, 10.0),
        (Difficulty(contrast=0.3), "step", 0.24 * 255, 0.31 * 255),
        (Difficulty(dark=1), "dark", 1.0, 1.0),
        (Difficulty(dark=0.5), "dark", 0.2, 0.8),
        (Difficulty(texture=1, smallest=0.3), "texture", 12.0, 40.0),
        (Difficulty(colour=1), "colour", 30.0, 150.0),
        (Difficulty(background=0.1), "space", 1.0, 10.0),
        (Difficulty(background=0.4), "space", 10.0, 30.0),
        (Difficulty(background=1), "space", 20.0, 60.0),
        (Difficulty(distractors=3), "distractors", 5.0, 300.0),
        (Difficulty(shake=0.05, background=1), "time", 4.0, 60.0),
        (Difficulty(smallest=0.4, largest=0.4), "area", 180.0, 520.0),
        (Difficulty(smallest=0.1, largest=0.1), "area", 10.0, 33.0),
    ],
)
def test_each_dial_turns_what_it_says(dial: Difficulty, key: str, low: float, high: float) -> None:
    assert low <= measure(dial)[key] <= high


def test_distractors_stay_put_unless_they_drift() -> None:
    def travel(drift: float) -> float:
        found = []
        for seed in range(60):
            clip = render(Scene(difficulty=Difficulty(distractors=1, drift=drift)), 0, seed)
            hidden = np.ptp(clip.distractors.sum((1, 2))) > 0.01
            if clip.distractors.any() and not hidden:
                at = (np.arange(16) * 4 + 2.0) @ clip.distractors.sum(1).T / clip.distractors.sum((1, 2))
                found.append(abs(at[-1] - at[0]))
        assert len(found) > 8
        return max(found)

    assert travel(0) < 1e-4
    assert 3 < travel(0.3) <= 0.3 * 64 + 1


def test_the_same_arguments_give_the_same_clip_and_others_another() -> None:
    scene = Scene(difficulty=Difficulty.at(1))
    first = render(scene, 3, (1, 2))
    np.random.default_rng(0).random()
    again = render(scene, 3, (1, 2))
    for one, other in zip(vars(first).values(), vars(again).values(), strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(first.frames, render(scene, 3, (1, 3)).frames)


def test_other_sizes_keep_the_actor_inside_and_scale_the_motion() -> None:
    for size in (32, 128):
        for seed in range(20):
            clip = render(Scene(size=size, difficulty=Difficulty(smallest=0.4, largest=0.4)), seed % 8, seed)
            edge = np.concatenate([clip.frames[:, 0], clip.frames[:, -1], clip.frames[:, :, 0], clip.frames[:, :, -1]])
            assert np.ptp(edge) == 0
            extent = np.ptp(centroids(clip.frames)[:, 0]) / size
            assert 0.25 < extent < 0.61


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scene(size=66), "Scene.size is 66"),
        (lambda: Scene(frames=14), "Scene.frames is 14"),
        (lambda: Scene(frames=33), "Scene.frames is 33"),
        (lambda: Scene(fps=0), "Scene.fps is 0"),
        (lambda: Scene(classes=("right", "sideways")), "unknown class 'sideways'"),
        (lambda: Scene(classes=()), "no class, or one twice"),
        (lambda: Scene(classes=("left", "left")), "no class, or one twice"),
        (lambda: Difficulty(noise=-1), "Difficulty.noise is -1"),
        (lambda: Difficulty(smallest=0.35, largest=0.3), "more than largest"),
        (lambda: Difficulty.at(1.5), "level of difficulty is 1.5"),
        (lambda: render(Scene(), 8, 0), "label 8"),
        (lambda: render(Scene(), 0, 0, times=(0, 32)), "times must be"),
        (lambda: RenderedClips(Scene(), 0, seed=0), "length is 0"),
        (lambda: RenderedClips(Scene(), 4, seed=0, frames=8), "frames is 8"),
    ],
)
def test_wrong_values_are_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def harder(i: int) -> Difficulty:
    return Difficulty.at(min(1.0, i / 10))


def test_a_clip_in_memory_depends_on_seed_and_number_alone() -> None:
    clips = RenderedClips(Scene(size=32), 12, seed=4, frames=16, difficulty=harder)
    assert len(clips) == 12
    expected = [clips[i] for i in range(12)]
    assert clips[11]["clip"].shape == (16, 32, 32, 3)
    workers = DataLoader(
        RenderedClips(Scene(size=32), 12, seed=4, frames=16, difficulty=harder),
        batch_size=None, num_workers=2, multiprocessing_context=multiprocessing.get_context("fork"),
    )  # fmt: skip
    for one, other in zip(expected, workers, strict=True):
        assert one.keys() == other.keys() == {"clip", "label", "moving", "distractors", "velocity"}
        assert all(torch.equal(one[key], other[key]) for key in one)
    longer = RenderedClips(Scene(size=32), 1000, seed=4, frames=16, difficulty=harder)
    assert torch.equal(longer[7]["clip"], expected[7]["clip"])
    assert not torch.equal(RenderedClips(Scene(size=32), 12, seed=5, frames=16)[0]["clip"], expected[0]["clip"])
    with pytest.raises(IndexError, match="clip 12"):
        clips[12]


def test_clips_in_memory_have_even_classes_and_the_difficulty_of_their_number() -> None:
    clips = RenderedClips(Scene(size=32, frames=16), 800, seed=0, difficulty=harder)
    items = [clips[i] for i in range(800)]
    counts = np.bincount([int(item["label"]) for item in items], minlength=8)
    assert ((counts - 100) ** 2 / 100).sum() < 24.3  # chi-square with 7 degrees of freedom, probability 0.001
    colours = [float(np.ptp(items[i]["clip"].numpy(), axis=-1).mean()) for i in range(11)]
    assert colours[0] == 0
    assert colours[10] > 10


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_files_lie_in_folders_per_class_and_hold_what_was_rendered(tmp_path: Path) -> None:
    scene = Scene(classes=("right", "up-down"), frames=16)
    calls = []
    wrote = write_dataset(
        tmp_path / "set", scene, clips_per_class={"train": 3, "val": 2}, seed=1,
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert wrote == 10
    assert calls == [(k, 10) for k in range(1, 11)]
    files = sorted(path.relative_to(tmp_path / "set").as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == [
        "rendered.json",
        *(f"train/{name}/{name}_{i:04d}.mp4" for name in ("right", "up-down") for i in range(3)),
        *(f"val/{name}/{name}_{i:04d}.mp4" for name in ("right", "up-down") for i in range(2)),
    ]
    manifest = json.loads((tmp_path / "set" / "rendered.json").read_text())
    assert manifest["seed"] == 1
    assert manifest["clips_per_class"] == {"train": 3, "val": 2}
    assert manifest["scene"]["classes"] == ["right", "up-down"]
    videos = [frames_of(path) for path in sorted(tmp_path.rglob("*.mp4"))]
    assert all(video.shape == (16, 64, 64, 3) for video in videos)
    assert len({video.tobytes() for video in videos}) == 10
    for name, axis, sign in (("right", 0, 1), ("up-down", 1, 0)):
        track = centroids(frames_of(tmp_path / "set" / "val" / name / f"{name}_0001.mp4"))
        travelled = (track[-1] - track[0])[axis] / np.ptp(track[:, axis])
        assert abs(travelled - sign) < 0.35


def test_writing_again_keeps_files_and_finishes_what_is_missing(tmp_path: Path) -> None:
    def write(workers: int = 0) -> int:
        return write_dataset(tmp_path, Scene(frames=16), clips_per_class={"train": 1}, seed=1, workers=workers)

    assert write() == 8
    path = tmp_path / "train" / "left" / "left_0000.mp4"
    before, times = path.read_bytes(), {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.mp4")}
    assert write() == 0
    assert times == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.mp4")}
    other = tmp_path / "train" / "right" / "right_0000.mp4"
    path.unlink()
    other.unlink()
    assert write(workers=2) == 2
    assert path.read_bytes() == before


def test_a_folder_of_anything_else_is_refused(tmp_path: Path) -> None:
    def write(out: Path, **changes) -> int:
        arguments = {"scene": Scene(frames=16, classes=("up",)), "clips_per_class": {"train": 1}, "seed": 1}
        return write_dataset(out, **{**arguments, **changes})

    write(tmp_path / "set")
    with pytest.raises(ValueError, match="another seed; delete it"):
        write(tmp_path / "set", seed=2)
    with pytest.raises(ValueError, match="another clips_per_class and scene"):
        write(tmp_path / "set", clips_per_class={"train": 2}, scene=Scene(frames=16, classes=("down",)))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "holiday.mp4").touch()
    with pytest.raises(ValueError, match=r"mine is not empty and has no rendered\.json"):
        write(tmp_path / "mine")
    (tmp_path / "set" / "rendered.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        write(tmp_path / "set")
    for counts in ({"train": 0}, {"a/b": 1}, {}):
        with pytest.raises(ValueError, match="clips_per_class"):
            write(tmp_path / "new", clips_per_class=counts)
    assert not (tmp_path / "new").exists()


def test_a_splits_clips_do_not_depend_on_other_splits(tmp_path: Path) -> None:
    scene = Scene(frames=16, classes=("up",))
    write_dataset(tmp_path / "a", scene, clips_per_class={"train": 1, "val": 1}, seed=1)
    write_dataset(tmp_path / "b", scene, clips_per_class={"test": 1, "val": 2}, seed=1)
    name = Path("val") / "up" / "up_0000.mp4"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / "train" / "up" / "up_0000.mp4").read_bytes() != (tmp_path / "a" / name).read_bytes()
