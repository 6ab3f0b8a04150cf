"""Benchmarks in their own layouts: counts, labels and splits of miniature copies, and what each mistake is called."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import made_benchmarks as made
import pytest
from made_benchmarks import text, videos

from dualformer.datasets import benchmarks
from dualformer.datasets.benchmark_classes import class_names
from dualformer.datasets.benchmarks.find_benchmark import (
    all_benchmarks,
    parse_benchmark,
    read_benchmark,
    recognise_benchmark,
)
from dualformer.datasets.benchmarks.listing import Listing
from dualformer.datasets.data_source import survey
from dualformer.datasets.samples import DatasetError, VideoList
from dualformer.datasets.splits import open_splits, open_videos
from dualformer.video.file_slices import media_path


def read(data: str) -> Listing:
    named = parse_benchmark(data)
    assert named is not None
    return read_benchmark(named)


def counts(listing: Listing) -> dict[str, int]:
    return {split: len(videos) for split, videos in listing.splits.items()}


def labels(videos: VideoList) -> dict[str, str]:
    return {sample.path.stem: videos.classes[sample.label] for sample in videos.samples}


def mistake(data: str) -> str:
    with pytest.raises(DatasetError) as caught:
        read(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def swap(path: Path, old: str, new: str) -> None:
    before = path.read_text()
    assert before.count(old) == 1
    path.write_text(before.replace(old, new))


@pytest.mark.parametrize("layout", ["flat", "classes", "underscores"])
def test_kinetics(layout: str, tmp_path: Path) -> None:
    listing = read(f"kinetics400:{made.kinetics(tmp_path, layout=layout)}")
    assert listing.classes == class_names("kinetics400")
    assert counts(listing) == {"train": 3, "val": 2}
    assert labels(listing.splits["train"]) == {
        "0347ZoDXyP0_000095_000105": "abseiling",
        "-0QT1IyN_CU_000000_000010": "playing guitar",
        "_aBc_1_2345_000007_000017": "massaging person's head",
    }
    assert labels(listing.splits["val"])["zzzzzzzzzz0_001234_001244"] == "hurling (sport)"
    assert listing.splits["val"].samples[0].label == listing.classes.index("hurling (sport)")
    assert "2 test videos without labels left out" in listing.describe()


def test_kinetics_with_another_order_of_columns_and_labelled_test_videos(tmp_path: Path) -> None:
    root = made.kinetics(tmp_path)
    text(
        root / "annotations" / "val.csv", "youtube_id,time_start,time_end,split,label", "a_b,1,11,validate,air_drumming"
    )
    text(root / "annotations" / "test.csv", "\ufeffsplit,label,time_end,time_start,youtube_id", "test,zumba,12,2,c")
    videos(root, ["val/a_b_000001_000011.webm", "test/c_000002_000012.mp4"])
    listing = read(f"kinetics400:{root}")
    assert counts(listing) == {"train": 3, "val": 1, "test": 1}
    assert listing.splits["val"].samples[0].label == listing.classes.index("air drumming")
    assert listing.splits["test"].samples[0].label == 399


def test_kinetics_replacements_stand_in_for_corrupt_files(tmp_path: Path) -> None:
    root = made.kinetics(tmp_path)
    folder = "replacement/replacement_for_corrupted_k400"
    videos(root, [f"{folder}/0347ZoDXyP0_000095_000105.mp4", "elsewhere/zzzzzzzzzz0_001234_001244.mp4"])
    listing = read(f"kinetics400:{root}")
    paths = [sample.path.relative_to(root) for videos in listing.splits.values() for sample in videos.samples]
    assert paths[0] == Path(folder, "0347ZoDXyP0_000095_000105.mp4")
    assert paths[3] == Path("val/zzzzzzzzzz0_001234_001244.mp4")
    videos(root, ["val/again/zzzzzzzzzz0_001234_001244.mp4"])
    said = mistake(f"kinetics400:{root}")
    assert f"{root}/annotations/val.csv:2: " in said and "could both be zzzzzzzzzz0_001234_001244" in said


def test_kinetics600_has_the_classes_and_numbers_of_its_own(tmp_path: Path) -> None:
    text(
        tmp_path / "train.csv", "label,youtube_id,time_start,time_end,split",
        "zumba,a,0,10,train", "base jumping,b,3,13,train", "abseiling,c,1,11,train",
    )  # fmt: skip
    videos(tmp_path, ["train/a_000000_000010.mp4", "train/b_000003_000013.mp4"])
    listing = read(f"kinetics600:{tmp_path}")
    assert listing.classes == class_names("kinetics600") and len(listing.classes) == 600
    assert [s.label for s in listing.splits["train"].samples] == [599, listing.classes.index("base jumping")]
    assert [m.listed for m in listing.splits["train"].missing] == [f"{tmp_path}/train.csv:4"]
    assert f"{tmp_path}/train.csv:3: class 'base jumping' is none of the 400" in mistake(f"kinetics400:{tmp_path}")


def test_kinetics700_has_its_classes_from_its_own_files(tmp_path: Path) -> None:
    names = [f"class {i:03d}" for i in range(698)] + ["Zorbing", "abseiling"]
    header = "label,youtube_id,time_start,time_end,split"
    text(tmp_path / "train.csv", header, *(f"{name},v{i},0,10,train" for i, name in enumerate(reversed(names))))
    text(tmp_path / "validate.csv", header, "Zorbing,w,1,11,validate")
    videos(tmp_path, ["train/v0_000000_000010.mp4", "val/w_000001_000011.mp4"])
    listing = read(f"kinetics700:{tmp_path}")
    assert (len(listing.classes), listing.classes[0], listing.classes[699]) == (700, "abseiling", "Zorbing")
    assert [(len(v), len(v.missing)) for v in listing.splits.values()] == [(1, 699), (1, 0)]
    assert listing.splits["val"].samples[0].label == 699
    swap(tmp_path / "train.csv", "class 005,", "class 006,")
    assert "name 699 classes" in mistake(f"kinetics700:{tmp_path}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("abseiling,x,1,11", "train.csv:5: 4 fields where the header has 6"),
        ("abseiling,x,1,soon,train,0", "train.csv:5: no video 'x' from second '1' to 'soon'"),
        ("abseiling,x,11,1,train,0", "train.csv:5: no video 'x' from second '11' to '1'"),
        ("abseiling,x,1,11,extra,0", "train.csv:5: split 'extra' is none of train, val, test"),
        ("sleeping,x,1,11,train,0", "train.csv:5: class 'sleeping' is none of the 400 of kinetics400"),
        (",x,1,11,train,0", "train.csv:5: no label for a video of train"),
        ('"abseiling,x,1,11,train,0', "train.csv:5: unexpected end of data"),
        ("zumba,0347ZoDXyP0,95,105,train,0", "train.csv:5: 0347ZoDXyP0_000095_000105 is abseiling already, by"),
        ("abseiling,0347ZoDXyP0,95,105,val,0", "train.csv:5: 0347ZoDXyP0_000095_000105 is in train already, by"),
    ],
)
def test_kinetics_mistakes_name_their_line(line: str, said: str, tmp_path: Path) -> None:
    root = made.kinetics(tmp_path)
    with (root / "annotations" / "train.csv").open("a") as file:
        file.write(line + "\n")
    assert f"{root}/annotations/{said}" in mistake(f"kinetics400:{root}")


def test_a_line_that_repeats_another_is_left_out_and_named(tmp_path: Path) -> None:
    root = made.kinetics(tmp_path)
    with (root / "annotations" / "train.csv").open("a") as file:
        file.write("abseiling,0347ZoDXyP0,95,105,train,0\n")
    listing = read(f"kinetics400:{root}")
    assert counts(listing)["train"] == 3
    listed = root / "annotations" / "train.csv"
    assert f"1 line that repeats another left out ({listed}:5 is {listed}:2)" in listing.describe()


def test_several_mistakes_are_told_at_once(tmp_path: Path) -> None:
    root = made.kinetics(tmp_path)
    with (root / "annotations" / "train.csv").open("a") as file:
        file.writelines(f"sleeping,x{i},1,11,train,0\n" for i in range(5))
    said = mistake(f"kinetics400:{root}")
    assert [f"train.csv:{line}: " in said for line in (5, 6, 7, 8)] == [True, True, True, False]
    assert "; and 2 more (take the original file, or remove these lines)" in said


def test_kinetics_without_annotations_or_videos(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        read(f"kinetics600:{tmp_path / 'none'}")
    text(tmp_path / "list.csv", "path,label", "a.mp4,b")
    assert "no CSV file with the columns youtube_id, time_start, time_end" in mistake(f"kinetics600:{tmp_path}")
    (tmp_path / "list.csv").unlink()
    text(tmp_path / "train.csv", "label,youtube_id,time_start,time_end,split", "zumba,x,1,11,train")
    assert "no video or image files in it" in mistake(f"kinetics600:{tmp_path}")
    videos(tmp_path, ["other.mp4"])
    said = mistake(f"kinetics600:{tmp_path}")
    assert f"none of the 1 videos is there: {tmp_path}/train.csv:2 x_000001_000011.mp4; name the folder" in said


@pytest.mark.parametrize("flat", [False, True])
def test_ucf101(flat: bool, tmp_path: Path) -> None:
    root = made.ucf101(tmp_path, flat=flat)
    listing = read(f"ucf101:{root}")
    assert (listing.title, counts(listing)) == ("UCF-101, split 1", {"train": 202, "test": 51})
    assert listing.classes == class_names("ucf101")
    for part in listing.splits.values():
        assert all(name == f"v_{label}_{name[-7:]}" for name, label in labels(part).items())
    assert {name[-7:-4] for name in labels(listing.splits["test"])} == {"g04"}
    assert {name[-7:-4] for name in labels(read(f"ucf101@2:{root}").splits["test"])} == {"g01"}
    assert read(f"ucf101@split=3:{root}").title == "UCF-101, split 3"


def test_ucf101_spells_a_class_in_two_ways(tmp_path: Path) -> None:
    root = made.ucf101(tmp_path)
    lists = root / "ucfTrainTestlist" / "testlist01.txt"
    swap(lists, "HandstandPushups/v_HandstandPushups_g04_c01.avi", "HandStandPushups/v_HandstandPushups_g04_c01.avi")
    assert len(read(f"ucf101:{root}").splits["test"]) == 51


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("trainlist01.txt", "v_Archery_g02_c01.avi 3", "v_Archery_g02_c01.avi 102", "class number 102 is not within 1"),
        ("trainlist01.txt", "v_Archery_g02_c01.avi 3", "v_Archery_g02_c01.avi 4", "class number 4 where Archery is 3"),
        ("trainlist01.txt", "v_Archery_g02_c01.avi 3", "v_Archery_g02_c01.avi", "no class number in a training list"),
        ("trainlist01.txt", "Archery/v_Archery_g02_c01.avi 3", "Bow/v_Archery_g02_c01.avi 3", "class 'Bow' is none of"),
        ("testlist01.txt", "Archery/v_Archery_g04_c01.avi", "v_Archery_g04_c01.avi", "is not CLASS/FILE"),
        ("testlist01.txt", "Archery/v_Archery_g04", "Archery/v_Archery_g02", "g02_c01.avi is in train already, by"),
    ],
)  # fmt: skip
def test_ucf101_mistakes_name_their_line(file: str, old: str, new: str, said: str, tmp_path: Path) -> None:
    root = made.ucf101(tmp_path)
    path = root / "ucfTrainTestlist" / file
    swap(path, old, new)
    line = 1 + next(i for i, text in enumerate(path.read_text().splitlines()) if new in text)
    message = mistake(f"ucf101:{root}")
    assert message.startswith(f"{path}:{line}: ") and said in message


def test_classes_in_another_order_are_refused(tmp_path: Path) -> None:
    index = made.ucf101(tmp_path) / "ucfTrainTestlist" / "classInd.txt"
    lines = index.read_text().splitlines()
    text(index, *lines[:10], "11 Billiards", "12 Biking", *lines[12:])
    said = mistake(f"ucf101:{tmp_path}")
    assert f"{index}:11: class 10 is 'Billiards' here and 'Biking' in the official order of ucf101" in said
    text(index, *lines[:100])
    assert f"{index}:100: 100 classes, where ucf101 has 101" in mistake(f"ucf101:{tmp_path}")
    text(index, *lines[:5], *lines[6:])
    assert f"{index}:6: number 7 where 6 comes next" in mistake(f"ucf101:{tmp_path}")
    index.unlink()
    assert "no classInd.txt in it (the class index)" in mistake(f"ucf101:{tmp_path}")


def test_hmdb51(tmp_path: Path) -> None:
    root = made.hmdb51(tmp_path)
    listing = read(f"hmdb51:{root}")
    assert listing.classes == class_names("hmdb51")
    assert counts(listing) == {"train": 102, "test": 51}
    assert all(f"_(a)_{label}_u_" in name for part in listing.splits.values() for name, label in labels(part).items())
    assert {name[-1] for name in labels(listing.splits["test"])} == {"2"}
    assert "51 videos that this split does not use left out" in listing.describe()
    assert {name[-1] for name in labels(read(f"hmdb51@2:{root}").splits["train"])} == {"2", "3"}


def test_hmdb51_mistakes(tmp_path: Path) -> None:
    root = made.hmdb51(tmp_path)
    path = root / "testTrainMulti_7030_splits" / "golf_test_split1.txt"
    lines = path.read_text().splitlines()
    text(path, *lines[:3], lines[3].replace(" 0", " 3"))
    assert f"{path}:4: 'Clip_#3_(a)_golf_u_nm_np1_ba_goo_3.avi 3' is not a file and 0, 1 or 2" in mistake(
        f"hmdb51:{root}"
    )
    text(path, *lines, lines[0].replace(" 1", " 2"))
    assert f"{path}:5: golf/Clip_#0_(a)_golf_u_nm_np1_ba_goo_0.avi is in train already" in mistake(f"hmdb51:{root}")
    path.unlink()
    assert "no golf_test_split1.txt in it: put the lists of all 51 classes there" in mistake(f"hmdb51:{root}")
    text(path.with_name("dance_test_split1.txt"), "x.avi 1")
    assert "class 'dance' is none of the 51 of hmdb51" in mistake(f"hmdb51:{root}")


def test_diving48(tmp_path: Path) -> None:
    root = made.diving48(tmp_path)
    listing = read(f"diving48:{root}")
    assert (listing.title, counts(listing)) == ("Diving-48, version 2", {"train": 4, "test": 1})
    assert [sample.label for sample in listing.splits["train"].samples] == [0, 47, 1, 2]
    assert listing.classes[47] == "Reverse+Dive+NoTwis+TUCK"
    assert [sample.label for sample in read(f"diving48@v1:{root}").splits["test"].samples] == [4]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"label": 47', '"label": 48', ":8: label 48 is not within 0 to 47"),
        ('"label": 47', '"label": "47"', ":8: label '47' is not within 0 to 47"),
        ('"vid_name": "-mmq0PT_u8k_00001"', '"name": "x"', ":8: an entry without vid_name"),
        ('"-mmq0PT_u8k_00001"', '"-mmq0PT_u8k_00000"', ":8: -mmq0PT_u8k_00000 is Back+15som+05Twis+FREE already, by"),
        ('"label": 47,\n    "start_frame": 0', '"label": 47,\n    "start_frame": 7', ":8: no frames from 7 to 6"),
        ('"label": 47,', '"label": 47', ":11: not JSON (Expecting ',' delimiter)"),
    ],
)
def test_diving48_mistakes_name_their_line(old: str, new: str, said: str, tmp_path: Path) -> None:
    path = made.diving48(tmp_path) / "Diving48_V2_train.json"
    swap(path, old, new)
    assert f"{path}{said}" in mistake(f"diving48:{tmp_path}")


def test_diving48_with_another_vocabulary(tmp_path: Path) -> None:
    path = made.diving48(tmp_path) / "Diving48_vocab.json"
    words = json.loads(path.read_text())
    path.write_text(json.dumps([words[1], words[0], *words[2:]]))
    assert "class 0 is 'Back+15som+15Twis+FREE' here and 'Back+15som+05Twis+FREE'" in mistake(f"diving48:{tmp_path}")
    path.write_text("[]")
    assert "0 classes, where diving48 has 48" in mistake(f"diving48:{tmp_path}")
    path.write_text('{"a": 1}')
    assert f"{path}:1: expected a JSON array" in mistake(f"diving48:{tmp_path}")


@pytest.mark.parametrize("old", [False, True])
def test_ssv2(old: bool, tmp_path: Path) -> None:
    root = made.ssv2(tmp_path, old=old)
    listing = read(f"ssv2:{root}")
    assert listing.classes == made.SSV2
    assert counts(listing) == {"train": 3, "val": 2}
    assert {s.path.name: s.label for s in listing.splits["train"].samples} == {"10.webm": 1, "2.webm": 2, "33.webm": 0}
    assert "1 test video without labels left out" in listing.describe()


def test_ssv2_with_the_answers_to_its_test(tmp_path: Path) -> None:
    root = made.ssv2(tmp_path)
    text(root / "labels" / "test-answers.csv", "6;Holding something next to something")
    assert [s.label for s in read(f"ssv2:{root}").splits["test"].samples] == [1]
    text(root / "labels" / "test-answers.csv", "6,Holding")
    assert "test-answers.csv:1: '6,Holding' is not ID;TEMPLATE" in mistake(f"ssv2:{root}")


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("train.json", "[Something] falling", "[Something] rising", "train.json:3: template 'Something rising like a"),
        (
            "train.json",
            '"id": "2"',
            '"id": "10"',
            "train.json:3: 10 is Holding something next to something already, by",
        ),
        ("train.json", '"id": "2", ', "", "train.json:3: an entry without an id"),
        ("validation.json", '"id": "4"', '"id": "33"', "validation.json:2: 33 is in train already, by"),
        ("labels.json", '"0"', '"3"', "labels.json: no template has the number 0"),
        ("labels.json", '"0"', '"zero"', "labels.json: 'Bending something so that it deforms' has 'zero'"),
    ],
)
def test_ssv2_mistakes_name_their_line(file: str, old: str, new: str, said: str, tmp_path: Path) -> None:
    path = made.ssv2(tmp_path) / "labels" / file
    swap(path, old, new)
    assert f"{path.parent}/{said}" in mistake(f"ssv2:{tmp_path}")


KNOWN = "diving48, hmdb51, kinetics400, kinetics600, kinetics700, list, ssv2, ucf101"

MAKERS: dict[str, Callable[[Path], Path]] = {
    "kinetics400": made.kinetics,
    "ucf101": made.ucf101,
    "hmdb51": made.hmdb51,
    "diving48": made.diving48,
    "ssv2": made.ssv2,
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_hash_goes_by_what_is_there_and_not_where(name: str, tmp_path: Path) -> None:
    one = MAKERS[name](tmp_path / "one")
    other = MAKERS[name](tmp_path / "other" / "deeper")
    first, second = survey(f"{name}:{one}"), survey(f"{name}:{other}")
    assert len(first.manifest_hash) == 16 and first.manifest_hash == second.manifest_hash
    assert not first.missing and all(media_path(media).is_file() for media in first.paths)
    gone = media_path(second.paths[-1])
    gone.unlink()
    less = survey(f"{name}:{other}")
    assert less.manifest_hash != first.manifest_hash
    assert [missing.path.stem for missing in less.missing] == [gone.stem]
    file, _, line = less.missing[0].listed.rpartition(":")
    entry = "".join(Path(file).read_text().splitlines()[int(line) - 1 :][:2])
    assert (gone.stem[:11] if name == "kinetics400" else gone.stem) in entry
    assert gone not in less.paths and "missing: 1 of " in less.description


def test_the_hash_tells_labels_splits_and_layout_apart(tmp_path: Path) -> None:
    flat = survey(f"kinetics400:{made.kinetics(tmp_path / 'flat')}")
    classes = survey(f"kinetics400:{made.kinetics(tmp_path / 'classes', layout='classes')}")
    assert flat.manifest_hash == classes.manifest_hash
    changed = {flat.manifest_hash}
    for i, (old, new) in enumerate([('"abseiling"', '"zumba"'), (",train,", ",val,"), (",train,", ",test,")]):
        root = made.kinetics(tmp_path / str(i))
        path = root / "annotations" / "train.csv"
        path.write_text(path.read_text().replace(old, new, 1))
        changed.add(survey(f"kinetics400:{root}").manifest_hash)
    assert len(changed) == 4


def test_training_goes_on_without_missing_videos_and_says_so(tmp_path: Path) -> None:
    root = made.ucf101(tmp_path)
    gone = ["Archery/v_Archery_g02_c01.avi", "YoYo/v_YoYo_g04_c01.avi"]
    for name in gone:
        (root / "UCF-101" / name).unlink()
    splits = open_splits(f"ucf101:{root}")
    assert (len(splits.train), len(splits.val)) == (201, 50)
    assert [missing.label for missing in splits.train.missing] == [2]
    lists = root / "ucfTrainTestlist"
    assert (
        f"missing: 1 of train, 1 of test ({lists}/trainlist01.txt:5 v_Archery_g02_c01.avi, "
        f"{lists}/testlist01.txt:51 v_YoYo_g04_c01.avi)"
    ) in splits.description
    assert "train on split=train, val on split=test" in splits.description
    (root / "UCF-101" / "Archery/v_Archery_g03_c01.avi").unlink()
    with pytest.raises(DatasetError, match="nothing to train on for class Archery"):
        open_splits(f"ucf101:{root}")


def test_evaluation_stops_at_a_missing_video_or_counts_it_as_wrong(tmp_path: Path) -> None:
    root = made.ucf101(tmp_path)
    (root / "UCF-101" / "YoYo" / "v_YoYo_g04_c01.avi").unlink()
    with pytest.raises(
        DatasetError, match=r"1 of 51 videos are missing \(.*testlist01\.txt:51 v_YoYo.*`missing=wrong`"
    ):
        open_videos(f"ucf101:{root}")
    judged = open_videos(f"ucf101:{root}", missing="wrong")
    assert (len(judged), [missing.label for missing in judged.missing]) == (50, [100])
    assert len(open_videos(f"ucf101:{root}", on={"split": ("train",)})) == 202
    listed = text(tmp_path / "list.csv", "path,label", "UCF-101/YoYo/v_YoYo_g01_c01.avi,yo", "none.avi,no")
    with pytest.raises(DatasetError, match=r"list\.csv:3: 1 of 2 files do not exist"):
        open_videos(listed)
    counted = open_videos(listed, missing="wrong")
    assert (len(counted), counted.missing[0].listed, counted.missing[0].label) == (1, f"{listed}:3", 0)


def test_rows_of_a_benchmark_are_its_splits(tmp_path: Path) -> None:
    data = f"ucf101:{made.ucf101(tmp_path)}"
    assert len(open_videos(data, on={"split": ("train", "test")})) == 253
    both = open_splits(data, train_on={"split": ("train", "test")}, val_fraction=0.3)
    assert len(both.train) + len(both.val) == 253 and "val is 30% of every class" in both.description
    with pytest.raises(ValueError, match="UCF-101, split 1 has no split=val: choose from train, test"):
        open_videos(data, on={"split": ("val",)})
    with pytest.raises(ValueError, match="UCF-101, split 1 has the column split only, with train, test"):
        open_splits(data, train_on={"label": ("Archery",)})
    bad = {media_path(media).resolve() for media in survey(data).paths if "Archery_g02" in str(media)}
    assert open_splits(data, bad=bad).train.counts()["Archery"] == 1


def test_names_and_options(tmp_path: Path) -> None:
    assert parse_benchmark(tmp_path) is None and parse_benchmark("no/such/folder") is None
    odd = tmp_path / "ucf101:here"
    odd.mkdir()
    assert parse_benchmark(odd) is None
    named = parse_benchmark("LIST@pattern=img_{:05d}.jpg,fps=25:/a:b")
    assert named is not None
    assert (named.name, dict(named.options)) == ("list", {"pattern": "img_{:05d}.jpg", "fps": "25"})
    assert named.path == Path("/a:b")
    for wrong, said in (
        ("kinetics:/d", f"no data set is called 'kinetics': choose from {KNOWN}"),
        ("nowhere:x/y", "no data set is called 'nowhere': choose from diving48"),
        ("ucf101@:/d", "cannot read '' behind ucf101@: it takes a split, 1, 2, 3, as in ucf101@3:PATH"),
        ("kinetics400@2:/d", "cannot read '2' behind kinetics400@: it takes nothing: write kinetics400:PATH"),
        ("list@fps=1,fps=2:/d", "cannot read 'fps=2' behind list@"),
    ):
        with pytest.raises(ValueError) as caught:
            parse_benchmark(wrong)
        assert said in str(caught.value)
    for wrong, said in (
        ("ucf101@4", "ucf101@ does not take '4': it takes a split, 1, 2, 3"),
        ("diving48@3", "diving48@ does not take '3': it takes a version, 1, 2"),
        ("ucf101@fold=1", "ucf101@ does not take 'fold'"),
        ("list@speed=1", "list@ does not take 'speed': it takes only=…, videos=…, classes=…, pattern=…, fps=…"),
        ("list@fps=fast", "list@fps=fast: frames a second must be a number more than 0"),
        ("list@pattern=img.jpg", "'img.jpg' is no pattern of numbered images"),
    ):
        with pytest.raises(ValueError) as caught:
            read(f"{wrong}:{tmp_path}")
        assert said in str(caught.value)


@pytest.mark.parametrize("name", MAKERS)
def test_a_benchmark_without_its_name_is_recognised(name: str, tmp_path: Path) -> None:
    root = MAKERS[name](tmp_path)
    if name == "ssv2":
        text(root / "labels" / "test-answers.csv", "6;Holding something next to something")
    with pytest.raises(DatasetError, match=f"if this is a benchmark as downloaded, say {name}:{root}"):
        open_splits(root)


def test_a_module_with_a_record_is_all_that_a_benchmark_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "more"
    text(
        folder / "clapping.py",
        "from dualformer.datasets.benchmarks.listing import Benchmark, Entry, assemble",
        "",
        "def read(at):",
        "    entry = Entry(name='one', label=0, split='train', listed='list.txt:1', file='one.mp4')",
        "    return assemble('Clapping', at.path, ('clap',), [entry])",
        "",
        "BENCHMARK = Benchmark(names=('clapping',), read=read, options={'hands': ('1', '2')}, files=('hands.txt',))",
    )
    monkeypatch.setattr(benchmarks, "__path__", [*benchmarks.__path__, str(folder)])
    all_benchmarks.cache_clear()
    try:
        text(tmp_path / "data" / "hands.txt", "two")
        videos(tmp_path / "data", ["deep/one.webm"])
        assert counts(read(f"clapping@2:{tmp_path / 'data'}")) == {"train": 1}
        assert recognise_benchmark(tmp_path / "data") == "clapping"
        with pytest.raises(ValueError, match="clapping@ does not take '3': it takes a hands, 1, 2, as in clapping@2"):
            read(f"clapping@3:{tmp_path / 'data'}")
    finally:
        all_benchmarks.cache_clear()
        sys.modules.pop("dualformer.datasets.benchmarks.clapping")
