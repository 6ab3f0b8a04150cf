"""What an encoder's probe says of clips: found by time, mixed with clips, learnt by the student, and left out of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from dualformer.datasets.clip_datasets import TrainingClips
from dualformer.datasets.per_video_files import per_video_file
from dualformer.datasets.rendered import Scene, write_dataset
from dualformer.datasets.samples import DatasetError, Sample, VideoList
from dualformer.datasets.splits import open_splits
from dualformer.files import write_json
from dualformer.model.presets import create_model
from dualformer.training.losses import distillation_loss, feature_loss
from dualformer.training.mixing import Mix, apply_mix
from dualformer.training.objective import Batch, EncoderObjective, make_objective
from dualformer.training.open_source import open_source
from dualformer.training.propose import propose
from dualformer.training.read_clip_scores import ClipScoreFolder, overlap_weights
from dualformer.training.read_teacher_scores import ScoresCard
from dualformer.training.reporter import SilentReporter
from dualformer.training.settings.teacher_settings import SCORES
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from dualformer.video.augmentation import Augmentation
from dualformer.video.preprocessing import Preprocessing
from dualformer.weights.safetensors_file import load_weights

CLASSES, WIDTH = ("left", "right"), 6
PRE = Preprocessing(frames=4, stride=2, resize=32, crop=32, mean=(128.0, 128.0, 128.0), std=(64.0, 64.0, 64.0))


def card(**changes: object) -> ScoresCard:
    settled = ScoresCard(
        teacher="lab/encoder",
        digest="d",
        classes=CLASSES,
        count=2,
        topk=2,
        preprocessing={},
        decoder="none",
        scores="clips",
        width=WIDTH,
        remark="the probe is right on 90 %",
    )
    return replace(settled, **changes)  # type: ignore[arg-type]


def write_clip_scores(folder: Path, videos: VideoList, *, wrong: bool = False) -> Path:
    """Two clips of each video, said to be what they are, or what they are not; features lie along an axis by class."""
    for number, sample in enumerate(videos.samples):
        label = 1 - sample.label if wrong else sample.label
        logits = torch.zeros(2, 2)
        logits[:, label] = 4 + number % 3
        pooled = torch.zeros(2, WIDTH)
        pooled[:, label] = 1
        pooled[:, 2 + number % 4] = 0.3
        path = per_video_file(folder, sample)
        path.parent.mkdir(parents=True, exist_ok=True)
        spans = torch.tensor([[0.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
        save_file({"logits": logits.half(), "pooled": pooled.half(), "spans": spans}, path)
    write_json(folder / SCORES, card().to_dict())
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> VideoList:
    """Two classes, four videos of a second each to train on, two to validate on."""
    folder = tmp_path_factory.mktemp("clips") / "videos"
    write_dataset(
        folder, Scene(size=32, frames=16, classes=("right", "left")), clips_per_class={"train": 4, "val": 2}, seed=3
    )
    return open_splits(folder).train


@pytest.fixture(scope="module")
def scores(videos: VideoList, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip_scores(tmp_path_factory.mktemp("scores"), videos)


def test_clips_count_by_the_seconds_that_they_share() -> None:
    spans = np.array([[0.0, 1.0], [1.0, 2.0], [1.5, 2.5], [4.0, 5.0]])

    def weights(start: float, end: float, count: int = 11) -> list[float]:
        # The last frame stays for as long as the others.
        times = start + (end - start) * np.arange(count) / count
        return overlap_weights(times, spans).tolist()

    assert weights(0, 1) == pytest.approx([1, 0, 0, 0], abs=1e-6)
    assert weights(0.5, 2) == pytest.approx([0.25, 0.5, 0.25, 0])
    assert weights(0, 6) == pytest.approx([0.25] * 4)
    assert weights(3.0, 3.4) == [0, 0, 1, 0]  # none overlaps: the nearest
    assert overlap_weights(np.array([1.75]), spans).sum() == 1


def test_targets_are_means_of_probabilities_and_mirrored_ones_are_swapped(tmp_path: Path) -> None:
    sample = Sample(path=tmp_path / "a.mp4", label=0)
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 1.0]])
    pooled = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    path = per_video_file(tmp_path, sample)
    path.parent.mkdir()
    save_file({"logits": logits, "pooled": pooled, "spans": torch.tensor([[0.0, 1.0], [1.0, 2.0]])}, path)
    own = card(classes=("left", "right", "up"), count=3, width=2)
    times = 0.75 + np.arange(4) / 4  # to 1.75: a quarter of the first, three of the second
    folder = ClipScoreFolder(tmp_path, own, ("left", "right", "up"))
    plain = folder.clip_target(sample, times=times, flip=False, mirrored=(1, 0, 2))
    expected = 0.25 * logits[0].softmax(0) + 0.75 * logits[1].softmax(0)
    assert torch.allclose(plain.scores, expected) and torch.allclose(plain.features, torch.tensor([2.5, 5.0]))
    flipped = folder.clip_target(sample, times=times, flip=True, mirrored=(1, 0, 2))
    assert torch.allclose(flipped.scores, expected[[1, 0, 2]]) and flipped.features.abs().max() == 0
    fewer = folder.clip_target(sample, times=times, flip=True, mirrored=(1, 0, -1))
    assert torch.allclose(fewer.scores[:2], expected[[1, 0]] / expected[:2].sum()) and fewer.scores[2] == 0
    alike = folder.clip_target(sample, times=times, flip=True)
    assert torch.equal(alike.scores, plain.scores) and torch.equal(alike.features, plain.features)
    # Classes that the data has not are left out, others are matched by name.
    two = ClipScoreFolder(tmp_path, own, ("up", "left")).clip_target(sample, times=times, flip=False)
    rows = logits[:, [2, 0]].softmax(dim=1)
    assert torch.allclose(two.scores, 0.25 * rows[0] + 0.75 * rows[1])


def test_features_are_compared_by_their_direction_where_there_are_any() -> None:
    own = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    target = torch.tensor([[5.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    each = 1 - F.cosine_similarity(own[:2], target[:2])
    assert feature_loss(own, target).item() == pytest.approx(each.mean().item())
    weighted = feature_loss(own, target, torch.tensor([3.0, 1.0, 9.0]))
    assert weighted.item() == pytest.approx(((3 * each[0] + each[1]) / 4).item())
    assert feature_loss(own, torch.zeros(3, 2)).item() == 0


def objective(scores: Path, distill: str, **settings: object) -> EncoderObjective:
    config = TrainConfig(data="videos", teacher_scores=str(scores), distill=distill, **settings)  # type: ignore[arg-type]
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=2, seed=0, dropout=0.0, drop_path=0.0)
    made = make_objective(config, False, model, PRE, classes=CLASSES)
    assert isinstance(made, EncoderObjective)
    return made


def batch_of(made: EncoderObjective, videos: VideoList) -> Batch:
    clips = made.wrap_clips(TrainingClips(videos, PRE, seed=0, augmentation=Augmentation(flip=0.0)))
    return torch.utils.data.default_collate([clips[0, number] for number in range(len(videos))])


@pytest.mark.parametrize("distill", ["clip", "features", "both"])
def test_the_loss_is_that_of_label_scores_and_features(videos: VideoList, scores: Path, distill: str) -> None:
    made = objective(scores, distill, distill_weight=0.25, **({} if distill == "features" else {"temperature": 2.0}))
    batch = batch_of(made, videos)
    assert set(batch) == {"clip", "label", "index", "clip_target", "feature_target"}
    assert (batch["clip_target"].argmax(dim=1) == batch["label"]).all()
    step = made.eval()(batch)
    logits = made.model(made_input(batch))
    parts = {"clip": F.cross_entropy(logits, batch["label"])}
    if distill != "features":
        parts["teacher"] = distillation_loss(logits, batch["clip_target"].log(), 2.0)
    if distill != "clip":
        assert made.extra is not None
        pooled = made.model.forward_features(made_input(batch)).mean(dim=(2, 3, 4))
        parts["features"] = feature_loss(made.extra(pooled), batch["feature_target"])
    assert {name: part.item() for name, part in step.parts.items()} == pytest.approx(
        {name: part.item() for name, part in parts.items()}, rel=1e-4
    )
    learnt = torch.stack([part for name, part in parts.items() if name != "clip"]).mean()
    assert step.loss.item() == pytest.approx((0.75 * parts["clip"] + 0.25 * learnt).item(), rel=1e-4)
    assert made.lines[1] == "teacher: the probe is right on 90 %" and "0.25 of the loss" in made.lines[2]


def made_input(batch: Batch) -> torch.Tensor:
    from dualformer.video.transforms import normalize

    return normalize(batch["clip"], PRE)


def test_a_student_follows_a_teacher_that_contradicts_the_labels(videos: VideoList, tmp_path: Path) -> None:
    made = objective(write_clip_scores(tmp_path, videos, wrong=True), "both", distill_weight=1.0)
    batch = batch_of(made, videos)
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-3)
    first = {name: part.item() for name, part in made.eval()(batch).parts.items()}
    made.train()
    for _ in range(40):
        made(batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    last = made.eval()(batch)
    assert (last.logits.argmax(dim=1) == 1 - batch["label"]).all()
    assert last.parts["teacher"].item() < 0.2 * first["teacher"]
    assert last.parts["features"].item() < 0.5 * first["features"]
    assert last.parts["clip"].item() > first["clip"]


def test_what_the_teacher_said_is_mixed_as_clips_are(videos: VideoList, scores: Path) -> None:
    made = objective(scores, "both")
    batch = batch_of(made, videos)
    mixed = apply_mix(batch, Mix(share=0.7), classes=2)
    half = len(videos) // 2
    for name in ("clip_target", "feature_target"):
        assert torch.allclose(mixed[name], 0.7 * batch[name] + 0.3 * batch[name].roll(-half, dims=0))
    assert made(mixed).loss.isfinite()
    assert set(apply_mix({key: batch[key] for key in ("clip", "label")}, Mix(share=0.7), 2)) == {
        *("clip", "label", "target")
    }


def test_what_does_not_go_together_is_said(videos: VideoList, scores: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"are an encoder's, of clips: say `distill=clip`, features or both"):
        objective(scores, "tokens")
    tokens = card(scores="tokens", width=0, remark="")
    write_json(tmp_path / SCORES, tokens.to_dict())
    assert ScoresCard.read(tmp_path) == tokens and "scores" not in (tmp_path / SCORES).read_text().split(":")[0]
    for distill in ("clip", "both", "features"):
        with pytest.raises(ValueError, match=f"are of tokens only: for `distill={distill}` give the `teacher` itself"):
            objective(tmp_path, distill)
    unopened = TrainConfig(data=str(tmp_path / "nowhere"), out=str(tmp_path / "run"), teacher_scores=str(scores))
    with pytest.raises(ValueError, match=r"are an encoder's, of clips: say `distill=clip`, features or both"):
        train(unopened)
    with pytest.raises(ValueError, match="`distill=features` is for the `teacher_scores` of an encoder"):
        TrainConfig(data="videos", teacher="a.safetensors", distill="features")
    with pytest.raises(ValueError, match="`temperature` is for `distill=clip` or both"):
        TrainConfig(data="videos", teacher_scores="scores", distill="features", temperature=2)
    for distill in ("clip", "both", "features"):
        with pytest.raises(ValueError, match="`teacher_topk` is for `distill=tokens` or both"):
            TrainConfig(data="videos", teacher_scores="scores", distill=distill, teacher_topk=3)  # type: ignore[arg-type]
    more = replace(videos, samples=(*videos.samples, Sample(path=tmp_path / "new.mp4", label=0)))
    made = objective(scores, "clip")
    with pytest.raises(DatasetError, match=r"no scores of 1 of 9 videos \(.*new\.mp4\): go on with dualformer teach"):
        made.wrap_clips(TrainingClips(more, PRE, seed=0, augmentation=Augmentation(flip=0.0)))


def test_proposals_are_those_without_a_teacher(videos: VideoList) -> None:
    """Stored scores of clips do not depend on how a clip is cut, so that nothing need be left out for them."""
    config = TrainConfig(data=str(videos.samples[0].path.parents[2]))
    source = open_source(config)
    taught = config.replace(teacher_scores="scores", distill="clip")
    alone, beside = (propose(each, source, ranks=1)[0] for each in (config, taught))
    assert beside.replace(teacher_scores=None, distill="tokens") == alone
    assert (
        alone.randaugment and propose(config.replace(teacher_scores="scores"), source, ranks=1)[0].randaugment is None
    )


def test_a_run_resumes_to_the_same_bits_and_its_weights_hold_the_network_alone(
    videos: VideoList, scores: Path, tmp_path: Path
) -> None:
    settings = TrainConfig(
        data=str(videos.samples[0].path.parents[2]),
        out=str(tmp_path / "run"),
        model="dualformer_nano",
        start="random",
        teacher_scores=str(scores),
        distill="both",
        frames=4,
        stride=2,
        size=32,
        epochs=2,
        batch_size=4,
        flip="off",
        randaugment="7x2",
        mixup=0.8,
        workers=0,
        precision="float32",
    )
    run = train(settings, reporter=SilentReporter())
    stopped = settings.replace(out=str(tmp_path / "stopped"))
    train(stopped.replace(max_steps=3), reporter=SilentReporter())
    train(stopped.replace(resume=True, workers=1), reporter=SilentReporter())
    one, other = load_file(run.out / "last.safetensors"), load_file(tmp_path / "stopped" / "last.safetensors")
    assert all(torch.equal(one[key], other[key]) for key in other)
    model, _ = load_weights(run.out / "last.safetensors")
    assert set(model.state_dict()) == set(create_model("dualformer_nano", clip=(4, 32, 32), num_classes=2).state_dict())
    assert not any("extra" in name for name in one)
