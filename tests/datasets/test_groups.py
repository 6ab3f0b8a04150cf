"""Splits that keep groups whole: drawn cases, and what the names of files give away."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dualformer.datasets.groups import (
    deal_folds,
    find_groups,
    group_pattern,
    join_groups,
    same_recordings,
    split_by_groups,
    suspected_groups,
)
from dualformer.datasets.row_table import CsvTable, Row
from dualformer.datasets.samples import DatasetError, Sample, VideoList


def videos(names: list[str], labels: list[int], classes: int = 3) -> VideoList:
    samples = tuple(Sample(path=Path(name), label=label) for name, label in zip(names, labels, strict=True))
    return VideoList(classes=tuple(map(str, range(classes))), samples=samples, source="drawn")


def with_column(listed: VideoList, values: Sequence[str]) -> CsvTable:
    """A list of the videos whose column ``who`` has these values."""
    rows = [
        Row(video=sample.path, line=line, values={"path": sample.name, "who": who}, labels=("0",))
        for line, (sample, who) in enumerate(zip(listed.samples, values, strict=True), 2)
    ]
    return CsvTable(path=Path("list.csv"), columns=("path", "who"), rows=tuple(rows), classes=listed.classes)


@st.composite
def grouped(draw: st.DrawFn) -> tuple[VideoList, list[str]]:
    """Videos of three classes in two to twelve groups of any size."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 11)), min_size=6, max_size=60))
    names = [f"{number:03d}.mp4" for number in range(len(pairs))]
    groups = [f"g{group:02d}" for _, group in pairs]
    assume(len(set(groups)) > 1)
    return videos(names, [label for label, _ in pairs]), groups


@given(grouped(), st.integers(2, 6), st.integers(0, 5))
def test_no_group_is_in_two_folds_and_no_fold_is_empty(
    case: tuple[VideoList, list[str]], folds: int, seed: int
) -> None:
    found, groups = case
    labels = [sample.labels for sample in found.samples]
    if len(set(groups)) < folds:
        with pytest.raises(DatasetError, match=f"{folds} folds take as many groups"):
            deal_folds(labels, groups, folds, seed)
        return
    dealt = deal_folds(labels, groups, folds, seed)
    of: dict[str, set[int]] = {}
    for group, fold in zip(groups, dealt.tolist(), strict=True):
        of.setdefault(group, set()).add(fold)
    assert all(len(own) == 1 for own in of.values())
    assert set(dealt.tolist()) == set(range(folds))


