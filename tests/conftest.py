"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from dualformer.model.network import DualFormer

# `pytest --hypothesis-profile=full` draws more cases than every run can afford, and other ones each time.
settings.register_profile("quick", max_examples=40, derandomize=True, deadline=None)
settings.register_profile("full", max_examples=240, deadline=None, print_blob=True)
settings.load_profile("quick")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """What is written is there for every reader at once. That it survives a power cut is nothing that a test can see,
    and waiting for it takes longer than most of what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips and golden values beside the checkout; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"real clips and golden values not found: {SHARED} is absent")
    return SHARED


@pytest.fixture(scope="session")
def model() -> DualFormer:
    """A random network of six classes, for clips of 4×32×32."""
    from dualformer.model.presets import create_model  # many tests need no torch

    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=6, seed=3)
    model.state_dict()["head.weight"].mul_(30)  # so that videos differ in what the random network says of them
    return model
