"""Weights of classes: by count or by file, in the loss of whole runs, and kept for resuming."""

from pathlib import Path

import made_runs
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from dualformer.datasets.samples import DatasetError
from dualformer.errors import DualFormerError
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model
from dualformer.training.checkpoint import Progress
from dualformer.training.distributed import ProcessGroup
from dualformer.training.dry_run import dry_run
from dualformer.training.losses import ClipLoss, compute_class_weights, format_class_weights, read_class_weights
from dualformer.training.objective import ClipObjective, DistillationObjective, make_objective
from dualformer.training.optimizer import Schedule
from dualformer.training.reporter import SilentReporter, read_metrics
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from dualformer.training.train_step import TrainStep
from dualformer.video.preprocessing import kinetics
from dualformer.weights.card import Card
from dualformer.weights.safetensors_file import save_weights
from small_runs import RecordingReporter

CLASSES = ("left", "right", "up")
COUNTS = {"left": 6, "right": 3, "up": 1}


def weights_file(folder: Path, text: str) -> Path:
    path = folder / "weights.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_balanced_is_videos_over_classes_times_count():
    weights, line = compute_class_weights("balanced", CLASSES, counts=COUNTS, videos=10, multi_label=False)
    assert weights == {"left": 10 / 18, "right": 10 / 9, "up": 10 / 3}
    assert sum(COUNTS[name] * weight for name, weight in weights.items()) == pytest.approx(10)
    assert line == "class weights: videos over 3 classes x those of the class: left 0.556, right 1.11, up 3.33"


def test_balanced_of_several_labels_is_negatives_over_positives():
    weights, line = compute_class_weights("balanced", CLASSES, counts=COUNTS, videos=8, multi_label=True)
    assert weights == {"left": 2 / 6, "right": 5 / 3, "up": 7.0}
    assert line == "class weights: videos without the class over those with it: left 0.333, right 1.67, up 7"
    with pytest.raises(DatasetError, match="every video to train on has the label 'left'"):
        compute_class_weights("balanced", CLASSES, counts=COUNTS, videos=6, multi_label=True)


def test_many_classes_are_told_by_their_extremes():
    counts = {f"c{i:02}": i + 1 for i in range(20)}
    _, line = compute_class_weights("balanced", tuple(counts), counts=counts, videos=210, multi_label=False)
    assert line.endswith(": from 0.525 ('c19') to 10.5 ('c00')")


def test_a_file_is_read_in_the_order_of_the_classes_and_written_back(tmp_path: Path):
    path = weights_file(tmp_path, "\ufeffclass,weight\nup, 2.5\n\nleft,1\nright,0.1\n")
    weights = read_class_weights(path, CLASSES)
    assert list(weights.items()) == [("left", 1.0), ("right", 0.1), ("up", 2.5)]
    path.write_text(format_class_weights(weights))
    assert read_class_weights(path, CLASSES) == weights


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("left,1\n", r"weights\.csv:1: class weights start with the header class,weight"),
        ("class,weight\nleft,1\noval,2\n", r"weights\.csv:3: 'oval' is none of the 3 classes"),
        ("class,weight\nleft,1\nleft,2\n", r"weights\.csv:3: class 'left' is there twice"),
        ("class,weight\nleft,much\n", r"weights\.csv:2: a weight is a number more than 0, not 'much'"),
        ("class,weight\nleft,0\n", r"weights\.csv:2: .* not '0'"),
        ("class,weight\nleft,-1\n", r"weights\.csv:2: .* not '-1'"),
        ("class,weight\nleft,inf\n", r"weights\.csv:2: .* not 'inf'"),
        ("class,weight\nleft\n", r"weights\.csv:2: expected a class and its weight"),
        ("class,weight\nleft,1\n", r"weights\.csv: no weight for class 'right', 'up'"),
        ("", r"weights\.csv: no weight for class 'left', 'right', 'up'"),
        ('class,weight\n"left,1\n', r"weights\.csv:2: unexpected end of data"),
    ],
)
def test_mistakes_in_a_file_name_their_line(text: str, message: str, tmp_path: Path):
    with pytest.raises(DatasetError, match=message):
        read_class_weights(weights_file(tmp_path, text), CLASSES)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"no such file of class weights: .*none.*`class_weights=balanced`"):
        read_class_weights(tmp_path / "none.csv", CLASSES)
    (tmp_path / "weights.csv").write_bytes(b"class,weight\n\xff,1\n")
    with pytest.raises(DatasetError, match="not UTF-8"):
        read_class_weights(tmp_path / "weights.csv", CLASSES)


def test_rendered_videos_have_no_use_for_them():
    with pytest.raises(ValueError, match="`class_weights` does nothing with `data=rendered`"):
        TrainConfig(data="rendered", class_weights="balanced")


def uneven(settings: TrainConfig, tmp_path: Path) -> TrainConfig:
    """The videos of the data set, but only two of `left` to train on."""
    folder, rows = Path(settings.data), ["path,label,split"]
    for name, count in (("left", 2), ("right", 6)):
        rows += [f"{path},{name},train" for path in sorted((folder / "train" / name).iterdir())[:count]]
        rows += [f"{path},{name},val" for path in sorted((folder / "val" / name).iterdir())]
    (tmp_path / "uneven.csv").write_text("\n".join(rows) + "\n")
    return settings.replace(data=str(tmp_path / "uneven.csv"), dropout=0.0, drop_path=0.0)


