"""Opens a network on a device, and turns views of a video into probabilities or features.

`Recognizer`, streams and timelines are made of it.
"""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualformer.model.compiling import CompileMode, compile_network
from dualformer.model.network import DualFormer
from dualformer.scoring.view_scores import Precision, view_features, view_probabilities
from dualformer.video.clip_reader import Views
from dualformer.video.preprocessing import DEFAULT_VIEWS, Preprocessing
from dualformer.weights.card import Card
from dualformer.weights.exported.exported_network import ExportedNetwork, load_exported
from dualformer.weights.open_network import Network, is_exported
from dualformer.weights.safetensors_file import load_weights

Self = TypeVar("Self", bound="ViewClassifier")
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """The network's prediction for one video."""

    labels: tuple[str, ...]
    """All classes, in the order of the classifier."""
    probabilities: NDArray[np.float32]
    """(classes,), summing to 1; of multi-label weights each for itself."""
    source: str
    """The path or URL, "bytes", "file" or "frames"."""
    multi_label: bool = False
    """Whether the video may be of several classes, or of none."""
    notes: tuple[str, ...] = ()
    """What is to be said of the video: that it is shorter than a clip, changes its size, or is HDR."""
    thresholds: tuple[float, ...] = ()
    """The probability from which on each class counts, as the weights say; empty: one half for all."""

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """Returns the ``k`` most likely classes with their probabilities, best first; all if there are fewer."""
        if k < 1:
            raise ValueError(f"the number of classes to name must be at least 1, not {k}")
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.labels[i], float(self.probabilities[i])) for i in order.tolist()]

    def above(self, threshold: float | None = None) -> list[tuple[str, float]]:
        """Returns the classes that reach the ``threshold``, best first: the labels of a multi-label prediction.

        None: each class's own threshold, of ``thresholds``; of weights that give each video one label, the likeliest
        class whatever its probability.
        """
        if threshold is None and not self.multi_label:
            return self.top(1)
        limits = self.thresholds or (0.5,) * len(self.labels)
        needed = dict(zip(self.labels, limits, strict=True))
        return [
            (label, probability)
            for label, probability in self.top(len(self.labels))
            if probability >= (needed[label] if threshold is None else threshold)
        ]

    @property
    def label(self) -> str:
        """The most likely class."""
        return self.top(1)[0][0]

    @property
    def probability(self) -> float:
        """Of the most likely class."""
        return self.top(1)[0][1]

    def __str__(self) -> str:
        named = self.above()
        return f"{self.source}: {', '.join(f'{label} ({p:.1%})' for label, p in named) or 'none of the classes'}"


class ViewClassifier:
    """A network on its device, with its labels and preprocessing, that classifies views.

    ``model``: a network, or an exported one. ``views``: clips x crops of each video that are looked at; their
    probabilities are averaged. ``views_per_batch`` of them go through the network at a time: memory follows this
    number, not the video's length nor the views. ``precision``: float32 unless said; an exported model computes in its
    own. ``compile_mode``: of ``torch.compile``, see `dualformer.model.compiling`.
    Raises ``ValueError`` for a network without a classifier or one that the card does not describe, and for an exported
    model that is to be compiled, does not run on the device, or does not compute in the precision that is asked for;
    ``CompileError`` where PyTorch cannot compile.
    """

    def __init__(
        self,
        model: Network,
        card: Card,
        *,
        device: str | torch.device = "auto",
        views: Views | str = DEFAULT_VIEWS,
        views_per_batch: int = 4,
        precision: Precision | None = None,
        compile_mode: CompileMode | None = None,
    ) -> None:
        if card.config != (model.card if isinstance(model, ExportedNetwork) else model).config:
            raise ValueError("the card describes another network: make it with config=model.config")
        if card.config.num_classes == 0:
            raise ValueError("the network has no classifier, so it names no classes: give it one with reset_classifier")
        if views_per_batch < 1:
            raise ValueError(f"views_per_batch must be at least 1, not {views_per_batch}")
        if isinstance(model, ExportedNetwork):
            self.precision = model.check_precision(precision)
            model.place(device if device == "auto" else choose_device(device))
            self.device = model.device
        else:
            self.precision = precision or "float32"
            self.device = choose_device(device)
            model = model.to(self.device).eval()
        self.network: Network = model
        self._compiled = compile_on(model, compile_mode, device=self.device) if compile_mode else None
        self.card = card
        self.views = Views.parse(views)
        self.views.warn_if_equal(card.preprocessing)
        self.views_per_batch = views_per_batch
        self.labels: tuple[str, ...] = card.class_names
        """Class names; numbers where the weights have no names."""

    @classmethod
    def load(
        cls: type[Self],
        weights: str | Path,
        *,
        device: str | torch.device = "auto",
        views: Views | str = DEFAULT_VIEWS,
        views_per_batch: int = 4,
        precision: Precision | None = None,
        threads: int | None = None,
        compile_mode: CompileMode | None = None,
    ) -> Self:
        """Loads a weights file, a folder, a hub id, or an exported model.

        ``threads``: of a CPU, for exported models; None: as many as PyTorch uses.
        Raises ``FileNotFoundError``, ``WeightsError`` for what is no weights file, and what the class does.
        """
        chosen = Views.parse(views)  # a wrong option shows before anything is loaded
        model, card, target = open_on(weights, device, threads=threads)
        return cls(
            model,
            card,
            device=target,
            views=chosen,
            views_per_batch=views_per_batch,
            precision=precision,
            compile_mode=compile_mode,
        )

    @property
    def model(self) -> DualFormer:
        """The network as a PyTorch module. Raises ``ValueError`` for an exported model."""
        if isinstance(self.network, ExportedNetwork):
            raise ValueError(f"{self.network.name} is an exported model: load the weights that it was made from")
        return self.network

    @property
    def computing(self) -> Network:
        """The network, or its compiled form, that computes."""
        return self.network if self._compiled is None else self._compiled

    @property
    def preprocessing(self) -> Preprocessing:
        return self.card.preprocessing

    def predict_views(self, views: Tensor) -> NDArray[np.float32]:
        """Returns probabilities (V, classes) of uint8 views (V, T, h, w, 3), ``views_per_batch`` at a time."""
        scores = view_probabilities(
            self.computing, views, self.preprocessing, multi_label=self.card.multi_label, **self._settings
        )
        return scores.numpy()

    @property
    def answers_steps(self) -> bool:
        """Whether the network has a head that answers at every step in time."""
        if isinstance(self.network, ExportedNetwork):
            return self.network.answers_steps
        return self.card.config.head == "temporal"

    def predict_steps(self, views: Tensor) -> NDArray[np.float32]:
        """Returns probabilities (V, T*, classes) at the T* steps in time of uint8 views (V, T, h, w, 3), likewise.

        Raises ``ValueError`` for an exported model without them.
        """
        network = self.computing

        def step_logits(video: Tensor) -> Tensor:
            assert not isinstance(network, ExportedNetwork)
            return network.step_scores(network.forward_features(video))

        scores = view_probabilities(
            network.at_steps() if isinstance(network, ExportedNetwork) else step_logits,
            views,
            self.preprocessing,
            multi_label=self.card.multi_label,
            **self._settings,
        )
        return scores.numpy()

    def embed_views(self, views: Tensor) -> NDArray[np.float32]:
        """Returns features (V, C) of uint8 views (V, T, h, w, 3), before the classifier, ``views_per_batch`` at a time.

        Raises ``ValueError`` for an exported model.
        """
        network = self.model if self._compiled is None else self._compiled
        return view_features(network, views, self.preprocessing, **self._settings).numpy()

    @property
    def _settings(self) -> dict[str, Any]:
        precision = "bfloat16" if self.precision == "bfloat16" else "float32"
        return {"device": self.device, "batch_size": self.views_per_batch, "precision": precision}

    def prediction_of(self, source: str, probabilities: NDArray[np.float32]) -> Prediction:
        """Returns probabilities (classes,) with their labels."""
        return Prediction(
            labels=self.labels,
            probabilities=probabilities,
            source=source,
            multi_label=self.card.multi_label,
            thresholds=self.card.thresholds,
        )


