"""A file in, labels out.

    recognizer = Recognizer.load("weights.safetensors")
    recognizer("clip.mp4").top(5)

The views, their preprocessing and the network are those of evaluation, so that a file gets the same answer there.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dualformer.inference.stream import Stream
from dualformer.inference.timeline import Timeline, read_timeline
from dualformer.inference.view_classifier import Prediction, ViewClassifier
from dualformer.inference.view_classifier import ahead as read_ahead
from dualformer.scoring.view_scores import average_views
from dualformer.video.clip_reader import NotedViews, read_noted_views, read_views_or_error
from dualformer.video.container import VideoError
from dualformer.video.memory_frames import ChannelOrder
from dualformer.video.video_source import VideoSource, resolve_source, source_name

_Source = TypeVar("_Source", bound=VideoSource)

__all__ = ["Prediction", "Recognizer"]


class Recognizer(ViewClassifier):
    """Labels videos: files, frames in memory, long videos and streams. `ViewClassifier` has the settings and `load`."""

    def __call__(
        self, video: VideoSource, *, fps: float | None = None, channel_order: ChannelOrder = "rgb"
    ) -> Prediction:
        """Labels one video: a path or URL, the content of a file (bytes), a file object, or all frames: uint8
        (T, H, W, 3), a list of PIL images or of arrays (H, W, 3). `VideoSource` has all of them.

        ``fps``: frames a second of frames in memory; needed only where the weights resample in time.
        ``channel_order``: of arrays, ``bgr`` as OpenCV has them.
        Raises ``FileNotFoundError``, ``VideoError`` for what does not decode, ``ValueError`` for what is no video.
        """
        return self._predict(source_name(video), self._read(video, fps, channel_order))

    def embed(
        self, video: VideoSource, *, fps: float | None = None, channel_order: ChannelOrder = "rgb"
    ) -> NDArray[np.float32]:
        """Returns the features (C,) of one video, what the classifier sees, averaged over the views.

        Arguments and errors are those of a call; ``ValueError`` for an exported model, too.
        """
        return average_views(self.embed_views(self._read(video, fps, channel_order).views))

    def _read(self, video: VideoSource, fps: float | None, channel_order: ChannelOrder) -> NotedViews:
        source = resolve_source(video, fps=fps, channel_order=channel_order)
        return read_noted_views(source, self.preprocessing, self.views, fps=fps)

    def many(self, videos: Iterable[_Source], *, ahead: int = 2) -> Iterator[tuple[_Source, Prediction | VideoError]]:
        """Labels videos one after another, in their order; one that cannot be read gives its error, and it goes on.

        While the network works, a thread decodes the videos that come next, ``ahead`` of them at most. ``videos`` may
        be endless: it is read no further than that.
        """
        if ahead < 1:
            raise ValueError(f"ahead must be at least 1, not {ahead}")
        return self._many(videos, ahead)

    def _many(self, videos: Iterable[_Source], ahead: int) -> Iterator[tuple[_Source, Prediction | VideoError]]:
        read = ((video, read_views_or_error(video, self.preprocessing, self.views)) for video in videos)
        for video, views in read_ahead(read, depth=ahead):
            yield video, views if isinstance(views, VideoError) else self._predict(source_name(video), views)

    def timeline(self, video: VideoSource, **settings: Any) -> Timeline:
        """Returns what happens when in a long video: see `read_timeline`, also for the settings."""
        return read_timeline(self, video, **settings)

    def stream(self, source: str | Path, **settings: Any) -> Stream:
        """Labels a camera, a URL, a pipe or a file as it goes on: see `Stream`, also for the settings."""
        return Stream(self, source, **settings)

    def _predict(self, source: str, read: NotedViews) -> Prediction:
        return replace(self.prediction_of(source, average_views(self.predict_views(read.views))), notes=read.notes)
