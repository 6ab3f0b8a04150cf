"""Files in, answers out: what HTTP and the web page are made of."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from dualformer.explain.explain_video import explain_video
from dualformer.explain.explanation_files import film, playing_rate
from dualformer.explain.shown_clip import ShownClip
from dualformer.inference.recognizer import Prediction, Recognizer
from dualformer.inference.sliding_windows import Window
from dualformer.inference.timeline import Answers, Footage, Smoothing, Timeline
from dualformer.scoring.view_scores import average_views
from dualformer.serving.batches import Batcher
from dualformer.serving.decoder_pool import DecoderPool, Message, Worker
from dualformer.serving.decoder_process import Reading
from dualformer.serving.limits import Limits
from dualformer.serving.metrics import Metrics
from dualformer.serving.request_error import RequestError
from dualformer.serving.temp_folder import Folder
from dualformer.video.backend import chosen_backend
from dualformer.video.bounds import Bounds
from dualformer.video.encode import write_video
from dualformer.weights.exported.exported_network import ExportedNetwork


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What is said about one file, and what that took in seconds."""

    prediction: Prediction
    frames: int
    seconds: float
    """Of the video."""
    decode: float
    wait: float
    """For a process that decodes, and for the batch."""
    network: float
    """Of the batch that it was in."""


