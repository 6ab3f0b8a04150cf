"""Teaches a network people: `python benchmarks/people_weights.py [FOLDER] [--again] [--steps N] [--motions FILE]`.

It goes on from the weights of `convolutional_weights.py` in FOLDER, which know moving shapes. A batch has four clips
of shapes, nine of people and three of hands, each seen once: the class of shapes, the action or gesture of the others,
and for every place and time the part of the body and how it moves. Clips of people and hands go from plain to hard.
With `--again` it goes on from the package's own `rendered` weights: clips of every difficulty from the start, and of
half of them parts are hidden. It stores the weights, in float16, where the package has them as `rendered`. With
`--start WEIGHTS --out FILE` another network is taught, and the package's weights stay. Interrupted, it goes on from
FOLDER.
"""

import argparse
import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import dualformer.weights
from convolutional_weights import SHAPES, VALIDATION_CLIPS, VALIDATION_SEED, accuracy, rendered
from dualformer.datasets.rendered_people.actions import ACTIONS
from dualformer.datasets.rendered_people.bodies import PARTS
from dualformer.datasets.rendered_people.clips import PeopleClips
from dualformer.datasets.rendered_people.difficulty import PeopleDifficulty
from dualformer.datasets.rendered_people.hands import HAND_NAMES
from dualformer.datasets.rendered_people.scene import PeopleScene
from dualformer.model.network import DualFormer
from dualformer.training.precision import choose_precision
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize
from dualformer.weights.locate import SHIPPED
from dualformer.weights.safetensors_file import load_weights, save_weights

SHARES = {"shapes": 4, "people": 9, "hands": 3}
"""Clips of each kind in a batch."""
LR, WARMUP, WEIGHT_DECAY = 1e-3, 100, 0.05
STEPS, STEPS_AGAIN = 2600, 7500
DECAY_FROM, HARDEST_FROM = 0.63, 0.78
"""Parts of the steps after which the rate falls, and clips are of every difficulty."""
PLAINEST = 0.15
HIDDEN = 0.5
"""Share of clips of which a part is hidden, with `--again`."""
SAVE_EVERY = 50
SEED = 12
FINER = 2
"""A place of stage 3 tells the part of the body in this many cells a side."""


class Lessons(Dataset[dict[str, dict[str, Tensor]]]):
    """Batches of the steps to come: the clips of each kind and what is true of them."""

    def __init__(self, preprocessing: Preprocessing, steps: int, motions: str | None, again: bool) -> None:
        self.steps, self.again = steps, again
        size = preprocessing.crop
        self.seed = SEED + again
        self.shapes = rendered(preprocessing, steps * SHARES["shapes"], seed=self.seed)
        self.scenes = {
            "people": PeopleScene(size=size, classes=tuple(ACTIONS), motions=motions),
            "hands": PeopleScene(size=size, classes=HAND_NAMES, view="hands"),
        }

    def __len__(self) -> int:
        return self.steps

    def difficulty(self, step: int, number: int) -> PeopleDifficulty:
        risen = 1.0 if self.again else min(1.0, step / (HARDEST_FROM * self.steps))
        hardest = PLAINEST + (1 - PLAINEST) * risen
        return PeopleDifficulty.at(hardest * float(np.random.default_rng([self.seed, number]).random()) ** 0.7)

    def __getitem__(self, step: int) -> dict[str, dict[str, Tensor]]:
        lessons: dict[str, dict[str, Tensor]] = {}
        for kind, share in SHARES.items():
            numbers = range(step * share, (step + 1) * share)
            if kind == "shapes":
                items = [self.shapes[number] for number in numbers]
            else:
                clips = PeopleClips(
                    self.scenes[kind], self.steps * share, seed=self.seed, difficulty=lambda i: self.difficulty(step, i)
                )
                items = [{name: value for name, value in clips[i].items() if name != "joints"} for i in numbers]
            lessons[kind] = {name: torch.stack([item[name] for item in items]) for name in items[0]}
        return lessons


