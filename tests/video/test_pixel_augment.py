"""Changes of pixels against naive arithmetic, draws against their stated laws, and one draw for all frames."""

import dataclasses

import numpy as np
import pytest
import torch
from made_videos import Encode
from numpy.typing import NDArray

from dualformer.video.augmentation import Augmentation, RandAugment
from dualformer.video.clip_reader import read_training_clip
from dualformer.video.pixel_augment import (
    ERASED_AREA,
    ERASED_RATIO,
    OPERATIONS,
    Change,
    apply_changes,
    augment,
    draw_changes,
)
from dualformer.video.preprocessing import kinetics, transfer
from dualformer.video.transforms import draw_crop, random_box, resize

FILL = (1, 2, 3)
GREY = np.array([0.299, 0.587, 0.114])


def noise(*shape: int, low: int = 0, high: int = 256) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def changed(clip: torch.Tensor, name: str, amount: float = 0.0) -> NDArray[np.float64]:
    result = apply_changes(clip, [Change(name, amount)], fill=FILL)
    assert result.dtype == torch.uint8 and result.shape == clip.shape
    return result.numpy().astype(float)


@pytest.mark.parametrize("factor", [0.19, 0.7, 1.0, 1.81])
def test_colours_are_what_their_names_say(factor: float) -> None:
    clip = noise(3, 20, 30, 3)
    pixels = clip.numpy().astype(float)
    grey = (pixels @ GREY).round()
    references = {"brightness": np.zeros(()), "contrast": grey.mean().round(), "saturation": grey[..., None]}
    for name, reference in references.items():
        expected = np.clip(reference + factor * (pixels - reference), 0, 255)
        assert np.abs(changed(clip, name, factor) - expected).max() <= 1 + abs(factor - 1), name


