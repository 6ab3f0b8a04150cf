"""Frozen video and image encoders of the library ``transformers``, from a folder or the hub, with their own input.

Which frames an encoder takes, how large and how normalised, is read from its ``config.json`` and from the file of its
processor; frames are read, resized (bilinear, antialiased) and normalised as everywhere here. ``transformers`` is
imported when an encoder is opened, and not before.
"""

from __future__ import annotations

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.errors import DualFormerError
from dualformer.model.config import Size3
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize, resize, square_crops
from dualformer.weights.errors import first_line
from dualformer.weights.locate import hub_errors

MOST_TOKENS: Size3 = (8, 7, 7)
"""Of a clip, in time, height and width: more of them are averaged."""
IMAGE_FRAMES = 8
"""Frames of a clip for encoders of single images."""
_CONFIG = "config.json"
_PROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")


class EncoderError(DualFormerError):
    """An encoder that cannot be opened or used. The message names it and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What is to be known of a kind of encoder besides its config."""

    title: str
    model: str
    """Its class in ``transformers``."""
    stride: int
    """Frames of the file between two of a clip, as it was trained or is usually tested."""
    frames: str = ""
    """The field of the config with the frames of a clip; none for images."""
    input: str = "pixel_values"
    prefix: int | str = 0
    """Tokens before the patches, or the field of the config that says how many follow one class token."""
    space_first: bool = False
    """Whether tokens are ordered h w t, and not t h w."""
    any_size: bool = False
    """Whether it takes pictures of other sizes than the config's."""
    unused: tuple[str, ...] = ()
    """Beginnings of the names of weights that patches do without."""
    arguments: tuple[tuple[str, Any], ...] = ()
    """Further arguments of the class."""
    call: tuple[tuple[str, Any], ...] = ()
    """Further arguments of a call."""


_SIGLIP = Architecture(title="SigLIP", model="SiglipVisionModel", stride=8, unused=("head.",))
_SIGLIP2 = Architecture(title="SigLIP 2", model="Siglip2VisionModel", stride=8, any_size=True, unused=("head.",))
_CLIP = Architecture(title="CLIP", model="CLIPVisionModel", stride=8, prefix=1)
_NO_POOLER = (("add_pooling_layer", False),)
ARCHITECTURES: Mapping[str, Architecture] = {
    "videomae": Architecture(title="VideoMAE", model="VideoMAEModel", frames="num_frames", stride=4),
    "vjepa2": Architecture(
        title="V-JEPA 2",
        model="VJEPA2Model",
        frames="frames_per_clip",
        stride=2,
        input="pixel_values_videos",
        any_size=True,
        unused=("predictor.",),
        call=(("skip_predictor", True),),
    ),
    "vivit": Architecture(
        title="ViViT", model="VivitModel", frames="num_frames", stride=2, prefix=1, arguments=_NO_POOLER
    ),
    "timesformer": Architecture(
        title="TimeSformer", model="TimesformerModel", frames="num_frames", stride=8, prefix=1, space_first=True
    ),
    "videoprism_vision_model": Architecture(
        title="VideoPrism", model="VideoPrismVisionModel", frames="num_frames", stride=2, input="pixel_values_videos"
    ),
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "siglip2": _SIGLIP2,
    "siglip2_vision_model": _SIGLIP2,
    "dinov3_vit": Architecture(
        title="DINOv3", model="DINOv3ViTModel", stride=8, prefix="num_register_tokens", any_size=True
    ),
    "dinov2": Architecture(title="DINOv2", model="Dinov2Model", stride=8, prefix=1, any_size=True),
    "dinov2_with_registers": Architecture(
        title="DINOv2", model="Dinov2WithRegistersModel", stride=8, prefix="num_register_tokens", any_size=True
    ),
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
}
"""By the ``model_type`` of their config."""


