"""Freed memory: kept for the next tensor instead of being fetched anew, or handed back to the system at once."""

import ctypes
import sys

# What glibc's malloc.h calls M_TRIM_THRESHOLD and M_MMAP_THRESHOLD.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> bool:
    """Tells glibc's allocator, for the rest of the process, to keep what is freed; returns whether it does.

    By default it fetches blocks of some megabytes from the system and hands them back as soon as they are free. Every
    large tensor then costs a page fault for each 4 KB, which can take longer than computing what is in it. The process
    grows no larger than its peak, and stays that large. Blocks above 1 GiB are still handed back. It does nothing where
    the allocator is another one: on macOS, Windows and with musl.
    """
    library = _glibc()
    if library is None:
        return False
    library.mallopt.argtypes, library.mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    # glibc stops to adapt both once one is set, so that both are set or none.
    return bool(library.mallopt(_MMAP_THRESHOLD, 2**30)) and bool(library.mallopt(_TRIM_THRESHOLD, 2**31 - 1))


def return_freed_memory() -> bool:
    """Has glibc's allocator hand back to the system what is free now; returns whether there was any."""
    library = _glibc()
    if library is None:
        return False
    library.malloc_trim.argtypes, library.malloc_trim.restype = (ctypes.c_size_t,), ctypes.c_int
    return bool(library.malloc_trim(0))


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "gnu_get_libc_version") else None
