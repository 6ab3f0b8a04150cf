"""What several runs with other seeds say together: a mean, and how far off it may be."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""Within so many standard errors lie 95 % of Student's distribution with 1, 2, … 30 degrees of freedom."""
_NORMAL = 1.96


def mean_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and half of its 95 % interval by Student's distribution; None for a single value.

    Errors: ``ValueError`` for no value.
    """
    if not values:
        raise ValueError("no value has no mean")
    if len(values) == 1:
        return values[0], None
    freedom = len(values) - 1
    # Beyond the table, the first term of the expansion around the normal distribution: right to 0.01.
    t = _T[freedom - 1] if freedom <= len(_T) else _NORMAL + (_NORMAL**3 + _NORMAL) / (4 * freedom)
    return statistics.fmean(values), t * statistics.stdev(values) / math.sqrt(len(values))
