"""Frames that are asked for their side data refer to themselves: they must be looked at in another way."""

import gc
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from made_videos import encoder, naive

from dualformer.video.open_video import open_video


@pytest.fixture
def no_collector() -> Iterator[None]:
    """It would come by itself some time, depending on what else there is."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()


def alive() -> int:
    return sum(type(each) is av.VideoFrame for each in gc.get_objects())


@pytest.mark.parametrize("turn", [None, (90, False, False), (0, True, False), (0, False, True)])
def test_frames_that_were_read_are_gone(
    turn: tuple[int, bool, bool] | None, tmp_path: Path, no_collector: None
) -> None:
    path = encoder(tmp_path)("clip.mp4", frames=60, height=48, width=64, turn=turn)
    before = alive()
    with open_video(path) as reader:
        pictures = []
        for _, picture in reader.frames(np.arange(60)):
            pictures.append(picture.numpy().copy())  # a picture may be a view of a frame
            assert alive() - before <= 20  # the decoder hands out several at the end
    if turn is None or not any(turn[1:]):
        np.testing.assert_array_equal(np.stack(pictures), naive(path))
