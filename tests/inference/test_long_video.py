"""`dualformer predict` on long videos: memory does not follow their length (`benchmarks/long_video_memory.py`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "long_video_memory.py"


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak is read from /proc, which only Linux has")
def test_a_long_video_takes_no_more_memory_than_a_shorter_one() -> None:
    # Both are longer than what a reader keeps of a short file, 16 MiB; the rest of the longer one would be 39 MiB more.
    arguments = ["--minutes", "16", "48", "16", "48", "--size", "32x32", "--mbit", "0.02", "--views", "1x1", "--json"]
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], check=True, capture_output=True, text=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["frames"] for row in rows] == [28_800, 86_400] * 2
    short, long = (min(row["mib"] for row in rows[first::2]) for first in range(2))  # peaks of one video differ, too
    assert long - short < 15
