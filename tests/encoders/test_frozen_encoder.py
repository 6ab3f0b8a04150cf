"""Encoders of `transformers`: every kind from a folder, tokens that are the model's own, and what is said otherwise."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_encoders import CROPPED, KINDS, NORMALISED, RESCALED, SMALL, save_encoder
from torch import Tensor

from dualformer.encoders.frozen_encoder import ARCHITECTURES, EncoderError, open_encoder
from dualformer.video.transforms import resize, resize_short_side, square_crops

FULL = {"siglip": "siglip_vision_model", "siglip2": "siglip2_vision_model", "clip": "clip_vision_model"}
"""Models of texts and pictures, whose vision part is taken."""


def pixels(clips: Tensor, settings: dict[str, Any]) -> Tensor:
    """n T H W 3 as n T 3 H W, as the processor's settings say."""
    video = clips.float() * settings["rescale_factor"]
    if settings.get("offset"):
        video = video - 1
    if settings["do_normalize"]:
        video = (video - torch.tensor(settings["image_mean"])) / torch.tensor(settings["image_std"])
    return video.permute(0, 1, 4, 2, 3)


def own_patches(model: Any, kind: str, video: Tensor) -> Tensor:
    """What the model itself gives of the patches of pixels n T 3 H W, with loops: n t h w D."""
    if kind in ("vjepa2", "videoprism_vision_model"):
        found = model(pixel_values_videos=video).last_hidden_state
        return found.unflatten(1, (-1, 4, 4))
    if kind in ("videomae", "vivit", "timesformer"):
        found = model(pixel_values=video).last_hidden_state
        if kind == "timesformer":
            return found[:, 1:].unflatten(1, (4, 4, 4)).permute(0, 3, 1, 2, 4)
        return found[:, -32:].unflatten(1, (2, 4, 4))
    frames = []
    for frame in video.unbind(1):
        given: dict[str, Tensor] = {"pixel_values": frame}
        if kind == "siglip2_vision_model":
            from transformers.models.siglip2.image_processing_pil_siglip2 import convert_image_to_patches

            rows = np.stack([convert_image_to_patches(one, 8) for one in frame.numpy()])
            given = {
                "pixel_values": torch.from_numpy(rows),
                "pixel_attention_mask": torch.ones(len(rows), 16, dtype=torch.long),
                "spatial_shapes": torch.tensor([[4, 4]] * len(rows)),
            }
        frames.append(model(**given).last_hidden_state[:, -16:].unflatten(1, (4, 4)))
    return torch.stack(frames, dim=1)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_those_of_the_model_itself(kind: str, tmp_path: Path) -> None:
    model = save_encoder(tmp_path / "encoder", kind)
    encoder = open_encoder(str(tmp_path / "encoder"))
    frames = encoder.preprocessing.frames
    assert frames == (4 if ARCHITECTURES[kind].frames else 8)
    clips = torch.randint(0, 256, (2, frames, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own = own_patches(model, kind, pixels(clips, KINDS[kind][3]))
    found = encoder(clips)
    assert found.shape == (2, *encoder.grid, encoder.width) == own.shape
    assert torch.allclose(found, own, atol=1e-5), (found - own).abs().max()
    assert own.std(dim=(1, 2, 3)).mean() > 0.05  # tokens differ from place to place, so that their order is seen
    assert len(encoder.digest) == 64


def test_every_kind_that_is_known_is_tried() -> None:
    assert set(ARCHITECTURES) == {*KINDS, *FULL}


@pytest.mark.parametrize("kind", FULL)
def test_the_vision_part_of_a_model_of_texts_is_taken(kind: str, tmp_path: Path) -> None:
    import transformers

    _, _, vision, shown = KINDS[FULL[kind]]
    text = {key: value for key, value in SMALL.items() if key != "image_size"} | {"vocab_size": 20}
    name = {"siglip": "Siglip", "siglip2": "Siglip2", "clip": "CLIP"}[kind]
    config = getattr(transformers, f"{name}Config")(vision_config=vision, text_config=text)
    model = getattr(transformers, f"{name}Model")(config).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(shown))
    encoder = open_encoder(str(tmp_path))
    clips = torch.randint(0, 256, (1, 8, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        own = own_patches(model.vision_model, FULL[kind], pixels(clips, shown))
    assert torch.allclose(encoder(clips), own, atol=1e-5)


def test_the_encoder_of_a_classifier_is_taken_and_weights_of_others_are_refused(tmp_path: Path) -> None:
    import transformers

    _, _, settings, shown = KINDS["videomae"]
    config = transformers.VideoMAEConfig(**settings)
    model = transformers.VideoMAEForVideoClassification(config).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(shown))
    clips = torch.randint(0, 256, (1, 4, 32, 32, 3), dtype=torch.uint8)
    assert open_encoder(str(tmp_path))(clips).shape == (1, 2, 4, 4, 32)
    other = save_encoder(tmp_path / "other", "dinov2")
    other.save_pretrained(tmp_path)
    config.save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match=r"weights of VideoMAEModel are missing or of another shape \(as embeddings"):
        open_encoder(str(tmp_path))


def test_many_tokens_are_averaged(tmp_path: Path) -> None:
    import transformers

    settings: dict[str, Any] = SMALL | {"patch_size": 4, "image_size": 56, "num_frames": 20, "tubelet_size": 1}
    model = transformers.VideoMAEModel(transformers.VideoMAEConfig(**settings)).eval()
    model.save_pretrained(tmp_path)
    shown = {"size": 56, "do_center_crop": False} | NORMALISED
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(shown))
    encoder = open_encoder(str(tmp_path))
    clips = torch.randint(0, 256, (1, 20, 56, 56, 3), dtype=torch.uint8)
    found = encoder(clips)
    assert found.shape == (1, 8, 7, 7, 32) and encoder.grid == (8, 7, 7)
    whole = encoder.tokens(clips).unflatten(1, (20, 14, 14))
    # The second of eight parts of twenty frames are frames 2 to 4; a place is one of 7 x 7 squares of 2 x 2 tokens.
    assert torch.allclose(found[0, 1, 2, 3], whole[0, 2:5, 4:6, 6:8].mean(dim=(0, 1, 2)), atol=1e-5)


