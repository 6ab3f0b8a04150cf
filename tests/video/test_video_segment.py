"""Parts of a video, read where they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dualformer.video.clip_reader import read_views
from dualformer.video.container import VideoError
from dualformer.video.encode import write_video
from dualformer.video.open_video import open_video
from dualformer.video.playback import Playback
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.segment_reader import frames_within
from dualformer.video.video_segment import VideoSegment, parse_segment, stem_of
from dualformer.video.video_source import resolve_source

FRAMES = 50


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 frames at 25 a second."""
    path = tmp_path_factory.mktemp("films") / "a film.mp4"
    rng = np.random.default_rng(0)
    write_video(path, rng.integers(0, 256, (FRAMES, 4, 6, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2), fps=25)
    return path


@given(
    st.lists(st.floats(0.001, 2), min_size=1, max_size=40),
    st.floats(0, 40),
    st.floats(0, 10),
)
def test_frames_are_those_that_begin_between_the_times(apart: list[float], start: float, length: float) -> None:
    times = np.concatenate(([0.0], np.cumsum(apart)))
    found = frames_within(times, start, start + length)
    inside = [i for i, time in enumerate(times) if start - 1e-3 <= time < start + length - 1e-3]
    assert list(range(found.start, found.stop)) == (
        inside or [max(i for i, time in enumerate(times) if time <= start + 1e-3)]
    )


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        (0, 2, 0, 49),
        (0.4, 1.2, 10, 29),
        (0.41, 1.21, 11, 30),
        (0.4, 0.4, 10, 10),
        (0.41, 0.43, 10, 10),
        (1.9, 9, 48, 49),
    ],
)
def test_a_segment_is_the_frames_of_its_film(film: Path, start: float, end: float, first: int, last: int) -> None:
    with open_video(film) as whole, open_video(VideoSegment(file=film, start=start, end=end)) as part:
        assert len(part) == last - first + 1
        assert part.times == pytest.approx(np.arange(len(part)) / 25)
        numbers = np.arange(len(part))
        assert torch.equal(part.read(numbers), whole.read(numbers + first))
        assert [i for i, _ in part.frames(numbers[::2])] == numbers[::2].tolist()
        assert (part.info.frames, part.info.width, part.info.fps) == (len(part), 48, 25)
        assert part.info.duration == pytest.approx(len(part) / 25)
        with pytest.raises(ValueError, match=f"frame {len(part)} is outside"):
            part.read(np.array([len(part)]))


def test_what_begins_behind_the_end_is_named(film: Path) -> None:
    with pytest.raises(VideoError, match=r"a segment begins at 2\.5 s, and the video lasts 2 s"):
        open_video(VideoSegment(file=film, start=2.5, end=3))


@pytest.mark.parametrize(("start", "end"), [(-1, 1), (2, 1)])
def test_times_in_the_wrong_order_are_refused(start: float, end: float) -> None:
    with pytest.raises(ValueError, match="does not begin before 0, nor end before it begins"):
        VideoSegment(file=Path("a.mp4"), start=start, end=end)


@pytest.mark.parametrize(("text", "start", "end"), [("#t=0.4,1.2", 0.4, 1.2), ("#t=,0:01.5", 0.0, 1.5)])
def test_a_path_names_a_segment(film: Path, text: str, start: float, end: float) -> None:
    found = resolve_source(f"{film}{text}")
    assert found == VideoSegment(file=film, start=start, end=end)
    assert parse_segment(VideoSegment(file=film, start=start, end=end).path) == found
    pre = Preprocessing(frames=4, stride=2, resize=32, crop=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert torch.equal(read_views(f"{film}{text}", pre), read_views(found, pre))


def test_parts_of_a_film_have_names_of_their_own(film: Path) -> None:
    parts = [film, Path(f"{film}#t=0,1"), Path(f"{film}#t=1.5,3.2"), Path("film.tar.mp4")]
    assert [stem_of(part) for part in parts] == ["a film", "a film#t=0,1", "a film#t=1.5,3.2", "film.tar"]


def test_a_file_of_such_a_name_is_a_file(film: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd.mp4#t=0,1"
    (tmp_path / "odd.mp4").write_bytes(film.read_bytes())
    odd.write_bytes(film.read_bytes())
    assert resolve_source(str(odd)) == odd
    assert parse_segment(tmp_path / "none.mp4#t=0,1") is None


def test_a_reversed_segment_in_a_path_is_named(film: Path) -> None:
    with pytest.raises(ValueError, match="does not begin before 0, nor end before it begins"):
        resolve_source(f"{film}#t=2,1")


def test_a_segment_is_played(film: Path) -> None:
    with Playback(f"{film}#t=0.4,1.2") as playing:
        shown = [(seconds, picture()) for seconds, picture in playing]
        assert playing.duration == pytest.approx(19 / 25)
    assert [seconds for seconds, _ in shown] == pytest.approx(np.arange(20) / 25)
    with open_video(film) as whole:
        assert torch.equal(torch.stack([picture for _, picture in shown]), whole.read(np.arange(10, 30)))