def test_tables_are_what_their_names_say() -> None:
    clip = noise(2, 20, 30, 3)
    values = clip.numpy().astype(float)
    assert np.array_equal(changed(clip, "invert"), 255 - values)
    assert np.array_equal(changed(clip, "posterize", 3), values // 32 * 32)
    assert np.array_equal(changed(clip, "solarize", 100), np.where(values < 100, values, 255 - values))
    assert np.array_equal(changed(clip, "solarize_add", 50), np.where(values < 128, values + 50, values))


def test_contrast_is_stretched_and_histograms_levelled_over_the_whole_clip() -> None:
    dark, bright = noise(1, 64, 64, 3, low=50, high=60), noise(1, 64, 64, 3, low=120, high=151)
    clip = torch.cat([dark, bright])
    stretched = changed(clip, "autocontrast")
    assert np.abs(stretched - (clip.numpy() - 50.0) * 255 / 100).max() <= 1
    # A frame by itself would be stretched to all values, and the clip would flicker.
    assert stretched[0].max() < 30 and stretched[1].min() > 170
    levelled = changed(clip, "equalize")
    for channel in range(3):
        before, after = clip.numpy()[..., channel].ravel(), levelled[..., channel].ravel()
        assert (np.diff(after[np.argsort(before, kind="stable")]) >= 0).all()
        assert all(len(set(after[before == value])) == 1 for value in np.unique(before))
        assert abs(np.median(after[before < 100]) - 64) < 16  # half of all pixels lie in the lower half of the values


def test_sharpness_blends_with_a_smoothed_frame() -> None:
    clip = noise(2, 12, 14, 3)
    pixels = clip.numpy().astype(float)
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    smooth = pixels.copy()
    for y in range(1, 11):
        for x in range(1, 13):
            smooth[:, y, x] = np.einsum("ij,tijc->tc", kernel, pixels[:, y - 1 : y + 2, x - 1 : x + 2])
    for factor in (0.1, 1.9):
        expected = np.clip(smooth + factor * (pixels - smooth), 0, 255)
        assert np.abs(changed(clip, "sharpness", factor) - expected).max() <= 2


def test_geometry_moves_pixels_where_it_should() -> None:
    clip = noise(2, 20, 20, 3)
    pixels = clip.numpy().astype(float)
    moved = changed(clip, "translate_x", 0.25)
    assert np.array_equal(moved[:, :, :15], pixels[:, :, 5:])
    assert (moved[:, :, 15:] == FILL).all()
    moved = changed(clip, "translate_y", -0.1)
    assert np.array_equal(moved[:, 2:], pixels[:, :18])
    assert (moved[:, :2] == FILL).all()
    assert np.abs(changed(clip, "rotate", 90) - np.rot90(pixels, k=-1, axes=(1, 2))).max() <= 1  # clockwise
    # Rows are moved in proportion to their distance from the middle one: by 0.2 × 5 pixels in row 14.5.
    sheared = changed(clip, "shear_x", 0.2)
    between = (sheared[:, 14, 5:15] + sheared[:, 15, 5:15]) / 2
    near = (
        pixels[:, 14, 6:16] * 0.9 + pixels[:, 14, 5:15] * 0.1 + pixels[:, 15, 6:16] * 0.9 + pixels[:, 15, 7:17] * 0.1
    ) / 2
    assert np.abs(between - near).max() <= 1.5
    assert np.abs(changed(clip.transpose(1, 2).contiguous(), "shear_y", 0.2) - sheared.transpose(0, 2, 1, 3)).max() <= 1


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_still_clip_stays_still_and_every_operation_does_something(name: str) -> None:
    still = noise(1, 24, 32, 3, low=20, high=200).expand(4, -1, -1, -1)
    amount = {"posterize": 2, "solarize": 90, "solarize_add": 60, "rotate": 12}.get(name, 0.3)
    result = apply_changes(still, [Change(name, amount)])
    assert all(torch.equal(result[0], frame) for frame in result)
    assert (result != still).float().mean() > 0.2
    if name != "equalize":  # Pillow counts pixels in whole steps, which are finer for more frames
        assert torch.equal(result[:1], apply_changes(still[:1], [Change(name, amount)]))


def test_an_unknown_change_is_refused() -> None:
    with pytest.raises(ValueError, match="no change called 'melt'"):
        apply_changes(noise(1, 8, 8, 3), [Change("melt")])


def test_randaugment_follows_its_law() -> None:
    settings = Augmentation(flip=0, randaugment=RandAugment(magnitude=9, number=3))
    rng = np.random.default_rng(0)
    drawn = [draw_changes(settings, rng) for _ in range(4000)]
    assert np.mean([len(changes) for changes in drawn]) == pytest.approx(1.5, abs=0.05)
    assert max(map(len, drawn)) == 3
    amounts: dict[str, list[float]] = {name: [] for name in OPERATIONS}
    for name, amount in (change for changes in drawn for change in changes):
        amounts[name].append(amount)
    assert len(OPERATIONS) == 15
    assert all(len(each) == pytest.approx(400, abs=80) for each in amounts.values())
    expected = {
        "rotate": {-27.0, 27.0},
        "posterize": {1.0},
        "solarize": {26.0},
        "solarize_add": {99.0},
        "brightness": {1.81, 0.19},
        "sharpness": {1.81, 0.19},
        "shear_x": {-0.27, 0.27},
        "translate_y": {-0.405, 0.405},
        "invert": {0.0},
    }
    for name, values in expected.items():
        assert {round(amount, 6) for amount in amounts[name]} == values, name
        assert np.mean(np.sign(np.array(amounts["rotate"]))) == pytest.approx(0, abs=0.15)


def test_a_spread_varies_the_magnitude_within_its_scale() -> None:
    settings = Augmentation(flip=0, randaugment=RandAugment(magnitude=9, number=1, std=0.5))
    rng = np.random.default_rng(0)
    drawn = [change for _ in range(20000) for change in draw_changes(settings, rng)]
    magnitudes = np.array([abs(amount) / 3 for name, amount in drawn if name == "rotate"])
    assert magnitudes.max() == 10.0
    assert 7 < magnitudes.min() < 8.2
    assert np.median(magnitudes) == pytest.approx(9, abs=0.1)
    assert np.std(magnitudes) == pytest.approx(0.49, abs=0.06)


def test_a_magnitude_of_zero_leaves_what_has_one_alone() -> None:
    clip = noise(2, 24, 32, 3)
    rng = np.random.default_rng(0)
    settings = Augmentation(flip=0, randaugment=RandAugment(magnitude=0, number=1))
    for change in (change for _ in range(200) for change in draw_changes(settings, rng)):
        if change.name not in ("autocontrast", "equalize", "invert", "posterize"):
            assert torch.equal(apply_changes(clip, [change]), clip), change


def test_colour_jitter_follows_its_law() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_changes(Augmentation(flip=0, colour_jitter=0.4), rng) for _ in range(3000)]
    assert all(sorted(c.name for c in changes) == ["brightness", "contrast", "saturation"] for changes in drawn)
    assert len({tuple(c.name for c in changes) for changes in drawn}) == 6
    amounts = np.array([c.amount for changes in drawn for c in changes])
    assert 0.6 <= amounts.min() < 0.61 and 1.39 < amounts.max() <= 1.4
    assert np.mean(amounts) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("pre", [kinetics(4, 1, 64), transfer(4, 1, 64)])
