"""Files in and out, for every room: writing that leaves the old file or the new one, and reading of text and CSV."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from dualformer.errors import DualFormerError

_REMEDIES = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some space or choose another folder",
    errno.EFBIG: "choose another folder, or have the limit on file sizes raised",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.ENOTDIR: "choose another path: a part of it is a file",
    errno.EEXIST: "choose another path: a part of it is a file",
    errno.EISDIR: "choose another path: this is a folder",
}


class FileWriteError(DualFormerError):
    """A file that could not be written. One line that names the file, the reason and the remedy."""


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Has ``write`` fill a temporary file beside ``path``, then puts it in place of ``path``.

    If that fails, the temporary file is removed and what was at ``path`` stays as it was. Missing folders are made.
    Errors: `FileWriteError` for an ``OSError`` (disk full, no permission), and for a ``RuntimeError``, which is what
    ``torch.save`` makes of it; other errors of ``write`` pass through.
    """
    target = Path(os.path.realpath(path))  # a link stays a link, and the file that it points to is replaced
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode  # what the umask leaves; some writers make files that only their owner may read
        write(temporary)
        temporary.chmod(mode)
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except DualFormerError:
        raise
    except (OSError, RuntimeError) as error:
        raise FileWriteError(f"{path}: could not be written ({_reason(error)}); {_remedy(error)}") from error
    finally:
        with contextlib.suppress(OSError):  # gone by now, or never made
            temporary.unlink()


def _reason(error: OSError | RuntimeError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__


def _remedy(error: OSError | RuntimeError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return _REMEDIES.get(number or 0, "see that the disk has room and that you may write there")
