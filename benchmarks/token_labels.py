"""Does a teacher's word on every token help? Nano from scratch on plain rendered clips, with token labels and without.

`python benchmarks/token_labels.py [FOLDER [CLIPS [SEEDS]]]`: both networks take a step in turn on the same clips, each
seen once (default 6,400 clips of 8 motions, difficulty 0, 3 seeds; batch 8, AdamW at 1e-3, cosine). The teacher is the
nano that comes with the package, which was trained on 64,000 clips of 16 motions. Prints accuracy on 320 other clips
after each quarter, mean and range over the seeds, as a Markdown table. Called again, it goes on from FOLDER.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Subset

from dualformer.datasets.rendered import HORIZONTAL, RenderedClips, Scene
from dualformer.files import atomic_write
from dualformer.model.presets import create_model
from dualformer.training.objective import Batch, ClipObjective, make_objective
from dualformer.training.optimizer import parameter_groups, schedule
from dualformer.training.settings.optimizer_settings import OptimizerSettings
from dualformer.training.settings.train_config import TrainConfig
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize
from dualformer.weights.safetensors_file import load_weights

TEACHER = "rendered"
STUDENTS = {"token labels": TEACHER, "labels of clips only": None}
SCENE = Scene(classes=HORIZONTAL, wrap=True)
BATCH, LR, PARTS, HELD_OUT = 8, 1e-3, 4, 320
SETTINGS = OptimizerSettings(backbone_lr=1.0, weight_decay=0.05)


def student(teacher: str | None, pre: Preprocessing, seed: int) -> ClipObjective:
    model = create_model("dualformer_nano", clip=(16, 64, 64), num_classes=len(HORIZONTAL), seed=seed, dropout=0.0)
    config = TrainConfig(data="rendered", teacher=teacher, seed=seed)
    # The truth that rendered clips bring is for dense_labels.py.
    return make_objective(config, False, model, pre, classes=HORIZONTAL).train()


def accuracy(
    network: torch.nn.Module, pre: Preprocessing, clips: list[Batch], places: list[int] | None = None
) -> float:
    network.eval()
    right = total = 0
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for batch in clips:
            logits = network(normalize(batch["clip"], pre))
            chosen = logits if places is None else logits[:, places]
            right += int((chosen.argmax(dim=1) == batch["label"]).sum())
            total += len(batch["label"])
    return right / total


class Seed:
    """Both students of a seed, and how far they are."""

    def __init__(self, folder: Path, seed: int, count: int, pre: Preprocessing) -> None:
        self.seed, self.pre, self.steps = seed, pre, count // BATCH
        self.students = {name: student(teacher, pre, seed) for name, teacher in STUDENTS.items()}
        self.optimizers = {
            name: torch.optim.AdamW(parameter_groups(made.model, SETTINGS, lr=LR, extra=made.extra))
            for name, made in self.students.items()
        }
        self.done = 0
        self.seconds = dict.fromkeys(STUDENTS, 0.0)
        self._path = folder / f"seed-{seed}-of-{count}-clips.pt"
        torch.manual_seed(seed)
        if self._path.is_file():
            state = torch.load(self._path, weights_only=True)
            for name in STUDENTS:
                self.students[name].load_state_dict(state["students"][name])
                self.optimizers[name].load_state_dict(state["optimizers"][name])
            self.done, self.seconds = state["done"], state["seconds"]
            torch.set_rng_state(state["random"])

    def train_until(self, step: int) -> None:
        clips = RenderedClips(SCENE, self.steps * BATCH, seed=1000 + self.seed, frames=16)
        left = Subset(clips, range(self.done * BATCH, step * BATCH))
        for batch in DataLoader(left, batch_size=BATCH, generator=torch.Generator()):
            factor = schedule(self.done, steps=self.steps, warmup=self.steps // 20)
            for name, objective in self.students.items():
                objective.train()
                begun = time.perf_counter()
                with torch.autocast("cpu", torch.bfloat16):
                    loss = objective(batch).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
                for group in self.optimizers[name].param_groups:
                    group["lr"] = LR * factor
                self.optimizers[name].step()
                self.optimizers[name].zero_grad()
                self.seconds[name] += time.perf_counter() - begun
            self.done += 1
        state = {
            "students": {name: made.state_dict() for name, made in self.students.items()},
            "optimizers": {name: made.state_dict() for name, made in self.optimizers.items()},
            "done": self.done,
            "seconds": self.seconds,
            "random": torch.get_rng_state(),
        }
        atomic_write(self._path, lambda path: torch.save(state, path))


def main(folder: Path, count: int = 6400, seeds: int = 3) -> None:
    teacher, card = load_weights(TEACHER)
    pre = card.preprocessing
    held_out = list(DataLoader(RenderedClips(SCENE, HELD_OUT, seed=2, frames=16), batch_size=BATCH))
    places = [card.labels.index(name) for name in HORIZONTAL]
    print(f"the teacher's accuracy on the held-out clips: {accuracy(teacher, pre, held_out, places):.1%}", flush=True)
    marks = [count // BATCH * part // PARTS for part in range(1, PARTS + 1)]
    log = folder / f"accuracy-of-{count}-clips.json"
    figures: dict[str, float] = json.loads(log.read_text()) if log.is_file() else {}

    def key(name: str, seed: int, mark: int) -> str:
        return f"{name}, seed {seed}, {mark * BATCH} clips"

    for seed in range(seeds):
        run = Seed(folder, seed, count, pre)
        for mark in marks:
            if mark > run.done:
                run.train_until(mark)
            if mark == run.done:
                for name, objective in run.students.items():
                    figures[key(name, seed, mark)] = accuracy(objective.model, pre, held_out)
                atomic_write(log, lambda path: path.write_text(json.dumps(figures, indent=2)))
                said = ", ".join(f"{name} {figures[key(name, seed, mark)]:.1%}" for name in STUDENTS)
                print(f"seed {seed}, {mark * BATCH} clips: {said}", flush=True)
        seconds = ", ".join(f"{name} {1000 * run.seconds[name] / run.steps:.0f} ms" for name in STUDENTS)
        print(f"seed {seed}: a step of {BATCH} clips took {seconds}", flush=True)
    print(f"\n| clips seen | {' | '.join(STUDENTS)} |\n|---|{'---|' * len(STUDENTS)}")
    for mark in marks:
        cells: list[str] = []
        for name in STUDENTS:
            found = [figures[key(name, seed, mark)] for seed in range(seeds)]
            cells.append(f"{statistics.mean(found):.1%} ({min(found):.1%} to {max(found):.1%})")
        print(f"| {mark * BATCH:,} | {' | '.join(cells)} |")


if __name__ == "__main__":
    folder, *numbers = sys.argv[1:] or ["runs/token-labels"]
    main(Path(folder), *map(int, numbers))
