"""Memory beyond the weights, each in its own process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dualformer.bench.bench_settings import Setting
from dualformer.bench.peak_memory import peak_beyond_weights
from dualformer.bench.prepared_network import BenchError

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak is read from /proc, which only Linux has"
)

KNOWN = """
import sys
import torch
from dualformer.bench.peak_memory import peak_of

held, kept = map(int, sys.argv[1:])

def ready():
    # 32 MiB of weights, ``kept`` times, and ``held`` MiB for a moment.
    weights = [torch.ones(32 * 2**20, dtype=torch.uint8) for _ in range(kept)]
    return (lambda: (torch.ones(held * 2**20, dtype=torch.uint8), len(weights))), 32 * 2**20

torch.ones(2**20, dtype=torch.uint8)  # what the first tensor of a process needs does not count
print(peak_of(ready) / 2**20)
"""


@pytest.mark.parametrize(("held", "kept", "expected"), [(8, 1, 8), (64, 1, 64), (8, 2, 8 + 32)])
def test_what_a_work_holds_for_a_moment_and_what_it_keeps_of_weights_twice(
    held: int, kept: int, expected: float
) -> None:
    command = [sys.executable, "-c", KNOWN, str(held), str(kept)]
    # Said outright, the threshold stays: each tensor has pages of its own, and freed ones leave at once. Else the C
    # library adapts it, and now and then keeps a block.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert float(done.stdout) == pytest.approx(expected, abs=3)


def test_a_larger_batch_takes_more() -> None:
    one, eight = (
        peak_beyond_weights(Setting(model="dualformer_nano", clip=(8, 64, 64), batch=batch)) for batch in (1, 8)
    )
    assert one is not None and eight is not None
    # 8 clips in float32 are 3 MiB, and one of them 0.4.
    assert 0 < one < 60 * 2**20
    assert eight > one + 2 * 2**20


def test_what_the_process_says_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "Traceback …\nFileNotFoundError: absent.safetensors\n")
    monkeypatch.setattr(subprocess, "run", lambda *command, **options: failed)
    with pytest.raises(BenchError, match=re.escape("absent.safetensors")) as error:
        peak_beyond_weights(Setting(model="absent.safetensors", clip=(4, 32, 32)))
    assert "\n" not in str(error.value)
