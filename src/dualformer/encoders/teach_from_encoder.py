"""Teaches by a frozen encoder: features of every video, a probe on them, and the probe's word on every training clip.

The folder holds the features (`feature_store`), the probe with its figures, ``scores.json`` and a file for every
training video, which `read_clip_scores` reads: what the probe says of its clips, and what its query saw there. A probe
knows the videos that it was trained on by heart, so that its word on them is hardly more than their labels. Each
training video is therefore scored by a probe that was trained without it.

Videos without labels are scored by the probe, too, and ``labelled.csv`` lists them beside the others, with the class
that it says, to be trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from dualformer.datasets.per_video_files import per_video_file, video_key, videos_by_key
from dualformer.datasets.samples import ArchivedSample, DatasetError, Sample, VideoList
from dualformer.encoders.attentive_probe import AttentiveProbe, LabelledFeatures, ask_probe, count_right, train_probe
from dualformer.encoders.feature_store import CONTROLS, FeatureCard, Kind, StoredFeatures, feature_file, write_features
from dualformer.encoders.frozen_encoder import Encoder
from dualformer.errors import DualFormerError
from dualformer.files import atomic_write, is_lock, lock_for_writing, write_csv, write_json
from dualformer.plurals import counted
from dualformer.scoring.intervals import wilson_interval
from dualformer.scoring.view_scores import Precision
from dualformer.training.read_teacher_scores import ScoresCard
from dualformer.training.settings.teacher_settings import SCORES
from dualformer.video.backend import decoder

FEATURES, PROBE, FIGURES, LABELLED = "features", "probe.safetensors", "probe.json", "labelled.csv"
FORMAT = 1
_KINDS: tuple[Kind, ...] = ("clips", *CONTROLS)


@dataclass(frozen=True, kw_only=True)
class ProbeFigures:
    """How often the probe is right on validation videos, and what that is to be compared with. Shares are 0 to 1."""

    videos: int
    right: int
    accuracy: float
    interval: tuple[float, float]
    """95 %, by the number of videos."""
    chance: float
    commonest: float
    """Of always saying the class that most training videos have."""
    still: float
    """Of the same probe where each clip is its middle frame throughout."""
    shuffled: float
    """Of the same probe where a clip's frames come in another order."""
    unseen: float
    """Of the probes that scored the training videos, each on those that it was not trained on."""
    folds: int
    """How many probes those were; 1: the probe itself, on videos that it was trained on."""

    @property
    def text(self) -> str:
        """The figures in words."""
        low, high = self.interval
        return (
            f"the probe is right on {self.accuracy:.1%} of {counted(self.videos, 'validation video')} (95 % interval "
            f"{low:.1%} to {high:.1%}); chance {self.chance:.1%}, commonest class {self.commonest:.1%}, "
            f"one frame repeated {self.still:.1%}, frames shuffled {self.shuffled:.1%}"
        )


@dataclass(frozen=True, kw_only=True)
class EncoderTaught:
    """The result of `teach_from_encoder`. ``found`` of the ``videos`` had features already; ``bad`` do not decode."""

    videos: int
    found: int
    trained: bool
    """Whether probes were trained, and not found."""
    figures: ProbeFigures
    labelled: int
    """How many videos without labels the probe gave one."""
    bad: list[DualFormerError] = field(default_factory=list)


