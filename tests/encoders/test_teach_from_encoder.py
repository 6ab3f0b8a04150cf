"""A scripted encoder teaches: features, probe, figures and scores; made once, gone on with, and of unseen videos."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scripted_encoder import ScriptedEncoder

from dualformer.datasets.per_video_files import per_video_file, video_key
from dualformer.datasets.samples import DatasetError, Sample, VideoList
from dualformer.datasets.splits import Splits, open_splits
from dualformer.encoders import teach_from_encoder as room
from dualformer.encoders.teach_from_encoder import EncoderTaught, teach_from_encoder
from dualformer.scoring.intervals import wilson_interval
from dualformer.training.read_teacher_scores import ScoresCard, read_scores
from dualformer.training.settings.teacher_settings import SCORES


def teach(splits: Splits, out: Path, encoder: ScriptedEncoder | None = None, **settings: Any) -> EncoderTaught:
    return teach_from_encoder(encoder or ScriptedEncoder(), splits.train, splits.val, out, **settings)


def stamps(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}


@pytest.fixture(scope="module")
def taught(splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> tuple[EncoderTaught, Path]:
    out = tmp_path_factory.mktemp("out") / "scores"
    return teach(splits, out), out


def test_the_probe_is_measured_beside_what_knows_no_motion(splits: Splits, taught: tuple[EncoderTaught, Path]) -> None:
    done, _ = taught
    figures = done.figures
    assert (done.videos, done.found, done.trained, done.bad) == (14, 0, True, [])
    assert (figures.videos, figures.right, figures.accuracy) == (4, 4, 1.0)
    assert figures.interval == wilson_interval(4, 4)
    assert figures.chance == figures.commonest == 0.5
    assert figures.still == 0.5  # of the same features, always the same class
    assert figures.folds == 4 and figures.unseen >= 0.9
    assert figures.text.startswith(
        "the probe is right on 100.0% of 4 validation videos (95 % interval 51.0% to 100.0%)"
    )
    assert "chance 50.0%, commonest class 50.0%, one frame repeated 50.0%, frames shuffled" in figures.text


def test_scores_of_training_videos_are_there_and_of_no_others(
    splits: Splits, taught: tuple[EncoderTaught, Path]
) -> None:
    _, out = taught
    card = ScoresCard.read(out)
    assert (card.scores, card.width, card.classes, card.teacher) == ("clips", 16, splits.train.classes, "scripted")
    right = 0
    for sample in splits.train.samples:
        stored = read_scores(per_video_file(out, sample))
        assert {name: tuple(tensor.shape) for name, tensor in stored.items()} == {
            "logits": (4, 2),
            "pooled": (4, 16),
            "spans": (4, 2),
        }
        assert stored["logits"].dtype == stored["pooled"].dtype == torch.float16
        right += int(stored["logits"].float().softmax(dim=1).mean(dim=0).argmax()) == sample.label
    assert right / 10 == taught[0].figures.unseen
    assert not any(per_video_file(out, sample).exists() for sample in splits.val.samples)


def test_a_second_call_computes_nothing(splits: Splits, taught: tuple[EncoderTaught, Path]) -> None:
    done, out = taught
    before, encoder = stamps(out), ScriptedEncoder()
    again = teach(splits, out, encoder)
    assert encoder.calls == 0 and not again.trained and again.found == 14 and again.figures == done.figures
    assert stamps(out) == before


def test_killed_between_scores_it_goes_on_without_the_encoder(
    splits: Splits, taught: tuple[EncoderTaught, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(room, "write_json", _killed)
        with pytest.raises(KeyboardInterrupt):
            teach(splits, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="make them with dualformer teach"):
        ScoresCard.read(tmp_path / "out")
    encoder = ScriptedEncoder()
    done = teach(splits, tmp_path / "out", encoder)
    assert encoder.calls == 0 and done.trained and done.figures == taught[0].figures
    for sample in splits.train.samples:
        one, other = (read_scores(per_video_file(out, sample)) for out in (tmp_path / "out", taught[1]))
        assert all(torch.equal(one[name], other[name]) for name in one)


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_no_video_is_scored_by_a_probe_that_has_seen_it(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []
    probes: list[Any] = []
    scored: list[tuple[set[str], int]] = []

    def train(videos: Any, **settings: Any) -> Any:
        seen.append({str(video.features.path.name) for video in videos})
        probes.append(trained(videos, **settings))
        return probes[-1]

    def count(probe: Any, videos: Any) -> int:
        scored.append(({str(video.features.path.name) for video in videos}, probes.index(probe)))
        return counted(probe, videos)

    trained, counted = room.train_probe, room.count_right
    monkeypatch.setattr(room, "train_probe", train)
    monkeypatch.setattr(room, "count_right", count)
    figures = teach(splits, tmp_path, folds=9).figures
    assert figures.folds == 5 and len(seen) == 6 and len(seen[0]) == 10  # no more than a class has videos
    for names, number in scored[:5]:
        assert len(names) == 2 and not names & seen[number] and names | seen[number] == seen[0]
    assert set.union(*(names for names, _ in scored[:5])) == seen[0]
    one = teach(splits, tmp_path, folds=1)
    assert one.trained and one.figures.folds == 1 and len(seen) == 7


def test_other_labels_train_another_probe_on_the_same_features(splits: Splits, tmp_path: Path) -> None:
    before = teach(splits, tmp_path).figures
    swapped = replace(
        splits.train, samples=tuple(replace(sample, label=1 - sample.label) for sample in splits.train.samples)
    )
    encoder = ScriptedEncoder()
    done = teach_from_encoder(encoder, swapped, splits.val, tmp_path)
    assert done.trained and encoder.calls == 0 and (before.accuracy, done.figures.accuracy) == (1.0, 0.0)


def test_videos_without_labels_are_scored_and_listed(splits: Splits, tmp_path: Path) -> None:
    """Here they are copies of those to validate on, so that what the probe should say is known."""
    more: list[Sample] = []
    for number, sample in enumerate(splits.val.samples):
        path = tmp_path / "more" / f"{number}.mp4"
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(sample.path, path)
        more.append(Sample(path=path, label=0))
    given = [*more, splits.train.samples[0]]  # what has a label keeps it
    done = teach(splits, tmp_path / "out", unlabelled=given)
    assert (done.labelled, done.videos) == (4, 18)
    listed = open_splits(tmp_path / "out" / "labelled.csv")
    assert {(s.path, s.label) for s in listed.val.samples} == {(s.path, s.label) for s in splits.val.samples}
    found = {sample.path: sample.label for sample in listed.train.samples}
    assert len(found) == 14 and all(found[sample.path] == sample.label for sample in splits.train.samples)
    assert [found[sample.path] for sample in more] == [sample.label for sample in splits.val.samples]
    for sample in more:
        said = read_scores(per_video_file(tmp_path / "out", sample))["logits"].float().softmax(dim=1).mean(dim=0)
        assert int(said.argmax()) == found[sample.path]
    encoder = ScriptedEncoder()
    again = teach(splits, tmp_path / "out", encoder, unlabelled=given)
    assert not again.trained and encoder.calls == 0 and again.labelled == 4
    without = teach(splits, tmp_path / "out", encoder)
    assert without.trained and encoder.calls == 0 and not (tmp_path / "out" / "labelled.csv").exists()


def test_bad_videos_are_left_out_and_what_cannot_teach_is_said(splits: Splits, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video at all")
    broken = replace(splits.train, samples=(*splits.train.samples, Sample(path=bad, label=0)))
    done = teach_from_encoder(ScriptedEncoder(), broken, splits.val, tmp_path / "out")
    assert [str(error).split(":")[0] for error in done.bad] == [str(bad)] and done.videos == 14
    assert (tmp_path / "out" / SCORES).is_file()
    nothing = VideoList(classes=splits.train.classes, samples=(Sample(path=bad, label=0),), source="bad")
    with pytest.raises(DatasetError, match="no video to train a probe on can be read"):
        teach_from_encoder(ScriptedEncoder(), nothing, splits.val, tmp_path / "nothing")
    with pytest.raises(DatasetError, match="holds features with another encoder"):
        teach(splits, tmp_path / "out", ScriptedEncoder(digest="another"))
    with pytest.raises(ValueError, match="folds must be 1 or more"):
        teach(splits, tmp_path / "out", folds=0)
    with pytest.raises(DatasetError, match="give data of one label a video"):
        teach_from_encoder(ScriptedEncoder(), replace(splits.train, multi_label=True), splits.val, tmp_path / "several")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(ValueError, match="is not empty and holds no features"):
        teach(splits, tmp_path / "full")


def test_the_features_of_both_sides_are_told_apart(splits: Splits, taught: tuple[EncoderTaught, Path]) -> None:
    """A key is the end of a path, and so it says on which side a video lies."""
    _, out = taught
    keys = {video_key(sample) for sample in (*splits.train.samples, *splits.val.samples)}
    assert len(keys) == 14 == len(list((out / "features" / "clips").rglob("*.safetensors")))
    assert len(list((out / "features" / "still").rglob("*.safetensors"))) == 4
    figures = json.loads((out / "probe.json").read_text())
    assert set(figures) >= {"accuracy", "interval", "chance", "commonest", "still", "shuffled", "unseen"}
