"""List files of other code bases: separators, class names, where paths start, frame folders; from list to figures."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_benchmarks import frame_folder, text, videos

from dualformer.datasets.benchmarks.find_benchmark import parse_benchmark, read_benchmark
from dualformer.datasets.benchmarks.listing import Listing
from dualformer.datasets.clip_datasets import TrainingClips, ViewClips
from dualformer.datasets.data_source import survey
from dualformer.datasets.decode_check import check_videos
from dualformer.datasets.samples import DatasetError
from dualformer.datasets.split_file import write_split
from dualformer.datasets.splits import open_splits, open_videos
from dualformer.video.augmentation import Augmentation
from dualformer.video.preprocessing import kinetics


def read(data: str) -> Listing:
    named = parse_benchmark(data)
    assert named is not None
    return read_benchmark(named)


def mistake(data: str) -> str:
    with pytest.raises(DatasetError) as caught:
        read(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("separator", [" ", ",", "\t", ", ", "  "])
def test_separators(separator: str, tmp_path: Path) -> None:
    names = ["a/one.mp4", "b/two, or 3 4.avi", "b/with space 7.mp4"]
    text(tmp_path / "train.csv", *(f"{name}{separator}{i % 2}" for i, name in enumerate(names)))
    text(tmp_path / "val.csv", f"a/four.mp4{separator}1")
    videos(tmp_path, [*names, "a/four.mp4"])
    listing = read(f"list:{tmp_path}")
    train = listing.splits["train"]
    assert listing.classes == ("0", "1")
    assert [(s.path.relative_to(tmp_path).as_posix(), s.label) for s in train.samples] == [
        (name, i % 2) for i, name in enumerate(names)
    ]
    assert len(listing.splits["val"]) == 1


@pytest.mark.parametrize("names", ["archery\nair drumming", "0 archery\n1 air drumming", "1 archery\n2,air drumming"])
def test_class_names_beside_the_lists(names: str, tmp_path: Path) -> None:
    text(tmp_path / "label_map_k2.txt", *names.splitlines())
    text(tmp_path / "k2_train_list_videos.txt", "air_drumming/a.mp4 1", "archery/b.mp4 archery", "archery/c.mp4 0")
    text(tmp_path / "k2_val_list_videos.txt", "air_drumming/d.mp4 Air_Drumming")
    videos(tmp_path / "videos_train", ["air_drumming/a.mp4", "archery/b.mp4", "archery/c.mp4"])
    videos(tmp_path / "videos_val", ["air_drumming/d.mp4"])
    listing = read(f"list:{tmp_path}")
    assert listing.classes == ("archery", "air drumming")
    assert [s.label for s in listing.splits["train"].samples] == [1, 0, 0]
    assert listing.splits["val"].samples[0].path == tmp_path / "videos_val" / "air_drumming" / "d.mp4"
    assert listing.splits["val"].samples[0].label == 1


def test_class_names_of_a_benchmark_and_videos_elsewhere(tmp_path: Path) -> None:
    text(tmp_path / "lists" / "train.txt", "x.mp4 399", "y.mp4 0")
    videos(tmp_path / "elsewhere", ["x.mp4", "y.mp4"])
    listing = read(f"list@classes=kinetics400,videos=../elsewhere:{tmp_path / 'lists'}")
    assert [listing.classes[s.label] for s in listing.splits["train"].samples] == ["zumba", "abseiling"]
    with pytest.raises(
        FileNotFoundError, match="no such file of class names, nor one of diving48, hmdb51, kinetics400"
    ):
        read(f"list@classes=kinetics40:{tmp_path / 'lists'}")


def test_labels_without_names_are_classes_of_their_own(tmp_path: Path) -> None:
    text(tmp_path / "train.txt", "x.mp4 12", "y.mp4 3", "z.mp4 3")
    videos(tmp_path, ["x.mp4", "y.mp4", "z.mp4"])
    listing = read(f"list:{tmp_path / 'train.txt'}")
    assert listing.classes == ("3", "12")
    assert len(open_videos(f"list:{tmp_path / 'train.txt'}")) == 3
    text(tmp_path / "train.txt", "x.mp4 wave", "y.mp4 clap")
    assert read(f"list:{tmp_path}").classes == ("clap", "wave")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("v3.mp4 2", "label '2' is none of the 0 to 1"),
        ("v3.mp4 -1", "label '-1' is none of the 0 to 1"),
        ("v3.mp4 jump", "label 'jump' is none of the 2 classes"),
        ("v3.mp4", "'v3.mp4' is neither VIDEO LABEL nor FOLDER FRAMES LABEL"),
        ("v3 1", "'v3 1' is neither VIDEO LABEL nor FOLDER FRAMES LABEL"),
        ("v3 0 1", "'v3 0 1' is neither VIDEO LABEL nor FOLDER FRAMES LABEL"),
        ("v1.mp4 1", "v1.mp4 is clap already, by "),
    ],
)
def test_mistakes_name_their_line(line: str, said: str, tmp_path: Path) -> None:
    text(tmp_path / "classes.txt", "clap", "wave")
    path = text(tmp_path / "train.txt", "v1.mp4 0", "", "v2.mp4 1", line, "v4.mp4 1")
    videos(tmp_path, ["v1.mp4", "v2.mp4", "v3.mp4", "v4.mp4"])
    message = mistake(f"list:{tmp_path}")
    assert message.startswith(f"{path}:4: ") and said in message


def test_missing_and_doubly_listed_videos(tmp_path: Path) -> None:
    text(tmp_path / "train.txt", "v1.mp4 0", "v2.mp4 1", "v3.mp4 1")
    text(tmp_path / "val.txt", "v4.mp4 0")
    text(tmp_path / "test.txt", "v4.mp4 0")
    videos(tmp_path, ["v1.mp4", "v3.mp4", "v4.mp4"])
    listing = read(f"list:{tmp_path}")
    assert list(listing.splits) == ["train", "val"]
    assert "test.txt lists what val.txt does, and is left out" in listing.describe()
    assert [(m.listed, m.path.name) for m in listing.splits["train"].missing] == [(f"{tmp_path}/train.txt:2", "v2.mp4")]
    text(tmp_path / "test.txt", "v5.mp4 0", "v1.mp4 0")
    assert f"{tmp_path}/test.txt:2: {tmp_path}/v1.mp4 is in train already" in mistake(f"list:{tmp_path}")


def test_lists_that_cannot_be_told_apart(tmp_path: Path) -> None:
    for split in (1, 2):
        text(tmp_path / f"ucf_train_split_{split}_videos.txt", f"v{split}.mp4 0", "w.mp4 1")
        text(tmp_path / f"ucf_val_split_{split}_videos.txt", f"v{3 - split}.mp4 0")
    videos(tmp_path, ["v1.mp4", "v2.mp4", "w.mp4"])
    assert "ucf_train_split_1_videos.txt and ucf_train_split_2_videos.txt both look like train" in mistake(
        f"list:{tmp_path}"
    )
    assert read(f"list@only=split_2:{tmp_path}").splits["train"].samples[0].path.name == "v2.mp4"
    assert "no .txt or .csv file in it has train, val or test and 'split_3'" in mistake(f"list@only=split_3:{tmp_path}")
    text(tmp_path / "classes.txt", "a", "b")
    text(tmp_path / "labels.txt", "a", "b")
    assert "classes.txt, labels.txt could all hold the class names" in mistake(f"list@only=split_1:{tmp_path}")
    text(tmp_path / "labels.txt", "0 a", "2 b")
    assert f"{tmp_path}/labels.txt:2: '2 b' where number 1" in mistake(
        f"list@only=split_1,classes=labels.txt:{tmp_path}"
    )
    text(tmp_path / "labels.txt", "a", "a")
    assert "labels.txt:2: class 'a' is in line 1" in mistake(f"list@only=split_1,classes=labels.txt:{tmp_path}")


def frames(root: Path, name: str = "img_{:05d}.jpg", *, first: int = 1) -> Path:
    """Six folders of eight frames, in two classes, in lists of four and two."""
    lines = []
    for i in range(6):
        folder = frame_folder(root / "rawframes" / f"c {i % 2}" / f"v{i}", 8, name, first=first, seed=i)
        lines.append(f"{folder.relative_to(root / 'rawframes').as_posix()} 8 {i % 2}")
    text(root / "two_train_rawframes.txt", *lines[:4])
    text(root / "two_val_rawframes.txt", *lines[4:])
    return root


@pytest.mark.parametrize(
    ("name", "first", "pattern"),
    [
        ("img_{:05d}.jpg", 1, "img_%05d.jpg"),
        ("{:06d}.png", 0, "%06d.png"),
        ("g01_c02_{}.jpeg", 5, "g01_c02_%d.jpeg"),
        ("frame{:d}.jpg", 1, "frame%d.jpg"),
    ],
)
def test_frame_folders(name: str, first: int, pattern: str, tmp_path: Path) -> None:
    root = frames(tmp_path, name, first=first)
    listing = read(f"list:{root}")
    assert [len(v) for v in listing.splits.values()] == [4, 2]
    sample = listing.splits["train"].samples[3]
    assert sample.path == root / "rawframes" / "c 1" / "v3" / pattern
    assert (sample.label, sample.fps) == (1, None)
    assert listing.splits["train"].kind == "videos"
    told = read(f"list@fps=12.5,pattern={name}:{root}").splits["train"].samples[3]
    assert (told.path.parent, told.fps) == (sample.path.parent, 12.5)
    verdict, *_ = check_videos([sample.path], workers=1)
    assert (verdict.ok, verdict.frames, verdict.width, verdict.height) == (True, 8, 32, 24)


def test_frame_folders_with_other_numbers_of_frames_than_listed(tmp_path: Path) -> None:
    root = frames(tmp_path)
    path = root / "two_train_rawframes.txt"
    lines = path.read_text().splitlines()
    text(path, lines[0].replace(" 8 ", " 7 "), *lines[1:])
    assert f"1 folder holds more frames than listed, all used ({path}:1)" in read(f"list:{root}").describe()
    text(path, lines[0], lines[1].replace(" 8 ", " 9 "), *lines[2:])
    last = root / "rawframes" / "c 1" / "v1" / "img_00009.jpg"
    assert mistake(f"list:{root}").startswith(f"{path}:2: 9 frames, but {last} is not there")
    text(path, lines[0], lines[1].replace("v1", "v9"), *lines[2:])
    missing = read(f"list:{root}").splits["train"].missing
    assert [(m.path.name, m.listed) for m in missing] == [("v9", f"{path}:2")]
    text(path, *lines)
    for i in range(8):
        (root / "rawframes" / "c 0" / "v0" / f"flow_x_{i:05d}.jpg").touch()
    assert "several patterns (flow_x_%05d.jpg, img_%05d.jpg): say which; say the pattern with list@" in mistake(
        f"list:{root}"
    )
    assert len(read(f"list@pattern=img_{{:05d}}.jpg:{root}").splits["train"]) == 4


def test_frame_folders_train_and_survive_in_a_split_file(tmp_path: Path) -> None:
    """What was read from the lists is what is read from the CSV file that a run leaves: places, labels, rates, bits."""
    splits = open_splits(f"list@fps=10:{frames(tmp_path)}")
    write_split(tmp_path / "split.csv", splits)
    with (tmp_path / "split.csv").open() as file:
        assert [row["fps"] for row in csv.DictReader(file)] == ["10.0"] * 6
    again = open_splits(tmp_path / "split.csv")
    assert again.train.manifest_hash == splits.train.manifest_hash == survey(tmp_path / "split.csv").manifest_hash
    for pre in (kinetics(4, 2, 16), replace(kinetics(4, 2, 16), fps=20.0)):
        one, other = (TrainingClips(s.train, pre, seed=1, augmentation=Augmentation(flip=0.5)) for s in (splits, again))
        cached = TrainingClips(splits.train, pre, seed=1, augmentation=Augmentation(flip=0.5), cache_bytes=10**6)
        for i in range(4):
            clip = one[3, i]["clip"]
            assert clip.shape == (4, 16, 16, 3)
            assert torch.equal(clip, other[3, i]["clip"]) and torch.equal(clip, cached[3, i]["clip"])
        assert torch.equal(
            ViewClips(splits.val, pre, clips=2)[1]["views"], ViewClips(again.val, pre, clips=2)[1]["views"]
        )
    text(tmp_path / "bad.csv", "path,label,fps", f"{splits.train.samples[0].path},a,fast")
    with pytest.raises(DatasetError, match=r"bad\.csv:2: fps 'fast' is not a number more than 0"):
        open_videos(tmp_path / "bad.csv")
