"""Tasks of `run_batch`: labels of many files, or their features."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dualformer.files import LABEL_SEPARATOR
from dualformer.inference.answer_tables import LATER_COLUMNS, Columns, ColumnType, Row
from dualformer.inference.view_classifier import ahead
from dualformer.scoring.view_scores import average_views
from dualformer.video.clip_reader import read_views_or_error
from dualformer.video.container import VideoError
from dualformer.weights.exported.exported_network import ExportedNetwork

if TYPE_CHECKING:
    from dualformer.inference.recognizer import Recognizer


class LabelTask:
    """Yields the ``top`` most probable classes of each file, best first, and in the column ``labels`` all that reach
    the ``threshold`` (None: the weights' own), separated by ``;``."""

    def __init__(self, recognizer: Recognizer, *, top: int = 5, threshold: float | None = None) -> None:
        if top < 1:
            raise ValueError(f"the number of classes to name must be at least 1, not {top}")
        self._recognizer, self._top = recognizer, min(top, len(recognizer.labels))
        kinds: dict[str, ColumnType] = {"label": "text", "probability": "number"}
        ranks = range(1, self._top + 1)
        best: Columns = {_column(name, rank): kind for rank in ranks for name, kind in kinds.items()}
        self.columns: Columns = {**best, **LATER_COLUMNS}
        self._threshold = threshold
        self.fingerprint = f"{weights_fingerprint(recognizer)} top {self._top}"
        if threshold is not None:
            self.fingerprint += f" threshold {threshold:g}"
        self.width: int | None = None

    def run(self, paths: Sequence[Path]) -> Iterator[tuple[int, Row]]:
        for index, (_, outcome) in enumerate(self._recognizer.many(paths)):
            if isinstance(outcome, VideoError):
                yield index, {"error": outcome.reason}
                continue
            above = outcome.above(self._threshold)
            row: Row = {"labels": LABEL_SEPARATOR.join(label for label, _ in above), "notes": "; ".join(outcome.notes)}
            for rank, (label, probability) in enumerate(outcome.top(self._top), 1):
                row |= {_column("label", rank): label, _column("probability", rank): probability}
            yield index, row


class EmbedTask:
    """Yields the features of each file: what the classifier sees, averaged over the views."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer
        self.columns: Columns = {"features": "vector", "notes": "text"}
        self.fingerprint = f"{weights_fingerprint(recognizer)} features"
        self.width: int | None = recognizer.model.num_features

    def run(self, paths: Sequence[Path]) -> Iterator[tuple[int, Row]]:
        recognizer = self._recognizer
        read = (read_views_or_error(path, recognizer.preprocessing, recognizer.views) for path in paths)
        for index, outcome in enumerate(ahead(read, depth=2)):
            if isinstance(outcome, VideoError):
                yield index, {"error": outcome.reason}
            else:
                features = average_views(recognizer.embed_views(outcome.views))
                yield index, {"features": features, "notes": "; ".join(outcome.notes)}


def weights_fingerprint(recognizer: Recognizer) -> str:
    """Returns a text that differs where weights, labels, preprocessing, views or precision do."""
    digest = hashlib.sha256(recognizer.card.to_json().encode())
    network = recognizer.network
    if isinstance(network, ExportedNetwork):
        digest.update(network.export_card.digest.encode())
    else:
        for name, tensor in sorted(network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"{digest.hexdigest()[:12]} views {recognizer.views} {recognizer.precision}"


def _column(name: str, rank: int) -> str:
    return name if rank == 1 else f"{name}_{rank}"
