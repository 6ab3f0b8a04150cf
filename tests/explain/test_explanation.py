"""Explanations as files: they open, show what they should, where they should, as fast as it was filmed."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualformer.explain import heatmap
from dualformer.explain.explain_video import explain_video
from dualformer.explain.explanation import (
    Explanation,
    draw_clip,
    draw_contact_sheet,
    draw_overlay,
    draw_video,
    playback_fps,
)
from dualformer.inference.recognizer import Recognizer
from dualformer.video.pyav_reader import PyAVReader


@pytest.fixture(scope="module")
def explanation(recognizer: Recognizer, video: Path) -> Explanation:
    return explain_video(recognizer, video)


def test_all_files_open_and_say_the_same(explanation: Explanation, tmp_path: Path) -> None:
    files = explanation.save(tmp_path / "new" / "folder")
    names = {"video": "gradcam.mp4", "gif": "gradcam.gif", "sheet": "gradcam.png", "map": "gradcam.npy"}
    assert {kind: path.name for kind, path in files.items()} == {**names, "json": "gradcam.json"}
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {path.name for path in files.values()}
    with PyAVReader(files["video"]) as reader:
        assert len(reader) == 4
        assert reader.info.fps == pytest.approx(6)  # every second frame of 12 a second
        drawn = draw_video(explanation)
        assert np.abs(reader.read(range(4)).numpy().astype(int) - drawn).mean() < 6
    with Image.open(files["gif"]) as gif:
        assert getattr(gif, "n_frames", 1) == 4
        assert gif.info["duration"] == 170
        assert gif.info["loop"] == 0
        assert gif.size[0] == 600
    with Image.open(files["sheet"]) as sheet:
        assert np.array_equal(np.asarray(sheet), draw_contact_sheet(explanation))
    assert np.array_equal(np.load(files["map"]), explanation.map)
    said = json.loads(files["json"].read_text(encoding="utf-8"))
    assert said == explanation.to_dict()
    assert said["label"] == explanation.label
    assert said["tokens"] == [2, 2, 2]
    assert said["map"] == [4, 64, 64]
    assert said["frames"] == [8, 10, 12, 14]
    assert said["crop"] == [0, round(45 / 384, 4), 1, round(289 / 384, 4)]


def test_hot_is_coloured_cold_is_grey_and_the_rest_is_dim(explanation: Explanation) -> None:
    heat = np.zeros((4, 64, 64), dtype=np.float32)
    heat[1, 16:32, 32:48] = 1
    part = dataclasses.replace(explanation.heat.parts[0], map=heat)
    frames = draw_overlay(explanation, part)
    assert frames.shape == (4, 288, 384, 3)
    colour = np.ptp(frames.astype(int), axis=-1)
    row, column = round(24 / 64 * 288), 45 + round(40 / 64 * 289)
    assert colour[1, row, column] > 60  # the hottest colour is a light yellow
    assert frames[1, row, column, 2] < frames[1, row, column, 0]
    assert colour[0, row, column] < 30
    assert colour[1, 250, 100] < 30
    outside, inside = frames[:, :, :40].mean(), frames[0, :, 60:300].mean()
    assert outside < 0.5 * inside


def test_colours_get_brighter_evenly() -> None:
    scale = heatmap.colour_scale(101, 1)[0].astype(float) @ (0.299, 0.587, 0.114)
    beyond = scale[30::10]  # until there the grey frame shines through
    assert (np.diff(beyond) > 0).all()
    assert beyond[-1] - beyond[0] > 80


def test_the_token_and_its_window_are_outlined(recognizer: Recognizer, video: Path) -> None:
    explanation = explain_video(recognizer, video, method="attention", stage=1, token=(1, 9, 2))
    marked = (draw_clip(explanation) == heatmap.MARK).all(-1)
    # Rows 36 to 40 and columns 8 to 12 of the view of 64, in frames 2 and 3; the view is drawn 289 wide from column 45.
    top, left = round(36 / 64 * 288), 45 + round(8 / 64 * 289)
    assert marked[2:, top + 1, left + 3 : left + 12].all()
    assert 0 < marked[0, top + 1, left + 3 : left + 12].mean() < 1  # dashed where the token is not
    assert marked[:, round(24 / 64 * 288), 60:140].all()  # the window's upper edge, in all of its frames
    assert not (draw_clip(explain_video(recognizer, video)) == heatmap.MARK).all(-1).any()


def test_each_frame_has_its_bar(explanation: Explanation) -> None:
    heat = np.stack([np.full((2, 2), value, dtype=np.float32) for value in (0.25, 0.5, 1.0, 0.0)])
    bars = heatmap.draw_bars(heat, 40, 20, 1)
    heights = [int((bars[:, 10 * frame + 3] != 255).any(-1).sum()) for frame in (0, 2, 3)]
    assert heights == [5, 20, 1]
    assert (bars[:, 13] != 255).any(-1).all()  # the frame that is shown stands out over the whole height


def test_a_pyramid_has_a_panel_for_each_scale(recognizer: Recognizer, video: Path) -> None:
    two = draw_video(explain_video(recognizer, video, method="pyramid", stage=2))
    one = draw_video(explain_video(recognizer, video, method="pyramid", stage=3))
    assert two.shape[2] - one.shape[2] == 384 + 8
    assert two.shape[1] % 2 == two.shape[2] % 2 == 0


def test_a_clip_plays_as_fast_as_it_was_filmed(explanation: Explanation) -> None:
    def at(times: list[float] | None) -> float:
        clip = dataclasses.replace(explanation.clip, times=None if times is None else np.array(times))
        return playback_fps(dataclasses.replace(explanation, clip=clip))

    assert at([0, 0.25, 0.5, 0.5]) == pytest.approx(4)  # a short video: its last frame repeats
    assert at([0, 0.001, 0.002]) == 30
    assert at([0, 10, 20]) == 2
    assert at([0, 0]) == at(None) == 8


def test_a_name_that_is_no_letters_and_a_long_one_are_drawn(explanation: Explanation) -> None:
    odd = dataclasses.replace(explanation, label="$\\frac{" + "x" * 300, source="s" * 300 + ".mp4")
    assert draw_video(odd).shape == draw_video(explanation).shape
