"""Other video networks on the local × global bench, beside DualFormer: as many multiply-adds, the same clips and steps.

    dualformer ablate --run --data relations --out runs/relations
    python benchmarks/relations_peers.py --out runs/relations
    python benchmarks/relations_peers.py --out runs/relations --peers space-only convolution --jobs 2

The second joins the first's folder: its settings are read from there, and its table and picture show all networks.

* ``space-only``: the small DualFormer of images on every second frame, its features averaged. No motion reaches it, so
  it must stay at chance; if it does not, the bench leaks.
* ``convolution``: a plain residual network of 3-D convolutions.
* ``divided``: TimeSformer, attention divided between space and time (needs transformers).
* ``joint``: VideoMAE's network, attention of every token to all others (needs transformers).

Shifted windows in three dimensions are in no library that can be imported beside this package's PyTorch: left out.

The recipe is that of the experiment: AdamW with one rate for everything, warm-up and cosine, nothing dropped at random,
the cue leaning to one side at first, and the truth of what drifts where beside the class. It was not tuned for any of
them. Runs that are done are kept; one that is killed begins anew.
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dualformer.model.config import Size3, Stage
from dualformer.model.network import DualFormer
from dualformer.paper.drift_objective import DriftReader
from dualformer.paper.experiment import RESULT, RESULTS, Experiment, write_results
from dualformer.paper.experiment_report import report
from dualformer.paper.relation_clips import TASKS, RelationClips, RelationCurriculum, RelationTask
from dualformer.paper.run_experiment import measure_accuracy, preprocessing_of
from dualformer.paper.scaled_variants import scaled_config
from dualformer.training.optimizer import schedule
from dualformer.training.reporter import clock
from dualformer.video.transforms import normalize


class Peer(nn.Module, ABC):
    """B 3 T H W → B classes, by way of a map of features B C T' H' W'."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.head = nn.Linear(channels, 2)

    @abstractmethod
    def features(self, video: Tensor) -> Tensor:
        """The map, with time and place left in it."""

    def forward(self, video: Tensor) -> Tensor:
        return self.head(self.features(video).mean((2, 3, 4)))


class SpaceOnly(Peer):
    """Every second frame for itself."""

    def __init__(self, clip: Size3) -> None:
        video = scaled_config(clip=clip)
        stages = tuple(map(_of_images, video.stages))
        frames = DualFormer(video.replace(stages=stages, clip=(1, *clip[1:]), num_classes=0))
        super().__init__(frames.num_features)
        self.frames = frames

    def features(self, video: Tensor) -> Tensor:
        frames = video[:, :, ::2].transpose(1, 2)
        maps = self.frames.forward_features(frames.flatten(0, 1)[:, :, None])
        return maps[:, :, 0].unflatten(0, frames.shape[:2]).transpose(1, 2)


def _of_images(stage: Stage) -> Stage:
    def flat(size: Size3) -> Size3:
        return (1, *size[1:])

    scales = tuple(replace(scale, grid=flat(scale.grid)) for scale in stage.scales)
    return replace(stage, patch=flat(stage.patch), window=flat(stage.window), scales=scales)


