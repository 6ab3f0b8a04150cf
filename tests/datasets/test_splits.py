"""Folders and CSV files to lists: what is found, in which order, and what each mistake is called."""

import logging
from pathlib import Path

import pytest

from dualformer.datasets.class_folders import read_folder
from dualformer.datasets.csv_list import read_csv
from dualformer.datasets.draw_split import split_stratified
from dualformer.datasets.row_filter import parse_row_filter
from dualformer.datasets.row_table import select
from dualformer.datasets.samples import DatasetError, Sample, VideoList
from dualformer.datasets.split_file import write_split
from dualformer.datasets.splits import Splits, open_splits, open_videos, read_bad_videos


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def names(videos: VideoList) -> list[str]:
    return [f"{videos.classes[s.label]}:{s.path.name}" for s in videos.samples]


def csv_file(root: Path, text: str, *, files: bool = True) -> Path:
    path = root / "list.csv"
    path.write_text(text, encoding="utf-8")
    if files:
        touch(root, *(line.split(",")[0] for line in text.splitlines()[1:] if line.strip()))
    return path


BATCHES = "path,label,batch\n" + "".join(
    f"{c}{b}{i}.mp4,{c},{b}\n" for b in "ABC" for c in ("x", "y") for i in range(3)
)


def test_folder_per_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "b/2.mp4", "b/1.AVI", "a/3.webm", "b/notes.txt", "a/.hidden.mp4", "a/x.srt", ".git/x", "readme.md")
    found = read_folder(tmp_path)
    assert list(found) == ["all"]
    assert found["all"].classes == ("a", "b")
    assert names(found["all"]) == ["a:3.webm", "b:1.AVI", "b:2.mp4"]
    assert found["all"].counts() == {"a": 1, "b": 2}
    assert "3 files that are neither videos nor images left out: x.srt, notes.txt, readme.md" in caplog.text


@pytest.mark.parametrize("val", ["val", "valid", "validation", "dev"])
def test_splits_above_the_classes(val: str, tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.mp4", "train/b/2.mp4", "train/c/2.mp4", f"{val}/b/3.mp4", "test/c/4.mp4")
    found = read_folder(tmp_path)
    assert set(found) == {"train", "val", "test"}
    assert {videos.classes for videos in found.values()} == {("a", "b", "c")}
    assert names(found["val"]) == ["b:3.mp4"]
    assert found["val"].samples[0].label == 1


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.mp4", "bus/2.mp4")
    assert read_folder(tmp_path)["all"].classes == ("bus", "train")


def test_numbers_sort_as_numbers_in_folders_and_files(tmp_path: Path) -> None:
    touch(tmp_path, "10/a.mp4", "9/b.mp4", "1/c.mp4")
    assert read_folder(tmp_path)["all"].classes == ("1", "9", "10")
    assert read_csv(csv_file(tmp_path, "path,label\nq.mp4,10\nr.mp4,9\n")).classes == ("9", "10")
    assert read_csv(csv_file(tmp_path, "path,label\nq.mp4,10\nr.mp4,9\ns.mp4,x\n")).classes == ("10", "9", "x")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a/1.mp4", "b/notes.txt"], r"b: no video or image in this class"),
        (["a/1.mp4", "b/deep/1.mp4"], r"b: no video or image in this class \(folders inside it are not searched\)"),
        (["a/1.mp4", "b/deep/1.mp4"], "add some or remove the folder, or list the deeper ones in a CSV file; expected"),
        (["a/1.mp4"], "only one class .a."),
        (
            ["1.mp4", "2.mp4"],
            r"2 files lie in it without a class \(if the folder is itself one, name the folder above it\); expected",
        ),
        (["notes.txt"], "no class folders"),
        (["train/a/1.mp4", "train/b/1.mp4", "val/c/1.mp4"], "class c is not in train/"),
        (["train/a/1.mp4", "train/b/1.mp4", "val/a/1.mp4", "valid/a/1.mp4"], "both look like val"),
    ],
)
def test_other_layouts_are_named(files: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=message):
        read_folder(touch(tmp_path, *files))


def test_no_folder_is_a_wrong_call(tmp_path: Path) -> None:
    for call in (read_folder, read_csv, open_splits, open_videos):
        with pytest.raises(FileNotFoundError, match="none"):
            call(tmp_path / "none")
    with pytest.raises(ValueError, match=r"neither a folder nor a \.csv"):
        open_splits(touch(tmp_path, "a.mp4") / "a.mp4")


