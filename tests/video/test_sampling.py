"""Which frames make a clip, against plain counting."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualformer.video.preprocessing import Preprocessing, kinetics, transfer
from dualformer.video.sampling import clip_at, covering_clips, even_clips, is_short, random_clip


def plan(frames: int, stride: int, fps: float | None = None) -> Preprocessing:
    return Preprocessing(
        frames=frames, stride=stride, fps=fps, resize=32, crop=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )


videos = st.integers(1, 200)
plans = st.builds(plan, st.integers(1, 40), st.integers(1, 6), st.sampled_from([None, 7.5, 25.0, 30.0, 60.0]))


@given(videos, plans, st.integers(0, 99), st.booleans())
def test_indices_lie_in_the_video_and_rise(n: int, pre: Preprocessing, seed: int, jitter: bool) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.001, 0.2, n)) if jitter else np.arange(n) / 25
    clips = [random_clip(times, pre, rng), *even_clips(times, pre, 3)]
    for clip in clips:
        assert clip.shape == (pre.frames,)
        assert clip.dtype == np.int64
        assert clip.min() >= 0
        assert clip.max() < n
        assert (np.diff(clip) >= 0).all()


@given(videos, st.integers(1, 40), st.integers(1, 6))
def test_frames_are_a_stride_apart_and_the_last_is_repeated(n: int, frames: int, stride: int) -> None:
    pre = plan(frames, stride)
    clip = random_clip(np.arange(n) / 25, pre, np.random.default_rng(0))
    start = clip[0]
    assert clip.tolist() == [min(start + k * stride, n - 1) for k in range(frames)]
    short = n < (frames - 1) * stride + 1
    assert is_short(np.arange(n) / 25, pre) == short
    if short:
        assert start == 0
    else:
        assert clip[-1] == start + (frames - 1) * stride


def test_random_starts_are_uniform_and_reach_both_ends() -> None:
    pre, times = plan(4, 2), np.arange(10) / 25  # starts 0, 1, 2, 3
    rng = np.random.default_rng(0)
    starts = np.bincount([random_clip(times, pre, rng)[0] for _ in range(4000)], minlength=5)
    assert starts[4:].sum() == 0
    assert (np.abs(starts[:4] - 1000) < 120).all()  # four standard deviations


def test_a_clock_at_the_files_own_rate_draws_the_same_starts() -> None:
    pre, times = plan(4, 2, fps=25), np.arange(10) / 25
    rng = np.random.default_rng(0)
    clips = [random_clip(times, pre, rng) for _ in range(4000)]
    assert all((np.diff(clip) == 2).all() for clip in clips)
    starts = np.bincount([clip[0] for clip in clips], minlength=5)
    assert (np.abs(starts[:4] - 1000) < 120).all()


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 6), st.integers(1, 12))
def test_even_clips_are_spread_by_the_stated_rounding(n: int, frames: int, stride: int, clips: int) -> None:
    views = even_clips(np.arange(n) / 25, plan(frames, stride), clips)
    room = max(0, n - ((frames - 1) * stride + 1))
    if clips == 1:
        expected = [room // 2]
    else:
        expected = [int(np.floor(i * room / (clips - 1) + 0.5 + 1e-9)) for i in range(clips)]
    assert views[:, 0].tolist() == expected
    if room >= clips - 1:
        assert len({tuple(view) for view in views}) == clips
    if room and clips > 1:
        assert views[0, 0] == 0
        assert views[-1, -1] == n - 1


def test_even_clips_by_the_clock_end_with_the_last_frame() -> None:
    times = np.arange(100) / 30
    views = even_clips(times, plan(8, 1, fps=10), 4)
    assert views[0].tolist() == [0, 3, 6, 9, 12, 15, 18, 21]
    assert views[-1].tolist() == [78, 81, 84, 87, 90, 93, 96, 99]


def test_the_clock_shows_the_frame_on_the_screen() -> None:
    times = np.array([0.0, 0.1, 0.5, 0.55, 1.0])
    assert even_clips(times, plan(6, 1, fps=5), 1)[0].tolist() == [0, 1, 1, 3, 3, 4]  # 0, .2, .4, .6, .8, 1.0


def test_times_that_a_container_rounded_to_milliseconds_skip_nothing() -> None:
    times = np.round(np.arange(90) / 30, 3)
    assert even_clips(times, plan(90, 1, fps=30), 1)[0].tolist() == list(range(90))


def test_same_seed_same_clip() -> None:
    times = np.arange(100) / 25
    for pre in (plan(8, 2), plan(8, 2, fps=30)):
        a, b, c = (random_clip(times, pre, np.random.default_rng(s)) for s in (1, 1, 2))
        assert a.tolist() == b.tolist() != c.tolist()


def test_preprocessing_survives_json() -> None:
    import json

    for pre in (kinetics(), transfer(16, 4, 112), plan(3, 1, fps=12.5)):
        assert Preprocessing.from_dict(json.loads(json.dumps(pre.to_dict()))) == pre


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "bgr"}, "unknown preprocessing keys: colour"),
        ({"crop": None}, "missing preprocessing keys: crop"),
        ({"frames": 0}, "frames must be"),
        ({"frames": 2.5}, "frames must be"),
        ({"crop": 999}, "crop 999 does not fit"),
        ({"fps": 0.0}, "fps must be positive"),
        ({"std": [1, 0, 1]}, "std must be positive"),
        ({"mean": [1, 2]}, "mean must be three"),
    ],
)
def test_preprocessing_refuses(change: dict[str, object], message: str) -> None:
    d = {**kinetics().to_dict(), **change}
    d = {key: value for key, value in d.items() if value is not None or key == "fps"}
    with pytest.raises(ValueError, match=message):
        Preprocessing.from_dict(d)


@given(videos, plans, st.floats(0, 1), st.booleans())
def test_the_clip_at_a_moment_is_the_nearest_that_fits(n: int, pre: Preprocessing, part: float, jitter: bool) -> None:
    times = np.cumsum(np.random.default_rng(n).uniform(0.02, 0.06, n)) if jitter else np.arange(n) / 25
    seconds = part * float(times[-1] - times[0])
    clip = clip_at(times, pre, seconds)
    assert clip.shape == (pre.frames,) and (np.diff(clip) >= 0).all()
    reach = (pre.frames - 1) * pre.stride
    if pre.fps is None:
        shown = int((times <= times[0] + seconds + 1e-3).sum()) - 1
        starts = range(max(1, n - reach))
        nearest = min(starts, key=lambda start: abs(start + reach // 2 - shown))
        assert clip[0] == nearest
        assert clip.tolist() == [min(nearest + k * pre.stride, n - 1) for k in range(pre.frames)]
    else:
        room = float(times[-1] - times[0]) - reach / pre.fps
        start = min(max(0.0, seconds - reach / pre.fps / 2), max(0.0, room))
        ticks = times[0] + start + np.arange(pre.frames) * pre.stride / pre.fps
        assert (times[clip] <= ticks + 2e-3).all()


def test_a_moment_outside_the_video_is_refused() -> None:
    times = np.arange(50) / 25
    assert clip_at(times, plan(4, 2), 2.0).tolist() == [43, 45, 47, 49]
    for seconds in (-0.1, 2.1):
        with pytest.raises(ValueError, match=r"outside the video, which lasts 2\.00 s"):
            clip_at(times, plan(4, 2), seconds)


def in_segments(frames: int, stride: int = 1, fps: float | None = None) -> Preprocessing:
    return replace(plan(frames, stride, fps), sampling="segments")


@given(st.integers(1, 80), st.integers(1, 40), st.integers(0, 99))
def test_a_clip_has_a_frame_of_each_segment_of_a_short_video(n: int, frames: int, seed: int) -> None:
    pre, times = in_segments(frames, 2), np.arange(n) / 25
    rng = np.random.default_rng(seed)
    if n > 4 * frames:
        same = np.random.default_rng(seed)
        assert np.array_equal(random_clip(times, pre, rng), random_clip(times, plan(frames, 2), same))
        assert np.array_equal(even_clips(times, pre, 3), even_clips(times, plan(frames, 2), 3))
        return
    clip = random_clip(times, pre, rng)
    bounds = np.arange(frames + 1) * n / frames
    assert all(low - 1 <= index <= high for index, low, high in zip(clip, bounds[:-1], bounds[1:], strict=True))
    middles = even_clips(times, pre, 1)[0]
    assert middles.tolist() == [min(n - 1, int((2 * part + 1) * n / (2 * frames) + 0.025)) for part in range(frames)]
    assert not is_short(times, pre)
    assert np.array_equal(covering_clips(times, pre), middles[None])
    assert np.array_equal(clip_at(times, pre, 0.0), middles)


def test_clips_of_segments_take_turns_within_them_and_follow_time() -> None:
    times = np.concatenate([np.arange(10) / 10, 1 + np.arange(20) / 20])  # twice as many frames in the second second
    clips = even_clips(times, in_segments(4, 1, fps=2.0), 2)
    assert clips.tolist() == [[1, 6, 12, 22], [3, 8, 17, 27]]
    quick = even_clips(times, in_segments(4, 1, fps=4.1), 1)  # the video's 2 s are more than twice its clip
    assert quick.tolist() == even_clips(times, plan(4, 1, fps=4.1), 1).tolist()
    long = even_clips(np.arange(81) / 10, in_segments(4, 1, fps=1.0), 1)  # 8.1 s, and a clip of 4 s
    assert long.tolist() == even_clips(np.arange(81) / 10, plan(4, 1, fps=1.0), 1).tolist()
    shown = even_clips(np.arange(80) / 10, in_segments(4, 1, fps=1.0), 1)
    assert shown.tolist() == [[10, 30, 50, 70]]


def test_a_card_tells_sampling_and_an_older_one_has_none() -> None:
    assert "sampling" not in plan(4, 1).to_dict()
    assert Preprocessing.from_dict(in_segments(4).to_dict()) == in_segments(4)
    with pytest.raises(ValueError, match="sampling must be stride or segments, not 'all'"):
        replace(plan(4, 1), sampling="all")


@given(videos, plans, st.integers(1, 6))
def test_clips_in_the_middles_of_equal_segments(n: int, pre: Preprocessing, clips: int) -> None:
    times = np.arange(n) / 25
    taken = even_clips(times, replace(pre, placement="middles"), clips)
    assert taken.shape == (clips, pre.frames)
    if pre.fps is None:  # as the release counts
        part = max(0, n - pre.frames * pre.stride + 1) / clips
        assert taken[:, 0].tolist() == [int(i * part + part / 2) for i in range(clips)]
    else:
        part = max(0.0, n / 25 - pre.frames * pre.stride / pre.fps) / clips if n > 1 else 0.0
        assert taken[:, 0].tolist() == [int((i * part + part / 2 + 1e-3) * 25 + 1e-9) for i in range(clips)]


@given(videos, st.integers(1, 40), st.integers(1, 6), st.sampled_from([None, 25.0]))
def test_a_short_video_is_looped(n: int, frames: int, stride: int, fps: float | None) -> None:
    pre, times = replace(plan(frames, stride, fps), short_video="loop"), np.arange(n) / 25
    short = is_short(times, pre)
    if short:
        shown = [k * stride % n for k in range(frames)]
        assert random_clip(times, pre, np.random.default_rng(0)).tolist() == shown
        assert even_clips(times, pre, 2).tolist() == [shown, shown]
        assert clip_at(times, pre, 0).tolist() == shown
    else:
        assert np.array_equal(even_clips(times, pre, 2), even_clips(times, plan(frames, stride, fps), 2))


def test_covering_clips_reach_both_ends_wherever_test_clips_lie() -> None:
    pre = plan(8, 2)
    times = np.arange(100) / 25
    assert np.array_equal(covering_clips(times, replace(pre, placement="middles")), covering_clips(times, pre))
