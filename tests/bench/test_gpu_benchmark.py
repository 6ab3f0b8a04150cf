"""``benchmarks/gpu.py``: on a CPU all of it runs, and it says what was not done, what failed, and what did not fit."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from dualformer.bench import interleave

ROOT = Path(__file__).resolve().parents[2]
ONLY_ON_CUDA = ["nothing waits for the GPU", "CUDA graphs", "torch.compile with CUDA graphs"]
TOO_LONG = ["training to its accuracy"]


@pytest.fixture(autouse=True)
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn is one run."""
    monkeypatch.setattr(interleave, "_TURN_SECONDS", 0.0)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    yield importlib.import_module("gpu")


@pytest.mark.slow
def test_on_a_cpu_all_of_it_runs_to_its_end(
    gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    measurements = importlib.import_module("gpu_measurements")
    monkeypatch.setattr(measurements, "_peak_once", lambda *_: 1e11)
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)  # pytest keeps all that a compiler logs
    out = tmp_path / "gpu.json"
    assert gpu.main(["--device", "cpu", "--quick", "--minutes", "60", "--out", str(out)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["failed"] == {}
    outcomes = {row["check"]: row["outcome"] for row in found["checks"]}
    assert list(outcomes) == list(gpu.CHECKS)
    assert [name for name, outcome in outcomes.items() if outcome != "passed"] == [*ONLY_ON_CUDA, *TOO_LONG]
    assert {"peak memory", *ONLY_ON_CUDA, *TOO_LONG} < set(found["not_done"])
    assert [len({row["stage"] for row in found["stages"]}), len(found["stages"])] == [1, 3]
    assert all(row["least"] >= 0.999 * max(row["least_by_flops"], row["least_by_bytes"]) > 0 for row in found["stages"])
    assert len(found["kernels"]) == 8
    peers = measurements.PEERS
    for task in ("forward", "training step"):
        ways = {(row["network"], row["way"]) for row in found["measurements"] if row["task"] == task}
        ours, others = ({(name, "eager") for name in names} for names in (gpu.OURS, peers))
        if task == "forward":
            ours, others = ours | {("DualFormer-T", "compiled")}, others | {(peers[0], "compiled")}
        assert ways in (ours | others, ours)
        if ways == ours:  # transformers is not there
            assert "pip install transformers" in found["not_done"][f"{task}: {peers[0]}, eager"]
        assert f"{task}: DualFormer-T, CUDA graph" in found["not_done"]
    printed = capsys.readouterr().out
    assert "Not done:" in printed and "| DualFormer-T | eager" in printed and "--quick" in printed


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
