"""Videos to explanations: the clip that is meant, where its view lies, whose class it is, what a token looks at."""

import dataclasses
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from made_recognizer import LABELS, small_recognizer

from dualformer.errors import DualFormerError
from dualformer.explain.explain_video import explain_video
from dualformer.explain.explanation import Method
from dualformer.explain.shown_clip import ClipChoice, read_shown_clip
from dualformer.inference.recognizer import Recognizer
from dualformer.model.maps import watch_attention
from dualformer.model.network import DualFormer
from dualformer.model.presets import list_models
from dualformer.video.clip_reader import read_views
from dualformer.video.encode import write_image
from dualformer.video.memory_frames import MemoryFrames
from dualformer.video.pyav_reader import PyAVReader
from dualformer.video.transforms import normalize, resize


def pixels_of(recognizer: Recognizer, view: torch.Tensor) -> torch.Tensor:
    return normalize(view[None], recognizer.preprocessing)


@pytest.mark.parametrize("name", list_models())
def test_every_network_explains_by_every_method(name: str, video: Path) -> None:
    recognizer = small_recognizer(name)
    for method in get_args(Method):
        explanation = explain_video(recognizer, video, method=method)
        assert explanation.map.shape == (4, 64, 64)
        assert explanation.map.dtype == np.float32
        assert explanation.map.min() >= 0
        assert explanation.map.max() == 1
        for part in explanation.heat.parts:
            assert part.map.shape == (4, 64, 64)
            assert 0 <= part.map.min() <= part.map.max() <= 1 + 1e-6


def test_the_clip_is_the_one_that_prediction_sees(recognizer: Recognizer, video: Path) -> None:
    views = read_views(video, recognizer.preprocessing, clips=4)
    middle = explain_video(recognizer, video)
    assert torch.equal(middle.clip.view, read_views(video, recognizer.preprocessing, clips=1)[0])
    for number in range(4):
        explanation = explain_video(recognizer, video, clip=number)
        assert torch.equal(explanation.clip.view, views[number])
        expected = recognizer.predict_views(views[number][None])[0]
        assert explanation.probability == pytest.approx(float(expected.max()), abs=1e-6)
        assert explanation.label == explanation.predicted[0] == LABELS[int(expected.argmax())]
    around = explain_video(recognizer, video, at=0.75)
    assert around.clip.numbers.tolist() == [6, 8, 10, 12]
    assert around.clip.times is not None
    np.testing.assert_allclose(around.clip.times, np.array([6, 8, 10, 12]) / 12, atol=1e-3)
    assert explain_video(recognizer, video, at=0).clip.numbers.tolist() == [0, 2, 4, 6]
    assert explain_video(recognizer, video, at=2.0).clip.numbers.tolist() == [17, 19, 21, 23]


def test_frames_in_memory_are_explained_as_their_file_is(recognizer: Recognizer, video: Path) -> None:
    with PyAVReader(video) as reader:
        frames = reader.read(np.arange(len(reader)))
    from_file = explain_video(recognizer, video)
    for given in (frames, frames.numpy()):
        explanation = explain_video(recognizer, given, fps=12)
        assert np.array_equal(explanation.map, from_file.map)
        assert np.array_equal(explanation.clip.frames, from_file.clip.frames)
        assert explanation.source == "frames"
    assert explain_video(recognizer, frames).clip.times is None


def test_the_view_lies_where_the_box_says(recognizer: Recognizer, video: Path, tmp_path: Path) -> None:
    wide = read_shown_clip(video, recognizer.preprocessing, ClipChoice())
    assert wide.frames.shape == (4, 288, 384, 3)
    assert wide.box == (0, 45, 288, 289)  # 64 of 64×85 pixels, from column 10 on; 85 are drawn as 384
    narrower = dataclasses.replace(recognizer.preprocessing, resize=80)
    assert read_shown_clip(video, narrower, ClipChoice()).box == (29, 75, 230, 230)  # 64 of 80×107 pixels
    rng = np.random.default_rng(1)
    tall = rng.integers(0, 256, (10, 10, 6, 3), dtype=np.uint8).repeat(12, axis=1).repeat(12, axis=2)
    high = read_shown_clip(MemoryFrames(frames=tall), narrower, ClipChoice())
    assert high.frames.shape == (4, 480, 288, 3)
    for seen in (wide, read_shown_clip(video, narrower, ClipChoice()), high):
        top, left, height, width = seen.box
        cut = torch.from_numpy(seen.frames[:, top : top + height, left : left + width].copy())
        difference = resize(cut, 64, 64).float() - seen.view.float()
        assert difference.abs().mean() < 4
        shifted = torch.from_numpy(np.roll(seen.frames, 12, axis=2)[:, top : top + height, left : left + width].copy())
        assert (resize(shifted, 64, 64).float() - seen.view.float()).abs().mean() > 12


