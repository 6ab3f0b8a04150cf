"""A setting made ready to run, behind the same `Recognizer` that labels videos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dualformer.bench.bench_settings import Setting
from dualformer.errors import DualFormerError
from dualformer.inference.recognizer import Recognizer
from dualformer.model.config import Config, Size3
from dualformer.model.cost import Cost, measure_cost
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model, list_models, preset_config
from dualformer.video.preprocessing import DEFAULT_VIEWS, kinetics
from dualformer.weights.card import Card
from dualformer.weights.exported.exported_files import size_of
from dualformer.weights.locate import first_line
from dualformer.weights.open_network import open_card
from dualformer.weights.safetensors_file import load_weights


class BenchError(DualFormerError):
    """A setting cannot be measured here."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """One setting, ready."""

    recognizer: Recognizer
    views: Tensor
    """uint8 (B, T, H, W, 3)."""
    threads: int
    stored: int
    """Bytes of the network's weights."""

    def run(self) -> None:
        """From 8-bit views to probabilities, as in prediction; the answer is there when it returns."""
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        self.recognizer.predict_views(self.views)

    @property
    def cost(self) -> Cost:
        """Of one view."""
        _, *clip, _ = self.views.shape
        return measure_cost(self.recognizer.card.config, (clip[0], clip[1], clip[2]))


def config_of(model: str) -> Config:
    """The config of a preset, of weights or of an exported model.

    Errors: ``ValueError`` for what is neither; ``WeightsError`` for weights that cannot be read.
    """
    if model in list_models():
        return preset_config(model)
    try:
        return open_card(model).config
    except FileNotFoundError as error:
        names = ", ".join(list_models())
        raise ValueError(f"{model!r} is no weights file, folder or hub id, nor one of {names}") from error


def network_of(setting: Setting) -> tuple[DualFormer, Card]:
    """Made with random weights, or loaded. Errors: as `config_of`."""
    if setting.model in list_models():
        model = create_model(setting.model, clip=setting.clip, seed=0).eval()
        return model, preset_card(model)
    return load_weights(setting.model)


def prepare(setting: Setting, *, device: str, exported: Path | None = None, views: str = DEFAULT_VIEWS) -> Prepared:
    """Loads or makes the network and its views. ``exported`` is the model of a setting that runs one.

    Errors: as `config_of`, and those of `Recognizer`; `BenchError` where the network cannot be compiled.
    """
    torch.set_num_threads(setting.threads)  # compiled code is made for so many
    at_once = setting.batch
    if exported is not None:
        recognizer = Recognizer.load(
            exported, device=device, views=views, views_per_batch=at_once, threads=setting.threads
        )
        stored = size_of(exported)
    else:
        precision = "bfloat16" if setting.dtype == "bfloat16" else "float32"
        model, card = network_of(setting)
        recognizer = Recognizer(
            model.fold(), card, device=device, views=views, views_per_batch=at_once, precision=precision
        )
        tensors = (*recognizer.model.parameters(), *recognizer.model.buffers())
        stored = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    prepared = Prepared(
        recognizer=recognizer, views=noise(setting.clip, setting.batch), threads=setting.threads, stored=stored
    )
    if setting.backend == "compile":
        recognizer.model.compile(dynamic=False)
        try:
            prepared.run()
        except RuntimeError as error:  # its own kinds of error are none of PyTorch's public names
            raise BenchError(f"--backend compile does not work here ({first_line(error)}): choose eager") from error
    return prepared


def noise(clip: Size3, batch: int) -> Tensor:
    """Views uint8 (B, T, H, W, 3), always the same. They take as long as any others."""
    return torch.randint(256, (batch, *clip, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def preset_card(model: DualFormer) -> Card:
    """What stands beside random weights; classes are numbers."""
    frames, height, width = model.config.clip
    return Card(
        config=model.config,
        labels=(),
        preprocessing=kinetics(frames=frames, size=min(height, width)),
        provenance="random numbers",
        licence="",
    )