def test_a_run_says_its_weights_and_learns_by_them(settings: TrainConfig, tmp_path: Path):
    settings, reporter = uneven(settings, tmp_path), RecordingReporter()
    plain = train(settings, reporter=SilentReporter())
    config = settings.replace(out=str(tmp_path / "balanced"), class_weights="balanced")
    balanced = train(config, reporter=reporter)
    assert "class weights: videos over 2 classes x those of the class: left 2, right 0.667" in reporter.lines
    assert not any("`class_weights=balanced` makes" in line for line in reporter.lines)
    one, other = read_metrics(plain.out)[0], read_metrics(balanced.out)[0]
    assert one["train_loss"] != other["train_loss"]
    assert not torch.equal(load_file(plain.weights)["head.weight"], load_file(balanced.weights)["head.weight"])
    text = "class,weight\nleft,2\nright,0.66666668\n"
    same = train(
        config.replace(out=str(tmp_path / "same"), class_weights=str(weights_file(tmp_path, text))),
        reporter=SilentReporter(),
    )
    torch.testing.assert_close(load_file(same.weights)["head.weight"], load_file(balanced.weights)["head.weight"])
    assert any("left 2, right 0.667" in line for line in dry_run(config.replace(out=str(tmp_path / "x"))).lines)


def stepped(batch_size: int) -> tuple[dict[str, torch.Tensor], Progress]:
    """A step of 8 clips in one batch or several."""
    model = DualFormer(made_runs.PLAIN, seed=0)
    loss = ClipLoss(classes=3, class_weights=torch.tensor([0.2, 1.0, 5.0]))
    fabric = Fabric(accelerator="cpu", devices=1)
    sizes = {"epochs": 1, "batch_size": batch_size, "accumulate": 8 // batch_size, "clip_grad": 1e6}
    config = TrainConfig(**(made_runs.SETTINGS | sizes), data="noise")
    objective = ClipObjective(model, made_runs.PRE, loss=loss)
    stepper = TrainStep(objective, config, Schedule.of(config, 8, world=1), fabric=fabric, ranks=ProcessGroup(fabric))
    stepper.begin_epoch()
    noise, progress = made_runs.Noise(8), Progress()
    items = [noise[0, i] | {"label": torch.tensor([0, 0, 0, 2, 1, 1, 2, 0][i])} for i in range(8)]
    told = None
    for start in range(0, 8, batch_size):
        part = items[start : start + batch_size]
        told = stepper.batch({key: torch.stack([item[key] for item in part]) for key in part[0]}, progress)
    assert told is not None and told["loss"] == pytest.approx(progress.loss_sum / progress.weight)
    return {name: state["exp_avg"] for name, state in _states(stepper).items()} | {
        name: tensor.detach() for name, tensor in model.state_dict().items()
    }, progress


def _states(stepper: TrainStep) -> dict[str, dict[str, torch.Tensor]]:
    return {
        f"gradient of {name}": stepper.state.optimizer.state[parameter]
        for name, parameter in stepper.state.objective.named_parameters()
    }


def test_accumulated_batches_are_one_large_batch():
    """Though their clips weigh 0.4, 5.2, 2 and 5.2 together."""
    whole, at_once = stepped(8)
    parts, added = stepped(2)
    assert [at_once.weight, added.weight] == pytest.approx([4 * 0.2 + 2 * 1 + 2 * 5] * 2)
    assert added.loss_sum == pytest.approx(at_once.loss_sum, rel=1e-5)
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-4, atol=1e-7, msg=name)


def test_the_run_keeps_the_file(settings: TrainConfig, tmp_path: Path):
    path = weights_file(tmp_path, "class,weight\nleft,2\nright,0.5\n")
    settings = settings.replace(class_weights=str(path))
    train(settings, reporter=SilentReporter())
    stopped = settings.replace(out=str(tmp_path / "stopped"))
    train(stopped.replace(max_steps=4), reporter=SilentReporter())
    path.unlink()
    train(stopped.replace(resume=True), reporter=SilentReporter())
    kept = tmp_path / "stopped" / "class_weights.csv"
    one, other = (load_file(Path(out) / "last.safetensors") for out in (settings.out, stopped.out))
    assert all(torch.equal(one[key], other[key]) for key in one)
    kept.write_text("class,weight\nleft,3\nright,0.5\n")
    with pytest.raises(DualFormerError, match="class_weights"):
        train(stopped.replace(resume=True), reporter=SilentReporter())


def test_what_a_teacher_says_counts_alike(tmp_path: Path):
    """Heavy clips weigh as much in what is learnt from the teacher, so that a batch stays a ratio of sums."""
    pre = kinetics(4, 1, 32)
    teacher = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=3, seed=1)
    card = Card(config=teacher.config, labels=CLASSES, preprocessing=pre, provenance="", licence="")
    save_weights(tmp_path / "teacher.safetensors", teacher, card)
    config = TrainConfig(
        data="x",
        teacher=str(tmp_path / "teacher.safetensors"),
        distill="both",
        class_weights="balanced",
        label_smoothing=0.1,
    )
    student = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=3, seed=0)
    objective = make_objective(config, False, student, pre, classes=CLASSES, counts=COUNTS, videos=10).eval()
    assert isinstance(objective, DistillationObjective) and isinstance(objective.loss, ClipLoss)
    objective.place(torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    clips = torch.randint(0, 256, (4, 4, 32, 32, 3), dtype=torch.uint8, generator=generator)
    batch = {"clip": clips, "label": torch.tensor([0, 2, 1, 0])}
    with torch.no_grad():
        whole = objective(batch)
        parts = [objective({key: value[rows] for key, value in batch.items()}) for rows in (slice(0, 1), slice(1, 4))]
    for name in ("clip", "tokens", "teacher"):
        sums = sum(float(part.parts[name] * part.weight) for part in parts)
        assert sums / sum(float(part.weight) for part in parts) == pytest.approx(float(whole.parts[name]), rel=1e-5)
