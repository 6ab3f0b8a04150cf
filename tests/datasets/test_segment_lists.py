"""Lists of segments of long videos: read, split, given a background, trained on as if they were cut to files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dualformer.cli.main import main
from dualformer.datasets.clip_datasets import TrainingClips, ViewClips
from dualformer.datasets.csv_list import read_csv, read_paths
from dualformer.datasets.data_source import survey
from dualformer.datasets.row_table import select
from dualformer.datasets.samples import DatasetError, SegmentSample, VideoList
from dualformer.datasets.segments.background import add_background, gaps
from dualformer.datasets.segments.segment_format_name import SegmentFormatName
from dualformer.datasets.segments.segment_formats import read_segments, write_segments
from dualformer.datasets.segments.segment_list import problems_of_segments, read_recordings, read_segment_table
from dualformer.datasets.split_file import write_split
from dualformer.datasets.splits import open_splits, open_videos
from dualformer.datasets.video_digests import video_digests
from dualformer.training.open_source import open_source
from dualformer.training.settings.train_config import TrainConfig
from dualformer.video.augmentation import Augmentation
from dualformer.video.encode import write_video
from dualformer.video.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five films of 60 frames at 25 a second."""
    folder = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(0)
    for number in range(5):
        frames = rng.integers(0, 256, (60, 4, 4, 3), dtype=np.uint8)
        write_video(folder / f"film{number}.mp4", frames.repeat(8, 1).repeat(8, 2), fps=25)
    return folder


def listed(folder: Path, lines: str, header: str = "path,start,end,label") -> Path:
    path = folder / "segments.csv"
    path.write_text(f"{header}\n{lines}")
    return path


ALL = "".join(f"film{n}.mp4,{s},{s + 0.5},{label}\n" for n in range(5) for s, label in ((0, "sit"), (0.7, "run")))


def test_rows_are_segments(films: Path) -> None:
    videos = select(read_csv(listed(films, "film0.mp4,0:00.4,1.2,run\nfilm0.mp4,1,1.5,sit\nfilm1.mp4,,,run\n")))
    assert videos.classes == ("run", "sit")
    first, second, whole = videos.samples
    assert isinstance(first, SegmentSample) and (first.segment.start, first.segment.end) == (0.4, 1.2)
    assert first.recording == second.recording == films / "film0.mp4" and whole.path == films / "film1.mp4"
    assert first.name == "film0.mp4#t=0.4,1.2" and videos.kind == "videos"
    assert videos.subset([0, 1]).kind == "segments"
    digests = video_digests(sample.file for sample in videos.samples)
    assert len(set(digests)) == 3 and None not in digests


def test_videos_of_segments_are_found_by_their_names(films: Path, tmp_path: Path) -> None:
    """As in files of all other formats; those that are nowhere are where their paths say."""
    (tmp_path / "videos").mkdir()
    shutil.copy(films / "film0.mp4", tmp_path)
    shutil.copy(films / "film1.mp4", tmp_path / "videos")
    path = listed(tmp_path, "film0,0,1,run\nelsewhere/film1.mp4,0,1,sit\nfilm1,,,run\n")
    first, second, whole = select(read_csv(path)).samples
    assert isinstance(first, SegmentSample) and isinstance(second, SegmentSample)
    assert (first.segment.file, second.segment.file) == (tmp_path / "film0.mp4", tmp_path / "videos" / "film1.mp4")
    assert whole.path == tmp_path / "videos" / "film1.mp4"
    with pytest.raises(DatasetError, match="csv:2: 1 of 1 files do not exist: film7"):
        read_csv(listed(tmp_path, "film7,0,1,run\n"))


def test_times_may_be_numbers_of_frames(films: Path) -> None:
    videos = open_videos(listed(films, "film0.mp4,10,30,run\nfilm0.mp4,0:01,0:01.5,sit\n"), frames_per_second=25)
    assert [s.segment.times for s in videos.samples if isinstance(s, SegmentSample)] == ["#t=0.4,1.2", "#t=1,1.5"]
    with pytest.raises(DatasetError, match=r":2: the start '0\.4' is no frame's number"):
        open_videos(listed(films, "film0.mp4,0.4,30,run\n"), frames_per_second=25)


def test_a_rate_of_no_segments_is_refused(films: Path) -> None:
    whole = listed(films, "film0.mp4,run\nfilm1.mp4,sit\n", "path,label")
    for data in (whole, films):
        with pytest.raises(ValueError, match=r"`frames_per_second` is of the times of segments, and .* has none"):
            open_videos(data, frames_per_second=25)


