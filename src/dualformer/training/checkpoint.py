"""The checkpoints of a run: everything that decides its next bits, written atomically and read back exactly.

A checkpoint is a file, ``checkpoints/step-0000123.pt``, or a folder of that name to which each process of a sharded run
has written its shard. Either can be read by any number of processes, sharded or not.
"""

import contextlib
import json
import math
import os
import pickle
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load as load_shards
from torch.distributed.checkpoint.state_dict_saver import save as save_shards
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from dualformer.errors import DualFormerError
from dualformer.files import atomic_write
from dualformer.plurals import counted
from dualformer.training.distributed import ProcessGroup
from dualformer.training.ema import Average

CHECKPOINTS = "checkpoints"
_NAME = re.compile(r"step-(\d{7,})(\.pt)?")
_TEMPORARY = re.compile(r"\..+\.tmp")
_RUN = "run.pt"
"""In a folder of shards: what is not sharded."""


@dataclass(kw_only=True)
class Progress:
    """Where a run is. Batches are counted from the start of the epoch, steps from the start of the run."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_top1: float = -1.0
    best_map: float | None = None
    """Where clips may have several labels; decides in place of top-1 there."""
    best_loss: float = math.inf
    best_epoch: int = -1
    peak: list[float] | None = None
    """The highest `ValidationResult.rank` of any epoch that is done, whichever is called best."""
    peak_epoch: int = 0
    seconds: float = 0.0
    """Time spent training, over all the run's sessions."""
    loss_sum: float = 0.0
    """Over the clips of this epoch so far, of all processes, as are those below."""
    weight: float = 0.0
    """What the clips weigh in the loss: 1 each, where classes have no weights."""
    correct: float = 0.0
    """Clips whose likeliest class is theirs, or one of theirs."""
    clips: int = 0
    found: float = 0.0
    """Where clips may have several labels: twice the labels that were found, …"""
    named: float = 0.0
    """… and those that were named, plus those that are true."""
    parts: dict[str, float] = field(default_factory=dict)
    """The loss' parts, each summed as the loss is."""

    @property
    def best_rank(self) -> tuple[float, float]:
        """The best epoch's `ValidationResult.rank`."""
        return self.best_top1 if self.best_map is None else self.best_map, -self.best_loss

    def note_peak(self, rank: Sequence[float]) -> None:
        """Notes the validation of an epoch that is done."""
        if self.peak is None or list(rank) > self.peak:
            self.peak, self.peak_epoch = list(rank), self.epoch + 1

    def add(self, sums: Mapping[str, float], parts: Mapping[str, float]) -> None:
        """Adds a batch, of all processes. ``sums``: fields of this by name; ``parts``: of the loss."""
        for name, value in sums.items():
            setattr(self, name, getattr(self, name) + value)
        self.clips = round(self.clips)
        for name, value in parts.items():
            self.parts[name] = self.parts.get(name, 0.0) + value
        self.batch += 1

    def shares(self, *, several: bool) -> dict[str, float]:
        """Returns the accuracy of the epoch's training clips so far, and F1 if they may have ``several`` labels."""
        right = {"train_top1": self.correct / max(1, self.clips)}
        return right | ({"train_f1": self.found / max(1.0, self.named)} if several else {})

    def forget_best(self) -> None:
        self.best_top1, self.best_map, self.best_loss, self.best_epoch = -1.0, None, math.inf, -1

    def start_epoch(self, epoch: int) -> None:
        self.epoch, self.batch, self.clips = epoch, 0, 0
        self.loss_sum = self.weight = self.correct = self.found = self.named = 0.0
        self.parts = {}


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """What training changes: the tensors of the objective, of the optimizer and of the averaged weights."""

    objective: nn.Module
    optimizer: Optimizer
    average: Average | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Returns all tensors by name, themselves and not copies; shards where the objective is sharded."""
        found = {f"objective/{name}": tensor for name, tensor in self.objective.state_dict().items()}
        for name, parameter in self.objective.named_parameters():
            for key, tensor in self.optimizer.state.get(parameter, {}).items():
                found[f"optimizer/{name}/{key}"] = tensor
        if self.average:
            found |= {f"average/{name}": tensor for name, tensor in self.average.tensors.items()}
        return found

    def allocate(self, names: set[str]) -> None:
        """Makes empty AdamW state for those parameters alone that have some among ``names``."""
        self.optimizer.state.clear()
        for name, parameter in self.objective.named_parameters():
            keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"optimizer/{name}/{key}" in names]
            if keys:
                self.optimizer.state[parameter] = {
                    # Where `fused` wants it: PyTorch would move the step there as it loads a state by itself.
                    key: torch.zeros((), device=parameter.device) if key == "step" else torch.zeros_like(parameter)
                    for key in keys
                }


def checkpoints(folder: Path) -> list[Path]:
    """Returns a run's checkpoints, the newest first."""
    paths = (folder / CHECKPOINTS).glob("step-*")
    found = [(int(match[1]), path) for path in paths if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def has_checkpoint(folder: Path) -> bool:
    """Returns whether there is a run to go on with."""
    return bool(checkpoints(folder))


def has_begun(folder: Path) -> bool:
    """Returns whether a run in ``folder`` has got further than its first weights."""
    return any(path.name.split(".")[0] != _name(0) for path in checkpoints(folder))


def remove_checkpoints(folder: Path) -> None:
    """Removes a run's checkpoints and makes an empty folder for them."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    with _write_errors(folder / CHECKPOINTS):
        (folder / CHECKPOINTS).mkdir(parents=True)


def remove_unfinished(folder: Path) -> None:
    """Removes what a run that was killed has left half-written."""
    for place in (folder, folder / CHECKPOINTS):
        for path in place.glob(".*.tmp"):
            if _TEMPORARY.fullmatch(path.name):
                _remove(path)


def save_checkpoint(
    folder: Path,
    state: TrainingState,
    progress: Progress,
    fingerprint: Mapping[str, Any],
    *,
    ranks: ProcessGroup,
    keep: int,
) -> None:
    """Writes a checkpoint and removes all but the ``keep`` newest; all processes call it.

    If that fails (a full disk), those that there were stay as they were, and all processes get the
    ``DualFormerError``. ``fingerprint`` are the settings that must not change on resume, such as the data's hash and
    the number of steps.
    """
    content = {
        "progress": asdict(progress),
        "fingerprint": json.dumps(dict(fingerprint), sort_keys=True),
        "random": ranks.all_gather(_random_state(ranks.device)),
    }
    place, tensors = folder / CHECKPOINTS, state.tensors()
    if any(isinstance(tensor, DTensor) for tensor in tensors.values()):
        _save_shards(place / _name(progress.step), tensors, content, ranks)
    else:
        path = place / f"{_name(progress.step)}.pt"
        ranks.run_on_first(
            lambda: atomic_write(path, lambda temporary: torch.save({"tensors": tensors, **content}, temporary))
        )
    if ranks.is_first:
        for old in checkpoints(folder)[keep:]:
            _remove(old)


def load_checkpoint(
    folder: Path,
    state: TrainingState,
    fingerprint: Mapping[str, Any],
    *,
    ranks: ProcessGroup,
    seed: int,
    log: Callable[[str], None],
) -> Progress:
    """Restores the newest readable checkpoint, random state included, and returns where the run was.

    As many processes as there were get their random states back; others draw new ones from ``seed``.
    Errors: ``FileNotFoundError`` without a checkpoint; ``DualFormerError`` if all are damaged, or if the run was made
    with other settings (they are named).
    """
    found = checkpoints(folder)
    if not found:
        raise FileNotFoundError(f"{folder}: there is no checkpoint to resume from; start without `resume`")
    skipped: list[str] = []
    for path in found:
        content, damage = _read(path, state, fingerprint)
        # A file system may show a file to one machine and not yet to another.
        if damage := next(filter(None, ranks.all_gather(damage)), ""):
            skipped.append(f"{path}: not a readable checkpoint ({damage})")
            continue
        for reason in skipped:
            log(f"{reason}; going on from the one before")
        _restore_random_state(content, ranks, seed, log)
        return Progress(**content["progress"])
    raise DualFormerError(f"{skipped[0]}; start anew elsewhere")


def seed_random(seed: int, rank: int, step: int = 0) -> None:
    """Seeds PyTorch's generator of a process that begins or goes on at ``step`` without a state of its own."""
    first = rank == step == 0
    torch.manual_seed(seed if first else int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0]))


