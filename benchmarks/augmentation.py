"""Milliseconds that augmentation takes for a clip of 16×224×224, on one thread.

`python benchmarks/augmentation.py [ROUNDS]`: each operation ROUNDS times (default 15), medians, as a Markdown table;
beside them those of kornia where it is installed (`pip install kornia`; the project does without), from uint8 channels
last to uint8 channels last as here. Then whole draws, and how long it takes to read a clip with them.
"""

import importlib
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dualformer.training.mixing import Mix, apply_mix
from dualformer.video.augmentation import Augmentation, RandAugment
from dualformer.video.clip_reader import read_training_clip
from dualformer.video.encode import write_video
from dualformer.video.pixel_augment import Change, apply_changes, augment
from dualformer.video.preprocessing import kinetics

PRE = kinetics(16, 2, 224)
AMOUNTS = {
    "brightness": 1.3,
    "contrast": 1.3,
    "saturation": 1.3,
    "sharpness": 1.3,
    "autocontrast": 0.0,
    "equalize": 0.0,
    "posterize": 4.0,
    "solarize": 128.0,
    "invert": 0.0,
    "rotate": 20.0,
    "shear_x": 0.2,
}
RECIPES = {
    "nothing but crop and flip": {},
    "colour jitter 0.4": {"colour_jitter": 0.4},
    "RandAugment 9x2": {"randaugment": RandAugment(magnitude=9, number=2)},
    "RandAugment 7x4x0.5, erasing 0.25": {
        "randaugment": RandAugment(magnitude=7, number=4, std=0.5),
        "erasing": 0.25,
    },
}


def median(work: Callable[[], Any], rounds: int) -> float:
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def smooth_clip(frames: int, height: int, width: int) -> Tensor:
    """Something with large and small structures, as pictures have."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(frames, 3, 7, 7, generator=generator) + 0.2 * F.interpolate(
        torch.rand(frames, 3, 56, 56, generator=generator), size=(7, 7)
    )
    planes = F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    return (planes * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def kornia_operations() -> dict[str, Callable[[Tensor], Tensor]]:
    """Planes (T, 3, H, W) from 0 to 1."""
    if importlib.util.find_spec("kornia") is None:
        return {}
    enhance: Any = importlib.import_module("kornia.enhance")
    geometry: Any = importlib.import_module("kornia.geometry.transform")
    return {
        "brightness": lambda x: enhance.adjust_brightness_accumulative(x, 1.3),
        "contrast": lambda x: enhance.adjust_contrast_with_mean_subtraction(x, 1.3),
        "saturation": lambda x: enhance.adjust_saturation_with_gray_subtraction(x, 1.3),
        "sharpness": lambda x: enhance.sharpness(x, 1.3),
        "autocontrast": enhance.normalize_min_max,
        "equalize": enhance.equalize,
        "posterize": lambda x: enhance.posterize(x, 4),
        "solarize": lambda x: enhance.solarize(x, 0.5),
        "invert": enhance.invert,
        "rotate": lambda x: geometry.rotate(x, torch.full((len(x),), 20.0)),
        "shear_x": lambda x: geometry.shear(x, torch.tensor([[0.2, 0.0]]).expand(len(x), 2)),
    }


def from_and_to_bytes(operation: Callable[[Tensor], Tensor], clip: Tensor) -> Tensor:
    planes = operation(clip.permute(0, 3, 1, 2).float() / 255)
    return (planes * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    torch.set_num_threads(1)
    clip = smooth_clip(16, 224, 224)
    theirs = kornia_operations()
    print("| operation | here, ms |" + (" kornia, ms |" if theirs else ""))
    print("|---|---|" + ("---|" if theirs else ""))
    for name, amount in AMOUNTS.items():
        cells = [f"{median(lambda n=name, a=amount: apply_changes(clip, [Change(n, a)]), rounds):.1f}"]
        if theirs:
            cells.append(f"{median(lambda n=name: from_and_to_bytes(theirs[n], clip), rounds):.1f}")
        print(f"| {name} | {' | '.join(cells)} |")
    batch = {"clip": torch.stack([clip] * 4), "label": torch.arange(4)}
    mixup, cutmix = Mix(share=0.7), Mix(share=0.7, centre=(0.5, 0.5))
    for name, mix in (("mixup, a clip of four", mixup), ("CutMix, a clip of four", cutmix)):
        print(f"| {name} | {median(lambda m=mix: apply_mix(batch, m, 4), rounds) / 4:.1f} |" + (" |" if theirs else ""))

    print("\n| draws | their part, ms | whole clip from a 340×256 file, ms |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mp4"
        write_video(path, smooth_clip(120, 256, 340).numpy(), fps=30)
        for name, options in RECIPES.items():
            settings = Augmentation(flip=0.5, **options)
            draws = range(10 * rounds)
            start = time.perf_counter()
            for seed in draws:
                augment(clip, settings, PRE, np.random.default_rng(seed))
            part = 1000 * (time.perf_counter() - start) / len(draws)
            start = time.perf_counter()
            for seed in draws:
                read_training_clip(path, PRE, np.random.default_rng(seed), settings, threads=1)
            print(f"| {name} | {part:.1f} | {1000 * (time.perf_counter() - start) / len(draws):.1f} |")


if __name__ == "__main__":
    main()