def test_erasing_puts_one_box_of_noise_into_all_frames(pre) -> None:
    clip = torch.full((4, 64, 64, 3), 7, dtype=torch.uint8)
    settings = Augmentation(flip=0, erasing=0.25)
    erased = 0
    pixels: list[torch.Tensor] = []
    for seed in range(800):
        result = augment(clip, settings, pre, np.random.default_rng(seed))
        touched = (result != clip).any(dim=-1)
        if not touched.any():
            continue
        erased += 1
        assert all(torch.equal(result[0], frame) for frame in result)
        rows, columns = touched[0].any(dim=1).nonzero().flatten(), touched[0].any(dim=0).nonzero().flatten()
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        area = (bottom - top) * (right - left) / 64**2
        assert ERASED_AREA[0] * 0.85 < area < ERASED_AREA[1] * 1.1
        pixels.append(result[0, top:bottom, left:right].reshape(-1, 3))
    assert erased == pytest.approx(200, abs=40)
    values = torch.cat(pixels).float()
    # Clipping at 0 and 255 takes a little of the spread.
    assert torch.allclose(values.mean(dim=0), torch.tensor(pre.mean), atol=3)
    assert torch.all((values.std(dim=0) > 50) & (values.std(dim=0) < 58))
    assert torch.equal(clip, torch.full_like(clip, 7))


def test_boxes_reach_every_corner() -> None:
    rng = np.random.default_rng(0)
    drawn = (random_box(40, 60, rng, area=ERASED_AREA, ratio=ERASED_RATIO, smaller=True) for _ in range(3000))
    boxes = [box for box in drawn if box]
    assert len(boxes) > 2990
    tops, lefts, heights, widths = map(np.array, zip(*boxes, strict=True))
    assert tops.min() == 0 == lefts.min()
    assert (tops + heights).max() == 40 and (lefts + widths).max() == 60
    ratios = np.log(widths / heights)
    assert abs(ratios.mean()) < 0.1 and np.abs(ratios).max() > 1


def test_scale_jitter_cuts_what_resizing_first_and_cutting_then_would() -> None:
    rng = np.random.default_rng(0)
    augmentation = Augmentation(scale_jitter=(128, 160), flip=0.25)
    crops = [draw_crop(240, 320, 112, augmentation, rng) for _ in range(3000)]
    assert {crop.height for crop in crops} == {round(240 * 112 / side) for side in range(128, 161)}
    assert all(crop.height == crop.width for crop in crops)
    assert min(c.top for c in crops) == 0 == min(c.left for c in crops)
    assert max(c.top + c.height for c in crops) == 240 and max(c.left + c.width for c in crops) == 320
    assert np.mean([c.flip for c in crops]) == pytest.approx(0.25, abs=0.03)
    with pytest.raises(ValueError, match="do not hold crops of 112"):
        draw_crop(240, 320, 112, Augmentation(scale_jitter=(100, 160), flip=0.5), rng)
    # Smooth frames, of which the two ways show the same but for rounding the place to whole pixels.
    y, x = torch.meshgrid(torch.arange(240.0), torch.arange(320.0), indexing="ij")
    clip = torch.stack([y, x * 0.75, (y + x) / 3], dim=-1).to(torch.uint8)[None]
    crop = draw_crop(240, 320, 112, Augmentation(scale_jitter=(160, 160), flip=0), rng)
    cut = resize(clip[:, crop.top : crop.top + 168, crop.left : crop.left + 168], 112, 112)
    small = resize(clip, 160, 213)
    top, left = round(crop.top / 1.5), round(crop.left / 1.5)
    assert (small[:, top : top + 112, left : left + 112].float() - cut.float()).abs().max() <= 3