def test_csv_rows(tmp_path: Path) -> None:
    table = read_csv(
        csv_file(tmp_path, '\ufefflabel,path,note\nb, sub/1.mp4 ,x\n\na,2.mp4,"y, z"\n', files=False), check_files=False
    )
    assert table.columns == ("label", "path", "note")
    assert table.classes == ("a", "b")
    assert [(row.path, row.line, row.values["note"]) for row in table.rows] == [
        ((tmp_path / "sub/1.mp4").resolve(), 2, "x"),
        ((tmp_path / "2.mp4").resolve(), 4, "y, z"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n1.mp4,a\n", r"list\.csv:1: no column 'path' in the header \(file, label\)"),
        ("path,label,label\n1.mp4,a,b\n", r"list\.csv:1: column names repeat"),
        ("path,label\n1.mp4,a\n2.mp4\n", r"list\.csv:3: 1 field where the header has 2"),
        ("path,label\n1.mp4,a\n2.mp4,a,b\n", r"list\.csv:3: 3 fields where the header has 2"),
        ("path,label\n1.mp4,\n", r"list\.csv:2: the label is empty"),
        ("path,label\n,a\n", r"list\.csv:2: the path is empty"),
        ("path,label\n1.mp4,a\n2.mp4,a\n./1.mp4,b\n", r"list\.csv:4: \./1\.mp4 is listed already in line 2"),
        ("path,label\n", r"list\.csv: nothing in it"),
        ('path,label\n"1.mp4,a\n', r"list\.csv:2: unexpected end of data"),
    ],
)
def test_csv_mistakes_name_their_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=message):
        read_csv(csv_file(tmp_path, text, files=False), check_files=False)


def test_csv_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(b"path,label\n1.mp4,a\n2.mp4,caf\xe9\n")
    with pytest.raises(DatasetError, match=r"list\.csv:3: not UTF-8"):
        read_csv(path)


def test_missing_videos_are_counted(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "path,label\n" + "".join(f"{i}.mp4,a\n" for i in range(6)), files=False)
    touch(tmp_path, "0.mp4")
    with pytest.raises(
        DatasetError, match=r"list\.csv:3: 5 of 6 files do not exist: 1\.mp4, 2\.mp4, 3\.mp4 and 2 more"
    ):
        read_csv(path)
    left = read_csv(path, bad={(tmp_path / f"{i}.mp4").resolve() for i in range(1, 6)})
    assert [row.path.name for row in left.rows] == ["0.mp4"]


def test_select(tmp_path: Path) -> None:
    table = read_csv(csv_file(tmp_path, BATCHES))
    assert len(select(table)) == 18
    chosen = select(table, {"batch": ("A", "C"), "label": ("y",)})
    assert names(chosen) == [f"y:y{b}{i}.mp4" for b in "AC" for i in range(3)]
    assert chosen.classes == ("x", "y")
    assert chosen.source.endswith("list.csv where batch=A,C;label=y")
    with pytest.raises(ValueError, match="no column 'set': choose from path, label, batch"):
        select(table, {"set": ("A",)})
    with pytest.raises(ValueError, match="no row has batch=D: choose from A, B, C"):
        select(table, {"batch": ("A", "D")})
    with pytest.raises(
        ValueError, match=r"no row has batch=label=y \(conditions are joined by ;, as in 'batch=…;label=y'\)"
    ):
        select(table, parse_row_filter("batch=A,label=y"))


def test_parse_row_filter() -> None:
    assert parse_row_filter("batch=A,C") == {"batch": ("A", "C")}
    assert parse_row_filter("batch = A ; person=3") == {"batch": ("A",), "person": ("3",)}
    for wrong in ("batch", "=A", "batch=", "batch=A,,B", "batch=A;batch=B", ""):
        with pytest.raises(ValueError, match="write COLUMN=VALUE"):
            parse_row_filter(wrong)


