"""Timelines: known changes are found where they are, of rendered motions by the weights that come with the package."""

import csv
import json
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dualformer.inference.recognizer import Recognizer
from dualformer.inference.timeline import (
    Timeline,
    read_timeline,
    read_window_scores,
    timeline_json,
    write_timeline_files,
)
from dualformer.inference.timeline_drawing import draw_timeline, write_labelled_video
from dualformer.video.container import VideoError
from dualformer.video.encode import write_image, write_video
from dualformer.video.pyav_reader import PyAVReader
from dualformer.weights.segment_settings import SegmentSettings
from made_films import colour_recognizer, coloured, moving, write_variable

PHASES = [("red", 90), ("green", 61), ("black", 50), ("blue", 83), ("green", 40)]


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("colours") / "colours.mp4"
    write_video(path, coloured(PHASES), fps=25, crf=0)
    return path


@pytest.fixture(scope="module")
def timeline(colours: Path) -> Timeline:
    return read_timeline(colour_recognizer(), colours, background=("black",))


def test_changes_are_found_within_one_hop(timeline: Timeline) -> None:
    hop = 8 / 25  # half of 8 frames x stride 2
    assert timeline.clip == pytest.approx(16 / 25)
    assert np.diff(timeline.bounds)[:-1] == pytest.approx(hop)
    assert (timeline.seconds, timeline.frames) == (pytest.approx(324 / 25), 324)
    truth, start = [], 0
    for name, frames in PHASES:
        if name != "black":
            truth.append((name, start / 25, (start + frames) / 25))
        start += frames
    assert [segment.label for segment in timeline.segments] == [name for name, _, _ in truth]
    for segment, (_, begins, ends) in zip(timeline.segments, truth, strict=True):
        assert abs(segment.start - begins) <= hop
        assert abs(segment.end - ends) <= hop
        assert segment.probability > 0.8


@pytest.mark.parametrize("hop", [None, 0.5])
def test_motions_of_a_rendered_film_are_found_within_one_hop(tmp_path: Path, hop: float | None) -> None:
    phases = [((1, 0), "right", 85), ((0, 1), "down", 77), ((-1, 0), "left", 93)]
    write_video(tmp_path / "film.mp4", moving([(*way, frames) for way, _, frames in phases]), fps=16)
    timeline = Recognizer.load("rendered", device="cpu").timeline(tmp_path / "film.mp4", hop=hop)
    changes = np.cumsum([0, *(frames for _, _, frames in phases)]) / 16
    assert [segment.label for segment in timeline.segments] == [name for _, name, _ in phases]
    for segment, start, end in zip(timeline.segments, changes, changes[1:], strict=False):
        assert abs(segment.start - start) <= (hop or 1.0)
        assert abs(segment.end - end) <= (hop or 1.0)
        assert segment.probability > 0.7


def test_a_clip_says_the_same_in_a_timeline_and_by_itself(colours: Path) -> None:
    recognizer = colour_recognizer(frames=8, stride=2)
    timeline = read_timeline(recognizer, colours, hop=16 / 25, window=0.01)  # each stretch has a clip of its own
    with PyAVReader(colours) as reader:
        for place in (0, 3, 5, 9, 15):
            clip = reader.read(np.arange(place * 16, place * 16 + 16, 2))
            np.testing.assert_allclose(
                timeline.probabilities[place], recognizer.predict_views(clip[None])[0], atol=1e-6
            )


