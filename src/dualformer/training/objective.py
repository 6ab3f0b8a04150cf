"""Training objectives: a model and its loss as one module, so that every distributed strategy can wrap it whole."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from dualformer.datasets.clip_datasets import TrainingClips
from dualformer.model.heads import TokenHead
from dualformer.model.network import DualFormer
from dualformer.training.losses import (
    ClipLoss,
    compute_class_weights,
    distillation_loss,
    feature_loss,
    mean_over_clips,
    token_loss,
)
from dualformer.training.read_clip_scores import ClipScoreFolder, ClipsWithClipTargets
from dualformer.training.read_teacher_scores import ClipsWithTokenTargets, ScoreFolder, TokenGrid, read_scores_card
from dualformer.training.settings.teacher_settings import TeacherSettings
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.teacher import Teacher, open_teacher
from dualformer.training.token_labels import fit_map, map_targets, motion_targets, step_targets, top_distribution
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize

Batch = dict[str, Tensor]
"""``clip`` B T H W 3 uint8 and ``label`` B; mixed clips have a ``target`` B classes besides, parts whose sum is 1, and
clips of several labels one of zeros and ones;
windows of recordings have ``moments`` B T classes (`datasets.segments.window_clips.frame_labels`);
rendered clips bring their truth as well, and those with stored scores a ``token_target`` B T H W classes, or of an
encoder's probe a ``clip_target`` B classes and a ``feature_target`` B D."""


class ObjectiveOutput(NamedTuple):
    """The loss of a batch, to be differentiated, the logits B classes, and the parts of the loss by name."""

    loss: Tensor
    logits: Tensor
    parts: dict[str, Tensor]
    weight: Tensor | None = None
    """What the batch counts for among others, where its clips do not count alike. The losses are means by that."""
    step_logits: Tensor | None = None
    """B T* classes, where each step in time is right or wrong by itself."""


