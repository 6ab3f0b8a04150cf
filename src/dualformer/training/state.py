"""The checkpoint of a run: everything that decides its next bits, written atomically, read back exactly."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from dualformer.errors import DualFormerError
from dualformer.weights.atomic import atomic_write

CHECKPOINT = "checkpoint.pt"


@dataclass(kw_only=True)
class Progress:
    """Where a run is. Batches are counted from the start of the epoch, steps from the start of the run."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_top1: float = -1.0
    best_loss: float = math.inf
    best_epoch: int = -1
    seconds: float = 0.0
    """Time spent training, over all the run's sessions."""
    loss_sum: float = 0.0
    """Over the clips of this epoch so far, as are the two below."""
    correct: float = 0.0
    clips: int = 0

    def start_epoch(self, epoch: int) -> None:
        self.epoch, self.batch, self.loss_sum, self.correct, self.clips = epoch, 0, 0.0, 0.0, 0


def save_checkpoint(
    folder: Path, objective: nn.Module, optimizer: Optimizer, progress: Progress, fingerprint: Mapping[str, Any]
) -> None:
    """Writes ``folder/checkpoint.pt``; if that fails (a full disk), the previous one stays as it was.

    ``fingerprint`` are the settings that must not change on resume, such as the data's hash and the number of steps.
    """
    content = {
        "objective": objective.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": asdict(progress),
        "fingerprint": json.dumps(dict(fingerprint), sort_keys=True),
        "random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    atomic_write(folder / CHECKPOINT, lambda path: torch.save(content, path))


def load_checkpoint(
    folder: Path, objective: nn.Module, optimizer: Optimizer, fingerprint: Mapping[str, Any]
) -> Progress:
    """Puts everything back, random state included, and says where the run was.

    Errors: ``FileNotFoundError`` without a checkpoint; ``DualFormerError`` if the file is damaged, or was made with
    other settings (they are named).
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no checkpoint to resume from; start without --resume")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        then = json.loads(content["fingerprint"])
    except (RuntimeError, KeyError, EOFError, ValueError, OSError) as error:
        raise DualFormerError(
            f"{path}: not a readable checkpoint ({_first_line(error)}); start anew elsewhere"
        ) from error
    now = json.loads(json.dumps(dict(fingerprint), sort_keys=True))
    if differing := sorted(key for key in {*now, *then} if now.get(key) != then.get(key)):
        raise DualFormerError(
            f"{path}: the run was started with another {', '.join(differing)}; resume it as it was, or start anew with "
            "another --out"
        )
    objective.load_state_dict(content["objective"])
    optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["random"])
    if content["cuda_random"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(content["cuda_random"])
    return Progress(**content["progress"])


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
