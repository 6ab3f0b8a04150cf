"""Readers that stay open give what readers that are opened anew give."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dualformer.video import kept_readers
from dualformer.video.encode import write_video
from dualformer.video.frame_reader import FrameReader
from dualformer.video.kept_readers import KeptReaders
from dualformer.video.open_video import open_video
from dualformer.video.video_segment import VideoSegment


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    paths = [folder / f"{number}.mp4" for number in range(3)]
    for path in paths:
        write_video(path, rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8), fps=10)
    return paths


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were opened."""
    found: list[Path] = []

    def noted(path: Path, **settings: Any) -> FrameReader:
        found.append(path)
        return open_video(path, **settings)

    monkeypatch.setattr(kept_readers, "open_video", noted)
    return found


def frames(reader: FrameReader) -> Tensor:
    return reader.read(np.array([3, 17]))


def test_a_video_is_opened_once_and_gives_the_same(films: list[Path], opened: list[Path]) -> None:
    kept = KeptReaders()
    first = [kept.read(path, frames) for path in films]
    again = [kept.read(path, frames) for path in reversed(films)]
    assert opened == films
    with open_video(films[0]) as reader:
        assert torch.equal(first[0], frames(reader)) and torch.equal(again[2], first[0])
    kept.close()
    kept.read(films[0], frames)
    assert opened == [*films, films[0]]


def test_segments_are_read_by_one_reader(films: list[Path], opened: list[Path]) -> None:
    kept = KeptReaders()
    for start, end in ((0.3, 1.0), (1.2, 1.7), (0.0, 0.5)):
        part = VideoSegment(file=films[0], start=start, end=end)
        found = kept.read(part, lambda reader: (reader.times, reader.read(np.array([1, 3]))))
        with open_video(part) as reader:
            assert np.array_equal(found[0], reader.times) and torch.equal(found[1], reader.read(np.array([1, 3])))
    assert opened == [films[0]]


def test_open_readers_take_so_much_memory(
    films: list[Path], opened: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_video(films[0]) as reader:
        assert 0 < reader.kept_bytes <= films[0].stat().st_size
    monkeypatch.setattr(kept_readers, "_ROOM", 2.5 * reader_bytes(films))
    kept = KeptReaders()
    for number in (0, 1, 0, 2, 0, 1):
        kept.read(films[number], frames)
    assert opened == [films[0], films[1], films[2], films[1]]


def reader_bytes(films: list[Path]) -> float:
    """The mean of what their readers keep."""
    total = 0
    for path in films:
        with open_video(path) as reader:
            total += reader.kept_bytes
    return total / len(films)


def test_those_used_last_stay_open(films: list[Path], opened: list[Path]) -> None:
    kept = KeptReaders(most=2)
    for number in (0, 1, 0, 2, 0, 1):
        kept.read(films[number], frames)
    assert opened == [films[0], films[1], films[2], films[1]]
    copy = pickle.loads(pickle.dumps(kept))
    copy.read(films[1], frames)
    assert opened[4:] == [films[1]]


def test_a_file_of_other_frames_than_promised_is_opened_anew(
    films: list[Path], opened: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptReaders()
    with monkeypatch.context() as changed:
        changed.setattr("dualformer.video.pyav_reader.PyAVReader.recounted", property(lambda _: True))
        kept.read(films[0], frames)
    kept.read(films[0], frames)
    assert opened == [films[0], films[0]]


def test_after_an_error_nothing_stays_open(films: list[Path], opened: list[Path]) -> None:
    kept = KeptReaders()
    with pytest.raises(ValueError, match="frame"):
        kept.read(films[0], lambda reader: reader.read(np.array([99])))
    kept.read(films[0], frames)
    assert opened == [films[0], films[0]]
