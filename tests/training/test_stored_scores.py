"""Scores on disk: the same as on the fly where a clip is the whole frame, and found by where it was cut elsewhere."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dualformer.cli.main import main
from dualformer.datasets.clip_datasets import TrainingClips
from dualformer.datasets.per_video_files import per_video_file
from dualformer.datasets.rendered import Scene, write_dataset
from dualformer.datasets.samples import DatasetError, Sample, VideoList
from dualformer.datasets.splits import open_splits
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model, preset_config
from dualformer.training.objective import DistillationObjective, make_objective
from dualformer.training.read_teacher_scores import (
    ScoreFolder,
    ScoresCard,
    TokenGrid,
    interpolation_weights,
    read_scores,
)
from dualformer.training.reporter import SilentReporter
from dualformer.training.settings.teacher_settings import SCORES
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.teacher import TeacherError
from dualformer.training.token_labels import top_distribution
from dualformer.training.train import train
from dualformer.training.write_teacher_scores import WrittenScores, write_scores
from dualformer.video.augmentation import Augmentation
from dualformer.video.clip_reader import read_covering_clips, read_views
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.sampling import covering_clips
from dualformer.video.transforms import normalize
from dualformer.weights.card import Card
from dualformer.weights.safetensors_file import save_weights

SIZE, FRAMES, RATE = 96, 16, 16
CLASSES = ("down", "left", "right", "up")
PRE = Preprocessing(frames=FRAMES, stride=1, resize=SIZE, crop=SIZE, mean=(128.0, 128.0, 128.0), std=(64.0, 64.0, 64.0))
WHOLE = Augmentation(flip=0.0, area=(1.0, 1.0), ratio=(1.0, 1.0))
"""Neither cropped nor mirrored."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> VideoList:
    """Square videos that are one clip long, two of each class."""
    folder = tmp_path_factory.mktemp("taught") / "videos"
    scene = Scene(size=SIZE, frames=FRAMES, classes=("right", "left", "up", "down"))
    write_dataset(folder, scene, clips_per_class={"train": 2, "val": 1}, seed=5)
    return open_splits(folder).train


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, DualFormer, Card]:
    model = create_model("dualformer_nano", clip=(FRAMES, SIZE, SIZE), num_classes=6, seed=1)
    with torch.no_grad():
        model.get_classifier().weight.mul_(20)  # type: ignore[operator]
    # Two classes that the data has not, and another order.
    labels = ("up", "still", "down", "left", "round", "right")
    card = Card(config=model.config, labels=labels, preprocessing=PRE, provenance="a test", licence="")
    path = tmp_path_factory.mktemp("weights") / "teacher.safetensors"
    save_weights(path, model, card)
    return str(path), model.eval(), card


