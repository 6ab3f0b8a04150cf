"""URLs where paths may stand: `as_path` makes of each text what it is, and what it makes of a URL is a `Path`, too."""

import posixpath
from pathlib import Path
from typing import IO, Any

from dualformer.remote_files import read_remote, retry
from dualformer.urls import TABLES, exact_url, remember_as, remember_url, split_url, url_of

_FILES = {".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet", ".arrow", ".npy", ".xml", ".eaf", ".zip", ".tar"}
"""Endings by which a URL is known to be no folder."""


class RemotePath(type(Path())):
    """The name of a URL. It is told from other paths by its type, and its text is the URL without credentials.

    What is asked of the file system is asked of the server; whatever else changes or describes a file is not there.
    """

    __slots__ = ()

    def __str__(self) -> str:
        text = super().__str__()
        return url_of(text) or text

    def __fspath__(self) -> str:
        return str(self)

    def __reduce__(self) -> Any:
        return as_path, (exact_url(str(self)),)  # or another process could not open it

    def as_posix(self) -> str:
        return str(self)

    @property
    def name(self) -> str:  # type: ignore[override]  # a property there as well
        """Of the file itself: without the archive that it is in, and without what a server is asked besides."""
        return posixpath.basename(self._place.rstrip("/"))

    @property
    def _place(self) -> str:
        """The first part of the URL, before any ``?``."""
        return str(self).split("::")[0].split("?")[0]

    @property
    def parent(self) -> "RemotePath":  # type: ignore[override]
        return self._at("..")

    def joinpath(self, *others: Any) -> Path:  # type: ignore[override]
        found: Path = self
        for other in map(str, others):
            if isinstance(found, RemotePath) and not other.startswith("/") and not url_of(other):
                found = found._at(other)
            else:
                found = path_in(found, other) if url_of(other) else Path(other)
        return found

    def _at(self, other: str) -> "RemotePath":
        """Returns what a relative path leads to from here, not above the host or bucket, or out of an archive."""
        _, *archive = str(self).split("::")
        kind, place = split_url(self._place) or ("", "")
        host, _, inside = ("", "", place) if archive else place.partition("/")
        below = posixpath.normpath(f"/{inside}/{other}").lstrip("/")
        url = f"{kind}://{host}{'/' if host and below else ''}{below}"
        return as_path("::".join([url, *archive]))  # type: ignore[return-value]  # it is a URL

    def __truediv__(self, other: Any) -> Path:  # type: ignore[override]
        return self.joinpath(other)

    def with_name(self, name: str) -> Path:  # type: ignore[override]
        return self.parent / name

    def absolute(self) -> "RemotePath":
        return self

    def resolve(self, strict: bool = False) -> "RemotePath":
        return self

    def exists(self, **_: Any) -> bool:
        return self._kind() != ""

    def is_file(self, **_: Any) -> bool:
        return self._kind() == "file"

    def is_dir(self, **_: Any) -> bool:
        """Whether it is a folder. On the web, where every page of links could be one, files are told by their names."""
        exact = exact_url(str(self))
        if exact.startswith(tuple(f"{kind}://" for kind in TABLES)):
            return False
        if exact.startswith("http") and not exact.endswith("/") and (self.suffix or "?" in exact):
            return False
        try:
            return not is_listed_file(self) and retry(str(self), lambda files, path: files.isdir(path))
        except FileNotFoundError:
            return False

    def read_bytes(self) -> bytes:
        return read_remote(str(self))

    def open(self, mode: str = "r", **how: Any) -> IO[Any]:  # type: ignore[override]
        """Opens a small file to read."""
        import io

        if mode not in ("r", "rb", "rt"):
            raise OSError(f"{self}: a file at a URL is written as a whole")
        data = io.BytesIO(self.read_bytes())
        return data if mode == "rb" else io.TextIOWrapper(data, **{"encoding": "utf-8", **how})

    def mkdir(self, *_: Any, **__: Any) -> None:
        raise ValueError(f"{self}: only tables of answers are written to a URL: name a place on this machine")

    def _kind(self) -> str:
        """Returns ``file``, ``directory``, or nothing where there is nothing.

        What is in a cell of a table is taken to be there: a file, or ``frames`` where the name is a pattern.
        """
        if str(self).startswith(tuple(f"{kind}://" for kind in TABLES)):
            return "frames" if "%" in self.name else "file"
        try:
            return retry(str(self), lambda files, path: files.info(path))["type"]
        except FileNotFoundError:
            return ""


def is_listed_file(path: Path) -> bool:
    """Returns whether the name is that of a table or an archive."""
    return path.suffix.lower() in _FILES


def as_path(data: str | Path) -> Path:
    """Returns a path, or a `RemotePath` for a URL, whose credentials are kept apart from its name from here on."""
    if isinstance(data, RemotePath):
        return data
    if (url := url_of(data)) is None:
        return Path(data)
    *links, last = url.split("::")
    if links and url_of(last) is None and "://" not in last:  # an archive on this machine
        url = "::".join([*links, str(Path(last).absolute())])
    name = remember_url(url)
    path = RemotePath(name)
    remember_as(str(path), exact_url(name))  # `Path` leaves out a second slash, and one at the end
    return path


def path_in(folder: Path, text: str) -> Path:
    """Returns what a ``text`` names that was found in a ``folder``: a URL, or a path that is relative to the folder."""
    return as_path(text) if url_of(text) else folder / text
