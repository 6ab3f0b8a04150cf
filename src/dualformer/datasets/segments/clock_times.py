"""Reads times as people write them: 12.5 (seconds), 1:12.5, 1:02:03.4, 1:02:03,4, or the number of a frame."""

import math
import re

_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d*)?|[.,]\d+)")


def parse_time(text: str, *, frames_per_second: float | None = None) -> float:
    """Returns seconds. ``frames_per_second``: the text is the number of a frame, counted from 0, at this rate.

    Raises ``ValueError`` for anything else, for negative times, and for 60 or more seconds behind minutes, or minutes
    behind hours.
    """
    text = text.strip()
    if frames_per_second is not None:
        try:
            frame = float(text)
        except ValueError:
            frame = math.nan
        if not 0 <= frame < math.inf:
            raise ValueError(f"{text!r} is no number of a frame")
        return frame / frames_per_second
    found = _CLOCK.fullmatch(text)
    seconds = float(found[3].replace(",", ".")) if found else math.inf
    past = found is not None and ((found[2] and seconds >= 60) or (found[1] and int(found[2]) >= 60))
    if found is None or past:
        raise ValueError(f"{text!r} is no time: write seconds as in 72.5, or 1:12.5, or 1:02:03.4")
    return 3600 * int(found[1] or 0) + 60 * int(found[2] or 0) + seconds
