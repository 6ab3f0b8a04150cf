"""``dualformer convert``: from a released file to weights that load, from one clip to another, and wrong calls."""

import json
import pickle
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from dualformer.cli.main import main
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model
from dualformer.video.preprocessing import Preprocessing, kinetics
from dualformer.weights.card import Card
from dualformer.weights.release import release_state
from dualformer.weights.resize_clip import inflate
from dualformer.weights.safetensors_file import load_weights, read_card, save_weights
from dualformer.weights.twins import twins_key


@pytest.fixture(scope="module")
def model() -> DualFormer:
    return create_model("dualformer_nano", clip=(8, 64, 64), num_classes=3, seed=0).eval()


@pytest.fixture
def release(tmp_path: Path, model: DualFormer) -> Path:
    torch.save({"state_dict": release_state(model)}, tmp_path / "release.pth")
    return tmp_path / "release.pth"


def test_a_released_file_becomes_weights(
    release: Path, tmp_path: Path, model: DualFormer, capsys: pytest.CaptureFixture[str]
) -> None:
    out, labels = tmp_path / "out" / "w.safetensors", tmp_path / "labels.txt"
    labels.write_text("wave\nclap\nnod\n")
    arguments = ["--preset", "dualformer_nano", "--labels", str(labels), "--preprocessing", "transfer"]
    code = main(["convert", str(release), str(out), *arguments, "--licence", "mit", "--provenance", "a friend"])
    printed = capsys.readouterr().out
    assert code == 0
    for expected in ("dualformer_nano", "3 classes", "8x64x64 (by its kernels)", "stage 4: 256", f"weights: {out}"):
        assert expected in printed
    assert f"dualformer info {out}" in printed
    loaded, card = load_weights(out)
    assert card.labels == ("wave", "clap", "nod")
    assert (card.licence, card.provenance) == ("mit", "a friend")
    assert card.preprocessing.std == (1.0, 1.0, 1.0)
    clip = torch.randn(1, 3, 8, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(clip), model(clip))


