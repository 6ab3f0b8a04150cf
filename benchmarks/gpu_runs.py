"""Ways to run a network, and whole runs, on another device: checkpoints, compiler, CUDA graphs, training, exports.

`gpu.py` runs these after the checks of single layers and networks (`gpu_checks.py`).
"""

from __future__ import annotations

import copy
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dualformer.bench.machine_info import keep_threads
from dualformer.cores import available_cores
from dualformer.datasets.rendered import HORIZONTAL, Scene, write_dataset
from dualformer.datasets.rendered_scene import Difficulty
from dualformer.export.export_data import rendered_clips
from dualformer.export.export_weights import check_supported, export_weights
from dualformer.inference.recognizer import Recognizer
from dualformer.model import clip_threads, tiles
from dualformer.model.compiling import CompileMode
from dualformer.model.config import Config
from dualformer.model.network import DualFormer
from dualformer.scoring.view_scores import Precision
from dualformer.training.reporter import Reporter, SilentReporter, read_metrics
from dualformer.training.signals import TrainingInterrupted
from dualformer.training.train import train
from dualformer.video.preprocessing import Preprocessing
from dualformer.weights.card import Card
from dualformer.weights.errors import WeightsError
from dualformer.weights.exported.export_card import ExportFormat
from dualformer.weights.safetensors_file import save_weights
from gpu_checks import (
    NETWORK_TOLERANCES,
    NETWORKS,
    SMALL,
    NotDone,
    Target,
    clips,
    compare_networks,
    config_of,
    network_of,
    network_results,
    plain_logits,
)


def _on_device(target: Target, config: Config) -> tuple[DualFormer, Tensor]:
    """A network in float32 and clips for it."""
    model = network_of(config).to(target.device, torch.float32)
    return model, clips(config).to(target.device, torch.float32)


# Ways to run


@torch.no_grad()
def tiled(target: Target) -> str:
    """Tiles, and clips on threads of their own: for CPUs, and right elsewhere too."""
    for name in NETWORKS:
        model = network_of(config_of(target, name))
        kept = torch.float32 if target.device.type == "mps" else torch.float64
        there, video = (
            copy.deepcopy(model).to(target.device, kept),
            clips(model.config, count=4).to(target.device, kept),
        )
        x = video
        for stage in there.stages:
            x = tiles.run_layers(stage, stage.get_submodule("embed")(x.contiguous())).permute(0, 4, 1, 2, 3)
        expected = {"logits": plain_logits(model, clips(model.config, count=4))}
        found = there.forward_head(there.norm(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3))
        compare_networks({"logits": found}, expected, NETWORK_TOLERANCES[kept], f"{name} in tiles")
        with keep_threads():
            torch.set_num_threads(2)
            found = there.forward_head(clip_threads.forward_features(there, video))
        compare_networks({"logits": found}, expected, NETWORK_TOLERANCES[kept], f"{name} on threads")
    return "the same as whole maps"


def never_waits(target: Target) -> str:
    """Nothing in a forward and backward pass waits for the GPU."""
    if target.device.type != "cuda":
        raise NotDone(f"only CUDA reports what waits for the device, and this is {target.device}")
    for name in NETWORKS:
        model, video = _on_device(target, config_of(target, name))
        model.train()
        model(video).sum().backward()  # the first pass chooses kernels and makes masks
        torch.cuda.set_sync_debug_mode("error")
        try:
            model(video).sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return "forward and backward"


def checkpointing(target: Target) -> str:
    """Gradient checkpointing gives the same gradients and statistics of BatchNorm, on CUDA from less memory."""
    peaks = {"without": 0, "with": 0}
    for name in NETWORKS:
        found: list[dict[str, Tensor]] = []
        for way in peaks:
            model, video = _on_device(target, config_of(target, name))
            model.train().set_grad_checkpointing(way == "with")
            if target.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(target.device)
            gradients = network_results(model, video)
            if target.device.type == "cuda":
                peaks[way] = max(peaks[way], torch.cuda.max_memory_allocated(target.device))
            found.append(gradients | {key: buffer.double() for key, buffer in model.named_buffers()})
        compare_networks(found[1], found[0], 5e-3, f"{name} with checkpoints")
    if target.device.type != "cuda":
        return "the same gradients and statistics; memory is measured on CUDA only"
    if not target.quick and peaks["with"] >= peaks["without"]:
        raise AssertionError(f"checkpoints save no memory: {peaks}")
    return f"the same gradients and statistics, from {peaks['with'] / peaks['without']:.2f} of the memory"


def compiling(target: Target) -> str:
    """``torch.compile``: logits and gradients are those of the eager network."""
    return _compiled(target, "default")


def compiling_with_graphs(target: Target) -> str:
    """The same in the mode that uses CUDA graphs."""
    target.need_graphs()
    if target.quick:
        raise NotDone("--quick leaves the compiler out")
    return _compiled(target, "reduce-overhead")


