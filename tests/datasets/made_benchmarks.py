"""Miniature copies of the benchmarks in the layouts in which they are downloaded, with one tiny video for all."""

import functools
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dualformer.datasets.benchmark_classes import class_names
from dualformer.video.encode import write_image, write_video


@functools.cache
def tiny_video() -> bytes:
    """Six frames of 32x32 pixels, MP4."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tiny.mp4")
        frames = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
        write_video(path, frames.repeat(8, axis=1).repeat(8, axis=2), fps=25)
        return path.read_bytes()


def videos(root: Path, names: Iterable[str]) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tiny_video())


def text(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def frame_folder(folder: Path, count: int, name: str = "img_{:05d}.jpg", *, first: int = 1, seed: int = 0) -> Path:
    """Numbered PNG pictures of 24x32 pixels, whatever they are called: FFmpeg goes by what is in them."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(first, first + count):
        picture = folder / "picture.png"
        write_image(picture, rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        picture.rename(folder / name.format(number))
    return folder


KINETICS = (
    ("train", "abseiling", "0347ZoDXyP0", 95, 105),
    ("train", "playing guitar", "-0QT1IyN_CU", 0, 10),
    ("train", "massaging person's head", "_aBc_1_2345", 7, 17),
    ("val", "hurling (sport)", "zzzzzzzzzz0", 1234, 1244),
    ("val", "abseiling", "yyyyyyyyyy-", 8, 18),
)


def kinetics(root: Path, *, layout: str = "flat") -> Path:
    """Three training and two validation videos of Kinetics-400, and a test list without labels."""
    folder = root / "annotations"
    for split in ("train", "val"):
        rows = [f'"{c}",{i},{a},{b},{s},0' for s, c, i, a, b in KINETICS if s == split]
        text(folder / f"{split}.csv", "label,youtube_id,time_start,time_end,split,is_cc", *rows)
    text(folder / "test.csv", "youtube_id,time_start,time_end,split", "tttttttttt0,1,11,test", "tttttttttt1,2,12,test")
    for split, name, video, start, end in KINETICS:
        file = f"{video}_{start:06d}_{end:06d}.mp4"
        if layout == "flat":
            videos(root, [f"{split}/{file}"])
        elif layout == "classes":
            videos(root, [f"videos/{split}/{name}/{file}"])
        else:
            videos(root, [f"{split}/{name.replace(' ', '_')}/{file.replace('.mp4', '.mkv')}"])
    return root


def ucf101(root: Path, *, flat: bool = False) -> Path:
    """Of every class two training videos, and of every second one a test video; other splits swap groups."""
    lists, names = root / "ucfTrainTestlist", class_names("ucf101")
    text(lists / "classInd.txt", *(f"{i} {name}" for i, name in enumerate(names, 1)))
    everything: set[str] = set()
    for split in (1, 2, 3):
        train, test = [], []
        for i, name in enumerate(names, 1):
            files = [f"{name}/v_{name}_g0{group}_c01.avi" for group in range(1, 5)]
            train += [f"{files[split % 4]} {i}", f"{files[(split + 1) % 4]} {i}"]
            test += [files[(split + 2) % 4]] * (i % 2)
        text(lists / f"trainlist{split:02d}.txt", *train)
        text(lists / f"testlist{split:02d}.txt", *test)
        everything.update(line.split()[0] for line in (*train, *test))
    videos(root / "UCF-101", (name.partition("/")[2] if flat else name for name in everything))
    return root


def hmdb51(root: Path) -> Path:
    """Of every class two training videos, one test video and one that is unused; split 2 turns them round."""
    for name in class_names("hmdb51"):
        files = [f"Clip_#{i}_(a)_{name}_u_nm_np1_ba_goo_{i}.avi" for i in range(4)]
        for split, numbers in ((1, (1, 1, 2, 0)), (2, (0, 2, 1, 1)), (3, (2, 0, 1, 1))):
            lines = (f"{file} {number} " for file, number in zip(files, numbers, strict=True))
            text(root / "testTrainMulti_7030_splits" / f"{name}_test_split{split}.txt", *lines)
        videos(root / "hmdb51_org" / name, files)
    return root


def diving48(root: Path) -> Path:
    """Four training videos and one test video; version 1 gives two of them other labels."""
    vocabulary = [name.split("+") for name in class_names("diving48")]
    text(root / "Diving48_vocab.json", json.dumps(vocabulary, indent=2))
    files = [f"-mmq0PT_u8k_{i:05d}" for i in range(5)]
    for prefix, labels in (("Diving48_V2_", (0, 47, 1, 2, 3)), ("Diving48_", (0, 46, 1, 2, 4))):
        items = [
            {"vid_name": name, "label": label, "start_frame": 0, "end_frame": 6}
            for name, label in zip(files, labels, strict=True)
        ]
        text(root / f"{prefix}train.json", json.dumps(items[:4], indent=2))
        text(root / f"{prefix}test.json", json.dumps(items[4:]))
    videos(root / "rgb", (f"{name}.mp4" for name in files))
    return root


SSV2 = (
    "Bending something so that it deforms",
    "Holding something next to something",
    "Something falling like a feather",
)


def ssv2(root: Path, *, old: bool = False) -> Path:
    """Three training videos, two to validate on and one to test on, without its label."""
    prefix = "something-something-v2-" if old else "labels/"
    text(root / f"{prefix}labels.json", json.dumps({name: str(i) for i, name in reversed([*enumerate(SSV2)])}))
    templates = ("Holding [something] next to [something]", "[Something] falling like a feather")
    train = [("10", templates[0]), ("2", templates[1]), ("33", "Bending [something] so that it deforms")]
    val = [("4", templates[1]), ("5", templates[0])]
    for name, items in (("train", train), ("validation", val)):
        told = [{"id": i, "label": "x", "template": t, "placeholders": ["y"]} for i, t in items]
        text(root / f"{prefix}{name}.json", "[", ",\n".join(json.dumps(item) for item in told), "]")
    text(root / f"{prefix}test.json", '[\n{"id":"6"}\n]')
    videos(root / "20bn-something-something-v2", (f"{i}.webm" for i, _ in (*train, *val, ("6", ""))))
    return root