class Encoder(ABC):
    """A frozen network that gives features of clips. ``digest``: of its weights; ``grid``: its tokens of a clip in
    time, height and width, after pooling; ``width``: the features of each."""

    def __init__(
        self, name: str, *, digest: str, preprocessing: Preprocessing, grid: Size3, width: int, squash: bool = False
    ) -> None:
        self.name, self.digest, self.width = name, digest, width
        self.preprocessing, self.squash, self.grid = preprocessing, squash, grid
        """``squash``: whether all of a picture is made a square, and not its middle cut out."""

    def fit_frames(self, clips: Tensor) -> Tensor:
        """Returns uncut clips uint8 (n, T, h, w, 3), as `read_even_clips` gives them, as squares of its input size."""
        pre, frames = self.preprocessing, clips.flatten(0, 1)
        frames = resize(frames, pre.resize, pre.resize, antialias=pre.antialias) if self.squash else frames
        return square_crops(frames, pre.crop)[0].unflatten(0, clips.shape[:2]).contiguous()

    @abstractmethod
    def place(self, device: torch.device) -> None:
        """Moves it to a device."""

    @abstractmethod
    def __call__(self, clips: Tensor) -> Tensor:
        """Returns features n t h w D, float32, of clips uint8 n T H W 3 on its device, without gradients."""


class FrozenEncoder(Encoder):
    """A model of ``transformers`` in eval mode. Made by `open_encoder`."""

    def __init__(
        self,
        name: str,
        model: nn.Module,
        architecture: Architecture,
        *,
        config: Any,
        digest: str,
        preprocessing: Preprocessing,
        squash: bool,
    ) -> None:
        self._model, self._architecture = model.eval().requires_grad_(False), architecture
        self._patch, step = _patch_sizes(config)
        side = preprocessing.crop // self._patch
        self._whole: Size3 = (preprocessing.frames // (step if architecture.frames else 1), side, side)
        grid = tuple(min(most, own) for most, own in zip(MOST_TOKENS, self._whole, strict=True))
        super().__init__(
            name,
            digest=digest,
            preprocessing=preprocessing,
            grid=(grid[0], grid[1], grid[2]),
            width=config.hidden_size,
            squash=squash,
        )
        prefix = architecture.prefix
        self._prefix = 1 + getattr(config, prefix) if isinstance(prefix, str) else prefix

    def place(self, device: torch.device) -> None:
        self._model.to(device)

    def __call__(self, clips: Tensor) -> Tensor:
        tokens = self.tokens(clips).unflatten(1, self._whole).permute(0, 4, 1, 2, 3)
        return F.adaptive_avg_pool3d(tokens, self.grid).permute(0, 2, 3, 4, 1)

    @torch.no_grad()
    def tokens(self, clips: Tensor) -> Tensor:
        """Returns the model's tokens of the patches, n (t h w) D, before they are pooled."""
        architecture = self._architecture
        video = normalize(clips, self.preprocessing).transpose(1, 2)  # n T 3 H W
        if not architecture.frames:
            video = video.flatten(0, 1)
        t, h, w = self._whole if architecture.frames else (1, *self._whole[1:])
        found = self._model(**self._inputs(video, h, w), **dict(architecture.call)).last_hidden_state.float()
        if found.shape[1] != self._prefix + t * h * w:
            raise EncoderError(
                f"{self.name}: it gives {found.shape[1]} tokens of {t}x{h}x{w} patches and not "
                f"{self._prefix + t * h * w}: this kind of {architecture.title} is not known here"
            )
        patches = found[:, self._prefix :]
        if architecture.space_first:
            patches = patches.unflatten(1, (h * w, t)).transpose(1, 2).flatten(1, 2)
        return patches.unflatten(0, (len(clips), -1)).flatten(1, 2) if not architecture.frames else patches

    def _inputs(self, video: Tensor, height: int, width: int) -> dict[str, Tensor]:
        if self._architecture is not _SIGLIP2:
            return {self._architecture.input: video}
        patch, count = self._patch, len(video)
        rows = video.unflatten(3, (width, patch)).unflatten(2, (height, patch))  # n 3 h p w p
        return {
            "pixel_values": rows.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2),
            "pixel_attention_mask": torch.ones(count, height * width, dtype=torch.long, device=video.device),
            "spatial_shapes": torch.tensor([[height, width]]).expand(count, 2).to(video.device),
        }


