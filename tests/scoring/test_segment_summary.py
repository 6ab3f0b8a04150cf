"""The figures of predicted segments together: the parts they are made of, and their intervals."""

import json

import numpy as np
import pytest
from made_segments import of_text

from dualformer.scoring.segment_metrics import edit_score, frame_counts, segment_counts
from dualformer.scoring.segment_summary import SegmentScoring, class_segments, segment_summary, video_figures
from dualformer.segment import Segment

TRUE = ["aabbb..cc", "ccccaa", "..bbbb", "aaa...", "bbbaaacc", "a.b.c.aa"]
SAID = ["aaabb..cc", "cccccc", "..bbb.", "aaa..b", "bbbaaccc", "a.b.c.aa"]
TRUTH, PREDICTED = [of_text(text) for text in TRUE], [of_text(text) for text in SAID]
SECONDS = [float(len(text)) for text in TRUE]


def test_what_it_is_made_of() -> None:
    figures = segment_summary(TRUTH, PREDICTED, SECONDS)
    json.dumps(figures, allow_nan=False)
    pairs = list(zip(TRUTH, PREDICTED, strict=True))
    for name, overlap in (("10", 0.1), ("25", 0.25), ("50", 0.5)):
        counts = [segment_counts(*pair, overlap=overlap) for pair in pairs]
        right, wrong, missed = (sum(getattr(each, key) for each in counts) for key in ("right", "wrong", "missed"))
        assert figures["f1_at"][name] == pytest.approx(2 * right / (2 * right + wrong + missed))
    assert figures["edit"] == pytest.approx(np.mean([edit_score(*pair) for pair in pairs]))
    frames = [frame_counts(*pair, seconds=s) for pair, s in zip(pairs, SECONDS, strict=True)]
    assert figures["frame_accuracy"] == pytest.approx(
        sum(each.right for each in frames) / sum(each.frames for each in frames)
    )
    at = figures["average_precision_at"]
    assert list(at) == ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9"]
    assert figures["mean_average_precision"] == pytest.approx(np.mean(list(at.values())))
    assert figures["segments"] == sum(map(len, TRUTH))
    boundary = figures["boundary_error"]
    assert boundary["matched"] + boundary["unmatched"] == figures["segments"]
    for name, figure in [
        ("mean_average_precision", figures["mean_average_precision"]),
        ("f1_at_50", figures["f1_at"]["50"]),
        ("edit", figures["edit"]),
        ("frame_accuracy", figures["frame_accuracy"]),
    ]:
        low, high = figures["intervals"][name]
        assert 0 <= low < figure < high <= 1


def test_other_overlaps_keep_one_half_beside_them() -> None:
    figures = segment_summary(TRUTH, PREDICTED, SECONDS, SegmentScoring(overlaps=(0.3, 0.7)))
    at = figures["average_precision_at"]
    assert list(at) == ["0.3", "0.5", "0.7"]
    assert figures["mean_average_precision"] == pytest.approx((at["0.3"] + at["0.7"]) / 2)


def test_perfect_and_empty_predictions() -> None:
    figures = segment_summary(TRUTH, TRUTH, SECONDS)
    assert [figures[name] for name in ("mean_average_precision", "edit", "frame_accuracy")] == pytest.approx([1] * 3)
    assert set(figures["f1_at"].values()) == {1}
    assert figures["boundary_error"] == {"median": 0, "mean": 0, "matched": figures["segments"], "unmatched": 0}
    figures = segment_summary(TRUTH, [[] for _ in TRUTH], SECONDS)
    assert [figures[name] for name in ("mean_average_precision", "edit", "action_frame_accuracy")] == [0] * 3
    assert set(figures["f1_at"].values()) == {0}
    assert figures["boundary_error"] == {"median": None, "mean": None, "matched": 0, "unmatched": figures["segments"]}
    json.dumps(figures, allow_nan=False)


def test_few_videos_have_no_interval() -> None:
    assert set(segment_summary(TRUTH[:4], PREDICTED[:4], SECONDS[:4])["intervals"].values()) == {None}


def test_intervals_where_most_videos_have_no_segment() -> None:
    truth = [of_text("aabb"), [], [], [], []]
    low, high = segment_summary(truth, truth, [4.0] * 5)["intervals"]["mean_average_precision"]
    assert low == high == pytest.approx(1)


def test_background_and_ambiguous_labels() -> None:
    truth, predicted = [of_text("aaxxbb")], [of_text("aaccbb")]
    assert segment_summary(truth, predicted, [6.0])["f1_at"]["50"] == pytest.approx(4 / 6)
    scoring = SegmentScoring(background=("x", "c"))
    figures = segment_summary(truth, predicted, [6.0], scoring)
    assert (figures["f1_at"]["50"], figures["frame_accuracy"], figures["mean_average_precision"]) == (1, 1, 1)
    scoring = SegmentScoring(ambiguous="x")
    assert segment_summary(truth, [of_text("aa..bb")], [6.0], scoring)["mean_average_precision"] == 1
    assert [each.label for each in class_segments(truth, predicted, scoring)] == ["a", "b", "c"]


def test_classes_and_videos() -> None:
    rows = {each.label: each for each in class_segments(TRUTH, PREDICTED, SegmentScoring())}
    assert {label: (row.segments, row.predicted) for label, row in rows.items()} == {
        "a": (6, 5),
        "b": (4, 5),
        "c": (4, 4),
    }
    true, said = ([[each for each in video if each.label == "b"] for video in videos] for videos in (TRUTH, PREDICTED))
    figures = segment_summary(true, said, SECONDS)
    assert rows["b"].f1 == figures["f1_at"]["50"]
    assert rows["b"].average_precision == figures["average_precision_at"]["0.5"]
    [extra] = class_segments([[]], [[Segment(label="z", start=0, end=1)]], SegmentScoring())
    assert (extra.segments, extra.predicted, extra.f1, extra.average_precision) == (0, 1, 0, None)
    one = video_figures(TRUTH[3], PREDICTED[3], 6.0, SegmentScoring())
    assert (one.counts[0].f1, one.edit, one.boundary_error) == (pytest.approx(2 / 3), 0.5, 0)


def test_numbers_of_videos_agree() -> None:
    with pytest.raises(ValueError, match="of 1, 2 and 1 videos"):
        segment_summary([[]], [[], []], [1.0])
    with pytest.raises(ValueError, match="no true segment"):
        segment_summary([[]], [[]], [1.0])
