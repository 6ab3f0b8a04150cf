"""What a report holds: tables that agree with the figures, pictures that show them."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from dualformer.datasets.samples import MissingSample, VideoList
from dualformer.evaluation import evaluation_folder
from dualformer.evaluation.contact_sheet import ContactRow, draw_contact_sheet
from dualformer.evaluation.evaluate import Evaluation, evaluate
from dualformer.evaluation.evaluation_folder import chosen_videos, contact_rows, write_evaluation
from dualformer.model.network import DualFormer
from dualformer.video.clip_reader import read_views
from dualformer.weights.card import Card


@pytest.fixture(scope="module")
def evaluation(model: DualFormer, card: Card, videos: VideoList) -> Evaluation:
    return evaluate(model, card, videos, views="1x1")


def test_the_files_agree_with_the_evaluation(evaluation: Evaluation, tmp_path: Path) -> None:
    report = write_evaluation(tmp_path / "new" / "report", evaluation, extra={"weights": "x.safetensors"})
    figures = json.loads(report.figures.read_text())
    assert figures == {**evaluation.figures, "weights": "x.safetensors"}
    with report.predictions.open(newline="") as file:
        predictions = list(csv.DictReader(file))
    assert [row["path"] for row in predictions] == [str(path) for path in evaluation.paths]
    assert np.mean([row["correct"] == "1" for row in predictions]) == figures["top1"]
    hits = 0
    for row, p, label in zip(predictions, evaluation.probabilities, evaluation.labels, strict=True):
        ranked = np.argsort(-p)
        named = [row["predicted"], *(row[f"predicted_{rank}"] for rank in range(2, 6))]
        assert named == [evaluation.classes[i] for i in ranked[:5]]
        shown = [float(row["p_predicted"]), *(float(row[f"p_{rank}"]) for rank in range(2, 6))]
        np.testing.assert_allclose(shown, p[ranked[:5]], atol=1e-6)
        assert row["label"] == evaluation.classes[label]
        assert float(row["p_label"]) == pytest.approx(p[label], abs=1e-6)
        hits += row["label"] in named
    assert hits / len(predictions) == figures["top5"]
    with report.per_class.open(newline="") as file:
        classes = list(csv.DictReader(file))
    assert [row["class"] for row in classes] == list(evaluation.classes)
    assert [row["count"] for row in classes] == ["2"] * 6
    assert np.mean([float(row["recall"]) for row in classes]) == pytest.approx(figures["mean_class_accuracy"])
    assert sorted(path.name for path in (tmp_path / "new" / "report").iterdir()) == sorted(
        path.name for path in vars(report).values()
    )


def test_missing_videos_are_in_the_tables_as_wrong(
    model: DualFormer, card: Card, videos: VideoList, tmp_path: Path
) -> None:
    """Two videos that are not there, in another order of the classes than the weights'."""
    turned = dataclasses.replace(
        videos,
        classes=videos.classes[::-1],
        samples=tuple(dataclasses.replace(s, label=5 - s.label) for s in videos.samples),
        missing=tuple(MissingSample(path=tmp_path / f"{i}.mp4", label=i, listed=f"list.txt:{i}") for i in (5, 3)),
        manifest_hash="0123456789abcdef",
    )
    found = evaluate(model, card, turned, views="1x1")
    whole = evaluate(model, card, videos, views="1x1")
    assert (found.figures["videos"], found.figures["missing"]) == (12, 2)
    assert found.figures["manifest_hash"] == "0123456789abcdef"
    assert found.figures["top1"] == pytest.approx(whole.figures["top1"] * 12 / 14)
    report = write_evaluation(tmp_path / "report", found)
    with report.predictions.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["label"], row["predicted"], row["correct"], row["p_5"]) for row in rows[12:]] == [
        (str(tmp_path / "5.mp4"), videos.classes[0], "", "0", ""),
        (str(tmp_path / "3.mp4"), videos.classes[2], "", "0", ""),
    ]
    with report.per_class.open(newline="") as file:
        assert [row["count"] for row in csv.DictReader(file)] == ["3", "2", "3", "2", "2", "2"]