class Residual(nn.Module):
    """Two 3 × 3 × 3 convolutions beside the map itself."""

    def __init__(self, inside: int, outside: int, stride: Size3) -> None:
        super().__init__()
        self.first = nn.Conv3d(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.second = nn.Conv3d(outside, outside, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm3d(outside) for _ in range(2))
        self.past = nn.Conv3d(inside, outside, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        return F.relu(y + self.past(x))


class Convolution(Peer):
    """A small residual network of 3-D convolutions."""

    def __init__(self, width: int = 17) -> None:
        widths = (width, 2 * width, 4 * width, 8 * width)
        super().__init__(widths[-1])
        self.stem = nn.Sequential(
            nn.Conv3d(3, width, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(),
        )
        strides: tuple[Size3, ...] = ((1, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))
        pairs = zip((width, *widths[:-1]), widths, strides, strict=True)
        self.stages = nn.Sequential(*(Residual(inside, outside, stride) for inside, outside, stride in pairs))

    def features(self, video: Tensor) -> Tensor:
        return self.stages(self.stem(video))


class FromTransformers(Peer):
    """A backbone of that library, which takes frames first and gives tokens, which ``place`` puts on their map."""

    def __init__(self, backbone: nn.Module, channels: int, place: Callable[[Tensor], Tensor]) -> None:
        super().__init__(channels)
        self.backbone, self.place = backbone, place

    def features(self, video: Tensor) -> Tensor:
        return self.place(self.backbone(video.transpose(1, 2)).last_hidden_state)


def divided(clip: Size3) -> Peer:
    from transformers import TimesformerConfig, TimesformerModel  # pyright: ignore

    side = clip[1] // 8
    config = TimesformerConfig(
        image_size=clip[1], patch_size=8, num_frames=clip[0], hidden_size=64, intermediate_size=128,
        num_hidden_layers=3, num_attention_heads=2,
    )  # fmt: skip

    def place(tokens: Tensor) -> Tensor:  # a class token, then the times of each patch
        return tokens[:, 1:].unflatten(1, (side, side, clip[0])).permute(0, 4, 3, 1, 2)

    return FromTransformers(TimesformerModel(config), 64, place)


def joint(clip: Size3) -> Peer:
    from transformers import VideoMAEConfig, VideoMAEModel  # pyright: ignore

    side = clip[1] // 8
    config = VideoMAEConfig(
        image_size=clip[1], patch_size=8, num_frames=clip[0], tubelet_size=2, hidden_size=96, intermediate_size=384,
        num_hidden_layers=2, num_attention_heads=3, use_mean_pooling=False,
    )  # fmt: skip

    def place(tokens: Tensor) -> Tensor:
        return tokens.unflatten(1, (clip[0] // 2, side, side)).permute(0, 4, 1, 2, 3)

    return FromTransformers(VideoMAEModel(config), 96, place)


PEERS: dict[str, Callable[[Size3], Peer]] = {
    "space-only": SpaceOnly,
    "convolution": lambda clip: Convolution(),
    "divided": divided,
    "joint": joint,
}


@dataclass(frozen=True, kw_only=True)
class Options:
    out: str = "runs/relations"
    """Folder of the experiment that they are held against."""
    peers: tuple[str, ...] = ()
    """Only these (default: all that can be imported)."""
    tasks: tuple[RelationTask, ...] = TASKS
    seeds: int = 5
    seed: int = 0
    jobs: int = 2


def main(options: Options) -> None:
    experiment = _experiment_in(Path(options.out))
    names = options.peers or tuple(PEERS)
    if importlib.util.find_spec("transformers") is None:
        print("transformers cannot be imported: without divided and joint")
        names = tuple(name for name in names if name not in ("divided", "joint"))
    for name in ("LG", *names):
        model = DualFormer(experiment.network(name), seed=0) if name == "LG" else PEERS[name](experiment.clip)
        gmacs, parameters = _cost(model, experiment.clip)
        print(f"{name}: {gmacs:.3f} GMACs of products and convolutions, {parameters / 1e6:.2f} M parameters")
    seeds = range(options.seed, options.seed + options.seeds)
    jobs: list[tuple[str, RelationTask, int]] = [
        (name, task, seed) for seed in seeds for task in options.tasks for name in names
    ]
    jobs = [job for job in jobs if not (_folder(experiment, *job) / RESULT).is_file()]
    print(f"{len(jobs)} runs to do")
    threads, started = max(1, (os.cpu_count() or 1) // options.jobs), time.monotonic()
    with multiprocessing.get_context("spawn").Pool(options.jobs, torch.set_num_threads, (threads,)) as pool:
        todo = [(experiment, *job) for job in jobs]
        for count, (key, accuracy) in enumerate(pool.imap_unordered(_one, todo), 1):
            left = (time.monotonic() - started) / count * (len(jobs) - count)
            print(f"{count} of {len(jobs)}: {key}: {accuracy:.1%}; about {clock(left)} left", flush=True)
    print(report(experiment, write_results(experiment)))


def _experiment_in(out: Path) -> Experiment:
    settings = json.loads((out / RESULTS).read_text())["settings"]
    settings["clip"] = tuple(settings["clip"])
    return Experiment(out=str(out), **settings)


def _folder(experiment: Experiment, name: str, task: str, seed: int) -> Path:
    return Path(experiment.out) / task / name / f"seed-{seed}"


def _one(job: tuple[Experiment, str, RelationTask, int]) -> tuple[str, float]:
    experiment, name, task, seed = job
    torch.manual_seed(seed)
    model = PEERS[name](experiment.clip)
    gmacs, parameters = _cost(model, experiment.clip)
    started = time.monotonic()
    steps = fit(model, experiment, task, seed)
    scene = experiment.relations(task)
    result = {
        "task": task,
        "variant": name,
        "seed": seed,
        "steps": steps,
        "seconds": round(time.monotonic() - started, 1),
        "gmacs": gmacs,
        "parameters": parameters,
        **measure_accuracy(model, scene, experiment, device=torch.device("cpu")),
    }
    folder = _folder(experiment, name, task, seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).write_text(json.dumps(result) + "\n")
    return f"{task}/{name}/seed-{seed}", result["accuracy"]


def fit(model: Peer, experiment: Experiment, task: RelationTask, seed: int) -> int:
    """Trains by the experiment's recipe, on the clips that its runs of that seed see; returns the steps."""
    clips, batch_size = experiment.train_length, experiment.batch_size
    data = RelationClips(experiment.relations(task), clips, seed=seed, curriculum=RelationCurriculum(clips))
    steps, preprocessing = clips // batch_size, preprocessing_of(experiment.clip)
    with torch.no_grad():
        side = model.eval().features(torch.zeros(1, 3, *experiment.clip)).shape[3]
    truth = DriftReader(model.channels, clip=experiment.clip, tokens=side)
    parameters = [*model.parameters(), *truth.parameters()]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": experiment.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=experiment.lr, betas=(0.9, 0.999))
    model.train()
    for step in range(steps):
        items = [data[i] for i in range(step * batch_size, (step + 1) * batch_size)]
        batch = {name: torch.stack([item[name] for item in items]) for name in items[0]}
        with torch.autocast("cpu", torch.bfloat16, enabled=experiment.precision == "bfloat16"):
            features = model.features(normalize(batch["clip"], preprocessing))
            scores = model.head(features.mean((2, 3, 4))).float()
        loss = F.cross_entropy(scores, batch["label"]) + experiment.truth * truth(features.float(), batch["drifts"])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = experiment.lr * schedule(step, steps=steps, warmup=steps // 12)
        optimizer.step()
        optimizer.zero_grad()
    return steps


def _cost(model: nn.Module, clip: Size3) -> tuple[float, int]:
    """10⁹ multiply-adds of convolutions, linear layers and attention, and parameters."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:  # fused attention is not counted
        model.eval()(torch.zeros(1, 3, *clip))
    return counter.get_total_flops() / 2e9, sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
