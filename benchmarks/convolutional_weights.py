"""Teaches Nano Conv what nano's rendered weights know: `python benchmarks/convolutional_weights.py [FOLDER] [CLIPS]`.

Stages 3 and 4 and the classifier begin with nano's weights. The stem and the convolutions of stages 1 and 2 learn to
give the maps that nano's stages give on rendered clips, each clip seen once, while the whole network learns the class.
It stores the weights, in float16, in FOLDER, and `people_weights.py` goes on from them. Interrupted, it goes on itself.
"""

import dataclasses
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dualformer.datasets.rendered import ALL, Difficulty, RenderedClips, Scene
from dualformer.model.network import DualFormer
from dualformer.model.presets import preset_config
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize
from dualformer.weights.safetensors_file import load_weights, save_weights

BATCH, WARMUP = 16, 100
SAVE_EVERY = 300
SHAPES = "nano-conv-shapes.safetensors"
"""The weights that know moving shapes, in the folder."""
SEED, VALIDATION_SEED, VALIDATION_CLIPS = 11, 2**31 - 1, 256
TAUGHT = ("stages.0.", "stages.1.")


def main(folder: str = "runs/rendered", clips: str = "9600") -> None:
    steps, out = int(clips) // BATCH, Path(folder)
    teacher, card = load_weights("rendered-nano")
    config = preset_config("dualformer_nano_conv", clip=card.config.clip, num_classes=len(ALL), dropout=0.1)
    student = DualFormer(config, seed=0)
    own = student.state_dict()
    known = {key: tensor.float() for key, tensor in teacher.state_dict().items() if not key.startswith(TAUGHT)}
    student.load_state_dict(own | known)
    teacher.eval()
    rates = {2e-3: True, 4e-4: False}  # of what begins at random, and of what nano has learnt
    groups = [
        {"params": [p for name, p in student.named_parameters() if name.startswith(TAUGHT) is new], "lr": rate}
        for rate, new in rates.items()
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARMUP) * (1 + math.cos(math.pi * step / steps)) / 2
    )
    train = rendered(card.preprocessing, steps * BATCH, seed=SEED)
    val = rendered(card.preprocessing, VALIDATION_CLIPS, seed=VALIDATION_SEED)
    print(f"nano: {accuracy(teacher, val, card.preprocessing):.1%} of {len(val)} clips right", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, first = out / "checkpoint.pt", 0
    if checkpoint.is_file():
        saved = torch.load(checkpoint, weights_only=False)
        first = saved["step"]
        student.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
    started = time.monotonic()
    for step in range(first, steps):
        video, labels = batch(train, range(step * BATCH, (step + 1) * BATCH), card.preprocessing)
        with torch.no_grad():
            wanted = teacher.forward_intermediates(video, [0, 1], stop_early=True, intermediates_only=True)
        final, maps = student.train().forward_intermediates(video, [0, 1])
        unlike = torch.stack([F.mse_loss(one, other) / other.var() for one, other in zip(maps, wanted, strict=True)])
        loss = unlike.sum() + 0.5 * F.cross_entropy(student.forward_head(final), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            state = {"model": student.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state | {"schedule": schedule.state_dict(), "step": step + 1}, checkpoint)
            share, speed = accuracy(student, val, card.preprocessing), (step + 1 - first) * BATCH
            print(
                f"{(step + 1) * BATCH} clips: {share:.1%} right, maps {float(unlike.detach().mean()):.2f} of their "
                f"variance off, {speed / (time.monotonic() - started):.1f} clips/s",
                flush=True,
            )
    provenance = (
        f"Nano Conv, taught by dualformer what nano's rendered weights know, on {steps * BATCH:,} rendered clips of 16 "
        "motions (benchmarks/convolutional_weights.py)"
    )
    path = out / SHAPES
    card = dataclasses.replace(card, config=student.config, provenance=provenance, metrics={})
    save_weights(path, student.eval(), card, dtype=torch.float16)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def rendered(preprocessing: Preprocessing, length: int, *, seed: int) -> RenderedClips:
    """Clips of all motions, of any difficulty."""
    frames, size = preprocessing.frames, preprocessing.crop
    scene = Scene(size=size, frames=frames * preprocessing.stride, classes=ALL, wrap=True)

    def difficulty(number: int) -> Difficulty:
        return Difficulty.at(float(np.random.default_rng([seed, number]).random()))

    return RenderedClips(scene, length, seed=seed, frames=frames, difficulty=difficulty)


def batch(clips: RenderedClips, numbers: range, preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
    items = [clips[number] for number in numbers]
    video = normalize(torch.stack([item["clip"] for item in items]), preprocessing)
    return video, torch.stack([torch.as_tensor(item["label"]) for item in items])


@torch.no_grad()
def accuracy(model: DualFormer, clips: RenderedClips, preprocessing: Preprocessing) -> float:
    was_training, right = model.training, 0
    model.eval()
    for first in range(0, len(clips), 32):
        video, labels = batch(clips, range(first, min(first + 32, len(clips))), preprocessing)
        right += int((model(video).argmax(1) == labels).sum())
    model.train(was_training)
    return right / len(clips)


if __name__ == "__main__":
    main(*sys.argv[1:])