class ClipObjective(nn.Module):
    """``loss`` of the clip's class, of its parts of several, or of its several classes; by default cross-entropy."""

    clip_extra = True
    """Whether the clipped norm is that of all gradients, or of the network's without those of ``extra``, which are then
    left as they are: where those are much larger, they would decide how far the network goes at each step."""

    def __init__(self, model: DualFormer, preprocessing: Preprocessing, *, loss: ClipLoss | None = None) -> None:
        super().__init__()
        self.model = model
        self.preprocessing = preprocessing
        self.loss = loss or ClipLoss(classes=model.config.num_classes)
        self.extra: nn.Module | None = None
        self.lines: list[str] = []
        """What to report about it when a run begins."""
        self.fingerprint: Mapping[str, Any] = {}
        """What must be the same when a run is resumed."""

    def place(self, device: torch.device) -> None:
        """Moves what belongs to no module to where the batches will be; to be called once, before training."""

    def wrap_clips(self, clips: Dataset[dict[str, Any]]) -> Dataset[dict[str, Any]]:
        """Returns the training clips with whatever else this objective needs in every item."""
        return clips

    def forward(self, batch: Batch) -> ObjectiveOutput:
        logits = self.model(normalize(batch["clip"], self.preprocessing)).float()
        return ObjectiveOutput(self.classification_loss(logits, batch), logits, {}, self.batch_weight(batch))

    def clip_logits(self, inputs: Tensor, *, by_step: bool = False) -> Tensor:
        """Returns the network's logits of B 3 T H W, normalised: B classes, or ``by_step`` B T* classes; float32.

        Validation asks for them. The forward pass does not: it has put sharded weights together already."""
        if by_step:
            return self.model.step_scores(self.model.forward_features(inputs)).float()
        return self.model(inputs).float()

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the features of the last stage, B C T H W, and the logits, B classes, as float32."""
        features = self.model.forward_features(normalize(batch["clip"], self.preprocessing))
        return features, self.model.forward_head(features).float()

    def classification_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return self.loss(logits, _target(batch))

    def clip_weights(self, batch: Batch) -> Tensor | None:
        """Returns what each clip counts for, B; None where all count alike."""
        return self.loss.clip_weights(_target(batch))

    def batch_weight(self, batch: Batch) -> Tensor | None:
        """Returns what the batch counts for among others; None where all clips count alike."""
        weights = self.clip_weights(batch)
        return None if weights is None else weights.sum()


class StepObjective(ClipObjective):
    """``loss`` of every step in time of the clips, in the mean: one class a step, or several where segments overlap."""

    def forward(self, batch: Batch) -> ObjectiveOutput:
        scores = self.model.step_scores(self.model.forward_features(normalize(batch["clip"], self.preprocessing)))
        scores = scores.float()
        truth = step_targets(batch["moments"], scores.shape[1], multi_label=self.loss.multi_label)
        weights = self.loss.clip_weights(truth)
        loss = self.loss(scores.flatten(0, 1), truth)
        return ObjectiveOutput(loss, scores.mean(dim=1), {}, None if weights is None else weights.sum(), scores)


class MotionObjective(ClipObjective):
    """Cross-entropy on the class, plus the motion that the renderer knows, at every token of the last stage.

    A linear layer reads from each token, for each of its 2 × 2 quarters, how much of it the actor covers and the
    actor's velocity there. The squared error is divided by the targets' variance, so 1 is what a constant gives.

    ``maps`` names further targets of the batch, B T h w, and how many classes each has: the layer reads the class in
    the middle of each quarter as well. Class 0, nothing, counts for a tenth. The cross-entropies are divided by that of
    guessing, and their mean counts as much as the motion. Where clips do not count alike, they do not here either.
    """

    QUARTERS = 2
    TARGETS = 3

    def __init__(
        self,
        model: DualFormer,
        preprocessing: Preprocessing,
        *,
        loss: ClipLoss | None = None,
        weight: float = 1.0,
        maps: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(model, preprocessing, loss=loss)
        self.weight = weight
        self.maps = dict(maps or {})
        self.extra = nn.Linear(model.num_features, self.QUARTERS**2 * (self.TARGETS + sum(self.maps.values())))
        nn.init.zeros_(self.extra.weight)  # the loss starts at 1, whatever the features
        nn.init.zeros_(self.extra.bias)

    def forward(self, batch: Batch) -> ObjectiveOutput:
        features, logits = self._forward(batch)
        clip_loss = self.classification_loss(logits, batch)
        assert self.extra is not None
        read = self.extra(features.permute(0, 2, 3, 4, 1)).float()
        quarters = self.QUARTERS**2
        motion, *scores = read.split([quarters * count for count in (self.TARGETS, *self.maps.values())], dim=-1)
        target = motion_targets(batch["moving"], batch["velocity"], features.shape[2:], self.QUARTERS)
        clip_weights = self.clip_weights(batch)
        errors = F.mse_loss(motion, target, reduction="none").flatten(1).mean(dim=1)
        motion_loss = F.mse_loss(motion, target) if clip_weights is None else mean_over_clips(errors, clip_weights)
        motion_loss = motion_loss / target.var().clamp_min(1e-6)
        parts = {"clip": clip_loss, "motion": motion_loss}
        for (name, count), score in zip(self.maps.items(), scores, strict=True):
            wanted = map_targets(batch[name], features.shape[2:], self.QUARTERS)
            weights = torch.ones(count, device=score.device)
            weights[0] = _NOTHING
            score, wanted = score.unflatten(-1, (quarters, count)).flatten(0, -2), wanted.flatten()
            if clip_weights is None:
                loss = F.cross_entropy(score, wanted, weights)
            else:
                of_place = weights[wanted] * clip_weights.repeat_interleave(len(wanted) // len(clip_weights))
                loss = mean_over_clips(F.cross_entropy(score, wanted, reduction="none"), of_place)
            parts[name] = loss / math.log(count)
        loss = clip_loss + self.weight * motion_loss
        if self.maps:
            loss = loss + self.weight * torch.stack([parts[name] for name in self.maps]).mean()
        return ObjectiveOutput(loss, logits, parts, self.batch_weight(batch))


class DistillationObjective(ClipObjective):
    """Cross-entropy on the class, plus a teacher's scores: token labelling, distillation of clips, or both.

    The teacher scores every clip as it is (cropped, mirrored, mixed), or its stored ``scores`` are looked up where the
    clip was cut. It is no part of this module: neither trained, nor put into training mode, nor saved. Where clips do
    not count alike, they do not in what is learnt from the teacher either.
    """

    def __init__(
        self,
        model: DualFormer,
        preprocessing: Preprocessing,
        options: TeacherSettings,
        *,
        teacher: Teacher | None = None,
        scores: ScoreFolder | None = None,
        loss: ClipLoss | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(model, preprocessing, loss=loss)
        if (teacher is None) == (scores is None):
            raise ValueError("an objective learns from a teacher or from stored scores: give one of them")
        self.options, self.teacher, self._scores = options, teacher, scores
        if options.distill != "clip":
            with torch.random.fork_rng(devices=[]):  # the same head for the same seed, whatever was drawn before
                torch.manual_seed(seed)
                self.extra = TokenHead(model.num_features, model.config.num_classes)
        digest = teacher.digest if teacher else scores.card.digest if scores else ""
        self.fingerprint = {"teacher": [digest, scores is not None, *(getattr(options, name) for name in _DECISIVE)]}
        self.lines = [*(teacher.lines if teacher else ()), *([scores.line] if scores else ()), _describe(options)]

    def place(self, device: torch.device) -> None:
        if self.teacher is not None:
            self.teacher.place(device)

    def wrap_clips(self, clips: Dataset[dict[str, Any]]) -> Dataset[dict[str, Any]]:
        if self._scores is None:
            return clips
        if not isinstance(clips, TrainingClips):
            raise ValueError("`teacher_scores` are of videos in files, and these clips are not cut from any")
        config, pre = self.model.config, self.preprocessing
        return ClipsWithTokenTargets(clips, self._scores, TokenGrid(config, (pre.frames, pre.crop, pre.crop)))

    def forward(self, batch: Batch) -> ObjectiveOutput:
        features, logits = self._forward(batch)
        parts, weights = {"clip": self.classification_loss(logits, batch)}, self.clip_weights(batch)
        options, extra = self.options, self.extra
        scores = self.teacher(batch["clip"], tokens=extra is not None) if self.teacher else None
        if extra is not None:
            target = batch.get("token_target")
            if scores is not None:
                assert scores.tokens is not None
                maps = fit_map(scores.tokens, (features.shape[2], features.shape[3], features.shape[4]))
                target = top_distribution(maps, options.teacher_topk, rest=options.teacher_rest)
            assert target is not None  # stored scores come with the clips
            parts["tokens"] = token_loss(extra(features).float(), target, weights)
        if options.distill != "tokens":
            assert scores is not None
            parts["teacher"] = distillation_loss(logits, scores.clip, options.temperature, weights)
        loss = torch.stack([loss for name, loss in parts.items() if name != "clip"]).mean()
        loss = torch.lerp(parts["clip"], loss, options.distill_weight)
        return ObjectiveOutput(loss, logits, parts, self.batch_weight(batch))


class EncoderObjective(ClipObjective):
    """Cross-entropy on the class, plus what a frozen encoder's probe says of the clip, the features that it says it by,
    or both.

    A linear layer from the network's pooled features is compared with the probe's, by their direction. It is trained
    beside the network and left out afterwards.
    """

    def __init__(
        self,
        model: DualFormer,
        preprocessing: Preprocessing,
        options: TeacherSettings,
        *,
        scores: ClipScoreFolder,
        loss: ClipLoss | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(model, preprocessing, loss=loss)
        self.options, self._scores = options, scores
        if options.distill != "clip":
            with torch.random.fork_rng(devices=[]):  # the same layer for the same seed, whatever was drawn before
                torch.manual_seed(seed)
                self.extra = nn.Linear(model.num_features, scores.card.width)
        decisive = [options.distill, options.distill_weight, options.temperature]
        self.fingerprint = {"teacher": [scores.card.digest, "clips", *decisive]}
        clips = f"its scores of every clip at temperature {options.temperature:g}"
        what = {"clip": clips, "features": "its features of every clip"}.get(
            options.distill, f"{clips}, and its features"
        )
        self.lines = [*scores.lines, f"learning from the probe: {what}; {options.distill_weight:g} of the loss"]

    def wrap_clips(self, clips: Dataset[dict[str, Any]]) -> Dataset[dict[str, Any]]:
        if not isinstance(clips, TrainingClips):
            raise ValueError("`teacher_scores` are of videos in files, and these clips are not cut from any")
        return ClipsWithClipTargets(clips, self._scores)

    def forward(self, batch: Batch) -> ObjectiveOutput:
        features, logits = self._forward(batch)
        parts, weights = {"clip": self.classification_loss(logits, batch)}, self.clip_weights(batch)
        learnt: list[Tensor] = []
        if self.options.distill != "features":
            said = batch["clip_target"].clamp_min(1e-8).log()
            parts["teacher"] = distillation_loss(logits, said, self.options.temperature, weights)
            learnt.append(parts["teacher"])
        if self.extra is not None:
            own = self.extra(features.mean(dim=(2, 3, 4))).float()
            parts["features"] = feature_loss(own, batch["feature_target"], weights)
            learnt.append(parts["features"])
        loss = torch.lerp(parts["clip"], torch.stack(learnt).mean(), self.options.distill_weight)
        return ObjectiveOutput(loss, logits, parts, self.batch_weight(batch))


_DECISIVE = ("distill", "distill_weight", "temperature", "teacher_topk", "teacher_rest")


def _describe(options: TeacherSettings) -> str:
    topk = f"its {options.teacher_topk} likeliest classes of every token"
    if options.teacher_rest == "zero":
        topk += " (the others' scores zero, as in the authors' code)"
    clips = f"its scores of every clip at temperature {options.temperature:g}"
    what = {"tokens": topk, "clip": clips, "both": f"{topk}, and {clips}"}[options.distill]
    return f"learning from the teacher: {what}; {options.distill_weight:g} of the loss"


def make_objective(
    config: TrainConfig,
    source_has_truth: bool,
    model: DualFormer,
    preprocessing: Preprocessing,
    *,
    classes: Sequence[str],
    counts: Mapping[str, float] | None = None,
    videos: float = 0,
    maps: Mapping[str, int] | None = None,
    answers_steps: bool = False,
) -> ClipObjective:
    """Makes the objective of a run: of steps if it ``answers_steps``, else with a teacher if it has one, else with the
    renderer's truth if the data has it.

    ``counts``: how many of the ``videos`` to train on have each class. ``maps``: as `MotionObjective` takes them.
    Errors: as `open_teacher`, `ScoreFolder` and `compute_class_weights`; ``ValueError`` for stored scores of clips that
    have no files.
    """
    weights, line = None, ""
    if config.class_weights:
        if counts is None:
            raise ValueError("`class_weights` needs to know how many videos there are of each class")
        weights, line = compute_class_weights(
            config.class_weights, tuple(classes), counts=counts, videos=videos, multi_label=config.multi_label
        )
    loss = ClipLoss(
        classes=len(classes),
        label_smoothing=config.label_smoothing or 0.0,
        class_weights=torch.tensor(list(weights.values())) if weights else None,
        multi_label=config.multi_label,
    )
    if answers_steps:
        objective = StepObjective(model, preprocessing, loss=loss)
    elif config.teaches:
        objective = _distillation(config, source_has_truth, model, preprocessing, loss, classes)
    else:
        objective = (
            MotionObjective(model, preprocessing, loss=loss, maps=maps)
            if source_has_truth
            else ClipObjective(model, preprocessing, loss=loss)
        )
    if weights:
        objective.lines.append(line)
        objective.fingerprint = {**objective.fingerprint, "class_weights": list(weights.values())}
    if config.multi_label:
        objective.lines.append(
            "several labels a video: yes or no for every class; the best epoch is that of the highest mean average "
            "precision"
        )
        objective.fingerprint = {**objective.fingerprint, "multi_label": True}
    return objective


def _distillation(
    config: TrainConfig,
    source_has_truth: bool,
    model: DualFormer,
    preprocessing: Preprocessing,
    loss: ClipLoss,
    classes: Sequence[str],
) -> ClipObjective:
    teacher = scores = None
    if config.teacher:
        teacher = open_teacher(config.teacher, classes=classes, clips=preprocessing, tokens=config.distill != "clip")
    elif source_has_truth:
        raise ValueError("`teacher_scores` are of files, and rendered videos have none: give the `teacher` itself")
    else:
        card = read_scores_card(config)
        assert config.teacher_scores is not None
        if card.scores == "clips":
            clips = ClipScoreFolder(config.teacher_scores, card, classes)
            return EncoderObjective(model, preprocessing, config, scores=clips, loss=loss, seed=config.seed)
        scores = ScoreFolder(config.teacher_scores, classes, topk=config.teacher_topk, rest=config.teacher_rest)
        theirs = scores.card.preprocessing.get("crop_mode", "center")
        if theirs != preprocessing.crop_mode:
            raise ValueError(
                f"`teacher_scores` are of frames cut by `crop_mode={theirs}`, and clips by "
                f"`crop_mode={preprocessing.crop_mode}`: train with theirs"
            )
        if config.mixup or config.cutmix or config.randaugment not in (None, "off"):
            raise ValueError(
                "`teacher_scores` do not follow `mixup`, `cutmix` and `randaugment`, which move what is in a clip: "
                "leave them out, or give the `teacher` itself"
            )
    return DistillationObjective(
        model, preprocessing, config, teacher=teacher, scores=scores, loss=loss, seed=config.seed
    )


def _target(batch: Batch) -> Tensor:
    return batch.get("target", batch["label"])


_NOTHING = 0.1
"""What a quarter that shows nothing counts for: most do."""
