"""Segments come back from every format as they are, real layouts are read, and what is wrong is named with its line."""

from __future__ import annotations

import logging
import random
import tempfile
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from segment_samples import ACTIVITYNET, ELAN, EPIC, LABEL_STUDIO, SAMPLES, THUMOS_JSON, VIA, Sample

from dualformer.datasets.samples import DatasetError
from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.datasets.segments.segment_format_name import SegmentFormatName
from dualformer.datasets.segments.segment_formats import (
    FORMATS,
    check_names,
    read_segments,
    recognise_format,
    write_segments,
)
from dualformer.segment import Segment
from dualformer.subtitles import sub_rip, web_vtt

FOLDERS = {"thumos", "elan", "audacity", "vtt", "srt"}
"""Formats of several files."""
WITHOUT_EMPTY = {"thumos", "epic-kitchens"}
"""Formats that cannot name a video in which nothing is marked."""
PROBABILITIES = {"csv": 5e-7, "activitynet": 5e-7, "label-studio": 5e-7, "vtt": 0.005, "srt": 0.005}
"""Formats that hold probabilities, and to within how much."""
RATE = 25.0


def annotated(path: Path, *segments: tuple[str, float, float], **more: Any) -> AnnotatedVideo:
    found = tuple(Segment(label=label, start=start, end=end) for label, start, end in segments)
    return AnnotatedVideo(path=path, segments=found, lines=tuple(f"made:{i}" for i in range(len(found))), **more)


