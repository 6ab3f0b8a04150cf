"""Videos that cannot be read though nobody said so before: training goes on without them, and says so."""

from __future__ import annotations

from pathlib import Path

from dualformer.datasets.manifest import Verdict, read_manifest, write_manifest
from dualformer.datasets.samples import DatasetError
from dualformer.errors import DualFormerError
from dualformer.training.reporter import Reporter
from dualformer.video.backend import decoder
from dualformer.video.container import VideoError

BAD_FILES = "bad_files.csv"
"""The bad videos that a run met, as a manifest of ``dualformer check``."""


class BadFiles:
    """Told of every clip that could not be read. Each video is named once, and written down in ``folder``.

    Of several processes each is told of every one, and only that with ``writes`` writes them down.

    A clip that is left out is missing from its batch; no other takes its place. More than one in twenty of ``videos``
    (and more than three) is no accident: then ``DatasetError`` says so.
    """

    def __init__(self, folder: Path, videos: int, reporter: Reporter, *, writes: bool = True) -> None:
        self._path, self._videos, self._reporter, self._writes = folder / BAD_FILES, videos, reporter, writes
        self._told: set[str] = set()

    def forget(self) -> None:
        """A run begins."""
        self._path.unlink(missing_ok=True)

    def __call__(self, error: DualFormerError) -> None:
        if str(error) in self._told:
            return
        self._told.add(str(error))
        self._reporter.say(f"left out, as it cannot be read: {error}")
        if self._writes and isinstance(error, VideoError):
            known = read_manifest(self._path) if self._path.is_file() else []
            verdict = Verdict(path=Path(error.path), ok=False, reason=error.reason, decoder=decoder())
            write_manifest(self._path, [*(v for v in known if v.path != verdict.path.resolve()), verdict])
        if len(self._told) > max(3, self._videos // 20):
            raise DatasetError(
                f"{len(self._told)} of {self._videos} videos cannot be read, the last of them {error}; find all such "
                "files with `dualformer check`, and leave them out by giving its manifest with `manifest`"
            )

    def sum_up(self) -> None:
        """At the end of a run."""
        if self._told:
            self._reporter.say(
                f"{len(self._told)} of {self._videos} videos could not be read and were left out (they are listed in "
                f"{self._path}); `dualformer check` finds all such files"
            )