@pytest.fixture(scope="module")
def scores(videos: VideoList, teacher: tuple[str, DualFormer, Card], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scores") / "scores"
    assert teach(videos, teacher, out).videos == 8
    return out


def teach(
    videos: VideoList,
    teacher: tuple[str, DualFormer, Card],
    out: Path,
    *,
    topk: int = 6,
    workers: int = 0,
    at_once: int = 4,
) -> WrittenScores:
    path, model, card = teacher
    return write_scores(model, card, videos, out, teacher=path, topk=topk, workers=workers, at_once=at_once)


def grid() -> TokenGrid:
    return TokenGrid(preset_config("dualformer_nano", clip=(FRAMES, SIZE, SIZE)), (FRAMES, SIZE, SIZE))


def times(count: int = FRAMES, start: float = 0.0, rate: float = RATE) -> np.ndarray:
    return start + np.arange(count) / rate


def clip_of(sample: Sample) -> Tensor:
    return read_views(sample.file, PRE)


def on_the_fly(clip: Tensor, teacher: tuple[str, DualFormer, Card], topk: int) -> Tensor:
    """What `Teacher` would say, in the classes' order."""
    _, model, card = teacher
    with torch.no_grad():
        tokens = model.token_scores(model.forward_features(normalize(clip, PRE)))[0]
    return top_distribution(tokens[..., [card.labels.index(name) for name in CLASSES]], topk)


def test_of_an_uncut_clip_stored_scores_are_those_on_the_fly(videos: VideoList, teacher, scores: Path):
    clips = TrainingClips(videos, PRE, seed=0, augmentation=WHOLE, return_geometry=True)
    folder = ScoreFolder(scores, CLASSES, topk=6, rest="none")
    for number in range(len(videos)):
        item = clips[0, number]
        assert item["box"].tolist() == [0.0, 0.0, 1.0, 1.0] and not item["flip"]
        where = {name: item[name] for name in ("box", "times", "flip")}
        stored = folder.token_targets(videos.samples[number], grid(), **where)
        assert stored.shape == (8, 3, 3, 4)
        expected = on_the_fly(item["clip"][None], teacher, 4)
        assert torch.allclose(stored, expected, atol=5e-3)
        # Far more than they differ from one another.
        assert expected.std(dim=(0, 1, 2)).max() > 0.05


def test_an_objective_learns_the_same_from_both(videos: VideoList, teacher, scores: Path):
    def made(**how: str) -> DistillationObjective:
        config = TrainConfig(data="videos", **how)  # type: ignore[arg-type]
        model = create_model("dualformer_nano", clip=(FRAMES, SIZE, SIZE), num_classes=4, seed=0)
        objective = make_objective(config, False, model, PRE, classes=CLASSES)
        assert isinstance(objective, DistillationObjective)
        return objective.eval()

    stored, asked = made(teacher_scores=str(scores)), made(teacher=teacher[0])
    clips = stored.wrap_clips(TrainingClips(videos, PRE, seed=0, augmentation=WHOLE))
    item = clips[0, 3]
    assert set(item) == {"clip", "label", "index", "token_target"}
    batch = {"clip": item["clip"][None], "label": torch.tensor([item["label"]])}
    one = stored(batch | {"token_target": item["token_target"][None]})
    other = asked(batch)
    assert one.parts["tokens"].item() == pytest.approx(other.parts["tokens"].item(), rel=2e-3)
    assert one.loss.item() == pytest.approx(other.loss.item(), rel=2e-3)
    assert "6 classes matched by name, 2 of them not in the data and left out" in stored.lines[0]


def test_a_mirrored_clip_has_mirrored_labels_and_swapped_classes(videos: VideoList, teacher, scores: Path):
    folder, sample = ScoreFolder(scores, CLASSES, topk=6, rest="none"), videos.samples[0]
    plain = folder.token_targets(sample, grid(), box=(0, 0, 1, 1), times=times(), flip=False)
    flipped = folder.token_targets(sample, grid(), box=(0, 0, 1, 1), times=times(), flip=True)
    assert torch.allclose(flipped, plain.flip(2), atol=1e-6)
    assert not torch.allclose(flipped, plain, atol=1e-2)
    # down, left, right, up: left and right change places.
    swapped = folder.token_targets(sample, grid(), box=(0, 0, 1, 1), times=times(), flip=True, mirrored=(0, 2, 1, 3))
    assert torch.allclose(swapped, plain.flip(2)[..., [0, 2, 1, 3]], atol=1e-6)
    assert torch.equal(
        folder.token_targets(sample, grid(), box=(0, 0, 1, 1), times=times(), flip=False, mirrored=(0, 2, 1, 3)), plain
    )
    # A class that becomes none: the others share what was said of it.
    fewer = folder.token_targets(sample, grid(), box=(0, 0, 1, 1), times=times(), flip=True, mirrored=(0, 2, 1, -1))
    assert fewer[..., 3].abs().max() == 0 and torch.allclose(fewer.sum(dim=-1), torch.ones(8, 3, 3))
    assert torch.allclose(fewer[..., :3] * swapped[..., :3].sum(-1, keepdim=True), swapped[..., :3], atol=1e-6)


def test_training_clips_tell_where_they_were_cut(videos: VideoList):
    augmentation = Augmentation(flip=0.5)
    clips = TrainingClips(videos, PRE, seed=3, augmentation=augmentation, return_geometry=True)
    cached = TrainingClips(videos, PRE, seed=3, augmentation=augmentation, return_geometry=True, cache_bytes=10**8)
    silent = TrainingClips(videos, PRE, seed=3, augmentation=augmentation)
    assert set(silent[0, 0]) == {"clip", "label", "index"}
    flips = set()
    for number in range(8):
        item, again = clips[1, number], cached[1, number]
        assert torch.equal(item["clip"], silent[1, number]["clip"])
        assert item["box"].tolist() == again["box"].tolist() and item["times"].tolist() == again["times"].tolist()
        top, left, height, width = item["box"]
        assert 0 <= top <= top + height <= 1 and 0 <= left <= left + width <= 1
        assert 0.07 < height * width <= 1
        assert np.allclose(item["times"], times(), atol=1e-3)
        flips.add(item["flip"])
        # The same box, cut by hand.
        frames = next(read_covering_clips(videos.samples[number].file, PRE))[0][0]
        box = [round(float(part) * SIZE) for part in (top, left, height, width)]
        cut = frames[:, box[0] : box[0] + box[2], box[1] : box[1] + box[3]]
        cut = cut.flip(2) if item["flip"] else cut
        assert (cut.float().mean() - item["clip"].float().mean()).abs() < 2
    assert flips == {True, False}


def linear_scores(folder: Path, sample: Sample, *, rows: int = 6, columns: int = 10, frames: int = 12) -> None:
    """Two classes whose parts rise linearly over the frame and the first three seconds: 0.2 + 0.1 t + 0.3 y + 0.15 x
    is that of class 0."""
    at = np.arange(frames) / 4, (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns
    part = 0.2 + 0.1 * at[0][:, None, None] + 0.3 * at[1][:, None] + 0.15 * at[2]
    values = torch.from_numpy(np.stack([np.log(part), np.log(1 - part)], axis=-1))
    tensors = {"values": values, "classes": torch.tensor([0, 1], dtype=torch.uint8).expand(values.shape).contiguous()}
    tensors |= {name: torch.from_numpy(x) for name, x in zip(("times", "rows", "columns"), at, strict=True)}
    path = per_video_file(folder, sample)
    path.parent.mkdir(parents=True)
    save_file(tensors, path)


@pytest.fixture
def linear(tmp_path: Path) -> tuple[ScoreFolder, Sample]:
    card = ScoresCard(
        teacher="a field", digest="", classes=("a", "b"), count=2, topk=2, preprocessing={}, decoder="none"
    )
    (tmp_path / SCORES).write_text(json.dumps(vars(card)))
    sample = Sample(path=tmp_path / "video.mp4", label=0)
    linear_scores(tmp_path, sample)
    return ScoreFolder(tmp_path, ("a", "b"), topk=2, rest="none"), sample


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("box", [(0.2, 0.3, 0.5, 0.4), (0.15, 0.1, 0.7, 0.8), (0.4, 0.5, 0.1, 0.15)])
def test_labels_of_a_crop_are_exact_on_a_linear_field(linear: tuple[ScoreFolder, Sample], box, flip: bool):
    folder, sample = linear
    config = preset_config("dualformer_nano", clip=(8, 96, 128))
    tokens = TokenGrid(config, (8, 96, 128))  # 4 x 3 x 4 tokens
    target = folder.token_targets(sample, tokens, box=box, times=times(8, 0.7, 8), flip=flip)
    seconds = 0.7 + (np.arange(4) * 2 + 0.5) / 8
    y = box[0] + box[2] * (np.arange(3) + 0.5) / 3
    x = box[1] + box[3] * (np.arange(4) + 0.5) / 4
    part = 0.2 + 0.1 * seconds[:, None, None] + 0.3 * y[:, None] + 0.15 * (x[::-1] if flip else x)
    assert np.allclose(target[..., 0].numpy(), part, atol=1e-6)
    assert np.allclose(target.sum(dim=-1).numpy(), 1)


def test_a_last_token_that_sticks_out_lies_where_it_sees_something():
    config = preset_config("dualformer_nano", clip=(3, 80, 80))
    tokens = TokenGrid(config, (3, 80, 80))
    assert tokens.size == (2, 3, 3)
    centres, lengths = tokens.along(1, 0.0, 1.0)
    assert centres.tolist() == [16 / 80, 48 / 80, 72 / 80] and lengths.tolist() == [32 / 80, 32 / 80, 16 / 80]
    seconds, lasting = tokens.in_time(np.array([1.0, 1.5, 2.0]))
    assert seconds.tolist() == [1.25, 2.0] and lasting.tolist() == [1.0, 0.5]


def test_weights_along_an_axis():
    at = np.array([0.0, 1.0, 2.0, 3.0])
    one = np.ones(1)

    def weights(centre: float, length: float) -> list[float]:
        return interpolation_weights(np.array([centre]), length * one, at)[0].tolist()

    assert weights(1.0, 1.0) == [0, 1, 0, 0]
    assert weights(1.25, 0.5) == pytest.approx([0, 0.75, 0.25, 0])
    assert weights(-2.0, 1.0) == [1, 0, 0, 0] and weights(9.0, 1.0) == [0, 0, 0, 1]
    assert weights(0.5, 2.0) == pytest.approx([0.5, 0.5, 0, 0])  # neighbours averaged
    assert weights(1.5, 4.0) == pytest.approx([0.2, 0.3, 0.3, 0.2], abs=0.06)
    assert interpolation_weights(np.array([0.3, 0.9]), np.ones(2), np.array([0.5])).tolist() == [[1], [1]]


def test_a_long_video_is_covered_without_gap_or_overlap(tmp_path: Path, teacher):
    scene = Scene(size=SIZE, frames=80, classes=("right", "left"))
    write_dataset(tmp_path / "long", scene, clips_per_class={"train": 1}, seed=0)
    videos = _all(tmp_path / "long")
    path, model, card = teacher
    pre = replace(PRE, stride=2)  # clips of 32 of the 80 frames
    taught = write_scores(
        model, replace(card, preprocessing=pre), videos, tmp_path / "out", teacher=path, topk=2, at_once=2
    )
    assert (taught.videos, taught.clips) == (2, 6)
    stored = read_scores(per_video_file(tmp_path / "out", videos.samples[0]))
    found = stored["times"].numpy()
    assert stored["values"].shape == (len(found), 3, 3, 2) and stored["values"].dtype == torch.float16
    assert stored["classes"].dtype == torch.uint8
    frame = 1 / RATE
    assert found[0] == pytest.approx(frame) and found[-1] == pytest.approx(78 * frame)
    assert (np.diff(found) > 0).all() and np.diff(found).max() <= 4 * frame + 1e-6


def _all(folder: Path) -> VideoList:
    samples = [Sample(path=path, label=i) for i, path in enumerate(sorted(folder.rglob("*.mp4")))]
    return VideoList(classes=("left", "right"), samples=tuple(samples), source=str(folder))


@pytest.mark.parametrize("fps", [None, 16.0])
def test_clips_cover_a_video_with_no_more_of_them_than_needed(fps: float | None):
    pre = replace(PRE, frames=4, stride=3, fps=fps)
    for length in range(1, 80):
        clips = covering_clips(times(length), pre)
        left_out = np.diff(np.unique(np.concatenate([[-1], clips.reshape(-1), [length]])))
        assert left_out.max() <= 3, (length, clips)
        assert len(clips) <= 1 + -(-max(0, length - 10) // 12)
    assert len(covering_clips(times(12), pre)) == 1 and len(covering_clips(times(14), pre)) == 2


def test_a_wide_frame_is_seen_whole(tmp_path: Path, teacher):
    from dualformer.video.encode import write_video

    frames = np.random.default_rng(0).integers(0, 255, (FRAMES, 64, 128, 3), dtype=np.uint8)
    path = tmp_path / "data" / "left" / "wide.mp4"
    path.parent.mkdir(parents=True)
    write_video(path, frames, fps=8)
    sample = Sample(path=path, label=0)
    videos = VideoList(classes=("left",), samples=(sample,), source="wide")
    teach(videos, teacher, tmp_path / "out")
    stored = read_scores(per_video_file(tmp_path / "out", sample))
    assert stored["values"].shape == (8, 3, 6, 6)  # 96 x 192 pixels
    assert stored["columns"].tolist() == pytest.approx([(2 * i + 1) / 12 for i in range(6)])


def test_a_call_that_was_stopped_goes_on_and_other_scores_are_not_mixed_in(videos: VideoList, teacher, tmp_path: Path):
    out = tmp_path / "out"
    first = teach(videos.subset(range(3)), teacher, out)
    assert (first.videos, first.found) == (3, 0) and first.bytes > 0
    kept = per_video_file(out, videos.samples[0])
    stamp = kept.stat().st_mtime_ns
    second = teach(videos, teacher, out, workers=1)
    assert (second.videos, second.found) == (8, 3) and kept.stat().st_mtime_ns == stamp
    assert not list(out.rglob("*.tmp"))
    whole = tmp_path / "whole"
    teach(videos, teacher, whole, at_once=1)
    for sample in videos.samples:
        one, other = load_file(per_video_file(out, sample)), load_file(per_video_file(whole, sample))
        assert all(torch.equal(one[key], other[key]) for key in other)
    with pytest.raises(DatasetError, match="holds scores with another number of classes kept"):
        teach(videos, teacher, out, topk=2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(ValueError, match="is not empty and holds no scores"):
        teach(videos, teacher, tmp_path / "full")


def test_a_video_that_does_not_decode_is_named_and_left_out(videos: VideoList, teacher, tmp_path: Path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video at all")
    samples = (*videos.samples[:2], Sample(path=bad, label=0), *videos.samples[2:3])
    broken = replace(videos, samples=samples)
    for workers in (0, 2):
        taught = teach(broken, teacher, tmp_path / f"out{workers}", workers=workers)
        assert taught.videos == 3 and [str(error).split(":")[0] for error in taught.bad] == [str(bad)]
    with pytest.raises(DatasetError, match=r"no scores of 1 of 4 videos \(.*bad\.mp4\): go on with dualformer teach"):
        ScoreFolder(tmp_path / "out0", CLASSES, topk=5, rest="none").check_complete(broken)


def test_what_cannot_be_used_is_said(videos: VideoList, teacher, scores: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="make them with dualformer teach"):
        ScoreFolder(tmp_path, CLASSES, topk=5, rest="none")
    (tmp_path / SCORES).write_text("{}")
    with pytest.raises(DatasetError, match="not stored scores of this version"):
        ScoreFolder(tmp_path, CLASSES, topk=5, rest="none")
    assert teach(videos.subset([0]), teacher, tmp_path / "two", topk=2).videos == 1
    with pytest.raises(ValueError, match="`teacher_topk=5` is more than the 2 scores a token"):
        ScoreFolder(tmp_path / "two", CLASSES, topk=5, rest="none")
    with pytest.raises(TeacherError, match="it does not know 'jump' of the 2 classes"):
        ScoreFolder(scores, ("left", "jump"), topk=5, rest="none")
    with pytest.raises(TeacherError, match="does not know 'jump'"):
        teach(replace(videos, classes=("left", "right", "up", "jump")), teacher, tmp_path / "never")
    assert not (tmp_path / "never").exists()
    twins = [tmp_path / place / "a" / "b" / "c.mp4" for place in ("x", "y")]
    same = VideoList(classes=CLASSES, samples=tuple(Sample(path=path, label=0) for path in twins), source="twins")
    with pytest.raises(DatasetError, match=r"are both kept as 'a/b/c\.mp4'"):
        teach(same, teacher, tmp_path / "twins")
    model = create_model("dualformer_nano", clip=(FRAMES, SIZE, SIZE), num_classes=4, seed=0)
    config = TrainConfig(data="videos", teacher_scores=str(scores))
    with pytest.raises(ValueError, match="`teacher_scores` do not follow `mixup`, `cutmix` and `randaugment`"):
        make_objective(config.replace(mixup=0.8), False, model, PRE, classes=CLASSES)
    with pytest.raises(ValueError, match="are of frames cut by `crop_mode=center`, and clips by `crop_mode=pad`"):
        make_objective(config, False, model, replace(PRE, crop_mode="pad"), classes=CLASSES)
    with pytest.raises(ValueError, match="rendered videos have none: give the `teacher` itself"):
        make_objective(config, True, model, PRE, classes=CLASSES)


def test_damaged_scores_are_named(videos: VideoList, teacher, tmp_path: Path):
    teach(videos.subset([0]), teacher, tmp_path / "out")
    path = per_video_file(tmp_path / "out", videos.samples[0])
    path.write_bytes(path.read_bytes()[:100])
    folder = ScoreFolder(tmp_path / "out", CLASSES, topk=5, rest="none")
    with pytest.raises(DatasetError, match=r"stored scores that cannot be read .*: delete the file and go on with"):
        folder.token_targets(videos.samples[0], grid(), box=(0, 0, 1, 1), times=times(), flip=False)


def test_taught_and_trained_by_the_command_line(
    videos: VideoList, teacher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = str(videos.samples[0].path.parents[2])
    out = str(tmp_path / "scores")
    command = ["teach", teacher[0], "--data", data, "--out", out, "--topk", "3", "--workers", "0", "--device", "cpu"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "8 videos scored, 8 clips" in said and f"next: dualformer train --data {data} --teacher-scores {out}" in said
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["found"] == 8
    settings = TrainConfig(
        data=data,
        out=str(tmp_path / "run"),
        teacher_scores=out,
        teacher_topk=2,
        frames=4,
        stride=2,
        size=64,
        epochs=2,
        batch_size=4,
        flip="on",
        workers=0,
        precision="float32",
    )
    run = train(settings, reporter=SilentReporter())
    stopped = settings.replace(out=str(tmp_path / "stopped"))
    train(stopped.replace(max_steps=3), reporter=SilentReporter())
    train(stopped.replace(resume=True, workers=1), reporter=SilentReporter())
    one, other = load_file(run.out / "last.safetensors"), load_file(tmp_path / "stopped" / "last.safetensors")
    assert all(torch.equal(one[key], other[key]) for key in other)