def test_lists_stand_for_their_videos_or_their_segments(films: Path) -> None:
    path = listed(films, "film0.mp4,0.4,1.2,run\nfilm0.mp4,1,1.5,sit\n")
    assert read_paths(path) == [films / "film0.mp4"]
    assert read_paths(path, segments=True) == [films / "film0.mp4#t=0.4,1.2", films / "film0.mp4#t=1,1.5"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("film0.mp4,1,0.5,run\n", ":2: the segment ends at 0.5, before it begins at 1"),
        ("film0.mp4,0,1,run\nfilm0.mp4,x,1,run\n", ":3: the start 'x' is no time: write seconds"),
        ("film0.mp4,0,,run\n", ":2: the end is empty: give start and end, or neither for all of a video"),
        ("film0.mp4,-1,1,run\n", ":2: the segment begins at -1, before the video does"),
        ("film0.mp4,0,1,run\nfilm0.mp4,0,1,sit\n", ":3: film0.mp4 is listed already in line 2, as 'run'"),
        ("film9.mp4,0,1,run\n", "1 of 1 files do not exist: film9.mp4"),
    ],
)
def test_bad_rows_are_named_by_their_line(films: Path, lines: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_csv(listed(films, lines))


WRONG = "film0.mp4,1,0.5,run\nfilm0.mp4,0,1,run\nfilm1.mp4,2,1,sit\nfilm1.mp4,-1,1,sit\nfilm1.mp4,0,9,sit\n"


def test_one_error_counts_all_segments_whose_times_cannot_be(films: Path) -> None:
    path = listed(films, WRONG)
    with pytest.raises(
        DatasetError, match=r"csv:2: the segment ends .* at 1; 2 more are wrong: `dualformer check` nam"
    ):
        open_videos(path)
    with pytest.raises(DatasetError, match=r"csv:2: .*; 2 more are wrong: `dualformer check` names all"):
        read_paths(path, segments=True)
    assert read_paths(path) == [films / "film0.mp4", films / "film1.mp4"]
    two = listed(films, "film0.mp4,1,0.5\nfilm1.mp4,2,1\n", "path,start,end")
    assert read_paths(two) == [films / "film0.mp4", films / "film1.mp4"]
    marks = films / "marks.json"
    write = '{"database": {"film0": {"subset": "training", "annotations": [%s]}}}'
    marks.write_text(write % ", ".join(f'{{"label": "{a}", "segment": [{b}, 1]}}' for a, b in (("x", 2), ("y", 3))))
    with pytest.raises(DatasetError, match=r"'x' ends at 1 s, .*; 1 more is wrong: `dualformer check` names all"):
        read_segment_table(marks)


def test_a_check_names_every_segment_that_is_wrong(
    films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = listed(films, WRONG)
    assert main(["check", str(path), "--out", str(tmp_path / "m.csv"), "--workers", "1"]) == 1
    said = capsys.readouterr().out
    assert "2 good" in said and f"not laid out to train on: {path}:2: the segment ends at 0.5" in said
    wrong = [line.removeprefix(f"segment: {path}:") for line in said.splitlines() if line.startswith("segment: ")]
    assert [each.partition(",")[0] for each in wrong] == [
        "2: the segment ends at 0.5", "4: the segment ends at 1", "5: the segment begins at -1", "6: 'sit' ends at 9 s",
    ]  # fmt: skip
    path = listed(films, "film0.mp4,1,0.5,run\n")
    assert main(["check", str(path), "--out", str(tmp_path / "m.csv"), "--workers", "1", "--json"]) == 1
    [wrong] = json.loads(capsys.readouterr().out)["segments"]
    assert wrong == f"{path}:2: the segment ends at 0.5, before it begins at 1"


def test_a_film_that_is_found_by_its_name_is_told_once(
    films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "old").mkdir()
    for number in range(2):
        shutil.copy(films / f"film{number}.mp4", tmp_path / "old")
    path = listed(tmp_path, "new/film0.mp4,0,1,run\nnew/film0.mp4,1,2,sit\nold/film1.mp4,0,1,run\n")
    assert main(["check", str(path), "--out", str(tmp_path / "m.csv"), "--workers", "1"]) == 0
    told = f"found by name: {tmp_path}/old/film0.mp4 for 'new/film0.mp4'"
    assert caplog.messages == [f"{path}: 1 video is not where its path says, and was {told}"]


def test_an_unmarked_video_has_no_row(films: Path) -> None:
    table = read_csv(listed(films, "film0.mp4,0,1,run\nfilm1.mp4,,,\nfilm2.mp4,0,1,sit\n"))
    assert [row.video.name for row in table.rows] == ["film0.mp4", "film2.mp4"]
    with pytest.raises(DatasetError, match=":2: the label is empty"):
        read_csv(listed(films, "film1.mp4,0,1,\n"))


@pytest.mark.parametrize("kind", ["activitynet", "elan", "audacity", "via", "vtt"])
def test_segments_of_every_format_are_split_alike(films: Path, kind: SegmentFormatName) -> None:
    expected = open_splits(listed(films, ALL), seed=3)
    videos = read_segments(films / "segments.csv")
    made = films / f"{kind}.json"
    data = str(made)
    if len(write_segments(videos, films / kind if kind in ("elan", "audacity", "vtt") else made, kind)) > 1:
        data = f"segments:{films / kind}"
        for film in films.glob("*.mp4"):
            (films / kind / film.name).symlink_to(film)
    splits = open_splits(data, seed=3)
    for one, other in ((splits.train, expected.train), (splits.val, expected.val)):
        assert one.classes == other.classes
        assert sorted((s.name, s.label) for s in one.samples) == sorted((s.name, s.label) for s in other.samples)
    assert not problems_of_segments(data, dict.fromkeys(films.glob("*.mp4"), 2.4))
    found = survey(data)
    assert len(found.paths) == 5 and found.trainable and "2 classes, segments: " in found.description


def test_what_is_wrong_is_found_by_a_check(films: Path) -> None:
    path = listed(films, "film0.mp4,0,1,run\nfilm0.mp4,0.5,9,run\n")
    problems = problems_of_segments(path, {films / "film0.mp4": 2.4})
    assert any(":3: 'run' ends at 9 s, and 'film0.mp4' lasts 2.4 s" in problem for problem in problems)
    assert problems_of_segments(listed(films, "film0.mp4,run\n", "path,label"), {}) == []


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_csv_file_of_epic_kitchens_is_data_whatever_separates_its_columns(tmp_path: Path, separator: str) -> None:
    for name in ("P01_01", "P02_01"):
        write_video(tmp_path / f"{name}.mp4", np.zeros((50, 32, 32, 3), dtype=np.uint8), fps=25)
    rows = [["video_id", "start_timestamp", "stop_timestamp", "verb", "noun"]]
    rows += [[name, "00:00:00.20", "00:00:01.00", verb, "cup"] for name in ("P01_01", "P02_01") for verb in ("a", "b")]
    (tmp_path / "epic.csv").write_text("".join(f"{separator.join(row)}\n" for row in rows))
    videos = open_videos(tmp_path / "epic.csv")
    assert videos.classes == ("a cup", "b cup") and videos.kind == "segments" and len(videos) == 4


def test_a_check_reads_lists_as_training_does(films: Path) -> None:
    """Whole videos, several labels, and videos that are not there, which decoding them has told."""
    lines = "film0.mp4,0,9,run;sit\nfilm1.mp4,,,run\nfilm9.mp4,0,1,sit\nfilm8.mp4,3,3.5,run\n"
    problems = problems_of_segments(listed(films, lines), {films / f"film{n}.mp4": 2.4 for n in range(2)})
    assert [problem.partition(" ends")[0].rpartition("/")[2] for problem in problems] == [
        "segments.csv:2: 'run'",
        "segments.csv:2: 'sit'",
    ]


def test_no_video_is_on_both_sides(films: Path) -> None:
    for seed in range(5):
        splits = open_splits(listed(films, ALL), seed=seed)
        sides = [{sample.recording for sample in part.samples} for part in (splits.train, splits.val)]
        assert not sides[0] & sides[1] and len(splits.val) == 2
    folds = [open_splits(listed(films, ALL), folds=5, fold=fold + 1).val for fold in range(5)]
    assert sorted(len({sample.recording for sample in val.samples}) for val in folds) == [1] * 5


def test_people_of_one_film_are_on_one_side(films: Path) -> None:
    """Of five films with two people each, the first two have one in common."""
    lines = "".join(
        f"film{n}.mp4,{s},{s + 0.5},{label},{who}\n"
        for n, people in enumerate(("ab", "bc", "de", "fg", "hi"))
        for s, label, who in zip((0, 0.7, 1.2, 1.8), ("sit", "run", "sit", "run"), people * 2, strict=True)
    )
    path = listed(films, lines, "path,start,end,label,who")
    for folds in (0, 3):
        for seed in range(4):
            splits = open_splits(path, group="who", seed=seed, folds=folds, fold=min(folds, 2))
            sides = [{sample.recording.name for sample in part.samples} for part in (splits.train, splits.val)]
            assert not sides[0] & sides[1]
            assert len({"film0.mp4", "film1.mp4"} & sides[0]) in (0, 2)
            assert "no who on both sides, 9 of them joined to 4 as some share recordings" in splits.description
    inside = open_splits(path, group="segment")
    assert "joined" not in inside.description and len(inside.val) == 4


def test_splits_inside_videos_are_asked_for(films: Path) -> None:
    one = listed(films, "".join(f"film0.mp4,{n / 5},{n / 5 + 0.2},{'run' if n % 2 else 'sit'}\n" for n in range(10)))
    with pytest.raises(DatasetError, match=r"all segments of class .* are of one video.*`group=segment`"):
        open_splits(one)
    splits = open_splits(one, group="segment")
    assert len(splits.train) == 8 and len(splits.val) == 2
    config = TrainConfig(data=str(one), group="segment", start="random", frames=4, size=32)
    assert "1 video has segments in train and in val (film0.mp4)" in open_source(config).warnings[0]
    assert not open_source(config.replace(data=str(listed(films, ALL)), group=None)).warnings


def test_a_written_split_is_read_back(films: Path, tmp_path: Path) -> None:
    splits = open_splits(listed(films, ALL))
    write_split(tmp_path / "split.csv", splits)
    again = open_splits(tmp_path / "split.csv")
    for before, after in ((splits.train, again.train), (splits.val, again.val)):
        assert before.samples == after.samples and before.classes == after.classes
    assert open_videos(tmp_path / "split.csv", on={"split": ("val",)}).samples == splits.val.samples


def test_segments_of_bad_videos_are_left_out(films: Path) -> None:
    splits = open_splits(listed(films, ALL), bad=[films / "film0.mp4", films / "film1.mp4"])
    assert {s.recording.name for part in (splits.train, splits.val) for s in part.samples} == {
        "film2.mp4", "film3.mp4", "film4.mp4",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["activitynet", "audacity"])
def test_missing_videos_are_left_out_by_a_manifest_or_counted_as_wrong(
    films: Path, tmp_path: Path, kind: SegmentFormatName
) -> None:
    names = ("film0.mp4", "film1.mp4", "gone.mp4")
    for name in names:
        shutil.copy(films / "film0.mp4", tmp_path / name)
    lines = "".join(f"{name},0,1,run\n{name},1,2,sit\n" for name in names)
    videos = read_segments(listed(tmp_path, lines))
    file = write_segments(videos, tmp_path if kind == "audacity" else tmp_path / "marks.json", kind)[0]
    data = file if kind == "activitynet" else f"segments:{tmp_path}"
    (tmp_path / "segments.csv").unlink()
    (tmp_path / "gone.mp4").unlink()
    with pytest.raises(DatasetError, match=r": 1 of 3 videos are not there: gone: correct .* \(`manifest`\)"):
        open_splits(data, group="segment")
    found = survey(data)
    (missing,) = (path for path in map(Path, map(str, found.paths)) if not path.exists())
    assert missing.stem == "gone" and len(found.paths) == 3
    splits = open_splits(data, group="segment", bad=[missing])
    assert splits.left_out and splits.left_out.count == 2 and len(splits.train) + len(splits.val) == 4
    recordings, left_out = read_recordings(Path(str(data).removeprefix("segments:")), bad=[missing])
    assert left_out and left_out.count == 1 and [video.path.name for video in recordings] == list(names[:2])
    judged = open_videos(data, missing="wrong")
    assert len(judged) == 4 and [each.path.name for each in judged.missing] == ["gone#t=0,1", "gone#t=1,2"]
    assert judged.missing[0].listed.startswith(f"{tmp_path}/")


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=12), st.integers(1, 60))
def test_gaps_are_what_no_segment_covers(drawn: list[tuple[int, int]], length: int) -> None:
    marked = [(float(start), float(start + lasts)) for start, lasts in drawn]
    found = gaps(marked, float(length))
    for number in range(length):
        middle = number + 0.5
        covered = any(start < middle < end for start, end in marked)
        assert covered != any(start < middle < end for start, end in found)
    assert all(0 <= start < end <= length for start, end in found)
    assert all(one[1] <= other[0] for one, other in pairwise(found))


