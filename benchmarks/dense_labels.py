"""Does it help to tell every token what moves where? Nano from scratch on plain rendered clips, with and without.

`python benchmarks/dense_labels.py [CLIPS]`: both networks take a step in turn on the same clips, each once (default
6,400 clips of 8 classes, batch 32, AdamW at 1e-3, cosine); prints accuracy on 320 other clips as a Markdown table.
"""

import sys

import torch
from torch.utils.data import DataLoader

from dualformer.datasets.rendered import HORIZONTAL, RenderedClips, Scene
from dualformer.model.presets import create_model
from dualformer.training.objective import ClipObjective, MotionObjective
from dualformer.training.optimizer import parameter_groups, schedule
from dualformer.training.settings.optimizer_settings import OptimizerSettings
from dualformer.video.preprocessing import KINETICS_MEAN, KINETICS_STD, Preprocessing

PRE = Preprocessing(frames=16, stride=2, resize=64, crop=64, mean=KINETICS_MEAN, std=KINETICS_STD)
SCENE = Scene(classes=HORIZONTAL, wrap=True)
BATCH = 32
LR = 1e-3
SETTINGS = OptimizerSettings(backbone_lr=1.0, weight_decay=0.05)


def accuracy(objective: ClipObjective, clips: DataLoader) -> float:
    objective.eval()
    right = total = 0
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for batch in clips:
            right += int((objective(batch).logits.argmax(dim=1) == batch["label"]).sum())
            total += len(batch["label"])
    objective.train()
    return right / total


def main(count: int = 6400) -> None:
    objectives: dict[str, ClipObjective] = {}
    optimizers = {}
    for name, kind in (("with motion labels for every token", MotionObjective), ("without", ClipObjective)):
        model = create_model("dualformer_nano", clip=(16, 64, 64), num_classes=8, seed=0, dropout=0.0)
        objectives[name] = kind(model, PRE).train()
        groups = parameter_groups(model, SETTINGS, lr=LR, extra=objectives[name].extra)
        optimizers[name] = torch.optim.AdamW(groups)
    train = DataLoader(RenderedClips(SCENE, count, seed=1, frames=16), batch_size=BATCH, drop_last=True, num_workers=1)
    val = DataLoader(RenderedClips(SCENE, 320, seed=2, frames=16), batch_size=BATCH)
    print(f"| clips seen | {' | '.join(objectives)} |\n|---|---|---|")
    for number, batch in enumerate(train):
        factor = schedule(number, steps=len(train), warmup=len(train) // 20)
        for name, objective in objectives.items():
            with torch.autocast("cpu", torch.bfloat16):
                loss = objective(batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
            for group in optimizers[name].param_groups:
                group["lr"] = LR * factor
            optimizers[name].step()
            optimizers[name].zero_grad()
        if (number + 1) % (len(train) // 4) == 0:
            row = " | ".join(f"{accuracy(objective, val):.0%}" for objective in objectives.values())
            print(f"| {(number + 1) * BATCH:,} | {row} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
