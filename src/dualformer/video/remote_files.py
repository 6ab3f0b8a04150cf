"""Reads files at URLs through fsspec (``s3://``, ``gs://``, ``hf://``, ``https://``, …).

Requests that fail are tried again; a package that a URL takes and that is not installed is named.
"""

import asyncio
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from dualformer.errors import DualFormerError

_T = TypeVar("_T")
_PAUSES = (1.0, 4.0, 15.0)  # seconds before it is tried again
_URL = re.compile(r"(?P<kind>[A-Za-z][\w+.-]+(?:::[A-Za-z][\w+.-]+)*):/+(?P<rest>.*)", re.DOTALL)
# Errors of the packages that fsspec speaks through and does not translate. Only one that is loaded can raise any.
_FOREIGN = (
    ("aiohttp", "ClientError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("azure.core.exceptions", "AzureError"),
)
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}


def split_url(text: str) -> tuple[str, str] | None:
    """Returns protocol and rest of what is written like a URL, also where `Path` has made one slash of two."""
    found = _URL.fullmatch(text)
    return None if found is None else (found["kind"], found["rest"])


def url_of(data: str | Path) -> str | None:
    """Returns ``data`` as a URL that fsspec reads, if it is one: also one that went through `Path`."""
    if (found := split_url(str(data))) is None:
        return None
    import fsspec  # here, because most files are local

    known = {*fsspec.available_protocols(), *_PACKAGES} - {"file", "local"}
    return f"{found[0]}://{found[1]}" if known.issuperset(found[0].split("::")) else None


def open_filesystem(url: str) -> tuple[Any, str]:
    """Returns the file system of a URL, and the path in it. Raises ``ValueError`` with the package that is missing."""
    import fsspec.core

    # Anew each time: fsspec keeps them, but for each process its own, as connections do not live through a fork.
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = _PACKAGES.get(url.split("://")[0])
        remedy = f"pip install {package}" if package else str(error)
        raise ValueError(f"{url}: reading from there takes one more package: {remedy}") from error
    except ValueError as error:
        raise ValueError(f"{url}: not an address that can be read from ({error})") from error


def retry(
    url: str,
    work: Callable[[Any, str], _T],
    error: Callable[[str, str], DualFormerError],
    *,
    tries: int = len(_PAUSES) + 1,
) -> _T:
    """Returns ``work(file system, path)``, tried again after a while if it fails for a reason that may pass.

    Raises ``error(url, reason)``, and ``FileNotFoundError`` where there is nothing.
    """
    from fsspec.exceptions import FSTimeoutError

    open_filesystem(url)  # from here on, the package is loaded whose errors may come
    foreign = tuple(getattr(sys.modules[module], name) for module, name in _FOREIGN if module in sys.modules)
    for pause in (*_PAUSES[: tries - 1], None):
        try:
            return work(*open_filesystem(url))
        except FileNotFoundError as cause:
            raise FileNotFoundError(f"no such file: {url}") from cause
        except (OSError, FSTimeoutError, asyncio.TimeoutError, *foreign) as cause:
            if pause is None or isinstance(cause, PermissionError):
                often = "" if pause is not None else f" in {tries} tries"
                said = " ".join(str(cause).split()) or type(cause).__name__
                raise error(url, f"it cannot be read{often} ({said}): see that it is there for you") from cause
            time.sleep(pause)
    raise AssertionError