def test_only_a_contact_sheet_with_mistakes_promises_them(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(evaluation_folder, "draw_contact_sheet", lambda path, rows, title: titles.append(title))
    right = np.eye(6, dtype=np.float32)[evaluation.labels]
    for probabilities in (right, np.roll(right, 1, axis=1)):
        made = dataclasses.replace(evaluation, probabilities=probabilities)
        write_evaluation(tmp_path, made)
    assert [title.endswith("; the surest mistakes first") for title in titles] == [False, True]


def test_figures_are_not_overwritten_by_extra_ones(evaluation: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="overwritten: top1"):
        write_evaluation(tmp_path, evaluation, extra={"top1": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_the_contact_sheet_shows_mistakes_first_then_right_ones(evaluation: Evaluation) -> None:
    p = np.full((12, 6), 0.1, dtype=np.float32)
    predicted = np.array([0, 1, 1, 1, 2, 0, 3, 3, 4, 4, 5, 5])  # wrong: videos 1 and 5
    p[np.arange(12), predicted] = 0.5
    p[5, 0] = 0.9
    labels = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    made = dataclasses.replace(evaluation, probabilities=p, labels=labels)
    assert chosen_videos(made, 6) == [5, 1, 0, 4, 8, 11]
    assert chosen_videos(made, 20) == [5, 1, 0, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert chosen_videos(made, 1) == [0]
    wrong = dataclasses.replace(made, labels=(predicted + 1) % 6)
    assert chosen_videos(wrong, 4) == [5, 0, 1, 2]


def test_rows_show_what_the_model_saw(evaluation: Evaluation) -> None:
    plain = contact_rows(evaluation, rows=3, frames=4)
    still = contact_rows(dataclasses.replace(evaluation, control="one_frame"), rows=3, frames=4)
    for index, row, frozen in zip(chosen_videos(evaluation, 3), plain, still, strict=True):
        clip = read_views(evaluation.paths[index], evaluation.preprocessing)[0].numpy()
        assert np.array_equal(row.frames, clip)
        assert np.array_equal(frozen.frames, clip[[2, 2, 2, 2]])
        assert row.label == evaluation.classes[evaluation.labels[index]]
        path = evaluation.paths[index]
        assert isinstance(path, Path)
        assert row.note == path.name


def colours(path: Path) -> np.ndarray:
    """(h, w, 3), 0 to 255"""
    return np.rint(np.asarray(imread(path))[..., :3] * 255).astype(int)


def test_a_wrong_prediction_is_framed_in_red_and_a_right_one_is_not(tmp_path: Path) -> None:
    frames = np.full((4, 30, 40, 3), 128, dtype=np.uint8)
    for name, predicted in (("wrong", "b"), ("right", "a"), ("none", None)):
        row = ContactRow(frames=frames, label="a", predicted=predicted, probability=0.5, note="a$.mp4")
        draw_contact_sheet(tmp_path / f"{name}.png", [row, row], title="two")
    red = {name: reds(tmp_path / f"{name}.png") for name in ("wrong", "right", "none")}
    assert red["wrong"] > 1000
    assert red["right"] == red["none"] == 0
    with pytest.raises(ValueError, match="at least one video"):
        draw_contact_sheet(tmp_path / "no.png", [])
    with pytest.raises(ValueError, match="uint8"):
        draw_contact_sheet(tmp_path / "no.png", [ContactRow(frames=frames[0], label="a")])
    assert not (tmp_path / "no.png").exists()


def reds(path: Path) -> int:
    pixels = colours(path)
    return int(((pixels[..., 0] > 180) & (pixels[..., 1] < 90) & (pixels[..., 2] < 90)).sum())
