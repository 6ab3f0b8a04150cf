"""Determinism with everything on: the same batches for any number of workers and ranks, and the same bits on resume."""

import dataclasses
import json
import random
from itertools import combinations
from pathlib import Path
from subprocess import TimeoutExpired

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dualformer.datasets.clip_datasets import Batches, EpochSampler, TrainingClips
from dualformer.datasets.splits import open_splits
from dualformer.errors import DualFormerError
from dualformer.training.checkpoint import has_checkpoint
from dualformer.training.mixing import mix_batch
from dualformer.training.objective import Batch
from dualformer.training.reporter import SilentReporter
from dualformer.training.settings.mixing_settings import MixingSettings
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from dualformer.training.training_pictures import CLIPS, draw_clips
from dualformer.video.augmentation import Augmentation, RandAugment
from dualformer.video.preprocessing import kinetics
from forked_verbs import ForkedVerb
from small_runs import RecordingReporter

EVERYTHING: dict[str, object] = {
    "colour_jitter": 0.4,
    "randaugment": "9x2x0.5",
    "erasing": 0.7,
    "scale_jitter": "32-40",
    "mixup": 0.8,
    "cutmix": 1.0,
    "label_smoothing": 0.2,
    "repeats": 2,
}
AUGMENTATION = Augmentation(
    flip=0.5,
    scale_jitter=(32, 40),
    colour_jitter=0.4,
    randaugment=RandAugment(magnitude=9, number=2, std=0.5),
    erasing=0.5,
)
MIXING = MixingSettings(mixup=0.8, cutmix=1.0, repeats=2)


@pytest.fixture
def flip_map(tmp_path: Path) -> Path:
    path = tmp_path / "map.csv"
    path.write_text("class,mirrored\nleft,right\n")
    return path


@pytest.fixture
def everything(settings: TrainConfig, flip_map: Path) -> TrainConfig:
    return settings.replace(**EVERYTHING, flip="swap", flip_map=str(flip_map))


