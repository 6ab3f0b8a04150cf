"""The deletion check: it tells a map that is the network's from one that is not, and the shipped weights' maps pass."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from made_recognizer import LABELS
from numpy.typing import NDArray
from torch import Tensor

from dualformer.datasets.rendered import ALL, Difficulty, RenderedClips, Scene
from dualformer.explain.deletion_check import blur, check_deletion, hottest_mask
from dualformer.explain.explain_video import explain_video
from dualformer.explain.explanation import DeletionCheck, Explanation
from dualformer.inference.recognizer import Recognizer

SPOT = np.s_[0:2, 8:24, 40:56]


def with_map(explanation: Explanation, heat: NDArray[np.float32]) -> Explanation:
    return dataclasses.replace(explanation, heat=dataclasses.replace(explanation.heat, map=heat))


class OneSpot:
    """Stands for a recognizer that goes by one place of the clip: the class is the likelier the more of it is left."""

    labels = LABELS

    def __init__(self, view: Tensor) -> None:
        self.view = view
        self.asked: list[Tensor] = []

    def predict_views(self, views: Tensor) -> NDArray[np.float32]:
        self.asked.extend(views)
        same = (views[(slice(None), *SPOT)] == self.view[SPOT]).all(-1).float().mean(dim=(1, 2, 3))
        return same[:, None].expand(-1, len(LABELS)).numpy()


def test_the_place_that_the_network_goes_by_passes_and_another_does_not(recognizer: Recognizer, video: Path) -> None:
    explanation = explain_video(recognizer, video)
    spot = OneSpot(explanation.clip.view)
    right = np.zeros((4, 64, 64), dtype=np.float32)
    right[SPOT] = 1
    share = 2 * 16 * 16 / right.size
    passed = check_deletion(spot, with_map(explanation, right), share=share, draws=20)  # type: ignore[arg-type]
    assert passed.passed
    assert passed.whole == 1
    assert passed.hottest < 0.05  # a pixel may be as it was by chance
    assert len(passed.random) == 20
    assert passed.random_drop < 0.3
    wrong = np.roll(right, (2, 30, 0), axis=(0, 1, 2))
    failed = check_deletion(spot, with_map(explanation, wrong), share=share, draws=20)  # type: ignore[arg-type]
    assert not failed.passed
    assert failed.hottest == 1


def test_as_much_is_deleted_at_random_as_at_the_hottest_places(recognizer: Recognizer, video: Path) -> None:
    explanation = explain_video(recognizer, video, stage=1)
    view = explanation.clip.view
    spot = OneSpot(view)
    check_deletion(spot, explanation, draws=5, seed=1)  # type: ignore[arg-type]
    whole, *deleted = spot.asked
    assert torch.equal(whole, view)
    soft = blur(view)
    differs = (soft != view).any(-1)
    masks = [(part != view).any(-1) for part in deleted]
    for part, mask in zip(deleted, masks, strict=True):
        assert torch.equal(part[mask], soft[mask])
    hot = torch.from_numpy(hottest_mask(explanation.map, 0.1))
    assert torch.equal(masks[0], hot & differs)
    assert int(hot.sum()) == round(0.1 * hot.numel())
    assert all(abs(int(mask.sum()) - int(masks[0].sum())) < 0.02 * hot.sum() for mask in masks)
    assert len({mask.numpy().tobytes() for mask in masks}) == 6
    again = OneSpot(view)
    check_deletion(again, explanation, draws=5, seed=1)  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(spot.asked, again.asked, strict=True))


@pytest.mark.parametrize(("asked", "hot", "deleted"), [(0.1, 1000, 1000), (0.5, 200, 200), (0.05, 16384, 819)])
def test_the_share_is_what_was_deleted(
    recognizer: Recognizer, video: Path, asked: float, hot: int, deleted: int
) -> None:
    explanation = explain_video(recognizer, video)
    heat = np.zeros((4, 64, 64), dtype=np.float32)
    heat.reshape(-1)[:hot] = 1
    spot = OneSpot(explanation.clip.view)
    check = check_deletion(spot, with_map(explanation, heat), share=asked, draws=1)  # type: ignore[arg-type]
    assert check.share == pytest.approx(deleted / heat.size)


def test_the_hottest_part_is_no_larger_than_the_map() -> None:
    heat = np.zeros((2, 4, 5), dtype=np.float32)
    heat[0, 0, :3] = (0.5, 1, 0.25)
    assert np.argwhere(hottest_mask(heat, 0.05)).tolist() == [[0, 0, 0], [0, 0, 1]]
    assert hottest_mask(heat, 0.5).sum() == 3


def test_a_blurred_frame_has_the_mean_of_what_it_was() -> None:
    view = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    soft = blur(view)
    assert soft.dtype == torch.uint8
    assert soft.shape == view.shape
    torch.testing.assert_close(
        soft.float()[:, 8::16, 8::16], view.float().unflatten(1, (4, 16)).unflatten(3, (4, 16)).mean((2, 4)),
        atol=2, rtol=0,
    )  # fmt: skip
    flat = torch.full((1, 8, 8, 3), 77, dtype=torch.uint8)
    assert torch.equal(blur(flat), flat)


def test_what_it_says() -> None:
    check = DeletionCheck(share=0.1, whole=0.9, hottest=0.2, random=(0.85, 0.75))
    assert str(check) == (
        "90.0% as it is, 20.0% without its hottest 10%, 80.0% without 10% elsewhere (2 draws: 75.0% to 85.0%)"
    )
    assert (check.drop, check.random_drop) == (pytest.approx(0.7), pytest.approx(0.1))
    assert check.to_dict()["passed"] is True


def test_wrong_calls(recognizer: Recognizer, video: Path) -> None:
    explanation = explain_video(recognizer, video)
    with pytest.raises(ValueError, match="share must lie between 0 and 1, not 1"):
        check_deletion(recognizer, explanation, share=1.0)
    with pytest.raises(ValueError, match="draws must be at least 1"):
        check_deletion(recognizer, explanation, draws=0)
    with pytest.raises(ValueError, match="nothing in the clip speaks for"):
        check_deletion(recognizer, with_map(explanation, np.zeros_like(explanation.map)))
    with pytest.raises(ValueError, match="attention shows no evidence"):
        check_deletion(recognizer, explain_video(recognizer, video, method="attention", token=(0, 0, 0)))


@pytest.mark.slow
def test_nano_goes_by_what_its_maps_show() -> None:
    """The check itself, over many clips: 16 s on one core, for it takes a hundred and twenty clips through the network.

    Of shapes; Nano Conv's weights, which know people besides, do not pass on shapes (docs/experiments.md).
    """
    pytest.importorskip("captum", reason="the extra [explain] is not installed")
    recognizer = Recognizer.load("rendered-nano", device="cpu")
    clips = RenderedClips(Scene(classes=ALL, difficulty=Difficulty.at(0.5), wrap=True), 24, seed=31)
    drops, random_drops = [], []
    for i in range(len(clips)):
        explanation = explain_video(recognizer, clips[i]["clip"])
        check = check_deletion(recognizer, explanation, draws=3, seed=i)
        drops.append(check.drop)
        random_drops.append(check.random_drop)
    assert np.mean(drops) > 0.05
    assert np.mean(drops) > 2 * np.mean(random_drops)
    better = np.array(drops) > np.array(random_drops)
    assert better.mean() > 0.6
