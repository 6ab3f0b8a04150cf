"""What programs that build on a backbone ask it: its maps, which weights do not decay, how deep each weight sits."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from dualformer.model.config import Config, Size3
from dualformer.model.position import PositionEncoding, PositionTable, RelativeBias


@dataclass(frozen=True, kw_only=True)
class Features:
    """The map after one stage."""

    stage: int
    """Counted from 0, as ``indices`` are."""
    channels: int
    reduction: Size3
    """How many frames, rows and columns of the video one token stands for."""


def features_of(config: Config) -> tuple[Features, ...]:
    """Channels and reduction of every stage's map."""
    reduction, out = (1, 1, 1), []
    for number, stage in enumerate(config.stages):
        (t, h, w), (dt, dh, dw) = reduction, stage.patch
        reduction = (t * dt, h * dh, w * dw)
        out.append(Features(stage=number, channels=stage.channels, reduction=reduction))
    return tuple(out)


def wanted_stages(indices: int | Sequence[int] | None, count: int) -> list[int]:
    """Stage numbers from 0, of ``count`` stages: an integer n means the last n, None all, negative ones count from the
    end. Errors: ``ValueError`` for a stage that there is not, or none at all."""
    if indices is None:
        return list(range(count))
    if isinstance(indices, int):
        if not 1 <= indices <= count:
            raise ValueError(f"indices={indices} asks for the last {indices} stages, and there are {count}")
        return list(range(count - indices, count))
    if not indices or any(not -count <= index < count for index in indices):
        raise ValueError(f"indices must name some of the {count} stages (0 to {count - 1}), not {list(indices)}")
    return [index % count for index in indices]


def no_weight_decay(model: nn.Module) -> set[str]:
    """Names of norms' weights, biases, the PEG and position tables (section 4.1: none of them decays)."""
    positions = (PositionEncoding, PositionTable, RelativeBias)
    placed = {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, positions)
        for name, _ in module.named_parameters()
    }
    return placed | {name for name, parameter in model.named_parameters() if parameter.dim() <= 1}


def layer_numbers(model: nn.Module) -> dict[str, int]:
    """Depth of every parameter by name: see `DualFormer.layer_numbers`."""
    numbers: dict[str, int] = {}
    first = 1  # number of the stage's first block
    for prefix, stage in model.get_submodule("stages").named_children():
        blocks = list(stage.get_submodule("blocks").named_children())
        for name, _ in stage.named_parameters():
            if name.startswith("blocks."):
                number = first + int(name.split(".")[1])
            elif name.startswith("embed.") and first == 1:
                number = 0
            else:
                number = first
            numbers[f"stages.{prefix}.{name}"] = number
        first += len(blocks)
    return {name: numbers.get(name, first) for name, _ in model.named_parameters()}