WITH_COMMAS = 'path,label,batch\n1.mp4,"walk, slowly",A\n2.mp4,walk,"A;1"\n3.mp4,"a, b, c","say ""hi"""\n'


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ('label="walk, slowly"', ["1.mp4"]),
        ("label=walk, slowly", ["1.mp4"]),
        ("label=walk,slowly", ["1.mp4"]),
        ('label="walk, slowly",walk', ["1.mp4", "2.mp4"]),
        ("label=walk,walk, slowly", ["1.mp4", "2.mp4"]),
        ("label=a, b, c,walk", ["2.mp4", "3.mp4"]),
        ('batch="A;1"; label=walk', ["2.mp4"]),
        ('batch="say ""hi""",A', ["1.mp4", "3.mp4"]),
    ],
)
def test_values_with_commas_are_named_as_they_are_or_in_quotes(tmp_path: Path, text: str, chosen: list[str]) -> None:
    table = read_csv(csv_file(tmp_path, WITH_COMMAS))
    found = select(table, parse_row_filter(text))
    assert [sample.path.name for sample in found.samples] == chosen
    # What is said of it is read as the same.
    again = parse_row_filter(found.source.partition(" where ")[2])
    assert select(table, again).samples == found.samples


def test_the_error_shows_how_values_with_commas_are_named(tmp_path: Path) -> None:
    table = read_csv(csv_file(tmp_path, WITH_COMMAS))
    with pytest.raises(ValueError, match='no row has label=run: choose from "a, b, c", walk, "walk, slowly"'):
        select(table, parse_row_filter("label=run"))
    with pytest.raises(ValueError, match='a comma in quotes, as in label="walk, slowly"'):
        parse_row_filter("label=")


def test_splits_of_a_folder_are_chosen_as_those_of_a_list(tmp_path: Path) -> None:
    root = touch(
        tmp_path, *(f"{s}/{c}/{i}.mp4" for s in ("train", "validation", "test") for c in "ab" for i in range(2))
    )
    for split, folder in (("test", "test"), ("val", "validation"), ("valid", "validation"), ("train", "train")):
        found = open_videos(root, on={"split": (split,)})
        assert {sample.path.parts[-3] for sample in found.samples} == {folder}
    assert len(open_videos(root, on={"split": ("val", "test")})) == 8
    splits = open_splits(root, val_on={"split": ("test",)})
    assert {sample.path.parts[-3] for sample in splits.val.samples} == {"test"}
    with pytest.raises(ValueError, match="has no split=best: choose from test, train, val"):
        open_videos(root, on={"split": ("best",)})
    with pytest.raises(ValueError, match="has the column split only"):
        open_videos(root, on={"label": ("a",)})
    with pytest.raises(ValueError, match="has no train/, val/ and test/ to choose from: rows can be chosen in a CSV"):
        open_videos(root / "test", on={"split": ("test",)})


def test_a_single_class_is_enough_to_evaluate(tmp_path: Path) -> None:
    root = touch(tmp_path, "walk/1.mp4", "walk/2.mp4")
    assert open_videos(root).classes == ("walk",)
    with pytest.raises(DatasetError, match="only one class"):
        open_splits(root)


def test_stratified_split(tmp_path: Path) -> None:
    samples = [
        Sample(path=tmp_path / f"{label}-{i}.mp4", label=label) for label, n in ((0, 20), (1, 3)) for i in range(n)
    ]
    videos = VideoList(classes=("a", "b"), samples=tuple(samples), source="here")
    train, val = split_stratified(videos, 0.2, 0)
    assert train.counts() == {"a": 16, "b": 2}
    assert val.counts() == {"a": 4, "b": 1}
    assert set(train.samples) | set(val.samples) == set(samples)
    backwards = VideoList(classes=("a", "b"), samples=tuple(samples[::-1]), source="here")
    assert set(split_stratified(backwards, 0.2, 0)[1].samples) == set(val.samples)
    assert set(split_stratified(videos, 0.2, 1)[1].samples) != set(val.samples)
    with pytest.raises(DatasetError, match="class b has a single file"):
        split_stratified(videos.subset(range(21)), 0.2, 0)
    for fraction in (0, 1):
        with pytest.raises(ValueError, match="fraction"):
            split_stratified(videos, fraction, 0)


def test_open_splits_of_a_folder(tmp_path: Path) -> None:
    one = touch(tmp_path / "one", *(f"{c}/{i}.mp4" for c in "ab" for i in range(5)))
    splits = open_splits(one)
    assert (len(splits.train), len(splits.val)) == (8, 2)
    assert "20% of every class (seed 0)" in splits.description
    two = touch(tmp_path / "two", "train/a/1.mp4", "train/b/2.mp4", "test/b/3.mp4")
    assert names(open_splits(two).val) == ["b:3.mp4"]
    assert "test (there is none for val)" in open_splits(two).description
    touch(two, "val/a/4.mp4")
    assert names(open_splits(two).val) == ["a:4.mp4"]
    assert names(open_videos(two)) == ["a:4.mp4"]
    assert len(open_videos(one)) == 10
    with pytest.raises(ValueError, match="CSV file only"):
        open_splits(one, train_on={"batch": ("A",)})
    with pytest.raises(DatasetError, match="without train/"):
        open_splits(touch(tmp_path / "three", "val/a/1.mp4", "val/b/1.mp4"))


