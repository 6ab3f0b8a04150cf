"""How sure a share of right answers is."""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray

_Z = 1.959963984540054  # 95 % of a normal distribution lie within so many standard deviations


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """95 % confidence interval of a share, which stays honest for few videos and near 0 and 1."""
    if not 0 <= correct <= total or total < 1:
        raise ValueError(f"{correct} of {total} is no share")
    share, z2 = correct / total, _Z**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    spread = _Z / (1 + z2 / total) * sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    # The bounds are exact at the ends; rounding must not push them past.
    return (0.0 if correct == 0 else centre - spread), (1.0 if correct == total else centre + spread)


def half_width(total: int) -> float:
    """Half of the 95 % interval of a share near one half, where it is widest: how far off one of ``total`` may be."""
    low, high = wilson_interval(total // 2, total)
    return (high - low) / 2


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % confidence interval of the mean of ``values`` (N,), none of which is negative, by its standard error.

    Of a single value there is no standard error, and the interval is that value.
    """
    mean = float(values.mean())
    spread = _Z * float(values.std(ddof=1)) / sqrt(len(values)) if len(values) > 1 else 0.0
    return max(0.0, mean - spread), mean + spread


def mean_share_interval(right: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[float, float]:
    """95 % confidence interval of the mean of shares ``right / counts`` (C,), each count at least 1.

    A class that is all right by its few videos is not known to be so: the spread of each share is that of one more
    right and one more wrong (Agresti and Coull).
    """
    mean = float((right / counts).mean())
    shares = (right + 1) / (counts + 2)
    spread = _Z * sqrt(float((shares * (1 - shares) / counts).sum())) / len(counts)
    return max(0.0, mean - spread), min(1.0, mean + spread)
