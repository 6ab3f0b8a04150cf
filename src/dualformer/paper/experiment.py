"""The experiment on the paper's thesis: its settings, its runs, and the file that their results are collected in.

Every run is one variant of one small network, one task of the local × global bench and one seed, and has its own
folder, ``OUT/TASK/VARIANT/seed-N``. Runs with the same seed see the same clips in the same order, and all are tested on
the same clips.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from dualformer.errors import DualFormerError
from dualformer.files import write_json
from dualformer.model.config import Config, Size3
from dualformer.paper.relation_clips import TASKS, Relations, RelationTask
from dualformer.paper.scaled_variants import ATTENTION_KINDS, SCALED_CLIP, VARIANTS, scaled_config
from dualformer.training.precision import choose_precision
from dualformer.training.settings.train_config import TrainConfig

RESULT = "result.json"
"""Of a run, in its folder."""
RESULTS = "results.json"
"""Of all runs, in the experiment's folder."""
TEST_SEED = 2**31 - 2
VAL_SEED = 2**31 - 3
"""Seeds that no run has."""
CONTROLS = ("still", "shuffled")
"""Test clips of which one frame is repeated, and such with their frames in another order."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The settings of an experiment: what all runs share, and which runs there are."""

    out: str = "runs/relations"
    tasks: tuple[RelationTask, ...] = TASKS
    variants: tuple[str, ...] = ATTENTION_KINDS
    """Names in `VARIANTS`."""
    seeds: int = 5
    seed: int = 0
    """The first seed; the others follow it."""
    model: str = "dualformer_nano"
    clip: Size3 = SCALED_CLIP
    clips: int = 3200
    """Clips that a run is trained on, each once."""
    batch_size: int = 8
    lr: float = 1.5e-3
    weight_decay: float = TrainConfig.weight_decay
    truth: float = 1.0
    """Weight in the loss of the renderer's truth of what drifts where, beside the class."""
    test_clips: int = 1000
    jobs: int = 0
    """Runs side by side (0: one for each core, or four on a GPU)."""
    precision: Literal["auto", "float32", "bfloat16"] = TrainConfig.precision
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = TrainConfig.accelerator
    scene: dict[str, Any] = field(default_factory=dict)
    """Settings of `Relations` that differ from its own."""

    EPOCHS = 8
    """Parts of a run after which a checkpoint is written and the curve gets a point."""
    VAL_CLIPS = 128
    """Most clips to validate on, for the points of the curve."""

    def __post_init__(self) -> None:
        for name in ("seeds", "batch_size", "test_clips"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, not {getattr(self, name)}")
        if self.clips < self.EPOCHS * self.batch_size:
            raise ValueError(f"`clips` must be at least {self.EPOCHS * self.batch_size}, {self.EPOCHS} batches")
        if self.jobs < 0 or self.seed < 0:
            raise ValueError("`jobs` and `seed` must be 0 or more")
        if unknown := [name for name in self.variants if name not in VARIANTS]:
            raise ValueError(f"there is no variant {unknown[0]}; there are {', '.join(VARIANTS)}")
        if not self.variants or not self.tasks:
            raise ValueError("name at least one variant and one task")
        scaled_config(self.model, clip=self.clip)
        for task in self.tasks:
            self.relations(task)

    def relations(self, task: RelationTask) -> Relations:
        return Relations(task=task, size=self.clip[1], frames=self.clip[0], **self.scene)

    @property
    def train_length(self) -> int:
        """Clips that a run is trained on: `clips`, less what makes no whole batches in every part."""
        batches = self.clips // self.EPOCHS // self.batch_size
        return batches * self.batch_size * self.EPOCHS

    def network(self, variant: str) -> Config:
        return VARIANTS[variant](scaled_config(self.model, clip=self.clip))

    def replace(self, **changes: Any) -> Experiment:
        return dataclasses.replace(self, **changes)

    def shared_settings(self) -> dict[str, Any]:
        """Returns the settings, as JSON keeps them, that must be the same for all runs in one folder."""
        may_differ = ("out", "tasks", "variants", "seeds", "seed", "jobs", "accelerator")
        plain = json.loads(json.dumps(dataclasses.asdict(self)))
        return {name: value for name, value in plain.items() if name not in may_differ}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run: its task, variant and seed."""

    task: RelationTask
    variant: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.task}/{self.variant}/seed-{self.seed}"


def runs_of(experiment: Experiment) -> list[Run]:
    """Lists the runs seed by seed, so that an experiment that is stopped early has something of everything."""
    return [
        Run(task=task, variant=variant, seed=seed)
        for seed in range(experiment.seed, experiment.seed + experiment.seeds)
        for task in experiment.tasks
        for variant in experiment.variants
    ]


def open_results(out: Path, experiment: Experiment, device: torch.device) -> Experiment:
    """Makes or checks ``results.json`` in ``out``; returns the experiment with its number format decided.

    ``precision="auto"`` becomes that of the results that are there, else what is fastest on ``device``. Errors:
    ``DualFormerError`` where the results there are of other settings.
    """
    path = out / RESULTS
    earlier: dict[str, Any] = {}
    if path.is_file():
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))["settings"]
        except (ValueError, KeyError, TypeError) as error:
            raise DualFormerError(f"{path}: not the results of this experiment; choose another `out`") from error
    if experiment.precision == "auto":
        # Measured once: two number formats would be two recipes.
        experiment = experiment.replace(precision=earlier.get("precision") or choose_precision("auto", device).name)
    asked = experiment.shared_settings()
    if earlier and (changed := [name for name in asked if earlier.get(name) != asked[name]]):
        differences = ", ".join(f"{name} ({earlier.get(name)}, not {asked[name]})" for name in changed)
        raise DualFormerError(f"{path}: these results are of another {differences}; choose the same, or another `out`")
    if not earlier:
        write_json(path, {"settings": asked, "runs": []}, indent=None, ensure_ascii=True)
    return experiment


def write_results(experiment: Experiment) -> list[dict[str, Any]]:
    """Collects the results of all runs in the folder, whichever call did them, in a fixed order."""
    out = Path(experiment.out)
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in out.glob(f"*/*/seed-*/{RESULT}")]
    order = {name: number for number, name in enumerate((*TASKS, *VARIANTS))}  # other networks follow, by name
    runs.sort(key=lambda run: (order[run["task"]], order.get(run["variant"], len(order)), run["variant"], run["seed"]))
    write_json(out / RESULTS, {"settings": experiment.shared_settings(), "runs": runs}, indent=1, ensure_ascii=True)
    return runs