def test_open_splits_of_a_csv(tmp_path: Path) -> None:
    path = csv_file(tmp_path, BATCHES)
    both = open_splits(path, train_on={"batch": ("A", "C")}, val_on={"batch": ("B",)})
    assert (len(both.train), len(both.val)) == (12, 6)
    assert "train on batch=A,C, val on batch=B" in both.description
    rest = open_splits(path, val_on={"batch": ("B",)})
    assert (set(rest.train.samples), set(rest.val.samples)) == (set(both.train.samples), set(both.val.samples))
    share = open_splits(path, train_on={"batch": ("A", "C")}, val_fraction=1 / 3)
    assert share.train.counts() == {"x": 4, "y": 4}
    assert {s.path.name[1] for s in share.val.samples} == {"A", "C"}
    assert len(open_splits(path).val) == 4
    with pytest.raises(DatasetError, match=r"6 videos are in train and in val: .*xA0\.mp4"):
        open_splits(path, train_on={"batch": ("A", "C")}, val_on={"batch": ("A",)})
    with pytest.raises(DatasetError, match="nothing to train on for class y"):
        open_splits(path, train_on={"label": ("x",)}, val_on={"label": ("y",)})
    assert len(open_videos(path, on={"batch": ("B",)})) == 6


@pytest.mark.parametrize("val", ["val", "valid", "validation", "test"])
def test_column_split(val: str, tmp_path: Path) -> None:
    rows = f"path,label,split\n1.mp4,a,train\n2.mp4,b,train\n3.mp4,a,{val}\n"
    splits = open_splits(csv_file(tmp_path, rows))
    assert (names(splits.train), names(splits.val)) == (["a:1.mp4", "b:2.mp4"], ["a:3.mp4"])
    assert "column split" in splits.description


def test_column_split_with_other_values(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="split 'extra' is none of"):
        open_splits(csv_file(tmp_path, "path,label,split\n1.mp4,a,train\n2.mp4,b,extra\n"))
    rows = "path,label,split\n1.mp4,a,train\n2.mp4,b,train\n3.mp4,a,val\n4.mp4,a,test\n"
    assert names(open_splits(csv_file(tmp_path, rows)).val) == ["a:3.mp4"]


