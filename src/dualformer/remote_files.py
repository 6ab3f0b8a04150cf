"""Reads and writes files at URLs through fsspec (``s3://``, ``gs://``, ``hf://``, ``https://``, …).

Requests that fail are tried again, a bounded number of times, each for a bounded time; a package that a URL takes and
that is not installed is named. URLs go by their names (`dualformer.urls`), also in errors.
"""

import asyncio
import email.utils
import errno
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from dualformer.errors import DualFormerError
from dualformer.urls import PACKAGES, exact_url, hide_in, url_of

_T = TypeVar("_T")
_PAUSES = (1.0, 4.0, 15.0)  # seconds before it is tried again
_SILENCE = 30.0
"""Seconds after which a server that says nothing is given up."""
_SLOWEST = 120.0
"""Seconds that a request of a part of a file may take."""
_LONGEST_WAIT = 60.0
"""Seconds, of those that a server asks to wait."""
_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Answers of a server that may be others soon."""
# Errors of the packages that fsspec speaks through and does not translate. Only one that is loaded can raise any.
_FOREIGN = (
    ("aiohttp", "ClientError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("azure.core.exceptions", "AzureError"),
    ("huggingface_hub.errors", "HfHubHTTPError"),
)
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}
"""Errors of botocore and google.auth where nobody has given any."""
_VERSIONS = (
    "ETag",
    "etag",
    "LastModified",
    "last_modified",
    "Last-Modified",
    "mtime",
    "modified",
    "updated",
    "created",
)
"""What file systems call that by which a file differs from itself before it was changed."""


class RemoteError(DualFormerError):
    """A file at a URL that cannot be read or written. It has ``url`` and ``reason``; its text is "URL: reason"."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url}: {reason}")
        self.url, self.reason = url, reason

    def __reduce__(self) -> tuple[type["RemoteError"], tuple[str, str]]:
        return type(self), (self.url, self.reason)


class RefusedError(RemoteError):
    """One that will be refused the next time as well."""


class NoRangesError(RemoteError):
    """A server that gives files only as a whole."""


@dataclass(frozen=True, kw_only=True)
class RemoteInfo:
    """What a server says of a file."""

    size: int | None
    """Bytes; None where the server does not tell, or gives files only as a whole."""
    version: str = ""
    """Differs from that of the file before it was changed, as far as the server tells."""


def open_filesystem(url: str) -> tuple[Any, str]:
    """Returns the file system of a URL, and the path in it. Raises ``ValueError`` with the package that is missing."""
    import fsspec.core

    exact = exact_url(url)
    kinds = {link.partition("://")[0] for link in exact.split("::")} & {"http", "https"}
    # Anew each time: fsspec keeps them, but for each process its own, as connections do not live through a fork.
    try:
        return fsspec.core.url_to_fs(exact, **{kind: _web_settings(kind) for kind in kinds})
    except ImportError as error:
        package = next((PACKAGES[kind] for link in url.split("::") if (kind := link.split("://")[0]) in PACKAGES), None)
        remedy = f"pip install {package}" if package else str(error)
        raise ValueError(f"{url}: reading from there takes one more package: {remedy}") from error
    except ValueError as error:
        if "range requests" in str(error):
            raise ValueError(
                f"{url}: what is in the archive cannot be listed, as its server gives no parts of files: name a file "
                "in it, or copy the archive to this machine"
            ) from None
        raise ValueError(f"{url}: not an address that can be read from ({hide_in(str(error))})") from None


def _web_settings(kind: str) -> dict[str, Any]:
    """Returns fsspec's settings for HTTP, by which a silent server is given up; the user's own come first."""
    from fsspec.config import conf

    return {"client_kwargs": {"timeout": _web_timeout(None), **conf.get(kind, {}).get("client_kwargs", {})}}


def _web_timeout(total: float | None) -> Any:
    import aiohttp

    return aiohttp.ClientTimeout(total=total, sock_connect=_SILENCE, sock_read=_SILENCE)


