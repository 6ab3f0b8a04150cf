"""What is read and closed is gone at once, and reading thousands of clips takes no more memory than reading some.

`benchmarks/loader_memory.py` does the same with 10,000 clips and loader workers.
"""

import gc
import os
import weakref
from pathlib import Path

import av.container
import numpy as np
import pytest
from made_videos import Encode

from dualformer.video.augmentation import Augmentation, RandAugment
from dualformer.video.clip_reader import read_training_clip
from dualformer.video.preprocessing import kinetics
from dualformer.video.pyav_reader import PyAVReader

EVERYTHING = Augmentation(
    flip=0.5, colour_jitter=0.4, randaugment=RandAugment(magnitude=9, number=2, std=0.5), erasing=0.5
)


def test_a_reader_does_not_wait_for_the_garbage_collector(encode: Encode) -> None:
    """It holds decoders and converters, whose memory Python does not see: it would let many of them pile up."""
    path = encode("a.mp4", 20)

    def containers() -> int:
        return sum(type(held) is av.container.InputContainer for held in gc.get_objects())

    gc.collect()
    before = containers()
    gc.disable()
    try:
        with PyAVReader(path) as reader:
            reader.read([3, 7, 12])
            assert reader.info.frames == 20
            assert containers() == before + 1
            pictures = weakref.ref(reader._convert)
        left = weakref.ref(reader)
        assert containers() == before
        del reader
        assert left() is None
        assert pictures() is None
    finally:
        gc.enable()


def test_a_thousand_clips_take_no_more_memory_than_three_hundred(encode: Encode) -> None:
    status = Path("/proc/self/statm")
    if not status.is_file():
        pytest.skip("resident memory is read from /proc, which only Linux has")

    def resident() -> float:
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    path, pre = encode("a.mp4", 20), kinetics(8, 2, 32)
    after: dict[int, float] = {}
    for number in range(1, 1001):
        read_training_clip(path, pre, np.random.default_rng(number), EVERYTHING)
        if number in (300, 1000):
            after[number] = resident()
    # A clip is 24 KiB; what the decoder keeps of one, about as much.
    assert after[1000] - after[300] < 4