def test_every_format_has_a_name_for_the_command_line() -> None:
    assert set(FORMATS) == set(get_args(SegmentFormatName))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_real_layouts(sample: Sample, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = sample.lay_out(tmp_path)
    assert recognise_format(path) == sample.format
    with caplog.at_level(logging.WARNING, "dualformer"):
        found = {video.path: video for video in read_segments(path, **sample.settings)}
    assert list(found) == [tmp_path / name for name in sample.segments]
    for name, expected in sample.segments.items():
        video = found[tmp_path / name]
        read = [
            (s.label, s.start, s.end, s.probability, line.removeprefix(str(path)))
            for s, line in zip(video.segments, video.lines, strict=True)
        ]
        assert read == [(label, start, end, pytest.approx(p), line) for label, start, end, p, line in expected]
    assert bool(caplog.messages) == (sample is LABEL_STUDIO)
    if sample is LABEL_STUDIO:
        assert caplog.messages == [f"1 task that nobody has annotated is left out: {path}:58"]


def test_what_else_files_say_of_videos(tmp_path: Path) -> None:
    train, test = read_segments(ACTIVITYNET.lay_out(tmp_path))
    assert (train.seconds, train.fps, train.split) == (14.07, None, "training")
    assert (test.seconds, test.split) == (92.18, "testing")
    (video,) = read_segments(THUMOS_JSON.lay_out(tmp_path))
    assert (video.seconds, video.fps, video.split) == (16.73, 30, "Validation")
    assert [video.fps for video in read_segments(LABEL_STUDIO.lay_out(tmp_path))] == [25, None, 25]
    csv, empty = read_segments(SAMPLES[0].lay_out(tmp_path))
    assert (csv.fps, csv.split, empty.fps, empty.split) == (25, "train", None, "")


TEXT = st.characters(exclude_categories=("Cc", "Cs", "Cn", "Zl", "Zp"), exclude_characters="/;\\")
names = st.text(TEXT | st.sampled_from(" ',\"%#?&<>é.-_"), min_size=1, max_size=20).map(str.strip)
names = names.filter(lambda name: bool(name) and not name.startswith("."))
labels = names.filter(lambda name: not name.endswith(("_train", "_val", "_test")))
times = st.integers(0, 4_000_000).map(lambda thousandths: thousandths / 1000)


@st.composite
def segments_of(draw: st.DrawFn) -> Segment:
    start = draw(times)
    lasts = draw(st.sampled_from((0, 1, 40)) | st.integers(0, 100_000)) / 1000
    probability = draw(st.sampled_from((1.0, 1.0, 0.0, 0.5, 0.123456)))
    return Segment(label=draw(labels), start=start, end=round(start + lasts, 3), probability=probability)


@st.composite
def videos_of(draw: st.DrawFn) -> list[tuple[str, tuple[Segment, ...]]]:
    """Names of videos in folders, with their segments."""
    stems = draw(st.lists(names, min_size=1, max_size=4, unique_by=str.casefold))
    folders = st.sampled_from(("", "day 1/", "ö, 'x'/"))
    endings = st.sampled_from((".mp4", ".MKV", ".webm"))
    drawn = [
        (f"{draw(folders)}{i}{stem}{draw(endings)}", draw(st.lists(segments_of(), max_size=4)))
        for i, stem in enumerate(stems)
    ]
    return [(name, tuple(found)) for name, found in drawn]


@pytest.mark.parametrize("name", get_args(SegmentFormatName))
@given(drawn=videos_of(), known_rate=st.booleans())
def test_what_is_written_is_read(
    name: SegmentFormatName, drawn: list[tuple[str, tuple[Segment, ...]]], known_rate: bool
) -> None:
    with tempfile.TemporaryDirectory() as home:
        root = Path(home)
        videos: list[AnnotatedVideo] = []
        for place, found in drawn:
            (root / place).parent.mkdir(exist_ok=True)
            (root / place).touch()
            if found or name not in WITHOUT_EMPTY:
                lines = ("",) * len(found)
                rate = RATE if known_rate else None
                videos.append(AnnotatedVideo(path=root / place, segments=found, lines=lines, fps=rate))
        if not videos:
            return
        path = root / ("marks" if name in FOLDERS else f"marks{FORMATS[name].extension}")
        files = write_segments(videos, path, name, frames_per_second=RATE)
        assert all(recognise_format(file) == name for file in files)
        how: dict[str, Any] = {"frames_per_second": RATE} if name == "label-studio" else {}
        read = read_segments(path, videos=root, **how)
        assert sorted(video.path for video in read) == sorted(video.path for video in videos)
        by_path = {video.path: video for video in read}
        for video in videos:
            written, again = list(video.segments), list(by_path[video.path].segments)
            if name in ("elan", "thumos"):  # by tier, by label
                written, again = sorted(written, key=_order), sorted(again, key=_order)
            assert [segment.label for segment in again] == [segment.label for segment in written]
            for one, other in zip(written, again, strict=True):
                assert abs(one.start - other.start) <= _precision(name, other)
                assert abs(one.end - other.end) <= _precision(name, other, end=True)
                assert (one.start == one.end) <= (other.start == other.end)
                expected = one.probability if name in PROBABILITIES else 1.0
                assert abs(expected - other.probability) <= PROBABILITIES.get(name, 0)
        again_path = root / "again" if name in FOLDERS else root / "again" / path.name
        write_segments(read, again_path, name, frames_per_second=RATE)
        assert _rounded(read_segments(again_path, videos=root, **how)) == _rounded(read)


def _precision(name: SegmentFormatName, read: Segment, *, end: bool = False) -> float:
    """In Label Studio, whose times are frames, a range of one frame is a moment."""
    if name != "label-studio":
        return 5.1e-4
    return (1.5 if end and read.start == read.end else 0.5) / RATE + 1e-9


def _rounded(videos: list[AnnotatedVideo]) -> dict[Path, list[Segment]]:
    return {
        video.path: sorted(
            (replace(s, start=round(s.start, 3), end=round(s.end, 3)) for s in video.segments), key=_order
        )
        for video in videos
    }


def _order(segment: Segment) -> tuple[str, float, float, float]:
    return segment.label, segment.start, segment.end, segment.probability


@pytest.mark.parametrize("name", get_args(SegmentFormatName))
@pytest.mark.parametrize(
    ("segment", "said"),
    [
        (("two\nlines", 0, 1), "holds a line break"),
        (("a;b", 0, 1), "separates the labels"),
        ((" a", 0, 1), "begins or ends with a blank"),
        (("", 0, 1), "is empty"),
        (("a\ud800", 0, 1), "is not UTF-8"),
        (("a", 2, 1), "ends before it begins"),
        (("a", -1, 1), "begins before 0"),
        (("a", 0, float("nan")), "no number"),
    ],
)
def test_what_no_file_holds_is_not_written(
    name: SegmentFormatName, segment: tuple[str, float, float], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=f"made:0.*{said}"):
        write_segments([annotated(tmp_path / "film.mp4", segment, fps=25)], tmp_path / "marks", name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", get_args(SegmentFormatName))
def test_names_of_videos_that_no_file_holds(name: SegmentFormatName, tmp_path: Path) -> None:
    video = annotated(tmp_path / "two\nlines.mp4", ("a", 0, 1), fps=25)
    with pytest.raises(DatasetError, match="line break"):
        write_segments([video], tmp_path / "marks", name)
    once = annotated(tmp_path / "film.mp4", ("a", 0, 1), fps=25)
    with pytest.raises(DatasetError, match=r"film\.mp4 is to be written twice"):
        write_segments([once, once], tmp_path / "marks", name)


@pytest.mark.parametrize("name", sorted(set(get_args(SegmentFormatName)) - {"csv", "via", "label-studio"}))
def test_videos_that_their_names_do_not_tell_apart(name: SegmentFormatName, tmp_path: Path) -> None:
    videos = [annotated(tmp_path / place, ("a", 0, 1)) for place in ("a/film.mp4", "b/film.mkv")]
    with pytest.raises(DatasetError, match="would have one name in it: rename one"):
        write_segments(videos, tmp_path / "marks", name)


@pytest.mark.parametrize("name", ["thumos", "epic-kitchens"])
def test_formats_that_cannot_say_that_nothing_happens(name: SegmentFormatName, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nothing is marked in .*film\.mp4.*cannot say: leave it out"):
        write_segments([annotated(tmp_path / "film.mp4")], tmp_path / "marks", name)


@pytest.mark.parametrize("name", FORMATS)
def test_names_are_told_before_times_are_known(name: SegmentFormatName, tmp_path: Path) -> None:
    check_names([tmp_path / "a.mp4", tmp_path / "b.mp4", tmp_path / "c"], ["walk", "run fast"], name)
    with pytest.raises(DatasetError, match=f"the format {name}: the class 'a;b' holds ';'"):
        check_names([tmp_path / "a.mp4"], ["walk", "a;b"], name)
    with pytest.raises(DatasetError, match=rf"^the format {name}: the name .* of a video holds a line break"):
        check_names([tmp_path / "a.mp4", tmp_path / "a\nb.mp4"], ["walk"], name)


def test_what_thumos_label_studio_and_elan_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with pytest.raises(DatasetError, match="made:0: no file can be called after 'a/b'"):
        write_segments([annotated(path, ("a/b", 0, 1))], tmp_path / "marks", "thumos")
    with pytest.raises(DatasetError, match="is of 'b': THUMOS has train, val and test"):
        write_segments([annotated(path, ("a", 0, 1), split="b")], tmp_path / "marks", "thumos")
    with pytest.raises(DatasetError, match=r"the rate of .*film\.mp4 is not known: say it with `frames_per_second`"):
        write_segments([annotated(path, ("a", 0, 1))], tmp_path / "marks.json", "label-studio")
    with pytest.raises(DatasetError, match="made:0: XML cannot hold '\\\\uffff'"):
        write_segments([annotated(path, ("a\uffff", 0, 1))], tmp_path / "marks", "elan")
    with pytest.raises(ValueError, match="`frames_per_second` must be a number more than 0, not 0"):
        write_segments([], tmp_path / "marks.json", "label-studio", frames_per_second=0)


def test_splits_rates_and_lengths_come_back(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.touch()
    video = annotated(path, ("a", 0, 1), split="val", fps=29.97, seconds=12.5)
    formats: dict[SegmentFormatName, set[str]] = {
        "csv": {"split", "fps"},
        "activitynet": {"split", "fps", "seconds"},
        "thumos": {"split"},
        "label-studio": {"fps"},
    }
    for name, kept in formats.items():
        file = tmp_path / name / ("" if name in FOLDERS else f"marks{FORMATS[name].extension}")
        write_segments([video], file, name)
        (read,) = read_segments(file, videos=tmp_path)
        assert {each for each in ("split", "fps", "seconds") if getattr(read, each) == getattr(video, each)} == kept


@pytest.mark.parametrize("prefix", ["/data/local-files/?d=", "https://videos.example.org/a/"])
def test_videos_that_label_studio_finds_by_a_url(prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "day 1" / "50% é?.mp4"
    path.parent.mkdir()
    path.touch()
    video = annotated(path, ("a", 0, 1), fps=25.0)
    write_segments([video], tmp_path / "marks.json", "label-studio", url_prefix=prefix)
    assert f'"video": "{prefix}day%201/50%25%20%C3%A9%3F.mp4"' in (tmp_path / "marks.json").read_text()
    (read,) = read_segments(tmp_path / "marks.json")
    assert (read.path, read.segments) == (path, video.segments)


def test_videos_elsewhere_are_named_so_that_they_are_found(tmp_path: Path) -> None:
    path = tmp_path / "videos" / "50% #é.mp4"
    path.parent.mkdir()
    path.touch()
    video = annotated(path, ("a", 0, 1), fps=25.0)
    formats: tuple[SegmentFormatName, ...] = ("csv", "via", "label-studio", "elan")
    for name in formats:
        file = tmp_path / name / ("" if name in FOLDERS else f"marks{FORMATS[name].extension}")
        write_segments([video], file, name)
        assert [read.path for read in read_segments(file)] == [path]


def test_what_timelines_write_is_read(tmp_path: Path) -> None:
    from dualformer.inference.timeline import segments_csv  # takes long

    (tmp_path / "film.mp4").touch()
    found = [Segment(label="push & pull", start=0, end=1.5, probability=0.88), Segment(label="<b>", start=1.5, end=1.5)]
    for extension, text in ((".csv", segments_csv(found)), (".vtt", web_vtt(found)), (".srt", sub_rip(found))):
        (tmp_path / f"film{extension}").write_text(text)
        (video,) = read_segments(tmp_path / f"film{extension}")
        assert (video.path, list(video.segments)) == (tmp_path / "film.mp4", found)
    (tmp_path / "film.csv").write_text(segments_csv([]))
    assert read_segments(tmp_path / "film.csv")[0].segments == ()


def test_overlapping_segments_are_on_tiers_of_elan_that_hold_them(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.touch()
    write_segments([annotated(path, ("a", 0, 2), ("b", 1, 3), ("c", 2, 3))], tmp_path, "elan")
    first, second = (read_segments(tmp_path / "film.eaf", tiers=[tier])[0] for tier in ("label", "label 2"))
    assert [s.label for s in first.segments] == ["a", "c"]
    assert [s.label for s in second.segments] == ["b"]
    with pytest.raises(DatasetError, match="no tier is called 'x': there is label, label 2"):
        read_segments(tmp_path / "film.eaf", tiers=["x"])


def test_classes_of_epic_kitchens_are_numbered_in_order(tmp_path: Path) -> None:
    path = tmp_path / "P01_02.mp4"
    path.touch()
    write_segments(
        [annotated(path, ("wash cup", 0, 1), ("open door", 1, 2), ("wash", 2, 3), fps=50)],
        tmp_path / "e.csv",
        "epic-kitchens",
    )
    lines = (tmp_path / "e.csv").read_text().splitlines()
    assert lines[1] == (
        "P01_02_0,P01,P01_02,00:00:00.000,00:00:00.000,00:00:01.000,1,51,wash cup,wash,1,cup,1,['cup'],[1]"
    )
    assert lines[3].endswith(",101,151,wash,wash,1,,,[],[]")
    (verbs,) = read_segments(tmp_path / "e.csv", label_columns=["verb"])
    assert [s.label for s in verbs.segments] == ["wash", "open", "wash"]
    with pytest.raises(DatasetError, match="no column 'nouns' in the header"):
        read_segments(tmp_path / "e.csv", label_columns=["nouns"])


def test_folders_of_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "videos" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "videos" / name).touch()
    marks = tmp_path / "marks"
    marks.mkdir()
    with pytest.raises(DatasetError, match=r"no files of segments \(.*\.vtt\) in it: name the folder"):
        read_segments(marks)
    (marks / "Run_val.txt").write_text("a 0 1\nb 2 3\n")
    (marks / "Hit_val.txt").write_text("a 4 5\n")
    (marks / "detclasslist.txt").write_text("7 BaseballPitch\n")
    with caplog.at_level(logging.WARNING, "dualformer"):
        first, second = read_segments(marks, videos=tmp_path / "videos")
    assert [(s.label, s.start) for s in first.segments] == [("Hit", 4), ("Run", 0)]
    assert first.lines == (f"{marks / 'Hit_val.txt'}:1", f"{marks / 'Run_val.txt'}:1")
    assert [(s.label, s.start) for s in second.segments] == [("Run", 2)]
    assert caplog.messages == [f"{marks}: left out as no segments: detclasslist.txt"]
    (marks / "a.vtt").write_text("WEBVTT\n")
    with pytest.raises(DatasetError, match="several formats, thumos, vtt: say which with `format`"):
        read_segments(marks, videos=tmp_path / "videos")
    (only,) = read_segments(marks, videos=tmp_path / "videos", format="vtt")
    assert only.segments == ()
    (marks / "Run_test.txt").write_text("a 0 1\n")
    with pytest.raises(DatasetError, match=r"'a\.mp4' has split=test here, and val in .*Hit_val\.txt:1"):
        read_segments(marks, videos=tmp_path / "videos", format="thumos")
    with pytest.raises(DatasetError, match="no files of the format srt in it"):
        read_segments(marks, format="srt")


def test_files_that_no_format_recognises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file or folder of segments"):
        read_segments(tmp_path / "missing.csv")
    with pytest.raises(FileNotFoundError, match="no such folder of videos"):
        read_segments(EPIC.lay_out(tmp_path), videos=tmp_path / "missing")
    for name, text, said in (
        ("marks.xml", "", r"\.csv, CSV with the columns path,start,end,label; .*; \.srt, SubRip"),
        ("marks.csv", "path,label\na.mp4,b\n", r"\.csv, CSV with .*; \.csv, EPIC-KITCHENS"),
        ("marks.json", '{"a": 1}', r"\(\.json, ActivityNet.*; \.json, a project of VIA 3.*Label Studio"),
        ("marks.txt", "hello\n", r"\(\.txt, a label track of Audacity.*THUMOS"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(
            DatasetError, match=rf"{name}: segments in no format that is known .*{said}.*write it as one"
        ):
            read_segments(tmp_path / name)


def _changed(sample: Sample, old: str, new: str) -> Sample:
    assert old in sample.text
    return replace(sample, text=sample.text.replace(old, new))


def _with_name(name: str) -> Sample:
    return next(sample for sample in SAMPLES if sample.name == name)


_CSV, _FRAMES, _TRACK = _with_name("marks.csv"), _with_name("frames.csv"), _with_name("film.mp4.txt")
_PITCH, _VTT, _SRT = _with_name("BaseballPitch_val.txt"), _with_name("film.vtt"), _with_name("film.srt")


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (_changed(_CSV, "12,5;", "soon;"), ":2: the start 'soon' is no time: write seconds"),
        (_changed(_CSV, "00:15.25", "00:75"), ":2: the end '00:75' is no time: .*less than 60"),
        (_changed(_CSV, "12,5;", "nan;"), ":2: the start 'nan' is no time"),
        (_changed(_CSV, ";hit;", ";;"), ":3: the class '' begins or ends with a blank, or is empty"),
        (_changed(_CSV, "train;25", "train;x"), ":2: fps 'x' is no number"),
        (_changed(_CSV, "train;25", "train;0"), ":2: fps 0.0 of 'film.mp4' is not a number more than 0"),
        (_changed(_CSV, "hit;;train;", "hit;;val;"), r":3: 'film.mp4' has split=val here, and train in .*marks.csv:2"),
        (_changed(_CSV, "empty.mp4;;;;;;", "empty.mp4;;;"), r":5: 4 fields where the header has 7"),
        (_changed(_CSV, "empty.mp4", "other.mp4"), ":5: no video 'other.mp4' in .*put the video there, .*`videos`"),
        (_changed(_CSV, "note", "path"), ":1: column names repeat"),
        (_changed(_CSV, "note", '"path";"two\nlines"'), ":1: column names repeat in .*, path, two lines, split"),
        (_changed(_FRAMES, "50,", "50.5,"), ":2: the start '50.5' is no frame's number"),
        (_changed(_FRAMES, "0.5", "1.5"), ":2: 'walk' has the probability 1.5, which is not from 0 to 1"),
        (_changed(EPIC, "01:00:02.00", "1h"), ":3: '1h' is no time"),
        (_changed(EPIC, "P02_12,00", "P02_13,00"), ":3: no video 'P02_13'"),
        (_changed(ACTIVITYNET, "[0.01,", '["0",'), ": '---9CpRcKoU', annotation 0: the start is '0', and must be"),
        (_changed(THUMOS_JSON, "[4, 5]", "[4]"), ":15: 'segment' has 1 times"),
        (_changed(THUMOS_JSON, "[4, 5]", "[4, NaN]"), ":15: the end is nan, and must be a number"),
        (_changed(THUMOS_JSON, '"label": "BaseballPitch",\n', ""), ":9: 'label' is missing, and must be text"),
        (_changed(THUMOS_JSON, "[0.2, 1.1]", "[0.2, 1.1"), r":12: not JSON \("),
        (_changed(THUMOS_JSON, '"label_id": 0', '"label": "x"'), ":9: 'label' is there twice in one object"),
        (_changed(_PITCH, "  72.80", ""), r":1: 'video_validation_0000266  76.40' is not VIDEO START END|in no format"),
        (_changed(_PITCH, "44.00", "44s"), ":2: '44s' is no time"),
        (_changed(LABEL_STUDIO, '["Hit"]', "[]"), ":14: a region without a label"),
        (_changed(LABEL_STUDIO, '_1.mp4", "fps": 25', '_1.mp4"'), ":9: times are frames: say the `frameRate`"),
        (_changed(LABEL_STUDIO, '"was_cancelled": true', '"a": 0'), ":2: several annotations of one task"),
        (_changed(LABEL_STUDIO, "day%202/film%202.mp4", "x"), ":32: no 'video' in 'data' .url, text.: call the video"),
        (_changed(VIA, '"z": [3, 4]', '"z": [3, "4"]'), ":18: a time is '4', and must be a number"),
        (_changed(VIA, '"1_d": {"vid": "1"', '"1_d": {"vid": "9"'), ":20: there is no view '9'"),
        (_changed(VIA, '"av": {"1": "w"}', '"av": {}'), ":17: a segment without a label"),
        (_changed(VIA, '"fid_list": [2]', '"fid_list": [7]'), ":24: file '7' is missing"),
        (_changed(ELAN, 'TIME_SLOT_REF2="ts2"', 'TIME_SLOT_REF2="ts4"'), ":26: the time slot 'ts4' has no time"),
        (_changed(ELAN, 'TIME_SLOT_REF2="ts2"', 'TIME_SLOT_REF2="ts9"'), ":26: there is no time slot 'ts9'"),
        (_changed(ELAN, 'TIME_VALUE="2250"', 'TIME_VALUE="2.5"'), ":16: the time '2.5' is no number of milliseconds"),
        (_changed(ELAN, 'ANNOTATION_REF="a1"', 'ANNOTATION_REF="a3"'), ":33: it refers to the annotation 'a3'"),
        (_changed(ELAN, "</TIER>\n    <TIER", "</TIER>\n    <TIE"), ":38: not XML"),
        (_changed(ELAN, "ANNOTATION_DOCUMENT", "OTHER"), ":2: 'OTHER' where ELAN has ANNOTATION_DOCUMENT"),
        (_changed(ELAN, 'encoding="UTF-8"', 'encoding="x"'), ":1: (an encoding that cannot be read|not XML)"),
        (_changed(ELAN, "milliseconds", "PAL-frames"), ":6: times are not in milliseconds"),
        (_changed(_TRACK, "3.400000", "3,4,0"), ":3: '3,4,0' is no time"),
        (_changed(_TRACK, "\tpoint", ""), ":1: the class '' begins or ends with a blank, or is empty"),
        (_changed(_VTT, "00:02.000", "2s"), ":6: '2s' is no time: .*correct the line"),
        (_changed(_VTT, "WEBVTT", "WEB"), ":1: not WebVTT"),
        (_changed(_SRT, "01:00:00,000 --> ", ""), ":6: '2' where the times of a cue must be"),
        (replace(_VTT, videos=()), "film.vtt: no video 'film' in "),
        (replace(_VTT, videos=("film.mp4", "film.mkv")), "the video 'film' could be .*mkv, .*mp4: write its path"),
    ],
    ids=lambda value: value.name if isinstance(value, Sample) else value[:24],
)  # fmt: skip
def test_what_is_wrong_is_named_with_file_and_line(sample: Sample, said: str, tmp_path: Path) -> None:
    path = sample.lay_out(tmp_path)
    with pytest.raises(DatasetError, match=said) as caught:
        read_segments(path, **sample.settings)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").touch()
    (tmp_path / "film.srt").write_bytes("1\n00:00:01,000 --> 00:00:02,000\nTür\n".encode("cp1252"))
    with pytest.raises(DatasetError, match=r"film\.srt:3: not UTF-8: save the file in that encoding .*'Tür'"):
        read_segments(tmp_path / "film.srt")
    (tmp_path / "film.srt").write_bytes("1\n00:00:01,000 --> 00:00:02,000\nTür\n".encode("utf-16"))
    assert read_segments(tmp_path / "film.srt")[0].segments[0].label == "Tür"


BOMB = """<?xml version="1.0"?>
<!DOCTYPE ANNOTATION_DOCUMENT [
  <!ENTITY a0 "{text}">
{entities}
]>
<ANNOTATION_DOCUMENT><HEADER/><TIER TIER_ID="t">&a30;</TIER></ANNOTATION_DOCUMENT>
"""


@pytest.mark.parametrize(
    "text",
    [
        BOMB.format(
            text="x" * 1000,
            entities="\n".join(f'  <!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(30)),
        ),
        BOMB.format(text="x", entities='  <!ENTITY a30 SYSTEM "file:///etc/hostname">'),
        '<!DOCTYPE ANNOTATION_DOCUMENT SYSTEM "http://127.0.0.1:1/x.dtd">\n<ANNOTATION_DOCUMENT/>',
    ],
)
def test_xml_that_defines_entities_is_refused_before_they_take_memory(text: str, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").touch()
    (tmp_path / "film.eaf").write_text(text)
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match=r"film\.eaf:[12]: a document type \(DTD\)"):
            read_segments(tmp_path / "film.eaf")
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '[{"data": {"video": ' + "9" * 5000 + "}}]",
        '[{"data": {"video": "\\ud800.mp4"}, "annotations": [{"result": []}]}]',
        '[{"data": {"video": "a\\u0000.mp4"}, "annotations": [{"result": []}]}]',
        '[{"data": {"video": "' + "a" * 5000 + '.mp4"}, "annotations": [{"result": []}]}]',
        '[{"data": {"video": "http://[x.mp4"}, "annotations": [{"result": []}]}]',
        '[{"data": {"video": ""}, "annotations": [{"result": []}]}]',
        '{"database": {"film": {"duration": ' + "9" * 400 + "}}}",
        '{"database": {"film": {"duration": 1e999}}}',
        '{"database": {"film": {"annotations": [{"segment": [true, 1], "label": "x"}]}}}',
        '{"database": ' * 90_000,
    ],
)
def test_json_that_breaks_parsers(text: str, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").touch()
    (tmp_path / "marks.json").write_text(text)
    with pytest.raises(DatasetError, match=r"marks\.json"):
        read_segments(tmp_path / "marks.json")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_broken_files_are_answered(sample: Sample, tmp_path: Path) -> None:
    path = sample.lay_out(tmp_path)
    data, draw = path.read_bytes(), random.Random(0)
    pieces = [bytes([byte]) for byte in b"\0\xff\"'\n\t,;{}[]<>&:-\\%/\r"]
    pieces += [b"", b"\\ud800", b"null", b"-1e999", b"9" * 30, b"NaN", "é\u2028".encode()]
    broken = [data[: len(data) * cut // 40] for cut in range(40)]
    for _ in range(160):
        first = draw.randrange(len(data))
        last = min(len(data), first + draw.choice((0, 1, 1, 2, 8, 40)))
        broken.append(data[:first] + draw.choice(pieces) + data[last:])
    answers = 0
    for content in broken:
        path.write_bytes(content)
        for chosen in (None, sample.format):
            try:
                read_segments(path, format=chosen, **sample.settings)
            except DatasetError as error:
                answers += 1
                assert str(path) in str(error)
                assert "\n" not in str(error)
    assert answers > 20
