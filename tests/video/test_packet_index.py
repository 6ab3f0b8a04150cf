"""Lists of packets of long files are made once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dualformer.user_cache import CACHE_VARIABLE
from dualformer.video import packet_index, pyav_reader
from dualformer.video.container import FileLimits, limit_files
from dualformer.video.encode import write_video
from dualformer.video.frame_table import read_packets
from dualformer.video.open_video import open_video
from dualformer.video.video_segment import VideoSegment


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Counts as a long file."""
    monkeypatch.setattr(packet_index, "_LONG", 50)
    monkeypatch.setattr(pyav_reader, "_KEEP_COMPRESSED", 100)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    path = tmp_path / "film.mp4"
    rng = np.random.default_rng(0)
    write_video(path, rng.integers(0, 256, (60, 4, 6, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2), fps=25)
    return path


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose packets were read, one by one."""
    found: list[str] = []

    def read(video, *, keep: int):
        found.append(Path(video.path).name)
        return read_packets(video, keep=keep)

    monkeypatch.setattr(packet_index, "read_packets", read)
    packet_index._tables.clear()
    return found


def frames_of(path: Path, numbers: list[int]) -> torch.Tensor:
    with open_video(path) as reader:
        assert len(reader) == 60
        return reader.read(np.array(numbers))


def test_a_long_file_is_listed_once(film: Path, listed: list[str]) -> None:
    first = frames_of(film, [3, 40, 59])
    assert torch.equal(frames_of(film, [3, 40, 59]), first)
    with open_video(VideoSegment(file=film, start=1.6, end=1.64)) as part:
        assert torch.equal(part.read(np.array([0])), first[1:2])
    assert listed == ["film.mp4"]
    packet_index._tables.clear()  # as another process finds it
    assert torch.equal(frames_of(film, [59, 3]), first[[2, 0]])
    assert listed == ["film.mp4"]


def test_a_file_that_has_changed_is_listed_anew(film: Path, listed: list[str]) -> None:
    frames_of(film, [0])
    os.utime(film, ns=(0, 0))
    frames_of(film, [0])
    assert listed == ["film.mp4", "film.mp4"]


def test_a_damaged_list_is_made_anew(film: Path, listed: list[str]) -> None:
    first = frames_of(film, [7])
    folder = packet_index.index_folder()
    assert folder is not None
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"PK" + whole[2:200], b"no list"):
        packet_index._tables.clear()
        file.write_bytes(damaged)
        assert torch.equal(frames_of(film, [7]), first)
        assert file.read_bytes() == whole
    assert len(listed) == 5


def test_an_empty_variable_and_a_folder_that_cannot_be_written_cost_nothing_but_time(
    film: Path, listed: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "")
    assert packet_index.index_folder() is None
    frames_of(film, [0])
    (tmp_path / "a file").touch()
    packet_index._tables.clear()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "a file"))
    frames_of(film, [0])
    assert len(listed) == 2


def test_limits_are_kept_for_files_that_are_listed(film: Path, listed: list[str]) -> None:
    frames_of(film, [0])
    with limit_files(FileLimits(pixels=10**6, frames=20, seconds=100)), pytest.raises(Exception, match="frames"):
        open_video(film)
    assert len(listed) == 2


def test_short_files_are_not_kept(film: Path, listed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyav_reader, "_KEEP_COMPRESSED", 10**6)
    frames_of(film, [0])
    frames_of(film, [0])
    folder = packet_index.index_folder()
    assert len(listed) == 2 and folder is not None and not folder.exists()


def test_few_lists_stay_in_memory(
    film: Path, listed: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(packet_index, "_MOST", 1)
    frames_of(film, [0])
    (tmp_path / "other.mp4").write_bytes(film.read_bytes())
    frames_of(tmp_path / "other.mp4", [0])
    assert [Path(key[0]).name for key in packet_index._tables] == ["other.mp4"]
