"""Finds files again that were moved as a whole: a renamed folder, another machine, a container's mount."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

_TRIED = 200
"""Files by which the old place is found, and how many of one name are compared with each."""


class Found(NamedTuple, Generic[T]):
    """What is known of files. ``moved``: the folder that they were below and the one that they are below now."""

    by_path: dict[Path, T]
    moved: tuple[str, str] | None = None


def absolute(path: Path) -> Path:
    """Returns a path from the root on, without ``..``. Links stay what they are called, but for one before a ``..``."""
    path = path.absolute()
    while ".." in path.parts:
        place = path.parts.index("..")
        path = Path(os.path.realpath(Path(*path.parts[:place]))).parent.joinpath(*path.parts[place + 1 :])
    return path


def find_moved(known: Mapping[str, T], paths: Sequence[Path], same: Callable[[T, Path], bool | None]) -> Found[T]:
    """Returns what is ``known``, by absolute path, of the files ``paths``.

    A file is known by its path, or by that without links. Where none is, all are taken to have moved from one folder to
    another, with the same paths below: the pair of folders by which most files are the ``same``. That is told by size
    or the like, None where it cannot be told.
    """
    found: dict[Path, T] = {}
    for path in paths:
        for name in (absolute(path).as_posix(), path.as_posix()):
            if name in known:
                found[path] = known[name]
    if len(found) < len(paths):
        for path in paths:
            if path not in found and (name := Path(os.path.realpath(path)).as_posix()) in known:
                found[path] = known[name]
    if found or not known or not paths:
        return Found(found)
    by_name: dict[str, list[str]] = {}
    for name in known:
        by_name.setdefault(PurePath(name).name, []).append(name)
    votes: Counter[tuple[tuple[str, ...], tuple[str, ...]]] = Counter()
    for path in paths[:: max(1, len(paths) // _TRIED)]:
        now = absolute(path).parts
        for name in by_name.get(path.name, ())[:_TRIED]:
            if same(known[name], path):
                then = PurePath(name).parts
                common = next(n for n in range(1, len(now) + 1) if now[-n - 1 : -n] != then[-n - 1 : -n])
                votes[then[:-common], now[:-common]] += 1
    if not votes:
        return Found({})
    (old, new), _ = max(votes.items(), key=lambda item: (item[1], -len(item[0][0])))
    for path in paths:
        now = absolute(path).parts
        if now[: len(new)] == new:
            name = PurePath(*old, *now[len(new) :]).as_posix()
            if name in known and same(known[name], path) is not False:
                found[path] = known[name]
    return Found(found, (PurePath(*old).as_posix(), PurePath(*new).as_posix()))