def test_split_files_read_back(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", *(f"{c}/{i}.mp4" for c in ("10", "9", "b") for i in range(4)))
    splits = open_splits(root, seed=3)
    write_split(tmp_path / "split.csv", splits)
    again = open_splits(tmp_path / "split.csv")
    assert again.train.classes == splits.train.classes
    for mine, theirs in ((splits.train, again.train), (splits.val, again.val)):
        assert {(s.path.resolve(), s.label) for s in mine.samples} == {(s.path, s.label) for s in theirs.samples}


def test_bad_files_are_left_out_before_splitting(tmp_path: Path) -> None:
    from dualformer.datasets.manifest import Verdict, write_manifest

    root = touch(tmp_path / "data", *(f"{c}/{i}.mp4" for c in "ab" for i in range(5)))
    bad = [root / "a/0.mp4", root / "b/4.mp4"]
    verdicts = [
        Verdict(path=p, ok=p not in bad, reason="" if p not in bad else "broken, twice") for p in root.glob("*/*")
    ]
    write_manifest(tmp_path / "manifest.csv", verdicts)
    listed = read_bad_videos(tmp_path / "manifest.csv")
    assert listed == {p.resolve() for p in bad}
    splits = open_splits(root, bad=listed)
    assert splits.train.counts() == {"a": 3, "b": 3}
    assert not listed & {s.path for s in (*splits.train.samples, *splits.val.samples)}
    assert "listed as bad" in splits.description
    assert len(open_videos(root, bad=listed)) == 8


def test_splits_refuse_other_classes(tmp_path: Path) -> None:
    a = VideoList(classes=("a", "b"), samples=(Sample(path=tmp_path / "1", label=0),), source="x")
    b = VideoList(classes=("b", "a"), samples=(Sample(path=tmp_path / "2", label=0),), source="x")
    with pytest.raises(ValueError, match="share one list of classes"):
        Splits(train=a, val=b, description="")
    with pytest.raises(ValueError, match="label 2 is outside"):
        VideoList(classes=("a", "b"), samples=(Sample(path=tmp_path / "1", label=2),), source="x")


def test_real_csv(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        splits = open_splits(
            shared / "egogestar/splits.csv", train_on=parse_row_filter("batch=A,C"), val_on=parse_row_filter("batch=B")
        )
        folder = open_splits(shared / "egogestar")
    assert (len(splits.train), len(splits.val), len(splits.train.classes)) == (128, 89, 10)
    assert len(folder.train) + len(folder.val) == 217
    assert folder.train.classes == splits.train.classes


RECORDINGS = "path,label,batch,who\n" + "".join(
    f"rec{r}_{c}{i}.mp4,{c},{'A' if r < 4 else 'B'},p{r % 3}\n" for r in range(6) for c in ("x", "y") for i in range(2)
)


def recordings(videos: VideoList) -> set[str]:
    return {sample.path.name.split("_")[0] for sample in videos.samples}


def test_a_group_is_on_one_side_of_a_drawn_split(tmp_path: Path) -> None:
    splits = open_splits(csv_file(tmp_path, RECORDINGS), group=r"rec\d")
    assert not recordings(splits.train) & recordings(splits.val)
    assert recordings(splits.train) | recordings(splits.val) == {f"rec{number}" for number in range(6)}
    assert len(splits.val) == 4
    assert splits.description.endswith(r"; val is about 20% of every class, no rec\d on both sides (6 groups, seed 0)")


def test_a_group_may_be_a_column(tmp_path: Path) -> None:
    splits = open_splits(csv_file(tmp_path, RECORDINGS), group="who", val_fraction=0.3)
    assert {len(recordings(splits.train)), len(recordings(splits.val))} == {2, 4}


def test_groups_of_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{c}/subject{s}_{c}{i}.mp4" for s in range(5) for c in "ab" for i in range(2)))
    splits = open_splits(tmp_path, group="subject[0-9]")
    assert not recordings(splits.train) & recordings(splits.val)
    assert len(splits.val) == 4


@pytest.mark.parametrize("folds", [0, 3])
def test_groups_that_share_a_recording_are_on_one_side(folds: int, tmp_path: Path) -> None:
    rows = [f"{c}{n}.avi,{c},p{n}\n{c}{n}.mkv,{c},p{n + (n == 4)}\n" for c in "xy" for n in range(6)]
    path = csv_file(tmp_path, f"path,label,who\n{''.join(rows)}")
    splits = open_splits(path, group="who", folds=folds, fold=1 if folds else 0)
    assert (
        "no who on both sides, 6 of them joined to 5 as some share recordings (5 groups, seed 0)" in splits.description
    )
    sides = [{sample.path.stem for sample in part.samples} for part in (splits.train, splits.val)]
    assert not sides[0] & sides[1] and len({"x4", "y4", "x5", "y5"} & sides[0]) in (0, 4)


def test_a_group_may_be_a_folder(tmp_path: Path) -> None:
    rows = "".join(
        f"sf/subject{s}/{c}{i}.mp4,{c},{'val' if s < 2 else 'train'}\n" for s in range(6) for c in "xy" for i in "01"
    )
    path = csv_file(tmp_path, f"path,label,split\n{rows}")
    drawn = open_splits(path, train_on={"split": ("train", "val")}, group=r"subject\d")
    sides = [{sample.path.parent for sample in part.samples} for part in (drawn.train, drawn.val)]
    assert not sides[0] & sides[1] and len(sides[1]) == 1
    one = open_splits(path, group=r"subject\d")
    assert len(one.val) == 8 and one.description.endswith(r"no subject\d on both sides")
    with pytest.raises(DatasetError, match=r"subj of `group=subj` are in train and in val"):
        open_splits(path, group="subj")
    with pytest.raises(
        DatasetError, match=r"of `group=sf` are in train|`group=sf` is not found in the name of the file or"
    ):
        open_splits(path, group="sf")


def test_groups_on_both_sides_of_a_split_of_ones_own_are_refused(tmp_path: Path) -> None:
    path = csv_file(tmp_path, RECORDINGS)
    fine = open_splits(path, train_on={"batch": ("A",)}, val_on={"batch": ("B",)}, group=r"rec\d")
    assert fine.description.endswith(r"no rec\d on both sides")
    one_each = open_splits(path, train_on={"batch": ("A",)}, val_on={"batch": ("B",)}, group="batch")
    assert recordings(one_each.val) == {"rec4", "rec5"}
    with pytest.raises(DatasetError, match="p1, p2 of `group=who` are in train and in val"):
        open_splits(path, train_on={"batch": ("A",)}, val_on={"batch": ("B",)}, group="who")


@pytest.mark.parametrize("group", [None, r"rec\d"])
def test_every_video_is_validated_on_in_one_of_the_folds(group: str | None, tmp_path: Path) -> None:
    path = csv_file(tmp_path, RECORDINGS)
    folds = [open_splits(path, group=group, fold=fold, folds=3) for fold in (1, 2, 3)]
    validated = [sample.path for splits in folds for sample in splits.val.samples]
    assert len(validated) == len(set(validated)) == 24
    for splits in folds:
        assert len(splits.train) == 16
        assert splits.val.counts() == {"x": 4, "y": 4}
        if group:
            assert not recordings(splits.train) & recordings(splits.val)
    assert f"val is fold 2 of 3{', no rec' if group else ''}" in folds[1].description


@pytest.mark.parametrize("fold", [1, 2])
def test_a_fold_with_all_videos_of_a_class_is_told_by_every_fold(fold: int, tmp_path: Path) -> None:
    """Of three groups that have a class in common, each two of them, two are in one of two folds."""
    pairs = {"x": "ab", "y": "bc", "z": "ac"}
    path = csv_file(
        tmp_path, "path,label,who\n" + "".join(f"{c}{p}.mp4,{c},{p}\n" for c, people in pairs.items() for p in people)
    )
    with pytest.raises(
        DatasetError, match=r"of 2 would have all videos of class \w \(\w, \w\) to validate on, and none"
    ):
        open_splits(path, group="who", fold=fold, folds=2)
    assert open_splits(path, group="who", fold=fold, folds=3).val.counts()


def test_folds_of_too_few_videos_are_refused(tmp_path: Path) -> None:
    few = csv_file(tmp_path, "path,label\n1.mp4,a\n2.mp4,a\n3.mp4,b\n")
    with pytest.raises(DatasetError, match="class b has a single file, and a split takes two: add one"):
        open_splits(few, fold=1, folds=2)
    path = csv_file(tmp_path, RECORDINGS)
    with pytest.raises(DatasetError, match=r"list\.csv: 30 folds take as many videos, and there are 24: ask for fewer"):
        open_splits(path, fold=1, folds=30)
    with pytest.raises(
        DatasetError, match=r"5 folds take as many groups, and there are 3 \(p0, p1, p2\): ask for fewer"
    ):
        open_splits(path, group="who", fold=1, folds=5)


@pytest.mark.parametrize("own", ["val", "test"])
def test_what_is_left_out_of_folds_is_told(own: str, tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/{c}/{n}.mp4" for part in ("train", own) for c in "ab" for n in range(3)))
    splits = open_splits(tmp_path, fold=1, folds=2)
    assert {sample.path.parts[-3] for part in (splits.train, splits.val) for sample in part.samples} == {"train"}
    assert "; what it has to validate on (6 videos) is left out; val is fold 1 of 2 (seed 0)" in splits.description


def test_folds_are_of_what_is_trained_on(tmp_path: Path) -> None:
    path = csv_file(tmp_path, RECORDINGS)
    splits = open_splits(path, train_on={"batch": ("A",)}, group=r"rec\d", fold=1, folds=2)
    assert recordings(splits.train) | recordings(splits.val) == {"rec0", "rec1", "rec2", "rec3"}
    with pytest.raises(ValueError, match="leave `val_on` out"):
        open_splits(path, val_on={"batch": ("A",)}, fold=1, folds=2)
    with pytest.raises(ValueError, match="not 3 of 2"):
        open_splits(path, fold=3, folds=2)
    with pytest.raises(DatasetError, match="puts all videos into one group"):
        open_splits(path, group=r"\.mp4", fold=1, folds=2)


def test_a_split_of_groups_does_not_depend_on_where_the_videos_lie(tmp_path: Path) -> None:
    found = []
    for place in ("one", "another/place"):
        (tmp_path / place).mkdir(parents=True)
        splits = open_splits(csv_file(tmp_path / place, RECORDINGS), group=r"rec\d", seed=3)
        found.append(names(splits.val))
    assert found[0] == found[1]
