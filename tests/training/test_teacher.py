"""Teachers: who may teach whom, what they are shown, and that they stay what they are."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from dualformer.errors import DualFormerError
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model
from dualformer.training.checkpoint import checkpoints
from dualformer.training.objective import ClipObjective, DistillationObjective, MotionObjective, make_objective
from dualformer.training.reporter import SilentReporter, read_metrics
from dualformer.training.run_folder import TrainResult
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.teacher import NetworkTeacher, TeacherError, fit_clips, frame_indices, match_classes
from dualformer.training.token_labels import fit_map, top_distribution
from dualformer.training.train import train
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize
from dualformer.weights.card import Card
from dualformer.weights.safetensors_file import save_weights
from small_runs import RecordingReporter

PRE = Preprocessing(frames=4, stride=2, resize=32, crop=32, mean=(100.0, 110.0, 120.0), std=(50.0, 51.0, 52.0))
CLASSES = ("left", "right", "up", "down", "still", "round")


def save_teacher(
    path: Path,
    labels: tuple[str, ...] = CLASSES,
    *,
    pre: Preprocessing = PRE,
    seed: int = 7,
    scale: float = 20.0,
    named: bool = True,
) -> DualFormer:
    """Random weights whose classifier is sure enough of itself that its answers differ from chance."""
    model = create_model(
        "dualformer_nano", clip=(pre.frames, pre.crop, pre.crop), num_classes=len(labels), seed=seed, drop_path=0.2
    )
    with torch.no_grad():
        model.get_classifier().weight.mul_(scale)  # type: ignore[operator]
    card = Card(config=model.config, labels=labels if named else (), preprocessing=pre, provenance="a test", licence="")
    save_weights(path, model, card)
    return model.eval()


def student(classes: int = len(CLASSES), clip: tuple[int, int, int] = (4, 32, 32)) -> DualFormer:
    return create_model("dualformer_nano", clip=clip, num_classes=classes, seed=0, dropout=0.0)


def clips(count: int = 2, frames: int = 4, size: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, frames, size, size, 3), dtype=torch.uint8, generator=generator)


def batch(count: int = 2) -> dict[str, torch.Tensor]:
    return {"clip": clips(count), "label": torch.arange(count) % len(CLASSES)}


def objective(config: TrainConfig, model: DualFormer | None = None, pre: Preprocessing = PRE) -> DistillationObjective:
    made = make_objective(config, False, model or student(), pre, classes=CLASSES)
    assert isinstance(made, DistillationObjective)
    return made


def config(**changes: object) -> TrainConfig:
    return TrainConfig(data="videos").replace(**changes)


def test_without_a_teacher_the_renderers_truth_teaches_where_there_is_one():
    plain = make_objective(config(), False, student(), PRE, classes=CLASSES)
    assert type(plain) is ClipObjective and not plain.lines and not plain.fingerprint
    assert isinstance(make_objective(config(), True, student(), PRE, classes=CLASSES), MotionObjective)


def test_token_labelling_is_half_the_clips_and_half_the_tokens_cross_entropy(tmp_path: Path):
    teacher = save_teacher(tmp_path / "teacher.safetensors")
    taught = objective(config(teacher=str(tmp_path / "teacher.safetensors"), teacher_topk=3)).eval()
    data = batch()
    step = taught(data)

    video = normalize(data["clip"], PRE)
    features = taught.model.forward_features(video)
    clip = F.cross_entropy(taught.model.forward_head(features), data["label"])
    scores = teacher.token_scores(teacher.forward_features(video))
    assert taught.extra is not None and scores.shape == (2, 2, 1, 1, 6)
    target = top_distribution(scores, 3)
    assert ((target > 0).sum(dim=-1) == 3).all()
    tokens = F.cross_entropy(taught.extra(features).flatten(0, 3), target.flatten(0, 3))
    assert step.parts["clip"].item() == pytest.approx(clip.item(), rel=1e-5)
    assert step.parts["tokens"].item() == pytest.approx(tokens.item(), rel=1e-5)
    assert step.loss.item() == pytest.approx(0.5 * clip.item() + 0.5 * tokens.item(), rel=1e-5)


def test_the_teachers_share_of_the_loss_is_an_option_and_both_lessons_share_it(tmp_path: Path):
    teacher = save_teacher(tmp_path / "teacher.safetensors")
    settings = config(
        teacher=str(tmp_path / "teacher.safetensors"), distill="both", distill_weight=0.8, temperature=2.0
    )
    taught = objective(settings).eval()
    data = batch()
    step = taught(data)
    parts = {name: loss.item() for name, loss in step.parts.items()}
    assert set(parts) == {"clip", "tokens", "teacher"}
    assert step.loss.item() == pytest.approx(0.2 * parts["clip"] + 0.4 * parts["tokens"] + 0.4 * parts["teacher"])
    own, taught_logits = step.logits / 2, teacher(normalize(data["clip"], PRE)) / 2
    divergence = (taught_logits.softmax(1) * (taught_logits.log_softmax(1) - own.log_softmax(1))).sum(1).mean()
    assert parts["teacher"] == pytest.approx(4 * divergence.item(), rel=1e-4)


def test_a_student_of_clip_scores_has_no_second_head(tmp_path: Path):
    save_teacher(tmp_path / "teacher.safetensors")
    taught = objective(config(teacher=str(tmp_path / "teacher.safetensors"), distill="clip", temperature=2.0))
    assert taught.extra is None
    taught(batch()).loss.backward()
    assert taught.model.norm.weight.grad is not None


def test_the_second_head_depends_on_the_seed_alone(tmp_path: Path):
    save_teacher(tmp_path / "teacher.safetensors")
    settings = config(teacher=str(tmp_path / "teacher.safetensors"))
    model = student()
    state = torch.get_rng_state()
    one = objective(settings, model)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    for key, tensor in objective(settings).state_dict().items():
        assert torch.equal(one.state_dict()[key], tensor)
    other = objective(settings.replace(seed=1))
    assert not torch.equal(one.state_dict()["extra.0.weight"], other.state_dict()["extra.0.weight"])


def test_a_mixed_clip_is_judged_as_it_is(tmp_path: Path):
    teacher = save_teacher(tmp_path / "teacher.safetensors")
    taught = objective(config(teacher=str(tmp_path / "teacher.safetensors"), distill="clip")).eval()
    mixed = ((clips().float() + clips().flip(0).float()) / 2).round().to(torch.uint8)
    target = torch.zeros(2, 6).index_fill_(1, torch.tensor([0, 1]), 0.5)
    step = taught({"clip": mixed, "label": torch.tensor([0, 1]), "target": target})
    logits = teacher(normalize(mixed, PRE))
    divergence = F.kl_div(step.logits.log_softmax(1), logits.softmax(1), reduction="batchmean")
    assert step.parts["teacher"].item() == pytest.approx(divergence.item(), rel=1e-4)
    assert step.parts["clip"].item() == pytest.approx(F.cross_entropy(step.logits, target).item(), rel=1e-5)


def test_a_teacher_is_no_part_of_what_is_trained(tmp_path: Path):
    save_teacher(tmp_path / "teacher.safetensors")
    taught = objective(config(teacher=str(tmp_path / "teacher.safetensors")))
    plain = ClipObjective(student(), PRE)
    extra = {f"extra.{key}" for key in taught.extra.state_dict()} if taught.extra else set()
    assert set(taught.state_dict()) == set(plain.state_dict()) | extra
    assert isinstance(taught.teacher, NetworkTeacher)
    before = {key: tensor.clone() for key, tensor in taught.teacher.model.state_dict().items()}
    taught.train()
    assert not any(module.training for module in taught.teacher.model.modules())
    optimizer = torch.optim.SGD(taught.parameters(), lr=0.1)
    for _ in range(3):
        taught(batch()).loss.backward()
        optimizer.step()
    assert not any(module.training for module in taught.teacher.model.modules())
    assert all(p.grad is None and not p.requires_grad for p in taught.teacher.model.parameters())
    for key, tensor in taught.teacher.model.state_dict().items():
        assert torch.equal(before[key], tensor), key


def run(settings: TrainConfig, **changes: object) -> TrainResult:
    return train(settings.replace(**changes), reporter=SilentReporter())


@pytest.fixture
def taught_settings(settings: TrainConfig, tmp_path: Path) -> TrainConfig:
    pre = Preprocessing(frames=4, stride=2, resize=32, crop=32, mean=(128.0, 128.0, 128.0), std=(64.0, 64.0, 64.0))
    save_teacher(tmp_path / "teacher.safetensors", ("right", "left"), pre=pre)
    return settings.replace(teacher=str(tmp_path / "teacher.safetensors"), distill="both")


def test_a_run_with_a_teacher_leaves_a_plain_student_and_resumes_to_the_same_bits(
    taught_settings: TrainConfig, tmp_path: Path
):
    before = (tmp_path / "teacher.safetensors").read_bytes()
    lines = RecordingReporter()
    result = train(taught_settings, reporter=lines)
    said = [line for line in lines.lines if "teacher" in line]
    assert "2 classes matched by name" in said[0]
    assert "shown the same clips, normalised in its own way" in said[1]
    assert said[2].startswith("learning from the teacher: its 5 likeliest classes of every token, and its scores of")
    assert (tmp_path / "teacher.safetensors").read_bytes() == before

    weights = load_file(result.weights)
    assert set(weights) == set(student(2).state_dict())
    newest = torch.load(checkpoints(Path(taught_settings.out))[0], weights_only=False)
    assert {name.split("/")[1].split(".")[0] for name in newest["tensors"]} == {"model", "extra"}
    last = read_metrics(result.out)[-1]
    parts = [last[f"loss_{name}"] for name in ("clip", "tokens", "teacher")]
    assert last["train_loss"] == pytest.approx(0.5 * parts[0] + 0.25 * parts[1] + 0.25 * parts[2], rel=1e-5)

    stopped = taught_settings.replace(out=str(tmp_path / "stopped"))
    run(stopped, max_steps=4)
    moved = (tmp_path / "teacher.safetensors").rename(tmp_path / "moved.safetensors")
    run(stopped, resume=True, teacher=str(moved))
    resumed = load_file(tmp_path / "stopped" / "last.safetensors")
    whole = load_file(Path(taught_settings.out) / "last.safetensors")
    assert all(torch.equal(tensor, resumed[key]) for key, tensor in whole.items())
    plain = run(taught_settings, teacher=None, distill="tokens", out=str(tmp_path / "plain"))
    assert not torch.equal(load_file(plain.out / "last.safetensors")["head.weight"], whole["head.weight"])


def test_a_run_is_not_resumed_with_another_teacher(taught_settings: TrainConfig, tmp_path: Path):
    run(taught_settings, max_steps=1)
    save_teacher(tmp_path / "teacher.safetensors", ("right", "left"), seed=8)
    with pytest.raises(DualFormerError, match="started with another teacher"):
        run(taught_settings, resume=True)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"teacher": "nowhere.safetensors"}, FileNotFoundError, "nowhere.safetensors: no such weights file"),
        ({"teacher": "nowhere.onnx", "distill": "clip"}, FileNotFoundError, "nowhere.onnx: there is no such exported"),
        ({"teacher": "nowhere.onnx"}, ValueError, "nowhere.onnx` is an exported model"),
        ({"teacher_scores": "nowhere"}, FileNotFoundError, "make them with dualformer teach"),
    ],
)
def test_a_teacher_that_is_not_there_stops_a_run_before_anything_is_written(
    settings: TrainConfig, changes: dict[str, object], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        run(settings, **changes)
    assert not Path(settings.out).exists()


def test_rendered_clips_are_taught_by_a_teacher_that_knows_their_classes(settings: TrainConfig):
    lines = RecordingReporter()
    changes = {"data": "rendered", "frames": 8, "rendered_clips": 8, "epochs": 1, "batch_size": 8}
    train(settings.replace(**changes, teacher="rendered"), reporter=lines)
    assert any(line.startswith("teacher: rendered, 16 classes") for line in lines.lines)
    assert any("8 frames repeated to 16, resized from 32 to 64 pixels" in line for line in lines.lines)
    assert math.isfinite(read_metrics(Path(settings.out))[0]["train_loss"])


def test_classes_are_matched_by_name_and_others_left_out(tmp_path: Path):
    order, note = match_classes(("c", "a", "x", "b"), 4, ("a", "b", "c"), "T")
    assert order is not None and order.tolist() == [1, 3, 0]
    assert note == " matched by name, 1 of them not in the data and left out"
    assert match_classes(("a", "b"), 2, ("a", "b"), "T") == (None, "")
    assert match_classes((), 2, ("a", "b"), "T")[0] is None
    with pytest.raises(TeacherError, match=r"T: it does not know 'd', 'e', 'f' and 1 more of the 5 classes"):
        match_classes(("a", "b"), 2, ("a", "d", "e", "f", "g"), "T")
    with pytest.raises(TeacherError, match=r"T: it gives scores of 3 classes, whose names it does not say"):
        match_classes((), 3, ("a", "b"), "T")

    # A teacher that has them in another order, and one more, says the same.
    labels = ("round", *CLASSES[:3], "other", *CLASSES[3:5])
    teacher = save_teacher(tmp_path / "teacher.safetensors", labels)
    taught = objective(config(teacher=str(tmp_path / "teacher.safetensors")))
    assert taught.teacher is not None
    said = taught.teacher(clips(), tokens=True)
    with torch.no_grad():
        logits = teacher(normalize(clips(), PRE))
    assert torch.equal(said.clip, logits[:, [labels.index(name) for name in CLASSES]])
    assert said.tokens is not None and torch.allclose(said.tokens.mean(dim=(1, 2, 3)), said.clip, atol=1e-5)


def test_a_teacher_of_other_clips_is_shown_the_same_ones_fitted_to_its_own(tmp_path: Path):
    pre = replace(PRE, frames=8, stride=3, resize=48, crop=48, mean=(0.0, 0.0, 0.0))
    teacher = save_teacher(tmp_path / "teacher.safetensors", pre=pre)
    taught = objective(config(teacher=str(tmp_path / "teacher.safetensors"))).eval()
    assert taught.lines[1] == (
        "teacher: it is shown the same clips, 4 frames repeated to 8, resized from 32 to 48 pixels, normalised in its "
        "own way; it was trained on frames 3 apart, and these are 2"
    )
    data = batch()
    video = normalize(data["clip"][:, [0, 0, 1, 1, 2, 2, 3, 3]], pre)
    frames = F.interpolate(video.transpose(1, 2).flatten(0, 1), (48, 48), mode="bilinear", antialias=True)
    scores = teacher.token_scores(teacher.forward_features(frames.unflatten(0, (2, 8)).transpose(1, 2)))
    assert scores.shape == (2, 4, 2, 2, 6)
    assert taught.extra is not None
    target = top_distribution(fit_map(scores, (2, 1, 1)), 5)
    logits = taught.extra(taught.model.forward_features(normalize(data["clip"], PRE)))
    expected = F.cross_entropy(logits.flatten(0, 3), target.flatten(0, 3))
    assert taught(data).parts["tokens"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_frames_are_repeated_or_left_out_evenly():
    assert frame_indices(4, 8) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert frame_indices(8, 4) == [1, 3, 5, 7]
    assert frame_indices(9, 3) == [1, 4, 7]
    assert frame_indices(3, 1) == [1]
    same = fit_clips(clips(), PRE, (4, 32, 32))
    assert torch.equal(same, normalize(clips(), PRE))


def test_what_cannot_teach_is_refused(tmp_path: Path):
    save_teacher(tmp_path / "unnamed.safetensors", ("a", "b", "c"), named=False)
    with pytest.raises(TeacherError, match=r"unnamed\.safetensors: it gives scores of 3 classes"):
        objective(config(teacher=str(tmp_path / "unnamed.safetensors")))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        objective(config(teacher=str(tmp_path / "nowhere.safetensors")))
    bare = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=0, seed=0)
    card = Card(config=bare.config, labels=(), preprocessing=PRE, provenance="", licence="")
    save_weights(tmp_path / "bare.safetensors", bare, card)
    with pytest.raises(TeacherError, match="a network without a classifier teaches nothing"):
        objective(config(teacher=str(tmp_path / "bare.safetensors")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": "a", "teacher_scores": "b"}, "`teacher_scores` takes the place of `teacher`"),
        ({"distill": "clip"}, "`distill` does nothing without `teacher` or `teacher_scores`"),
        ({"teacher_topk": 3}, "`teacher_topk` does nothing without"),
        ({"teacher": "a", "teacher_topk": 0}, "`teacher_topk` must be more than 0"),
        ({"teacher": "a", "distill_weight": 1.5}, "`distill_weight` must be from 0.001 to 1, not 1.5"),
        ({"teacher": "a", "distill_weight": 0.0}, "`distill_weight` must be from 0.001 to 1, not 0.0"),
        ({"teacher": "a", "temperature": 2.0}, "`temperature` is for `distill=clip` or both"),
        ({"teacher": "a", "distill": "clip", "temperature": 0.0}, "`temperature` must be more than 0"),
        ({"teacher": "a", "distill": "clip", "teacher_rest": "zero"}, "`teacher_rest` is for `distill=tokens` or both"),
    ],
)
def test_options_that_cannot_work_or_do_nothing_are_named(changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        config(**changes)