def epoch(videos: Path, *, workers: int = 0, rank: int = 0, world: int = 1, cache: int = 0) -> list[Batch]:
    """The mixed batches of epoch 3 on one rank; each has 8 clips over all ranks."""
    listed = open_splits(videos).train
    pre = kinetics(4, 2, 32)
    clips = TrainingClips(listed, pre, seed=5, augmentation=AUGMENTATION, mirrored=(1, 0), cache_bytes=cache)
    sampler = EpochSampler(len(listed), seed=5, repeats=2, rank=rank, world=world).at(3)
    batches = Batches(clips, batch_size=8 // world, sampler=sampler, num_workers=workers, drop_last=True)
    mixed = [
        mix_batch(batch, MIXING, classes=2, seed=5, epoch=3, number=number, world=world)
        for number, batch in enumerate(batches)
    ]
    assert len(mixed) == 3
    return mixed


def same(one: list[Batch], other: list[Batch]) -> bool:
    return all(
        a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_gives_the_same_batches(videos: Path, workers: int):
    assert same(epoch(videos), epoch(videos, workers=workers))


def test_memory_for_decoded_videos_changes_nothing(videos: Path):
    assert same(epoch(videos), epoch(videos, cache=10**8))


@pytest.mark.parametrize("workers", [0, 1])
def test_two_ranks_together_have_the_batches_of_one(videos: Path, workers: int):
    whole = epoch(videos)
    ranks = [epoch(videos, workers=workers, rank=rank, world=2) for rank in (0, 1)]
    together = [
        {key: torch.stack([zero[key], one[key]], dim=1).flatten(0, 1) for key in zero}
        for zero, one in zip(*ranks, strict=True)
    ]
    assert same(whole, together)
    assert any("target" in batch for batch in whole)


def test_every_video_is_in_its_batch_twice_as_two_clips(videos: Path):
    for batch in epoch(videos):
        index = batch["index"]
        assert torch.equal(index[::2], index[1::2])
        assert len(set(index.tolist())) == 4
        assert not any(torch.equal(batch["clip"][i], batch["clip"][i + 1]) for i in range(0, 8, 2))
    sampler = EpochSampler(5, seed=0, repeats=3)
    keys = list(sampler.at(2))
    assert len(sampler) == len(keys) == 15
    assert sorted(number for _, number in keys) == list(range(15))
    assert [number % 5 for _, number in keys[::3]] == [index for _, index in EpochSampler(5, seed=0).at(2)]
    for start in range(16):
        assert list(sampler.at(2, start)) == keys[start:]


def run(settings: TrainConfig, **changes: object) -> Path:
    settings = settings.replace(**changes)
    train(settings, reporter=SilentReporter())
    return Path(settings.out)


def assert_same_weights(a: Path, b: Path) -> None:
    one, other = load_file(a / "last.safetensors"), load_file(b / "last.safetensors")
    assert one.keys() == other.keys()
    for key in one:
        assert torch.equal(one[key], other[key]), key


def test_stopped_and_resumed_with_everything_on_gives_the_same_bits(
    everything: TrainConfig, flip_map: Path, tmp_path: Path
):
    whole = run(everything)
    stopped = run(everything, out=str(tmp_path / "stopped"), max_steps=1)
    flip_map.unlink()  # the run has its own
    again = TrainConfig(out=str(stopped), resume=True, workers=0)
    run(again, max_steps=8)  # of 12, six an epoch
    run(again, workers=1)
    assert_same_weights(whole, stopped)
    assert json.loads((stopped / "flip_map.json").read_text()) == {"left": "right", "right": "left"}


@pytest.mark.slow
def test_killed_with_everything_on_and_resumed_gives_the_same_bits(everything: TrainConfig, tmp_path: Path):
    whole = run(everything, epochs=6)
    killed = everything.replace(out=str(tmp_path / "killed"), epochs=6, save_minutes=0.0005)
    options = [
        word
        for field in dataclasses.fields(killed)
        if (value := getattr(killed, field.name)) != field.default and not isinstance(value, bool)
        for word in (f"--{'from' if field.name == 'start' else field.name.replace('_', '-')}", str(value))
    ]
    moments, kills = random.Random(0), 0
    for _ in range(40):
        resume = ["--resume"] if has_checkpoint(tmp_path / "killed") else []
        process = ForkedVerb(["train", *options, *resume])
        try:
            code = process.wait(moments.uniform(1.0, 3.0) if kills < 2 else None)
            assert code == 0, process.stdout.read()
            break
        except TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    assert kills
    assert_same_weights(whole, tmp_path / "killed")


def test_a_run_says_what_it_does_and_shows_it(everything: TrainConfig):
    lines = RecordingReporter()
    train(everything.replace(max_steps=1), reporter=lines)
    said = next(line for line in lines.lines if line.startswith("augmentation"))
    assert said == (
        "augmentation (mirroring by `flip=swap`): random crops of frames with a short side of 32 to 40 pixels; 50% of "
        "the clips mirrored, which swaps the labels of 1 pair of classes; brightness, contrast and saturation changed "
        "by up to 40%; RandAugment with 2 operations of magnitude 9 ± 0.5; a box erased in 70% of the clips; mixup 0.8 "
        "or CutMix 1 (50% CutMix) on 100% of the batches; labels smoothed by 0.2; 2 clips of every video in its batch"
    )
    assert any("12 steps of 4 clips, 6 an epoch" in line for line in lines.lines)
    out = Path(everything.out)
    assert f"clips of the first batch, as the network sees them: {out / CLIPS}" in lines.lines
    with Image.open(out / CLIPS) as picture:
        assert picture.size == (190 + 4 * 116, 4 + 4 * 116)


def test_every_option_changes_what_is_learnt(settings: TrainConfig, flip_map: Path, tmp_path: Path):
    options = [{name: value} for name, value in EVERYTHING.items()]
    heads = []
    for number, option in enumerate([{}, *options, {"flip": "swap", "flip_map": str(flip_map)}]):
        out = run(settings, out=str(tmp_path / str(number)), max_steps=2, **option)
        heads.append(load_file(out / "last.safetensors")["head.weight"])
    names = ["nothing", *EVERYTHING, "flip"]
    same = [
        (a, b) for (a, one), (b, other) in combinations(zip(names, heads, strict=True), 2) if torch.equal(one, other)
    ]
    assert not same


def test_resume_refuses_another_augmentation(everything: TrainConfig):
    out = run(everything, max_steps=1)
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"mixup": 0.3}))
    with pytest.raises(DualFormerError, match="started with another augmentation"):
        train(TrainConfig(out=str(out), resume=True), reporter=SilentReporter())


def test_randaugment_ends_after_its_part_of_the_epochs(settings: TrainConfig):
    begun = settings.replace(randaugment="9x2", randaugment_until=0.7)
    assert begun.augmentation(("clap", "wave"), epochs=10).randaugment_epochs == 7
    assert begun.augmentation(("clap", "wave"), epochs=1).randaugment_epochs == 1
    assert begun.replace(randaugment_until=None).augmentation(("clap", "wave"), epochs=10).randaugment_epochs is None
    lines = RecordingReporter()
    train(begun.replace(epochs=3), reporter=lines)
    assert any("RandAugment with 2 operations of magnitude 9 in the first 2 epochs" in line for line in lines.lines)
    for off in (None, "off"):
        with pytest.raises(ValueError, match="`randaugment_until` ends RandAugment, which is off"):
            begun.replace(randaugment=off).augmentation(("clap", "wave"), epochs=10)


