"""Average precision of segments: by hand, and by a naive form of each toolkit's definition over drawn videos."""

import numpy as np
import pytest

from dualformer.scoring.temporal_detection import OVERLAPS, Protocol, mean_average_precision, rank_detections
from dualformer.scoring.temporal_overlap import OverlapFinder, temporal_iou
from dualformer.segment import Segment

Videos = list[list[Segment]]


def segment(label: str, start: float, end: float, probability: float = 1.0) -> Segment:
    return Segment(label=label, start=start, end=end, probability=probability)


def drawn(seed: int, *, videos: int = 4, most: int = 7, digits: int = 2) -> Videos:
    rng = np.random.default_rng(seed)
    found: Videos = []
    for _ in range(videos):
        found.append([])
        for _ in range(rng.integers(0, most)):
            start, length = rng.integers(0, 20), rng.integers(0, 8)
            found[-1].append(
                segment(
                    str(rng.choice(["a", "b", "c"])),
                    float(start),
                    float(start + length),
                    float(rng.random().__round__(digits)),
                )
            )
    return found


@pytest.mark.parametrize(
    ("one", "other", "iou"),
    [
        ((0, 4), (2, 6), 2 / 6),
        ((0, 4), (0, 4), 1),
        ((0, 4), (4, 6), 0),
        ((0, 1), (5, 6), 0),
        ((3, 3), (3, 3), 1),
        ((3, 3), (0, 6), 0),
        ((1, 2), (0, 4), 1 / 4),
    ],
)
def test_temporal_iou(one: tuple[float, float], other: tuple[float, float], iou: float) -> None:
    for a, b in ((one, other), (other, one)):
        assert temporal_iou(segment("x", *a), segment("y", *b)) == pytest.approx(iou)


@pytest.mark.parametrize("seed", range(20))
def test_what_overlaps_is_found(seed: int) -> None:
    (segments,) = drawn(seed, videos=1, most=40)
    finder = OverlapFinder(segments)
    (others,) = drawn(100 + seed, videos=1, most=10)
    for each in (*others, *segments, segment("a", -5, 50), segment("a", 90, 91)):
        expected = {n: iou for n, other in enumerate(segments) if (iou := temporal_iou(other, each)) > 0}
        assert list(finder.overlapping(each).items()) == list(expected.items())


def test_by_hand() -> None:
    """Two videos, three true segments of one class. In the order of scores, at an overlap of 0.5:

    0.9 of video 1, 0-10 against 0-10: right          precision 1/1, recall 1/3
    0.8 of video 0, 4-10 against 0-6 (2 of 10): wrong  precision 1/2
    0.7 of video 0, 0-5 against 0-6 (5 of 6): right    precision 2/3, recall 2/3
    0.6 of video 0, 0-6 against 0-6, which is taken: wrong

    Interpolated: 1/3 x 1 + 1/3 x 2/3 = 5/9, which is the same without interpolation. At 0.1, the 0.8 takes 0-6 first,
    with 2 of 10; the 0.7 and 0.6 find it taken: 1/3 x 1 + 1/3 x 2/2.
    """
    truth = [[segment("a", 0, 6), segment("a", 20, 30)], [segment("a", 0, 10)]]
    found = [[segment("a", 4, 10, 0.8), segment("a", 0, 5, 0.7), segment("a", 0, 6, 0.6)], [segment("a", 0, 10, 0.9)]]
    [ranked] = rank_detections(truth, found, overlaps=(0.1, 0.5))
    assert ranked.average_precision() == pytest.approx([2 / 3, 5 / 9])
    assert ranked.right.tolist() == [[True, True], [True, False], [False, True], [False, False]]


def test_interpolation_takes_the_best_precision_of_a_higher_recall() -> None:
    """Wrong, right, right of two: precisions at the right ones 1/2 and 2/3, so that ActivityNet gives 2/3 for both."""
    truth = [[segment("a", 0, 2), segment("a", 4, 6)]]
    found = [[segment("a", 8, 9, 0.9), segment("a", 0, 2, 0.8), segment("a", 4, 6, 0.7)]]
    [one] = rank_detections(truth, found, overlaps=(0.5,))
    [other] = rank_detections(truth, found, overlaps=(0.5,), protocol="thumos")
    assert one.average_precision() == pytest.approx([2 / 3])
    assert other.average_precision() == pytest.approx([(1 / 2 + 2 / 3) / 2])


def test_thumos_matches_from_the_truth() -> None:
    """The surer prediction overlaps 0-10 by 6 of 10, the other by 9 of 10. ActivityNet's first come is the surer;
    of THUMOS's code the truth takes the better: right at rank 2. And 0.5 of 0.5 is not above it."""
    truth, found = [[segment("a", 0, 10)]], [[segment("a", 0, 6, 0.9), segment("a", 0, 9, 0.8)]]
    assert rank_detections(truth, found, overlaps=(0.5,))[0].average_precision() == [1]
    assert rank_detections(truth, found, overlaps=(0.5,), protocol="thumos")[0].average_precision() == [0.5]
    half = [[segment("a", 0, 5)]]
    assert rank_detections(truth, half, overlaps=(0.5,))[0].average_precision() == [1]
    assert rank_detections(truth, half, overlaps=(0.5,), protocol="thumos")[0].average_precision() == [0]


