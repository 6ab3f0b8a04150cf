"""95 % confidence intervals of shares and means."""

import statistics
from collections.abc import Callable, Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray

_Z = 1.959963984540054  # 95 % of a normal distribution lie within so many standard deviations
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""Within so many standard errors lie 95 % of Student's distribution with 1, 2, … 30 degrees of freedom."""
_NORMAL = 1.96


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """Returns the 95 % Wilson interval of a share, which stays honest for few videos and near 0 and 1."""
    if not 0 <= correct <= total or total < 1:
        raise ValueError(f"{correct} of {total} is no share")
    share, z2 = correct / total, _Z**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    spread = _Z / (1 + z2 / total) * sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    # The bounds are exact at the ends; rounding must not push them past.
    return (0.0 if correct == 0 else centre - spread), (1.0 if correct == total else centre + spread)


def half_width(total: int) -> float:
    """Returns half of the 95 % interval of a share of ``total`` near one half, where it is widest."""
    low, high = wilson_interval(total // 2, total)
    return (high - low) / 2


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Returns the 95 % interval of the mean of many ``values`` (N,), none negative, by its standard error.

    The interval of a single value is that value.
    """
    mean = float(values.mean())
    spread = _Z * float(values.std(ddof=1)) / sqrt(len(values)) if len(values) > 1 else 0.0
    return max(0.0, mean - spread), mean + spread


def mean_share_interval(right: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[float, float]:
    """Returns the 95 % interval of the mean of shares ``right / counts`` (C,), each count at least 1.

    A class that is all right by its few videos is not known to be so: the spread of each share is that of one more
    right and one more wrong (Agresti and Coull).
    """
    mean = float((right / counts).mean())
    shares = (right + 1) / (counts + 2)
    spread = _Z * sqrt(float((shares * (1 - shares) / counts).sum())) / len(counts)
    return max(0.0, mean - spread), min(1.0, mean + spread)


FEWEST_TO_DRAW = 5
"""Of fewer videos, sets that are drawn from them do not say how others would be."""


def bootstrap_interval(
    statistic: Callable[[NDArray[np.float64]], float], count: int, *, draws: int = 1000
) -> tuple[float, float] | None:
    """Returns the 95 % interval of a figure of ``count`` videos by bootstrap: of ``draws`` sets of as many videos,
    drawn from these with replacement, the same every time. None for fewer than 5 videos.

    ``statistic`` returns the figure where each video counts as often as its weight (count,) says; NaN, where it has
    none, does not count.
    """
    if count < FEWEST_TO_DRAW:
        return None
    weights = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
    low, high = np.nanquantile([statistic(row) for row in weights], (0.025, 0.975))
    return float(low), float(high)


def mean_over_seeds(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns the mean of a few runs and half of its 95 % interval by Student's distribution; None for a single run.

    Errors: ``ValueError`` for no value.
    """
    if not values:
        raise ValueError("no value has no mean")
    if len(values) == 1:
        return values[0], None
    freedom = len(values) - 1
    # Beyond the table, the first term of the expansion around the normal distribution: right to 0.01.
    t = _T[freedom - 1] if freedom <= len(_T) else _NORMAL + (_NORMAL**3 + _NORMAL) / (4 * freedom)
    return statistics.fmean(values), t * statistics.stdev(values) / sqrt(len(values))
