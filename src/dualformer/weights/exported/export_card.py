"""The metadata of an exported model: the card of its weights, and how it was exported."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Literal, get_args

from dualformer.model.config import Size3
from dualformer.weights.card import Card, check_fields, check_version
from dualformer.weights.errors import WeightsError

ExportFormat = Literal["torch", "onnx", "openvino", "executorch"]
ExportPrecision = Literal["fp32", "bf16", "int8"]
DTYPE_NAMES: dict[str, str] = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}
"""Number formats of the precisions."""

EXPORT_VERSION = 1
DIGEST_PLACEHOLDER = "the-digest-of-this-model-is-still-to-be-written-to-this-place..."
"""Stands for the digest while it is computed. It is as long as one, and occurs nowhere else."""


@dataclass(frozen=True, kw_only=True)
class ExportCard:
    """Metadata that an exported model holds as JSON. Errors: ``ValueError`` where the parts do not fit together."""

    card: Card
    format: ExportFormat
    precision: ExportPrecision
    batch: int | None = None
    """Views that it takes at a time; None: any number."""
    options: dict[str, str] = field(default_factory=dict)
    """Options with which OpenVINO compiles the model, so that it computes in this precision."""
    made_with: dict[str, str] = field(default_factory=dict)
    """Versions of the packages that exported it."""
    digest: str = DIGEST_PLACEHOLDER
    """SHA-256 of the whole model with `DIGEST_PLACEHOLDER` in place of the digest."""
    version: int = EXPORT_VERSION

    def __post_init__(self) -> None:
        check_version("export", self.version, EXPORT_VERSION)
        for name, kinds in (("format", ExportFormat), ("precision", ExportPrecision)):
            if getattr(self, name) not in get_args(kinds):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kinds))}, not {getattr(self, name)!r}")
        if self.batch is not None and (not isinstance(self.batch, int) or self.batch < 1):
            raise ValueError(f"batch must be a whole number of at least 1, or None, not {self.batch!r}")
        if not isinstance(self.digest, str) or len(self.digest) != len(DIGEST_PLACEHOLDER):
            raise ValueError(f"digest must be text of {len(DIGEST_PLACEHOLDER)} characters, not {self.digest!r}")

    @property
    def view(self) -> Size3:
        """Frames, height and width of its input."""
        pre = self.card.preprocessing
        return pre.frames, pre.crop, pre.crop

    def to_json(self) -> str:
        """Returns the card as one line of ASCII, which every format can hold."""
        fields = {name.name: getattr(self, name.name) for name in dataclasses.fields(self)}
        fields["card"] = json.loads(self.card.to_json())
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> ExportCard:
        """Makes a card of `to_json`'s text. Errors: ``WeightsError`` for anything unknown, missing or out of range."""
        try:
            version, kinds = ("version", "export", EXPORT_VERSION), {"options": dict, "made_with": dict}
            fields = check_fields(ExportCard, json.loads(text), version=version, kinds=kinds)
            return ExportCard(**{**fields, "card": Card.from_json(json.dumps(fields["card"]))})
        except (ValueError, TypeError) as error:
            raise WeightsError(f"the card is not valid: {' '.join(str(error).split())}") from error
