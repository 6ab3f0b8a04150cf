"""How sure a share of right answers is."""

from __future__ import annotations

from math import sqrt

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
