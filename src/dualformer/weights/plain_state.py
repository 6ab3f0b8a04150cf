"""Loads PyTorch checkpoints, and finds the network that tensors without a card are of, as
``torch.save(model.state_dict(), …)`` leaves them."""

import pickle
import warnings
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from dualformer.model.config import Config, Head, Size3
from dualformer.model.network import DualFormer
from dualformer.model.presets import list_models, preset_config
from dualformer.model.pyramid import cell_size
from dualformer.weights.errors import WeightsError, first_line, size_text, tensor_mismatch

_FRAMES = (1, 4, 8, 16, 32, 64)
_SIZES = (32, 64, 96, 112, 128, 160, 192, 224, 256, 320)


def config_from_state(state: Mapping[str, Tensor], *, preset: str | None = None, clip: Size3 | None = None) -> Config:
    """Returns the config of the preset whose tensors have these names and shapes, for the clip that fits.

    Errors: ``ValueError`` for an unknown preset; ``WeightsError`` where none fits, and where several clips do and
    ``clip`` does not say which.
    """
    classes = state["head.weight"].shape[0] if "head.weight" in state else 0
    head: Head = "temporal" if "temporal.conv.weight" in state else "pooled"
    clips = [clip] if clip else [(frames, size, size) for frames, size in product(_FRAMES, _SIZES)]
    fits: list[Config] = []
    for name in [preset] if preset else list_models():
        own = preset_config(name, num_classes=classes)
        if not _same_widths(own, state):
            continue
        for each in clips if clip or own.clip in clips else [own.clip, *clips]:
            if head == "temporal" and each[0] == 1:
                continue
            config = preset_config(name, clip=each, num_classes=classes, head=head)
            if not _same_kernels(config, state):
                continue
            with torch.device("meta"):
                wanted = DualFormer(config, seed=0).state_dict()
            if not tensor_mismatch(wanted, state):
                fits.append(config)
    if not fits:
        for_clip = f" for clips of {size_text(clip)}" if clip else ""
        raise WeightsError(
            f"these tensors are those of no preset{for_clip}, and nothing says what else they are of: load them into "
            "the network, `model.load_state_dict(…)`, and write it with its card by `save_weights(…)`"
        )
    if len(fits) > 1:
        named = ", ".join(size_text(config.clip) for config in fits[:6])
        raise WeightsError(f"these tensors fit clips of {named}: say which with `clip`, as {size_text(fits[0].clip)}")
    return fits[0]


def load_checkpoint(path: Path) -> object:
    """Loads what ``torch.save`` wrote, onto the CPU: tensors and plain values. No code in the file is run.

    Errors: ``FileNotFoundError``; ``WeightsError`` for another kind of file, and for a checkpoint of a training run of
    ours, which names the weights beside it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such checkpoint")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # an error says what is wrong
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: not a PyTorch checkpoint, or one that holds more than tensors and plain values, which is not "
            "loaded because it could run code; save its 'state_dict' alone where you trust it, and convert that"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path}: not a readable PyTorch checkpoint ({first_line(error)}); get it anew") from error
    _refuse_run_checkpoint(path, content)
    return content


def _refuse_run_checkpoint(path: Path, content: object) -> None:
    if isinstance(content, dict) and {"tensors", "progress", "fingerprint"} <= set(content):
        raise WeightsError(
            f"{path}: what a training run goes on from; its weights are best.safetensors and last.safetensors in "
            f"{path.absolute().parent.parent}"
        )


def _same_kernels(config: Config, state: Mapping[str, Tensor]) -> bool:
    """Returns whether the pyramids' kernels, which follow from the clip, are those of the tensors: likewise."""
    for number, (stage, size) in enumerate(zip(config.stages, config.map_sizes(), strict=True)):
        for place, scale in enumerate(stage.scales):
            ending = f".pyramid.scales.{place}.conv.weight"
            keys = (key for key in state if key.startswith(f"stages.{number}.") and key.endswith(ending))
            if (key := next(keys, None)) and tuple(state[key].shape[2:]) != cell_size(size, scale.grid):
                return False
    return True


def _same_widths(config: Config, state: Mapping[str, Tensor]) -> bool:
    """Returns whether channels and depths are those of the tensors: quickly, before networks are made."""
    for number, stage in enumerate(config.stages):
        embed = state.get(f"stages.{number}.embed.proj.weight")
        last, next_one = (f"stages.{number}.blocks.{depth}." for depth in (stage.depth - 1, stage.depth))
        if embed is None or embed.shape[0] != stage.channels or any(key.startswith(next_one) for key in state):
            return False
        if not any(key.startswith(last) for key in state):
            return False
    return f"stages.{len(config.stages)}.embed.proj.weight" not in state
