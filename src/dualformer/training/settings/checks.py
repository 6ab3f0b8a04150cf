"""Numbers that options may hold; what is wrong is said with the option's name."""

from __future__ import annotations


def option(name: str) -> str:
    """``--batch-size`` of batch_size."""
    return f"--{name.replace('_', '-')}"


def more_than_zero(options: object, *names: str) -> None:
    """``ValueError`` where a field that is set is 0 or less."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise ValueError(f"{option(name)} must be more than 0, not {value}")


def not_negative(options: object, *names: str) -> None:
    """``ValueError`` where a field that is set is less than 0."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not value >= 0:
            raise ValueError(f"{option(name)} must be 0 or more, not {value}")


def between(options: object, *names: str, low: float = 0, high: float = 1) -> None:
    """``ValueError`` where a field that is set is less than ``low`` or not less than ``high``."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not low <= value < high:
            raise ValueError(f"{option(name)} is {value}; it must lie between 0 and 1")