def test_a_clip_of_a_file_is_its_parts_and_repeats_its_draw(encode: Encode) -> None:
    path, pre = encode("a.mp4", 60), kinetics(8, 3, 24)
    plain = Augmentation(flip=0.5)
    everything = dataclasses.replace(
        plain, colour_jitter=0.4, randaugment=RandAugment(magnitude=9, number=4), erasing=0.5
    )
    differing = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        bare = read_training_clip(path, pre, rng, plain)
        full = read_training_clip(path, pre, np.random.default_rng(seed), everything)
        # What changes pixels is drawn last, so that the same frames are seen in the same place.
        assert torch.equal(full.frames, augment(bare.frames, everything, pre, rng))
        assert full.mirrored == bare.mirrored
        differing += not torch.equal(full.frames, bare.frames)
    assert differing == 6
    jittered = read_training_clip(path, pre, np.random.default_rng(0), Augmentation(flip=1, scale_jitter=(24, 40)))
    assert jittered.mirrored and jittered.frames.shape == (8, 24, 24, 3)


def test_frames_that_are_shown_twice_are_changed_alike(encode: Encode) -> None:
    path, pre = encode("a.mp4", 5), kinetics(8, 2, 24)
    settings = Augmentation(flip=0, colour_jitter=0.4, randaugment=RandAugment(magnitude=9, number=4), erasing=1)
    clip = read_training_clip(path, pre, np.random.default_rng(0), settings).frames
    assert torch.equal(clip[2:3].expand(5, -1, -1, -1), clip[3:])


def test_the_same_in_words() -> None:
    assert Augmentation(flip=0).describe() == "random crops of 8 to 100% of the frame; not mirrored"
    settings = Augmentation(
        flip=0.5,
        scale_jitter=(256, 320),
        colour_jitter=0.4,
        randaugment=RandAugment.parse("7x4x0.5"),
        erasing=0.25,
    )
    assert settings.describe(", as it may be").split("; ") == [
        "random crops of frames with a short side of 256 to 320 pixels",
        "50% of the clips mirrored, as it may be",
        "brightness, contrast and saturation changed by up to 40%",
        "RandAugment with 4 operations of magnitude 7 ± 0.5",
        "a box erased in 25% of the clips",
    ]


def test_randaugment_is_read_and_written() -> None:
    assert RandAugment.parse("9x2") == RandAugment(magnitude=9, number=2)
    assert RandAugment.parse("6.5x3x0.5") == RandAugment(magnitude=6.5, number=3, std=0.5)
    assert [str(RandAugment.parse(text)) for text in ("9x2", "6.5x3x0.5")] == ["9x2", "6.5x3x0.5"]
    for wrong in ("9", "x2", "9x", "9x2x", "-1x2", "9*2", "nine", "9x2.5"):
        with pytest.raises(ValueError, match="magnitude x number, as in 9x2"):
            RandAugment.parse(wrong)
    for wrong, message in (("11x2", "between 0 and 10"), ("9x0", "at least 1")):
        with pytest.raises(ValueError, match=message):
            RandAugment.parse(wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"flip": 1.5}, "flip must be a probability"),
        ({"erasing": -0.1}, "erasing must be a probability"),
        ({"area": (0.5, 0.2)}, "area"),
        ({"ratio": (0.0, 1.0)}, "ratio"),
        ({"scale_jitter": (320, 256)}, "scale_jitter must be two rising"),
        ({"colour_jitter": 1.1}, "colour_jitter is a share"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    settings: dict[str, object] = {"flip": 0.5, **wrong}
    with pytest.raises(ValueError, match=message):
        Augmentation(**settings)  # type: ignore[arg-type]