def test_without_labels_classes_are_numbers(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "w.safetensors"
    assert main(["convert", str(release), str(out), "--preprocessing", "kinetics", "--clip", "8x64x64"]) == 0
    assert "called by their numbers: no --labels given" in capsys.readouterr().out
    assert read_card(out).labels == ("0", "1", "2")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--preset", "dualformer_tiny"], 1, "its width by stage is (32, 64, 128, 256)"),
        (["--preset", "tiny"], 2, "unknown model 'tiny'; there are dualformer_nano"),
        (["--clip", "16x64x64"], 1, "leave --clip out"),
        (["--clip", "16"], 2, "32x224x224"),
        (["--labels", "none.txt"], 2, "none.txt: there is no such file of labels"),
        (["--stride", "2"], 2, "--stride is for weights files"),
    ],
)
def test_wrong_calls(
    release: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    out = tmp_path / "w.safetensors"
    assert main(["convert", str(release), str(out), "--preprocessing", "kinetics", *arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_too_few_labels(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels.txt").write_text("a\nb\n")
    labels = ["--labels", str(tmp_path / "labels.txt")]
    assert main(["convert", str(release), str(tmp_path / "w"), "--preprocessing", "kinetics", *labels]) == 2
    assert "2 labels do not fit a classifier of 3 classes" in capsys.readouterr().err


def test_a_release_without_preprocessing(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(release), str(tmp_path / "w")]) == 2
    assert "say it with --preprocessing kinetics or --preprocessing transfer" in capsys.readouterr().err


def save_native(path: Path, model: DualFormer, pre: Preprocessing) -> Path:
    card = Card(config=model.config, labels=("a", "b", "c"), preprocessing=pre, provenance="a test", licence="mit")
    save_weights(path, model, card)
    return path


def test_images_become_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = create_model("dualformer_nano", clip=(1, 64, 64), num_classes=3, seed=0).eval()
    path = save_native(tmp_path / "images.safetensors", images, kinetics(frames=1, stride=1, size=64))
    out = tmp_path / "videos.safetensors"
    assert main(["convert", str(path), str(out), "--clip", "16x64x64", "--stride", "4"]) == 0
    printed = capsys.readouterr().out
    for expected in (
        "clips of 1x64x64 → 16x64x64",
        "  a network of images, inflated to one of videos",
        "  patch kernels, resampled: stage 1 1x4x4 → 2x4x4",
        "preprocessing: 16 frames, one in 4",
        f"weights: {out}",
    ):
        assert expected in printed
    loaded, card = load_weights(out)
    assert card.preprocessing == kinetics(frames=16, stride=4, size=64)
    assert card.provenance == "inflated from a network of images of 1x64x64: a test"
    wanted = inflate(images, (16, 64, 64)).state_dict()
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in loaded.state_dict().items())


def test_weights_for_another_clip(model: DualFormer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_native(tmp_path / "w.safetensors", model, kinetics(frames=8, size=64))
    out = tmp_path / "shorter.safetensors"
    assert main(["convert", str(path), str(out), "--clip", "4x32x32"]) == 0
    assert "fine pyramid kernels, resampled: stage 1 2x2x2 → 1x1x1" in capsys.readouterr().out
    loaded, card = load_weights(out)
    assert (card.config.clip, card.preprocessing) == ((4, 32, 32), kinetics(frames=4, size=32))
    clip = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(clip), model(clip), atol=1e-5, rtol=1e-5)
    assert main(["convert", str(path), str(out), "--clip", "8x64x64"]) == 0
    assert "clips of 8x64x64 → 8x64x64: nothing to change" in capsys.readouterr().out
    loaded, card = load_weights(out)
    assert card == read_card(path)
    assert all(torch.equal(tensor, model.state_dict()[key]) for key, tensor in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "w.safetensors: say what to cut these weights for, such as --clip 16x224x224"),
        (["--clip", "16x64"], 2, "32x224x224"),
        (["--clip", "8x64x32"], 2, "8x64x32 is not square"),
        (["--clip", "8x64x64", "--stride", "0"], 2, "stride must be a whole number of at least 1, not 0"),
        (["--clip", "8x64x64", "--labels", "l", "--licence", "mit"], 2, "--labels, --licence: only for released"),
    ],
)
def test_wrong_calls_for_weights_files(
    model: DualFormer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    path, out = save_native(tmp_path / "w.safetensors", model, kinetics(frames=8, size=64)), tmp_path / "out"
    assert main(["convert", str(path), str(out), *arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "content", "code", "message"),
    [
        ("none.pth", None, 2, "none.pth: there is no such checkpoint"),
        ("none.safetensors", None, 2, "no such weights file or folder"),
        ("cut.pth", b"PK\x03\x04", 1, "not a readable PyTorch checkpoint"),
        ("page.pth", b"<!DOCTYPE html>", 1, "not a PyTorch checkpoint"),
        ("other.pkl", pickle.dumps(Counter("abc")), 1, "or one that holds more than tensors and plain values"),
        ("640.pth", b"\x80\x02\0\0\0\0\0\0{", 1, "a damaged or incomplete safetensors file"),
        ("page.safetensors", b"<!DOCTYPE html>", 1, "an HTML page"),
        ("empty", b"", 1, "an empty file"),
    ],
)
def test_files_that_are_neither(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, code: int, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    extra = ["--preprocessing", "kinetics"] if name.endswith(".pth") else ["--clip", "8x64x64"]
    assert main(["convert", str(tmp_path / name), str(tmp_path / "out"), *extra]) == code
    assert message in capsys.readouterr().err


def test_what_is_written_is_not_called_a_checkpoint(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(release), str(tmp_path / "q.pth"), "--preprocessing", "kinetics"]) == 2
    said = capsys.readouterr()
    assert "q.pth: what is written is no checkpoint but a weights file: name it q.safetensors" in said.err
    assert "reading" not in said.out and not (tmp_path / "q.pth").exists()


def test_a_checkpoint_of_nothing_is_not_sent_to_convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(None, tmp_path / "none.pth")
    assert main(["convert", str(tmp_path / "none.pth"), str(tmp_path / "w"), "--preprocessing", "kinetics"]) == 1
    assert "none.pth: not a released DualFormer checkpoint: it holds nothing" in capsys.readouterr().err


def test_a_checkpoint_is_read_once(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load, loaded = torch.load, list[object]()
    monkeypatch.setattr(torch, "load", lambda *given, **options: loaded.append(given[0]) or load(*given, **options))
    assert main(["convert", str(release), str(tmp_path / "w"), "--preprocessing", "kinetics"]) == 0
    assert loaded == [release]


def test_a_checkpoint_or_weights_whatever_the_name(release: Path, model: DualFormer, tmp_path: Path) -> None:
    native = save_native(tmp_path / "native.pth", model, kinetics(frames=8, size=64))
    assert main(["convert", str(native), str(tmp_path / "a"), "--clip", "4x64x64"]) == 0
    assert (
        main(["convert", str(release.rename(tmp_path / "r")), str(tmp_path / "b"), "--preprocessing", "kinetics"]) == 0
    )
    assert read_card(tmp_path / "a").config.clip == (4, 64, 64)
    assert read_card(tmp_path / "b").config.clip == (8, 64, 64)


@pytest.fixture(scope="module")
def twins() -> dict[str, torch.Tensor]:
    """Tensors of a narrow Twins-SVT network of 1,000 classes, random, by the hub's names."""
    model = create_model("dualformer_nano", clip=(1, 224, 224), num_classes=1000, seed=5)
    state = {twins_key(key, "hub"): tensor for key, tensor in model.state_dict().items() if ".scales." not in key}
    state = {key: tensor[:, :, 0].contiguous() if tensor.dim() == 5 else tensor for key, tensor in state.items()}
    for stage, (channels, kernel) in enumerate(((32, 8), (64, 4), (128, 2))):
        state[f"blocks.{stage}.1.attn.sr.weight"] = torch.randn(channels, channels, kernel, kernel) / channels
        state[f"blocks.{stage}.1.attn.sr.bias"] = torch.zeros(channels)
    return state


@pytest.fixture
def hub_folder(tmp_path: Path, twins: dict[str, torch.Tensor]) -> Path:
    """A folder as the hub has it."""
    folder = tmp_path / "twins_svt_small.in1k"
    folder.mkdir()
    save_file(twins, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"architecture": "twins_svt_small", "num_classes": 1000}))
    return folder


