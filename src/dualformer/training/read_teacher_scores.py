"""Reads a teacher's scores of every token from disk, and makes targets for the tokens of training clips from them.

A folder holds ``scores.json``, which names the teacher and its settings, and a file for every video: the highest scores
of each token (float16) with their classes, the seconds that the tokens lie at, and where in the frame. The frames were
not cropped, so that a clip finds its targets by where and when it was cut itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import Dataset

from dualformer.datasets.clip_datasets import TrainingClips
from dualformer.datasets.per_video_files import per_video_file, videos_by_key
from dualformer.datasets.samples import DatasetError, Sample, VideoList, first_few
from dualformer.model.config import Config, Size3
from dualformer.training.settings.teacher_settings import Rest, TeacherSettings, scores_file
from dualformer.training.teacher import match_classes
from dualformer.training.token_labels import spread

FORMAT = 1
Scored = Literal["tokens", "clips"]
"""What a folder holds scores of: every token, by a network of this package, or every clip, by an encoder's probe."""
_OF_CLIPS = {"scores", "width", "remark"}
_POINTS = 8  # at which a token that is larger than those on disk looks


@dataclass(frozen=True, kw_only=True)
class ScoresCard:
    """The settings that a folder of scores was made with. ``digest``: of the teacher's file."""

    teacher: str
    digest: str
    classes: tuple[str, ...]
    count: int
    """Number of classes, which need not have names."""
    topk: int
    preprocessing: Mapping[str, Any]
    decoder: str
    format: int = FORMAT
    scores: Scored = "tokens"
    width: int = 0
    """Of the features that come with the scores of clips."""
    remark: str = ""
    """What is to be said of the teacher when a run begins."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the card as JSON takes it; of tokens without what is told of clips only."""
        values = asdict(self)
        return values if self.scores == "clips" else {name: values[name] for name in values if name not in _OF_CLIPS}

    @classmethod
    def read(cls, folder: Path) -> ScoresCard:
        """Reads the card of a folder. Errors: ``FileNotFoundError``, ``DatasetError``."""
        path = scores_file(folder)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DatasetError(f"{path}: not the manifest of stored scores ({error}); make them anew") from error
        known = {field.name for field in fields(cls)}
        if not isinstance(data, dict) or set(data) not in (known, known - _OF_CLIPS) or data["format"] != FORMAT:
            raise DatasetError(f"{path}: not stored scores of this version (format {FORMAT}); make them anew")
        data["classes"] = tuple(data["classes"])
        return cls(**data)


def read_scores_card(settings: TeacherSettings) -> ScoresCard:
    """Reads the card of ``settings.teacher_scores``. Errors: as `ScoresCard.read`; ``ValueError`` for scores that
    ``settings.distill`` is not for."""
    assert settings.teacher_scores is not None
    card = ScoresCard.read(Path(settings.teacher_scores))
    if card.scores == "clips" and settings.distill == "tokens":
        raise ValueError(
            f"`teacher_scores={settings.teacher_scores}` are an encoder's, of clips: say `distill=clip`, features or "
            "both"
        )
    if card.scores == "tokens" and settings.distill != "tokens":
        raise ValueError(
            f"`teacher_scores` are of tokens only: for `distill={settings.distill}` give the `teacher` itself"
        )
    return card


class ScoreFolder:
    """Scores on disk, for a student with ``classes``. Errors: as `ScoresCard.read` and `teacher.match_classes`;
    ``ValueError`` for a ``topk`` of more classes than are kept.
    """

    def __init__(self, folder: Path | str, classes: Sequence[str], *, topk: int, rest: Rest) -> None:
        self.folder = Path(folder)
        self.card = ScoresCard.read(self.folder)
        topk = min(topk, self.card.count)
        if topk > self.card.topk:
            raise ValueError(
                f"`teacher_topk={topk}` is more than the {self.card.topk} scores a token that {self.folder} keeps"
            )
        self._topk, self._count = topk, len(classes)
        self._rest: Rest = rest
        order, note = match_classes(self.card.classes, self.card.count, classes, str(self.folder))
        self._label = torch.arange(self.card.count)
        if order is not None:
            self._label = torch.full((self.card.count,), -1).scatter(0, order, torch.arange(self._count))
        self.line = f"teacher: scores of {self.card.teacher} in {self.folder}, {self.card.count} classes{note}"

    def check_complete(self, videos: VideoList) -> None:
        """Raises ``DatasetError`` where a video has no scores, or shares them with another one."""
        check_scores_complete(self.folder, videos)

    def token_targets(
        self,
        sample: Sample,
        grid: TokenGrid,
        *,
        box: Sequence[float],
        times: NDArray[np.float64],
        flip: bool,
        mirrored: Sequence[int] | None = None,
    ) -> Tensor:
        """Returns a distribution T H W classes for each token of a clip that was cut at ``box`` (top, left, height,
        width as parts of the frame) and ``times`` (T,), and then mirrored if ``flip``.

        Stored scores are interpolated between the centres of their tokens in space and time, and averaged where a
        student's token is larger. ``mirrored``: which class each becomes in a mirror (-1: none, its part is shared out
        among the others).
        """
        stored = read_scores(per_video_file(self.folder, sample))
        frames = interpolation_weights(*grid.in_time(times), stored["times"].numpy())
        rows = interpolation_weights(*grid.along(1, box[0], box[2]), stored["rows"].numpy())
        columns = interpolation_weights(*grid.along(2, box[1], box[3], flip=flip), stored["columns"].numpy())
        used = np.flatnonzero(frames.any(axis=0))
        first, last = int(used[0]), int(used[-1]) + 1
        values = stored["values"][first:last, ..., : self._topk].float()
        classes = self._label[stored["classes"][first:last, ..., : self._topk].long()]
        field = spread(values, classes, self._count, rest=self._rest)
        target = torch.einsum("tn,nhwc->thwc", torch.from_numpy(frames[:, first:last]), field)
        target = torch.einsum("yh,thwc->tywc", torch.from_numpy(rows), target)
        target = torch.einsum("xw,tywc->tyxc", torch.from_numpy(columns), target)
        if flip and mirrored is not None:
            partner = torch.as_tensor(mirrored)
            target = target[..., partner.clamp_min(0)] * (partner >= 0)
        # A token with scores of other classes only takes its neighbours'; without any, it is all zeros.
        return target / target.sum(dim=-1, keepdim=True).clamp_min(1e-12)