def test_a_named_class_has_its_own_map(recognizer: Recognizer, video: Path) -> None:
    maps = {label: explain_video(recognizer, video, label=label) for label in LABELS}
    predicted = explain_video(recognizer, video)
    assert np.array_equal(maps[predicted.label].map, predicted.map)
    assert sum(explanation.probability for explanation in maps.values()) == pytest.approx(1, abs=1e-5)
    for label, explanation in maps.items():
        assert explanation.label == label
        assert explanation.predicted == predicted.predicted
    others = [explanation.map for label, explanation in maps.items() if label != predicted.label]
    assert all(not np.array_equal(other, predicted.map) for other in others)


def test_of_several_labels_each_has_a_probability_for_itself(video: Path) -> None:
    recognizer = small_recognizer(multi_label=True)
    probabilities = recognizer.predict_views(read_views(video, recognizer.preprocessing))[0]
    for label, probability in zip(LABELS, probabilities.tolist(), strict=True):
        explanation = explain_video(recognizer, video, label=label)
        assert explanation.probability == pytest.approx(probability, abs=1e-6)
    assert abs(probabilities.sum() - 1) > 0.05


def test_the_map_has_the_evidence_of_every_token_at_its_place(recognizer: Recognizer, video: Path) -> None:
    explanation = explain_video(recognizer, video, stage=2)
    tokens = explanation.heat.tokens
    assert tokens.shape == (2, 8, 8)
    t, y, x = np.unravel_index(tokens.argmax(), tokens.shape)
    hot_t, hot_y, hot_x = np.unravel_index(explanation.map.argmax(), explanation.map.shape)
    assert (hot_t // 2, hot_y // 8, hot_x // 8) == (t, y, x)


def test_attention_is_that_of_the_token_within_its_window(recognizer: Recognizer, video: Path) -> None:
    explanation = explain_video(recognizer, video, method="attention", stage=1, token=(1, 9, 2))
    with torch.no_grad(), watch_attention(recognizer.model, stages=[0], kinds="L") as watched:
        recognizer.model(pixels_of(recognizer, explanation.clip.view))
    expected = watched.maps[0].of_token((1, 9, 2))[0].numpy()
    np.testing.assert_allclose(explanation.heat.tokens, expected, atol=1e-6)
    assert explanation.heat.tokens.sum() == pytest.approx(1, abs=1e-5)
    blocks = (expected / expected.max()).repeat(2, 0).repeat(4, 1).repeat(4, 2)
    np.testing.assert_allclose(explanation.map, blocks, atol=1e-5)
    window, token = explanation.heat.window_box, explanation.heat.token_box
    assert window is not None and token is not None
    assert (window.first, window.end) == ((0, 24, 0), (4, 48, 24))  # 16 tokens are cut into windows of 6, 6 and 4
    assert (token.first, token.end) == ((2, 36, 8), (4, 40, 12))
    assert (explanation.map[:, 24:48, :24] > 0).all()
    assert explanation.map.astype(bool).sum() == 4 * 24 * 24


def test_the_pyramid_is_drawn_scale_by_scale(recognizer: Recognizer, video: Path) -> None:
    explanation = explain_video(recognizer, video, method="pyramid", stage=2, token=(0, 3, 5))
    with torch.no_grad(), watch_attention(recognizer.model, stages=[1], kinds="G") as watched:
        recognizer.model(pixels_of(recognizer, explanation.clip.view))
    scales = watched.maps[0].of_token_per_scale((0, 3, 5))
    assert len(explanation.heat.parts) == len(scales) == 2
    for part, scale in zip(explanation.heat.parts, scales, strict=True):
        cells = scale[0].numpy()
        t, y, x = (length // count for length, count in zip((4, 64, 64), cells.shape, strict=True))
        expected = (cells / cells.max()).repeat(t, 0).repeat(y, 1).repeat(x, 2)
        np.testing.assert_allclose(part.map, expected, atol=1e-5)
        assert f"{'×'.join(map(str, cells.shape))}: {cells.sum():.0%}" in part.title
    np.testing.assert_allclose(explanation.heat.tokens, watched.maps[0].of_token((0, 3, 5))[0].numpy(), atol=1e-6)


def test_without_a_pyramid_a_token_looks_at_all_tokens(recognizer: Recognizer, video: Path) -> None:
    explanation = explain_video(recognizer, video, method="pyramid", stage=4)
    assert [part.title for part in explanation.heat.parts] == ["all tokens"]
    assert explanation.heat.tokens.shape == (2, 2, 2)
    assert explanation.heat.window_box is None


def test_the_token_is_at_the_hottest_place_unless_it_is_said(recognizer: Recognizer, video: Path) -> None:
    evidence = explain_video(recognizer, video).map
    explanation = explain_video(recognizer, video, method="pyramid")
    assert (explanation.heat.stage, explanation.heat.block, explanation.heat.half) == (3, 1, 2)
    means = evidence.reshape(2, 2, 4, 16, 4, 16).mean(axis=(1, 3, 5))
    assert explanation.heat.token == np.unravel_index(means.argmax(), means.shape)


def test_an_image_is_a_clip_of_one_frame_repeated(recognizer: Recognizer, tmp_path: Path) -> None:
    path = tmp_path / "still.png"
    write_image(path, np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8))
    explanation = explain_video(recognizer, path)
    assert explanation.clip.numbers.tolist() == [0, 0, 0, 0]
    assert explanation.map.max() == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label": "uhp"}, "'uhp' is none of the 5 classes; there are up"),
        ({"method": "magic"}, "method must be gradcam, attention, pyramid, not 'magic'"),
        ({"stage": 5}, "stage: there are 4, counted from 1, and 5 is none of them"),
        ({"stage": 0}, "counted from 1"),
        ({"token": (0, 0, 0)}, "gradcam takes no token"),
        ({"block": 1}, "gradcam takes no block"),
        ({"gradients": "some"}, "gradients must be each or mean"),
        ({"method": "pyramid", "gradients": "mean"}, "pyramid has no gradients"),
        ({"method": "attention", "token": (0, 9, 0)}, "token 0,9,0 lies outside the map of stage 3: it has 2×4×4"),
        ({"method": "attention", "half": 2}, "half 2 is not L, which attention explains"),
        ({"method": "attention", "half": 3}, "half of stage 3: there are 2"),
        ({"method": "pyramid", "stage": 2, "block": 2}, "block of stage 2: there are 1"),
        ({"clip": 4}, "clip 4 is none of the 4"),
        ({"clip": 0, "at": 1.0}, "give one of them"),
        ({"at": 2.5}, "second 2.5 is outside the video, which lasts 2.00 s"),
        ({"fps": 12.0}, "fps is for frames in memory"),
    ],
)
def test_wrong_calls_say_what_there_is(
    recognizer: Recognizer, video: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as raised:
        explain_video(recognizer, video, **settings)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "attention", "stage": 1}, "the halves of stage 1 are C, and attention explains L: choose another"),
        ({"method": "pyramid", "stage": 2, "half": 1}, "the halves of stage 2 are C, and pyramid explains G: choose"),
        ({"method": "attention", "stage": 3, "half": 2}, "half of stage 3: there are 1, counted from 1, and 2 is none"),
        (
            {"method": "pyramid", "stage": 3},
            "the halves of stage 3 are L, and pyramid explains G: choose another stage",
        ),
    ],
)
def test_a_half_that_a_block_of_one_has_not(video: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        explain_video(of_kinds("C", "C", "L", "G"), video, **settings)
    assert message in str(raised.value)


def test_the_only_half_of_a_block_is_explained(video: Path) -> None:
    recognizer = of_kinds("C", "C", "L", "G")
    last: dict[Method, int] = {"gradcam": 4, "attention": 3, "pyramid": 4}
    for method, stage in last.items():
        heat = explain_video(recognizer, video, method=method).heat
        assert (heat.stage, heat.block, heat.half) == (stage, 1, 1)
        assert heat.map.max() == 1
    assert explain_video(recognizer, video, stage=1).heat.tokens.shape == (2, 16, 16)


def of_kinds(*kinds: str) -> Recognizer:
    """Nano with such halves."""
    recognizer = small_recognizer()
    stages = zip(recognizer.model.config.stages, kinds, strict=True)
    config = recognizer.model.config.replace(stages=tuple(dataclasses.replace(stage, kinds=of) for stage, of in stages))
    return Recognizer(DualFormer(config, seed=3), dataclasses.replace(recognizer.card, config=config), device="cpu")


def test_frames_need_a_rate_where_seconds_count(recognizer: Recognizer) -> None:
    frames = np.zeros((8, 64, 64, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="fps="):
        explain_video(recognizer, frames, at=0.1)
    with pytest.raises(ValueError, match="uint8"):
        explain_video(recognizer, torch.from_numpy(frames).float())


def test_without_captum_a_line_says_what_to_install(
    recognizer: Recognizer, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(DualFormerError, match=r"captum cannot be imported .*pip install 'dualformer\[explain\]'"):
        explain_video(recognizer, video)
    explained = explain_video(recognizer, video, method="attention", token=(0, 0, 0))
    assert explained.map.max() == 1  # which needs none