def open_encoder(path_or_hub_id: str) -> FrozenEncoder:
    """Opens an encoder from a folder with its files (``config.json``, that of its processor, safetensors), or the hub.

    Errors: `EncoderError` without ``transformers``, for a kind that is not known, for files that are missing or do not
    fit, and where the hub is not reached; ``FileNotFoundError`` for what is neither folder nor hub id.
    """
    transformers = import_transformers()
    folder = encoder_folder(path_or_hub_id)
    kind = _read_json(folder / _CONFIG, path_or_hub_id).get("model_type")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise EncoderError(
            f"{path_or_hub_id}: an encoder of the kind {kind!r} is not known here; known are {', '.join(ARCHITECTURES)}"
        )
    architecture = ARCHITECTURES[kind]
    if not hasattr(transformers, architecture.model):
        raise EncoderError(
            f"{path_or_hub_id}: transformers {transformers.__version__} has no {architecture.model}: pip install -U it"
        )
    if not list(folder.glob("*.safetensors")):
        raise EncoderError(f"{path_or_hub_id}: there are no weights in it (*.safetensors): fetch them, or convert them")
    model = _load(getattr(transformers, architecture.model), folder, architecture, path_or_hub_id)
    config: Any = model.config
    preprocessing, squash = _preprocessing(folder, path_or_hub_id, config, architecture)
    return FrozenEncoder(
        path_or_hub_id,
        model,
        architecture,
        config=config,
        digest=_digest(folder),
        preprocessing=preprocessing,
        squash=squash,
    )


def is_encoder(path: Path) -> bool:
    """Whether a folder has the ``config.json`` of an encoder that is known here. Errors: as `open_encoder`."""
    return (path / _CONFIG).is_file() and _read_json(path / _CONFIG, str(path)).get("model_type") in ARCHITECTURES


def import_transformers() -> Any:
    """Imports ``transformers``. Raises `EncoderError` with how to get it."""
    try:
        import transformers  # slow, and an extra
    except ImportError as error:
        raise EncoderError(
            f"encoders need transformers ({first_line(error)}): pip install 'dualformer[encoders]'"
        ) from error
    return transformers


def _load(kind: Any, folder: Path, architecture: Architecture, name: str) -> nn.Module:
    """Loads a model, silently. Raises `EncoderError` where weights that patches need are not in the files."""
    logger = logging.getLogger("transformers")
    with ExitStack() as stack:
        stack.callback(partial(logger.setLevel, logger.level))
        logger.setLevel(logging.ERROR)
        bars = import_transformers().utils.logging
        if bars.is_progress_bar_enabled():
            bars.disable_progress_bar()
            stack.callback(bars.enable_progress_bar)
        try:
            model, found = kind.from_pretrained(
                folder,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are named below
                dtype=torch.float32,
                **dict(architecture.arguments),
            )
        except SafetensorError as error:  # no OSError
            raise EncoderError(
                f"{name}: its weights (*.safetensors) are damaged or cut short ({first_line(error)}); fetch them again"
            ) from error
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            raise EncoderError(f"{name}: it cannot be loaded as {kind.__name__} ({first_line(error)})") from error
    wrong = [*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])]
    missing = sorted(key for key in wrong if not key.startswith(architecture.unused or ("\0",)))
    if missing:
        raise EncoderError(
            f"{name}: {len(missing)} weights of {kind.__name__} are missing or of another shape (as {missing[0]}): "
            "take the files of the encoder itself"
        )
    return model


def encoder_folder(path_or_hub_id: str) -> Path:
    """Returns the folder with the files of an encoder, fetched from the hub for a hub id. Errors: as `open_encoder`."""
    path = Path(path_or_hub_id)
    if path.is_dir():
        return path
    if path.is_file():
        raise FileNotFoundError(f"{path}: a file; give the folder that has an encoder's config.json and weights")
    if path.exists() or path_or_hub_id.count("/") != 1:
        raise FileNotFoundError(f"{path}: no folder of an encoder, nor an id on the hub (owner/name)")
    import huggingface_hub  # here, because it takes a second to import

    try:
        return Path(huggingface_hub.snapshot_download(path_or_hub_id, allow_patterns=["*.json", "*.safetensors"]))
    except hub_errors() as error:
        raise EncoderError(
            f"{path_or_hub_id}: no such folder here, and it could not be had from the hub ({first_line(error)}); check "
            "the name and the connection, or fetch its *.json and *.safetensors into a folder and give that"
        ) from error


