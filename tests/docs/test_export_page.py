"""The code on the page of exports that places clips without the package does what the package does."""

from typing import Any, Literal

import numpy as np
from blocks import ROOT, blocks
from hypothesis import given
from hypothesis import strategies as st

from dualformer.video.preprocessing import Preprocessing
from dualformer.video.sampling import even_clips


def _frames_of_clips() -> Any:
    [block] = [each for each in blocks(ROOT / "docs" / "export.md") if "def frames_of_clips" in each.text]
    names: dict[str, Any] = {"np": np, "pre": {"frames": 4, "stride": 2, "fps": None}}
    exec(block.text, names)
    return names["frames_of_clips"]


@given(
    gaps=st.lists(st.sampled_from([0.02, 0.04, 1 / 30, 0.5]), max_size=120),
    first=st.sampled_from([0.0, 1.25]),
    frames=st.integers(1, 16),
    stride=st.integers(1, 4),
    fps=st.sampled_from([None, 4.8, 10.0, 25.0]),
    sampling=st.sampled_from(["stride", "segments"]),
    placement=st.sampled_from(["ends", "middles"]),
    short_video=st.sampled_from(["repeat", "loop"]),
    clips=st.integers(1, 5),
)
def test_clips_lie_where_the_package_puts_them(
    gaps: list[float],
    first: float,
    frames: int,
    stride: int,
    fps: float | None,
    sampling: Literal["stride", "segments"],
    placement: Literal["ends", "middles"],
    short_video: Literal["repeat", "loop"],
    clips: int,
) -> None:
    pre = Preprocessing(
        frames=frames,
        stride=stride,
        fps=fps,
        resize=8,
        crop=8,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        sampling=sampling,
        placement=placement,
        short_video=short_video,
    )
    times = first + np.cumsum([0.0, *gaps])
    assert np.array_equal(FRAMES_OF_CLIPS(times, pre.to_dict(), clips), even_clips(times, pre, clips))


FRAMES_OF_CLIPS = _frames_of_clips()
