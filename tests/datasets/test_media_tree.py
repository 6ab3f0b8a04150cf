"""What in a folder is data: one rule for every verb, with a count of what is left out and why."""

import json
import logging
import os
import socket
from pathlib import Path

import pytest

from dualformer.datasets.class_folders import read_folder
from dualformer.datasets.data_source import survey
from dualformer.datasets.draw_split import split_stratified
from dualformer.datasets.groups import name_same_recordings, same_recordings
from dualformer.datasets.manifest import find_videos
from dualformer.datasets.media_tree import walk_media
from dualformer.datasets.samples import DatasetError, Sample, VideoList
from dualformer.datasets.splits import open_splits, open_videos
from dualformer.files import lock_for_writing
from dualformer.video.file_formats import VIDEO_EXTENSIONS, is_media, sidecar_images


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return touch(tmp_path / "data", *(f"{label}/v{i}.mp4" for label in ("run", "walk") for i in range(4)))


CLEAN = [f"{label}/v{i}.mp4" for label in ("run", "walk") for i in range(4)]


def agreed(data: Path) -> list[str]:
    """The files that `check`, `predict`, `train` and `evaluate` take, which are the same."""
    searched = [path.relative_to(data).as_posix() for path in find_videos(data)]
    splits = open_splits(data)
    trained = [s.path.relative_to(data).as_posix() for part in (splits.train, splits.val) for s in part.samples]
    judged = [s.path.relative_to(data).as_posix() for s in open_videos(data).samples]
    surveyed = [path.relative_to(data).as_posix() for path in survey(data).paths if isinstance(path, Path)]
    assert searched == sorted(trained) == sorted(judged) == surveyed
    return searched


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["__MACOSX/walk/._v0.mp4"], "1 file or folder of another program left out: __MACOSX"),
        (
            ["@eaDir/x.jpg", "walk/@eaDir/v0.mp4/SYNOVIDEO_VIDEO_SCREENSHOT.jpg"],
            "2 files and folders of other programs",
        ),
        (["$RECYCLE.BIN/a.mp4", "lost+found/#1.avi", "#recycle/b.mp4"], "3 files and folders of other programs"),
        (
            ["walk/Thumbs.db", "run/desktop.ini"],
            "2 files and folders of other programs left out: desktop.ini, Thumbs.db",
        ),
        (["walk/.thumbs/v0.jpg", ".git/x", "run/._v1.mp4", ".DS_Store"], "4 hidden files and folders left out"),
        (
            ["walk/v0.webp", "walk/v1.mp4.jpg", "run/V2-thumb.PNG", "run/v3_poster.jpg"],
            "4 images of videos beside them",
        ),
        (["walk/v0.srt", "run/v1.txt"], "2 files that are neither videos nor images left out: v1.txt, v0.srt"),
        (["README.txt"], "data: 1 file that is neither a video nor an image left out: README.txt"),
        (["README.txt", ".DS_Store", "run/v1.txt"], "2 files that are neither videos nor images left out: README.txt,"),
        (
            ["runs/train/config.json", "runs/train/clips.png", "runs/train/metrics.jsonl"],
            "dualformer wrote left out: train",
        ),
        (
            ["tests/a/figures.json", "tests/a/per_class.csv", "tests/a/confusion.png"],
            "1 file or folder that dualformer wrote left out: a",
        ),
        (["tl/v0.windows.csv", "tl/v0.json", "tl/v0.png", "tl/v0.labels.mp4"], "wrote left out: v0.labels.mp4, v0.png"),
        (["walk/v0.windows.csv", "walk/v0.json", "walk/v0.labels.mp4"], "wrote left out: v0.labels.mp4"),
        (
            ["explained/v0/gradcam.npy", "explained/v0/gradcam.json", "explained/v0/gradcam.gif"],
            "left out: gradcam.gif",
        ),
    ],
)
def test_what_others_leave_in_a_data_set(
    names: list[str], reason: str, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert agreed(touch(data, *names)) == CLEAN
    caplog.clear()
    find_videos(data)
    once = caplog.text
    assert reason in once
    caplog.clear()
    read_folder(data)
    assert caplog.text.count(reason) == 1
    caplog.clear()
    assert survey(data).description.startswith(f"{data}: 2 classes")
    assert caplog.text.count(reason) == 1


def test_links_are_followed_once(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    away = touch(tmp_path / "away", "jump/v0.mp4", "jump/v1.mp4", "film.avi")
    (data / "a link that sorts first").symlink_to(data / "walk")
    (data / "jump").symlink_to(away / "jump")
    (data / "walk" / "up").symlink_to(data)
    (data / "walk" / "above").symlink_to(tmp_path)
    (data / "loop").symlink_to(data / "loop")
    (data / "walk" / "film.avi").symlink_to(away / "film.avi")
    (data / "run" / "gone.mp4").symlink_to(away / "gone.mp4")
    assert agreed(data) == ["jump/v0.mp4", "jump/v1.mp4", *CLEAN[:4], "walk/film.avi", *CLEAN[4:]]
    assert read_folder(data)["all"].classes == ("jump", "run", "walk")
    assert "3 links to folders that are searched already left out: a link that sorts first, above, up" in caplog.text
    assert "2 links that lead nowhere left out: loop, gone.mp4" in caplog.text


def test_what_is_no_file_is_not_opened(data: Path) -> None:
    os.mkfifo(data / "walk" / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(data / "run" / "s.mp4"))
        (data / "walk" / "folder.mp4").mkdir()
        assert agreed(data) == CLEAN
    assert "2 files that are neither" in walk_media(data).describe_left_out()


def test_folders_that_cannot_be_read(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(data, "shut/v0.mp4", "walk/shut/v0.mp4")
    real = os.scandir

    def scandir(path: Path):
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert agreed(data) == CLEAN
    assert walk_media(data).describe_left_out() == "2 files and folders that cannot be read left out: shut, shut"
    with pytest.raises(DatasetError, match=r"shut: this folder cannot be read \(Permission denied\)"):
        find_videos(data / "shut")


def test_what_is_named_is_taken_as_it_is(data: Path) -> None:
    touch(data, "walk/.hidden.mp4", "walk/v0.webp", "__MACOSX/x.mp4", "runs/train/config.json", "runs/train/clips.png")
    touch(data, "runs/train/split.csv")
    assert find_videos(data / "walk" / ".hidden.mp4") == [data / "walk" / ".hidden.mp4"]
    assert find_videos(data / "runs" / "train") == [data / "runs" / "train" / "clips.png"]
    assert find_videos(data / "__MACOSX") == [data / "__MACOSX" / "x.mp4"]
    listed = data / "list.csv"
    listed.write_text("path,label\nwalk/v0.webp,a\nwalk/.hidden.mp4,b\n")
    assert [path.name for path in find_videos(listed)] == [".hidden.mp4", "v0.webp"]


def test_an_empty_class_is_still_a_mistake(data: Path) -> None:
    touch(data, "jump/@eaDir/v0.jpg")
    with pytest.raises(DatasetError, match="jump: no video or image in this class"):
        read_folder(data)


@pytest.mark.parametrize(
    ("more", "left_out"),
    [
        (["loose.mp4"], "1 file that lies outside the classes left out: loose.mp4"),
        (["walk/deep/a.mp4"], "1 file that lies in folders inside a class left out: a.mp4"),
        (["train/run/a.mp4", "train/walk/a.mp4", "val/run/b.mp4"], "folders beside the splits left out: run, walk"),
    ],
)
def test_check_takes_what_training_reads(
    more: list[str], left_out: str, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    splits = read_folder(touch(data, *more), log_left_out=False)
    read = sorted(str(sample.path) for videos in splits.values() for sample in videos.samples)
    caplog.clear()
    found = survey(data)
    assert [str(path) for path in found.paths] == read and len(read) < len(find_videos(data))
    assert left_out in caplog.text and found.description.endswith(
        "files: " + ", ".join(f"{split} {len(videos)}" for split, videos in splits.items())
    )


def test_files_in_folders_inside_a_class_are_counted(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(data, "walk/deep/a.mp4", "walk/deep/er/b.mp4", "run/c.txt")
    with caplog.at_level(logging.WARNING, "dualformer"):
        read_folder(data)
    assert "2 files that lie in folders inside a class left out: a.mp4, b.mp4" in caplog.text


@pytest.mark.parametrize("name", ["00000.MTS", "a.m2ts", "B.VOB", "c.mxf", "d.dv", "e.asf", "f.3G2", "g.f4v", "h.h264"])
def test_extensions_of_cameras_and_broadcasters(name: str, data: Path) -> None:
    assert is_media(Path(name))
    touch(data, f"walk/{name}")
    assert f"walk/{name}" in agreed(data)


def test_no_extension_of_other_kinds() -> None:
    assert not VIDEO_EXTENSIONS & {".mp3", ".wav", ".m4a", ".ogg", ".flac", ".txt", ".json", ".dat", ".srt", ".part"}
    assert len(VIDEO_EXTENSIONS) > 60


def test_sidecars_lie_beside_videos() -> None:
    names = ["v1.mp4", "v1.webp", "v1.gif", "v10.jpg", "v1.mp4.png", "v1.thumb.jpg", "v2.jpg", "v1-1.jpg"]
    assert sidecar_images(names) == {"v1.webp", "v1.mp4.png", "v1.thumb.jpg"}
    assert sidecar_images(["a.jpg", "a.png", "a-thumb.jpg"]) == set()


def listed(*paths: str) -> VideoList:
    samples = tuple(Sample(path=Path(path), label=int(path.startswith("b"))) for path in paths)
    return VideoList(classes=("a", "b"), samples=samples, source="a list")


def test_files_of_one_stem_are_one_recording() -> None:
    videos = listed("a/v1.mp4", "a/v2.mp4", "b/v1.mp4", "a/v1.avi", "a/v1.gif", "a/v%d.jpg", "a/v1.1.mp4")
    assert same_recordings(videos) == [0, 1, 2, 0, 0, 5, 6]
    assert name_same_recordings(videos) == ["v1.mp4 = v1.avi = v1.gif"]


def test_links_to_one_file_are_one_recording(tmp_path: Path) -> None:
    touch(tmp_path, "a/v1.mp4", "blob")
    for name in ("a/v2.mp4", "b/v3.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(tmp_path / "a" / "v1.mp4")
    videos = listed(*(str(tmp_path / name) for name in ("a/v1.mp4", "a/v2.mp4", "b/v3.mp4")))
    assert same_recordings(videos) == [0, 0, 0]


@pytest.mark.parametrize("seed", range(8))
def test_a_split_keeps_one_recording_on_one_side(seed: int) -> None:
    paths = [f"{c}/v{i}{ending}" for c in "ab" for i in range(9) for ending in (".mp4", ".avi", ".mkv")[: 1 + i % 3]]
    videos = listed(*paths)
    train, val = split_stratified(videos, 0.25, seed)
    sides = [{sample.path.with_suffix("") for sample in part.samples} for part in (train, val)]
    assert sides[0].isdisjoint(sides[1])
    assert all(count > 0 for part in (train, val) for count in part.counts().values())
    assert len(train) + len(val) == len(paths)


def test_a_class_of_one_recording_cannot_be_split() -> None:
    with pytest.raises(DatasetError, match="class b has several files of a single recording"):
        split_stratified(listed("a/1.mp4", "a/2.mp4", "b/1.mp4", "b/1.avi"), 0.2, 0)


def test_a_run_inside_its_data_changes_nothing(data: Path) -> None:
    before = open_splits(data)
    run = touch(data, "runs/train/checkpoints/x", "runs/train/clips.png", "walk/runs/train/curves.png") / "runs/train"
    (run / "config.json").write_text(json.dumps({}))
    touch(data, "walk/runs/train/config.json", "walk/runs/train/split.csv")
    after = open_splits(data)
    assert (before.train.samples, before.val.samples) == (after.train.samples, after.val.samples)
    assert before.train.manifest_hash == after.train.manifest_hash
    assert agreed(data) == CLEAN


def test_a_run_that_is_just_beginning_inside_its_data_changes_nothing(data: Path) -> None:
    before = open_splits(data)
    with lock_for_writing(data / "runs" / "train", folder=True):
        after = open_splits(data)
    assert (before.train.samples, before.val.samples) == (after.train.samples, after.val.samples)