def _compiled(target: Target, mode: CompileMode) -> str:
    for name, config in list(SMALL.items())[: 1 if target.quick else None]:
        model, video = _on_device(target, config)
        expected = network_results(copy.deepcopy(model), video)
        network = target.compiled(model, mode)
        for _ in range(3):  # the third one is a replay
            torch.compiler.cudagraph_mark_step_begin()
            compare_networks(network_results(network, video), expected, 5e-3, f"{name} compiled ({mode})")
        with torch.no_grad():
            torch.compiler.cudagraph_mark_step_begin()
            found = {"logits": network(video).clone()}
            compare_networks(found, expected, 5e-3, f"{name} compiled ({mode}), for inference")
    by = "by PyTorch's tracer alone, as --quick has it" if target.quick else f"mode {mode}"
    return f"the same logits and gradients; {by}"


def captured(run: Callable[[], object]) -> Callable[[], None]:
    """Captures ``run`` as a CUDA graph, by PyTorch's recipe; returns what replays it. Call it on a CUDA device."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def graphs(target: Target) -> str:
    """CUDA graphs of a forward pass and of a training step give on other clips what eager PyTorch gives."""
    target.need_graphs()
    model, video = _on_device(target, config_of(target, "Nano"))
    shown, others = video.clone(), video.flip(0) * 0.5
    with torch.no_grad():
        kept = torch.empty_like(model(shown))
        replay = captured(lambda: kept.copy_(model(shown)))
        shown.copy_(others)
        replay()
        compare_networks({"logits": kept}, {"logits": model(others)}, 1e-4, "a captured forward pass")
    losses = {way: training_losses(target, graph=way == "captured") for way in ("eager", "captured")}
    for step, (one, other) in enumerate(zip(losses["captured"], losses["eager"], strict=True)):
        if not math.isclose(one, other, rel_tol=1e-2):
            raise AssertionError(f"step {step + 1} of a captured training step: loss {one:.4f}, and {other:.4f} eager")
    return "the same logits and losses"


def training_losses(target: Target, *, graph: bool) -> list[float]:
    """Of five steps, after those that a capture takes before."""
    model, video = _on_device(target, config_of(target, "Nano"))
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, capturable=target.device.type == "cuda")
    labels, kept = torch.arange(len(video), device=target.device), torch.zeros((), device=target.device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(video), labels)
        loss.backward()
        optimizer.step()
        kept.copy_(loss.detach())

    if graph:
        step_again = captured(step)
    else:
        step_again = step
        for _ in range(3):
            step()
    found = []
    for _ in range(5):
        step_again()
        found.append(float(kept))
    return found


# Runs


def _rendered(target: Target, name: str, scene: Scene, **clips_per_class: int) -> Path:
    folder = target.folder / name
    write_dataset(
        folder, scene, clips_per_class=clips_per_class, seed=3, workers=0 if target.quick else available_cores()
    )
    return folder


def _settings(target: Target, data: Path, out: str, **changes: Any) -> dict[str, Any]:
    """Two epochs of a small run without anything that draws random numbers in the network."""
    settings: dict[str, Any] = {
        "data": str(data),
        "out": str(target.folder / out),
        "model": "dualformer_nano",
        "start": "random",
        "frames": 4,
        "size": 32,
        "epochs": 2,
        "batch_size": 4,
        "lr": 1e-3,
        "flip": "off",
        "dropout": 0.0,
        "drop_path": 0.0,
        "workers": 0,
        "val_views": "1x1",
        "accelerator": target.device.type,
        "precision": "float32",
    }
    return settings | changes


def _two_classes(target: Target) -> Path:
    return _rendered(target, "two", Scene(size=32, frames=16, classes=("right", "left")), train=4, val=2)


def _train_small(target: Target, out: str, *, reporter: Reporter | None = None, **changes: Any) -> None:
    """Trains the small network for two epochs, unless this run has ended before."""
    if len(read_metrics(target.folder / out)) < 2:
        settings = _settings(target, _two_classes(target), out, **changes)
        small = SMALL["Nano"]
        train(
            reporter=reporter or SilentReporter(),
            variant=lambda made: made.replace(stages=small.stages, head_dim=8),
            **settings,
        )


class _StopsAfter(SilentReporter):
    """Presses Ctrl-C when the first epoch is over."""

    def __init__(self) -> None:
        self.pressed = False
        super().__init__()

    def progress(self, line: str, *, last: bool = False) -> None:
        if last and not self.pressed:
            self.pressed = True
            signal.raise_signal(signal.SIGINT)


def training(target: Target) -> str:
    """Nano learns eight motions that nothing but the order of frames tells apart, from the shipped weights."""
    if target.quick:
        raise NotDone("--quick is too short to learn anything; resuming and mixed precision train for two epochs")
    scene = Scene(classes=HORIZONTAL, difficulty=Difficulty.at(0.7), wrap=True)
    data = _rendered(target, "motions", scene, train=40, val=10)
    settings = _settings(
        target, data, "learnt", start="rendered", frames=16, stride=2, size=64, epochs=5, batch_size=16
    )
    settings |= {"backbone_lr": 0.3, "min_area": 0.6, "randaugment": "off", "workers": None, "precision": "auto"}
    found = train(reporter=SilentReporter(), **settings)
    told = f"{found.best_top1:.1%} of {found.val_clips} videos right after epoch {found.best_epoch} of {found.epochs}"
    if found.best_top1 < 0.9:
        raise AssertionError(f"only {told}; nine in ten are expected, and guessing is 12.5 %")
    return f"{told}, {found.clips_per_second:.0f} clips/s"


def resuming(target: Target) -> str:
    """A run that is stopped and resumed has the losses of one that is not."""
    _train_small(target, "float32")
    out = str(target.folder / "stopped")
    try:
        _train_small(target, "stopped", reporter=_StopsAfter())
        raise AssertionError("the run was not stopped by Ctrl-C")
    except TrainingInterrupted:
        train(out=out, resume=True, reporter=SilentReporter())
    whole, stopped = (read_metrics(target.folder / name) for name in ("float32", "stopped"))
    exact = True
    for one, other in zip(whole, stopped, strict=True):
        exact = exact and one["train_loss"] == other["train_loss"]
        # Sums on a GPU are in no order.
        if not math.isclose(one["train_loss"], other["train_loss"], rel_tol=1e-3):
            raise AssertionError(f"epoch {one['epoch']}: loss {one['train_loss']} and, resumed, {other['train_loss']}")
    return f"losses of {len(whole)} epochs are the same{' to the last bit' if exact else ' within a thousandth'}"


def mixed_precision(target: Target) -> str:
    """Training in bfloat16 has the losses of training in float32, nearly, and ends with float32 weights."""
    losses: dict[str, float] = {}
    for precision in ("float32", "bfloat16"):
        _train_small(target, precision, precision=precision)
        losses[precision] = read_metrics(target.folder / precision)[-1]["train_loss"]
    if not math.isclose(losses["float32"], losses["bfloat16"], rel_tol=0.05):
        raise AssertionError(f"the losses differ: {losses}")
    return f"losses {losses['float32']:.4f} in float32 and {losses['bfloat16']:.4f} in bfloat16"


# Exports and predictions


def _network_with_card(target: Target) -> tuple[DualFormer, Card]:
    config = config_of(target, "Nano").replace(num_classes=3)
    frames, height, _ = config.clip
    pre = Preprocessing(
        frames=frames, stride=1, resize=height, crop=height, mean=(128.0, 128.0, 128.0), std=(64.0, 64.0, 64.0)
    )
    card = Card(config=config, labels=("a", "b", "c"), preprocessing=pre, provenance="random numbers", licence="")
    return network_of(config).float(), card


def exporting_torch(target: Target) -> str:
    """A `.pt2` file gives on the device what the weights give on the CPU."""
    return _exported(target, "torch", "model.pt2")


def exporting_onnx(target: Target) -> str:
    """The same for ONNX Runtime, on the device where the runtime that is installed can."""
    return _exported(target, "onnx", "model.onnx")


def _exported(target: Target, export_format: ExportFormat, name: str) -> str:
    try:
        check_supported(export_format, "fp32")
    except WeightsError as error:
        raise NotDone(str(error)) from error
    model, card = _network_with_card(target)
    shown = rendered_clips(card.preprocessing, count=3)
    expected = Recognizer(copy.deepcopy(model), card, device="cpu").predict_views(shown.views)
    path = target.folder / name
    export_weights(model, card, path, format=export_format, clips=shown)
    try:
        recognizer, where = Recognizer.load(path, device=target.device), str(target.device)
    except ValueError:  # the runtime has no provider for it
        recognizer, where = Recognizer.load(path, device="cpu"), "the CPU, as this runtime knows no other device"
    difference = float(np.abs(recognizer.predict_views(shown.views) - expected).max())
    if not difference <= 5e-3:
        raise AssertionError(f"probabilities differ by {difference:.2g} from those of the weights")
    return f"on {where}; probabilities differ by {difference:.0e} from those of the weights"


def predicting(target: Target) -> str:
    """A video file has the same probabilities on the device and on the CPU, in bfloat16 nearly."""
    model, card = _network_with_card(target)
    path = target.folder / "weights.safetensors"
    save_weights(path, model, card)
    video = next(_two_classes(target).glob("val/*/*.mp4"))
    expected = dict(Recognizer.load(path, device="cpu")(video).top(3))
    differences: dict[str, float] = {}
    tolerances: dict[Precision, float] = {"float32": 5e-3, "bfloat16": 0.1}
    for precision, tolerance in tolerances.items():
        found = dict(Recognizer.load(path, device=target.device, precision=precision)(video).top(3))
        differences[precision] = max(abs(found[label] - expected[label]) for label in expected)
        if not differences[precision] <= tolerance:
            raise AssertionError(f"probabilities in {precision} differ by {differences[precision]:.2g}")
    return ", ".join(f"off by {difference:.0e} in {precision}" for precision, difference in differences.items())
