"""Fixtures that every test may use."""

from pathlib import Path

import pytest
from hypothesis import settings

# `pytest --hypothesis-profile=full` draws more cases than every run can afford, and other ones each time.
settings.register_profile("quick", max_examples=40, derandomize=True, deadline=None)
settings.register_profile("full", max_examples=240, deadline=None, print_blob=True)
settings.load_profile("quick")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips and golden values beside the checkout; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"real clips and golden values not found: {SHARED} is absent")
    return SHARED