def test_smoothing_averages_the_clips_around_a_stretch(colours: Path) -> None:
    recognizer = colour_recognizer()
    two = read_timeline(recognizer, colours).probabilities
    four = read_timeline(recognizer, colours, window=2 * 16 / 25).probabilities
    with PyAVReader(colours) as reader:
        clips = [reader.read(np.arange(place * 8, place * 8 + 16, 2)) for place in range(20)]
    each = recognizer.predict_views(torch.stack(clips))
    for place in range(2, 18):  # frame 90 is the first green one, in stretch 11
        np.testing.assert_allclose(two[place], each[place - 1 : place + 1].mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(four[place], each[place - 2 : place + 2].mean(axis=0), atol=1e-6)
    assert np.abs(np.diff(four[:, 0])).max() < np.abs(np.diff(two[:, 0])).max()


def test_a_variable_rate_is_told_by_the_clock(tmp_path: Path) -> None:
    frames = list(coloured([("red", 100), ("green", 40)]))
    times = [*(i * 0.02 for i in range(100)), *(2 + i * 0.1 for i in range(40))]  # 50, then 10 frames a second
    write_variable(tmp_path / "v.mkv", frames, times)
    timeline = read_timeline(colour_recognizer(frames=4, stride=1, fps=10.0), tmp_path / "v.mkv", hop=0.2)
    assert [s.label for s in timeline.segments] == ["red", "green"]
    assert timeline.segments[0].end == pytest.approx(2, abs=0.2)
    assert timeline.seconds == pytest.approx(5.9 + 5.9 / 139, abs=0.01)
    write_labelled_video(timeline, tmp_path / "burnt.mp4")
    with PyAVReader(tmp_path / "burnt.mp4") as reader:
        when = [
            i / reader.info.fps for i, frame in enumerate(reader.read(np.arange(len(reader)))) if frame[0, 0, 1] > 120
        ]
        assert when[0] == pytest.approx(2, abs=1.5 / reader.info.fps), "frames are shown when they were"


def test_several_labels_overlap(colours: Path) -> None:
    timeline = read_timeline(colour_recognizer(multi_label=True), colours, threshold=0.2)
    assert timeline.multi_label
    red, green = timeline.segments[:2]
    assert (red.label, green.label) == ("red", "green")
    assert green.start < red.end


def test_a_video_shorter_than_a_clip_and_a_picture(tmp_path: Path) -> None:
    write_video(tmp_path / "short.mp4", coloured([("blue", 5)]), fps=25)
    timeline = read_timeline(colour_recognizer(), tmp_path / "short.mp4")
    assert [(s.label, s.start, round(s.end, 3)) for s in timeline.segments] == [("blue", 0, 0.2)]
    assert timeline.clips == 1
    write_image(tmp_path / "one.png", next(coloured([("green", 1)])))
    assert [s.label for s in read_timeline(colour_recognizer(), tmp_path / "one.png").segments] == ["green"]


def test_what_breaks_off_gives_what_was_there(shared: Path, tmp_path: Path) -> None:
    timeline = read_timeline(colour_recognizer(), shared / "videos" / "corrupt_after_28_of_50.mp4")
    assert timeline.frames == 28
    assert timeline.error is not None and "frame 28" in timeline.error
    write_labelled_video(timeline, tmp_path / "burnt.mp4")
    with PyAVReader(tmp_path / "burnt.mp4") as reader:
        assert len(reader) == 28
    for name in ("zero_bytes.webm", "audio_only.mp4", "truncated_no_moov.mp4"):
        with pytest.raises(VideoError):
            read_timeline(colour_recognizer(), shared / "videos" / name)
    with pytest.raises(FileNotFoundError):
        read_timeline(colour_recognizer(), tmp_path / "absent.mp4")


def test_settings_that_do_not_go_together(colours: Path) -> None:
    recognizer = colour_recognizer()
    with pytest.raises(ValueError, match="none of the classes"):
        read_timeline(recognizer, colours, background=("purple",))
    with pytest.raises(ValueError, match="window must be positive"):
        read_timeline(recognizer, colours, window=-1)
    with pytest.raises(ValueError, match="leaves out"):
        read_timeline(recognizer, colours, hop=5)
    with pytest.raises(ValueError, match="probability"):
        read_timeline(recognizer, colours, threshold=2)


def test_progress_ends_at_the_end(colours: Path) -> None:
    told: list[tuple[float, float | None]] = []
    read_timeline(colour_recognizer(), colours, progress=lambda done, total: told.append((done, total)))
    assert np.diff([done for done, _ in told]).min() > -1e-6
    assert told[-1] == (pytest.approx(12.96), pytest.approx(12.96))
    assert all(total == pytest.approx(12.96, abs=0.1) for _, total in told)


def test_the_files_say_the_same(timeline: Timeline, tmp_path: Path) -> None:
    paths = write_timeline_files(timeline, tmp_path, "film")
    assert [path.name for path in paths] == ["film.csv", "film.json", "film.windows.csv", "film.vtt", "film.srt"]
    content = json.loads((tmp_path / "film.json").read_text())
    assert content == json.loads(json.dumps(timeline_json(timeline)))
    assert content["clips"] == timeline.clips and content["error"] is None
    with (tmp_path / "film.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["label"], float(row["start"])) for row in rows] == [
        (segment["label"], segment["start"]) for segment in content["segments"]
    ]
    assert (tmp_path / "film.vtt").read_text().count(" --> ") == len(rows)
    web, sub_rip = ((tmp_path / f"film.{ending}").read_text() for ending in ("vtt", "srt"))
    assert sub_rip.startswith("1\n00:00:0") and sub_rip.count(" --> ") == len(rows)
    stamps = re.findall(r"\d\d:\d\d:\d\d,\d{3}", sub_rip)
    assert [stamp.replace(",", ".") for stamp in stamps] == re.findall(r"\d\d:\d\d:\d\d\.\d{3}", web)
    with (tmp_path / "film.windows.csv").open(newline="") as file:
        windows = list(csv.DictReader(file))
    assert len(windows) == len(timeline.probabilities)
    best = timeline.probabilities.argmax(axis=1)
    assert [row["label"] for row in windows] == [timeline.labels[i] for i in best.tolist()]
    assert float(windows[4]["probability"]) == pytest.approx(timeline.probabilities[4].max(), abs=1e-6)


def test_the_picture_shows_segments_where_they_are(timeline: Timeline, tmp_path: Path) -> None:
    draw_timeline(tmp_path / "film.png", timeline)
    picture = np.asarray(Image.open(tmp_path / "film.png").convert("RGB")).astype(int)
    red = np.all(np.abs(picture - np.array([0xCF, 0x22, 0x2E])) < 12, axis=2)
    bars = red.sum(axis=1) > 40  # rows of the picture that hold a bar
    assert np.count_nonzero(np.diff(bars.astype(int)) == 1) == 3, "one row for each colour"
    columns = np.flatnonzero(red.any(axis=0))
    covered = red.any(axis=0)[columns[0] : columns[-1] + 1].mean()
    lasting = sum(s.end - s.start for s in timeline.segments) / timeline.seconds
    assert covered == pytest.approx(lasting, abs=0.02)


def test_burning_draws_the_label_and_leaves_the_rest(timeline: Timeline, colours: Path, tmp_path: Path) -> None:
    write_labelled_video(timeline, tmp_path / "burnt.mp4")
    with PyAVReader(colours) as before, PyAVReader(tmp_path / "burnt.mp4") as after:
        assert len(before) == len(after)
        assert after.info.fps == pytest.approx(25)
        with_label, without = (after.read([i])[0].numpy().astype(int) for i in (20, 175))
        assert np.abs(with_label[:10] - before.read([20])[0].numpy()[:10]).mean() < 8
        assert (with_label[-12:].max(axis=2) < 120).any() and (with_label[-12:].min(axis=2) > 100).any()
        assert np.abs(without - before.read([175])[0].numpy()).mean() < 8, "nothing happens there"


def test_the_card_says_how_timelines_are_read_unless_arguments_do(colours: Path) -> None:
    recognizer = colour_recognizer()
    found = SegmentSettings(hop=0.4, window=0.9, threshold=0.7, shortest=0.2, background=("black",))
    recognizer.card = replace(recognizer.card, timeline=found)
    timeline = read_timeline(recognizer, colours)
    assert timeline.settings == found
    assert (timeline.window, np.diff(timeline.bounds)[0]) == (0.9, pytest.approx(0.4))
    same = read_timeline(colour_recognizer(), colours, **vars(found))
    assert same.segments == timeline.segments
    other = read_timeline(recognizer, colours, threshold=0.1, background=(), hop=0.16)
    assert other.settings == replace(found, threshold=0.1, background=(), hop=0.16)


@pytest.mark.parametrize(("hop", "step"), [(0.16, 2), (0.16, 3), (0.16, 4), (0.21, 3), (None, 1)])
@pytest.mark.parametrize("frames", [324, 40, 9, 32])
def test_every_nth_clip_is_what_a_longer_hop_reads(tmp_path: Path, hop: float | None, step: int, frames: int) -> None:
    write_video(tmp_path / "v.mp4", islice(coloured(PHASES), frames), fps=25, crf=0)
    recognizer = colour_recognizer()
    scores, summary = read_window_scores(recognizer, tmp_path / "v.mp4", hop=hop)
    some, fewer = scores.every(step, summary)
    timeline = some.timeline(recognizer, fewer, SegmentSettings(), source="v")
    expected = read_timeline(recognizer, tmp_path / "v.mp4", hop=hop and step * hop)
    np.testing.assert_array_equal(timeline.bounds, expected.bounds)
    np.testing.assert_array_equal(timeline.probabilities, expected.probabilities)
    assert (timeline.segments, timeline.clips) == (expected.segments, expected.clips)


def bounds_of(timeline: Timeline) -> list[float]:
    return [time for segment in timeline.segments for time in (segment.start, segment.end)]


def test_a_temporal_head_finds_changes_within_a_step(colours: Path, timeline: Timeline) -> None:
    steps = read_timeline(colour_recognizer(head="temporal"), colours, background=("black",))
    step = 4 / 25  # two frames, two apart
    assert np.diff(steps.bounds)[:-1] == pytest.approx(step)
    assert (steps.window, steps.clip) == (pytest.approx(step), pytest.approx(timeline.clip))
    truth = [0, 90 / 25, 90 / 25, 151 / 25, 201 / 25, 284 / 25, 284 / 25, 324 / 25]
    assert [each.label for each in steps.segments] == ["red", "green", "blue", "green"]
    errors = np.abs(np.subtract(bounds_of(steps), truth))
    assert errors.max() <= step
    assert np.median(errors) < np.median(np.abs(np.subtract(bounds_of(timeline), truth)))
    finer = read_timeline(colour_recognizer(head="temporal"), colours, background=("black",), hop=6 / 25)
    assert np.diff(finer.bounds)[2:-2] == pytest.approx(step / 2)  # clips three frames further have other steps


def test_short_actions_are_kept_by_a_temporal_head(tmp_path: Path) -> None:
    """Half a clip of 0.64 s is enough, where other timelines want three quarters."""
    write_video(tmp_path / "short.mp4", coloured([("black", 40), ("red", 10), ("black", 40)]), fps=25, crf=0)
    of_clips = read_timeline(colour_recognizer(), tmp_path / "short.mp4", background=("black",))
    of_steps = read_timeline(colour_recognizer(head="temporal"), tmp_path / "short.mp4", background=("black",))
    assert not of_clips.segments
    assert bounds_of(of_steps) == pytest.approx([40 / 25, 50 / 25], abs=2 / 25 + 1e-6)


def test_the_background_of_a_temporal_head_is_no_segment(colours: Path) -> None:
    labels = ("red", "green", "blue", "background")
    steps = read_timeline(colour_recognizer(head="temporal", labels=labels), colours)
    assert [each.label for each in steps.segments] == ["red", "green", "blue", "green"]
    assert steps.settings.background == ("background",)
    usual = read_timeline(colour_recognizer(labels=labels), colours)
    assert "background" in [each.label for each in usual.segments]  # a class like any other, to weights without it


@pytest.mark.parametrize("frames", [1, 3, 9])
def test_films_shorter_than_a_clip_by_steps(tmp_path: Path, frames: int) -> None:
    write_video(tmp_path / "short.mp4", coloured([("green", frames)]), fps=25, crf=0)
    steps = read_timeline(colour_recognizer(head="temporal"), tmp_path / "short.mp4", shortest=0.0)
    assert [each.label for each in steps.segments] == ["green"]
    assert bounds_of(steps) == pytest.approx([0, 1.0 if frames == 1 else frames / 25])


def test_every_nth_clip_by_steps_is_what_a_longer_hop_reads(colours: Path) -> None:
    recognizer = colour_recognizer(head="temporal")
    fine, summary = read_window_scores(recognizer, colours, hop=0.16)
    coarse, end = read_window_scores(recognizer, colours, hop=0.32)
    settings = SegmentSettings(background=("black",))
    some, shown = fine.every(2, summary)
    one = some.timeline(recognizer, shown, settings, source="x")
    other = coarse.timeline(recognizer, end, settings, source="x")
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    np.testing.assert_array_equal(one.bounds, other.bounds)