def _read(path: Path, state: TrainingState, fingerprint: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Copies a checkpoint's tensors into ``state`` and returns the rest of it, and what is wrong with it or ""."""
    try:
        content = torch.load(path / _RUN if path.is_dir() else path, map_location="cpu", weights_only=True)
        _check_fingerprint(path, json.loads(content["fingerprint"]), fingerprint)
        if path.is_dir():
            state.allocate(set(FileSystemReader(path).read_metadata().state_dict_metadata))
            with warnings.catch_warnings():  # one process may read what several have written
                warnings.simplefilter("ignore", UserWarning)
                load_shards(state.tensors(), checkpoint_id=path, no_dist=not dist.is_initialized())
        else:
            state.allocate(set(content["tensors"]))
            for name, tensor in state.tensors().items():
                _fill(tensor, content["tensors"][name])
        Progress(**content["progress"])
        return content, ""
    except DualFormerError:
        raise
    except (
        *(RuntimeError, KeyError, EOFError, TypeError, ValueError, OSError),
        *(pickle.UnpicklingError, CheckpointException),
    ) as error:
        return {}, _first_line(error)


def _check_fingerprint(path: Path, then: dict[str, Any], fingerprint: Mapping[str, Any]) -> None:
    now = json.loads(json.dumps(dict(fingerprint), sort_keys=True))
    if differing := sorted(key for key in {*now, *then} if now.get(key) != then.get(key)):
        raise DualFormerError(
            f"{path}: the run was started with another {', '.join(differing)}; resume it as it was, or start anew with "
            "another `out`"
        )


@torch.no_grad()
def _fill(tensor: Tensor, saved: Tensor) -> None:
    if tensor.shape != saved.shape:
        raise ValueError(f"a tensor of {tuple(saved.shape)} where {tuple(tensor.shape)} is needed")
    if isinstance(tensor, DTensor):
        saved = distribute_tensor(saved.to(tensor.to_local().device), tensor.device_mesh, tensor.placements)
    tensor.copy_(saved)


def _save_shards(path: Path, tensors: dict[str, Tensor], content: dict[str, Any], ranks: ProcessGroup) -> None:
    """Writes each process's shard into a folder that takes its name when all are done."""
    temporary = path.with_name(f".{path.name}.tmp")

    def begin() -> None:
        with _write_errors(path):
            _remove(temporary)
            temporary.mkdir(parents=True)

    def end() -> None:
        atomic_write(temporary / _RUN, lambda file: torch.save(content, file))
        with _write_errors(path):
            _remove(path)  # of the same step: the end of an epoch in which the run was stopped at its last batch
            temporary.replace(path)

    try:
        ranks.run_on_first(begin)
        failure = None
        try:
            save_shards(tensors, checkpoint_id=temporary, no_dist=not dist.is_initialized())
        except (CheckpointException, OSError, RuntimeError) as error:
            failure = DualFormerError(
                f"{path}: could not be written ({_first_line(error)}); see that the disk has room, then `resume`"
            )
        ranks.raise_if_any(failure)
        ranks.run_on_first(end)
    finally:
        if ranks.is_first:
            _remove(temporary)


def _random_state(device: torch.device) -> dict[str, Tensor]:
    cuda = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"cpu": torch.get_rng_state(), **cuda}


def _restore_random_state(content: dict[str, Any], ranks: ProcessGroup, seed: int, log: Callable[[str], None]) -> None:
    states = content["random"]
    if len(states) != ranks.world_size:
        seed_random(seed, ranks.rank, content["progress"]["step"])
        log(
            f"saved by {len(states)} and resumed by {counted(ranks.world_size, 'process')}: what is dropped out is "
            "drawn anew"
        )
        return
    torch.set_rng_state(states[ranks.rank]["cpu"])
    if ranks.device.type == "cuda" and "cuda" in states[ranks.rank]:
        torch.cuda.set_rng_state(states[ranks.rank]["cuda"], ranks.device)


def _name(step: int) -> str:
    return f"step-{step:07d}"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise DualFormerError(f"{path}: could not be written ({reason}); see that the disk has room") from error


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1 if isinstance(error, CheckpointException) else 0][:300]
