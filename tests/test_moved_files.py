"""Files that were moved as a whole are found again by their paths below, and by their sizes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dualformer.moved_files import absolute, find_moved


def files(folder: Path, *names: str) -> list[Path]:
    for place, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * (place + 1))
    return [folder / name for name in names]


def same(size: int, path: Path) -> bool | None:
    return size == path.stat().st_size if size else None


NAMES = ("walk/v0.mp4", "walk/v1.mp4", "run/v0.mp4", "run/v1.mp4", "run/deep/v0.mp4")


@pytest.mark.parametrize(("then", "now"), [("h", "h_moved"), ("a/b/h", "mount/h"), ("h", "x/y/z/h"), ("h", "walk/h/h")])
@pytest.mark.parametrize("of", ["", "run"])
def test_a_whole_that_has_moved_is_found(tmp_path: Path, then: str, now: str, of: str) -> None:
    """Or a part of it, as where a folder was checked and its ``train`` is trained on."""
    old, new = Path("/somewhere", then), tmp_path / now
    paths = files(new, *NAMES)
    known = {(old / name).as_posix(): place + 1 for place, name in enumerate(NAMES)}
    part = [path for path in paths if not of or of in path.relative_to(new).parts]
    found = find_moved(known, part, same)
    assert found.by_path == {path: paths.index(path) + 1 for path in part}
    assert found.moved is not None
    assert Path(found.moved[1], Path(part[0]).relative_to(found.moved[1])) == part[0]


def test_what_has_not_moved_is_found_as_it_is_named_and_through_links(tmp_path: Path) -> None:
    paths = files(tmp_path / "h", *NAMES)
    (tmp_path / "link").symlink_to("h")
    known = {path.as_posix(): place + 1 for place, path in enumerate(paths)}
    for folder in (tmp_path / "h", tmp_path / "link", Path(os.path.relpath(tmp_path / "h"))):
        asked = [folder / name for name in NAMES]
        assert find_moved(known, asked, same) == (dict(zip(asked, range(1, 6), strict=True)), None)


def test_other_files_of_the_same_names_are_others(tmp_path: Path) -> None:
    paths = files(tmp_path / "other", *NAMES)
    known = {f"/somewhere/h/{name}": 100 + place for place, name in enumerate(NAMES)}
    assert find_moved(known, paths, same) == ({}, None)
    assert find_moved({f"/somewhere/h/{name}": 0 for name in NAMES}, paths, same) == ({}, None)  # of no known size
    assert find_moved({}, paths, same) == ({}, None)
    assert find_moved(known, [], same) == ({}, None)


def test_absolute_paths_keep_links_and_go_up_as_the_system_does(tmp_path: Path) -> None:
    files(tmp_path, "far/deep/a.mp4", "far/b.mp4", "b.mp4")
    (tmp_path / "link").symlink_to("far/deep")
    assert absolute(tmp_path / "link" / "a.mp4") == tmp_path / "link" / "a.mp4"
    assert absolute(tmp_path / "link" / ".." / "b.mp4") == tmp_path / "far" / "b.mp4"
    assert absolute(tmp_path / "far" / ".." / "b.mp4") == tmp_path / "b.mp4"
