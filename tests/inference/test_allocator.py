"""Freed memory stays with the process."""

import resource
import subprocess
import sys

import pytest

_CHILD = """
import resource, sys, torch
from dualformer.inference.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
before = 0
for number in range(16):
    if number == 12:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(12 * 2**20)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is Linux's")
def test_large_tensors_are_not_fetched_anew() -> None:
    said = {
        side: subprocess.run(
            [sys.executable, "-c", _CHILD, side], check=True, capture_output=True, text=True
        ).stdout.split()
        for side in ("keep", "leave")
    }
    if said["keep"][0] == "False":
        pytest.skip("the allocator here is not glibc's")
    assert said["keep"][0] == "True"
    pages = 4 * 48 * 2**20 // resource.getpagesize()
    assert int(said["keep"][1]) < pages / 100
    assert int(said["leave"][1]) > pages / 2
