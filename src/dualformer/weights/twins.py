"""Reads public Twins-SVT checkpoints: ImageNet weights of networks of images with DualFormer's skeleton.

Twins-SVT Small, Base and Large have the widths and depths of DualFormer Tiny, Small and Base. Even blocks attend within
7×7 windows, odd ones to one scale of priors that a full convolution makes (none in the last stage), and the PEG stands
behind the first block of each stage. So a network of one frame with ``Scale(function="full")`` gives the same numbers.

Three families of files name the tensors: the Hugging Face hub's and the original code's alike, mmpretrain's otherwise.
What shapes cannot tell is taken from the published networks: heads of 32 channels, pictures of 224×224 pixels, an
epsilon of 1e-6 in the LayerNorms of blocks (mmpretrain computes the same weights with 1e-5).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dualformer.model.config import Config, Scale, Size3, Stage, ceil_div
from dualformer.model.network import DualFormer
from dualformer.video.preprocessing import kinetics
from dualformer.weights.card import Card, read_labels
from dualformer.weights.errors import WeightsError, check_tensors
from dualformer.weights.locate import CARD_FILE
from dualformer.weights.release import release_key
from dualformer.weights.wrapped_network import OWN_KEY

Style = Literal["hub", "mmpretrain"]
"""How a family of files names tensors. The original code's names are the hub's."""

_CLIP: Size3 = (1, 224, 224)
_NORM_EPS = 1e-6
_RESIZE = 248
"""Short side of a test picture, of which 224 pixels are cut out: the published crop of 0.9."""
_ANCHORS: dict[str, Style] = {
    "patch_embeds.0.proj.weight": "hub",
    "patch_embeds.0.projection.weight": "mmpretrain",
    "pos_block.0.proj.0.weight": "hub",
    "position_encodings.0.proj.weight": "mmpretrain",
}
"""Names that tell the style, the usual ones first."""
_STAGE = re.compile(r"(?:patch_embeds|blocks|pos_block)\.(\d+)\.")
_MMPRETRAIN: tuple[tuple[str, str], ...] = (
    (r"head\.(.+)", r"head.fc.\1"),
    (r"(patch_embeds\.\d+)\.proj\.(.+)", r"backbone.\1.projection.\2"),
    (r"blocks\.(.+)\.mlp\.fc1\.(.+)", r"backbone.stages.\1.ffn.layers.0.0.\2"),
    (r"blocks\.(.+)\.mlp\.fc2\.(.+)", r"backbone.stages.\1.ffn.layers.1.\2"),
    (r"blocks\.(.+)", r"backbone.stages.\1"),
    (r"pos_block\.(\d+)\.proj\.0\.(.+)", r"backbone.position_encodings.\1.proj.\2"),
    (r"norm\.(.+)", r"backbone.norm_after_stage{last}.\1"),
    (r"(.+)", r"backbone.\1"),
)
"""Patterns of the hub's names, and mmpretrain's names, tried in order."""
_OTHER_TASKS = {
    r"(decode_head|auxiliary_head)\.": "a segmentation checkpoint",
    r"(rpn_head|roi_head|bbox_head)\.": "a detection checkpoint",
}


def is_twins(path: Path | str, state: Mapping[str, Tensor]) -> bool:
    """Whether tensors, of any wrapper, are those of a Twins-SVT network.

    Errors: ``WeightsError`` for a network of the same family that has another skeleton, or another task.
    """
    found = _style(state)
    if found is None or OWN_KEY in state:
        return False
    style, prefix, anchor = found
    if state[anchor].dim() != 4:
        return False
    for pattern, kind in _OTHER_TASKS.items():
        if key := next((key for key in state if re.search(rf"(^|\.){pattern}", key)), None):
            raise WeightsError(
                f"{path}: {kind} ({key}), not one that labels pictures: take the ImageNet checkpoint that it started "
                "from, as timm/twins_svt_small.in1k"
            )
    blocks = prefix + ("stages" if style == "mmpretrain" else "blocks")
    if f"{blocks}.0.0.attn.q.weight" not in state:
        return True
    raise WeightsError(
        f"{path}: a Twins-PCPVT checkpoint, whose blocks all attend globally ({blocks}.0.0.attn.q.weight); DualFormer "
        "has the skeleton of Twins-SVT: take one of these, as timm/twins_svt_small.in1k"
    )


def config_from_twins(state: Mapping[str, Tensor]) -> Config:
    """Returns the config of the network of images that Twins-SVT tensors are of, from their shapes and what this
    module's docstring adds; where a tensor is missing, from others that tell the same.

    Errors: ``ValueError`` if the shapes make no network.
    """
    named = _by_hub_names(state)
    count = 1 + max((int(match[1]) for key in named if (match := _STAGE.match(key))), default=0)
    size, stages = _CLIP, list[Stage]()
    for i in range(count):
        [*_, height, width] = _shape(named, rf"patch_embeds\.{i}\.proj\.weight", 4) or (2, 2)
        size = ceil_div(size, patch := (1, height, width))
        blocks = 1 + max((int(m[1]) for key in named if (m := re.match(rf"blocks\.{i}\.(\d+)\.", key))), default=0)
        kernel = _shape(named, rf"blocks\.{i}\.\d+\.attn\.sr\.weight", 4)
        scales = (Scale(grid=ceil_div(size, (1, kernel[2], kernel[3])), function="full"),) if kernel else ()
        [channels, *_] = _shape(named, rf"(blocks|patch_embeds)\.{i}\..*norm\d?\.weight", 1) or (0,)
        depth = (blocks + 1) // 2
        stages.append(Stage(channels=channels, depth=depth, patch=patch, window=(1, 7, 7), scales=scales))
    [hidden, width] = _shape(named, r"blocks\..*\.mlp\.fc1\.weight", 2) or (4, 1)
    [classes, *_] = _shape(named, r"head\.weight", 2) or _shape(named, r"head\.bias", 1) or (0,)
    ratio = hidden // width
    return Config(stages=tuple(stages), clip=_CLIP, num_classes=classes, mlp_ratio=ratio, norm_eps=_NORM_EPS)


def twins_network(path: Path | str, state: Mapping[str, Tensor]) -> DualFormer:
    """Returns the network of images with the weights of a Twins-SVT checkpoint, in float32 and eval mode.

    ``path`` is for messages. Errors: ``WeightsError`` that lists missing, unexpected and misshaped tensors.
    """
    with torch.device("meta"):
        model = DualFormer(_config(path, state), seed=0)
    model.load_state_dict(_own_tensors(path, state, model), assign=True)
    return model.eval()


def twins_state(path: Path | str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of a Twins-SVT checkpoint under our names, in float32. Errors: as `twins_network`."""
    with torch.device("meta"):
        model = DualFormer(_config(path, state), seed=0)
    return _own_tensors(path, state, model)


