"""Videos of several labels: how a CSV file says so, how they are split, and what their clips bring."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dualformer.cli.main import main
from dualformer.datasets.clip_datasets import TrainingClips, ViewClips
from dualformer.datasets.csv_list import read_csv
from dualformer.datasets.data_source import survey
from dualformer.datasets.draw_split import split_stratified, stratified_sample
from dualformer.datasets.row_table import select
from dualformer.datasets.samples import DatasetError, Sample, VideoList, hash_manifest
from dualformer.datasets.split_file import write_split
from dualformer.datasets.splits import open_splits, open_videos
from dualformer.training.mixing import Mix, apply_mix
from dualformer.video.augmentation import Augmentation
from dualformer.video.encode import write_video
from dualformer.video.preprocessing import kinetics

LIST = """path,label,batch
1.mp4,left;square,A
2.mp4, square ; right,A
3.mp4,round,B
4.mp4,left,B
4.mp4,round,B
"""


def csv_file(root: Path, text: str = LIST) -> Path:
    path = root / "list.csv"
    path.write_text(text, encoding="utf-8")
    for line in text.splitlines()[1:]:
        (root / line.split(",")[0]).touch()
    return path


def named(videos: VideoList) -> dict[str, str]:
    return {sample.name: videos.names_of(sample) for sample in videos.samples}


def test_labels_are_separated_or_have_a_row_each(tmp_path: Path) -> None:
    table = read_csv(csv_file(tmp_path), multi_label=True)
    assert table.classes == ("left", "right", "round", "square") and table.multi_label
    assert [(row.line, row.labels) for row in table.rows] == [
        (2, ("left", "square")),
        (3, ("square", "right")),
        (4, ("round",)),
        (5, ("left", "round")),
    ]
    videos = select(table)
    assert videos.multi_label
    assert [(s.label, s.labels) for s in videos.samples] == [(0, (0, 3)), (3, (3, 1)), (2, (2,)), (0, (0, 2))]
    assert videos.counts() == {"left": 2, "right": 1, "round": 2, "square": 2}
    assert named(videos) == {"1.mp4": "left;square", "2.mp4": "right;square", "3.mp4": "round", "4.mp4": "left;round"}


def test_rows_are_chosen_by_any_of_their_labels(tmp_path: Path) -> None:
    table = read_csv(csv_file(tmp_path), multi_label=True)
    assert set(named(select(table, {"label": ("square",)}))) == {"1.mp4", "2.mp4"}
    assert set(named(select(table, {"label": ("left", "right"), "batch": ("A",)}))) == {"1.mp4", "2.mp4"}
    with pytest.raises(ValueError, match="no row has label=oval: choose from left, right, round, square"):
        select(table, {"label": ("oval",)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LIST, r"list\.csv:2: several labels, 'left;square': name one \(several labels are for .* `multi_label=True`"),
        (
            "path,label\n1.mp4,a\n1.mp4,b\n",
            r"list\.csv:3: 1\.mp4 is listed already in line 2, as 'a': .*`multi_label=True`",
        ),
        ("path,label\n1.mp4,a\n1.mp4,a\n", r"list\.csv:3: 1\.mp4 is listed already in line 2$"),
    ],
)
def test_several_labels_are_an_error_where_there_is_one_each(text: str, message: str, tmp_path: Path) -> None:
    path = csv_file(tmp_path, text)
    for call in (read_csv, open_splits, open_videos):
        with pytest.raises(DatasetError, match=message):
            call(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\n1.mp4,a;b\n2.mp4,a;;b\n", r"list\.csv:3: an empty label in 'a;;b'"),
        ("path,label\n1.mp4,a;\n", r"list\.csv:2: an empty label in 'a;'"),
        ("path,label\n1.mp4,a;b;a\n", r"list\.csv:2: 1\.mp4 has the label 'a' already"),
        ("path,label\n1.mp4,a\n2.mp4,b\n1.mp4,a\n", r"list\.csv:4: 1\.mp4 has the label 'a' already"),
        (
            "path,label,split\n1.mp4,a,train\n1.mp4,b,val\n",
            r"list\.csv:3: 1\.mp4 has split=val here and train in line 2",
        ),
        ("path,label\n1.mp4,\n", r"list\.csv:2: the label is empty"),
    ],
)
def test_mistakes_in_several_labels_name_their_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=message):
        read_csv(csv_file(tmp_path, text), multi_label=True)


def test_data_of_one_label_each_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "folder" / name).mkdir(parents=True)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "index.json").write_text("{}")
    for data in (tmp_path / "folder", "ucf101:UCF", tmp_path / "shards"):
        for call in (open_splits, open_videos):
            with pytest.raises(ValueError, match="gives each video one label: several are for a CSV file"):
                call(data, multi_label=True)


def test_shards_of_several_labels_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", str(csv_file(tmp_path)), str(tmp_path / "packed")]) == 1
    assert "list.csv:2: several labels, 'left;square': name one" in capsys.readouterr().err
    assert not (tmp_path / "packed").exists()


def test_lists_hold_what_they_say(tmp_path: Path) -> None:
    sample = Sample(path=tmp_path / "a.mp4", label=0, extra_labels=(1,))
    with pytest.raises(ValueError, match="has several labels, and its list takes one each"):
        VideoList(classes=("a", "b"), samples=(sample,), source="here")
    with pytest.raises(ValueError, match="repeats a label"):
        twice = Sample(path=tmp_path / "a.mp4", label=0, extra_labels=(0,))
        VideoList(classes=("a", "b"), samples=(twice,), source="here", multi_label=True)
    with pytest.raises(ValueError, match="label 1 is outside the 1 classes"):
        VideoList(classes=("a",), samples=(sample,), source="here", multi_label=True)


def test_the_hash_knows_all_labels_in_any_order(tmp_path: Path) -> None:
    def hashed(text: str) -> str:
        return hash_manifest({"all": select(read_csv(csv_file(tmp_path, text), multi_label=True))})

    same = hashed("path,label\n1.mp4,a;b\n2.mp4,c\n")
    assert hashed("path,label\n2.mp4,c\n1.mp4,b\n1.mp4,a\n") == same
    assert hashed("path,label\n1.mp4,a;c\n2.mp4,b\n") != same
    assert hashed("path,label\n1.mp4,a\n2.mp4,b;c\n") != same


def test_a_survey_takes_any_list(tmp_path: Path) -> None:
    found = survey(csv_file(tmp_path))
    assert found.multi_label
    assert "4 classes, several labels a video, files: all 4" in found.description
    assert found.manifest_hash == open_videos(tmp_path / "list.csv", multi_label=True).manifest_hash
    plain = survey(csv_file(tmp_path, "path,label\n1.mp4,a\n2.mp4,b\n"))
    assert not plain.multi_label and "several" not in plain.description


def drawn(seed: int, videos: int = 200) -> list[tuple[int, ...]]:
    """Labels of very different frequency."""
    rng = np.random.default_rng(seed)
    rows = rng.random((videos, 6)) < np.array([0.5, 0.3, 0.1, 0.05, 0.03, 0.4])
    rows[~rows.any(axis=1), 0] = True
    rows[:2] = True
    return [tuple(np.flatnonzero(row).tolist()) for row in rows]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fraction", [0.2, 0.5])
def test_every_label_is_dealt_to_both_sides_in_its_part(seed: int, fraction: float) -> None:
    labels = drawn(seed)
    chosen = stratified_sample(labels, 6, fraction, np.random.default_rng(seed))
    assert abs(len(chosen) - fraction * len(labels)) <= 0.06 * len(labels)
    for label in range(6):
        count = sum(label in own for own in labels)
        val = sum(label in labels[i] for i in chosen)
        assert 1 <= val < count
        assert abs(val - fraction * count) <= max(1.5, 0.05 * count), (label, val, count)


def test_a_split_depends_on_names_and_seed_alone(tmp_path: Path) -> None:
    samples = tuple(
        Sample(path=tmp_path / f"{i:03}.mp4", label=own[0], extra_labels=own[1:]) for i, own in enumerate(drawn(1))
    )
    videos = VideoList(classes=tuple("abcdef"), samples=samples, source="here", multi_label=True)
    turned = VideoList(classes=tuple("abcdef"), samples=samples[::-1], source="here", multi_label=True)
    train, val = split_stratified(videos, 0.2, seed=3)
    assert train.multi_label and val.multi_label and len(train) + len(val) == 200
    assert {s.path for s in split_stratified(turned, 0.2, seed=3)[1].samples} == {s.path for s in val.samples}
    assert {s.path for s in split_stratified(videos, 0.2, seed=4)[1].samples} != {s.path for s in val.samples}
    two = (Sample(path=tmp_path / "x.mp4", label=0, extra_labels=(1,)), Sample(path=tmp_path / "y.mp4", label=0))
    lonely = VideoList(classes=("a", "b"), samples=two, source="here", multi_label=True)
    with pytest.raises(DatasetError, match="class b has a single file"):
        split_stratified(lonely, 0.5, seed=0)


def test_a_written_split_reads_back_the_same(tmp_path: Path) -> None:
    text = "path,label\n" + "".join(f"{i}.mp4,{'a;b' if i % 3 else 'b'}{';c' if i % 2 else ''}\n" for i in range(12))
    splits = open_splits(csv_file(tmp_path, text), val_fraction=0.25, multi_label=True)
    assert {name for name, count in splits.val.counts().items() if count} == {"a", "b", "c"}
    write_split(tmp_path / "split.csv", splits)
    again = open_splits(tmp_path / "split.csv", multi_label=True)
    assert named(again.train) == named(splits.train) and named(again.val) == named(splits.val)
    assert again.train.classes == splits.train.classes


def test_missing_videos_keep_their_labels(tmp_path: Path) -> None:
    path = csv_file(tmp_path)
    (tmp_path / "2.mp4").unlink()
    videos = open_videos(path, missing="wrong", multi_label=True)
    assert [(one.labels, one.listed) for one in videos.missing] == [((3, 1), f"{path}:3")]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> VideoList:
    root = tmp_path_factory.mktemp("several")
    rng = np.random.default_rng(0)
    samples = []
    for i, labels in enumerate([(0, 2), (2,), (1, 3), (0, 3)]):
        frames = rng.integers(0, 256, (10, 8, 8, 3), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
        write_video(root / f"{i}.mp4", frames, fps=25)
        samples.append(Sample(path=root / f"{i}.mp4", label=labels[0], extra_labels=labels[1:]))
    classes = ("left", "right", "round", "text")
    return VideoList(classes=classes, samples=tuple(samples), source="here", multi_label=True)


PRE = kinetics(4, 2, 24)


def test_clips_bring_zeros_and_ones(videos: VideoList) -> None:
    clips = TrainingClips(videos, PRE, seed=0, augmentation=Augmentation(flip=0.0))
    views = ViewClips(videos, PRE)
    expected = [[1, 0, 1, 0], [0, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 1]]
    for i, row in enumerate(expected):
        for item in (clips[0, i], views[i]):
            assert item["target"].dtype == torch.float32 and item["target"].tolist() == row
            assert item["label"] == videos.samples[i].label
    one_each = VideoList(classes=videos.classes, samples=videos.samples[1:2], source="here")
    assert "target" not in TrainingClips(one_each, PRE, seed=0, augmentation=Augmentation(flip=0.0))[0, 0]
    assert "target" not in ViewClips(one_each, PRE)[0]


def test_mirroring_changes_each_label_and_one_without_a_partner_forbids_it(videos: VideoList) -> None:
    """left and right change places, round stays, and mirrored text is none of the classes."""
    clips = TrainingClips(videos, PRE, seed=0, augmentation=Augmentation(flip=1.0), mirrored=(1, 0, 2, -1))
    plain = TrainingClips(videos, PRE, seed=0, augmentation=Augmentation(flip=0.0))
    assert clips[0, 0]["target"].tolist() == [0, 1, 1, 0] and clips[0, 0]["label"] == 1
    assert clips[0, 2]["target"].tolist() == [0, 1, 0, 1]
    assert clips[0, 3]["target"].tolist() == [1, 0, 0, 1]
    assert torch.equal(clips[0, 0]["clip"], plain[0, 0]["clip"].flip(2))
    assert torch.equal(clips[0, 2]["clip"], plain[0, 2]["clip"])


def test_mixing_mixes_the_targets(videos: VideoList) -> None:
    clips = TrainingClips(videos, PRE, seed=0, augmentation=Augmentation(flip=0.0))
    items = [clips[0, i] for i in range(4)]
    batch = {
        "clip": torch.stack([item["clip"] for item in items]),
        "label": torch.tensor([item["label"] for item in items]),
        "target": torch.stack([item["target"] for item in items]),
    }
    mixed = apply_mix(batch, Mix(share=0.75), 4)
    assert mixed["target"][0].tolist() == [0.75, 0.25, 0.75, 0.25]  # left and round, with right and text
    assert mixed["target"][1].tolist() == [0.25, 0.0, 0.75, 0.25]
