"""Makes a setting ready to run, behind the same `Recognizer` that labels videos."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dualformer.bench.bench_settings import Setting
from dualformer.errors import DualFormerError
from dualformer.inference.recognizer import Recognizer
from dualformer.model.config import Size3
from dualformer.model.cost import Cost, measure_cost
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model, list_models
from dualformer.video.preprocessing import DEFAULT_VIEWS, kinetics
from dualformer.weights.card import Card
from dualformer.weights.errors import first_line
from dualformer.weights.exported.exported_files import size_of
from dualformer.weights.safetensors_file import load_weights


class BenchError(DualFormerError):
    """A setting cannot be measured here."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedNetwork:
    """A setting ready to run."""

    recognizer: Recognizer
    views: Tensor
    """uint8 (B, T, H, W, 3)."""
    threads: int
    weight_bytes: int

    def run(self) -> None:
        """Computes probabilities of the 8-bit views, as prediction does; they are there when it returns."""
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        self.recognizer.predict_views(self.views)

    @property
    def cost(self) -> Cost:
        """The cost of one view."""
        _, *clip, _ = self.views.shape
        return measure_cost(self.recognizer.card.config, (clip[0], clip[1], clip[2]))


def network_of(setting: Setting) -> tuple[DualFormer, Card]:
    """Makes a preset with random weights, or loads weights. Errors: as `config_of`."""
    if setting.model in list_models():
        model = create_model(setting.model, clip=setting.clip, seed=0).eval()
        return model, preset_card(model)
    return load_weights(setting.model)


def prepare_network(
    setting: Setting, *, device: str, exported: Path | None = None, views: str = DEFAULT_VIEWS
) -> PreparedNetwork:
    """Loads or makes the network and its views. ``exported`` is the model of a setting that runs one.

    Errors: as `config_of`, and those of `Recognizer`; `BenchError` where the network cannot be compiled.
    """
    torch.set_num_threads(setting.threads)  # compiled code is made for so many
    if exported is not None:
        recognizer = Recognizer.load(
            exported, device=device, views=views, views_per_batch=setting.batch, threads=setting.threads
        )
        weight_bytes = size_of(exported)
    else:
        precision = "bfloat16" if setting.dtype == "bfloat16" else "float32"
        model, card = network_of(setting)
        recognizer = Recognizer(
            model.fold(), card, device=device, views=views, views_per_batch=setting.batch, precision=precision
        )
        tensors = (*recognizer.model.parameters(), *recognizer.model.buffers())
        weight_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    views_in = random_views(setting.clip, setting.batch)
    prepared = PreparedNetwork(
        recognizer=recognizer, views=views_in, threads=setting.threads, weight_bytes=weight_bytes
    )
    if setting.backend == "compile":
        recognizer.model.compile(dynamic=False)
        try:
            prepared.run()
        except RuntimeError as error:  # its own kinds of error are none of PyTorch's public names
            raise BenchError(f"`backend=compile` does not work here ({first_line(error)}): choose eager") from error
    return prepared


def random_views(clip: Size3, batch: int) -> Tensor:
    """Returns views uint8 (B, T, H, W, 3), always the same. They take as long as any others."""
    return torch.randint(256, (batch, *clip, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def preset_card(model: DualFormer) -> Card:
    """Returns the card of a model with random weights; classes are numbers."""
    frames, height, width = model.config.clip
    return Card(
        config=model.config,
        labels=(),
        preprocessing=kinetics(frames=frames, size=min(height, width)),
        provenance="random numbers",
        licence="",
    )