def test_what_is_unmarked_is_a_class(films: Path) -> None:
    splits = open_splits(listed(films, ALL), background="nothing")
    assert splits.train.classes == splits.val.classes == ("run", "sit", "nothing")
    assert splits.train.counts() == {"run": 4, "sit": 4, "nothing": 4}
    for part in (splits.train, splits.val):
        films_of = {sample.recording for sample in part.samples}
        for sample in part.samples:
            assert isinstance(sample, SegmentSample)
            if sample.label == 2:
                start, end = sample.segment.start, sample.segment.end
                assert sample.recording in films_of
                assert (start, end) == pytest.approx((0.5, 0.7)) or (start >= 1.2 and end - start == pytest.approx(0.5))
    twice = open_splits(listed(films, ALL), background="nothing", background_share=2.0)
    assert twice.train.counts()["nothing"] == 8 and "8 unmarked pieces of them as nothing" in twice.description
    again = open_splits(listed(films, ALL), background="run")
    assert again.train.classes == ("run", "sit") and again.train.counts() == {"run": 8, "sit": 4}


def test_a_background_that_cannot_be_is_refused(films: Path) -> None:
    full = listed(films, "".join(f"film{n}.mp4,0,2.4,{'run' if n % 2 else 'sit'}\n" for n in range(4)))
    with pytest.raises(DatasetError, match=r"nothing in its videos is unmarked for 0\.6 s"):
        open_splits(full, background="nothing")
    whole = listed(films, "".join(f"film{n}.mp4,{'run' if n % 2 else 'sit'}\n" for n in range(4)), "path,label")
    with pytest.raises(ValueError, match="`background` is for segments with one label each"):
        open_splits(whole, background="nothing")
    moments = open_videos(listed(films, "film0.mp4,1,1,run\nfilm1.mp4,1,1,sit\n"))
    with pytest.raises(DatasetError, match="most segments are moments"):
        add_background([moments], {}, "nothing")