def _read_json(path: Path, name: str) -> dict[str, Any]:
    if not path.is_file():
        raise EncoderError(
            f"{name}: there is no {path.name} in it, which an encoder of transformers has: fetch all of its *.json"
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EncoderError(f"{path}: it is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise EncoderError(f"{path}: it is not an object of settings")
    return found


def _digest(folder: Path) -> str:
    """Returns the SHA-256 of the config, the processor's file and the weights."""
    digest = hashlib.sha256()
    files = [folder / _CONFIG, *(folder / name for name in _PROCESSORS), *sorted(folder.glob("*.safetensors"))]
    for path in filter(Path.is_file, files):
        digest.update(f"{path.name}\n".encode())
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _patch_sizes(config: Any) -> tuple[int, int]:
    """Returns the side of a patch in pixels and its length in frames."""
    tubelet = getattr(config, "tubelet_size", 1)
    if isinstance(tubelet, (list, tuple)):
        return int(tubelet[1]), int(tubelet[0])
    return _one(config.patch_size), int(tubelet)


def _one(size: Any) -> int:
    return int(size[0] if isinstance(size, (list, tuple)) else size)


def _preprocessing(folder: Path, name: str, config: Any, architecture: Architecture) -> tuple[Preprocessing, bool]:
    """Returns the input of an encoder as its processor makes it, and whether pictures are squashed."""
    path = next((folder / file for file in _PROCESSORS if (folder / file).is_file()), folder / _PROCESSORS[1])
    settings = _read_json(path, name)
    for inner in ("video_processor", "image_processor"):
        settings = settings.get(inner) or settings
    patch, _ = _patch_sizes(config)
    cropped = settings.get("crop_size") and settings.get("do_center_crop", True)
    if "size" in settings:
        side, squash = _side(settings["size"], path, short=bool(cropped))
    elif "max_num_patches" in settings:
        side, squash = int(settings["max_num_patches"] ** 0.5) * patch, False
    else:
        raise EncoderError(f"{path}: it does not say the size of pictures (size)")
    crop = _side(settings["crop_size"], path)[0] if cropped else side
    own = getattr(config, "image_size", None) or crop
    if not architecture.any_size and crop != _one(own):
        raise EncoderError(f"{path}: pictures of {crop} pixels, and the encoder takes {_one(own)}: correct the file")
    scale = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0
    offset = 1.0 if architecture.title == "ViViT" and settings.get("offset", True) else 0.0
    mean = std = None
    if settings.get("do_normalize", True):
        mean, std = settings.get("image_mean"), settings.get("image_std")
        if mean is None or std is None:
            raise EncoderError(f"{path}: it does not say how pictures are normalised (image_mean, image_std)")
    mean, std = mean or (0.0, 0.0, 0.0), std or (1.0, 1.0, 1.0)
    return Preprocessing(
        frames=getattr(config, architecture.frames) if architecture.frames else IMAGE_FRAMES,
        stride=architecture.stride,
        resize=max(side, crop),
        crop=crop,
        mean=((offset + mean[0]) / scale, (offset + mean[1]) / scale, (offset + mean[2]) / scale),
        std=(std[0] / scale, std[1] / scale, std[2] / scale),
        sampling="segments",
    ), squash


def _side(size: Any, path: Path, *, short: bool = False) -> tuple[int, bool]:
    """Returns a size in pixels, and whether pictures are made squares of it; ``short``: a bare number is the short
    side."""
    if isinstance(size, int):
        return size, not short
    if "shortest_edge" in size:
        return int(size["shortest_edge"]), False
    if "height" in size and size["height"] == size.get("width"):
        return int(size["height"]), True
    raise EncoderError(f"{path}: pictures of the size {size} are no squares: only those are read here")