def teach_from_encoder(
    encoder: Encoder,
    train: VideoList,
    val: VideoList,
    out: Path | str,
    *,
    unlabelled: Sequence[Sample] = (),
    clips: int = 4,
    folds: int = 4,
    seed: int = 0,
    at_once: int = 4,
    workers: int = 0,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> EncoderTaught:
    """Writes features, probe and scores of the ``train`` videos into ``out``; what is there is kept.

    ``unlabelled``: videos whose labels are not known; those given here do not count. With them `LABELLED` lists all.
    ``clips``: of each video. ``folds``: parts of the training videos, each of which is scored by a probe that was
    trained on the others; no more than the rarest class has videos. Errors: as `write_features`; ``DatasetError`` where
    no video can be read, and for videos of several labels.
    """
    if folds < 1:
        raise ValueError(f"folds must be 1 or more, not {folds}")
    if train.multi_label:
        raise DatasetError("an encoder's probe says one class of each video: give data of one label a video")
    out = Path(out)
    with lock_for_writing(out, folder=True):
        if not (out / FEATURES).exists() and not all(map(is_lock, out.iterdir())):
            raise ValueError(f"{out} is not empty and holds no features: choose a new or empty folder")
        known, unknown = videos_by_key(train), videos_by_key(val)
        every = videos_by_key(replace(train, samples=(*train.samples, *val.samples, *unlabelled)))
        further = [sample for key, sample in every.items() if key not in known and key not in unknown]
        if further and any(isinstance(sample, ArchivedSample) for sample in every.values()):
            raise DatasetError(
                "videos without labels are listed beside the others by their files, and shards have none"
            )
        written = write_features(
            encoder,
            list(every.values()),
            out / FEATURES,
            controls=unknown,
            clips=clips,
            at_once=at_once,
            workers=workers,
            device=device,
            precision=precision,
            progress=progress,
        )
        teaching = _Teaching(
            encoder=encoder,
            out=out,
            classes=train.classes,
            clips=clips,
            seed=seed,
            device=torch.device(device),
            train=_readable(out, known.values()),
            val=_readable(out, unknown.values()),
            unlabelled=_readable(out, further),
            folds=folds,
        )
        figures = teaching.found()
        return EncoderTaught(
            videos=written.videos,
            found=written.found,
            trained=figures is None,
            figures=figures or teaching.write(),
            labelled=len(teaching.unlabelled),
            bad=written.bad,
        )


def _readable(out: Path, videos: Iterable[Sample]) -> list[Sample]:
    """Returns those of the videos that have features."""
    return [sample for sample in videos if feature_file(out / FEATURES, "clips", sample).is_file()]


@dataclass(kw_only=True)
class _Teaching:
    """Probes on stored features, their figures, and their scores of the videos to train on."""

    encoder: Encoder
    out: Path
    classes: tuple[str, ...]
    clips: int
    seed: int
    device: torch.device
    train: list[Sample]
    val: list[Sample]
    unlabelled: list[Sample]
    folds: int

    def __post_init__(self) -> None:
        for what, videos in (("train", self.train), ("validate", self.val)):
            if not videos:
                raise DatasetError(f"{self.out}: no video to {what} a probe on can be read")
        self.folds = min(self.folds, *Counter(sample.label for sample in self.train).values())
        labels = [[(video_key(sample), sample.label) for sample in videos] for videos in (self.train, self.val)]
        card = FeatureCard.read(self.out / FEATURES)
        further = [video_key(sample) for sample in self.unlabelled]
        settled = [FORMAT, card.digest, card.clips, card.decoder, self.classes, self.seed, self.folds, labels, further]
        self.digest = hashlib.sha256(json.dumps(settled).encode()).hexdigest()

    def found(self) -> ProbeFigures | None:
        """Returns the figures of an earlier call that did the same, None where there was none."""
        if not (self.out / SCORES).is_file() or ScoresCard.read(self.out).digest != self.digest:
            return None
        if not all(per_video_file(self.out, sample).is_file() for sample in (*self.train, *self.unlabelled)):
            return None
        if self.unlabelled and not (self.out / LABELLED).is_file():
            return None
        figures = json.loads((self.out / FIGURES).read_text(encoding="utf-8"))
        return ProbeFigures(**figures | {"interval": tuple(figures["interval"])})

    def write(self) -> ProbeFigures:
        """Trains the probes; writes scores, figures, and last the card, without which there are no scores."""
        (self.out / SCORES).unlink(missing_ok=True)
        probe = self._trained(self.train)
        state = {name: tensor.cpu() for name, tensor in probe.state_dict().items()}
        atomic_write(self.out / PROBE, partial(save_file, state))
        unseen = 0
        for scored, others in self._parts():
            scorer = self._trained(others) if self.folds > 1 else probe
            unseen += count_right(scorer, self._labelled(scored))
            for sample in scored:
                self._write_scores(sample, scorer, probe)
        (self.out / LABELLED).unlink(missing_ok=True)
        if self.unlabelled:
            self._label(probe)
        figures = self._figures(probe, unseen=unseen / len(self.train))
        write_json(self.out / FIGURES, asdict(figures))
        card = ScoresCard(
            teacher=self.encoder.name,
            digest=self.digest,
            classes=self.classes,
            count=len(self.classes),
            topk=len(self.classes),
            preprocessing=self.encoder.preprocessing.to_dict(),
            decoder=decoder(),
            scores="clips",
            width=self.encoder.width,
            remark=figures.text,
        )
        write_json(self.out / SCORES, card.to_dict())
        return figures

    def _parts(self) -> Iterator[tuple[list[Sample], list[Sample]]]:
        """Yields the videos that are scored together with those that their probe is trained on."""
        part: dict[str, int] = {}
        of_class = Counter[int]()
        for index in np.random.default_rng([self.seed, 0, 0, 5]).permutation(len(self.train)):
            sample = self.train[index]
            part[video_key(sample)] = of_class[sample.label] % self.folds
            of_class[sample.label] += 1
        for number in range(self.folds):
            chosen = [sample for sample in self.train if part[video_key(sample)] == number]
            yield chosen, [sample for sample in self.train if part[video_key(sample)] != number]

    def _trained(self, videos: list[Sample]) -> AttentiveProbe:
        return train_probe(
            self._labelled(videos),
            width=self.encoder.width,
            grid=self.encoder.grid,
            clips=self.clips,
            num_classes=len(self.classes),
            seed=self.seed,
            device=self.device,
        )

    def _labelled(self, videos: Iterable[Sample], kind: Kind = "clips") -> list[LabelledFeatures]:
        files = ((feature_file(self.out / FEATURES, kind, sample), sample.label) for sample in videos)
        return [LabelledFeatures(features=StoredFeatures(path), label=label) for path, label in files]

    def _write_scores(self, sample: Sample, scorer: AttentiveProbe, probe: AttentiveProbe) -> None:
        features = StoredFeatures(feature_file(self.out / FEATURES, "clips", sample))
        tensors = {
            "logits": ask_probe(scorer, features).logits.to(torch.float16),
            "pooled": ask_probe(probe, features).pooled.to(torch.float16),
            "spans": features.spans(),
        }
        atomic_write(per_video_file(self.out, sample), partial(save_file, tensors))

    def _label(self, probe: AttentiveProbe) -> None:
        """Writes the scores of videos without labels, and the list of all videos."""
        rows = [
            (sample, sample.label, side) for side, own in (("train", self.train), ("val", self.val)) for sample in own
        ]
        for sample in self.unlabelled:
            self._write_scores(sample, probe, probe)
            features = StoredFeatures(feature_file(self.out / FEATURES, "clips", sample))
            said = ask_probe(probe, features).logits.softmax(dim=1).mean(dim=0)
            rows.append((sample, int(said.argmax()), "train"))
        table = ((str(sample.path.absolute()), self.classes[label], side) for sample, label, side in rows)
        write_csv(self.out / LABELLED, ("path", "label", "split"), table)

    def _figures(self, probe: AttentiveProbe, *, unseen: float) -> ProbeFigures:
        right = {kind: count_right(probe, self._labelled(self.val, kind)) for kind in _KINDS}
        total = len(self.val)
        commonest = Counter(sample.label for sample in self.train).most_common(1)[0][0]
        return ProbeFigures(
            videos=total,
            right=right["clips"],
            accuracy=right["clips"] / total,
            interval=wilson_interval(right["clips"], total),
            chance=1 / len(self.classes),
            commonest=sum(sample.label == commonest for sample in self.val) / total,
            still=right["still"] / total,
            shuffled=right["shuffled"] / total,
            unseen=unseen,
            folds=self.folds,
        )