class Pupil(nn.Module):
    """The network, and the heads that it loses after the lessons."""

    def __init__(self, network: DualFormer) -> None:
        super().__init__()
        self.network = network
        stages = network.config.stages
        self.heads = nn.ModuleDict(
            {
                "people": nn.Linear(stages[-1].channels, len(ACTIONS)),
                "hands": nn.Linear(stages[-1].channels, len(HAND_NAMES)),
            }
        )
        self.norm = nn.LayerNorm(stages[2].channels)
        self.places = nn.Linear(stages[2].channels, FINER**2 * (len(PARTS) + 1 + 2))

    def forward(self, video: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """B 3 T H W → pooled features B C, parts B T' h w (1 + parts) and velocities B T' h w 2."""
        final, (maps,) = self.network.forward_intermediates(video, [2], output_fmt="NTHWC")
        told = self.places(self.norm(maps)).unflatten(-1, (FINER, FINER, -1))
        told = told.permute(0, 1, 2, 4, 3, 5, 6).flatten(2, 3).flatten(3, 4)
        return self.network.forward_head(final, pre_logits=True), told[..., :-2], told[..., -2:]


def hide(video: Tensor) -> Tensor:
    """Blurs a part of some clips (B 3 T H W) to 4 × 4 patches of colour: a box for some time, or scattered cells."""
    count, _, frames, height, width = video.shape
    patches = F.adaptive_avg_pool3d(video, (frames, 4, 4))
    blurred = F.interpolate(patches, size=(frames, height, width), mode="trilinear", align_corners=False)
    cells = torch.zeros(count, 1, frames // 2, height // 8, width // 8)
    for own in cells[:, 0].unbind():
        if torch.rand(()) < HIDDEN / 2:
            own.copy_(torch.rand(own.shape) < torch.empty(()).uniform_(0.05, 0.3))
        elif torch.rand(()) < HIDDEN / (2 - HIDDEN):
            lengths = [
                math.ceil(side * float(torch.empty(()).uniform_(0.2, most)))
                for side, most in zip(own.shape, (1, 0.6, 0.6), strict=True)
            ]
            starts = [
                int(torch.randint(side - length + 1, ())) for side, length in zip(own.shape, lengths, strict=True)
            ]
            own[tuple(slice(start, start + length) for start, length in zip(starts, lengths, strict=True))] = 1
    return torch.where(F.interpolate(cells, size=(frames, height, width)) > 0, blurred, video)


def losses(
    pupil: Pupil, lessons: dict[str, dict[str, Tensor]], preprocessing: Preprocessing, *, hidden: bool, bfloat16: bool
) -> tuple[Tensor, dict]:
    """The loss of a batch, and for each kind the loss of its class and the share that is right; of parts, the loss."""
    video = normalize(torch.cat([lesson["clip"] for lesson in lessons.values()]), preprocessing)
    with torch.autocast(video.device.type, torch.bfloat16, enabled=bfloat16):
        pooled, parts, velocity = (told.float() for told in pupil(hide(video) if hidden else video))
    total, figures = video.new_zeros(()), dict[str, Any]()
    for (kind, lesson), own in zip(lessons.items(), pooled.split(list(SHARES.values())), strict=True):
        logits = pupil.network.head(own) if kind == "shapes" else pupil.heads[kind](own)
        loss = F.cross_entropy(logits, lesson["label"], label_smoothing=0.05)
        total = total + loss * len(own) / len(video)
        figures[kind] = float(loss.detach()), float((logits.argmax(1) == lesson["label"]).float().mean())
    flow = torch.cat([lesson["velocity"] for lesson in lessons.values()])
    seen = torch.cat([lesson["moving"] for lesson in lessons.values()])[..., None]
    wanted, count = (
        F.adaptive_avg_pool3d(x.movedim(-1, 1), velocity.shape[1:4]).movedim(1, -1) for x in (flow * seen, seen)
    )
    unlike = F.smooth_l1_loss(velocity, wanted / count.clamp(min=0.05), reduction="none") * count
    total = total + 0.5 * unlike.sum() / count.sum().clamp(min=1)
    truth = torch.cat([lessons[kind]["part"] for kind in pupil.heads])
    steps = [own // told for own, told in zip(truth.shape[1:], parts.shape[1:4], strict=True)]
    truth = truth[:, :: steps[0], steps[1] // 2 :: steps[1], steps[2] // 2 :: steps[2]].long()
    of_parts = F.cross_entropy(parts[SHARES["shapes"] :].flatten(0, 3), truth.flatten())
    figures["parts"] = float(of_parts.detach()), float(unlike.detach().sum() / count.sum())
    return total + 0.5 * of_parts, figures


def teach(
    network: DualFormer, preprocessing: Preprocessing, folder: Path, *, steps: int, motions: str | None, again: bool
) -> None:
    """Teaches ``network`` people for ``steps`` batches, and goes on from the checkpoint in ``folder`` if it has one."""
    precision = choose_precision("auto", torch.device("cpu"))
    print(f"{steps:,} steps in {precision.name}: {precision.reason}", flush=True)
    torch.manual_seed(SEED)
    pupil = Pupil(network).train()
    matrices = [p for p in pupil.parameters() if p.dim() > 1]
    others = [p for p in pupil.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}], lr=LR
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARMUP, max(0, 1 - step / steps) / (1 - DECAY_FROM))
    )
    checkpoint, first = folder / ("people-again.pt" if again else "people.pt"), 0
    folder.mkdir(parents=True, exist_ok=True)
    if checkpoint.is_file():
        saved = torch.load(checkpoint, weights_only=False)
        first = saved["step"]
        for name, one in (("pupil", pupil), ("optimizer", optimizer), ("schedule", schedule)):
            one.load_state_dict(saved[name])
    lessons = Lessons(preprocessing, steps, motions, again)
    loader = DataLoader(lessons, batch_size=None, sampler=range(first, steps), num_workers=1, prefetch_factor=8)
    started, seen = time.monotonic(), list[dict]()
    for step, batch in enumerate(loader, start=first):
        loss, figures = losses(pupil, batch, preprocessing, hidden=again, bfloat16=precision.name == "bfloat16")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(pupil.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        seen.append(figures)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            state = {
                "pupil": pupil.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
            }
            torch.save(state | {"step": step + 1}, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
            means = {kind: np.mean([one[kind] for one in seen], axis=0) for kind in figures}
            told = ", ".join(f"{kind} {means[kind][0]:.2f} {means[kind][1]:.1%}" for kind in SHARES)
            speed = (step + 1 - first) * sum(SHARES.values()) / (time.monotonic() - started)
            print(
                f"step {step + 1} of {steps}: {told}, parts {means['parts'][0]:.3f}, velocity {means['parts'][1]:.3f}, "
                f"{speed:.1f} clips/s",
                flush=True,
            )
            seen.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/rendered"))
    parser.add_argument("--again", action="store_true", help="go on from the package's own weights `rendered`")
    parser.add_argument("--start", type=Path, help="weights that know the shapes, in place of those in FOLDER")
    parser.add_argument("--out", type=Path, help="file to write, in place of the package's")
    parser.add_argument("--steps", type=int, help=f"default {STEPS:,}, with --again {STEPS_AGAIN:,}")
    parser.add_argument(
        "--motions", help="captured motions that drive half of the actions, see datasets.rendered_people"
    )
    options = parser.parse_args()
    again = options.again
    network, card = load_weights(options.start or ("rendered" if again else options.folder / SHAPES))
    steps = options.steps or (STEPS_AGAIN if again else STEPS)
    teach(network, card.preprocessing, options.folder, steps=steps, motions=options.motions, again=again)
    val = rendered(card.preprocessing, VALIDATION_CLIPS, seed=VALIDATION_SEED)
    print(f"{accuracy(network, val, card.preprocessing):.1%} of {len(val)} clips of shapes right")
    count = (steps + (STEPS if again else 0)) * sum(SHARES.values())
    provenance = (
        f"Taught by dualformer on {count:,} rendered clips of shapes, people and hands (benchmarks/people_weights.py)"
    )
    path = options.out or Path(dualformer.weights.__file__).parent / "shipped" / SHIPPED["rendered"]
    card = dataclasses.replace(card, provenance=provenance, metrics={})
    save_weights(path, network.eval(), card, dtype=torch.float16)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