_END = object()


def ahead(items: Iterator[Item], *, depth: int) -> Generator[Item, None, None]:
    """Yields the same items; a thread computes up to ``depth`` of the next ones ahead.

    Errors are raised at their place. Closing the iterator waits for the item that is being computed.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, not {depth}")
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode") as pool:
        coming = deque(pool.submit(next, items, _END) for _ in range(depth))
        try:
            while (item := coming.popleft().result()) is not _END:
                coming.append(pool.submit(next, items, _END))
                yield item  # type: ignore[misc]  # the end is no item
        finally:
            for future in coming:
                future.cancel()


def choose_device(wanted: str | torch.device = "auto") -> torch.device:
    """Returns the GPU for ``auto`` where CUDA (or ROCm) has one, else the CPU; or the device that PyTorch calls so.

    Raises ``ValueError`` for a name that PyTorch does not know or a device that this machine does not have.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    # PyTorch says that it was built without a device by AssertionError, or by NotImplementedError, a RuntimeError.
    except (RuntimeError, AssertionError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"no device {str(wanted)!r} here ({first}); use auto or cpu") from error
    if device.type == "meta":
        raise ValueError("the device 'meta' computes nothing; use auto or cpu")
    return device


def open_on(
    weights: str | Path, wanted: str | torch.device = "auto", *, threads: int | None = None
) -> tuple[Network, Card, torch.device]:
    """Returns the network of weights or of an exported model, on its device, its card, and the device.

    A network of weights is folded: it is for inference only, and neither trained nor saved again.
    ``auto`` is the GPU where there is one and an exported model runs on it. ``threads``: of a CPU, for exported models;
    None: as many as PyTorch uses.
    Raises ``ValueError`` for a device that is not there or that an exported model does not run on, and for ``threads``
    of weights; otherwise what `open_network` does.
    """
    device = choose_device(wanted)  # a wrong name shows before anything is loaded
    if is_exported(weights):
        network = load_exported(weights, device=wanted if wanted == "auto" else device, threads=threads)
        return network, network.card, network.device
    if threads is not None:
        raise ValueError(f"threads is for exported models, and {weights} is none: call torch.set_num_threads")
    model, card = load_weights(weights)
    return model.fold().to(device), card, device  # folded here, the weights are the same on every device


def compile_on(network: Network, mode: CompileMode, *, device: torch.device) -> DualFormer:
    """Returns the compiled ``network``, see `compile_network`.

    Raises ``ValueError`` for an exported model; otherwise what `compile_network` does.
    """
    if isinstance(network, ExportedNetwork):
        raise ValueError(f"{network.name} is an exported model, compiled by its own library: leave `compile_mode` out")
    return compile_network(network, mode, device=device)
