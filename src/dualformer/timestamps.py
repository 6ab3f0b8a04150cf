"""Times of a video as text, as subtitles and tables of segments have them: ``12.5``, ``mm:ss.s`` and ``hh:mm:ss.s``."""

import math
import re
from decimal import Decimal

_TIME = re.compile(
    r"(?P<sign>[+-]?)(?:(?:(?P<hours>[0-9]+):)?(?P<minutes>[0-9]+):)?"
    r"(?P<seconds>[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?P<exponent>[eE][+-]?[0-9]{1,3})?"
)


def parse_time(text: str) -> float:
    """Returns the seconds of ``12.5``, ``mm:ss.s`` or ``hh:mm:ss.s``, with a point or a comma before the decimals.

    Raises ``ValueError`` for other text, and for 60 or more seconds or minutes behind a colon.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None or (found["minutes"] and found["exponent"]):
        raise ValueError(f"{text[:60]!r} is no time: write seconds as in 12.5, or mm:ss.s or hh:mm:ss.s")
    hours, minutes = Decimal(found["hours"] or 0), Decimal(found["minutes"] or 0)
    seconds = Decimal(found["seconds"].replace(",", ".") + (found["exponent"] or ""))
    if (found["minutes"] and seconds >= 60) or (found["hours"] and minutes >= 60):
        raise ValueError(f"{text!r} is no time: minutes and seconds behind a colon are less than 60")
    total = float(seconds + 60 * minutes + 3600 * hours)
    if not math.isfinite(total):
        raise ValueError(f"{text[:30]!r} is no time: it is too large")
    return -total if found["sign"] == "-" else total


def timestamp(seconds: float) -> str:
    """Returns ``hh:mm:ss.mmm``."""
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
