"""Fixtures of the video tests."""

from pathlib import Path

import pytest
from made_videos import Encode, encoder


@pytest.fixture
def encode(tmp_path: Path) -> Encode:
    """Writes numbered frames with PyAV and returns the path."""
    return encoder(tmp_path)