def test_pictures_are_cut_or_squashed_as_the_processor_says(tmp_path: Path) -> None:
    save_encoder(tmp_path / "cut", "dinov2")
    save_encoder(tmp_path / "squashed", "siglip_vision_model")
    picture = torch.randint(0, 256, (8, 60, 100, 3), dtype=torch.uint8)
    cut, squashed = (open_encoder(str(tmp_path / name)) for name in ("cut", "squashed"))
    small = resize_short_side(picture, 40)
    assert torch.equal(cut.fit_frames(small[None])[0], square_crops(small, 32)[0])
    small = resize_short_side(picture, 32)
    assert torch.equal(squashed.fit_frames(small[None])[0], resize(small, 32, 32))
    assert (cut.preprocessing.resize, cut.preprocessing.crop, cut.squash) == (40, 32, False)
    assert (squashed.preprocessing.resize, squashed.preprocessing.crop, squashed.squash) == (32, 32, True)


@pytest.mark.parametrize("name", ["video_preprocessor_config.json", "processor_config.json"])
def test_files_of_processors_of_several_versions_are_read(name: str, tmp_path: Path) -> None:
    save_encoder(tmp_path, "videomae", processor=name)
    if name == "processor_config.json":
        (tmp_path / name).write_text(json.dumps({"video_processor": CROPPED | NORMALISED | RESCALED}))
    pre = open_encoder(str(tmp_path)).preprocessing
    assert (pre.frames, pre.stride, pre.resize, pre.crop, pre.sampling) == (4, 4, 40, 32, "segments")
    assert pre.mean == pytest.approx((102, 127.5, 153)) and pre.std == pytest.approx((51, 63.75, 76.5))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (None, r"there is no preprocessor_config\.json in it, .*: fetch all of its \*\.json"),
        ({"size": {"shortest_edge": 32}}, r"how pictures are normalised \(image_mean, image_std\)"),
        (NORMALISED, r"it does not say the size of pictures \(size\)"),
        (NORMALISED | {"size": {"height": 32, "width": 48}}, "are no squares"),
        (NORMALISED | {"size": {"shortest_edge": 48}}, "pictures of 48 pixels, and the encoder takes 32"),
    ],
)
def test_what_a_processor_must_say(settings: dict[str, Any] | None, said: str, tmp_path: Path) -> None:
    save_encoder(tmp_path, "videomae")
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(settings)) if settings else path.unlink()
    with pytest.raises(EncoderError, match=said):
        open_encoder(str(tmp_path))


def test_what_is_no_encoder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder of an encoder, nor an id on the hub \(owner/name\)"):
        open_encoder(str(tmp_path / "nothing"))
    with pytest.raises(EncoderError, match=r"there is no config\.json in it"):
        open_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(EncoderError, match=r"of the kind 'bert' is not known here; known are videomae, vjepa2, vivit"):
        open_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "videomae"}))
    with pytest.raises(EncoderError, match=r"there are no weights in it \(\*\.safetensors\)"):
        open_encoder(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"config\.json: a file; give the folder"):
        open_encoder(str(tmp_path / "config.json"))
    (tmp_path / "model.safetensors").write_bytes((1000).to_bytes(8, "little") + b"{")
    with pytest.raises(
        EncoderError, match=r"its weights \(\*\.safetensors\) are damaged or cut short .*; fetch them again"
    ):
        open_encoder(str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        EncoderError, match=r"could not be had from the hub .* or fetch its \*\.json and \*\.safetensors"
    ):
        open_encoder("nobody/no-encoder-of-this-name")


def test_a_model_in_the_cache_of_the_hub_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    revision = "0" * 40
    repository = tmp_path / "models--lab--encoder"
    save_encoder(repository / "snapshots" / revision, "dinov2")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert open_encoder("lab/encoder").width == 32


WITHOUT = """
import sys
sys.modules["transformers"] = None
from dualformer.cli.main import main
main(["--help"])
import dualformer.encoders.teach_from_encoder, dualformer.training.train, dualformer.cli.teach
print(main(["teach", "--encoder", "lab/encoder", "--data", sys.argv[1], "--out", "out", "--device", "cpu"]))
"""


def test_nothing_but_an_encoder_needs_transformers(tmp_path: Path) -> None:
    """`sys.modules[...] = None` makes every import of it fail."""
    (tmp_path / "data" / "a").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(tmp_path / "data")], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "1", done.stderr
    assert done.stderr.count("\n") == 1 and "pip install 'dualformer[encoders]'" in done.stderr
