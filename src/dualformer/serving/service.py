"""Computes predictions, timelines and explanations of uploaded files, for HTTP and the web page."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualformer.explain.explain_video import explain_video
from dualformer.explain.explanation import draw_video, playback_fps
from dualformer.explain.shown_clip import ShownClip
from dualformer.inference.recognizer import Prediction, Recognizer
from dualformer.inference.sliding_windows import VideoSummary, Window
from dualformer.inference.timeline import Timeline, WindowScores
from dualformer.scoring.view_scores import average_views
from dualformer.serving.decoder_pool import DecoderPool, Message, Worker
from dualformer.serving.decoder_process import DecoderSettings, Job
from dualformer.serving.dynamic_batching import Batcher
from dualformer.serving.limits import Limits
from dualformer.serving.metrics import Metrics
from dualformer.serving.request_error import RequestError
from dualformer.serving.temp_folder import TempFolder
from dualformer.video.backend import chosen_backend
from dualformer.video.container import FileLimits
from dualformer.video.encode import write_video
from dualformer.weights.exported.exported_network import ExportedNetwork


@dataclass(frozen=True, kw_only=True, eq=False)
class TimedPrediction:
    """The prediction for one file, and how long it took in seconds."""

    prediction: Prediction
    frames: int
    seconds: float
    """Of the video."""
    decode: float
    wait: float
    """For a process that decodes, and for the batch."""
    network: float
    """Of the batch that its views were in."""


class Service:
    """Answers requests about uploaded files with a recogniser, many at a time.

    Processes of their own read the files, under ``limits``. Views of several files go through the network in batches of
    up to ``batch``, which wait ``batch_ms`` milliseconds at most to fill up. ``workers``: processes that read (default:
    one for each core, eight at most). ``name``: what the weights are called. ``temp``: where the folder for temporary
    files is made. All methods may be called from any event loop. Close it at the end.

    Making one takes seconds, in which processes start. They import the main module, so a script that makes one needs
    the usual ``if __name__ == "__main__":``. Raises ``ValueError`` where another decoder than PyAV is chosen, the only
    one that keeps limits.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        limits: Limits | None = None,
        *,
        batch: int = 8,
        batch_ms: float = 10,
        workers: int | None = None,
        name: str = "weights",
        temp: Path | None = None,
    ) -> None:
        if chosen_backend() != "pyav":
            raise ValueError("a server reads videos by PyAV, which keeps its limits: unset DUALFORMER_DECODER")
        self.recognizer = recognizer
        self.limits = limits = limits or Limits()
        self.name = name
        self.metrics = Metrics()
        settings = DecoderSettings(
            preprocessing=recognizer.preprocessing,
            views=recognizer.views,
            bounds=FileLimits(pixels=limits.max_pixels, frames=limits.max_frames, seconds=limits.max_seconds),
            seconds=limits.decode_seconds,
            memory=limits.decode_bytes,
            hop=recognizer.card.segment_settings.hop,
        )
        self._batcher = Batcher(
            recognizer.predict_views, max_views=batch, max_delay=batch_ms / 1000, metrics=self.metrics
        )
        self.folder = TempFolder(temp)
        try:
            self._decoders = DecoderPool(settings, workers=workers, on_replace=self.metrics.replaced.inc)
        except BaseException:
            self.folder.remove()
            raise
        self._lock = threading.Lock()
        self._active = 0
        self._stopping = self._closed = False
        self.metrics.watch("requests_in_work", "Requests that are worked on", lambda: self._active)
        self.metrics.watch("queue_views", "Views that wait for the network", self._batcher.views_waiting)

    @property
    def is_ready(self) -> bool:
        """Whether it accepts requests."""
        return not self._stopping

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Holds a place for a running request. Raises ``RequestError`` where none is free or the server stops."""
        with self._lock:
            if self._stopping:
                raise RequestError("shutting_down", "the server is shutting down: try again, or another one")
            if self._active >= self.limits.concurrency:
                raise RequestError("too_many_requests", f"{self._active} requests are in work: try again in a second")
            self._active += 1
        try:
            yield
        finally:
            with self._lock:
                self._active -= 1

    async def predict(self, path: Path) -> Prediction:
        """Predicts the labels of a file. Raises ``RequestError``."""
        with self.slot():
            return (await self.predict_timed(path, path.name)).prediction

    async def predict_timed(self, path: Path, source: str) -> TimedPrediction:
        """Predicts the labels of a file, for a caller that holds a `slot`. ``source``: what to call the file."""
        recognizer = self.recognizer
        message, waited, took = await self._decode("views", path)
        pixels = _pixels(message, (recognizer.views.count, *_clip_shape(recognizer)))
        scores = await asyncio.wrap_future(self._batcher.submit(torch.from_numpy(pixels)))
        waited += scores.waited
        self.metrics.decode.observe(took)
        self.metrics.wait.observe(waited)
        return TimedPrediction(
            prediction=recognizer.prediction_of(source, average_views(scores.probabilities)),
            frames=int(message.header["frames"]),
            seconds=float(message.header["seconds"]),
            decode=took,
            wait=waited,
            network=scores.took,
        )

    async def check_decodes(self, path: Path) -> tuple[int, float]:
        """Reads a file as a prediction does, for a caller that holds a `slot`, and returns its frames and seconds.
        Raises ``RequestError``."""
        message, _, _ = await self._decode("views", path)
        return int(message.header["frames"]), float(message.header["seconds"])

    async def timeline(self, path: Path) -> Timeline:
        """Returns the timeline of a file. Raises ``RequestError``."""
        with self.slot():
            return (await asyncio.wrap_future(self._decoders.submit(lambda worker: self._timeline(worker, path))))[0]

    async def explain(self, path: Path, label: str | None, folder: Path) -> Path:
        """Writes Grad-CAM over the middle clip of a file, for a class or the most likely one: an MP4 in ``folder``.

        Raises ``RequestError``, also for an exported model, which cannot explain, and for an unknown class.
        """
        recognizer = self.recognizer
        if isinstance(recognizer.network, ExportedNetwork):
            raise RequestError(
                "cannot_explain", "an exported model cannot explain: serve the weights that it was made from"
            )
        if label is not None and label not in recognizer.labels:
            raise RequestError("bad_request", "the class to explain is none that the weights know")
        with self.slot():
            message, _, _ = await self._decode("clip", path)
            shown = _shown_clip(message, _clip_shape(recognizer))
            explaining = self._batcher.call(lambda: explain_video(recognizer, shown, label=label))
            explanation = replace(await asyncio.wrap_future(explaining), source=path.name)
            target, fps = folder / "gradcam.mp4", playback_fps(explanation)
            await asyncio.to_thread(lambda: write_video(target, draw_video(explanation), fps=fps, crf=18))
            return target

    def stop_accepting(self) -> None:
        """Refuses all further requests; running ones go on."""
        self._stopping = True

    async def close(self) -> None:
        """Ends the processes and removes the temporary files. Requests that still run fail."""
        await asyncio.to_thread(self.close_now)

    def close_now(self) -> None:
        """`close` without an event loop. A second call does nothing."""
        self._stopping = True
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            self._decoders.close()
            self._batcher.close()
            self.folder.remove()

    async def _decode(self, job: Job, path: Path) -> tuple[Message, float, float]:
        """Returns the only reply to a job, the seconds for which it waited, and those that it took."""

        def run(worker: Worker) -> Message:
            (message,) = worker.run(job, str(path))
            return message

        return await asyncio.wrap_future(self._decoders.submit(run))

    def _timeline(self, worker: Worker, path: Path) -> Timeline:
        recognizer = self.recognizer
        crops = recognizer.views.crops
        expected = (crops, *_clip_shape(recognizer))
        summary: list[VideoSummary] = []

        def clips() -> Iterator[Window]:
            for message in worker.run("windows", str(path)):
                header = message.header
                if "last" in header:
                    starts = tuple(message.arrays[0].astype(float).tolist())
                    summary.append(
                        VideoSummary(frames=header["frames"], end=header["end"], starts=starts, error=header["error"])
                    )
                else:
                    views = torch.from_numpy(_pixels(message, expected))
                    yield Window(header["start"], header["end"], views, header["lasts"])

        def predict(views: Tensor) -> NDArray[np.float32]:
            if recognizer.answers_steps:  # which are not batched with the clips of others
                return self._batcher.call(lambda: recognizer.predict_steps(views)).result()
            return self._batcher.submit(views).result().probabilities

        scores = WindowScores(predict)
        scores.add(clips(), max(1, recognizer.views_per_batch // crops))
        return scores.timeline(recognizer, summary[0], recognizer.card.segment_settings, source=path.name)


def _clip_shape(recognizer: Recognizer) -> tuple[int, int, int, int]:
    pre = recognizer.preprocessing
    return pre.frames, pre.crop, pre.crop, 3


def _pixels(message: Message, shape: tuple[int, ...], place: int = 0) -> np.ndarray:
    """Returns the pixels of a reply. Checks their shape, for the process that sent them has read a stranger's file."""
    pixels = message.arrays[place]
    if pixels.dtype != np.uint8 or pixels.shape != shape:
        raise RequestError("decoder_died", "reading it gave no frames: convert it to H.264 in MP4 and try again")
    return pixels


def _shown_clip(message: Message, shape: tuple[int, int, int, int]) -> ShownClip:
    _, frames, numbers, times = message.arrays
    top, left, height, width = message.header["box"]
    return ShownClip(
        view=torch.from_numpy(_pixels(message, shape)),
        frames=_pixels(message, (shape[0], *frames.shape[1:3], 3), 1),
        box=(top, left, height, width),
        numbers=numbers,
        times=times if len(times) else None,
    )
