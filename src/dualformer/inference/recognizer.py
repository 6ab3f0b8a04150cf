"""A file in, labels out.

    recognizer = Recognizer.load("weights.safetensors")
    recognizer("clip.mp4").top(5)

The views, their preprocessing and the network are those of evaluation, so that a file gets the same answer there.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualformer.inference.stream import Stream
from dualformer.inference.timeline import Timeline, read_timeline
from dualformer.inference.view_classifier import Prediction, ViewClassifier
from dualformer.inference.view_classifier import ahead as read_ahead
from dualformer.scoring.view_scores import average_views
from dualformer.video.clip_reader import read_views, read_views_or_error, views_of_frames
from dualformer.video.container import VideoError

__all__ = ["Prediction", "Recognizer"]


class Recognizer(ViewClassifier):
    """Labels videos: files, frames in memory, long videos and streams. `ViewClassifier` has the settings and `load`."""

    def __call__(self, video: str | Path | Tensor | NDArray[np.uint8], *, fps: float | None = None) -> Prediction:
        """Labels one video: a file, or all its frames, uint8 RGB (T, H, W, 3).

        ``fps``: frames a second of frames in memory; needed only where the weights resample in time.
        Raises ``FileNotFoundError``, ``VideoError`` for what does not decode, ``ValueError`` for other arrays.
        """
        if isinstance(video, (str, Path)):
            if fps is not None:
                raise ValueError("fps is for frames in memory; a file knows the times of its frames")
            views = read_views(video, self.preprocessing, clips=self.views.clips, crops=self.views.crops)
            return self._predict(str(video), views)
        frames = torch.as_tensor(video)
        return self._predict("frames", views_of_frames(frames.cpu(), self.preprocessing, self.views, fps=fps))

    def many(
        self, paths: Iterable[str | Path], *, ahead: int = 2
    ) -> Iterator[tuple[str | Path, Prediction | VideoError]]:
        """Labels files one after another, in their order; a file that cannot be read gives its error, and it goes on.

        While the network works, a thread decodes the files that come next, ``ahead`` of them at most. ``paths`` may be
        endless: it is read no further than that.
        """
        if ahead < 1:
            raise ValueError(f"ahead must be at least 1, not {ahead}")
        return self._many(paths, ahead)

    def _many(self, paths: Iterable[str | Path], ahead: int) -> Iterator[tuple[str | Path, Prediction | VideoError]]:
        read = ((path, read_views_or_error(path, self.preprocessing, self.views)) for path in paths)
        for path, views in read_ahead(read, depth=ahead):
            yield path, views if isinstance(views, VideoError) else self._predict(str(path), views)

    def timeline(self, video: str | Path, **settings: Any) -> Timeline:
        """Returns what happens when in a long video: see `read_timeline`, also for the settings."""
        return read_timeline(self, video, **settings)

    def stream(self, source: str | Path, **settings: Any) -> Stream:
        """Labels a camera, a URL, a pipe or a file as it goes on: see `Stream`, also for the settings."""
        return Stream(self, source, **settings)

    def _predict(self, source: str, views: Tensor) -> Prediction:
        return self.prediction_of(source, average_views(self.predict_views(views)))
