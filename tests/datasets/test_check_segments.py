"""What is wrong with segments is told before training, each with its line; what is right is not."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.datasets.segments.check_segments import check_segments
from dualformer.segment import Segment

FILM = Path("film.mp4")


def video(*segments: tuple[str, float, float], path: Path = FILM, seconds: float | None = None) -> AnnotatedVideo:
    return AnnotatedVideo(
        path=path,
        segments=tuple(Segment(label=label, start=start, end=end) for label, start, end in segments),
        lines=tuple(f"marks.csv:{line}" for line in range(2, len(segments) + 2)),
        seconds=seconds,
    )


def test_what_is_right() -> None:
    right = video(("walk", 0, 2), ("run", 1, 3), ("walk", 2, 10), ("hit", 5, 5), ("walk", 9.9993, 10.3))
    assert check_segments([right], lengths={FILM: 10}, classes=("walk", "run", "hit")) == []
    assert check_segments([]) == []


def test_times_beyond_the_video() -> None:
    marked = video(("a", 9, 10.5), ("a", 10.5, 10.51), ("a", 11, 12), ("b", 9, 10.6), seconds=10)
    ends = "'film.mp4' lasts 10 s: correct the time, or the rate where times are frames"
    assert check_segments([marked]) == [
        f"marks.csv:3: 'a' begins at 10.5 s, and {ends}",
        f"marks.csv:4: 'a' begins at 11 s, and {ends}",
        f"marks.csv:5: 'b' ends at 10.6 s, and {ends}",
    ]
    assert check_segments([marked], tolerance=2) == []
    assert check_segments([marked], lengths={FILM.absolute(): 100}) == [], "a measured length counts more"
    assert len(check_segments([marked], lengths={FILM: 1})) == 4
    assert check_segments([video(("a", 0, 1e6))]) == [], "a length that nobody knows"


def test_times_that_cannot_be() -> None:
    marked = video(("a", -1, 2), ("b", 3, 2.5), ("c", 4, 4))
    found = [
        "marks.csv:2: 'a' from -1 to 2 s begins before 'film.mp4' does: correct the time",
        "marks.csv:3: 'b' ends at 2.5 s, before it begins at 3 s: exchange the two times, or correct one",
    ]
    assert check_segments([marked]) == found
    assert check_segments([marked], points=False) == [
        *found,
        "marks.csv:4: 'c' at 4 s is empty: give it an end behind its start",
    ]


def test_segments_of_one_label_that_overlap() -> None:
    marked = video(("a", 5, 6), ("a", 0, 5.5), ("a", 1, 2), ("a", 3, 4), ("b", 0, 9), ("p", 1, 1), ("p", 1, 1))
    end = "join them, or delete one"
    assert check_segments([marked]) == [
        f"marks.csv:2: 'a' from 5 to 6 s overlaps the one from 0 to 5.5 s (marks.csv:3): {end}",
        f"marks.csv:4: 'a' from 1 to 2 s overlaps the one from 0 to 5.5 s (marks.csv:3): {end}",
        f"marks.csv:5: 'a' from 3 to 4 s overlaps the one from 0 to 5.5 s (marks.csv:3): {end}",
        f"marks.csv:8: 'p' from 1 to 1 s overlaps the one from 1 to 1 s (marks.csv:7): {end}",
    ]
    assert check_segments([video(("a", 0, 1)), video(("a", 0, 1), path=Path("other.mp4"))]) == []


def test_labels_that_are_none_of_the_classes() -> None:
    marked = video(("Walk", 0, 1), ("walks", 1, 2), ("jump", 2, 3), ("walk", 3, 4))
    assert check_segments([marked], classes=("walk", "run")) == [
        "marks.csv:2: the label 'Walk' is none of the 2 classes: did you mean 'walk'?",
        "marks.csv:3: the label 'walks' is none of the 2 classes: did you mean 'walk'?",
        "marks.csv:4: the label 'jump' is none of the 2 classes: correct it, or add it to the classes",
    ]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 20), st.integers(0, 20))))
def test_overlaps_are_those_that_a_comparison_of_all_pairs_finds(drawn: list[tuple[str, int, int]]) -> None:
    spans = [(label, min(pair), max(pair)) for label, *pair in drawn]
    found = {line.split(":")[1] for line in check_segments([video(*spans)])}
    order = sorted(range(len(spans)), key=lambda place: (spans[place][1], place))
    expected: set[str] = set()
    for later, place in enumerate(order):
        label, start, end = spans[place]
        for other in order[:later]:
            name, first, last = spans[other]
            if name == label and ((first, last) == (start, end) or min(last, end) > max(first, start)):
                expected.add(str(place + 2))
    assert found == expected
