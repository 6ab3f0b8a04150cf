"""Films whose changes are known, and networks that say what is in them."""

import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.inference.recognizer import Recognizer
from dualformer.model.config import Head
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model
from dualformer.segment import Segment
from dualformer.video.encode import write_video
from dualformer.video.preprocessing import Preprocessing
from dualformer.weights.card import Card

COLOURS = ("red", "green", "blue", "black")


def moving(phases: Sequence[tuple[int, int, int]], size: int = 64) -> Iterator[NDArray[np.uint8]]:
    """A bright disc on grey that leaves at one edge and comes back at the opposite one.

    ``phases``: direction (x, y) and number of frames. Its speed is that of the rendered motions of one stroke.
    """
    place = np.array([20.0, 30.0])
    y, x = np.mgrid[:size, :size]
    for dx, dy, frames in phases:
        for _ in range(frames):
            offsets = [(axis - at + size / 2) % size - size / 2 for axis, at in ((x, place[0]), (y, place[1]))]
            inside = np.clip(8.5 - np.hypot(*offsets), 0, 1)[..., None]
            yield (60 + 150 * inside * np.ones(3)).astype(np.uint8)
            place = (place + np.array([dx, dy]) * 0.9) % size


def coloured(phases: Sequence[tuple[str, int]], size: int = 32) -> Iterator[NDArray[np.uint8]]:
    """Frames of one colour each: its name and the number of frames."""
    for name, frames in phases:
        frame = np.zeros((size, size, 3), dtype=np.uint8)
        if name != "black":
            frame[..., COLOURS.index(name)] = 230
        for _ in range(frames):
            yield frame


class ColourNetwork(nn.Module):
    """Says how much of a clip is red, green, blue and black: B 3 T H W, normalised by 0 and 255 → B 4 logits.

    Probabilities are the shares of the frames that show a colour. ``seconds``: takes at least so long.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, clips: Tensor) -> Tensor:
        begun = time.monotonic()
        shares = self._shares(clips).mean(dim=2)
        time.sleep(max(0.0, begun + self.seconds - time.monotonic()))
        return self._logits(shares)

    def forward_features(self, clips: Tensor) -> Tensor:
        """What `step_scores` reads."""
        return clips

    def step_scores(self, clips: Tensor) -> Tensor:
        """The same of every two frames: B 3 T H W → B T/2 4."""
        return self._logits(self._shares(clips).unflatten(2, (-1, 2)).mean(dim=3)).transpose(1, 2)

    def _shares(self, clips: Tensor) -> Tensor:
        """B 4 T."""
        shown = (clips.mean(dim=(3, 4)) > 0.5).float()
        return torch.cat([shown, 1 - shown.sum(dim=1, keepdim=True)], dim=1)

    def _logits(self, shares: Tensor) -> Tensor:
        return shares.clamp(1e-4, 1 - 1e-4).logit() if self.multi_label else shares.clamp(min=1e-4).log()

    multi_label = False


@cache
def _any_model(head: Head) -> DualFormer:
    return create_model("dualformer_nano", clip=(8, 32, 32), num_classes=len(COLOURS), seed=0, head=head)


def colour_recognizer(
    *,
    frames: int = 8,
    stride: int = 2,
    fps: float | None = None,
    seconds: float = 0.0,
    multi_label: bool = False,
    head: Head = "pooled",
    labels: tuple[str, ...] = COLOURS,
) -> Recognizer:
    """A recogniser of colours, exact to the frame; with a temporal head to two frames of its clips."""
    model = _any_model(head)
    pre = Preprocessing(
        frames=frames, stride=stride, fps=fps, resize=32, crop=32, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0)
    )
    card = Card(
        config=model.config, labels=labels, preprocessing=pre, provenance="", licence="", multi_label=multi_label
    )
    recognizer = Recognizer(model, card, device="cpu")
    network = ColourNetwork(seconds)
    network.multi_label = multi_label
    recognizer.network = network  # type: ignore[assignment]  # all that is asked of it is to be called
    return recognizer


def made_video(
    path: Path, phases: list[tuple[str, int]], *, background: str = "black", fps: int = 25
) -> AnnotatedVideo:
    """Writes frames of one colour each, and returns the video with a segment for each colour but ``background``."""
    write_video(path, coloured(phases), fps=fps, crf=0)
    segments, start = [], 0
    for name, frames in phases:
        if name != background:
            segments.append(Segment(label=name, start=start / fps, end=(start + frames) / fps))
        start += frames
    lines = tuple(f"made:{number}" for number in range(2, len(segments) + 2))
    return AnnotatedVideo(path=path, segments=tuple(segments), lines=lines)


def write_variable(path: Path, frames: Sequence[NDArray[np.uint8]], times: Sequence[float]) -> None:
    """An MKV whose frames are shown at ``times``, in seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for picture, seconds in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = round(seconds * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_transport_stream(path: Path, frames: Iterator[NDArray[np.uint8]], *, fps: int, size: int) -> bytes:
    """An MPEG transport stream, which can be entered anywhere; one key frame a second."""
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=fps, options={"tune": "zerolatency", "g": str(fps)})
        stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()
