"""Where Grad-CAM tells the truth: what deleting its hottest tenth costs, and what a tenth elsewhere, by stage.

    python benchmarks/explaining.py                                  # shipped weights, rendered clips: 15 minutes
    python benchmarks/explaining.py --weights W.safetensors --data DATA.csv --on batch=B --out figures.json

Every clip counts, rightly labelled or not: what is explained is the class that the network names. A map in which
nothing speaks for the class counts as no loss on either side. One thread.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from dualformer.datasets.rendered import ALL, Difficulty, RenderedClips, Scene
from dualformer.datasets.row_filter import parse_row_filter
from dualformer.datasets.splits import open_videos
from dualformer.explain.deletion_check import check_deletion
from dualformer.explain.explain_video import explain_video
from dualformer.explain.gradcam import Gradients
from dualformer.inference.recognizer import Recognizer


def measure(
    recognizer: Recognizer, videos: list[Callable[[], str | torch.Tensor]], stage: int, gradients: Gradients, draws: int
) -> dict[str, float]:
    """Mean losses of probability with and without the hottest places, and how often the former is larger."""
    lost: list[tuple[float, float]] = []
    for video in videos:
        explanation = explain_video(recognizer, video(), stage=stage, gradients=gradients)
        if explanation.map.any():
            check = check_deletion(recognizer, explanation, draws=draws)
            lost.append((check.drop, check.random_drop))
        else:
            lost.append((0.0, 0.0))
    hottest, elsewhere = np.array(lost).T
    difference = hottest - elsewhere
    return {
        "clips": len(lost),
        "hottest": float(hottest.mean()),
        "elsewhere": float(elsewhere.mean()),
        "difference": float(difference.mean()),
        "error": float(difference.std(ddof=1) / len(lost) ** 0.5),
        "better": float((difference > 0).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="rendered")
    parser.add_argument("--data", help="labelled videos; rendered clips without it")
    parser.add_argument("--on", help="rows of a CSV file, as in batch=B")
    parser.add_argument("--clips", type=int, help="80 rendered clips, or all videos, if not given")
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recognizer = Recognizer.load(options.weights, device="cpu")
    videos: list[Callable[[], str | torch.Tensor]]
    if options.data is None:
        scene = Scene(classes=ALL, difficulty=Difficulty.at(0.5), wrap=True)
        rendered = RenderedClips(scene, options.clips or 80, seed=77)
        videos = [lambda i=i: rendered[i]["clip"] for i in range(len(rendered))]
    else:
        listed = open_videos(options.data, on=parse_row_filter(options.on) if options.on else None).samples
        videos = [lambda sample=sample: str(sample.path) for sample in listed[: options.clips]]
    figures = []
    for stage in (4, 3, 2):
        for gradients in get_args(Gradients):
            row = {
                "stage": stage,
                "gradients": gradients,
                **measure(recognizer, videos, stage, gradients, options.draws),
            }
            figures.append(row)
            print(
                f"stage {stage}, {gradients}: {row['hottest']:.3f} without the hottest tenth, {row['elsewhere']:.3f} "
                f"without another; {row['difference']:+.3f} ± {row['error']:.3f}, better in {row['better']:.0%} of "
                f"{row['clips']}",
                flush=True,
            )
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
