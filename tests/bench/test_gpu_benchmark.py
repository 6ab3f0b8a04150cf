"""``benchmarks/gpu.py``: what is wrong fails its check, the rest still runs, and what did not fit is said."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    yield importlib.import_module("gpu")


def test_a_check_that_fails_is_named_and_the_rest_still_runs(gpu: ModuleType, tmp_path: Path) -> None:
    def broken(_: object) -> str:
        raise KeyError("no such kernel")

    report = gpu.Report(tmp_path / "gpu.json")
    target = SimpleNamespace()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "CHECKS", {"one": broken, "two": lambda _: "fine"})
        gpu.run_checks(target, report, gpu.Clock(1.0))
    found = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert [(row["check"], row["outcome"]) for row in found["checks"]] == [("one", "failed"), ("two", "passed")]
    assert found["failed"] == {"one": "KeyError: 'no such kernel'"}


def test_what_does_not_fit_is_said(gpu: ModuleType, tmp_path: Path) -> None:
    report = gpu.Report(tmp_path / "gpu.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "CHECKS", {"one": lambda _: "fine"})
        gpu.run_checks(SimpleNamespace(), report, gpu.Clock(0.0))
    assert report.content["failed"] == {}
    assert report.content["not_done"] == {"one": "it did not fit into 0 minutes: give more --minutes"}


def test_a_wrong_kernel_fails_its_check(gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = importlib.import_module("gpu_checks")
    target = checks.Target(device=torch.device("cpu"), quick=True, folder=tmp_path)
    assert "off by at most" in checks.cells(target)
    right = checks.by_cells
    monkeypatch.setattr(checks, "by_cells", lambda x, weight, bias: right(x, weight, bias) * 1.001)
    with pytest.raises(AssertionError, match=r"the result is off by 0\.001 of its largest entry in float64"):
        checks.cells(target)


def test_wrong_gradients_of_a_network_fail_its_check(gpu: ModuleType) -> None:
    checks = importlib.import_module("gpu_checks")
    expected = {"logits": torch.ones(3), "weight": torch.ones(4), "tiny": torch.full((2,), 1e-9)}
    near = expected | {"tiny": torch.zeros(2)}
    assert checks.compare_networks(near, expected, 1e-4, "Nano") < 1e-5
    with pytest.raises(AssertionError, match="Nano: the gradient of weight is off by 1 of its norm"):
        checks.compare_networks(expected | {"weight": torch.zeros(4)}, expected, 1e-4, "Nano")
    with pytest.raises(AssertionError, match="logits are off by nan"):
        checks.compare_networks(expected | {"logits": torch.full((3,), torch.nan)}, expected, 1e-4, "Nano")


def test_the_roofline_of_a_product_by_hand(gpu: ModuleType) -> None:
    roofline = importlib.import_module("gpu_roofline")
    layer, x = nn.Linear(8, 16, bias=False), torch.zeros(4, 8)
    with roofline.Roofline(peak=1e3, bandwidth=1e3) as found, torch.no_grad():
        layer(x.view(4, 8)).relu_()
    product, after = 4 * (4 * 8 + 16 * 8 + 4 * 16), 4 * 4 * 16
    assert (found.flops, found.bytes) == (2 * 4 * 8 * 16, product + after)
    assert found.seconds == pytest.approx((max(1024, product) + after) / 1e3)
