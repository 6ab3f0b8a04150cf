"""Makes small clips of the surest mistakes: what the network saw, and beside it the Grad-CAM of what it predicted."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dualformer.evaluation.evaluate import Evaluation, apply_control
from dualformer.evaluation.evaluation_folder import surest_mistakes
from dualformer.explain.explain_video import explain_video
from dualformer.explain.explanation import draw_clip, draw_overlay
from dualformer.inference.recognizer import Recognizer
from dualformer.model.network import DualFormer
from dualformer.video.clip_reader import read_views
from dualformer.video.encode import write_video
from dualformer.video.file_slices import is_frame_folder
from dualformer.video.open_video import open_video
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.sampling import even_clips
from dualformer.video.transforms import resize
from dualformer.video.video_segment import Footage, VideoSegment
from dualformer.weights.card import Card
from dualformer.weights.exported.exported_network import ExportedNetwork
from dualformer.weights.open_network import Network

MOST_BYTES = 6 * 2**20
"""Of all clips of a report together."""
MOST_BYTES_EACH = 2**19
_SIDE = 224
_GAP = 4
_MOST_FRAMES = 64
_UNKNOWN_RATE = 8.0
_RATES = (2.0, 30.0)
_QUALITIES = (24, 30, 36, 43, 51)
"""Of H.264, from good to bad: the first whose clip is small enough is taken."""
_FINE_ENOUGH = 7
"""Tokens along a side of the map, from which on Grad-CAM says where: 7 is what the last stage has at 224 pixels."""


@dataclass(frozen=True, kw_only=True)
class MistakeClip:
    """One mistake and its clip."""

    path: str
    label: str
    """The true class; several are separated by commas."""
    said: str
    """The class that was said; of several labels, the one class that is most surely wrong."""
    kind: str
    """``wrong``: another class was said. Of several labels ``false yes`` and ``false no``."""
    probability: float
    """Of ``said``, over all views."""
    label_probability: float | None
    """Of the true class; None of several labels."""
    clip_probability: float | None
    """Of ``said`` for the clip alone; None where it is not explained."""
    stage: int | None
    """Whose map is shown, counted from 1; None where there is none."""
    video: bytes | None
    """MP4: the clip, and right of it the clip with the map. None where even the worst quality was too large."""

    def to_dict(self) -> dict[str, Any]:
        """Returns all but the video, ready for JSON."""
        return {key: value for key, value in vars(self).items() if key != "video"}


def why_not_explained(model: Network) -> str | None:
    """Returns in a sentence why clips have no map; None where they have one."""
    if isinstance(model, ExportedNetwork):
        return (
            "This is an exported model, which cannot explain: it has no gradients. Evaluate the weights that it was "
            "made from to see what they go by."
        )
    try:
        importlib.import_module("captum.attr")
    except ImportError:
        return "What spoke for the mistake is not shown, as captum is missing: pip install 'dualformer[explain]'."
    return None


def mistake_clips(
    evaluation: Evaluation,
    model: Network,
    card: Card,
    *,
    most: int = 8,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> list[MistakeClip]:
    """Returns the ``most`` surest mistakes, the surest first, each with the clip in the middle of its video as the
    network saw it, under the control if there was one.

    Errors: ``ValueError`` for a negative number, ``VideoError`` for a video that can no longer be read.
    """
    if most < 0:
        raise ValueError(f"the number of mistakes to show must be 0 or more, not {most}")
    chosen = surest_mistakes(evaluation)[:most]
    explainer = None
    if isinstance(model, DualFormer) and why_not_explained(model) is None:
        # The clip is cut already: all its frames are the view.
        pre = replace(card.preprocessing, stride=1, fps=None, resize=card.preprocessing.crop)
        explainer = Recognizer(model, replace(card, preprocessing=pre), device=device, views="1x1")
    found: list[MistakeClip] = []
    for number, index in enumerate(chosen, 1):
        found.append(_mistake(evaluation, index, explainer, min(MOST_BYTES_EACH, MOST_BYTES // len(chosen))))
        if progress is not None:
            progress(number, len(chosen))
    return found


def gradcam_stage(model: DualFormer, pre: Preprocessing) -> int:
    """Returns the last stage whose map is fine enough, counted from 1; at least 2, as the first sees edges only."""
    sizes = model.config.map_sizes((pre.frames, pre.crop, pre.crop))
    fine = [number for number, size in enumerate(sizes, 1) if min(size[1:]) >= _FINE_ENOUGH]
    return min(len(sizes), max([2, *fine]))


def _mistake(evaluation: Evaluation, index: int, explainer: Recognizer | None, most_bytes: int) -> MistakeClip:
    media, rate, pre = evaluation.paths[index], evaluation.rates[index], evaluation.preprocessing
    view = apply_control(read_views(media, pre, fps=rate), evaluation.control, seed=evaluation.seed, index=index)[0]
    row, classes = evaluation.probabilities[index], evaluation.classes
    if evaluation.targets is None:
        said = int(row.argmax())
        label, kind = classes[evaluation.labels[index]], "wrong"
        label_probability = float(row[evaluation.labels[index]])
    else:
        truth = evaluation.targets[index]
        said = int(np.abs(row - truth).argmax())
        label = ", ".join(classes[i] for i in np.flatnonzero(truth).tolist())
        kind = "false yes" if row[said] >= evaluation.thresholds[said] else "false no"
        label_probability = None
    clip_probability = stage = None
    if explainer is None:
        film = _sized(view.numpy())
    else:
        network = explainer.network
        assert isinstance(network, DualFormer)
        stage = gradcam_stage(network, pre)
        explanation = explain_video(explainer, view, label=classes[said], stage=stage)
        clip_probability = explanation.probability
        left, right = (
            _sized(frames) for frames in (draw_clip(explanation), draw_overlay(explanation, explanation.heat.parts[0]))
        )
        film = np.concatenate([left, np.zeros((*left.shape[:2], _GAP, 3), dtype=np.uint8), right], axis=2)
    return MistakeClip(
        path=str(media),
        label=label,
        said=classes[said],
        kind=kind,
        probability=float(row[said]),
        label_probability=label_probability,
        clip_probability=clip_probability,
        stage=stage,
        video=encode_small_video(film, _rate(media, rate, pre), most_bytes),
    )


def encode_small_video(film: NDArray[np.uint8], rate: float, most_bytes: int) -> bytes | None:
    """Frames (T, H, W, 3) as an MP4 of at most ``most_bytes``, as good as that allows; None where nothing does.

    Of very many frames some are left out, and the others shown for longer.
    """
    step = -(-len(film) // _MOST_FRAMES)
    film, rate = film[::step], rate / step
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        for quality in _QUALITIES:
            write_video(path, film, fps=rate, crf=quality)
            if path.stat().st_size <= most_bytes:
                return path.read_bytes()
    return None


def _sized(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return resize(torch.from_numpy(frames), _SIDE, _SIDE).numpy()


def _rate(media: Footage, fps: float | None, pre: Preprocessing) -> float:
    """Frames a second at which the clip plays as fast as what was filmed, where that is known."""
    if fps is None and not isinstance(media, VideoSegment) and is_frame_folder(media):
        return _UNKNOWN_RATE
    with open_video(media, fps=fps) as reader:
        times = reader.times[even_clips(reader.times, pre, 1)[0]]
    steps = np.diff(times)
    steps = steps[steps > 0]  # the last frame of a short video repeats
    return float(np.clip(1 / np.median(steps), *_RATES)) if len(steps) else _UNKNOWN_RATE
