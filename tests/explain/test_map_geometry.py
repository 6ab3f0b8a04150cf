"""Maps of tokens on pixels: who covers what, with plain loops."""

import numpy as np
import pytest
import torch

from dualformer.explain.map_geometry import Box, cells_box, hottest_token, normalised, to_pixels


def test_every_pixel_has_its_tokens_value_and_what_sticks_out_is_cut_off() -> None:
    tokens = torch.rand(2, 3, 2)
    pixels = to_pixels(tokens, (2, 4, 8), (3, 11, 13), smooth=False)
    for t, y, x in np.ndindex(3, 11, 13):
        assert pixels[t, y, x] == tokens[t // 2, y // 4, x // 8]
    with pytest.raises(ValueError, match="do not cover"):
        to_pixels(tokens, (2, 4, 8), (5, 12, 16), smooth=False)


def test_interpolation_is_between_the_centres_of_tokens() -> None:
    tokens = torch.tensor([[[0.0, 1.0, 3.0]]])  # centres at columns 1.5, 5.5 and 9.5
    pixels = to_pixels(tokens, (1, 1, 4), (1, 1, 10), smooth=True)[0, 0]
    expected = np.interp(np.arange(10), [1.5, 5.5, 9.5], [0, 1, 3])
    np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-6)
    moved = to_pixels(torch.tensor([0.0, 1.0])[:, None, None], (2, 1, 1), (4, 1, 1), smooth=True)[:, 0, 0]
    np.testing.assert_allclose(moved.numpy(), [0, 0.25, 0.75, 1])  # in time just so


def test_normalising_keeps_zero_and_an_empty_map() -> None:
    assert normalised(torch.tensor([0.0, 1.0, 4.0])).tolist() == [0, 0.25, 1]
    assert normalised(torch.zeros(3)).tolist() == [0, 0, 0]


def test_boxes_of_tokens_end_with_the_clip() -> None:
    assert cells_box((1, 2, 0), (1, 1, 1), (2, 4, 8), (4, 11, 16)) == Box(first=(2, 8, 0), end=(4, 11, 8))
    assert cells_box((0, 0, 0), (8, 7, 7), (2, 4, 8), (4, 11, 16)) == Box(first=(0, 0, 0), end=(4, 11, 16))


def test_the_hottest_token_is_the_one_with_the_hottest_pixels() -> None:
    pixels = torch.zeros(4, 11, 16)
    pixels[2:4, 8:11, 8:16] = 0.9  # a token of which a part sticks out counts by the pixels that it has
    pixels[0, 0, 0] = 1.0
    assert hottest_token(pixels, (2, 4, 8), (2, 3, 2)) == (1, 2, 1)