@given(grouped(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_of_the_videos_does_not_matter(case: tuple[VideoList, list[str]], seed: int, random) -> None:
    found, groups = case
    folds = min(3, len(set(groups)))
    dealt = deal_folds([sample.labels for sample in found.samples], groups, folds, seed)
    order = list(range(len(found)))
    random.shuffle(order)
    again = deal_folds([found.samples[i].labels for i in order], [groups[i] for i in order], folds, seed)
    assert again.tolist() == dealt[order].tolist()


@given(grouped(), st.sampled_from((0.1, 0.2, 0.4)), st.integers(0, 5))
def test_a_split_keeps_groups_whole(case: tuple[VideoList, list[str]], fraction: float, seed: int) -> None:
    found, groups = case
    try:
        val = split_by_groups(found, groups, fraction, seed)
    except DatasetError as error:
        assert "are of one group" in str(error)
        return
    inside, outside = (
        {group for group, here in zip(groups, val, strict=True) if here == side} for side in (True, False)
    )
    assert not inside & outside
    assert inside
    assert outside


def test_folds_of_groups_of_one_class_each_are_stratified() -> None:
    labels = [(number % 4,) for number in range(80)]
    dealt = deal_folds(labels, [f"{number:02d}" for number in range(80)], 5, seed=0)
    for fold in range(5):
        counts = np.bincount([labels[i][0] for i in np.flatnonzero(dealt == fold)])
        assert counts.tolist() == [4, 4, 4, 4]


def test_another_seed_deals_otherwise() -> None:
    labels, groups = [(0,)] * 40, [f"{number:02d}" for number in range(40)]
    assert deal_folds(labels, groups, 4, seed=0).tolist() != deal_folds(labels, groups, 4, seed=1).tolist()


def test_the_dealt_folds_stay_what_they_are() -> None:
    """The same split for the same seed anywhere: on any machine, and in any later version."""
    groups = [f"seq{number // 3}" for number in range(24)]
    dealt = deal_folds([(number % 3,) for number in range(24)], groups, 3, seed=7)
    assert dealt[::3].tolist() == [0, 0, 0, 1, 1, 2, 1, 2]


def test_a_class_of_two_groups_is_in_two_folds() -> None:
    """Here the largest group next would leave both groups of a class in one fold."""
    cases = [("b", 0), ("d", 0), ("d", 1), ("e", 1), ("e", 2), ("a", 2), ("a", 2)]
    dealt = deal_folds([("abde".index(name),) for name, _ in cases], [f"g{group}" for _, group in cases], 2, seed=0)
    assert dealt.tolist()[1] != dealt.tolist()[2] and dealt.tolist()[3] != dealt.tolist()[4]


def test_groups_of_a_column_and_of_names() -> None:
    found = videos(["a/s1_x.mp4", "a/s2_x.mp4", "b/s1_y.mp4"], [0, 1, 2])
    table = with_column(found, "ABA")
    assert find_groups(found, "who", table) == ["A", "B", "A"]
    assert find_groups(found, r"s\d", table) == ["s1", "s2", "s1"]
    assert find_groups(found, r"s(\d)_") == ["1", "2", "1"]


def test_spellings_of_a_group_are_one() -> None:
    who = ["\u00dcnal", "U\u0308nal", " \u00dcnal"]
    found = videos([f"{name.strip()}_{place}.mp4" for place, name in enumerate(who)], [0, 1, 2])
    assert find_groups(found, "who", with_column(found, who)) == ["\u00dcnal"] * 3
    for spelled in who[:2]:
        assert find_groups(found, f"{spelled}(?=_)") == ["\u00dcnal"] * 3


def test_a_column_of_groups_has_a_value_for_every_video() -> None:
    found = videos(["a.mp4", "b.mp4", "c.mp4", "d.mp4"], [0, 1, 2, 0])
    table = with_column(found, ["A", "", "B", " "])
    with pytest.raises(DatasetError, match=r"list\.csv:3: the who is empty, in 2 of 4 rows, and `group=who` takes one"):
        find_groups(found, "who", table)
    assert find_groups(found.subset([0, 2]), "who", table) == ["A", "B"]


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("where", r"`group=where` is not found in the name of the file or of a folder nor a column \(path, who\)"),
        ("(", "is no regular expression"),
        ("s(1)?", "is not found in the name of the file"),
    ],
)
def test_groups_that_cannot_be(group: str, message: str) -> None:
    found = videos(["s1_x.mp4", "s2_x.mp4", "s3_y.mp4"], [0, 1, 2])
    with pytest.raises((DatasetError, ValueError), match=message):
        find_groups(found, group, with_column(found, "AAA"))


def test_one_group_cannot_be_split() -> None:
    found = videos(["a", "b", "c", "d"], [0, 0, 1, 1], classes=2)
    with pytest.raises(DatasetError, match=r"`group` puts all videos into one group \('x'\)"):
        split_by_groups(found, ["x"] * 4, 0.2, seed=0)


