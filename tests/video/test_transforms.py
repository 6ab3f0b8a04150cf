"""Pixels: resizing against a float reference, crops against plain slices, the random crop against its stated law."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from made_videos import Encode, naive

from dualformer.video import transforms
from dualformer.video.augmentation import Augmentation
from dualformer.video.clip_reader import read_training_clip, read_views
from dualformer.video.preprocessing import Preprocessing, kinetics, transfer
from dualformer.video.sampling import even_clips, random_clip


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("size", [(20, 30), (64, 64), (9, 50), (48, 64)])
def test_resize_is_antialiased_bilinear(size: tuple[int, int]) -> None:
    clip = noise(3, 48, 64, 3)
    planes = clip.permute(0, 3, 1, 2).float().contiguous()
    expected = F.interpolate(planes, size=size, mode="bilinear", antialias=True).permute(0, 2, 3, 1)
    result = transforms.resize(clip, *size)
    assert result.dtype == torch.uint8
    assert result.is_contiguous()
    assert (result.float() - expected).abs().max() <= 1  # rounding, once along each axis


def test_resize_to_the_same_size_changes_nothing() -> None:
    clip = noise(2, 40, 50, 3)
    assert torch.equal(transforms.resize(clip, 40, 50), clip)


@given(st.integers(20, 200), st.integers(20, 200), st.integers(8, 64))
def test_short_side(height: int, width: int, size: int) -> None:
    h, w = transforms.resize_short_side(torch.zeros(1, height, width, 3, dtype=torch.uint8), size).shape[1:3]
    assert min(h, w) == size
    assert abs(max(h, w) - size * max(height, width) / min(height, width)) <= 0.5


def test_crops_are_slices() -> None:
    wide, tall = noise(2, 10, 31, 3), noise(2, 31, 10, 3)
    assert torch.equal(transforms.square_crops(wide, 10)[0], wide[:, :, 10:20])
    assert torch.equal(transforms.square_crops(tall, 8)[0], tall[:, 11:19, 1:9])
    assert torch.equal(transforms.square_crops(wide, 10, 3), torch.stack([wide[:, :, x : x + 10] for x in (0, 10, 21)]))
    assert torch.equal(transforms.square_crops(tall, 10, 3), torch.stack([tall[:, y : y + 10] for y in (0, 10, 21)]))
    with pytest.raises(ValueError, match="does not fit"):
        transforms.square_crops(wide, 11)


def test_views_of_a_test_clip() -> None:
    clip, pre = noise(4, 48, 96, 3), kinetics(4, 1, 24)
    small = transforms.resize(clip, 24, 48)
    assert torch.equal(transforms.crop_views(clip, pre)[0], small[:, :, 12:36])
    assert torch.equal(transforms.crop_views(clip, pre, 3)[2], small[:, :, 24:])
    assert torch.equal(transforms.crop_views(clip, pre, 3)[1], transforms.crop_views(clip, pre)[0])
    with pytest.raises(ValueError, match="crops must be 1 or 3"):
        transforms.crop_views(clip, pre, 2)


@given(st.integers(4, 300), st.integers(4, 300), st.integers(0, 999))
def test_random_boxes_lie_in_the_frame(height: int, width: int, seed: int) -> None:
    crop = transforms.draw_crop(height, width, 8, Augmentation(flip=0.5), np.random.default_rng(seed))
    assert 0 <= crop.top <= crop.top + crop.height <= height
    assert 0 <= crop.left <= crop.left + crop.width <= width
    assert crop.height >= 1
    assert crop.width >= 1


def test_random_boxes_follow_their_law() -> None:
    rng = np.random.default_rng(0)
    augmentation = Augmentation(area=(0.1, 0.5), flip=0.25)
    crops = [transforms.draw_crop(240, 320, 8, augmentation, rng) for _ in range(4000)]
    areas = np.array([c.height * c.width / (240 * 320) for c in crops])
    ratios = np.array([np.log(c.width / c.height) for c in crops])
    assert areas.min() > 0.095
    assert areas.max() < 0.505
    assert abs(areas.mean() - 0.3) < 0.01
    assert abs(ratios.mean()) < 0.015
    assert np.abs(ratios).max() < np.log(4 / 3) + 0.02
    assert abs(np.mean([c.flip for c in crops]) - 0.25) < 0.03
    # Every corner of the frame is reached, so the box is not kept to a part of it.
    assert min(c.top for c in crops) == 0 == min(c.left for c in crops)
    assert max(c.top + c.height for c in crops) == 240
    assert max(c.left + c.width for c in crops) == 320


def training_view(
    clip: torch.Tensor, pre: Preprocessing, rng: np.random.Generator, *, flip: float = 0.5, **draw: Any
) -> torch.Tensor:
    crop = transforms.draw_crop(clip.shape[1], clip.shape[2], pre.crop, Augmentation(flip=flip, **draw), rng)
    return transforms.resize_and_flip(transforms.cut(clip, crop), crop, pre)


def test_whole_frame_and_flip() -> None:
    clip, pre = noise(3, 32, 32, 3), kinetics(3, 1, 32)
    whole: dict[str, Any] = {"area": (1.0, 1.0), "ratio": (1.0, 1.0)}
    assert torch.equal(training_view(clip, pre, np.random.default_rng(0), flip=0, **whole), clip)
    mirrored = training_view(clip, pre, np.random.default_rng(0), flip=1, **whole)
    assert torch.equal(mirrored, clip.flip(2))


def test_one_draw_serves_all_frames() -> None:
    still = noise(1, 48, 64, 3).expand(5, -1, -1, -1)
    view = training_view(still, kinetics(5, 1, 20), np.random.default_rng(3))
    assert all(torch.equal(view[0], frame) for frame in view)


@pytest.mark.parametrize(
    ("wrong", "message"), [({"area": (0.5, 0.2)}, "area"), ({"ratio": (0.0, 1.0)}, "ratio"), ({"flip": 1.5}, "flip")]
)
def test_augmentation_refuses(wrong: dict[str, Any], message: str) -> None:
    draw: dict[str, Any] = {"flip": 0.5, **wrong}
    with pytest.raises(ValueError, match=message):
        transforms.draw_crop(10, 10, 8, Augmentation(**draw), np.random.default_rng(0))


@pytest.mark.parametrize("pre", [kinetics(4, 1, 8), transfer(4, 1, 8)])
def test_normalize(pre) -> None:
    clip_reader = noise(2, 4, 8, 8, 3)
    result = transforms.normalize(clip_reader, pre)
    assert result.shape == (2, 3, 4, 8, 8)
    assert result.is_contiguous()
    for c in range(3):
        expected = (clip_reader[..., c].double() - pre.mean[c]) / pre.std[c]
        assert (result[:, c].double() - expected).abs().max() < 1e-5 * 256
    half = transforms.normalize(clip_reader, pre, dtype=torch.bfloat16)
    assert torch.equal(half, result.bfloat16())
    with pytest.raises(ValueError, match="uint8 clips B T H W 3"):
        transforms.normalize(clip_reader.float(), pre)


def test_training_clip_is_its_parts(encode: Encode) -> None:
    """Cutting while decoding gives what decoding everything, then cutting, gives."""
    path, pre = encode("a.mp4", 60), kinetics(8, 3, 24)
    frames = torch.from_numpy(naive(path))
    for seed in range(6):
        rng = np.random.default_rng(seed)
        indices = random_clip(np.arange(60) / 25, pre, rng)
        expected = training_view(frames[torch.from_numpy(indices)], pre, rng, flip=0.5)
        assert torch.equal(
            read_training_clip(path, pre, np.random.default_rng(seed), Augmentation(flip=0.5)).frames, expected
        )


@pytest.mark.parametrize("crops", [1, 3])
@pytest.mark.parametrize("clips", [1, 4])
def test_views_are_their_parts(clips: int, crops: int, encode: Encode) -> None:
    path, pre = encode("a.mp4", 60), kinetics(8, 3, 24)
    frames = torch.from_numpy(naive(path))
    views = read_views(path, pre, clips=clips, crops=crops)
    starts = even_clips(np.arange(60) / 25, pre, clips)
    expected = torch.cat([transforms.crop_views(frames[torch.from_numpy(i)], pre, crops) for i in starts])
    assert torch.equal(views, expected)
    assert len({view.numpy().tobytes() for view in views}) == clips * crops  # all distinct


def test_short_video_repeats_its_last_frame_and_says_so_once(encode: Encode, caplog: pytest.LogCaptureFixture) -> None:
    from dualformer.video import clip_reader

    clip_reader._warned_short.value = False
    path, pre = encode("a.mp4", 5), kinetics(8, 2, 24)
    view = read_views(path, pre)[0]
    read_training_clip(path, pre, np.random.default_rng(0), Augmentation(flip=0))
    assert torch.equal(view[3:], view[2:3].expand(6, -1, -1, -1)[:5])
    assert not torch.equal(view[1], view[2])
    assert caplog.text.count("5 frames are shorter than a clip of 8 frames × stride 2: its last frame is repeated") == 1


def test_a_short_video_is_told_in_seconds_where_the_clip_has_a_clock() -> None:
    from dualformer.video.clip_reader import short_note

    times, pre = np.arange(80) / 30, replace(kinetics(8, 1, 24), fps=2.0)
    seconds = "2.63 s (80 frames) are shorter than a clip of 3.5 s (8 frames × stride 1 at 2 fps): "
    assert short_note(times, pre) == seconds + "its last frame is repeated"
    assert short_note(times, replace(pre, short_video="loop")) == seconds + "it is looped"
    assert short_note(np.arange(120) / 30, pre) == ""


@given(st.integers(3, 200), st.integers(3, 200), st.integers(8, 64))
def test_padding_shows_the_whole_picture_in_the_middle_of_a_square(height: int, width: int, size: int) -> None:
    assume(max(height, width) <= 16 * min(height, width))  # longer ones are cut
    pre = replace(kinetics(1, 1, size), crop_mode="pad")
    white = torch.full((1, height, width, 3), 255, dtype=torch.uint8)
    square = transforms.resize_frames(white, pre)
    h, w = (max(1, round(side * size / max(height, width))) for side in (height, width))
    top, left = (size - h) // 2, (size - w) // 2
    assert square.shape == (1, size, size, 3)
    assert (square[:, top : top + h, left : left + w] == 255).all()
    assert int((square == 255).all(-1).sum()) == h * w
    outside = square[(square != 255).any(-1)]
    assert torch.equal(outside, torch.tensor([124, 116, 104], dtype=torch.uint8).expand_as(outside))
    assert torch.equal(transforms.crop_views(square, pre)[0], square)


def test_training_clips_are_cut_from_padded_pictures(encode: Encode) -> None:
    path = encode("a.mp4", 4, height=32, width=64)
    pre = replace(kinetics(2, 1, 16), crop_mode="pad")
    whole = Augmentation(flip=0.0, area=(1.0, 1.0), ratio=(1.0, 1.0))
    clip = read_training_clip(path, pre, np.random.default_rng(0), whole)
    assert clip.box == (0.0, 0.0, 1.0, 1.0)
    mean = torch.tensor([124, 116, 104])
    assert all((clip.frames[:, row].float() - mean).abs().max() <= 1 for row in (0, 2, 13, 15))
    assert ((clip.frames[:, 5:11].float() - mean).abs().amax(-1) > 1).float().mean() > 0.9


def test_a_card_tells_padding_and_an_older_one_has_none() -> None:
    usual, padded = kinetics(4, 1, 16), replace(kinetics(4, 1, 16), crop_mode="pad")
    assert "crop_mode" not in usual.to_dict() and Preprocessing.from_dict(usual.to_dict()) == usual
    assert Preprocessing.from_dict(padded.to_dict()) == padded
    assert padded.describe() == "4 frames in a row, long side 16, padded to a square, crop 16"
    assert replace(usual, fps=9.6, stride=2).describe().startswith("4 frames, 4.8 a second, short side")
    with pytest.raises(ValueError, match="crop_mode must be center or pad, not 'fill'"):
        replace(usual, crop_mode="fill")
