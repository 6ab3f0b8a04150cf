"""A browser for tests of web pages, where there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dualformer.export.web_runtime import TARBALL
from dualformer.user_cache import user_cache

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CACHE = user_cache()  # the user's: tests are given another
RUNTIME = Path(os.environ.get("ONNXRUNTIME_WEB") or (CACHE or Path()) / TARBALL)
NO_RUNTIME = (
    f"{TARBALL} is neither in the cache (`dualformer export --format web` fetches it) nor named by ONNXRUNTIME_WEB"
)
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
"""Arguments that give a browser a camera, which nobody need allow."""


@contextmanager
def open_browser(*arguments: str) -> Iterator[Browser]:
    """Yields a browser that is started with ``arguments``; skips the test where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with api.sync_playwright() as playwright:
        container = ("--no-sandbox", "--disable-dev-shm-usage")
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=[*container, *arguments])
        yield started
        started.close()
