"""The videos that a manifest calls bad, and which of a data set's videos these are, wherever they lie by now."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from dualformer.datasets.samples import LeftOut
from dualformer.moved_files import absolute, find_moved
from dualformer.urls import url_of
from dualformer.video.container import VideoError
from dualformer.video.file_slices import is_frame_folder
from dualformer.video.frame_patterns import frame_files


class _Verdict(Protocol):
    @property
    def path(self) -> Path: ...
    @property
    def ok(self) -> bool: ...
    @property
    def bytes(self) -> int: ...


class BadVideos(frozenset[Path]):
    """The absolute paths of bad videos; of a manifest also its rows, by which they are found after a move."""

    manifest: str
    _rows: dict[str, _Verdict | None]

    @classmethod
    def of(cls, bad: Collection[Path]) -> BadVideos:
        """Returns paths as they are named by a manifest; those of a manifest as they are."""
        if isinstance(bad, BadVideos):
            return bad
        made = cls(absolute(path) for path in bad)
        made.manifest, made._rows = "", {path.as_posix(): None for path in made}
        return made

    @classmethod
    def from_verdicts(cls, verdicts: Iterable[_Verdict], manifest: str) -> BadVideos:
        """Returns the bad ones among the rows of ``manifest``."""
        rows = {url_of(verdict.path) or verdict.path.as_posix(): verdict for verdict in verdicts}
        made = cls(verdict.path for verdict in rows.values() if not verdict.ok)
        made.manifest, made._rows = manifest, dict(rows)
        return made

    def among(self, paths: Sequence[Path]) -> LeftOut:
        """Returns which of a data set's videos are bad. Those of a manifest are found where all of them have moved."""
        if not self._rows:
            return LeftOut(bad=frozenset(), manifest=self.manifest)
        urls = {path: url for path in paths if (url := url_of(path))}
        found = find_moved(self._rows, [path for path in paths if path not in urls], _same_size)
        known = found.by_path | {path: self._rows[url] for path, url in urls.items() if url in self._rows}
        bad = frozenset(path for path, row in known.items() if row is None or not row.ok)
        if not self.manifest:
            return LeftOut(bad=bad, manifest="")
        listed = {id(row) for path, row in known.items() if path in bad}
        return LeftOut(
            bad=bad,
            manifest=self.manifest,
            unknown=len(set(paths)) - len(known),
            elsewhere=len(self) - len(listed),
            strange=not known and bool(paths),
            moved=found.moved,
        )


def size_of(path: Path) -> int | None:
    """Returns the bytes of a file, or of all files of a folder of frames; None where they cannot be read."""
    try:
        return sum(p.stat().st_size for p in frame_files(path)) if is_frame_folder(path) else path.stat().st_size
    except (OSError, VideoError):
        return None


def _same_size(row: _Verdict | None, path: Path) -> bool | None:
    """Returns whether a file is as large as a row says; None for a row that does not say it."""
    return None if row is None or not row.bytes else row.bytes == size_of(path)