def test_overfit_shows_clips_as_they_are(everything: TrainConfig):
    lines = RecordingReporter()
    train(everything.replace(overfit=4, max_steps=1), reporter=lines)
    said = next(line for line in lines.lines if line.startswith("augmentation"))
    assert said == "augmentation (mirroring by `flip=off`): random crops of 100% of the frame; not mirrored"
    kept = TrainConfig.load(Path(everything.out) / "config.json")
    assert (kept.mixup, kept.repeats, kept.flip_map, kept.randaugment) == (0, 1, None, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flip": "swap"}, "`flip=swap` needs a `flip_map`"),
        ({"flip_map": "map.csv"}, "`flip_map` does nothing without `flip=swap`"),
        ({"scale_jitter": "256"}, "`scale_jitter`: a range of pixels is two rising numbers, as in 256-320"),
        ({"scale_jitter": "320-256"}, "`scale_jitter`: a range of pixels"),
        ({"scale_jitter": "256-320", "min_area": 0.5}, "`scale_jitter` takes the place of `min_area`"),
        ({"randaugment": "strong"}, "`randaugment`: RandAugment is magnitude x number"),
        ({"randaugment": "12x2"}, "`randaugment`: the magnitude of RandAugment lies between 0 and 10"),
        ({"randaugment": "7x2", "randaugment_until": 0.0}, "`randaugment_until` must be from 0.01 to 1, not 0.0"),
        ({"mix_prob": 0.5}, "`mix_prob` does nothing without"),
        ({"mixup": 0.8, "mix_prob": 0.0}, "`mix_prob` must be from 0.001 to 1, not 0.0"),
        ({"mixup": 0.8, "switch_prob": 0.3}, "`switch_prob` chooses between"),
        ({"mixup": -1.0}, "`mixup` must be 0 or more"),
        ({"erasing": 1.5}, "`erasing` must be from 0 to 1, not 1.5"),
        ({"label_smoothing": 1.0}, "`label_smoothing` must be 0 or more and less than 1, not 1.0"),
        ({"repeats": 0}, "`repeats` must be more than 0"),
        ({"colour_jitter": -0.1}, "`colour_jitter` must be from 0 to 1, not -0.1"),
    ],
)
def test_settings_that_contradict_themselves_are_named(changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        TrainConfig(data="videos", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repeats": 3}, "`batch_size=4` is not a multiple of `repeats=3`"),
        ({"repeats": 4, "mixup": 0.8}, "need two videos in a batch: 8 clips, not 4"),
        ({"batch_size": 1, "cutmix": 1.0}, "need two videos in a batch: 2 clips, not 1"),
        ({"batch_size": 26, "repeats": 2}, "`batch_size=26` is more than the 24 clips"),
        ({"scale_jitter": "24-40"}, "`scale_jitter` from 24 pixels on"),
        ({"data": "rendered", "erasing": 0.5}, "takes `label_smoothing` only"),
        ({"data": "rendered", "repeats": 2}, "takes `label_smoothing` only"),
    ],
)
def test_settings_that_do_not_fit_stop_before_anything_is_written(
    settings: TrainConfig, changes: dict[str, object], message: str
):
    with pytest.raises(ValueError, match=message):
        run(settings, **changes)
    assert not Path(settings.out).exists()


def test_a_map_must_speak_of_every_class_that_sounds_sided(settings: TrainConfig, tmp_path: Path):
    config = settings.replace(flip="swap", flip_map=str(tmp_path / "map.json"))
    (tmp_path / "map.json").write_text('{"wave": "wave"}')
    with pytest.raises(ValueError, match="class 'turn left' sounds as if left and right differ: say what"):
        config.mirrored_labels(("turn left", "wave"))
    (tmp_path / "map.json").write_text('{"turn left": null}')
    assert config.mirrored_labels(("turn left", "wave")) == (-1, 1)


@pytest.mark.parametrize(
    ("name", "sided"),
    [
        *(
            (name, True)
            for name in ("circlecc", "circle_cw", "rot", "Rotation 2", "u-turn", "turning", "anticlockwise")
        ),
        *((name, False) for name in ("return", "soccer", "carrot", "brighten", "saturn", "overturned boat")),
    ],
)
def test_names_of_directions_ask_whether_to_mirror(settings: TrainConfig, name: str, sided: bool):
    config = settings.replace(flip=None)
    if sided:
        with pytest.raises(ValueError, match="sounds as if left and right differ; say `flip=off`"):
            config.flip_for(("wave", name))
    else:
        assert config.flip_for(("wave", name)) == "on"


def test_the_picture_shows_frames_and_parts(tmp_path: Path):
    clip = torch.zeros(2, 9, 8, 8, 3, dtype=torch.uint8)
    clip[0] = torch.arange(9, dtype=torch.uint8)[:, None, None, None] * 20
    clip[1, ..., 0] = 255
    target = torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.0, 1.0]])
    data = {"clip": clip, "label": torch.tensor([0, 2]), "target": target}
    draw_clips(tmp_path / "a.png", data, ("hop", "skip", "jump"))
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    assert pixels.shape == (4 + 2 * 116, 190 + 8 * 116, 3)
    # The first and the last of nine frames are among the eight that are shown.
    assert [pixels[60, 190 + 116 * column + 56, 0] for column in range(8)] == [0, 20, 40, 60, 100, 120, 140, 160]
    assert (pixels[176, 240] == (255, 0, 0)).all()
    captions = pixels[:, :190].min(axis=2) < 128
    assert captions[:116].sum() > 1.4 * captions[116:].sum() > 0  # two lines and one
    draw_clips(tmp_path / "b.png", {**data, "target": torch.tensor([[1.0, 0, 0]] * 2)}, ("hop", "skip", "jump"))
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
