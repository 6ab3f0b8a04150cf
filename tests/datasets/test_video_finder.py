"""Videos that files of segments name are found by path or by name; one that is not, or that could be two, is told."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from dualformer.datasets.samples import DatasetError
from dualformer.datasets.segments.video_finder import VideoFinder, names_in_url, path_in_file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (
        *("film.mp4", "day 1/film.mp4", "day 1/other.mkv", "day 2/other.mkv", "day 2/one.webm", "notes.txt"),
        *("frames/img_00001.jpg", unicodedata.normalize("NFD", "é.mp4"), "day 1/a.mp4", "day 1/a.avi"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["film.mp4"], "film.mp4"),
        (["film"], "film.mp4"),
        (["day 1/film.mp4"], "day 1/film.mp4"),
        (["day 1/film"], "day 1/film.mp4"),
        (["C:\\videos\\day 2\\other.mkv"], "day 2/other.mkv"),
        (["/elsewhere/day 2/other.mkv"], "day 2/other.mkv"),
        (["one"], "day 2/one.webm"),
        (["missing", "v_one", "one"], "day 2/one.webm"),
        (["frames/img_%05d.jpg"], "frames/img_%05d.jpg"),
        (["é"], unicodedata.normalize("NFD", "é.mp4")),
        (["day 1/../day 2/one.webm"], "day 2/one.webm"),
    ],
)
def test_videos_are_found(names: list[str], found: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert VideoFinder().find(names, root / "marks.csv", "here") == root / found
    (root / "marks").mkdir()
    assert VideoFinder(root).find(names, root / "marks" / "marks.csv", "here") == root / found
    monkeypatch.chdir(root)
    assert VideoFinder().find(names, Path("marks.csv"), "here") == root / found


def test_the_given_folder_comes_before_that_of_the_file(root: Path) -> None:
    assert VideoFinder(root / "day 1").find(["film.mp4"], root / "marks.csv", "here") == root / "day 1" / "film.mp4"
    assert VideoFinder(root / "day 1").find(["one"], root / "marks.csv", "here") == root / "day 2" / "one.webm"


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("film.mp4", ""),
        ("C:\\\\videos\\\\day 2\\\\other.mkv", ""),
        ("one", ""),
        ("one.webm", "day 2/one.webm"),
        ("day 3/one.webm", "day 2/one.webm"),
        ("/elsewhere/day 4/one", "day 2/one.webm"),
    ],
)
def test_what_is_taken_instead_is_told(name: str, instead: str, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    finder, marks = VideoFinder(), root / "marks.csv"
    finder.find([name], marks, "here")
    finder.tell_elsewhere(marks)
    what = "1 video is not where its path says, and was found by name"
    assert caplog.messages == ([f"{marks}: {what}: {root / instead} for {name!r}"] if instead else [])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "missing.mp4",
            "here: no video 'missing.mp4' in .*: correct the name, put the video there, or name the folder",
        ),
        ("notes", "no video 'notes'"),
        ("other", "here: the video 'other' could be .*day 1/other.mkv, .*day 2/other.mkv: write its path, or name a"),
        ("day 1/a", "could be .*a.avi, .*a.mp4"),
        ("", "here: the name '' of a video is empty: rename it"),
        ("a\nb", "holds a line break"),
        ("a\0b", "holds a line break or another control character"),
        ("\ud800", "is not text"),
        ("x" * 5000, "no video"),
        ("missing/" * 600 + "x", "no video"),
    ],
)
def test_videos_that_are_not_found(name: str, said: str, root: Path) -> None:
    with pytest.raises(DatasetError, match=said):
        VideoFinder().find([name], root / "marks.csv", "here")


def test_names_that_are_no_text_are_found(tmp_path: Path) -> None:
    name = os.fsdecode(b"f\xff.mp4")
    try:
        (tmp_path / name).touch()
    except OSError:
        pytest.skip("this file system has no such names")
    assert VideoFinder().find([name], tmp_path / "marks.csv", "here") == tmp_path / name


def test_urls() -> None:
    assert names_in_url("a 100%.mp4") == ["a 100%.mp4"]
    assert names_in_url("file:///C:/x/a%20b.mp4")[-1] == "/C:/x/a b.mp4"
    assert names_in_url("https://example.org/a%20b.mp4?token=1#t=2")[-1] == "/a b.mp4"
    assert names_in_url("/data/local-files/?d=x%2Fa%20b.mp4")[1] == "x/a b.mp4"
    assert names_in_url("http://[x.mp4") == ["http://[x.mp4"]


def test_names_for_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert path_in_file(Path("a/film.mp4"), tmp_path) == "a/film.mp4"
    assert path_in_file(Path("a/film.mp4"), Path("a")) == "film.mp4"
    assert path_in_file(Path("a/film.mp4"), tmp_path / "b") == (tmp_path / "a" / "film.mp4").as_posix()
