"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from dualformer.model.network import DualFormer

# `pytest --hypothesis-profile=full` draws more cases than every run can afford, and other ones each time.
settings.register_profile("quick", max_examples=40, derandomize=True, deadline=None)
settings.register_profile("full", max_examples=240, deadline=None, print_blob=True)
settings.load_profile("quick")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_finish() -> None:
    """What imports have made is none of the garbage collector's business any more: half a million objects, through
    which each of its full passes would go, one before every fork among them."""
    leave_to_live()


def leave_to_live() -> None:
    """Has the garbage collector skip all that lives now."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def imports_live_on() -> Iterator[None]:
    """What the tests of a module have imported is skipped in those of the next."""
    known = len(sys.modules)
    yield
    if len(sys.modules) > known + 100:
        leave_to_live()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Lets processes of pytest-xdist report what tests of names that are not UTF-8 log: they can send nothing else."""
    return _in_utf8((yield))


def _in_utf8(report: Any) -> Any:
    if isinstance(report, dict):
        return {_in_utf8(key): _in_utf8(value) for key, value in report.items()}
    if isinstance(report, (list, tuple)):
        return type(report)(map(_in_utf8, report))
    return report.encode("utf-8", "backslashreplace").decode() if isinstance(report, str) else report


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """What is written is there for every reader at once. That it survives a power cut is nothing that a test can see,
    and waiting for it takes longer than most of what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUALFORMER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are saved as PNGs of one pixel, for tests that look at none: painting takes longer than small runs."""
    from matplotlib.figure import Figure
    from PIL import Image

    painted = Figure.savefig

    def saved(figure: Figure, file: Any, **settings: Any) -> None:
        if settings["format"] == "png":
            Image.new("RGB", (1, 1)).save(file, format="png")
        else:
            painted(figure, file, **settings)

    monkeypatch.setattr(Figure, "savefig", saved)


@pytest.fixture
def small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks take the peak from small matrix products: large ones take seconds where bfloat16 is emulated."""
    monkeypatch.setattr("dualformer.bench.machine_info._PRODUCTS", ((64, 32, 32),))


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
