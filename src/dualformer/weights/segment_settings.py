"""How the probabilities of a long video become segments: the settings of timelines, which weights may bring along."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class SegmentSettings:
    """How probabilities become segments. Raises ``ValueError`` where a value is out of range."""

    hop: float | None = None
    """Seconds between the starts of two clips; None: half a clip."""
    window: float | None = None
    """Seconds: probabilities are averaged over the clips whose centres lie within them, or the steps in time of weights
    with a temporal head; None: those of one clip, or step."""
    threshold: float = 0.5
    """A class that is less likely does not happen."""
    shortest: float | None = None
    """Seconds that a segment lasts at least; what is shorter is given to what is before and after it. None: three
    quarters of a clip, of weights with a temporal head half a clip."""
    background: tuple[str, ...] = ()
    """Classes that mean that nothing happens, besides the ``background`` of a temporal head."""

    def __post_init__(self) -> None:
        for name in ("hop", "window"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, not {value}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be a probability, not {self.threshold}")
        if self.shortest is not None and not self.shortest >= 0:
            raise ValueError(f"shortest must not be negative, not {self.shortest}")

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raises ``ValueError`` for a background that is no class."""
        if unknown := [name for name in self.background if name not in labels]:
            raise ValueError(f"background: {unknown[0]!r} is none of the classes that the weights know")

    def but(self, **given: Any) -> SegmentSettings:
        """Returns these settings with those of ``given`` that are not None in place of its own."""
        return dataclasses.replace(self, **{name: value for name, value in given.items() if value is not None})

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings, ready for JSON."""
        return {**vars(self), "background": list(self.background)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SegmentSettings:
        """Makes settings of `to_dict`'s form. Errors: ``ValueError`` for anything unknown or of another kind."""
        if unknown := sorted(set(data) - {field.name for field in dataclasses.fields(cls)}):
            raise ValueError(f"timeline: unknown keys {', '.join(unknown)}")
        for name in ("hop", "window", "threshold", "shortest"):
            value = data.get(name)
            known = (value is None and name != "threshold") or isinstance(value, (int, float))
            if name in data and (isinstance(value, bool) or not known):
                raise ValueError(f"timeline: {name} must be a number, not {value!r}")
        background = data.get("background", [])
        if not isinstance(background, list) or not all(isinstance(name, str) for name in background):
            raise ValueError(f"timeline: background must be a list of names, not {background!r}")
        return cls(**{**data, "background": tuple(background)})
