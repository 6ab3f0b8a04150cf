"""Exported models behind the faces that weights have: `Recognizer`, evaluation, teachers, and the verbs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made_exports import LABELS, PRE, WAYS, Made, noise

from dualformer.cli.main import main
from dualformer.datasets.splits import open_videos
from dualformer.evaluation.evaluate import evaluate
from dualformer.inference.recognizer import Recognizer
from dualformer.training.teacher import TeacherError, open_teacher
from dualformer.video.preprocessing import kinetics
from dualformer.video.transforms import normalize
from dualformer.weights.errors import WeightsError
from dualformer.weights.exported.export_card import ExportFormat, ExportPrecision
from dualformer.weights.exported.exported_network import load_exported
from dualformer.weights.safetensors_file import load_weights

FORMATS: tuple[ExportFormat, ...] = ("torch", "onnx", "openvino")
NEAR = {"fp32": 1e-4, "bf16": 0.03, "int8": 0.1}


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_a_recognizer_says_the_same_of_a_file(
    made: Made, videos: Path, way: tuple[ExportFormat, ExportPrecision]
) -> None:
    expected = Recognizer.load(made.weights, device="cpu", views="2x3")
    exported = Recognizer.load(made.reports[way].path, device="cpu", views="2x3", views_per_batch=5)
    assert exported.precision == {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}[way[1]]
    assert (exported.labels, exported.preprocessing, exported.device) == (LABELS, PRE, torch.device("cpu"))
    for path in sorted((videos / "data").glob("*/0.mp4")):
        ours, theirs = expected(path), exported(path)
        np.testing.assert_allclose(theirs.probabilities, ours.probabilities, atol=NEAR[way[1]])
        if way[1] == "fp32":
            assert [label for label, _ in theirs.top(5)] == [label for label, _ in ours.top(5)]


def test_what_an_exported_model_cannot_follow_is_said(made: Made) -> None:
    path = made.reports["openvino", "bf16"].path
    assert Recognizer.load(path, device="cpu", precision="bfloat16").precision == "bfloat16"
    with pytest.raises(ValueError, match=r"bf16-openvino was exported to compute in bfloat16, .* `precision=fp32`"):
        Recognizer.load(path, device="cpu", precision="float32")
    with pytest.raises(ValueError, match="is an exported model: load the weights"):
        _ = Recognizer.load(path, device="cpu").model
    with pytest.raises(ValueError, match="gives one answer for a clip: export weights with `head=temporal`"):
        Recognizer.load(path, device="cpu").predict_steps(noise(1))
    with pytest.raises(ValueError, match="is a model for openvino, which runs on the CPU only: say cpu"):
        load_exported(path, device="cuda")
    with pytest.raises(ValueError, match="threads is for exported models"):
        Recognizer.load(made.weights, device="cpu", threads=2)
    with pytest.raises(ValueError, match="is an exported model, compiled by its own library: leave `compile_mode` out"):
        Recognizer.load(path, device="cpu", compile_mode="default")
    assert Recognizer.load(path, threads=1).device.type == "cpu"  # "auto" goes where it can


@pytest.mark.parametrize("kind", FORMATS)
def test_evaluation_measures_an_exported_model(made: Made, videos: Path, kind: ExportFormat) -> None:
    several = open_videos(videos / "data")
    ours = evaluate(made.model, made.card, several, views="1x3")
    network = load_exported(made.reports[kind, "fp32"].path)
    theirs = evaluate(network, network.card, several, views="1x3", batch_size=4)
    np.testing.assert_allclose(theirs.probabilities, ours.probabilities, atol=1e-4)
    assert theirs.figures["top1"] == ours.figures["top1"]
    assert theirs.figures["precision"] == ours.figures["precision"] == "float32"
    with pytest.raises(ValueError, match="cannot in bfloat16"):
        evaluate(network, network.card, several, precision="bfloat16")


def test_the_verbs_take_exported_models(made: Made, videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = str(videos / "data" / "up" / "0.mp4")
    said = {}
    for path in (made.weights, *(made.reports[kind, "fp32"].path for kind in FORMATS)):
        assert main(["predict", video, "--weights", str(path), "--json", "--device", "cpu"]) == 0
        [line] = capsys.readouterr().out.splitlines()
        said[path.name] = json.loads(line)["labels"]
    assert len(said) == 4
    names = [[entry["label"] for entry in labels] for labels in said.values()]
    assert names == [names[0]] * 4 and len(names[0]) == 5
    for labels in said.values():
        for entry, expected in zip(labels, said[made.weights.name], strict=True):
            assert entry["probability"] == pytest.approx(expected["probability"], abs=1e-4)
    folder = made.reports["openvino", "int8"].path
    assert main(["evaluate", str(folder), "--data", str(videos / "data"), "--json", "--workers", "0"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["precision"] == "int8" and figures["report"] == str(folder.parent / "evaluation")
    for command in (
        ["predict", video, "--weights", str(folder)],
        ["evaluate", str(folder), "--data", str(videos / "data")],
    ):
        assert main([*command, "--compile", "default"]) == 2
        assert "-openvino is an exported model, compiled by its own library: leave --compile" in capsys.readouterr().err
    assert main(["info", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "for openvino in int8, any number of views at a time" in printed and "6, blink, down, left, …" in printed
    assert main(["info", str(folder), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["exported"]["precision"] == "int8" and facts["card"]["labels"] == list(LABELS)
    assert main(["predict", video, "--weights", str(folder), "--device", "cuda"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("embed x.mp4 --weights WEIGHTS --out x.npy", "gives no features: embed with"),
        ("explain x.mp4 --weights WEIGHTS", "cannot explain, as it has no gradients: explain with"),
        ("export WEIGHTS --format onnx", "is exported already: export"),
        ("convert WEIGHTS x.safetensors --clip 4x32x32", "cannot be changed: convert"),
        ("teach WEIGHTS --data x --out x", "scores whole clips only: teach with"),
    ],
)
def test_other_verbs_refuse_exported_models_at_once(
    command: str, said: str, kind: ExportFormat, made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(made.reports[kind, "fp32"].path)
    assert main([path if word == "WEIGHTS" else word for word in command.split()]) == 2
    shown = capsys.readouterr()
    told = f"{path} is an exported model, which {said} the weights that it was made from"
    assert shown.err == f"dualformer: {told}\n" and not shown.out


def test_an_exported_file_is_no_weights_to_start_from(made: Made) -> None:
    with pytest.raises(WeightsError, match=r"\.pt2: an exported model: give the weights that it was made from"):
        load_weights(made.reports["torch", "fp32"].path)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_teacher_with_a_card_knows_its_classes(made: Made, kind: ExportFormat) -> None:
    path = made.reports[kind, "fp32"].path
    classes = ("up", "blink", "round")
    teacher = open_teacher(str(path), classes=classes, clips=PRE, tokens=False)
    teacher.place(torch.device("cpu"))
    said = teacher(noise(3), tokens=False)
    with torch.no_grad():
        expected = made.model(normalize(noise(3), PRE))[:, [5, 0, 4]]
    assert said.tokens is None and torch.allclose(said.clip, expected, atol=1e-4)
    assert f"({kind}, fp32) of 6 classes matched by name, 3 of them not in the data" in teacher.lines[0]
    assert len(teacher.lines) == 1 and teacher.digest == made.reports[kind, "fp32"].digest
    with pytest.raises(TeacherError, match="it does not know 'fly' of the 2 classes"):
        open_teacher(str(path), tokens=False, classes=("up", "fly"), clips=PRE)
    with pytest.raises(ValueError, match="which knows whole clips only: say `distill=clip`"):
        open_teacher(str(path), classes=classes, clips=PRE, tokens=True)


def test_a_teacher_with_a_card_is_shown_clips_of_its_size(made: Made) -> None:
    path = made.reports["torch", "fp32"].path
    teacher = open_teacher(str(path), tokens=False, classes=LABELS, clips=kinetics(frames=8, stride=1, size=18))
    clips = torch.randint(0, 256, (2, 8, 18, 18, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    said = teacher(clips, tokens=False).clip
    frames = clips[:, [1, 3, 5, 7]].flatten(0, 1).permute(0, 3, 1, 2).float()
    resized = torch.nn.functional.interpolate(frames, (36, 36), mode="bilinear", antialias=True).round()
    views = resized.permute(0, 2, 3, 1).to(torch.uint8).unflatten(0, (2, 4))
    with torch.no_grad():
        expected = made.model(normalize(views, PRE))
    # Resizing 8-bit pixels rounds now and then to the other side.
    assert float((said - expected).abs().max()) < 0.02 * float(expected.abs().max())
    assert "8 frames thinned out to 4, resized from 18 to 36 pixels, normalised in its own way" in teacher.lines[1]
