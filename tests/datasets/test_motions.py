"""Files of captured motions: what is wrong with one is said with its name and what is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualformer.datasets.rendered_people.motions import Motions

RIGHT: dict[str, Any] = {"pos": np.zeros((90, 19, 3)), "start": [0], "length": [90], "label": ["walk"], "fps": 30}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"pos": np.zeros((3, 5, 3))}, r"has positions of shape \(3, 5, 3\)"),
        ({"pos": np.full((90, 19, 3), np.nan)}, "has positions that are not finite numbers"),
        ({"pos": np.full((90, 19, 3), "0")}, "has positions that are not finite numbers"),
        ({"pos": np.full((90, 19, 3), None)}, "is damaged, or holds objects in place of numbers"),
        ({"length": [91]}, r"has a motion \(walk\) of 91 frames from 0 on, of 90 frames in all"),
        ({"start": [-1]}, "of 90 frames from -1 on"),
        ({"start": np.array([200], np.uint8), "length": np.array([90], np.uint8)}, "of 90 frames from 200 on"),
        ({"length": [0]}, "of 0 frames"),
        ({"length": [89.5]}, "of 89.5 frames"),
        ({"start": [0, 30]}, "has 2 start, 1 length and 1 label"),
        ({"label": "walk", "start": 0, "length": 90}, "which must be as many"),
        ({"fps": 0}, "has 0 fps"),
        ({"fps": np.nan}, "has nan fps"),
        ({"fps": [30, 25]}, "which must be one number above 0"),
    ],
)
def test_faults_of_files_of_motions_are_named(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    path = tmp_path / "motions.npz"
    np.savez(path, **(RIGHT | changes))
    with pytest.raises(ValueError, match=f"{fault}.*; `motions` needs an npz file of pos") as caught:
        Motions(path)
    assert str(caught.value).startswith(f"{path} ")


def test_other_files_are_no_motions(tmp_path: Path) -> None:
    path = tmp_path / "motions.npz"
    np.savez(path, **RIGHT)
    assert Motions(path).share == 0.5
    whole = path.read_bytes()
    np.save(tmp_path / "array.npy", np.zeros(3))
    for content in (b"label,x\nwalk,0\n", b"", whole[:500], (tmp_path / "array.npy").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"motions\.npz is no npz file, or only a part of one; `motions` needs"):
            Motions(path)
    path.write_bytes(whole[:2000] + b"x" * 100 + whole[2100:])
    with pytest.raises(ValueError, match=r"motions\.npz is damaged"):
        Motions(path)
    np.savez(path, pos=np.zeros((3, 19, 3)))
    with pytest.raises(ValueError, match=r"motions\.npz lacks start; `motions` needs"):
        Motions(path)
