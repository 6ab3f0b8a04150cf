"""Data sets in the layouts of other programs are the same labels and clips as the files that they were made of."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_foreign import (
    CLASSES,
    Film,
    fiftyone,
    films_in,
    hub,
    joined,
    lerobot,
    lerobot_2,
    parquet_table,
    saved,
    tar_of,
    tars,
    video_folder,
)
from made_shards import make_videos, pack
from safetensors.torch import load_file

from dualformer.datasets.clip_datasets import TrainingClips, ViewClips
from dualformer.datasets.data_source import survey
from dualformer.datasets.samples import DatasetError, VideoList
from dualformer.datasets.splits import Splits, open_splits, open_videos
from dualformer.training.reporter import SilentReporter
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from dualformer.video.augmentation import Augmentation
from dualformer.video.preprocessing import kinetics
from small_runs import undrawn  # noqa: F401 - autouse

pytest.importorskip("pyarrow", reason="Parquet takes the extra parquet")

PRE = kinetics(4, 1, 16)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Film]:
    return films_in(make_videos(tmp_path_factory.mktemp("foreign") / "films"))


@pytest.fixture(scope="module")
def own(films: list[Film], tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """The same as a CSV list."""
    path = tmp_path_factory.mktemp("list") / "list.csv"
    path.write_text("\n".join(["path,label,split", *(",".join(map(str, film)) for film in films)]))
    return open_splits(path)


def assert_same_clips(one: Splits, other: Splits) -> None:
    for first, second in ((one.train, other.train), (one.val, other.val)):
        assert first.classes == second.classes == ("clap", "wave")
        assert [sample.label for sample in first.samples] == [sample.label for sample in second.samples]
    clips = [TrainingClips(each.train, PRE, seed=0, augmentation=Augmentation(flip=0.5)) for each in (one, other)]
    assert all(torch.equal(clips[0][1, i]["clip"], clips[1][1, i]["clip"]) for i in range(12))
    views = [ViewClips(each.val, PRE) for each in (one, other)]
    assert all(torch.equal(views[0][i]["views"], views[1][i]["views"]) for i in range(4))


def json_label(film: Film) -> dict[str, bytes]:
    return {"json": json.dumps({"label": CLASSES.index(film.label), "class": film.label}).encode()}


LAYOUTS: dict[str, Callable[[list[Film], Path], Path]] = {
    "hub": hub,
    "save_to_disk": saved,
    "metadata.csv": video_folder,
    "metadata.jsonl": lambda films, root: video_folder(films, root, kind="jsonl"),
    "tars with cls": tars,
    "tars with json": lambda films, root: tars(films, root, label=json_label),
    "tars with txt": lambda films, root: tars(films, root, label=lambda film: {"txt": f"{film.label}\n".encode()}),
    "LeRobot 3": lerobot,
    "LeRobot 2": lerobot_2,
    "FiftyOne": fiftyone,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_gives_the_clips_of_the_files(layout: str, films: list[Film], own: Splits, tmp_path: Path) -> None:
    root = LAYOUTS[layout](films, tmp_path / "data")
    found = open_splits(root)
    assert_same_clips(found, own)
    if "LeRobot" not in layout and layout != "FiftyOne":  # where films are called otherwise
        assert found.train.manifest_hash == own.train.manifest_hash
    assert survey(root).description.startswith(f"{root}: 2 classes, ")


def write_parquet(columns: dict[str, Any] | Any, path: Path, **how: Any) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(columns) if isinstance(columns, dict) else columns, path, **how)
    return path


def views_of(videos: VideoList) -> list[torch.Tensor]:
    return [ViewClips(videos, PRE)[i]["views"] for i in range(len(videos))]


def test_cells_hold_bytes_records_paths_or_frames(films: list[Film], tmp_path: Path) -> None:
    """With and without names, here or elsewhere; a list of images is one video."""
    from PIL import Image

    few, labels = films[:3], [film.label for film in films[:3]]
    listed = tmp_path / "own.csv"
    listed.write_text("\n".join(["path,label", *(f"{film.path},{film.label}" for film in few)]))
    wanted = views_of(open_videos(listed))
    (tmp_path / "in").mkdir()
    for film in few:
        (tmp_path / "in" / film.path.name).write_bytes(film.path.read_bytes())
    tables: dict[str, Any] = {
        "bytes": {"clip": [film.path.read_bytes() for film in few], "action": labels},
        "records": parquet_table(few, features=False, names=False),
        "absolute": {"path": [str(film.path) for film in few], "label": labels},
        "relative": {"video": [f"in/{film.path.name}" for film in few], "label": labels},
        "external": {"video": [{"bytes": None, "path": f"in/{film.path.name}"} for film in few], "label": labels},
    }
    for name, columns in tables.items():
        videos = open_videos(write_parquet(columns, tmp_path / f"{name}.parquet"))
        assert [videos.names_of(sample) for sample in videos.samples] == labels, name
        assert all(map(torch.equal, views_of(videos), wanted)), name
    names = [sample.name for sample in open_videos(tmp_path / "records.parquet").samples]
    assert names == ["records-0", "records-1", "records-2"]

    (tmp_path / "frames").mkdir()
    for number in range(6):
        Image.effect_noise((48, 36), 80).convert("RGB").save(tmp_path / "frames" / f"{number}.png")
    images = [(tmp_path / "frames" / f"{number}.png").read_bytes() for number in range(6)]
    columns = {"frames": [images, images[::-1]], "label": ["a", "b"], "fps": [25.0, 5.0]}
    videos = open_videos(write_parquet(columns, tmp_path / "lists.parquet"))
    (tmp_path / "list.csv").write_text(f"path,label,fps\n{tmp_path}/frames/%d.png,a,25\n")
    assert torch.equal(views_of(videos)[0], views_of(open_videos(tmp_path / "list.csv"))[0])
    assert not torch.equal(*views_of(videos)) and [sample.fps for sample in videos.samples] == [25.0, 5.0]
    stills = open_videos(write_parquet({"image": images, "label": ["a"] * 3 + ["b"] * 3}, tmp_path / "stills.parquet"))
    assert stills.kind == "images" and stills.samples[5].name == "stills-5.jpg"


def test_columns_are_named_where_they_cannot_be_guessed(films: list[Film], tmp_path: Path) -> None:
    data = [film.path.read_bytes() for film in films[:4]]
    records = [{"bytes": each, "path": f"{number}.mp4"} for number, each in enumerate(data)]
    columns = {"left": records, "right": records[::-1], "verb": list("abab"), "who": list("ccdd")}
    path = write_parquet(columns, tmp_path / "two.parquet")
    with pytest.raises(
        DatasetError, match=rf"two\.parquet: left, right could each be the video: .*@video=NAME:{path}$"
    ):
        open_videos(path)
    with pytest.raises(DatasetError, match=r"two\.parquet: no column is called like a label; it has left, right, verb"):
        open_videos(f"columns@video=right:{path}")
    with pytest.raises(DatasetError, match=r"no column 'up' of the video; it has left, right, verb, who: say which"):
        open_videos(f"columns@video=up,label=verb:{path}")
    with pytest.raises(
        ValueError, match=r"cannot read 'verb' behind columns@: write columns@label=NAME,video=NAME:PATH"
    ):
        open_videos(f"columns@verb:{path}")
    videos = open_videos(f"columns@video=right,label=verb:{path}", on={"who": ("d",)})
    assert [(sample.name, videos.names_of(sample)) for sample in videos.samples] == [("1.mp4", "a"), ("0.mp4", "b")]
    found = survey(f"columns@video=left:{path}")
    assert len(found.paths) == 4 and "not laid out to train on" in found.description

    (tmp_path / "list.csv").write_text(f"clip,verb\n{films[0].path},walk\n{films[1].path},run\n")
    assert open_videos(f"columns@label=verb:{tmp_path / 'list.csv'}").classes == ("run", "walk")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"empty: it is in no layout that is known \(Parquet, Arrow, tar files"):
        open_videos(f"columns:{tmp_path / 'empty'}")
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: .*nothing$"):
        open_videos(f"columns:{tmp_path / 'nothing'}")


def test_rows_may_be_parts_of_films_of_several_labels_or_of_none(
    films: list[Film], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(films[0].path)
    parts = {"path": [path, path, path], "start": [0.0, 0.08, None], "end": [0.08, 0.2, None], "label": ["a", "b", "c"]}
    videos = open_videos(write_parquet(parts, tmp_path / "parts.parquet"))
    assert [sample.name for sample in videos.samples] == ["v00.mp4#t=0,0.08", "v00.mp4#t=0.08,0.2", "v00.mp4"]
    several = {"video": [str(film.path) for film in films[:3]], "labels": [["a", "b"], ["b"], []]}
    write_parquet(several, tmp_path / "several.parquet")
    videos = open_videos(tmp_path / "several.parquet", multi_label=True)
    assert [videos.names_of(sample) for sample in videos.samples] == ["a;b", "b"]
    assert "1 video without a label left out, such as" in caplog.text and "several.parquet, row 2" in caplog.text
    with pytest.raises(DatasetError, match=r"several\.parquet, row 0: several labels, 'a;b': name one"):
        open_videos(tmp_path / "several.parquet")
    parts["end"][0] = -1.0
    with pytest.raises(DatasetError, match=r"parts\.parquet, row 0: a segment from 0 to -1 s"):
        open_videos(write_parquet(parts, tmp_path / "parts.parquet"))


def test_what_is_wrong_is_named_by_file_and_row(films: list[Film], tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("nothing of the kind")
    with pytest.raises(DatasetError, match=r"text\.parquet: it cannot be read as a table \(.*\): write it anew"):
        open_videos(tmp_path / "text.parquet")
    holes = parquet_table(films[:2]).set_column(
        0, "video", [[{"bytes": films[0].path.read_bytes(), "path": None}, None]]
    )
    path = write_parquet(holes, tmp_path / "holes.parquet")
    videos = open_videos(path)
    with pytest.raises(
        Exception, match=r"parquet://video/1/holes-1::.*: the table does not give it \(the cell holds no"
    ):
        ViewClips(videos, PRE)[1]
    none = {"video": [None, None], "label": ["a", "b"], "path": ["x.mp4", "y.mp4"]}
    with pytest.raises(DatasetError, match=r"none\.parquet, row 0: the column video holds neither bytes nor a path"):
        open_videos(write_parquet(none | {"video": [{"bytes": None, "path": None}] * 2}, tmp_path / "none.parquet"))
    wrong = parquet_table(films[:2]).set_column(1, "label", [[0, 7]])
    with pytest.raises(
        DatasetError, match=r"wrong\.parquet, row 1: the label 7 is none of the 2 classes that the table"
    ):
        open_videos(write_parquet(wrong, tmp_path / "wrong.parquet"))
    gone = {"path": [str(films[0].path), "gone.mp4"], "label": ["a", "b"]}
    with pytest.raises(DatasetError, match=r"gone\.parquet, row 1: 1 of 2 files do not exist: .*gone\.mp4"):
        open_videos(write_parquet(gone, tmp_path / "gone.parquet"))


def test_a_folder_per_class_stays_one_beside_metadata_without_labels(
    films: list[Film], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And what FiftyOne exports so: videos that it has no label of are left out."""
    for film in films[:4]:
        (tmp_path / film.label).mkdir(exist_ok=True)
        (tmp_path / film.label / film.path.name).write_bytes(film.path.read_bytes())
    (tmp_path / "_unlabeled").mkdir()
    (tmp_path / "_unlabeled" / "x.mp4").write_bytes(films[0].path.read_bytes())
    (tmp_path / "metadata.csv").write_text("file_name,caption\nclap/v00.mp4,a person claps\n")
    videos = open_videos(tmp_path)
    assert len(videos) == 4 and videos.classes == ("clap",) and "_unlabeled: left out" in caplog.text
    assert "metadata.csv: no column is called like a label; it has file_name, caption: say which" in caplog.text
    assert open_videos(f"columns@label=caption:{tmp_path}").classes == ("a person claps",)
    (tmp_path / "wave").mkdir()
    (tmp_path / "wave" / "w.mp4").write_bytes(films[0].path.read_bytes())
    caplog.clear()
    assert open_videos(tmp_path).classes == ("clap", "wave") and "no column" not in caplog.text