@pytest.fixture
def cut_and_whole(tmp_path: Path) -> Iterator[tuple[VideoList, VideoList]]:
    """Segments of a folder of frames, and the same frames as folders of their own."""
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (60, 24, 32, 3), dtype=np.uint8)
    (tmp_path / "film").mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "film" / f"{number:03d}.png")
    whole, cut = "", ""
    for number, (first, last) in enumerate(((0, 20), (17, 40), (40, 60), (25, 31))):
        whole += f"film/%03d.png,{first / 25},{last / 25},{number % 2},25\n"
        (tmp_path / f"clip{number}").mkdir()
        for place, picture in enumerate(pictures[first:last]):
            Image.fromarray(picture).save(tmp_path / f"clip{number}" / f"{place:03d}.png")
        cut += f"clip{number}/%03d.png,{number % 2},25\n"
    (tmp_path / "whole.csv").write_text(f"path,start,end,label,fps\n{whole}")
    (tmp_path / "cut.csv").write_text(f"path,label,fps\n{cut}")
    yield open_videos(tmp_path / "whole.csv"), open_videos(tmp_path / "cut.csv")


@pytest.mark.parametrize("sampling", ["stride", "segments"])
@pytest.mark.parametrize("fps", [None, 10.0])
@pytest.mark.parametrize("cache", [0, 10**9])
def test_segments_give_the_clips_of_files_that_are_cut(
    cut_and_whole: tuple[VideoList, VideoList], sampling: str, fps: float | None, cache: int
) -> None:
    whole, cut = cut_and_whole
    pre = replace(
        Preprocessing(frames=4, stride=2, resize=24, crop=16, fps=fps, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        sampling=sampling,
    )
    ways = [
        TrainingClips(videos, pre, seed=0, augmentation=Augmentation(flip=0.5), cache_bytes=cache)
        for videos in (whole, cut)
    ]
    for epoch in range(3):
        for number in range(4):
            one, other = (clips[epoch, number] for clips in ways)
            assert torch.equal(one["clip"], other["clip"]) and one["label"] == other["label"]
    one, other = (ViewClips(videos, pre, clips=3, crops=3) for videos in (whole, cut))
    for number in range(4):
        assert torch.equal(one[number]["views"], other[number]["views"])
