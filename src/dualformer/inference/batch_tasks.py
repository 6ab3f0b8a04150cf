"""What can be done with many files: naming their classes, or computing their features."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dualformer.inference.prefetch import ahead
from dualformer.inference.tables import Columns, Kind, Row
from dualformer.scoring.view_scores import average_views
from dualformer.video.container import VideoError
from dualformer.video.views import read_views_or_error
from dualformer.weights.exported.exported_network import ExportedNetwork

if TYPE_CHECKING:
    from dualformer.inference.recognizer import Recognizer


class LabelTask:
    """The ``top`` most probable classes of each file, best first."""

    def __init__(self, recognizer: Recognizer, *, top: int = 5) -> None:
        if top < 1:
            raise ValueError(f"the number of classes to name must be at least 1, not {top}")
        self._recognizer, self._top = recognizer, min(top, len(recognizer.labels))
        columns: dict[str, Kind] = {}
        for place in range(1, self._top + 1):
            columns |= {_place("label", place): "text", _place("probability", place): "number"}
        self.columns: Columns = columns
        self.by = f"{fingerprint(recognizer)} top {self._top}"
        self.width: int | None = None

    def answers(self, paths: Sequence[Path]) -> Iterator[tuple[int, Row]]:
        for place, (_, outcome) in enumerate(self._recognizer.many(paths)):
            if isinstance(outcome, VideoError):
                yield place, {"error": outcome.reason}
                continue
            row: Row = {}
            for number, (label, probability) in enumerate(outcome.top(self._top), 1):
                row |= {_place("label", number): label, _place("probability", number): probability}
            yield place, row


class EmbedTask:
    """The features of each file: what the classifier sees, averaged over the views."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer
        self.columns: Columns = {"features": "vector"}
        self.by = f"{fingerprint(recognizer)} features"
        self.width: int | None = recognizer.model.num_features

    def answers(self, paths: Sequence[Path]) -> Iterator[tuple[int, Row]]:
        recognizer = self._recognizer
        read = (read_views_or_error(path, recognizer.preprocessing, recognizer.views) for path in paths)
        for place, views in enumerate(ahead(read, depth=2)):
            if isinstance(views, VideoError):
                yield place, {"error": views.reason}
            else:
                yield place, {"features": average_views(recognizer.embed_views(views))}


def fingerprint(recognizer: Recognizer) -> str:
    """Tells answers of different weights, labels, preprocessing, views and number formats apart."""
    digest = hashlib.sha256(recognizer.card.to_json().encode())
    network = recognizer.network
    if isinstance(network, ExportedNetwork):
        digest.update(network.about.digest.encode())
    else:
        for name, tensor in sorted(network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"{digest.hexdigest()[:12]} views {recognizer.views} {recognizer.precision}"


def _place(name: str, place: int) -> str:
    return name if place == 1 else f"{name}_{place}"