@pytest.mark.parametrize("folders", [(".",), ("videos",), ("videos/train",), ("train", "validation")], ids=",".join)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_without_labels_is_told_where_folders_tell_none(
    folders: tuple[str, ...], kind: str, films: list[Film], tmp_path: Path
) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        names = [film.path.name for film in films[:4]]
        for film in films[:4]:
            (tmp_path / folder / film.path.name).write_bytes(film.path.read_bytes())
        rows = [{"file_name": name, "caption": "a person", "gesture": "wave"} for name in names]
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        text = lines if kind == "csv" else map(json.dumps, rows)
        (tmp_path / folder / f"metadata.{kind}").write_text("\n".join(text))
    told = f"{(tmp_path / folders[0] / 'metadata')}.{kind}: no column is called like a label; it has file_name, "
    told += f"caption, gesture: say which, as columns@label=NAME:{tmp_path}"
    with pytest.raises(DatasetError, match=f"^{re.escape(told)}"):
        open_splits(tmp_path)
    assert survey(tmp_path).description.startswith(f"not laid out to train on: {told}")
    assert open_videos(f"columns@label=gesture:{tmp_path}").classes == ("wave",)


def test_folders_that_may_be_several_data_sets_are_told(
    films: list[Film], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("en/train", "en/test", "fr/train"):
        (tmp_path / name).mkdir(parents=True)
        write_parquet(parquet_table(films[:2]), tmp_path / name / "0000.parquet")
    assert len(open_videos(tmp_path, on={"split": ("train",)})) == 4
    assert f"{tmp_path}: read as one data set: en, fr; name one of these folders" in caplog.text
    caplog.clear()
    assert len(open_videos(tmp_path / "en")) == 4 and not caplog.text


def test_links_that_go_round_in_circles_are_followed_once(films: list[Film], tmp_path: Path) -> None:
    root = hub(films, tmp_path / "hub")
    expected = open_splits(root)
    for number in range(3):  # searched first; followed to the end, they would be 3^40 folders
        (root / f"0{number}").symlink_to(root, target_is_directory=True)
    found = open_splits(root)
    assert found.train.samples == expected.train.samples


def test_tars_of_others(films: list[Film], tmp_path: Path) -> None:
    """Members in folders, two views of a sample, values within JSON."""
    data = films[0].path.read_bytes()
    members = {
        "a/1.left.mp4": data,
        "a/1.right.mp4": films[1].path.read_bytes(),
        "a/1.jpg": b"a thumbnail",
        "a/1.json": json.dumps({"meta": {"verb": "walk", "n": 1}, "tags": ["x", "y"]}).encode(),
        "a/2.left.mp4": data,
        "a/2.right.mp4": data,
        "a/2.json": json.dumps({"meta": {"verb": "run", "n": 2}}).encode(),
    }
    path = tar_of(members, tmp_path / "two.tar")
    with pytest.raises(DatasetError, match=r"two\.tar: left\.mp4, right\.mp4 could each be the video"):
        open_videos(path)
    videos = open_videos(f"columns@video=right.mp4,label=meta.verb:{path}")
    assert [str(sample.path) for sample in videos.samples] == [f"tar://a/{n}.right.mp4::{path}" for n in (1, 2)]
    assert [videos.names_of(sample) for sample in videos.samples] == ["walk", "run"]
    assert len(open_videos(f"columns@video=right.mp4,label=meta.verb:{path}", on={"meta.n": ("2",)})) == 1
    tar_of({"1.mp4": data, "1.json": b"{", "2.mp4": data}, path)
    with pytest.raises(DatasetError, match=r"two\.tar: 1\.json: not JSON"):
        open_videos(path)
    path.write_bytes(b"\x1f\x8b" + bytes(600))
    with pytest.raises(DatasetError, match=r"two\.tar: it cannot be read as a tar file \(.*\): a compressed one"):
        open_videos(path)


def test_one_camera_of_a_robot_is_chosen(films: list[Film], own: Splits, tmp_path: Path) -> None:
    root = lerobot(films, tmp_path / "robot", cameras=("observation.images.top", "observation.images.wrist"))
    with pytest.raises(
        DatasetError, match=r"info\.json: observation\.images\.top, observation\.images\.wrist could each"
    ):
        open_splits(root)
    wrist = open_splits(f"columns@video=observation.images.wrist:{root}")
    assert_same_clips(wrist, own)
    assert wrist.train.samples[1].path.name == "file-000.mp4#t=0.24,0.48" and wrist.train.kind == "segments"
    info = root / "meta" / "info.json"
    info.write_text(info.read_text().replace("file-{file_index:03d}.mp4", "{episode}.mp4"))
    with pytest.raises(DatasetError, match=r"file-000\.parquet, row 0: it does not say where the episode lies .*wrist"):
        open_splits(f"columns@video=observation.images.wrist:{root}")


@pytest.mark.parametrize("timed", [False, True], ids=["frames", "timestamps"])
def test_temporal_detections_are_parts_of_films(timed: bool, films: list[Film], tmp_path: Path) -> None:
    """Of all layouts of FiftyOne, with frames or times: the same parts."""
    (tmp_path / "labels" / "data").mkdir(parents=True)
    for film in films[:2]:
        joined([film.path, films[2].path], tmp_path / "labels" / "data" / film.path.name)
    parts = [([1, 6], 0), ([7, 12], 1)]

    def detection(support: list[int], label: int) -> dict[str, Any]:
        if timed:
            return {"label": label, "timestamps": [(support[0] - 1) / 25, support[1] / 25]}
        return {"label": label, "support": support}

    labels = {film.path.stem: [detection(*part) for part in parts] for film in films[:2]}
    content = {"classes": CLASSES, "labels": labels | {"nothing": None}}
    (tmp_path / "labels" / "data" / "nothing.mp4").write_bytes(films[0].path.read_bytes())
    (tmp_path / "labels" / "labels.json").write_text(json.dumps(content))
    videos = open_videos(tmp_path / "labels")
    assert [sample.name for sample in videos.samples] == [
        f"{name}.mp4#t={times}" for name in ("v00", "v02") for times in ("0,0.24", "0.24,0.48")
    ]
    assert [videos.names_of(sample) for sample in videos.samples] == [*CLASSES, *CLASSES]
    (tmp_path / "one.csv").write_text(f"path,label\n{films[2].path},a\n")
    assert torch.equal(views_of(videos)[1], views_of(open_videos(tmp_path / "one.csv"))[0])
    assert len(survey(tmp_path / "labels").paths) == 2
    (tmp_path / "manifest").mkdir()
    places = {name: str(tmp_path / "labels" / "data" / f"{name}.mp4") for name in labels}
    (tmp_path / "manifest" / "data.json").write_text(json.dumps(places))
    (tmp_path / "manifest" / "labels.json").write_text(json.dumps({"classes": CLASSES, "labels": labels}))
    assert [sample.path for sample in open_videos(tmp_path / "manifest").samples] == [s.path for s in videos.samples]

    samples = [
        {
            "filepath": f"../labels/data/{film.path.name}",
            "metadata": {"frame_rate": 25} if timed else None,
            "events": {
                "_cls": "TemporalDetections",
                "detections": [
                    {"_cls": "TemporalDetection", "label": CLASSES[label], "support": support}
                    for support, label in parts
                ],
            },
        }
        for film in films[:2]
    ]
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "metadata.json").write_text("{}")
    (tmp_path / "whole" / "samples.json").write_text(json.dumps({"samples": samples}, indent=1))
    whole = open_videos(tmp_path / "whole")
    assert [sample.name for sample in whole.samples] == [sample.name for sample in videos.samples]
    assert all(map(torch.equal, views_of(whole), views_of(videos)))
    samples[1]["events"]["detections"][0]["support"] = [0, 3]
    (tmp_path / "whole" / "samples.json").write_text(json.dumps({"samples": samples}, indent=1))
    with pytest.raises(DatasetError, match=r"samples\.json:\d+: a part of frames 0 to 3, which are counted from 1"):
        open_videos(tmp_path / "whole")


def test_a_run_over_a_table_is_the_run_over_the_files(films: list[Film], own: Splits, tmp_path: Path) -> None:
    """To the bit of the weights; its split.csv names cells, and is read like any other."""
    listed = tmp_path / "list.csv"
    listed.write_text("\n".join(["path,label,split", *(",".join(map(str, film)) for film in films)]))
    states: list[dict[str, torch.Tensor]] = []
    for number, data in enumerate((listed, hub(films, tmp_path / "hub"))):
        config = TrainConfig(
            data=str(data), out=str(tmp_path / f"run{number}"), model="dualformer_nano", start="random"
        )
        config = config.replace(frames=4, size=32, epochs=1, batch_size=4, flip="off", workers=0, precision="float32")
        train(config, reporter=SilentReporter())
        states.append(load_file(tmp_path / f"run{number}" / "last.safetensors"))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert_same_clips(open_splits(tmp_path / "run1" / "split.csv"), own)


def test_shards_of_a_table_are_those_of_the_files(films: list[Film], own: Splits, tmp_path: Path) -> None:
    pack(hub(films, tmp_path / "hub"), tmp_path / "shards")
    assert_same_clips(open_splits(tmp_path / "shards"), own)
