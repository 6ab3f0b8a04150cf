"""The machine's description, and the matrix products whose rate is its peak."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import torch

import dualformer
from dualformer.bench import machine_info
from dualformer.bench.machine_info import describe_machine, matmul_peak


def test_a_description_names_what_speed_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    told = describe_machine()
    assert told.torch == torch.__version__ and told.version == dualformer.__version__
    assert told.cores >= 1 and told.threads == torch.get_num_threads()
    assert "MALLOC_TRIM_THRESHOLD_=1000000" in told.allocator
    text = str(told)
    for part in (told.cpu, f"{told.cores} cores", f"PyTorch {torch.__version__}", "MALLOC_TRIM_THRESHOLD_=1000000"):
        assert part in text
    assert "\n" not in text


def test_the_commit_is_that_of_the_checkout_which_the_package_is_part_of() -> None:
    folder = Path(machine_info.__file__).parent
    known = subprocess.run(["git", "ls-files", "--error-unmatch", "machine_info.py"], cwd=folder, capture_output=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True)
    commit = describe_machine().commit
    if known.returncode:
        assert commit is None
    else:
        assert commit is not None and re.fullmatch(r"[0-9a-f]{12,40}(-dirty)?", commit)
        assert head.stdout.startswith(commit.removesuffix("-dirty"))


def test_a_package_in_a_foreign_checkout_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "machine_info.py").touch()
    monkeypatch.setattr(machine_info, "__file__", str(tmp_path / "machine_info.py"))
    assert describe_machine().commit is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_timed_is_a_matrix_product(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    product = machine_info._product(64, 48, 80, dtype, torch.device("cpu"))()
    assert product.dtype == dtype
    assert product.numel() == 64 * 80
    assert torch.equal(product.float(), torch.full_like(product, 48 * 0.25).float())


def test_a_rate_is_two_operations_for_each_multiply_add(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(1000))
    monkeypatch.setattr(machine_info, "_PRODUCTS", ((32, 16, 8), (64, 16, 8)))
    monkeypatch.setattr(machine_info.time, "perf_counter", lambda: float(next(now)))
    assert matmul_peak(torch.float32, seconds=0.0) == 2 * 64 * 16 * 8  # the larger one, in a second as the other


def test_threads_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(machine_info, "_PRODUCTS", ((32, 16, 8),))
    assert matmul_peak(torch.bfloat16, before + 1, seconds=0.01) > 0
    assert torch.get_num_threads() == before
    with pytest.raises(ValueError, match=r"the peak of torch\.int8 is not measured"):
        matmul_peak(torch.int8)
