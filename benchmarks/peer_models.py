"""Video models of other libraries beside ours: the same views, in turns in the same process, random weights throughout.

    pip install -c constraints.txt transformers
    python benchmarks/peer_models.py  # 32x224x224, float32: some minutes on two cores
    python benchmarks/peer_models.py --clip 16x224x224 --dtype bfloat16 --rounds 3
    python benchmarks/peer_models.py --models DualFormer-T VideoMAE-B

Nothing is downloaded: models are built from their configs, for 400 classes. A library that does not import is named
with its error, and its models are left out. Every model gets 8-bit views, which the same function normalises, and runs
the way its library does by itself (fused attention in transformers); ours as `dualformer predict` does. bfloat16 is
autocast. Multiply-adds are those of convolutions, linear layers and attention, both of its products included: our own
count for ours, PyTorch's counter with attention written out for the others.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import sys
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dualformer.bench.bench_settings import Setting
from dualformer.bench.interleave import percentile, time_interleaved
from dualformer.bench.machine_info import describe_machine, matmul_peak
from dualformer.bench.prepared_network import prepare_network, random_views
from dualformer.bench.table import markdown_table
from dualformer.model.config import Size3, parse_clip
from dualformer.model.cost import measure_cost
from dualformer.model.presets import preset_config
from dualformer.scoring.view_scores import view_probabilities
from dualformer.video.preprocessing import kinetics

OURS = {"DualFormer-T": "dualformer_tiny", "DualFormer-S": "dualformer_small", "DualFormer-B": "dualformer_base"}
VERSIONED = ("transformers", "torchvision", "pytorchvideo")
CLASSES = 400
PRE = kinetics()


class FramesFirst(nn.Module):
    """A model of transformers behind the face of the others: B 3 T H W → B classes."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, video: Tensor) -> Tensor:
        return self.model(pixel_values=video.transpose(1, 2)).logits

    def write_attention_out(self, so: bool) -> None:
        if self.model._supports_sdpa:  # TimeSformer writes it out anyway
            self.model.set_attn_implementation("eager" if so else "sdpa")


class FrameByFrame(FramesFirst):
    """A model of images behind the same face: the mean of the logits of all frames."""

    def forward(self, video: Tensor) -> Tensor:
        frames = self.model(pixel_values=video.transpose(1, 2).flatten(0, 1)).logits
        return frames.unflatten(0, (len(video), -1)).mean(dim=1)


def of_transformers(name: str) -> Callable[..., nn.Module]:
    """``changes`` replace other fields of the model's config."""

    def build(library: Any, clip: Size3, **changes: Any) -> nn.Module:
        config = getattr(library, f"{name}Config")(
            num_frames=clip[0], image_size=clip[1], num_labels=CLASSES, **changes
        )
        return FramesFirst(getattr(library, f"{name}ForVideoClassification")(config))

    return build


def hiera_by_frames(library: Any, clip: Size3, **changes: Any) -> nn.Module:
    """Hiera-B for images, the hierarchical network of transformers: it has none of videos."""
    config = library.HieraConfig(image_size=list(clip[1:]), num_labels=CLASSES, **changes)
    return FrameByFrame(library.HieraForImageClassification(config))


def of_torchvision(name: str) -> Callable[[Any, Size3], nn.Module]:
    return lambda library, clip: getattr(library, name)(weights=None, num_classes=CLASSES)


def of_pytorchvideo(name: str) -> Callable[[Any, Size3], nn.Module]:
    return lambda library, clip: getattr(library, name)(pretrained=False)


PEERS: dict[str, tuple[str, Callable[..., nn.Module]]] = {
    "VideoMAE-B": ("transformers", of_transformers("VideoMAE")),
    "TimeSformer-B": ("transformers", of_transformers("Timesformer")),
    "ViViT-B": ("transformers", of_transformers("Vivit")),
    "Hiera-B by frames": ("transformers", hiera_by_frames),
    "Swin3D-T": ("torchvision.models.video", of_torchvision("swin3d_t")),
    "Swin3D-S": ("torchvision.models.video", of_torchvision("swin3d_s")),
    "Swin3D-B": ("torchvision.models.video", of_torchvision("swin3d_b")),
    "R(2+1)D-18": ("torchvision.models.video", of_torchvision("r2plus1d_18")),
    "Slow-R50": ("pytorchvideo.models.hub", of_pytorchvideo("slow_r50")),
}


