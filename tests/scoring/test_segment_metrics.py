"""F1, edit score, accuracy by frame and errors of boundaries: by hand, and by the definitions in frames."""

import numpy as np
import pytest
from made_segments import of_text

from dualformer.scoring.segment_metrics import (
    FrameCounts,
    SegmentCounts,
    actions,
    boundary_errors,
    edit_score,
    frame_counts,
    match_segments,
    segment_counts,
)
from dualformer.scoring.temporal_overlap import temporal_iou
from dualformer.segment import Segment


def frame_runs(text: str, background: str) -> tuple[list[str], list[int], list[int]]:
    """Labels, starts and ends of the runs of frames, but for background: `get_labels_start_end_time` of MS-TCN."""
    labels, starts, ends, last = [], [], [], ""
    for i, letter in enumerate(text):
        if letter != last:
            if last and last not in background:
                ends.append(i)
            if letter not in background:
                labels.append(letter)
                starts.append(i)
            last = letter
    if last and last not in background:
        ends.append(len(text))
    return labels, starts, ends


def naive_f1(said: str, true: str, overlap: float, background: str) -> SegmentCounts:
    """Frames in, counts out, after the published pseudo-code: a prediction counts by the truth it overlaps the most."""
    y_label, y_start, y_end = frame_runs(true, background)
    p_label, p_start, p_end = frame_runs(said, background)
    hits = [0] * len(y_label)
    right = wrong = 0
    for j, label in enumerate(p_label):
        ious = []
        for i, other in enumerate(y_label):
            same = set(range(p_start[j], p_end[j])) & set(range(y_start[i], y_end[i]))
            either = set(range(p_start[j], p_end[j])) | set(range(y_start[i], y_end[i]))
            ious.append(len(same) / len(either) * (label == other))
        best = max(range(len(ious)), key=lambda i: ious[i], default=None)
        if best is not None and ious[best] >= overlap and not hits[best]:
            hits[best], right = 1, right + 1
        else:
            wrong += 1
    return SegmentCounts(right=right, wrong=wrong, missed=len(y_label) - sum(hits))


def naive_distance(one: list[str], other: list[str]) -> int:
    if not one or not other:
        return len(one) + len(other)
    return min(
        naive_distance(one[1:], other) + 1,
        naive_distance(one, other[1:]) + 1,
        naive_distance(one[1:], other[1:]) + (one[0] != other[0]),
    )


def naive_matches(truth: list[Segment], predicted: list[Segment], overlap: float) -> list[tuple[Segment, Segment]]:
    pairs: list[tuple[Segment, Segment]] = []
    for said in predicted:
        own = [true for true in truth if true.label == said.label]
        best = max(own, key=lambda true: temporal_iou(true, said), default=None)
        if best and temporal_iou(best, said) >= overlap and not any(best is true for true, _ in pairs):
            pairs.append((best, said))
    return pairs


@pytest.mark.parametrize("seed", range(40))
def test_overlapping_segments_are_matched_as_by_looking_at_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, predicted = (
        [
            Segment(label=str(rng.choice(["a", "b"])), start=start, end=start + float(rng.integers(0, 6)))
            for start in rng.integers(0, 20, size=rng.integers(0, 15)).astype(float).tolist()
        ]
        for _ in range(2)
    )
    for overlap in (0.1, 1 / 3, 0.5, 1.0):
        assert match_segments(truth, predicted, overlap) == naive_matches(truth, predicted, overlap)
    with pytest.raises(ValueError, match="an overlap must be more than 0, not 0"):
        match_segments(truth, predicted, 0)


def drawn_text(rng: np.random.Generator, length: int, letters: str) -> str:
    text = ""
    while len(text) < length:
        text += str(rng.choice(list(letters))) * int(rng.integers(1, 6))
    return text[:length]


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("background", ["", "c"])
def test_as_defined_in_frames(seed: int, background: str) -> None:
    rng = np.random.default_rng(seed)
    length = int(rng.integers(1, 24))
    true, said = (drawn_text(rng, length, "abc.") for _ in range(2))
    truth, predicted = of_text(true), of_text(said)
    gaps = f".{background}"
    for overlap in (0.1, 0.25, 0.5, 0.9):
        counts = segment_counts(truth, predicted, overlap=overlap, background=background)
        assert counts == naive_f1(said, true, overlap, gaps)
    one, other = frame_runs(true, gaps)[0], frame_runs(said, gaps)[0]
    if len(one) + len(other) <= 12:
        longest = max(len(one), len(other), 1)
        expected = 1 - naive_distance(one, other) / longest
        assert edit_score(truth, predicted, background=background) == pytest.approx(expected)
    same = [("." if a in gaps else a) == ("." if b in gaps else b) for a, b in zip(true, said, strict=True)]
    active = [letter not in gaps for letter in true]
    counts = frame_counts(truth, predicted, seconds=length, rate=1, background=background)
    assert (counts.frames, counts.right) == (length, sum(same))
    assert (counts.action_frames, counts.action_right) == (
        sum(active),
        sum(a and b for a, b in zip(same, active, strict=True)),
    )
    fine = frame_counts(truth, predicted, seconds=length, rate=7, background=background)
    assert fine.accuracy == pytest.approx(counts.accuracy)


