"""The folder in which the blocks of a page run: everything that the pages call by name, small."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from dualformer.datasets.rendered import Scene, write_dataset
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model, preset_config
from dualformer.video.preprocessing import kinetics
from dualformer.weights.card import Card
from dualformer.weights.release import release_state
from dualformer.weights.safetensors_file import save_weights
from dualformer.weights.twins import twins_key
from shared_programs import shared_programs

__all__ = ["shared_programs"]

CLASSES = ("clap", "jump", "wave")
VIDEOS_PER_CLASS = 8


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copied by `home` for each page."""
    root = tmp_path_factory.mktemp("prepared")
    _videos(root / "MY_VIDEOS", CLASSES)
    _videos(root / "OTHER_VIDEOS", ("applause", "hop", "waving"), each=1)
    (root / "names.csv").write_text("class,label\napplause,clap\nhop,jump\nwaving,wave\n")
    shutil.copyfile(root / "MY_VIDEOS" / "clap" / "clap_0000.mp4", root / "CLIP.mp4")
    (root / "BROKEN_VIDEOS" / "clap").mkdir(parents=True)
    (root / "BROKEN_VIDEOS" / "clap" / "broken.mp4").write_bytes(b"not a video")
    with (root / "videos.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "batch"])
        for number, path in enumerate(sorted((root / "MY_VIDEOS").glob("*/*.mp4"))):
            writer.writerow([path.relative_to(root), path.parent.name, "AB"[number % 2]])
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=len(CLASSES), seed=0)
    card = Card(
        config=model.config,
        labels=CLASSES,
        preprocessing=kinetics(frames=4, stride=2, size=32),
        provenance="random",
        licence="",
    )
    save_weights(root / "runs" / "train" / "best.safetensors", model, card)
    tiny = create_model("dualformer_tiny", num_classes=len(CLASSES), seed=0)
    torch.save({"state_dict": release_state(tiny)}, root / "RELEASED.pth")
    small = create_model("dualformer_nano", clip=(8, 64, 64), num_classes=len(CLASSES), seed=0)
    torch.save({"state_dict": release_state(small)}, root / "SMALL_RELEASED.pth")
    _twins(root / "timm" / "twins_svt_small.in1k")
    Image.new("RGB", (300, 240), (200, 80, 20)).save(root / "PHOTO.jpg")
    (root / "LABELS.txt").write_text("\n".join(CLASSES) + "\n")
    return root


@pytest.fixture
def home(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blank_pictures: None, small_products: None
) -> Path:
    """A fresh copy of `prepared`, made the working directory."""
    folder = tmp_path / "home"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    return folder


def _twins(folder: Path) -> None:
    """Tensors of a narrow Twins-SVT network, laid out as on the hub."""
    config = preset_config("dualformer_nano", clip=(1, 224, 224), num_classes=1000)
    stages = (
        replace(stage, scales=tuple(replace(scale, function="full") for scale in stage.scales[:1]))
        for stage in config.stages
    )
    own = DualFormer(config.replace(stages=tuple(stages)), seed=0).state_dict()
    plain = {key: tensor[:, :, 0] if tensor.dim() == 5 else tensor for key, tensor in own.items()}
    folder.mkdir(parents=True)
    save_file({twins_key(key, "hub"): each.contiguous() for key, each in plain.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"architecture": "twins_svt_small"}')


def _videos(folder: Path, classes: tuple[str, ...], *, each: int = VIDEOS_PER_CLASS) -> None:
    """One folder per class of 32 frames of 32x32 pixels."""
    scene = Scene(size=32, frames=32, classes=("right", "right-left", "right-left-right"))
    write_dataset(folder / "made", scene, clips_per_class={"all": each}, seed=1)
    for motion, name in zip(scene.classes, classes, strict=True):
        (folder / name).mkdir()
        for number, path in enumerate(sorted((folder / "made" / "all" / motion).iterdir())):
            path.rename(folder / name / f"{name}_{number:04d}.mp4")
    shutil.rmtree(folder / "made")
