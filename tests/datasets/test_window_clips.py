"""Windows of recordings: every frame has the labels of its own time, wherever the window lies."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.datasets.segments.window_clips import (
    WindowClips,
    WindowViews,
    count_places,
    frame_labels,
    measure_recordings,
)
from dualformer.segment import Segment
from dualformer.video.augmentation import Augmentation
from dualformer.video.encode import write_video
from dualformer.video.preprocessing import Preprocessing
from made_films import coloured

CLASSES = ("blue", "green", "red", "background")
PHASES = [("black", 30), ("red", 40), ("black", 25), ("green", 45), ("blue", 20), ("black", 40)]
FPS = 10
PLAIN = Augmentation(flip=0.0, area=(1.0, 1.0), ratio=(1.0, 1.0))
PRE = Preprocessing(frames=8, stride=2, resize=32, crop=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def marked(path: Path, phases: list[tuple[str, int]]) -> AnnotatedVideo:
    segments, frame = list[Segment](), 0
    for name, count in phases:
        if name != "black":
            segments.append(Segment(label=name, start=frame / FPS, end=(frame + count) / FPS))
        frame += count
    return AnnotatedVideo(path=path, segments=tuple(segments), lines=("",) * len(segments))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[AnnotatedVideo]:
    folder = tmp_path_factory.mktemp("films")
    found = [marked(folder / "long.mp4", PHASES), marked(folder / "short.mp4", [("green", 30), ("red", 30)])]
    for film, phases in zip(found, (PHASES, [("green", 30), ("red", 30)]), strict=True):
        write_video(film.path, coloured(phases), fps=FPS, crf=0)
    return measure_recordings(found)


def shown(frames: Tensor) -> list[str]:
    """The colour of each frame T H W 3, by its name among the classes."""
    middles = frames[:, 16, 16].float()
    return [
        "background" if max(pixel) < 100 else ("red", "green", "blue")[pixel.index(max(pixel))]
        for pixel in middles.tolist()
    ]


def said(moments: Tensor) -> list[str]:
    return [CLASSES[label] for label in moments.argmax(dim=1).tolist()]


def test_labels_by_hand() -> None:
    segments = [Segment(label="red", start=0.5, end=2.25), Segment(label="blue", start=3.0, end=3.0)]
    times = np.array([0.0, 1.0, 2.0, 3.0])
    expected = [[0, 0, 0.5, 0.5], [0, 0, 1, 0], [0, 0, 0.25, 0.75], [1, 0, 0, 0]]
    assert frame_labels(segments, times, CLASSES).tolist() == expected
    assert frame_labels(segments, times, CLASSES[:3]).tolist() == [row[:3] for row in expected]
    mirrored = frame_labels(segments, times, CLASSES, mirrored=(2, 1, 0, 3))
    assert mirrored[:, [2, 1, 0, 3]].tolist() == expected
    other = [Segment(label="of another data set", start=0.0, end=4.0)]
    assert frame_labels(other, times, CLASSES)[:, 3].tolist() == [1, 1, 1, 1]


def test_overlapping_segments_are_both_true() -> None:
    segments = [Segment(label="red", start=0.0, end=2.0), Segment(label="blue", start=1.0, end=3.0)]
    moments = frame_labels(segments, np.array([0.0, 1.0, 2.0]), CLASSES[:3])
    assert moments.tolist() == [[0, 0, 1], [1, 0, 1], [1, 0, 0]]


def test_a_frame_that_is_repeated_counts_by_when_it_is_shown() -> None:
    segments = [Segment(label="red", start=0.0, end=1.5)]
    moments = frame_labels(segments, np.array([0.0, 1.0, 1.0, 1.0]), CLASSES)
    assert said(moments) == ["red"] * 4


def test_lengths_are_measured_where_they_are_not_said(films: list[AnnotatedVideo]) -> None:
    assert [film.seconds for film in films] == pytest.approx([20, 6])
    assert [film.fps for film in films] == pytest.approx([10, 10])
    with pytest.raises(ValueError, match="is not known: measure it"):
        count_places([marked(Path("x.mp4"), PHASES)])


def test_every_frame_has_the_label_of_what_it_shows(films: list[AnnotatedVideo]) -> None:
    clips = WindowClips(films, PRE, CLASSES, seed=0, augmentation=PLAIN)
    assert len(clips) == count_places(films) == 5  # as many as there are segments
    found = set[str]()
    for epoch in range(6):
        for number in range(len(clips)):
            item = clips[epoch, number]
            assert item["clip"].shape == (8, 32, 32, 3)
            truth, pixels = said(item["moments"]), shown(item["clip"])
            # A frame stands for the time until the next one, two frames on: where that is divided, it may be either.
            sure = item["moments"].max(dim=1).values == 1
            assert all(a == b for a, b, certain in zip(truth, pixels, sure.tolist(), strict=True) if certain)
            assert sure.sum() >= 6
            assert item["label"] == int(item["moments"].sum(dim=0).argmax())
            found |= {truth[0]} | {truth[-1]}
    assert found == set(CLASSES)


def test_an_epoch_sees_every_part(films: list[AnnotatedVideo]) -> None:
    clips = WindowClips(films[:1], PRE, CLASSES, seed=3, augmentation=PLAIN)
    starts = [
        sorted(place.start for place in clips._places)  # the stretches are even, and reach to the last place for a clip
    ][0]
    assert np.diff(starts) == pytest.approx((20 - 1.6) / 3)
    assert clips._places[-1].end == pytest.approx(20)


def test_a_window_depends_on_its_key_alone(films: list[AnnotatedVideo]) -> None:
    first = WindowClips(films, PRE, CLASSES, seed=1, augmentation=PLAIN)
    items = {key: first[key] for key in [(0, 0), (0, 3), (1, 0), (2, 4)]}
    second = pickle.loads(pickle.dumps(WindowClips(films, PRE, CLASSES, seed=1, augmentation=PLAIN)))
    for key in reversed(items):
        again = second[key]
        assert torch.equal(items[key]["clip"], again["clip"]) and torch.equal(items[key]["moments"], again["moments"])
    other = WindowClips(films, PRE, CLASSES, seed=2, augmentation=PLAIN)
    assert any(not torch.equal(items[key]["clip"], other[key]["clip"]) for key in items)


def test_mirrored_windows_have_mirrored_labels(films: list[AnnotatedVideo]) -> None:
    mirror = Augmentation(flip=1.0, area=(1.0, 1.0), ratio=(1.0, 1.0))
    plain = WindowClips(films, PRE, CLASSES, seed=1, augmentation=PLAIN)
    swapped = WindowClips(films, PRE, CLASSES, seed=1, augmentation=mirror, mirrored=(0, 2, 1, 3))
    kept = WindowClips(films, PRE, CLASSES, seed=1, augmentation=mirror, mirrored=(-1, -1, -1, 3))
    exchange = {"red": "green", "green": "red"}
    for number in range(len(plain)):
        before = said(plain[0, number]["moments"])
        assert said(swapped[0, number]["moments"]) == [exchange.get(name, name) for name in before]
        assert said(kept[0, number]["moments"]) == before


def test_views_cover_the_recordings(films: list[AnnotatedVideo]) -> None:
    views = WindowViews(films, PRE, CLASSES)
    assert len(views) == 13 + 4
    items = [views[number] for number in range(len(views))]
    assert [item["index"] for item in items] == [0] * 13 + [1] * 4
    for item in items:
        assert item["views"].shape == (1, 8, 32, 32, 3)
        sure = (item["moments"].max(dim=1).values == 1).tolist()
        pairs = zip(said(item["moments"]), shown(item["views"][0]), sure, strict=True)
        assert all(a == b for a, b, certain in pairs if certain)
    with pytest.raises(IndexError):
        views[len(views)]


def test_a_film_shorter_than_a_clip(tmp_path: Path) -> None:
    film = marked(tmp_path / "tiny.mp4", [("red", 6)])
    write_video(film.path, coloured([("red", 6)]), fps=FPS, crf=0)
    (film,) = measure_recordings([film])
    item = WindowClips([film], PRE, CLASSES, seed=0, augmentation=PLAIN)[0, 0]
    assert said(item["moments"]) == ["red"] * 8
    assert said(WindowViews([film], PRE, CLASSES)[0]["moments"]) == ["red"] * 8
