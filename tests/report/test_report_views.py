"""Several numbers of views in one pass: the frames and the figures that each of them has by itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dualformer.datasets.samples import VideoList
from dualformer.evaluation.evaluate import evaluate, evaluate_views
from dualformer.evaluation.view_sweep import cheap_views, needed_views, read_view_sweep
from dualformer.model.cost import measure_cost
from dualformer.model.network import DualFormer
from dualformer.video.clip_reader import Views, read_views
from dualformer.video.encode import write_video
from dualformer.video.preprocessing import Preprocessing, kinetics
from dualformer.weights.card import Card

ALL = tuple(map(Views.parse, ("4x1", "1x1", "2x1", "3x1", "1x3", "4x3", "7x1")))


@pytest.mark.parametrize(
    ("frames", "pre"),
    [
        (40, kinetics(frames=4, stride=2, size=32)),
        (41, replace(kinetics(frames=4, stride=3, size=24), resize=30)),
        (37, replace(kinetics(frames=4, stride=2, size=32), fps=9.0)),
        (5, kinetics(frames=4, stride=4, size=32)),  # too short: all clips coincide
        (52, replace(kinetics(frames=4, stride=2, size=32), placement="middles", antialias=False)),
    ],
)
def test_the_views_are_those_of_each_number_by_itself(tmp_path: Path, frames: int, pre: Preprocessing) -> None:
    rng = np.random.default_rng(frames)
    pixels = rng.integers(0, 256, (frames, 12, 20, 3), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    write_video(tmp_path / "wide.mp4", pixels, fps=25)
    found = read_view_sweep(tmp_path / "wide.mp4", pre, ALL)
    for views, places in zip(ALL, found.places, strict=True):
        expected = read_views(tmp_path / "wide.mp4", pre, clips=views.clips, crops=views.crops)
        assert torch.equal(found.views[torch.from_numpy(places)], expected), views
    assert len(found.views) <= needed_views(ALL, pre.placement)
    assert len({view.numpy().tobytes() for view in found.views}) == len(found.views)  # none of them twice
    if frames == 5:
        assert len(found.views) == 3


def test_what_several_numbers_of_views_take() -> None:
    def needed(*names: str) -> int:
        return needed_views(map(Views.parse, names))

    assert needed("4x1") == 4
    assert needed("4x1", "2x1") == 4  # the first and the last
    assert needed("4x1", "2x1", "1x1") == 5
    assert needed("4x1", "3x1") == 5  # another in the middle
    assert needed("4x1", "4x3") == 12
    assert needed("1x1", "2x1", "4x1", "4x3") == 13
    assert needed_views(map(Views.parse, ("4x1", "2x1")), "middles") == 6
    assert needed_views(map(Views.parse, ("9x1", "3x1", "1x1")), "middles") == 9


def test_views_that_cost_little_besides() -> None:
    def named(text: str) -> str:
        return " ".join(map(str, cheap_views(Views.parse(text))))

    assert named("4x1") == "1x1 2x1 4x1"
    assert named("1x1") == "1x1"
    assert named("4x3") == "1x1 2x1 4x1 1x3 2x3 4x3"
    assert named("10x1") == "1x1 2x1 4x1 10x1"
    assert cheap_views(Views(9, 1), "middles") == (Views(1, 1), Views(3, 1), Views(9, 1))
    for text in ("2x1", "4x1", "7x3", "10x3"):
        main = Views.parse(text)
        assert needed_views(cheap_views(main)) == main.count + main.crops


@pytest.mark.parametrize("control", ["none", "shuffled"])
def test_the_figures_are_those_of_each_number_by_itself(
    model: DualFormer, card: Card, videos: VideoList, control: str
) -> None:
    names = ("4x1", "1x1", "2x1", "2x3")
    together = evaluate_views(model, card, videos, views=names, control=control, seed=4, batch_size=3)  # type: ignore[arg-type]
    for views, found in zip(names, together, strict=True):
        alone = evaluate(model, card, videos, views=views, control=control, seed=4)  # type: ignore[arg-type]
        np.testing.assert_allclose(found.probabilities, alone.probabilities, atol=1e-5)
        for key in ("views", "videos", "top1", "top1_interval", "top5", "mean_class_accuracy", "gmacs", "control"):
            assert found.figures[key] == alone.figures[key], (views, key)
        for key in ("cross_entropy", "calibration_error"):
            assert found.figures[key] == pytest.approx(alone.figures[key], abs=1e-5), (views, key)
    assert np.abs(together[0].probabilities - together[1].probabilities).max() > 1e-3
    with pytest.raises(ValueError, match="each named once, not 4x1 4x1"):
        evaluate_views(model, card, videos, views=["4x1", "4x1"])


def test_the_figures_say_what_the_network_costs(model: DualFormer, card: Card, videos: VideoList) -> None:
    figures = evaluate(model, card, videos.subset([0]), views="2x3").figures
    cost = measure_cost(card.config, (4, 32, 32))
    assert figures["gmacs_per_view"] == cost.macs / 1e9
    assert figures["gmacs"] == pytest.approx(6 * cost.macs / 1e9)
    assert figures["parameters"] == sum(parameter.numel() for parameter in model.parameters())