def libraries(names: list[str]) -> dict[str, Any]:
    """Those of these models that import; the others are named with their error."""
    found: dict[str, Any] = {}
    for module in dict.fromkeys(PEERS[name][0] for name in names if name in PEERS):
        try:
            found[module] = importlib.import_module(module)
        # An operator that is missing is a RuntimeError, a library that does not load an OSError.
        except (ImportError, RuntimeError, OSError) as error:
            models = ", ".join(name for name, (home, _) in PEERS.items() if home == module)
            print(
                f"{module} does not import ({type(error).__name__}: {' '.join(str(error).split())}): without {models}"
            )
    return found


def multiply_adds(model: nn.Module, video: Tensor) -> float:
    if isinstance(model, FramesFirst):
        model.write_attention_out(True)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        model(video)
    if isinstance(model, FramesFirst):
        model.write_attention_out(False)
    return counter.get_total_flops() / 2


def peer(model: nn.Module, views: Tensor, dtype: str, device: torch.device) -> Callable[[], object]:
    precision = "bfloat16" if dtype == "bfloat16" else "float32"
    at_once = len(views)
    return lambda: view_probabilities(model, views, PRE, device=device, batch_size=at_once, precision=precision)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    clip, threads = parse_clip(options.clip), torch.get_num_threads()
    device = torch.device(options.device)
    imported = libraries(options.models)
    table: dict[str, dict[str, Any]] = {}
    works: dict[str, Callable[[], object]] = {}
    for name in options.models:
        if name not in OURS and PEERS[name][0] not in imported:
            continue
        print(f"building {name}", file=sys.stderr, flush=True)
        if name in OURS:
            cost = measure_cost(preset_config(OURS[name], clip=clip))
            macs, parameters = cost.linear + cost.attention + cost.convolution, cost.parameters
            setting = Setting(model=OURS[name], clip=clip, batch=options.batch, dtype=options.dtype, threads=threads)
            works[name] = prepare_network(setting, device=options.device).run
        else:
            module, build = PEERS[name]
            model = build(imported[module], clip).eval()
            macs = multiply_adds(model, torch.zeros(1, 3, *clip))
            parameters = sum(parameter.numel() for parameter in model.parameters())
            works[name] = peer(model.to(device), random_views(clip, options.batch), options.dtype, device)
        table[name] = {"model": name, "gmacs": macs / 1e9, "parameters": parameters}
    peaks: list[float] = []

    def products() -> None:
        peaks.append(matmul_peak(getattr(torch, options.dtype), threads, device, seconds=0.3))

    def progress(done: float, total: float) -> None:
        print(f"{done:.0f} of {total:.0f} s", file=sys.stderr, flush=True)

    taken = time_interleaved(works, rounds=options.rounds, between=products, progress=progress)
    for name, row in table.items():
        seconds = median(taken[name])
        row |= {
            "runs": len(taken[name]),
            "p50": seconds,
            "p95": percentile(taken[name], 95),
            "clips_per_second": options.batch / seconds,
            "of_peak": 2e9 * row["gmacs"] * options.batch / seconds / median(peaks),
        }
    return list(table.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*OURS, *PEERS]
    parser.add_argument("--models", nargs="+", choices=names, default=names, metavar="MODEL", help=", ".join(names))
    parser.add_argument("--clip", default="32x224x224", help="square")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()
    table = measure(options)
    machine = describe_machine()
    if options.json:
        print(json.dumps({"machine": dataclasses.asdict(machine), "arguments": vars(options), "rows": table}))
        return
    versions = [f"{name} {getattr(sys.modules[name], '__version__', '')}" for name in VERSIONED if name in sys.modules]
    print(f"Machine: {machine}{''.join(f', {version}' for version in versions)}.")
    print(
        f"{options.clip}, batch {options.batch}, {options.dtype}, {torch.get_num_threads()} threads, "
        f"{options.rounds} rounds in turn\n"
    )
    head = ["model", "GMACs", "parameters, M", "p50, ms", "p95, ms", "clips/s", "of peak"]
    cells = [
        [
            row["model"],
            f"{row['gmacs']:.1f}",
            f"{row['parameters'] / 1e6:.1f}",
            f"{1000 * row['p50']:.0f}",
            f"{1000 * row['p95']:.0f}",
            f"{row['clips_per_second']:.2f}",
            f"{row['of_peak']:.0%}",
        ]
        for row in table
    ]
    print("\n".join(markdown_table(head, cells)))


if __name__ == "__main__":
    main()
