"""The clips on which an exported model is held against its weights."""

import pytest

from dualformer.export.export_data import rendered_clips
from dualformer.video.preprocessing import Preprocessing


@pytest.mark.parametrize(("frames", "stride", "fps"), [(8, 1, 2.0), (8, 2, 5.0), (16, 1, 4.3), (8, 2, None)])
def test_rendered_clips_last_as_long_as_those_of_the_weights(frames: int, stride: int, fps: float | None) -> None:
    pre = Preprocessing(
        frames=frames, stride=stride, fps=fps, resize=32, crop=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )
    views = rendered_clips(pre, count=6).views
    assert views.shape == (6, frames, 32, 32, 3)
    assert (views[:, 1:] != views[:, :-1]).flatten(2).any(dim=2).all()  # no frame is shown twice in a row