def retry(
    url: str,
    work: Callable[[Any, str], _T],
    error: Callable[[str, str], DualFormerError] = RemoteError,
    *,
    tries: int | None = None,
) -> _T:
    """Returns ``work(file system, path)``, tried again after a while if it fails for a reason that may pass.

    ``tries``: at most, None for one more than there are pauses. A server that asks for a pause gets it, and one that
    has been silent for a minute is not asked again.
    Raises ``error(url, reason)``, and ``FileNotFoundError`` where there is nothing.
    """
    from fsspec.exceptions import FSTimeoutError

    _, _, archive = url.partition("::")
    if not archive or url_of(archive):
        open_filesystem(archive or url)  # from here on, the package is loaded whose errors may come
    foreign = tuple(getattr(sys.modules[module], name) for module, name in _FOREIGN if module in sys.modules)
    damaged = (zipfile.BadZipFile, tarfile.TarError)
    errors = (OSError, FSTimeoutError, asyncio.TimeoutError, *foreign, *damaged)
    pauses = _PAUSES if tries is None else _PAUSES[: tries - 1]
    begun = time.monotonic()
    for attempt, pause in enumerate((*pauses, None), 1):
        try:
            return work(*open_filesystem(url))
        except errors as raised:
            cause, beneath = raised, raised.__cause__
            if isinstance(raised, FileNotFoundError) and beneath is not None and isinstance(beneath, errors):
                cause = beneath  # for HTTP, fsspec calls a file missing whatever goes wrong
            if isinstance(cause, damaged):
                raise error(url, f"its archive cannot be read ({cause})") from None
            said = _Answer.of(cause)
            if isinstance(cause, FileNotFoundError) or said.status in (404, 410):
                raise FileNotFoundError(f"no such file: {url}") from None
            wait = pause if said.wait is None or pause is None else max(pause, said.wait)
            if said.is_silence and time.monotonic() - begun >= 2 * _SILENCE:
                wait = None
            if wait is None or said.lasts or wait > _LONGEST_WAIT:
                often = attempt if wait is None else 0
                kind = RefusedError if error is RemoteError and said.lasts else error
                # Not from its cause: that may tell the URL as it was opened, with what is secret in it.
                raise kind(url, said.explain(cause, often)) from None
            time.sleep(wait)
    raise AssertionError


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What a failed request came back with. ``wait``: seconds that the server asks for."""

    status: int | None
    wait: float | None
    refused: bool
    is_silence: bool

    @classmethod
    def of(cls, error: BaseException) -> "_Answer":
        refused = isinstance(error, PermissionError) or type(error).__name__ in _NO_CREDENTIALS
        status, headers = None, {}
        cause: BaseException | None = error
        while cause is not None and status is None:
            response = getattr(cause, "response", None)
            if isinstance(response, dict):  # botocore's
                meta = response.get("ResponseMetadata", {})
                status, headers = meta.get("HTTPStatusCode"), meta.get("HTTPHeaders", {})
            else:
                for holder, name in ((cause, "status"), (response, "status_code"), (cause, "status_code")):
                    status = status or getattr(holder, name, None)
                headers = getattr(cause, "headers", None) or getattr(response, "headers", None) or {}
            cause = cause.__cause__
        asked = {str(name).lower(): value for name, value in headers.items()}.get("retry-after")
        number = int(status) if isinstance(status, (int, str)) and str(status).isdecimal() else None
        # fsspec, aiohttp and botocore have each their own, and only some descend from Python's.
        is_silence = number is None and type(error).__name__.endswith("TimeoutError")
        refused = refused or number in (401, 403)
        return cls(status=number, wait=_seconds(asked), refused=refused, is_silence=is_silence)

    @property
    def lasts(self) -> bool:
        """Whether it is no use to ask again."""
        return self.refused or (self.status is not None and self.status not in _PASSING)

    def explain(self, error: BaseException, tries: int) -> str:
        """Returns what is wrong, and the remedy. ``tries``: how often it was tried, 0 where that does not matter."""
        number = f" ({self.status})" if self.status else ""
        often = f" in {tries} tries" if tries > 1 else ""
        if self.status == 401:
            return "the server asks for a user and password, and does not take those that it was given (401), if any"
        if self.refused:
            return (
                f"the server refuses it{number}: give fsspec the credentials that it takes, or a URL whose signature "
                "has not expired"
            )
        if self.status == 429 or (self.wait or 0) > _LONGEST_WAIT:
            asked = f", and asks to wait {self.wait:g} s" if self.wait else ""
            return f"the server has too many requests{number}{often}{asked}: try again later, with fewer processes"
        if self.status is not None and self.status >= 500:
            return f"the server is in trouble{number}{often}: try again later"
        said = " ".join(hide_in(str(error)).split()) or type(error).__name__
        if self.is_silence:
            said = "the server does not answer in time"
        return f"it cannot be read{often} ({said}): see that the address is right and the network there"


def _seconds(text: object) -> float | None:
    """Returns the seconds of a header Retry-After, which has a number or a date."""
    if not isinstance(text, str) or not text.strip():
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def remote_info(url: str, *, tries: int | None = None) -> RemoteInfo:
    """Asks for a file. Raises ``FileNotFoundError`` and `RemoteError`, ``ValueError`` as `open_filesystem`."""
    said = retry(url, lambda files, path: files.info(path), tries=tries)
    if said.get("type") == "directory":
        raise RemoteError(url, "it is a folder, not a file")
    version = next((str(said[name]) for name in _VERSIONS if said.get(name)), "")
    size = said.get("size") if said.get("partial", True) else None
    return RemoteInfo(size=None if size is None else int(size), version=version)


def read_range(url: str, start: int, end: int, size: int) -> bytes:
    """Reads the bytes from ``start`` on and before ``end`` of a file of ``size`` bytes, by one request.

    Raises `RemoteError`, `NoRangesError` and ``FileNotFoundError``.
    """

    def work(files: Any, path: str) -> bytes:
        if "https" in files.protocol:  # which may be served as a whole: not to be held in memory
            how = {"size": size, "block_size": end - start, "cache_type": "none", "timeout": _web_timeout(_SLOWEST)}
            with files.open(path, "rb", **how) as file:
                file.seek(start)
                try:
                    data = file.read(end - start)
                except ValueError as error:
                    raise NoRangesError(url, "its server does not serve parts of files") from error
        else:
            limit = {"timeout": _SLOWEST} if getattr(files, "async_impl", False) else {}
            data = files.cat_file(path, start=start, end=end, **limit)
        if len(data) != end - start:
            raise OSError(errno.EIO, f"asked for {end - start} bytes from {start} on, and {len(data)} came")
        return data

    return retry(url, work)


def read_remote(url: str) -> bytes:
    """Reads a small file, such as a table. Raises ``FileNotFoundError`` and `RemoteError`."""
    return retry(url, lambda files, path: files.cat_file(path))


def list_below(url: str) -> list[str]:
    """Returns the files in a folder and those in it, however deep, as paths relative to it, sorted. On the web, a
    folder is a page with links to what is in it. Raises ``FileNotFoundError`` and `RemoteError`."""

    def work(files: Any, path: str) -> list[str]:
        web = "https" in files.protocol
        root = f"{path.split('?')[0].strip('/')}/".lstrip("/")
        below = [name.lstrip("/").removeprefix(root) for name in files.find(path) if name.lstrip("/").startswith(root)]
        # Links with a ? sort the page, or lead to what is not named by them.
        return [unquote(name) if web else name for name in below if name and not (web and "?" in name)]

    return sorted(retry(url, work))


def fetch(url: str, target: Path, *, tries: int | None = None) -> None:
    """Copies a file to ``target``. Raises ``FileNotFoundError`` and `RemoteError`."""
    retry(url, lambda files, path: files.get_file(path, str(target)), tries=tries)


def upload(url: str, source: Path) -> None:
    """Writes the file at a URL: whole or not at all, where the store is one that does so. Raises `RemoteError`."""

    def work(files: Any, path: str) -> None:
        if "https" in files.protocol:
            files.put_file(str(source), path, method="put")
            return
        if "/" in path.strip("/") and not getattr(files, "async_impl", False):
            files.makedirs(path.rpartition("/")[0], exist_ok=True)
        files.put_file(str(source), path)

    try:
        retry(url, work)
    except FileNotFoundError:
        raise RemoteError(url, "it cannot be written: there is no such bucket or folder") from None
    except NotImplementedError:  # fsspec's, of file systems that only read
        raise RemoteError(url, "what is there can only be read: write it to this machine") from None
