"""The limits of a server: everything that a client can make it do has one here."""

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one request, and of all at once. Raises ``ValueError`` for what is not positive."""

    max_bytes: int = 200 * 2**20
    """Of an uploaded file."""
    max_seconds: float = 60.0
    """Of video, from the first frame to the last."""
    max_frames: int = 18_000
    """Of a video: those of a minute at 300 frames a second."""
    max_pixels: int = 3840 * 2160
    """Of a frame, as it is stored."""
    header_seconds: float = 10.0
    """For the head of a request to arrive."""
    upload_seconds: float = 60.0
    """For the whole body of a request to arrive."""
    decode_seconds: float = 20.0
    """For reading a file. What takes longer is stopped."""
    decode_bytes: int = 2**30
    """Of address space that reading a file may take, on Linux. What takes more is stopped."""
    concurrency: int = 16
    """Requests that are worked on at once, from the first byte of their upload to the answer."""

    def __post_init__(self) -> None:
        _check_positive(self)


@dataclass(frozen=True, kw_only=True)
class ClipLimits:
    """Limits of the clips that are kept to be trained on. Raises ``ValueError`` for what is not positive."""

    bytes: int = 2 * 2**30
    """Of all clips together."""
    clips: int = 1000
    classes: int = 50

    def __post_init__(self) -> None:
        _check_positive(self)


def _check_positive(limits: Limits | ClipLimits) -> None:
    for field in fields(limits):
        value = getattr(limits, field.name)
        if isinstance(value, bool) or not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{field.name} must be a positive number, not {value}")
