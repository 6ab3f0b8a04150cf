"""A setting made ready to run, behind the same `Recognizer` that labels videos."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dualformer.bench.settings import Setting
from dualformer.errors import DualFormerError
from dualformer.inference.recognizer import Recognizer
from dualformer.model.config import Config
from dualformer.model.cost import Cost, measure_cost
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model, list_models, preset_config
from dualformer.video.preprocessing import kinetics
from dualformer.video.views import DEFAULT_VIEWS
from dualformer.weights.card import Card
from dualformer.weights.native import load_weights, read_card, resolve


class BenchError(DualFormerError):
    """A setting cannot be measured here."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """One setting, ready."""

    recognizer: Recognizer
    views: Tensor
    """uint8 (B, T, H, W, 3): noise, which takes as long as anything else."""
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
    """The config of a preset or of weights.

    Errors: ``ValueError`` for what is neither; ``WeightsError`` for weights that cannot be read.
    """
    if model in list_models():
        return preset_config(model)
    try:
        return read_card(resolve(model)).config
    except FileNotFoundError as error:
        names = ", ".join(list_models())
        raise ValueError(f"{model!r} is no weights file, folder or hub id, nor one of {names}") from error


def prepare(setting: Setting, *, device: str, views: str = DEFAULT_VIEWS) -> Prepared:
    """Loads or makes the network and its views. Errors: as `config_of`; `BenchError` where the backend is not there."""
    torch.set_num_threads(setting.threads)  # compiled code is made for so many
    if setting.model in list_models():
        model = create_model(setting.model, clip=setting.clip, seed=0)
        card = preset_card(model)
    else:
        model, card = load_weights(setting.model)
    precision = "bfloat16" if setting.dtype == "bfloat16" else "float32"
    recognizer = Recognizer(model, card, device=device, views=views, views_per_batch=setting.batch, precision=precision)
    tensors = (*recognizer.model.parameters(), *recognizer.model.buffers())
    stored = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if setting.backend == "compile":
        recognizer.model.compile(dynamic=False)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (setting.batch, *setting.clip, 3), dtype=torch.uint8, generator=generator)
    return Prepared(recognizer=recognizer, views=noise, threads=setting.threads, stored=stored)


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