@pytest.mark.parametrize("protocol", ["activitynet", "thumos"])
def test_ambiguous_segments_are_no_class_and_excuse_what_touches_them(protocol: Protocol) -> None:
    truth = [[segment("a", 0, 4), segment("Ambiguous", 10, 14)]]
    found = [[segment("a", 13, 15, 0.9), segment("a", 0, 4, 0.8)]]
    [with_ambiguous, one] = rank_detections(truth, found, overlaps=(0.5,), protocol=protocol)
    assert (with_ambiguous.label, with_ambiguous.average_precision()) == ("Ambiguous", [0])
    assert one.average_precision() == [0.5]
    [one] = rank_detections(truth, found, overlaps=(0.5,), protocol=protocol, ambiguous="Ambiguous")
    assert (one.label, one.average_precision()) == ("a", [1])


def naive_activitynet(truth: Videos, found: Videos, label: str, overlap: float) -> float:
    """Each of the sorted predictions looks for the best free truth; interpolated over all points of recall."""
    ranked = [(number, each) for number, video in enumerate(found) for each in video if each.label == label]
    ranked.sort(key=lambda pair: pair[1].probability, reverse=True)  # stable
    free = {(number, i) for number, video in enumerate(truth) for i, each in enumerate(video) if each.label == label}
    positives, hits = len(free), []
    for number, each in ranked:
        near = [(temporal_iou(each, truth[number][i]), -i) for n, i in free if n == number]
        best, place = max(near, default=(-1.0, 0))
        hits.append(best >= overlap)
        if best >= overlap:
            free.remove((number, -place))
    precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
    return sum(max(precision[i:]) for i, hit in enumerate(hits) if hit) / positives


def naive_thumos(truth: Videos, found: Videos, label: str, overlap: float) -> float:
    ranked = [(number, each) for number, video in enumerate(found) for each in video if each.label == label]
    ranked.sort(key=lambda pair: pair[1].probability, reverse=True)
    hits, positives = [False] * len(ranked), 0
    for number, video in enumerate(truth):
        for true in video:
            if true.label == label:
                positives += 1
                free = [i for i, (n, _) in enumerate(ranked) if n == number and not hits[i]]
                best = max(free, key=lambda i: (temporal_iou(true, ranked[i][1]), -i), default=None)
                if best is not None and temporal_iou(true, ranked[best][1]) > overlap:
                    hits[best] = True
    return sum(sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit) / positives


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("protocol", ["activitynet", "thumos"])
def test_as_defined(seed: int, protocol: Protocol) -> None:
    truth, found = drawn(seed), drawn(seed + 1000, most=12, digits=1 + seed % 2)
    if not any(truth):
        return
    naive = naive_activitynet if protocol == "activitynet" else naive_thumos
    ranked = rank_detections(truth, found, protocol=protocol)
    assert [each.label for each in ranked] == sorted({each.label for video in truth for each in video})
    expected = [[naive(truth, found, each.label, overlap) for overlap in OVERLAPS] for each in ranked]
    np.testing.assert_allclose([each.average_precision() for each in ranked], expected, atol=1e-12)
    np.testing.assert_allclose(mean_average_precision(ranked), np.mean(expected, axis=0), atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_weights_leave_out_videos_and_count_them_several_times(seed: int) -> None:
    truth, found = drawn(seed), drawn(seed + 1000, digits=7)
    ranked = rank_detections(truth, found)
    if not ranked:
        return
    np.testing.assert_allclose(mean_average_precision(ranked, np.full(4, 3.0)), mean_average_precision(ranked))
    kept = np.random.default_rng(seed).integers(0, 2, size=len(truth))
    some = rank_detections(*([video for video, k in zip(videos, kept, strict=True) if k] for videos in (truth, found)))
    weighted = mean_average_precision(ranked, kept.astype(float))
    np.testing.assert_allclose(weighted, mean_average_precision(some) if some else np.full(len(OVERLAPS), np.nan))


@pytest.mark.parametrize("protocol", ["activitynet", "thumos"])
def test_perfect_and_empty_predictions(protocol: Protocol) -> None:
    truth = [[segment("a", 0, 3), segment("b", 2, 5), segment("a", 4, 6)], [], [segment("c", 1, 2)]]
    ranked = rank_detections(truth, truth, protocol=protocol)
    assert mean_average_precision(ranked) == pytest.approx(1)
    ranked = rank_detections(truth, [[], [], []], protocol=protocol)
    assert mean_average_precision(ranked).tolist() == [0] * len(OVERLAPS)


def test_equal_scores_rank_as_listed() -> None:
    truth, right, wrong = [[segment("a", 0, 2)]], segment("a", 0, 2, 0.5), segment("a", 8, 9, 0.5)
    assert rank_detections(truth, [[right, wrong]])[0].average_precision()[0] == 1
    assert rank_detections(truth, [[wrong, right]])[0].average_precision()[0] == 0.5
    two = [*truth, []]
    assert rank_detections(two, [[right], [wrong]])[0].average_precision()[0] == 1
    assert rank_detections(two[::-1], [[wrong], [right]])[0].average_precision()[0] == 0.5


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="the truth is of 1 videos, the prediction of 2"):
        rank_detections([[]], [[], []])
    with pytest.raises(ValueError, match="no true segment"):
        mean_average_precision(rank_detections([[]], [[segment("a", 0, 1)]]))