def check_scores_complete(folder: Path, videos: VideoList) -> None:
    """Raises ``DatasetError`` where a video has no scores in ``folder``, or shares them with another one."""
    videos_by_key(videos)
    absent = [sample.path for sample in videos.samples if not per_video_file(folder, sample).is_file()]
    if absent:
        raise DatasetError(
            f"{folder}: no scores of {len(absent)} of {len(videos)} videos ({first_few(absent)}): go on with "
            "dualformer teach, and leave out files that do not decode with a `manifest`"
        )


class TokenGrid:
    """Places of the tokens of the last stage in a clip (frames, height, width)."""

    def __init__(self, config: Config, clip: Size3) -> None:
        self.size = config.map_sizes(clip)[-1]
        self._spans = []
        for axis, length in enumerate(clip):
            step = int(np.prod([stage.patch[axis] for stage in config.stages]))
            starts = np.arange(0, length, step)
            # A last token that sticks out lies where it sees something.
            self._spans.append((starts, np.minimum(starts + step, length)))
        self._clip = clip

    def in_time(self, times: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns centre and length of each token in seconds, from those of the clip's frames."""
        starts, ends = self._spans[0]
        apart = (times[-1] - times[0]) / max(1, len(times) - 1)
        centres = np.array([times[start:end].mean() for start, end in zip(starts, ends, strict=True)])
        return centres, times[ends - 1] - times[starts] + apart

    def along(
        self, axis: int, start: float, length: float, *, flip: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns the same along height (1) or width (2) for a clip cut from ``start`` on, as parts of a frame."""
        starts, ends = self._spans[axis]
        centres = (starts + ends) / (2 * self._clip[axis])
        return start + length * (1 - centres if flip else centres), length * (ends - starts) / self._clip[axis]


class ClipsWithTokenTargets(Dataset[dict[str, Any]]):
    """Training clips, each with ``token_target`` T H W classes from the stored scores of where it was cut."""

    def __init__(self, clips: TrainingClips, scores: ScoreFolder, grid: TokenGrid) -> None:
        scores.check_complete(clips.videos)
        clips.return_geometry = True
        self._clips, self._scores, self._grid = clips, scores, grid

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        item = self._clips[key]
        where = {name: item.pop(name) for name in ("box", "times", "flip")}
        sample = self._clips.videos.samples[item["index"]]
        target = self._scores.token_targets(sample, self._grid, mirrored=self._clips.mirrored, **where)
        return item | {"token_target": target}


def interpolation_weights(
    centres: NDArray[np.float64], lengths: NDArray[np.float64], positions: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Returns weights (m, n) of n values at increasing ``positions`` for m tokens, the sum of each row being 1.

    Linear between positions, the ends held. A token that is longer than the positions lie apart takes the mean over
    what it is longer: twice as long, it is the mean of the two values in it.
    """
    weights = np.zeros((len(centres), len(positions)))
    if len(positions) == 1:
        return np.ones_like(weights, dtype=np.float32)
    wider = np.maximum(0, lengths - np.median(np.diff(positions)))
    points = centres[:, None] + wider[:, None] * ((np.arange(_POINTS) + 0.5) / _POINTS - 0.5)
    left = np.clip(np.searchsorted(positions, points, side="right") - 1, 0, len(positions) - 2)
    share = np.clip((points - positions[left]) / (positions[left + 1] - positions[left]), 0, 1)
    token = np.arange(len(centres))[:, None]
    np.add.at(weights, (token, left), (1 - share) / _POINTS)
    np.add.at(weights, (token, left + 1), share / _POINTS)
    return weights.astype(np.float32)


def read_scores(path: Path) -> dict[str, Tensor]:
    """Reads ``values`` and ``classes`` (n, h, w, k), ``times`` (n,), ``rows`` (h,), ``columns`` (w,) of a file."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        reason = f"stored scores that cannot be read ({error})"
        raise DatasetError(f"{path}: {reason}: delete the file and go on with dualformer teach") from error
