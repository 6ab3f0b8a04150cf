"""``dualformer embed``: features of many files, in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dualformer.cli._computing import Computing
from dualformer.cli._folder import run_folder, with_address


@dataclass(frozen=True, kw_only=True)
class Options(Computing):
    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILES…")]
    """Video or image files, folders of them, or lists: .csv with a column path, .txt with a path on each line."""
    weights: str
    """A weights file, a folder with model.safetensors, or a hub id (owner/name)."""
    out: Path
    """The table: .npy (features alone, row by row; a CSV file beside it says which file each row is of), .parquet or
    .jsonl. A second call does only what is new or has changed."""
    views: str = "4x1"
    """Views of each video, clips x crops (1 or 3 crops); their features are averaged."""
    ray: str | None = None
    """Spread the files over a Ray cluster at this address; alone, over processes of this machine."""
    actors: int | None = None
    """Processes of --ray; one for each GPU, or CPU where there is none, if not given."""
    fresh: bool = False
    """Replace what is in --out."""
    retry: bool = False
    """Try those files again that failed."""
    json: bool = False
    """Print one JSON object at the end, and nothing else."""

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("name at least one video, image or folder")
        if self.actors is not None and self.ray is None:
            raise ValueError("--actors goes with --ray")


def defaults(arguments: Sequence[str]) -> tuple[None, str, list[str]]:
    return None, "", with_address(arguments)


def run(options: Options) -> int:
    from dualformer.inference.ray_cluster import Recipe

    recipe = Recipe(
        kind="features",
        weights=options.weights,
        views=options.views,
        device=options.device,
        precision=options.chosen_precision,
        compile_mode=options.compile_mode,
    )
    return run_folder(
        options.out,
        options.files,
        recipe,
        ray=options.ray,
        actors=options.actors,
        fresh=options.fresh,
        retry=options.retry,
        json=options.json,
    )
