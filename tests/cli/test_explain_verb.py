"""``dualformer explain``: the API's explanation, files where they are said to be, readable failures."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from dualformer.cli.main import main
from dualformer.explain.explain_video import explain_video
from dualformer.export.export_data import Clips
from dualformer.export.export_weights import export_weights
from dualformer.inference.recognizer import Recognizer
from dualformer.model.config import Config, Stage
from dualformer.model.network import DualFormer
from dualformer.video.clip_reader import read_views
from dualformer.video.encode import write_video
from dualformer.video.preprocessing import kinetics
from dualformer.weights.card import Card
from small_weights import save_small_weights

CLASSES = ("blink", "down", "left", "right", "round", "up")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``nano.safetensors`` and ``clip.mp4``."""
    pytest.importorskip("captum", reason="the extra [explain] is not installed")
    home = tmp_path_factory.mktemp("home")
    save_small_weights(home / "nano.safetensors", CLASSES, size=64)
    frames = np.random.default_rng(0).integers(0, 256, (20, 6, 8, 3), dtype=np.uint8)
    write_video(home / "clip.mp4", frames.repeat(16, axis=1).repeat(16, axis=2), fps=25)
    return home


def explain(home: Path, *arguments: str, weights: str = "nano.safetensors") -> int:
    return main(["explain", str(home / "clip.mp4"), "--weights", str(home / weights), "--device", "cpu", *arguments])


def test_it_says_and_writes_what_the_api_returns(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(home, "--out", str(tmp_path), "--label", "round", "--stage", "2", "--check", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    recognizer = Recognizer.load(home / "nano.safetensors", device="cpu")
    expected = explain_video(recognizer, home / "clip.mp4", label="round", stage=2)
    files, check = said.pop("files"), said.pop("check")
    written = json.loads((tmp_path / "gradcam.json").read_text())
    assert written.pop("check") == check
    assert said == written == {key: value for key, value in expected.to_dict().items() if key != "check"}
    assert len(check["random"]) == 8
    assert check["whole"] == pytest.approx(said["probability"], abs=1e-6)
    assert files == {kind: str(tmp_path / f"gradcam.{ending}") for kind, ending in (
        ("video", "mp4"), ("gif", "gif"), ("sheet", "png"), ("map", "npy"), ("json", "json"),
    )}  # fmt: skip
    assert all(Path(path).stat().st_size > 0 for path in files.values())
    assert np.array_equal(np.load(files["map"]), expected.map)


def test_it_prints_what_was_explained_and_what_to_try_next(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert explain(home) == 0
    printed = capsys.readouterr().out
    label = Recognizer.load(home / "nano.safetensors", device="cpu", views="1x1")(home / "clip.mp4")
    assert f"\n{label.label}  {label.probability:.1%} for the clip of frames 6 to 12, 0.2 to 0.5 s\n" in printed
    assert "Grad-CAM, last half of stage 4: a map of 2x2x2 tokens" in printed
    assert str(Path("explained") / "clip" / "gradcam.mp4") in printed
    assert (tmp_path / "explained" / "clip" / "gradcam.gif").is_file()
    assert re.search(r"next: dualformer explain .*clip.mp4.* --stage 2", printed)
    assert explain(home, "--stage", "2", "--clip", "3", "--label", "up", "--check") == 0
    printed = capsys.readouterr().out
    assert "for the clip of frames 13 to 19" in printed
    assert "the most likely class is " in printed or "\nup  " in printed
    assert "check: " in printed and "(8 draws: " in printed
    assert explain(home, "--method", "pyramid", "--stage", "1", "--token", "1,9,2", "--at", "0.2") == 0
    printed = capsys.readouterr().out
    assert "where token 1,9,2 of 2×16×16 looks, stage 1 block 1 half 2" in printed
    assert (tmp_path / "explained" / "clip" / "pyramid.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--label", "jump"], 2, "'jump' is none of the 6 classes"),
        (["--token", "1,2"], 2, "--token is three whole numbers t,y,x, as in 4,3,3, not '1,2'"),
        (["--token", "0,0,0"], 2, "gradcam takes no token"),
        (["--method", "pyramid", "--check"], 2, "--check goes with --method gradcam"),
        (["--method", "pyramid", "--token", "0,7,0"], 2, "it has 2×4×4 tokens"),
        (["--at", "99"], 2, "lasts 0.80 s"),
        (["--method", "smoothgrad"], 2, "smoothgrad"),
        (["--out", "{home}/clip.mp4"], 1, "clip.mp4"),
    ],
)
def test_failures_are_one_line(
    home: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(home, *(argument.format(home=home) for argument in arguments)) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_bad_file_is_named(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"")
    assert main(["explain", str(bad), "--weights", str(home / "nano.safetensors")]) == 1
    assert capsys.readouterr().err == f"dualformer: {bad}: the file is empty (0 bytes)\n"
    assert main(["explain", str(tmp_path / "absent.mp4"), "--weights", str(home / "nano.safetensors")]) == 2


def test_an_exported_model_says_that_it_cannot_explain(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages = (Stage(channels=32, depth=1, patch=(2, 8, 8)),)  # small, as exporting takes its time
    model = DualFormer(Config(stages=stages, clip=(4, 32, 32), num_classes=2), seed=0)
    pre = kinetics(frames=4, stride=2, size=32)
    card = Card(config=model.config, labels=("up", "down"), preprocessing=pre, provenance="a test", licence="")
    clips = Clips(views=read_views(home / "clip.mp4", pre, clips=2), source="two clips")
    export_weights(model, card, home / "nano.pt2", format="torch", clips=clips)
    assert explain(home, weights="nano.pt2") == 2
    error = capsys.readouterr().err
    assert f"{home / 'nano.pt2'} is an exported model, which cannot explain" in error
    assert "explain with the weights that it was made from" in error
    assert error.count("\n") == 1


def test_real_videos_of_every_kind_are_explained(home: Path, shared: Path, tmp_path: Path) -> None:
    weights = Recognizer.load(home / "nano.safetensors", device="cpu")
    for name in ("rotated_90_17frames.mp4", "vp9_no_duration.webm", "variable_frame_rate.mp4", "one_frame.mp4"):
        explanation = explain_video(weights, shared / "videos" / name)
        files = explanation.save(tmp_path / name)
        assert explanation.map.shape == (4, 64, 64)
        assert files["gif"].stat().st_size > 1000
