"""Evaluation where videos may have several labels: tables that agree with the figures, and refusals."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dualformer.datasets.samples import DatasetError, MissingSample, Sample, VideoList
from dualformer.evaluation.evaluate import evaluate
from dualformer.evaluation.evaluation_folder import chosen_videos, class_figures, contact_rows, write_evaluation
from dualformer.inference.batch_tasks import LabelTask
from dualformer.inference.recognizer import Recognizer
from dualformer.model.network import DualFormer
from dualformer.video.clip_reader import read_views
from dualformer.video.transforms import normalize
from dualformer.weights.card import Card


@pytest.fixture(scope="module")
def several(videos: VideoList) -> VideoList:
    """Every video is of its own class and of the next."""
    samples = tuple(dataclasses.replace(s, extra_labels=((s.label + 1) % 6,)) for s in videos.samples)
    return dataclasses.replace(videos, samples=samples, multi_label=True)


@pytest.fixture(scope="module")
def sigmoid_card(card: Card) -> Card:
    return dataclasses.replace(card, multi_label=True)


def test_probabilities_are_each_class_own_and_those_of_prediction(
    model: DualFormer, sigmoid_card: Card, several: VideoList
):
    evaluation = evaluate(model, sigmoid_card, several, views="2x1")
    views = read_views(several.samples[3].path, sigmoid_card.preprocessing, clips=2, crops=1)
    with torch.no_grad():
        expected = model.eval()(normalize(views, sigmoid_card.preprocessing)).sigmoid().mean(dim=0)
    np.testing.assert_allclose(evaluation.probabilities[3], expected, atol=1e-6)
    assert evaluation.probabilities[3].sum() != pytest.approx(1)
    prediction = Recognizer(model, sigmoid_card, device="cpu", views="2x1")(several.samples[3].path)
    np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-6)
    best = prediction.top(2)
    assert best[0][1] == pytest.approx(expected.max().item(), abs=1e-6) and len(best) == 2
    assert {name for name, _ in prediction.above()} == {
        name for name, p in zip(sigmoid_card.labels, expected.tolist(), strict=True) if p >= 0.5
    }
    assert prediction.above(1.1) == []
    bare = dataclasses.replace(prediction, probabilities=prediction.probabilities * 0.1)
    assert str(bare).endswith(": none of the classes")
    assert str(prediction).count("%") == len(prediction.above())


def test_the_thresholds_of_the_weights_decide_everywhere(
    model: DualFormer, sigmoid_card: Card, several: VideoList, tmp_path: Path
):
    video = several.samples[3].path
    probabilities = Recognizer(model, sigmoid_card, device="cpu", views="1x1")(video).probabilities.tolist()
    limits = tuple(min(1.0, p + (0.001 if i % 2 else -0.001)) for i, p in enumerate(probabilities))
    card = dataclasses.replace(sigmoid_card, thresholds=limits)
    assert Card.from_json(card.to_json()) == card and "thresholds" not in sigmoid_card.to_json()
    named = {name for i, name in enumerate(card.labels) if i % 2 == 0}
    recognizer = Recognizer(model, card, device="cpu", views="1x1")
    prediction = recognizer(video)
    assert {name for name, _ in prediction.above()} == named
    assert {name for name, _ in prediction.above(0.0)} == set(card.labels)
    [(_, row)] = LabelTask(recognizer, top=1).run([video])
    assert set(row["labels"].split(";")) == named
    evaluation = evaluate(model, card, several, views="1x1")
    assert evaluation.figures["thresholds"] == dict(zip(card.labels, limits, strict=True))
    with write_evaluation(tmp_path, evaluation).predictions.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[3]["predicted"].split(";")) == named
    for wrong in (limits[:2], (2.0, *limits[1:]), (True, *limits[1:])):
        with pytest.raises(ValueError, match="threshold"):
            dataclasses.replace(card, thresholds=wrong)
    with pytest.raises(ValueError, match="thresholds do not fit"):
        dataclasses.replace(card, multi_label=False)


def test_the_report_agrees_and_has_no_confusion_matrix(
    model: DualFormer, sigmoid_card: Card, several: VideoList, tmp_path: Path
):
    absent = MissingSample(path=Path("gone.mp4"), label=1, extra_labels=(4,), listed="list.csv:9")
    evaluation = evaluate(model, sigmoid_card, dataclasses.replace(several, missing=(absent,)), views="1x1")
    (tmp_path / "confusion.png").touch()
    report = write_evaluation(tmp_path, evaluation)
    assert report.confusion is None
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("contact_sheet.png", "figures.json", "per_class.csv", "predictions.csv")
    ]
    figures = json.loads(report.figures.read_text())
    assert figures == evaluation.figures and figures["missing"] == 1
    with report.per_class.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list(evaluation.classes)
    assert [int(row["count"]) for row in rows] == [4, 5, 4, 4, 5, 4]
    each = [float(row["average_precision"]) for row in rows]
    assert np.mean(each) == pytest.approx(figures["mean_average_precision"], abs=1e-6)
    with report.predictions.open(newline="") as file:
        videos = list(csv.DictReader(file))
    assert evaluation.targets is not None and len(videos) == len(several) + 1
    for row, p, truth in zip(videos, evaluation.probabilities, evaluation.targets, strict=False):
        names = np.asarray(evaluation.classes)
        assert row["labels"] == ";".join(names[truth]) and row["predicted"] == ";".join(names[p >= 0.5])
        assert row["correct"] == str(int(row["labels"] == row["predicted"]))
        assert (row["class_1"], float(row["p_1"])) == (names[p.argmax()], pytest.approx(p.max(), abs=1e-6))
    assert videos[-1]["labels"] == ";".join((evaluation.classes[1], evaluation.classes[4]))
    assert (videos[-1]["predicted"], videos[-1]["correct"]) == ("", "0")
    assert [row.count for row in class_figures(evaluation)] == [4, 5, 4, 4, 5, 4]


def test_the_surest_mistake_comes_first(model: DualFormer, sigmoid_card: Card, several: VideoList):
    evaluation = evaluate(model, sigmoid_card, several, views="1x1")
    assert evaluation.targets is not None
    probabilities = np.where(evaluation.targets, 0.9, 0.1).astype(np.float32)
    probabilities[5, 0] = 0.8 if not evaluation.targets[5, 0] else 0.2
    probabilities[7, 0] = 0.95 if not evaluation.targets[7, 0] else 0.05
    made = dataclasses.replace(evaluation, probabilities=probabilities)
    assert chosen_videos(made, 4)[:2] == [7, 5]
    first, _, *right = contact_rows(made, rows=4, frames=2)
    assert first.label != first.predicted and first.probability is None
    assert all(row.label == row.predicted and ", " in row.label for row in right)


def test_labels_are_mapped_by_name_and_two_may_become_one(model: DualFormer, sigmoid_card: Card, several: VideoList):
    turned = dataclasses.replace(
        several,
        classes=several.classes[::-1],
        samples=tuple(
            dataclasses.replace(s, label=5 - s.label, extra_labels=tuple(5 - other for other in s.extra_labels))
            for s in several.samples
        ),
    )
    one, other = (evaluate(model, sigmoid_card, each, views="1x1") for each in (several, turned))
    assert one.targets is not None and other.targets is not None
    assert np.array_equal(one.targets, other.targets)
    merged = {name: name if name != "down" else "blink" for name in several.classes}
    found = evaluate(model, sigmoid_card, several, views="1x1", label_map=merged)
    assert found.targets is not None
    assert found.targets[0].tolist() == [True, False, False, False, False, False]  # blink and down
    assert not found.targets[:, 1].any()


def test_one_label_and_several_do_not_go_together(
    model: DualFormer, card: Card, sigmoid_card: Card, videos: VideoList, several: VideoList
):
    with pytest.raises(DatasetError, match="may have several labels, and the weights give each one"):
        evaluate(model, card, several)
    with pytest.raises(DatasetError, match="one label each, and the weights were trained with `multi_label=True`"):
        evaluate(model, sigmoid_card, videos)


def test_a_list_without_a_second_label_is_judged_all_the_same(model: DualFormer, sigmoid_card: Card, videos: VideoList):
    samples: tuple[Sample, ...] = videos.samples
    found = evaluate(model, sigmoid_card, dataclasses.replace(videos, samples=samples, multi_label=True), views="1x1")
    assert found.targets is not None and (found.targets.sum(axis=1) == 1).all()