def test_a_class_of_one_group_cannot_be_split() -> None:
    found = videos(["a", "b", "c", "d"], [0, 0, 1, 1], classes=2)
    with pytest.raises(DatasetError, match=r"all videos of 1 \(y\) are of one group"):
        split_by_groups(found, ["x", "y", "y", "y"], 0.2, seed=0)


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["mp4", "avi"]), st.integers(0, 7)), min_size=1))
def test_groups_that_share_a_recording_are_one(cases: list[tuple[int, str, int]]) -> None:
    """Those that a chain of videos, each of the group or of the recording of the one before, leads to."""
    found = videos([f"v{number}.{ending}" for number, ending, _ in cases], [0] * len(cases))
    groups, recordings = [f"g{group}" for *_, group in cases], same_recordings(found)
    reached = {(i, j) for i in range(len(cases)) for j in range(len(cases))
               if groups[i] == groups[j] or recordings[i] == recordings[j]}  # fmt: skip
    for middle in range(len(cases)):
        reached |= {(i, j) for i, k in reached if k == middle for k, j in reached if k == middle}
    joined = join_groups(found, groups)
    assert reached == {(i, j) for i in range(len(cases)) for j in range(len(cases)) if joined[i] == joined[j]}
    assert len(set(joined)) < len(set(groups)) or joined == groups


def test_a_joined_group_has_the_names_of_its_groups() -> None:
    found = videos([f"v{number // 2}.{'avi' if number % 2 else 'mp4'}" for number in range(10)], [0] * 10)
    assert join_groups(found, list("abdccaeffg"))[0] == "a = b = c = …"
    assert join_groups(found, list("abdccaeffg"))[-1] == "e = f = g"
    assert join_groups(found, list("aabbccddee")) == list("aabbccddee")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([f"set1_seq0{n // 6}_{n}_kick.avi" for n in range(18)], [f"set1_seq0{n // 6}" for n in range(18)]),
        ([f"subject{n % 3}_walk_{n}.mp4" for n in range(12)], [f"subject{n % 3}" for n in range(12)]),
        ([f"v_Archery_g0{n // 4}_c0{n}.avi" for n in range(12)], [f"g0{n // 4}" for n in range(12)]),
        ([*[f"P{n % 3}-jump.mp4" for n in range(9)], "x.mp4"], [*[f"P{n % 3}" for n in range(9)], ""]),
        ([f"person{n}_walk.mp4" for n in range(12)], []),
        ([f"subject1_walk_{n}.mp4" for n in range(12)], []),
        ([f"clip_{n:04d}.mp4" for n in range(12)], []),
        ([f"carret_{n}.mp4" for n in range(12)], []),
        ([f"right-left_{n:04d}.mp4" for n in range(12)], []),
    ],
)
def test_names_that_look_like_recordings(names: list[str], expected: list[str]) -> None:
    assert suspected_groups(videos(names, [0] * len(names))) == expected


def test_folders_are_searched_where_names_tell_nothing() -> None:
    paths = [f"/films/user1/set2/{clip}/subject{s}/{clip}{s}.mp4" for s in range(4) for clip in ("x", "y", "z")]
    found = videos(paths, [0, 1, 2] * 4)
    expected = [f"subject{s}" for s in range(4) for _ in range(3)]
    assert find_groups(found, r"subject\d") == suspected_groups(found) == expected
    assert find_groups(found, r"\d") == [str(s) for s in range(4) for _ in range(3)]
    with pytest.raises(DatasetError, match=r"`group=user\\d` is not found in the name of the file or of a folder"):
        find_groups(found, r"user\d")
    with pytest.raises(DatasetError, match=r"y0\.mp4: `group=x\\d` is not found in the name of the file$"):
        find_groups(found, r"x\d")


def test_folders_of_one_class_each_are_no_recordings() -> None:
    found = videos(
        [f"data/set{label}/{number}.mp4" for label in range(3) for number in range(4)], [0] * 4 + [1] * 4 + [2] * 4
    )
    assert suspected_groups(found) == []


@pytest.mark.parametrize(
    "name", ["set1_seq{:02d}_{}.avi", "v_walking04_g{:02d}_c{}.avi", "class1_s{}_{}.mp4", "Subject {} take-{}.mkv"]
)
def test_the_pattern_that_is_told_finds_what_was_suspected(name: str) -> None:
    found = videos([name.format(who, number) for who in range(1, 4) for number in range(4)], [0, 1] * 6)
    suspected = suspected_groups(found)
    assert len(set(suspected)) == 3
    (pattern,) = shlex.split(group_pattern(suspected))
    assert find_groups(found, pattern) == suspected
