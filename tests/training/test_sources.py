"""Sources of rendered people: classes, truth, and what does not go with them."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from dualformer.datasets.rendered_people.hands import HAND_ORDERS
from dualformer.datasets.rendered_people.performance import ORDERS
from dualformer.training.open_source import open_source
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.sources import RunClips
from dualformer.video.augmentation import Augmentation
from dualformer.video.clip_reader import Views
from dualformer.video.preprocessing import Preprocessing

PRE = Preprocessing(frames=16, resize=32, crop=32, mean=(100.0, 110.0, 120.0), std=(50.0, 51.0, 52.0))
PLAIN = Augmentation(flip=0.0, area=(1.0, 1.0))


def config(data: str, **changes: object) -> TrainConfig:
    return TrainConfig(data=data, frames=16, size=32, rendered_clips=8, epochs=2).replace(**changes)


def clips(data: str, **changes: object) -> RunClips:
    return open_source(config(data, **changes)).clips(PRE, PLAIN, None, Views(1, 1))


@pytest.mark.parametrize("data", ["rendered", "rendered-people", "rendered-hands"])
def test_rendered_clips_reach_processes_that_are_started_anew(data: str) -> None:
    """As loader workers are on macOS, on Windows, and on Linux from Python 3.14 on."""
    made = clips(data)
    train, val = pickle.loads(pickle.dumps((made.train, made.val)))
    assert torch.equal(train[(1, 7)]["clip"], made.train[(1, 7)]["clip"])
    assert torch.equal(val[0]["views"], made.val[0]["views"])


@pytest.mark.parametrize(("data", "classes"), [("rendered-people", ORDERS), ("rendered-hands", HAND_ORDERS)])
def test_people_and_hands_are_endless_streams_with_truth(data: str, classes: tuple[str, ...]) -> None:
    source = open_source(config(data))
    assert source.classes == classes and source.has_truth and source.size == 8 and source.counts is None
    made = source.clips(PRE, PLAIN, None, Views(1, 1))
    item, later = made.train[(0, 3)], made.train[(1, 3)]
    assert item["clip"].shape == (16, 32, 32, 3) and not torch.equal(item["clip"], later["clip"])
    assert all(int(item[name].max()) < count for name, count in source.maps.items())
    assert item["part"].shape == item["moving"].shape == (16, 8, 8)
    assert made.val[0]["views"].shape == (1, 16, 32, 32, 3)
    again = clips(data, seed=0).train[(0, 3)]
    assert torch.equal(item["clip"], again["clip"])


def test_clips_go_from_plain_to_hard() -> None:
    """Noise, which plain clips have little of, in a corner that nothing moves in."""
    made = clips("rendered-people", rendered_clips=40)

    def noise(epoch: int) -> float:
        corners = [made.train[(epoch, number)]["clip"][:, :6, :6].float() for number in range(40)]
        return sum(corner.diff(dim=0).abs().mean().item() for corner in corners) / 40

    assert noise(1) > 1.3 * noise(0)


def test_what_does_not_go_with_people_is_refused() -> None:
    with pytest.raises(ValueError, match="`data=rendered-people` needs to know what to render"):
        open_source(config("rendered-people", size=None))
    with pytest.raises(ValueError, match="give `flip=off`"):
        open_source(config("rendered-people")).clips(PRE, Augmentation(flip=0.5, area=(1.0, 1.0)), None, Views(1, 1))
    with pytest.raises(ValueError, match="it takes `label_smoothing` only"):
        clips("rendered-hands", mixup=0.8)
    with pytest.raises(ValueError, match="`motions` drive people"):
        config("rendered-hands", motions="motions.npz")
    with pytest.raises(ValueError, match="`class_weights` does nothing with `data=rendered-people`"):
        config("rendered-people", class_weights="balanced")


def list_videos(folder: Path, place: str) -> TrainConfig:
    """Three videos of each of two classes, by each of four subjects."""
    rows = [(place.format(who, label, number), label) for who in range(4) for label in "ab" for number in range(3)]
    for path, _ in rows:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).touch()
    listed = folder / "list.csv"
    listed.write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in rows))
    return TrainConfig(data=str(listed), frames=4, size=32)


@pytest.mark.parametrize("place", ["subject{}/{}{}.mp4", "{1}/subject{0}_{1}{2}.mp4"])
def test_recordings_on_both_sides_are_pointed_out(place: str, tmp_path: Path) -> None:
    split = list_videos(tmp_path, place)
    warning = open_source(split).warnings[0]
    assert "names look like recordings or people" in warning and "; `group='subject[0-9]+'` keeps each" in warning
    assert not open_source(split.replace(group="subject[0-9]+")).warnings


def test_a_group_that_tears_recordings_apart_is_pointed_out(tmp_path: Path) -> None:
    split = list_videos(tmp_path, "{1}/subject{0}_{1}{2}.mp4").replace(group="_([ab][0-9])")
    [warning] = open_source(split).warnings
    assert "are in train and in val by `group=_([ab][0-9])`: " in warning
    assert "; `group='subject[0-9]+'` keeps each" in warning
