"""Divides a long film among readers, and joins what they find to the timeline of one pass over it, to the bit.

Which frames a clip has follows from the times of frames alone: `plan_film` lets the sampler and the window of that pass
run over the times, with numbers in place of pictures. Batches are those of that pass, too. Only films whose packets
tell their frames are divided; where a part does not decode as they promise, the film is to be read in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualformer.inference.sliding_windows import VideoSummary, Window, WindowReader, crop_frame
from dualformer.inference.timeline import Timeline, WindowScores, clips_per_batch
from dualformer.inference.view_classifier import ViewClassifier, ahead
from dualformer.video.container import VideoError
from dualformer.video.frame_reader import FrameReader
from dualformer.video.preprocessing import Preprocessing
from dualformer.weights.segment_settings import SegmentSettings


class FilmPart(NamedTuple):
    """Clips in a row, and the frames from ``first`` on and before ``end`` in which they lie. n clips of T frames."""

    first: int
    end: int
    numbers: NDArray[np.int64]
    """(n, T): of the frames of each clip."""
    times: NDArray[np.float64]
    """(n, 3): start, end and seconds of all frames of each clip, as `Window` has them."""

    def windows(self) -> Iterator[Window]:
        """Yields the clips with the numbers of frames, (T,), as their views."""
        for numbers, (start, end, lasts) in zip(self.numbers, self.times.tolist(), strict=True):
            yield Window(start, end, torch.tensor(numbers), lasts)


class FilmPlan(NamedTuple):
    """The parts of a film, and what is known of all of it."""

    parts: tuple[FilmPart, ...]
    summary: VideoSummary


def plan_film(
    reader: FrameReader, classifier: ViewClassifier, *, hop: float | None, part_seconds: float
) -> FilmPlan | None:
    """Returns parts of at least ``part_seconds`` each; None for a film that is no longer, or cannot be divided."""
    if not reader.divisible or reader.times[-1] <= part_seconds:
        return None
    pre, batch = classifier.preprocessing, clips_per_batch(classifier)
    playing = ((seconds, lambda i=i: torch.tensor([[i]])) for i, seconds in enumerate(reader.times.tolist()))
    clips = WindowReader(playing, pre, hop=hop, crop=lambda picture: picture())
    windows = list(clips)
    summary = clips.summary()
    count = max(1, int(summary.end / part_seconds))
    size = batch * math.ceil(len(windows) / (count * batch))
    if len(windows) <= size:
        return None
    blocks = [windows[at : at + size] for at in range(0, len(windows), size)]
    numbers = [np.stack([window.views.reshape(-1).numpy() for window in block]) for block in blocks]
    # All frames are decoded by someone, also those of which no clip is, as in one pass.
    firsts = [0, *(int(each.min()) for each in numbers[1:])]
    ends = [max(int(each.max()) + 1, after) for each, after in zip(numbers, [*firsts[1:], len(reader)], strict=True)]
    times = [np.array([(window.start, window.end, window.lasts) for window in block]) for block in blocks]
    return FilmPlan(tuple(map(FilmPart, firsts, ends, numbers, times)), summary)


def read_part(reader: FrameReader, classifier: ViewClassifier, part: FilmPart) -> NDArray[np.float32] | None:
    """Returns the probabilities (n, S, C) of the clips of a part; None where its frames are not those promised."""
    scores = WindowScores.of(classifier)
    batch_size = clips_per_batch(classifier)
    windows = _part_windows(reader, part, classifier.preprocessing, classifier.views.crops)
    try:
        with closing(ahead(windows, depth=batch_size)) as read:
            scores.add(read, batch_size)
    except VideoError:
        return None
    return None if reader.recounted else np.stack(scores.rows)


def join_parts(
    classifier: ViewClassifier,
    plan: FilmPlan,
    probabilities: Sequence[NDArray[np.float32]],
    settings: SegmentSettings,
    *,
    source: str,
) -> Timeline:
    """Returns the timeline of a film whose parts, in order, have these ``probabilities``."""
    scores = WindowScores.of(classifier)
    for part, rows in zip(plan.parts, probabilities, strict=True):
        scores.take(part.windows(), rows)
    return scores.timeline(classifier, plan.summary, settings, source=source)


def _part_windows(reader: FrameReader, part: FilmPart, pre: Preprocessing, crops: int) -> Iterator[Window]:
    """Yields the clips of a part with their pictures, and decodes it to its end."""
    frames = reader.lazy_frames(np.arange(part.first, part.end))
    wanted = set(part.numbers.reshape(-1).tolist())
    held: dict[int, Tensor] = {}
    for window in part.windows():
        numbers = window.views.tolist()
        held = {number: views for number, views in held.items() if number >= min(numbers)}
        while max(numbers) not in held:
            number, picture = next(frames)
            if number in wanted:
                held[number] = crop_frame(picture, pre, crops)
        yield window._replace(views=torch.stack([held[number] for number in numbers], dim=1))
    for _ in frames:
        pass
