"""Evaluation: prediction's numbers, classes matched by name, controls that do what they say."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from dualformer.datasets.samples import DatasetError, Sample, VideoList
from dualformer.evaluation.evaluate import apply_control, evaluate
from dualformer.evaluation.evaluation_text import figures_text
from dualformer.evaluation.label_matching import ClassMismatchError, match_classes, read_label_map
from dualformer.inference.recognizer import Recognizer
from dualformer.model.network import DualFormer
from dualformer.video.backend import decoder
from dualformer.video.clip_reader import read_views
from dualformer.weights.card import Card


def test_evaluation_gives_what_prediction_gives(model: DualFormer, card: Card, videos: VideoList) -> None:
    done: list[tuple[int, int]] = []
    found = evaluate(model, card, videos, views="3x1", batch_size=6, progress=lambda *state: done.append(state))
    recognizer = Recognizer(model, card, device="cpu", views="3x1")
    for path, row in zip(found.paths, found.probabilities, strict=True):
        assert isinstance(path, Path)
        np.testing.assert_allclose(row, recognizer(path).probabilities, atol=1e-5)
    assert found.classes == card.labels
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert found.figures["top1"] == np.mean(found.probabilities.argmax(axis=1) == found.labels)
    assert (found.figures["videos"], found.figures["views"], found.figures["control"]) == (12, "3x1", "none")
    assert found.figures["decoder"] == decoder()
    assert found.clips_per_second == pytest.approx(36 / found.seconds)
    assert done == [(2, 12), (4, 12), (6, 12), (8, 12), (10, 12), (12, 12)]


def test_workers_and_batches_change_nothing(model: DualFormer, card: Card, videos: VideoList) -> None:
    few = videos.subset([0, 3, 5, 8, 11])
    plain = evaluate(model, card, few, views="2x1", batch_size=1)
    for workers, batch_size in ((2, 4), (0, 64)):
        other = evaluate(model, card, few, views="2x1", workers=workers, batch_size=batch_size)
        np.testing.assert_allclose(other.probabilities, plain.probabilities, atol=1e-5)


def test_crops_that_are_one_and_the_same_are_told(
    model: DualFormer, card: Card, videos: VideoList, caplog: pytest.LogCaptureFixture
) -> None:
    padded = dataclasses.replace(card, preprocessing=dataclasses.replace(card.preprocessing, crop_mode="pad"))
    three, one = (evaluate(model, padded, videos, views=views) for views in ("2x3", "2x1"))
    np.testing.assert_allclose(three.probabilities, one.probabilities, atol=1e-6)
    evaluate(model, card, videos, views="2x3")
    [told] = [record.message for record in caplog.records if "crops" in record.message]
    assert told.startswith("views 2x3: pictures are padded") and "2x1 says no less" in told


def test_the_model_is_left_in_the_mode_it_was_in(model: DualFormer, card: Card, videos: VideoList) -> None:
    model.train()
    found = evaluate(model, card, videos.subset([0]), views="1x1")
    assert model.training
    model.eval()
    again = evaluate(model, card, videos.subset([0]), views="1x1")
    assert not model.training
    assert np.array_equal(found.probabilities, again.probabilities)  # dropout was off


@pytest.mark.parametrize("workers", [0, 1])
def test_a_video_that_does_not_decode_is_named_in_one_line(
    model: DualFormer, card: Card, videos: VideoList, tmp_path: Path, workers: int
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video" * 100)
    for path in (bad, tmp_path / "absent.mp4"):
        samples = (*videos.samples[:2], Sample(path=path, label=1), *videos.samples[2:])
        with pytest.raises(DatasetError) as raised:
            evaluate(model, card, dataclasses.replace(videos, samples=samples), views="1x1", workers=workers)
        message = str(raised.value)
        assert str(path) in message
        assert "dualformer check" in message
        assert "`manifest`" in message
        assert "\n" not in message


def test_the_same_classes_in_another_order_are_matched_by_name(
    model: DualFormer, card: Card, videos: VideoList, caplog: pytest.LogCaptureFixture
) -> None:
    names = tuple(reversed(videos.classes))
    last = len(names) - 1
    samples = tuple(dataclasses.replace(sample, label=last - sample.label) for sample in videos.samples)
    turned = VideoList(classes=names, samples=samples, source="turned")
    with caplog.at_level(logging.INFO, logger="dualformer"):
        found = evaluate(model, card, turned, views="1x1")
    plain = evaluate(model, card, videos, views="1x1")
    assert found.labels.tolist() == plain.labels.tolist()
    assert found.figures["top1"] == plain.figures["top1"]
    assert [r.message for r in caplog.records if "another order" in r.message] == [
        "turned: the same classes as the weights' in another order; matched by name"
    ]


def test_other_classes_are_refused_and_named(model: DualFormer, card: Card, videos: VideoList) -> None:
    renamed = dataclasses.replace(videos, classes=("blink", "down", "leftwards", "right", "round", "up"))
    with pytest.raises(ClassMismatchError, match=r"do not know 'leftwards'; the data has no 'left'\).*`label_map`"):
        evaluate(model, card, renamed)
    fewer = VideoList(classes=("blink", "jump"), samples=videos.samples[:2], source="few")
    with pytest.raises(
        ClassMismatchError, match=r"its 2 classes are not the 6 .*know 'jump'; the data has no 'down', "
    ):
        evaluate(model, card, fewer)
    nameless = dataclasses.replace(card, labels=())
    with pytest.raises(ClassMismatchError, match="do not know 'blink'"):
        evaluate(model, nameless, videos)


@pytest.mark.parametrize("chosen", [("blink", "down"), ("up",), ("left", "right", "round", "up", "down")])
def test_a_part_is_judged_by_what_is_there_and_the_rest_is_named(
    model: DualFormer, card: Card, videos: VideoList, chosen: tuple[str, ...]
) -> None:
    whole = evaluate(model, card, videos, views="1x1")
    assert "absent_classes" not in whole.figures and "no video is of" not in "\n".join(figures_text(whole))
    kept = [i for i, sample in enumerate(videos.samples) if videos.classes[sample.label] in chosen]
    label = {name: place for place, name in enumerate(chosen)}
    samples = tuple(
        dataclasses.replace(videos.samples[i], label=label[videos.classes[videos.samples[i].label]]) for i in kept
    )
    part = evaluate(model, card, VideoList(classes=chosen, samples=samples, source="part"), views="1x1")
    np.testing.assert_allclose(part.probabilities, whole.probabilities[kept], rtol=1e-4, atol=1e-7)  # other batches
    np.testing.assert_array_equal(part.labels, whole.labels[kept])
    absent = [name for name in card.labels if name not in chosen]
    assert (part.figures["classes"], part.figures["absent_classes"]) == (6, absent)
    said = "\n".join(figures_text(part))
    assert f"note: no video is of {len(absent)} of the 6 classes ({', '.join(absent)})" in said
    # Of rows that are chosen of a list with all classes, the same.
    chosen_rows = dataclasses.replace(videos, samples=tuple(videos.samples[i] for i in kept))
    assert evaluate(model, card, chosen_rows, views="1x1").figures["absent_classes"] == absent


def test_a_label_map_says_which_is_which(model: DualFormer, card: Card, videos: VideoList) -> None:
    renamed = dataclasses.replace(videos, classes=("A", "B", "C", "D", "E", "F"))
    chosen = {"A": "up", "B": "round", "C": "right", "D": "left", "E": "left", "F": "blink", "unused": "nothing"}
    found = evaluate(model, card, renamed, views="1x1", label_map=chosen)
    assert found.labels.tolist() == [5, 5, 4, 4, 3, 3, 2, 2, 2, 2, 0, 0]
    assert found.classes == card.labels
    with pytest.raises(ClassMismatchError, match="lacks 'A'"):
        match_classes(renamed.classes, card.labels, source="x", label_map={k: v for k, v in chosen.items() if k != "A"})
    with pytest.raises(ClassMismatchError, match="leads to 'sideways'"):
        match_classes(renamed.classes, card.labels, source="x", label_map={**chosen, "B": "sideways"})


def test_label_maps_are_read_from_json_and_csv(tmp_path: Path) -> None:
    json_file, csv_file = tmp_path / "map.json", tmp_path / "map.csv"
    json_file.write_text('{"A": "up", "Bé": "down"}', encoding="utf-8")
    csv_file.write_text("class,label\nA,up\n\nBé,down\n", encoding="utf-8")
    assert read_label_map(json_file) == read_label_map(csv_file) == {"A": "up", "Bé": "down"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.json", '{"a": "b", "a": "c"}', "'a' is in the label map twice"),
        ("m.json", '[["a", "b"]]', "one JSON object"),
        ("m.json", '{"a": 3}', "one JSON object"),
        ("m.json", "{", "m.json:1: not JSON"),
        ("m.json", "{}", "empty"),
        ("m.csv", "a,b\n", "m.csv:1: a label map starts with the header class,label"),
        ("m.csv", "class,label\na\n", "m.csv:2: expected a class"),
        ("m.csv", "class,label\n", "empty"),
        ("m.csv", "class,label\na,b\na,c\n", "twice"),
    ],
)
def test_label_maps_that_are_wrong_say_where(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        read_label_map(tmp_path / name)


def test_one_frame_repeats_the_middle_frame() -> None:
    views = torch.arange(2 * 5 * 3 * 3 * 3, dtype=torch.uint8).reshape(2, 5, 3, 3, 3)
    still = apply_control(views, "one_frame", seed=0, index=0)
    assert still.shape == views.shape
    for view in range(2):
        for frame in range(5):
            assert torch.equal(still[view, frame], views[view, 2])


def test_shuffled_is_a_permutation_by_seed_and_index_and_never_the_true_order() -> None:
    views = torch.arange(4, dtype=torch.uint8).reshape(1, 4, 1, 1, 1).expand(3, 4, 2, 2, 3)
    orders = set()
    for index in range(200):
        shuffled = apply_control(views, "shuffled", seed=7, index=index)
        assert torch.equal(shuffled, apply_control(views, "shuffled", seed=7, index=index))
        order = tuple(shuffled[0, :, 0, 0, 0].tolist())
        assert sorted(order) == [0, 1, 2, 3]
        assert order != (0, 1, 2, 3)
        assert torch.equal(shuffled[0], shuffled[2])
        orders.add(order)
    assert len(orders) == 23
    assert any(
        not torch.equal(
            apply_control(views, "shuffled", seed=8, index=i), apply_control(views, "shuffled", seed=7, index=i)
        )
        for i in range(5)
    )


def test_controls_reach_the_network(model: DualFormer, card: Card, videos: VideoList) -> None:
    few = videos.subset([1, 6])
    plain = evaluate(model, card, few, views="1x1")
    recognizer = Recognizer(model, card, device="cpu")
    for control in ("one_frame", "shuffled"):
        found = evaluate(model, card, few, views="1x1", control=control, seed=5, workers=1)
        assert found.figures["control"] == control
        assert np.abs(found.probabilities - plain.probabilities).max() > 1e-3
        for i, path in enumerate(found.paths):
            view = apply_control(read_views(path, card.preprocessing), control, seed=5, index=i)
            np.testing.assert_allclose(found.probabilities[i], recognizer.predict_views(view)[0], atol=1e-5)


def test_options_out_of_range_are_refused(model: DualFormer, card: Card, videos: VideoList) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        evaluate(model, card, videos, batch_size=0)
    with pytest.raises(ValueError, match="no control 'backwards'"):
        evaluate(model, card, videos, control="backwards")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed"):
        evaluate(model, card, videos, seed=-1)
    with pytest.raises(DatasetError, match="no video"):
        evaluate(model, card, videos.subset([]))
    still = dataclasses.replace(card, preprocessing=dataclasses.replace(card.preprocessing, frames=1))
    with pytest.raises(ValueError, match="2 or more frames"):
        evaluate(model, still, videos, control="shuffled")
