"""Where the package keeps what it would otherwise compute or fetch again."""

import os
import sys
from pathlib import Path

CACHE_VARIABLE = "DUALFORMER_CACHE"


def user_cache() -> Path | None:
    """Returns the folder that the environment variable `CACHE_VARIABLE` names, or that of the user's cache. None where
    the variable is empty, so that nothing is kept."""
    named = os.environ.get(CACHE_VARIABLE)
    if named is not None:
        return Path(named) if named else None
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    elif sys.platform == "darwin":
        base = str(Path("~/Library/Caches").expanduser())
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(base) / "dualformer" if base else None
