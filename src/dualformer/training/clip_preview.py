"""The first batch of a run as a picture: what augmentation and mixing left of the clips, and what they are labelled."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dualformer.files import atomic_write
from dualformer.training.objective import Batch

CLIPS = "clips.png"

_MOST_CLIPS, _MOST_FRAMES = 16, 8
_SIDE = 112
_GAP = 4
_TEXT = 190


def draw_clips(path: Path, batch: Batch, classes: tuple[str, ...]) -> None:
    """A PNG with a row of up to 8 frames, evenly spread, for each of the first 16 clips of a batch (B T H W 3, uint8).

    Beside each are its classes; of a mixed clip the largest, with their parts.
    """
    clips = batch["clip"][:_MOST_CLIPS].cpu()
    shown = np.unique(np.linspace(0, clips.shape[1] - 1, min(_MOST_FRAMES, clips.shape[1])).round().astype(int))
    pitch = _SIDE + _GAP
    picture = Image.new("RGB", (_TEXT + len(shown) * pitch, _GAP + len(clips) * pitch), "white")
    pen = ImageDraw.Draw(picture)
    # matplotlib's own: it has more alphabets than the one that Pillow brings.
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 13)
    for row, clip in enumerate(clips):
        top = _GAP + row * pitch
        for line, text in enumerate(_caption(batch, row, classes)[:6]):
            pen.text((_GAP, top + 4 + 17 * line), text, fill="black", font=font)
        for column, frame in enumerate(shown.tolist()):
            small = Image.fromarray(clip[frame].numpy()).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
            picture.paste(small, (_TEXT + column * pitch, top))
    atomic_write(path, lambda temporary: picture.save(temporary, format="png"))


def _caption(batch: Batch, row: int, classes: tuple[str, ...]) -> list[str]:
    target: Tensor | None = batch.get("target")
    if target is None:
        return wrap(classes[int(batch["label"][row])], 24)
    parts, labels = target[row].topk(min(6, len(classes)))
    named = [(part, classes[label]) for part, label in zip(parts.tolist(), labels.tolist(), strict=True) if part > 0]
    return [line for part, name in named for line in wrap(name if part == 1 else f"{part:.0%} {name}", 24)]
