"""Makes the weights that come with the package anew: `python benchmarks/rendered_weights.py [FOLDER]`.

Trains by the recipe `rendered-nano` (on from its checkpoint where FOLDER holds an unfinished run), stores the last
epoch's weights in float16. The figures that the recipe states are those that this prints.
"""

import dataclasses
import sys
from pathlib import Path

import torch

import dualformer.weights
from dualformer.training.checkpoint import has_checkpoint
from dualformer.training.recipes import Recipe, find_recipe
from dualformer.training.reporter import read_metrics
from dualformer.training.run_folder import LAST
from dualformer.training.train import train
from dualformer.weights.locate import SHIPPED
from dualformer.weights.safetensors_file import load_weights, save_weights


def main(folder: str = "runs/rendered-nano") -> None:
    recipe = find_recipe("rendered-nano")
    assert isinstance(recipe, Recipe)
    config = recipe.config(out=folder)
    result = train(config.replace(resume=has_checkpoint(Path(folder))))
    model, card = load_weights(result.out / LAST)
    shipped = Path(dualformer.weights.__file__).parent / "shipped" / SHIPPED["rendered-nano"]
    assert config.epochs is not None
    clips = config.rendered_clips * config.epochs
    provenance = f"nano, trained by dualformer on {clips:,} rendered clips of 16 motions (recipe rendered-nano)"
    save_weights(shipped, model, dataclasses.replace(card, provenance=provenance), dtype=torch.float16)
    last = read_metrics(result.out)[-1]
    print(f"{shipped}: {shipped.stat().st_size / 1e6:.1f} MB, validation accuracy {last['val_top1']:.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
