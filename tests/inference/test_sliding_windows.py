"""Clips cut out of frames as they come are those that evaluation cuts, and no more than one is held."""

import gc
import weakref
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dualformer.inference.sliding_windows import FrameSampler, SlidingWindow, Window
from dualformer.video.playback import FrameClock, Playback
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.pyav_reader import PyAVReader
from dualformer.video.transforms import crop_views
from made_films import moving, write_variable


def settings(frames: int, stride: int, fps: float | None = None) -> Preprocessing:
    return Preprocessing(
        frames=frames, stride=stride, fps=fps, resize=4, crop=4, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )


def numbered(index: int) -> Tensor:
    """A picture that tells its number."""
    return torch.tensor([index // 256, index % 256, 0], dtype=torch.uint8).expand(4, 4, 3)


def numbers(window: Window) -> list[int]:
    pixels = window.views[0, :, 0, 0].long()
    return (pixels[:, 0] * 256 + pixels[:, 1]).tolist()


def cut(times: list[float], pre: Preprocessing, hop: float | None = None) -> tuple[list[Window], list[float]]:
    sampler, windows = FrameSampler(pre), SlidingWindow(pre, hop=hop)
    found: list[Window | None] = []
    for index, seconds in enumerate(times):
        found += [windows.add(sample) for sample in sampler.add(seconds, partial(numbered, index))]
    found += [windows.add(sample) for sample in sampler.finish()]
    found.append(windows.finish())
    return [window for window in found if window is not None], windows.starts


def on_screen(times: list[float], seconds: float) -> int:
    return max(i for i, shown in enumerate(times) if shown <= seconds + 1e-3)


@given(count=st.integers(1, 60), frames=st.integers(1, 9), stride=st.integers(1, 4))
def test_by_frames_a_clip_is_every_strideth_frame(count: int, frames: int, stride: int) -> None:
    found, starts = cut([i / 25 for i in range(count)], settings(frames, stride))
    sampled = list(range(0, count, stride))
    begins = list(range(0, len(sampled), max(1, frames // 2)))
    whole = [sampled[i : i + frames] for i in begins if i + frames <= len(sampled)]
    if not whole or whole[-1][-1] != sampled[-1]:  # what is left over, filled up where that is too little
        tail = sampled[-frames:]
        whole.append(tail + tail[-1:] * (frames - len(tail)))
    assert [numbers(window) for window in found] == whole
    assert starts == pytest.approx([sampled[i] / 25 for i in begins])


@given(
    gaps=st.lists(st.floats(0.01, 0.4), min_size=1, max_size=50),
    frames=st.integers(1, 6),
    stride=st.integers(1, 3),
    fps=st.sampled_from([4.0, 10.0, 12.5]),
)
def test_by_the_clock_a_clip_shows_what_is_on_the_screen(
    gaps: list[float], frames: int, stride: int, fps: float
) -> None:
    times = np.round(np.cumsum([0.0, *gaps]), 3).tolist()
    found, _ = cut(times, settings(frames, stride, fps))
    step = stride / fps
    ticks = [k * step for k in range(int(times[-1] / step) + 2) if k * step <= times[-1] + 1e-3]
    hop = max(1, frames // 2)
    expected = [
        [on_screen(times, tick) for tick in ticks[i : i + frames]] for i in range(0, len(ticks) - frames + 1, hop)
    ]
    assert [numbers(window) for window in found[: len(expected)]] == expected
    for window in found:
        assert window.end - window.start == pytest.approx(
            frames * step if len(ticks) >= frames else 0, abs=step * frames
        )


def test_a_hop_in_seconds_does_not_drift_and_jumps_over_gaps() -> None:
    times = [i / 30 for i in range(300)]
    _, starts = cut(times, settings(4, 4), hop=0.25)
    late = [start - 0.25 * place for place, start in enumerate(starts)]
    assert min(late) >= -1e-3 and max(late) < 4 / 30
    _, starts = cut([*times[:60], *(seconds + 20 for seconds in times[:60])], settings(4, 2), hop=0.25)
    assert np.diff(starts).min() > 0.15, "after a gap of 18 seconds, hops that were due meanwhile are not made up for"


def test_a_hop_that_leaves_something_out_is_refused() -> None:
    with pytest.raises(ValueError, match="a hop of 2 s leaves out"):
        cut([i / 10 for i in range(100)], settings(4, 2), hop=2.0)
    with pytest.raises(ValueError, match="positive"):
        SlidingWindow(settings(4, 2), hop=0)


def test_no_more_than_one_clip_is_held() -> None:
    pre = settings(6, 2)
    sampler, windows = FrameSampler(pre), SlidingWindow(pre)
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0
    for index in range(2000):
        for sample in sampler.add(index / 25, partial(numbered, index)):
            alive.add(sample.views)
            windows.add(sample)
            del sample
        gc.collect(0)
        most = max(most, len(alive))
    assert most == 6


@pytest.mark.parametrize("fps", [None, 12.0])
def test_of_a_file_of_variable_rate_the_pixels_are_those_of_the_reader(tmp_path: Path, fps: float | None) -> None:
    rng = np.random.default_rng(4)
    times = np.round(np.cumsum(rng.choice([0.02, 0.05, 0.11], 90)), 3)
    write_variable(tmp_path / "v.mkv", list(moving([(1, 0, 90)])), (times - times[0]).tolist())
    pre = Preprocessing(frames=5, stride=2, fps=fps, resize=40, crop=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    sampler, windows = FrameSampler(pre, 3), SlidingWindow(pre)
    found: list[Window] = []
    with Playback(tmp_path / "v.mkv") as playing:
        for seconds, picture in playing:
            found += [w for sample in sampler.add(seconds, picture) if (w := windows.add(sample))]
    with PyAVReader(tmp_path / "v.mkv") as reader:
        shown = reader.times.tolist()
        for place, window in enumerate(found):
            if fps is None:
                wanted = [place * 4 + k * 2 for k in range(5)]
            else:
                wanted = [on_screen(shown, (place * 2 + k) * 2 / 12) for k in range(5)]
            assert torch.equal(window.views, crop_views(reader.read(wanted), pre, 3))
    assert len(found) > 8


def test_frames_played_are_those_of_the_reader(shared: Path) -> None:
    for name in ("variable_frame_rate.mp4", "rotated_90_17frames.mp4", "header30_decodes25.mp4", "hmdb51_wave.avi"):
        path = shared / "videos" / name
        with Playback(path) as playing, PyAVReader(path) as reader:
            played = [(seconds, picture()) for seconds, picture in playing]
            assert len(played) == len(reader)
            assert [seconds for seconds, _ in played] == pytest.approx(reader.times.tolist(), abs=2e-3)
            assert torch.equal(torch.stack([picture for _, picture in played]), reader.read(np.arange(len(reader))))


def test_times_that_do_not_rise_are_counted() -> None:
    clock = FrameClock(float(Fraction(1, 100)), 10.0)
    assert [clock(pts) for pts in (300, 310, 330)] == pytest.approx([0, 0.1, 0.3])
    assert [clock(pts) for pts in (330, 400)] == pytest.approx([0.4, 0.5])
    clock = FrameClock(0.01, 0.0)
    assert [clock(None), clock(5)] == pytest.approx([0, 0.04])