def test_imagenet_weights_of_twins_label_a_picture(
    hub_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "images.safetensors"
    assert main(["convert", str(hub_folder), str(out)]) == 0
    printed = capsys.readouterr().out
    for expected in ("1000 classes, ImageNet's names", "M parameters, ", f"predict PICTURE --weights {out}"):
        assert expected in printed
    card = read_card(out)
    assert card.config.norm_eps == 1e-6
    assert card.licence == "Apache-2.0"
    assert card.provenance.startswith("Twins-SVT checkpoint twins_svt_small, sha256 ")
    Image.new("RGB", (300, 250), (200, 80, 20)).save(tmp_path / "photo.jpg")
    answers: list[object] = []
    for weights in (out, hub_folder):  # the file of the hub as it is gives the same
        assert (
            main(["predict", str(tmp_path / "photo.jpg"), "--weights", str(weights), "--device", "cpu", "--json"]) == 0
        )
        answers.append(json.loads(capsys.readouterr().out)["labels"])
    assert answers[0] == answers[1]
    assert {answer["label"] for answer in answers[0]} <= set(card.labels)  # type: ignore[index,union-attr]


@pytest.mark.parametrize("style", ["hub", "mmpretrain"])
def test_checkpoints_of_twins_in_both_layouts(
    tmp_path: Path, twins: dict[str, torch.Tensor], capsys: pytest.CaptureFixture[str], style: str
) -> None:
    if style == "mmpretrain":
        own = create_model("dualformer_nano", clip=(1, 224, 224), num_classes=1000, seed=5).state_dict()
        keys = [key for key in own if ".scales." not in key or key.endswith("scales.0.conv.weight")]
        keys += [key.replace("weight", "bias") for key in keys if ".scales." in key]
        twins = {twins_key(key, "mmpretrain"): twins[twins_key(key, "hub")] for key in keys}
    torch.save({"meta": {}, "state_dict": twins}, tmp_path / "twins.pth")
    out = tmp_path / "w.safetensors"
    assert main(["convert", str(tmp_path / "twins.pth"), str(out), "--clip", "16x224x224", "--licence", "mit"]) == 0
    assert "a network of images, inflated to one of videos" in capsys.readouterr().out
    card = read_card(out)
    assert (card.licence, card.config.clip) == ("mit", (16, 224, 224))
    assert [scale.function for stage in card.config.stages for scale in stage.scales] == ["full"] * 3
    standard = tmp_path / "s.safetensors"
    assert main(["convert", str(tmp_path / "twins.pth"), str(standard), "--layout", "standard"]) == 0
    printed = capsys.readouterr().out
    assert "standard layout: 8,864 parameters of pyramids made anew" in printed and "weights kept" not in printed
    assert main(["convert", "twins.pth", str(standard), "--layout", "standart"]) == 2
    printed = capsys.readouterr().err
    assert "'standart'" in printed and "Expected one of ('exact', 'standard')." in printed and "None" not in printed
    again = tmp_path / "again.safetensors"  # of a converted file, too
    assert main(["convert", str(out), str(again), "--layout", "standard"]) == 0
    assert [len(stage.scales) for stage in read_card(again).config.stages] == [2, 2, 1, 0]
    assert [len(stage.scales) for stage in read_card(standard).config.stages] == [2, 2, 1, 0]


def test_pyramids_are_fitted_where_it_is_asked_for(
    hub_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(4):
        Image.new("RGB", (240, 230), (60 * number, 80, 20)).save(tmp_path / "pictures" / f"{number}.jpg")
    out, fit = tmp_path / "w.safetensors", ["--fit", str(tmp_path / "pictures"), "--fit-steps", "1", "--workers", "0"]
    assert main(["convert", str(hub_folder), str(out), "--layout", "standard"]) == 0
    assert "fitting" not in capsys.readouterr().out and "fitted" not in read_card(out).provenance
    assert main(["convert", str(hub_folder), str(out), "--layout", "standard", *fit, "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    for expected in (
        "fitting the pyramids on 4 files",
        "before: cosine of the features",
        "after:  cosine of the features",
        "agreement with the exact layout on 1 file that was not trained on",
    ):
        assert expected in printed
    assert read_card(out).provenance.endswith("; the pyramids fitted on pictures")
    assert main(["convert", str(hub_folder), str(out), *fit]) == 2
    assert "--fit goes with --layout standard" in capsys.readouterr().err
    for option in (("--fit-steps", "9"), ("--device", "cpu"), ("--workers", "0")):  # which would do nothing
        assert main(["convert", str(hub_folder), str(out), "--layout", "standard", *option]) == 2
        assert f"{option[0]} is for --fit, which is not given" in capsys.readouterr().err
    assert main(["convert", "released.pth", str(out), "--preprocessing", "kinetics", *fit]) == 2
    assert "--fit goes with --layout standard" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--preset", "dualformer_tiny"], 2, "--preset: only for released DualFormer checkpoints"),
        (["--preprocessing", "kinetics"], 2, "--preprocessing: only for released DualFormer checkpoints"),
        (["--stride", "2"], 2, "--stride goes with --clip"),
    ],
)
def test_wrong_calls_for_twins(
    hub_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert main(["convert", str(hub_folder), str(tmp_path / "out"), *arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_layouts_are_of_twins(
    release: Path, model: DualFormer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    native = save_native(tmp_path / "native.safetensors", model, kinetics(frames=8, size=64))
    for weights, layout, message in (
        (release, "exact", "--layout is for Twins-SVT weights"),
        (native, "exact", "--layout exact is for Twins-SVT weights"),
        (native, "standard", "this network has another pyramid"),
    ):
        pre = ["--preprocessing", "kinetics"] if weights == release else []
        assert main(["convert", str(weights), str(tmp_path / "out"), "--layout", layout, *pre]) == 2
        assert message in capsys.readouterr().err
