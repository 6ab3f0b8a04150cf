"""The confusion matrix as a picture: what the pixels say."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from dualformer.scoring.plots import draw_confusion


def colours(path: Path) -> np.ndarray:
    """(h, w, 3), 0 to 255"""
    return np.rint(np.asarray(imread(path))[..., :3] * 255).astype(int)


def test_the_confusion_matrix_is_dark_where_shares_are_high(tmp_path: Path) -> None:
    matrix = np.array([[9, 1, 0], [0, 10, 0], [0, 0, 0]])
    draw_confusion(tmp_path / "a.png", matrix, ("a", "b $x_", "c $\\frac"), title="50% of $3")
    swapped = matrix[:, [1, 0, 2]]
    draw_confusion(tmp_path / "b.png", swapped, ("a", "b", "c"), title="")
    # In the left three quarters, without the scale of colours: dark blue, which is a share near 1.
    pictures = [colours(tmp_path / name) for name in ("a.png", "b.png")]
    pictures = [picture[:, : picture.shape[1] * 3 // 4] for picture in pictures]
    dark = [np.argwhere((p[..., 0] < 40) & (p[..., 2] > 90)) for p in pictures]
    assert len(dark[0]) > 5000
    # Along the diagonal, columns grow with rows; with two columns swapped they fall.
    assert np.corrcoef(dark[0].T)[0, 1] - np.corrcoef(dark[1].T)[0, 1] > 0.5
    with pytest.raises(ValueError, match="2x2"):
        draw_confusion(tmp_path / "c.png", matrix, ("a", "b"), title="")


def test_a_matrix_of_many_classes_has_room_for_all_names(tmp_path: Path) -> None:
    names = tuple(f"a rather long class name {i}" for i in range(101))
    draw_confusion(tmp_path / "many.png", np.eye(101, dtype=np.int64), names, title="many")
    height, width, _ = colours(tmp_path / "many.png").shape
    assert min(height, width) > 101 * 14
    assert max(height, width) < 101 * 30