class Service:
    """A recogniser that many ask at once, about files that nobody has looked at before.

    Files are read in processes of their own, under ``limits``; views of several files go through the network together:
    up to ``batch``, which is waited for ``batch_ms`` milliseconds at most. ``workers``: processes that read; one for
    each core, eight at most, if not given. ``name``: what the weights are called. ``temp``: where the folder for
    temporary files is made. Everything may be called from any event loop; ``close`` it.

    Making one takes seconds: processes start. They import the main module, so that a script that makes one needs the
    usual ``if __name__ == "__main__":``. Raises ``ValueError`` where another decoder than PyAV is chosen, which alone
    keeps limits.
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
        reading = Reading(
            preprocessing=recognizer.preprocessing,
            views=recognizer.views,
            bounds=Bounds(pixels=limits.max_pixels, frames=limits.max_frames, seconds=limits.max_seconds),
            seconds=limits.decode_seconds,
            memory=limits.decode_bytes,
        )
        self._batcher = Batcher(recognizer.predict_views, most=batch, patience=batch_ms / 1000, metrics=self.metrics)
        self.folder = Folder(temp)
        try:
            self._crew = DecoderPool(reading, workers=workers, replaced=self.metrics.replaced.inc)
        except BaseException:
            self.folder.remove()
            raise
        self._lock = threading.Lock()
        self._in_work = 0
        self._stopping = self._closed = False
        self.metrics.watch("requests_in_work", "Requests that are worked on", lambda: self._in_work)
        self.metrics.watch("queue_views", "Views that wait for the network", self._batcher.views_waiting)

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests."""
        return not self._stopping

    @contextmanager
    def slot(self) -> Iterator[None]:
        """A place among the requests in work. Raises ``RequestError`` where there is none, or no more are taken."""
        with self._lock:
            if self._stopping:
                raise RequestError("shutting_down", "the server is shutting down: try again, or another one")
            if self._in_work >= self.limits.concurrency:
                raise RequestError("too_many_requests", f"{self._in_work} requests are in work: try again in a second")
            self._in_work += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_work -= 1

    async def predict(self, path: Path) -> Prediction:
        """The labels of a file. Raises ``RequestError``."""
        with self.slot():
            return (await self.answer(path, path.name)).prediction

    async def answer(self, path: Path, source: str) -> Answer:
        """The same with what it took, for a caller that holds a `slot`. ``source``: what to call the file."""
        recognizer = self.recognizer
        expected = (recognizer.views.count, *_clip_shape(recognizer))
        decoded = await asyncio.wrap_future(self._crew.submit(lambda worker: _only(worker.ask("views", str(path)))))
        pixels = _checked(decoded.result, expected)
        scores = await asyncio.wrap_future(self._batcher.submit(torch.from_numpy(pixels)))
        waited = decoded.waited + scores.waited
        self.metrics.decode.observe(decoded.took)
        self.metrics.wait.observe(waited)
        return Answer(
            prediction=recognizer.prediction_of(source, average_views(scores.probabilities)),
            frames=int(decoded.result.words["frames"]),
            seconds=float(decoded.result.words["seconds"]),
            decode=decoded.took,
            wait=waited,
            network=scores.took,
        )

    async def timeline(self, path: Path) -> Timeline:
        """What happens when in a file. Raises ``RequestError``."""
        with self.slot():
            return (await asyncio.wrap_future(self._crew.submit(lambda worker: self._timeline(worker, path)))).result

    async def explain(self, path: Path, label: str | None, folder: Path) -> Path:
        """Grad-CAM over the clip in the middle of a file, for a class or the most likely one: an MP4 in ``folder``.

        Raises ``RequestError``, also for an exported model, which cannot explain, and for a class that there is not.
        """
        recognizer = self.recognizer
        if isinstance(recognizer.network, ExportedNetwork):
            raise RequestError(
                "cannot_explain", "an exported model cannot explain: serve the weights that it was made from"
            )
        if label is not None and label not in recognizer.labels:
            raise RequestError("bad_request", "the class to explain is none that the weights know")
        with self.slot():
            decoded = await asyncio.wrap_future(self._crew.submit(lambda worker: _only(worker.ask("clip", str(path)))))
            seen = _seen(decoded.result, _clip_shape(recognizer))
            found = await asyncio.wrap_future(self._batcher.call(lambda: explain_video(recognizer, seen, label=label)))
            explanation = replace(found, source=path.name)
            target = folder / "gradcam.mp4"
            await asyncio.to_thread(
                lambda: write_video(target, film(explanation), fps=playing_rate(explanation), crf=18)
            )
            return target

    def stop_taking(self) -> None:
        """From now on, requests are refused. Those in work go on."""
        self._stopping = True

    async def close(self) -> None:
        """Ends the processes and removes the temporary files. Who is in work still is refused."""
        await asyncio.to_thread(self.close_now)

    def close_now(self) -> None:
        """`close` without an event loop. A second time, nothing happens."""
        self._stopping = True
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            self._crew.close()
            self._batcher.close()
            self.folder.remove()

    def _timeline(self, worker: Worker, path: Path) -> Timeline:
        recognizer = self.recognizer
        crops = recognizer.views.crops
        expected = (crops, *_clip_shape(recognizer))
        footage: list[Footage] = []

        def clips() -> Iterator[Window]:
            for message in worker.ask("windows", str(path)):
                words = message.words
                if "last" in words:
                    starts = tuple(message.arrays[0].astype(float).tolist())
                    footage.append(
                        Footage(frames=words["frames"], end=words["end"], starts=starts, error=words["error"])
                    )
                else:
                    yield Window(words["start"], words["end"], torch.from_numpy(_checked(message, expected)))

        answers = Answers(lambda views: self._batcher.submit(views).result().probabilities)
        answers.add(clips(), max(1, recognizer.views_per_batch // crops))
        return answers.timeline(recognizer, footage[0], Smoothing(), source=path.name)


def _only(messages: Iterator[Message]) -> Message:
    (message,) = messages
    return message


def _clip_shape(recognizer: Recognizer) -> tuple[int, int, int, int]:
    pre = recognizer.preprocessing
    return pre.frames, pre.crop, pre.crop, 3


def _checked(message: Message, shape: tuple[int, ...], place: int = 0) -> np.ndarray:
    """Pixels of the shape that they must have: who sent them has read a stranger's file."""
    pixels = message.arrays[place]
    if pixels.dtype != np.uint8 or pixels.shape != shape:
        raise RequestError("decoder_died", "reading it gave no frames: convert it to H.264 in MP4 and try again")
    return pixels


def _seen(message: Message, shape: tuple[int, int, int, int]) -> ShownClip:
    _, frames, numbers, times = message.arrays
    top, left, height, width = message.words["box"]
    return ShownClip(
        view=torch.from_numpy(_checked(message, shape)),
        frames=_checked(message, (shape[0], *frames.shape[1:3], 3), 1),
        box=(top, left, height, width),
        numbers=numbers,
        times=times if len(times) else None,
    )
