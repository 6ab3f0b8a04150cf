"""Teachers that are exported models: the same scores as the network that they were made from."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dualformer.model.config import Config, Size3, Stage
from dualformer.model.network import DualFormer
from dualformer.training.objective import make_objective
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.teacher import TeacherError, open_teacher
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize
from dualformer.weights.errors import WeightsError

PRE = Preprocessing(frames=4, stride=2, resize=32, crop=32, mean=(100.0, 110.0, 120.0), std=(50.0, 51.0, 52.0))
CLASSES = ("a", "b", "c")


def clips(count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 4, 32, 32, 3), dtype=torch.uint8, generator=generator)


def small(classes: int = 3, *, clip: Size3 = (4, 32, 32), seed: int = 3) -> DualFormer:
    """One stage, which is exported in a second."""
    stages = (Stage(channels=32, depth=1, patch=(2, 8, 8)),)
    return DualFormer(Config(stages=stages, clip=clip, num_classes=classes), seed=seed).eval()


@pytest.fixture(scope="module")
def network() -> DualFormer:
    return small()


def export(model: nn.Module, path: Path, *, batch: int | None, size: Size3 = (4, 32, 32)) -> str:
    video = torch.zeros(batch or 2, 3, *size)
    dynamic = None if batch else ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(model, (video,), dynamic_shapes=dynamic), path)
    return str(path)


@pytest.mark.parametrize("batch", [None, 2])
def test_a_program_teaches_what_its_network_says(network: DualFormer, tmp_path: Path, batch: int | None):
    path = export(network, tmp_path / "teacher.pt2", batch=batch)
    teacher = open_teacher(str(path), tokens=False, classes=CLASSES, clips=PRE)
    teacher.place(torch.device("cpu"))
    said = teacher(clips(), tokens=False)
    assert said.tokens is None and not said.clip.requires_grad
    with torch.no_grad():
        assert torch.allclose(said.clip, network(normalize(clips(), PRE)), atol=1e-5)
    assert "an exported model of 3 classes, taken to be those of the data in the same order" in teacher.lines[0]


def test_a_student_learns_from_a_program_at_clip_level_only(network: DualFormer, tmp_path: Path):
    path = export(network, tmp_path / "teacher.pt2", batch=None)
    student = small(seed=0)
    config = TrainConfig(data="videos", teacher=path, distill="clip")
    objective = make_objective(config, False, student, PRE, classes=CLASSES).eval()
    step = objective({"clip": clips(), "label": torch.arange(3)})
    with torch.no_grad():
        taught = network(normalize(clips(), PRE)).log_softmax(1)
    expected = F.kl_div(step.logits.log_softmax(1), taught, reduction="batchmean", log_target=True)
    assert step.parts["teacher"].item() == pytest.approx(expected.item(), rel=1e-4)
    step.loss.backward()
    assert set(objective.state_dict()) == {f"model.{key}" for key in student.state_dict()}
    with pytest.raises(ValueError, match=r"teacher\.pt2` is an exported model, .*: say `distill=clip`"):
        make_objective(config.replace(distill="both"), False, student, PRE, classes=CLASSES)


def test_clips_are_fitted_to_the_size_that_a_program_takes(tmp_path: Path):
    network = small(clip=(2, 48, 48))
    path = export(network, tmp_path / "teacher.pt2", batch=None, size=(2, 48, 48))
    teacher = open_teacher(str(path), tokens=False, classes=CLASSES, clips=PRE)
    video = normalize(clips()[:, [1, 3]], PRE)
    frames = F.interpolate(video.transpose(1, 2).flatten(0, 1), (48, 48), mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = network(frames.unflatten(0, (3, 2)).transpose(1, 2))
    assert torch.allclose(teacher(clips(), tokens=False).clip, expected, atol=1e-5)
    assert "fitted to 2x48x48" in teacher.lines[1]


class Flat(nn.Module):
    """Takes what is no clip."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


class Whole(nn.Module):
    """Gives one row for all clips."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(0, 2, 3, 4))


def test_what_is_no_teacher_is_said(network: DualFormer, tmp_path: Path):
    def opened(path: str | Path) -> None:
        open_teacher(str(path), tokens=False, classes=CLASSES, clips=PRE)

    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt2: there is no such exported model"):
        opened(tmp_path / "nowhere.pt2")
    (tmp_path / "garbage.pt2").write_bytes(b"garbage")
    with pytest.raises(WeightsError, match=r"garbage\.pt2: not a file that torch\.export\.save wrote"):
        opened(tmp_path / "garbage.pt2")
    torch.save({"a": 1}, tmp_path / "dict.pt2")
    with pytest.raises(WeightsError, match=r"dict\.pt2: not a program that this PyTorch .* can load"):
        opened(tmp_path / "dict.pt2")
    image = torch.export.export(Flat(), (torch.zeros(2, 3, 8, 8),))
    torch.export.save(image, tmp_path / "image.pt2")
    with pytest.raises(TeacherError, match=r"image\.pt2: its input is 2x3x8x8, and clips are B 3 T H W"):
        opened(tmp_path / "image.pt2")
    with pytest.raises(TeacherError, match=r"whole\.pt2: it gives 3 for 2 clips, and not one row of class scores"):
        opened(export(Whole(), tmp_path / "whole.pt2", batch=2))
    other = small(5)
    with pytest.raises(WeightsError, match=r"training\.pt2: it was exported in training mode: call eval"):
        opened(export(other.train(), tmp_path / "training.pt2", batch=2))
    with pytest.raises(TeacherError, match=r"five\.pt2: it gives scores of 5 classes"):
        opened(export(other.eval(), tmp_path / "five.pt2", batch=2))


def test_onnx_without_its_runtime_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "teacher.onnx").write_bytes(b"\x08\x07")  # a message that says no more than its version
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(WeightsError, match=r"ONNX Runtime is not installed .*: pip install 'dualformer\[export\]'"):
        open_teacher(str(tmp_path / "teacher.onnx"), tokens=False, classes=CLASSES, clips=PRE)


@pytest.mark.parametrize("batch", [None, 2])
def test_an_onnx_model_teaches_what_its_network_says(network: DualFormer, tmp_path: Path, batch: int | None):
    pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
    pytest.importorskip("onnxscript", reason="the extra [export] is not installed")
    path = tmp_path / "teacher.onnx"
    dynamic = None if batch else ({0: torch.export.Dim("batch")},)
    torch.onnx.export(network, (torch.zeros(2, 3, 4, 32, 32),), path, dynamo=True, dynamic_shapes=dynamic)
    teacher = open_teacher(str(path), tokens=False, classes=CLASSES, clips=PRE)
    teacher.place(torch.device("cpu"))
    with torch.no_grad():
        expected = network(normalize(clips(), PRE))
    assert torch.allclose(teacher(clips(), tokens=False).clip, expected, atol=1e-5)
    (tmp_path / "garbage.onnx").write_bytes(b"garbage")
    with pytest.raises(WeightsError, match=r"garbage\.onnx: not an ONNX model, or a damaged one"):
        open_teacher(str(tmp_path / "garbage.onnx"), tokens=False, classes=CLASSES, clips=PRE)
    (tmp_path / "garbage.onnx").write_bytes(b"\x08\x07")
    with pytest.raises(WeightsError, match=r"garbage\.onnx: ONNX Runtime cannot read it"):
        open_teacher(str(tmp_path / "garbage.onnx"), tokens=False, classes=CLASSES, clips=PRE)