def test_f1_by_hand() -> None:
    """aaaabbbb against aaabbbbb: overlaps 3/4 and 4/5, so that both are right at 0.5 and b alone at 0.8.

    Oversegmented, aa.abbbb: the first a has 2 of 4, the second 1 of 4 of the same truth: one of them is wrong.
    """
    truth = of_text("aaaabbbb")
    assert segment_counts(truth, of_text("aaabbbbb"), overlap=0.5) == SegmentCounts(right=2)
    assert segment_counts(truth, of_text("aaabbbbb"), overlap=0.8) == SegmentCounts(right=1, wrong=1, missed=1)
    over = segment_counts(truth, of_text("aa.abbbb"), overlap=0.5)
    assert over == SegmentCounts(right=2, wrong=1)
    assert over.f1 == pytest.approx(2 * 2 / (3 + 2))
    assert (over + SegmentCounts(missed=3)).f1 == pytest.approx(2 * 2 / (3 + 5))


def test_a_prediction_whose_truth_is_taken_is_wrong_even_where_another_would_do() -> None:
    """Of a at 0-6 and 6.5-10 (two, as there is a gap), 0-6 and then 2-8 look at 0-6, 6/6 and 4/8; 2-8 also has 1.5/8
    of the other, which is above 0.1, and is not asked."""
    truth = [Segment(label="a", start=0, end=6), Segment(label="a", start=6.5, end=10)]
    predicted = [Segment(label="a", start=0, end=6), Segment(label="a", start=7, end=7.1)]
    assert segment_counts(truth, predicted, overlap=0.01) == SegmentCounts(right=2)
    alone = [Segment(label="a", start=0, end=5), Segment(label="a", start=5.5, end=7)]
    assert segment_counts(truth, alone, overlap=0.1) == SegmentCounts(right=2)
    alone = [Segment(label="a", start=0, end=3), Segment(label="a", start=3.5, end=7)]
    assert segment_counts(truth, alone, overlap=0.1) == SegmentCounts(right=1, wrong=1, missed=1)


def test_edit_by_hand() -> None:
    """Truth a b c, said a c: one is missing of three. Order alone counts: a b c at other times is perfect."""
    assert edit_score(of_text("aabbcc"), of_text("aaaacc")) == pytest.approx(2 / 3)
    assert edit_score(of_text("aabbcc"), of_text("abcccc")) == 1
    assert edit_score(of_text("aabb"), of_text("bbaa")) == 0
    assert edit_score(of_text("a"), of_text("abab")) == pytest.approx(1 / 4)


def test_touching_segments_of_a_label_are_one_and_background_goes() -> None:
    one = [Segment(label="a", start=0, end=2), Segment(label="a", start=2, end=3), Segment(label="a", start=4, end=5)]
    assert [(each.start, each.end) for each in actions(one)] == [(0, 3), (4, 5)]
    overlapping = [*one, Segment(label="b", start=1, end=6), Segment(label="b", start=2, end=3)]
    assert [(each.label, each.start, each.end) for each in actions(overlapping)] == [
        ("a", 0, 3),
        ("b", 1, 6),
        ("a", 4, 5),
    ]
    assert actions(overlapping, background=("a",)) == [Segment(label="b", start=1, end=6)]


def test_boundaries_by_hand() -> None:
    """a is matched (6 of 9), with its start 2 too late and its end 1 too late; b by 1 of 4 is not."""
    truth = [Segment(label="a", start=0, end=8), Segment(label="b", start=10, end=12)]
    predicted = [Segment(label="a", start=2, end=9), Segment(label="b", start=11, end=14)]
    errors = boundary_errors(truth, predicted)
    assert (errors.errors.tolist(), errors.unmatched) == ([2, 1], 1)
    errors = boundary_errors(truth, predicted, overlap=0.25)
    assert (errors.errors.tolist(), errors.unmatched) == ([2, 1, 1, 2], 0)
    errors = boundary_errors(truth, [], background=("b",))
    assert (errors.errors.tolist(), errors.unmatched) == ([], 1)


def test_where_segments_overlap_a_frame_needs_all_labels() -> None:
    truth = [Segment(label="a", start=0, end=4), Segment(label="b", start=2, end=6)]
    counts = frame_counts(truth, truth[:1], seconds=8, rate=1)
    assert counts == FrameCounts(frames=8, right=4, action_frames=6, action_right=2)
    assert frame_counts(truth, truth, seconds=8, rate=1).accuracy == 1


@pytest.mark.parametrize("text", ["aabb.c", "a", "......", ""])
def test_perfect_and_empty_predictions(text: str) -> None:
    truth = of_text(text)
    assert segment_counts(truth, truth, overlap=0.99).f1 == 1
    assert edit_score(truth, truth) == 1
    assert frame_counts(truth, truth, seconds=len(text)).accuracy == 1
    errors = boundary_errors(truth, truth)
    assert (errors.errors.any(), errors.unmatched) == (False, 0)
    if truth:
        assert segment_counts(truth, [], overlap=0.1).f1 == 0
        assert edit_score(truth, []) == 0
        assert frame_counts(truth, [], seconds=len(text)).action_accuracy == 0
    else:
        assert segment_counts(truth, of_text("a"), overlap=0.1).f1 == 0
        assert edit_score(truth, of_text("a")) == 0


def test_moments() -> None:
    point = [Segment(label="a", start=2, end=2)]
    assert segment_counts(point, point, overlap=0.5).f1 == 1
    assert segment_counts(point, of_text("aaaa"), overlap=0.1).f1 == 0
    assert frame_counts(point, [], seconds=4, rate=1) == FrameCounts(frames=4, right=4)


def test_rates_are_positive() -> None:
    with pytest.raises(ValueError, match="rate must be positive, not 0"):
        frame_counts([], [], seconds=1, rate=0)
