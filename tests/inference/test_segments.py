"""Probabilities over time to segments: known cases, and what holds for all."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dualformer.inference.segments import find_segments
from dualformer.inference.timeline import format_time, segments_csv
from dualformer.segment import Segment
from dualformer.weights.segment_settings import SegmentSettings

LABELS = ("a", "b", "c")


def found(text: str, *, shortest: float = 0.0, threshold: float = 0.5, background: tuple[str, ...] = ()) -> str:
    """``aab.`` → segments as text; a letter is a second of that class at 0.8 (0.1 for the others), . of none."""
    rows = [[0.8 if label == letter else 0.1 for label in LABELS] for letter in text]
    rules = SegmentSettings(threshold=threshold, shortest=shortest, background=background)
    segments = find_segments(np.arange(len(text) + 1.0), np.array(rows), LABELS, rules)
    return " ".join(f"{s.label}{s.start:g}-{s.end:g}" for s in segments)


def test_known_cases() -> None:
    assert found("aaabb..cc") == "a0-3 b3-5 c7-9"
    assert found("....") == ""
    assert found("aabaa", shortest=2) == "a0-5", "what is too short goes to what is around it"
    assert found("aa.aa", shortest=2) == "a0-5", "and so does a gap"
    assert found("aa..aa", shortest=2) == "a0-2 a4-6"
    assert found("..b..", shortest=2) == ""
    assert found("baaa", shortest=2) == "a0-4", "at the beginning and the end there is one side only"
    assert found("aaab", shortest=2) == "a0-4"
    assert found("aacbbb", shortest=2) in ("a0-2 b2-6", "a0-3 b3-6")
    assert found("aaacabcabbb", shortest=2) == "a0-3 b8-11", "five seconds that change all the time are of nothing"
    assert found("aaacacacbbb", shortest=2) == "a0-3 c3-8 b8-11", "or of what is there most"
    assert found("b", shortest=5) == "b0-1", "a video that is shorter is what it is"
    assert found("aabb", background=("b",)) == "a0-2"


def test_a_short_stretch_is_divided_where_the_probabilities_change_over() -> None:
    p = np.array([[0.9, 0.1, 0.0]] * 3 + [[0.35, 0.05, 0.6], [0.05, 0.35, 0.6]] + [[0.1, 0.9, 0.0]] * 3)
    segments = find_segments(np.arange(9.0), p, LABELS, SegmentSettings(shortest=3))
    assert [(s.label, s.start, s.end) for s in segments] == [("a", 0, 4), ("b", 4, 8)]
    assert segments[0].probability == pytest.approx((3 * 0.9 + 0.35) / 4)


def test_stretches_of_different_length_count_by_their_length() -> None:
    segments = find_segments(np.array([0, 1, 4.0]), np.array([[0.6, 0, 0], [1.0, 0, 0]]), LABELS, SegmentSettings())
    assert [(s.label, s.start, s.end, round(s.probability, 6)) for s in segments] == [("a", 0, 4, 0.9)]


def acting(rows: list[list[float]], *, shortest: float = 0.0, threshold: float = 0.5) -> str:
    """Segments of a and b, c being the background, in words."""
    rules = SegmentSettings(threshold=threshold, shortest=shortest, background=("c",))
    bounds = np.arange(len(rows) + 1.0)
    segments = find_segments(bounds, np.array(rows), LABELS, rules)
    return " ".join(f"{s.label}{s.start:g}-{s.end:g}" for s in segments)


def test_doubt_between_two_classes_is_not_nothing() -> None:
    nothing, doubt, sure = [0.1, 0.1, 0.8], [0.35, 0.3, 0.35], [0.1, 0.6, 0.3]
    assert acting([nothing, doubt, doubt, nothing]) == "a1-3"
    assert acting([nothing, doubt, doubt, nothing], threshold=0.7) == ""
    assert acting([nothing, doubt, sure, sure, nothing]) == "a1-2 b2-4"
    rest = [nothing, nothing]
    assert acting([*rest, doubt, sure, sure, *rest], shortest=2) == "b2-5", "what is too short goes to the other"
    assert acting([sure, sure, nothing, sure, sure], shortest=2) == "b0-5"
    assert acting([*rest, sure, *rest], shortest=2) == ""
    assert acting([nothing] * 3) == ""


def test_several_labels_are_each_for_themselves() -> None:
    p = np.array([[0.9, 0.1, 0], [0.9, 0.1, 0], [0.9, 0.8, 0], [0.2, 0.8, 0], [0.9, 0.8, 0]])
    segments = find_segments(np.arange(6.0), p, LABELS, SegmentSettings(shortest=2), multi_label=True)
    assert [(s.label, s.start, s.end) for s in segments] == [("a", 0, 5), ("b", 2, 5)]
    segments = find_segments(np.arange(6.0), p, LABELS, SegmentSettings(background=("b",)), multi_label=True)
    assert [(s.label, s.start, s.end) for s in segments] == [("a", 0, 3), ("a", 4, 5)]


@given(
    text=st.text(alphabet="abc.", min_size=1, max_size=40),
    shortest=st.sampled_from([0.0, 1.5, 3.0]),
    threshold=st.sampled_from([0.0, 0.3, 0.5, 0.9]),
)
def test_segments_follow_one_another_and_last(text: str, shortest: float, threshold: float) -> None:
    rows: NDArray[np.float64] = np.array([[0.8 if label == letter else 0.1 for label in LABELS] for letter in text])
    segments = find_segments(
        np.arange(len(text) + 1.0), rows, LABELS, SegmentSettings(threshold=threshold, shortest=shortest)
    )
    for segment in segments:
        assert segment.end - segment.start >= min(shortest, len(text))
        a, b = int(segment.start), int(segment.end)
        assert segment.probability == pytest.approx(rows[a:b, LABELS.index(segment.label)].mean())
    for before, after in pairwise(segments):
        assert before.end <= after.start
        assert before.end < after.start or before.label != after.label
        assert before.end == after.start or after.start - before.end >= shortest
    if threshold == 0:
        assert sum(s.end - s.start for s in segments) == len(text)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="threshold"):
        SegmentSettings(threshold=1.5)
    with pytest.raises(ValueError, match="shortest"):
        SegmentSettings(shortest=-1)
    with pytest.raises(ValueError, match="none of the classes that the weights know"):
        found("a", background=("d",))
    with pytest.raises(ValueError, match="fit"):
        find_segments(np.arange(3.0), np.zeros((3, 3)), LABELS, SegmentSettings())


def test_tables() -> None:
    segments = [Segment(label="push & pull", start=0, end=1.5, probability=0.876)]
    assert segments_csv(segments) == "start,end,label,probability\n0.000,1.500,push & pull,0.876000\n"
    assert [format_time(0), format_time(59.96), format_time(3725.04), format_time(61, digits=0)] == [
        "0:00.0",
        "1:00.0",
        "1:02:05.0",
        "1:01",
    ]