def twins_card(path: Path | str, state: Mapping[str, Tensor]) -> Card:
    """Returns the card of a Twins-SVT checkpoint, of whose tensors it needs the shapes alone.

    1,000 classes have ImageNet's names, any other number of them their numbers. The hub's ``config.json`` beside the
    file names the network. Errors: ``WeightsError`` if the shapes make no network.
    """
    path = Path(path)
    config = _config(path, state)
    published = _architecture(path.with_name(CARD_FILE))
    return Card(
        config=config,
        labels=_imagenet_names() if config.num_classes == 1000 else tuple(map(str, range(config.num_classes))),
        preprocessing=replace(kinetics(frames=1, stride=1, size=_CLIP[1]), resize=_RESIZE),
        provenance=f"Twins-SVT checkpoint {published or path.name}",
        licence="Apache-2.0" if published.startswith("twins_svt") else "unknown",
    )


def twins_key(key: str, style: Style, *, stages: int = 4) -> str:
    """Returns a style's name of one of our tensors, such as ``blocks.0.1.attn.sr.weight`` of
    ``stages.0.blocks.0.1.attn.pyramid.scales.0.conv.weight``."""
    key = re.sub(r"^cls_head\.fc_cls\.", "head.", release_key(key)).removeprefix("backbone.")
    if style == "hub":
        return key
    for pattern, replacement in _MMPRETRAIN:
        if match := re.fullmatch(pattern, key):
            return match.expand(replacement.format(last=stages - 1))
    raise AssertionError(key)  # the last pattern takes everything


def _config(path: Path | str, state: Mapping[str, Tensor]) -> Config:
    try:
        return config_from_twins(state)
    except (ValueError, WeightsError) as error:
        raise WeightsError(f"{path}: a Twins-SVT checkpoint whose shapes make no network ({error})") from error


def _own_tensors(path: Path | str, state: Mapping[str, Tensor], model: DualFormer) -> dict[str, Tensor]:
    style, prefix, _ = _found(state)
    stages = len(model.config.stages)
    own = model.state_dict()
    names = {key: _prefixed(twins_key(key, style, stages=stages), style, prefix) for key in own}
    # Kernels of images have no axis of time, of which ours have one entry.
    wanted = {names[key]: tensor[:, :, 0] if tensor.dim() == 5 else tensor for key, tensor in own.items()}
    check_tensors(path, wanted, state, remedy="it is of another network, or damaged")
    return {key: state[names[key]].float().reshape(tensor.shape) for key, tensor in own.items()}


def _style(state: Mapping[str, Tensor]) -> tuple[Style, str, str] | None:
    """Returns how tensors are named, what stands before all names but the classifier's, and the name that shows it."""
    for anchor, style in _ANCHORS.items():
        found = [key for key in state if key == anchor or key.endswith(f".{anchor}")]
        if len(found) == 1:
            return style, found[0].removesuffix(anchor), found[0]
    return None


def _found(state: Mapping[str, Tensor]) -> tuple[Style, str, str]:
    found = _style(state)
    if found is None:
        raise ValueError(f"none of {', '.join(_ANCHORS)} is there")
    return found


def _prefixed(key: str, style: Style, prefix: str) -> str:
    """Returns a name as it stands in a file, where all names of a style have the same ``prefix`` before them."""
    return prefix.removesuffix("backbone.") + key if style == "mmpretrain" else prefix + key


def _by_hub_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns tensors under the hub's names as far as shapes are read from them, whatever their style."""
    style, prefix, _ = _found(state)
    named = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    if style == "hub":
        return named
    changes = ((".projection.", ".proj."), (".ffn.layers.0.0.", ".mlp.fc1."), ("head.fc.", "head."))
    plain: dict[str, Tensor] = {}
    for key, tensor in named.items():
        key = re.sub(r"^stages\.", "blocks.", key.removeprefix(prefix.removesuffix("backbone.")))
        for old, new in changes:
            key = key.replace(old, new)
        plain[key] = tensor
    return plain


def _shape(named: Mapping[str, Tensor], pattern: str, dimensions: int) -> tuple[int, ...]:
    """Returns the shape of the first tensor of so many dimensions whose name matches; empty where there is none."""
    shapes = (tuple(named[key].shape) for key in sorted(named) if re.fullmatch(pattern, key))
    return next((shape for shape in shapes if len(shape) == dimensions), ())


def _architecture(path: Path) -> str:
    """Returns the name of the network in the hub's ``config.json``; empty where there is none."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(said.get("architecture", "")) if isinstance(said, dict) else ""


@cache
def _imagenet_names() -> tuple[str, ...]:
    return read_labels(Path(__file__).with_name("imagenet1k.txt"))
