"""A cross-validation as one evaluation: every video by the network of its fold."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from dualformer.datasets.samples import VideoList
from dualformer.evaluation.evaluate import Control, Evaluation, evaluate
from dualformer.evaluation.evaluate_folds import Fold, evaluate_folds
from dualformer.evaluation.evaluation_folder import contact_rows, write_evaluation
from dualformer.evaluation.evaluation_text import figures_text
from dualformer.model.network import DualFormer
from dualformer.weights.card import Card

PARTS = ([0, 3, 5, 8], [1, 2, 4, 11])


@pytest.fixture
def networks(model: DualFormer) -> list[DualFormer]:
    """Two that answer differently."""
    torch.manual_seed(1)
    return [model, DualFormer(model.config)]


def folded(networks: list[DualFormer], card: Card, videos: VideoList) -> list[Fold]:
    return [
        Fold(name=f"fold-{number}", open=lambda network=network: (network, card), videos=videos.subset(part))
        for number, (network, part) in enumerate(zip(networks, PARTS, strict=True), 1)
    ]


@pytest.mark.parametrize("control", ["none", "shuffled"])
def test_every_video_is_asked_of_its_own_network(
    networks: list[DualFormer], card: Card, videos: VideoList, control: Control
) -> None:
    done: list[tuple[int, int]] = []
    found = evaluate_folds(
        folded(networks, card, videos),
        source="two folds",
        views="1x1",
        control=control,
        progress=lambda *state: done.append(state),
    )
    # One order of the frames for each video, whichever fold it is in: as in the whole list.
    whole = videos.subset([*PARTS[0], *PARTS[1]])
    each = [evaluate(network, card, whole, views="1x1", control=control) for network in networks]
    np.testing.assert_allclose(found.probabilities[:4], each[0].probabilities[:4], atol=1e-5)
    np.testing.assert_allclose(found.probabilities[4:], each[1].probabilities[4:], atol=1e-5)
    assert found.paths == each[0].paths and found.notes == each[0].notes
    assert found.labels.tolist() == each[0].labels.tolist()
    assert done[-1] == (8, 8) and done == sorted(done)


def test_the_figures_are_those_of_all_videos(
    networks: list[DualFormer], card: Card, videos: VideoList, tmp_path: Path
) -> None:
    found = evaluate_folds(folded(networks, card, videos), source="two folds", views="1x1")
    right = found.probabilities.argmax(axis=1) == found.labels
    assert found.figures["top1"] == right.mean()
    assert (found.figures["videos"], found.figures["source"]) == (8, "two folds")
    assert [(fold["videos"], fold["top1"]) for fold in found.figures["folds"]] == [
        (4, right[:4].mean()),
        (4, right[4:].mean()),
    ]
    assert found.figures["absent_classes"] == [name for n, name in enumerate(videos.classes) if n not in found.labels]
    (line,) = [line for line in figures_text(found) if line.startswith("fold by fold")]
    assert line.split("  ")[-1].strip() == f"{right[:4].mean():.1%}, {right[4:].mean():.1%}"
    files = write_evaluation(tmp_path, found)
    assert len(files.predictions.read_text().splitlines()) == 9
    assert files.confusion is not None and files.confusion.is_file()


def test_networks_may_space_their_frames_differently(
    networks: list[DualFormer], card: Card, videos: VideoList, tmp_path: Path
) -> None:
    first, second = folded(networks, card, videos)
    wider = dataclasses.replace(card, preprocessing=dataclasses.replace(card.preprocessing, stride=3))
    other = dataclasses.replace(second, open=lambda: (networks[1], wider))
    found = evaluate_folds([first, other], source="two folds", views="1x1")
    alone = evaluate(networks[1], wider, second.videos, views="1x1")
    np.testing.assert_allclose(found.probabilities[4:], alone.probabilities, atol=1e-5)
    assert [found.preprocessing_of(index).stride for index in (3, 4)] == [card.preprocessing.stride, 3]
    shown = {row.frames.tobytes() for row in contact_rows(found, rows=8)}
    assert {row.frames.tobytes() for row in contact_rows(alone, rows=4)} < shown


def test_folds_of_other_classes_are_refused(networks: list[DualFormer], card: Card, videos: VideoList) -> None:
    first, second = folded(networks, card, videos)
    turned = dataclasses.replace(card, labels=card.labels[::-1])
    other = dataclasses.replace(second, open=lambda: (networks[1], turned))
    with pytest.raises(ValueError, match="fold-2 has other classes than fold-1"):
        evaluate_folds([first, other], source="two", views="1x1")
    with pytest.raises(ValueError, match="without folds"):
        evaluate_folds([], source="none")


def test_of_several_labels_classes_count_from_one_half_on(
    networks: list[DualFormer], card: Card, videos: VideoList
) -> None:
    fitted = dataclasses.replace(card, multi_label=True, thresholds=(0.3,) * len(card.labels))
    several = dataclasses.replace(videos, multi_label=True)
    found: Evaluation = evaluate_folds(folded(networks, fitted, several), source="two folds", views="1x1")
    assert found.targets is not None and found.targets.shape == (8, 6)
    assert found.thresholds == (0.5,) * 6
    assert "thresholds" not in found.figures
    assert len(found.figures["folds"]) == 2 and "mean_average_precision" in found.figures["folds"][0]
