"""The metadata of a weights file, its network, labels and preprocessing, and their JSON form."""

from __future__ import annotations

import dataclasses
import json
from base64 import b64decode
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from dualformer.files import read_text
from dualformer.model.config import Config
from dualformer.video.preprocessing import Preprocessing
from dualformer.weights.errors import WeightsError
from dualformer.weights.segment_settings import SegmentSettings

FORMAT_VERSION = 1
_OPTIONAL = ("multi_label", "trained_on", "thresholds", "timeline")


@dataclass(frozen=True, kw_only=True)
class Card:
    """Describes the tensors of a weights file. Errors: ``ValueError`` where the parts do not fit together."""

    config: Config
    labels: tuple[str, ...]
    """Class names in the classifier's order; empty for a network whose classes have no names."""
    preprocessing: Preprocessing
    provenance: str
    """Where the weights come from."""
    licence: str
    """Terms of use, an SPDX identifier where there is one."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Measured figures, such as ``{"top1": 0.795}``."""
    multi_label: bool = False
    """Whether a video may be of several classes: scores then go through a sigmoid each, and not through a softmax."""
    trained_on: str = ""
    """Digests of the videos that the weights were trained on, as `pack_digests` packs them; empty where unknown."""
    thresholds: tuple[float, ...] = ()
    """The probability from which on each class counts, fitted on validation videos, where a video may be of several
    classes; empty: one half for all."""
    timeline: SegmentSettings | None = None
    """How timelines are read unless told otherwise, fitted on long validation videos; None: as `SegmentSettings` has
    it."""
    format: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        check_version("format", self.format, FORMAT_VERSION)
        if self.labels and len(self.labels) != self.config.num_classes:
            raise ValueError(f"{len(self.labels)} labels do not fit a classifier of {self.config.num_classes} classes")
        if not all(isinstance(label, str) for label in self.labels):
            raise ValueError(f"labels must be strings, not {self.labels!r}")
        if len(set(self.labels)) != len(self.labels):
            twice = next(label for label in self.labels if self.labels.count(label) > 1)
            raise ValueError(f"label {twice!r} occurs twice")
        for name in ("provenance", "licence", "trained_on"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be text, not {getattr(self, name)!r}")
        b64decode(self.trained_on, validate=True)
        if not isinstance(self.multi_label, bool):
            raise ValueError(f"multi_label must be true or false, not {self.multi_label!r}")
        if self.thresholds and (not self.multi_label or len(self.thresholds) != self.config.num_classes):
            raise ValueError(
                f"{len(self.thresholds)} thresholds do not fit {self.config.num_classes} classes of videos that may "
                "have several"
            )
        for value in self.thresholds:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ValueError(f"a threshold must be a probability, not {value!r}")
        if self.timeline is not None:
            self.timeline.check_labels(self.class_names)
        for name, value in self.metrics.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
                raise ValueError(f"metric {name} must be a finite number, not {value!r}")

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels; numbers where the classes have no names."""
        return self.labels or tuple(map(str, range(self.config.num_classes)))

    @property
    def segment_settings(self) -> SegmentSettings:
        """The settings of timelines: those of ``timeline``, or the default ones."""
        return self.timeline or SegmentSettings()

    def to_json(self) -> str:
        """Returns the card as JSON text."""
        fields = {name.name: getattr(self, name.name) for name in dataclasses.fields(self)}
        fields["config"] = self.config.to_dict()
        fields["preprocessing"] = self.preprocessing.to_dict()
        fields["timeline"] = self.timeline and self.timeline.to_dict()
        for name in _OPTIONAL:
            # Files that need no such key have none: programs from before there was one read them.
            if not fields[name]:
                del fields[name]
        return json.dumps(fields, indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Makes a card of `to_json`'s text. Errors: ``WeightsError`` for anything unknown, missing or out of range."""
        try:
            return _card(json.loads(text))
        except (ValueError, TypeError, AttributeError) as error:
            # The types of JSON values are not checked one by one: a wrong one shows as one of the last two.
            raise WeightsError(f"the card is not valid: {' '.join(str(error).split())}") from error


def _card(data: Any) -> Card:
    kinds = {"config": dict, "preprocessing": dict, "metrics": dict, "labels": list}
    data = check_fields(Card, data, version=("format", "format", FORMAT_VERSION), kinds=kinds, optional=_OPTIONAL)
    config = Config.from_dict(data["config"])
    config.map_sizes()  # a size of other than three numbers shows here
    preprocessing = Preprocessing.from_dict(data["preprocessing"])
    lists = {name: tuple(data.get(name, ())) for name in ("labels", "thresholds")}
    timeline = SegmentSettings.from_dict(data["timeline"]) if "timeline" in data else None
    return Card(**{**data, **lists, "config": config, "preprocessing": preprocessing, "timeline": timeline})


def check_fields(
    card: type, data: Any, *, version: tuple[str, str, int], kinds: Mapping[str, type], optional: Collection[str] = ()
) -> dict[str, Any]:
    """Checks that ``data`` is the JSON form of a dataclass ``card``, and returns it.

    ``version``: the field of the version, its name in messages, and the version that this program reads. ``kinds``:
    fields that are objects or lists. Errors: ``ValueError`` for what is no object, another version, unknown or missing
    keys, and values of another kind.
    """
    if not isinstance(data, dict):
        raise ValueError(f"expected an object, found {type(data).__name__}")
    field, what, known_version = version
    check_version(what, data.get(field), known_version)  # first, as another version may well have other keys
    known = {name.name for name in dataclasses.fields(card)}
    if unknown := sorted(set(data) - known):
        raise ValueError(f"unknown keys {', '.join(unknown)}")
    if missing := sorted(known - set(optional) - set(data)):
        raise ValueError(f"missing keys {', '.join(missing)}")
    for name, kind in kinds.items():
        if not isinstance(data[name], kind):
            raise ValueError(f"{name} must be {'a list' if kind is list else 'an object'}, not {data[name]!r}")
    return data


def check_version(what: str, found: object, known: int) -> None:
    """Raises ``ValueError`` for a version of ``what`` that this program does not read."""
    if found != known:
        raise ValueError(f"{what} version {found!r} is unknown, this program reads {known}: update it")


def read_labels(path: Path | str) -> tuple[str, ...]:
    """Reads class names, one a line, in the file's order.

    Errors: ``FileNotFoundError``; ``WeightsError`` with the line number of an empty line or of a name that came before.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file of labels")
    lines = read_text(path, WeightsError).splitlines()
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        label = line.strip()
        if not label:
            raise WeightsError(f"{path}, line {number}: an empty line; write one class name a line")
        if label in first:
            raise WeightsError(f"{path}, line {number}: {label!r} is on line {first[label]} already; name a class once")
        first[label] = number
    if not first:
        raise WeightsError(f"{path}: no labels; write one class name a line")
    return tuple(first)
