"""Checks of numbers in settings; the error names the field."""

from collections.abc import Callable


def more_than_zero(settings: object, *names: str) -> None:
    """Raises ``ValueError`` where a field that is set is 0 or less."""
    _check(settings, names, lambda value: value > 0, "`{name}` must be more than 0, not {value}")


def not_negative(settings: object, *names: str) -> None:
    """Raises ``ValueError`` where a field that is set is less than 0."""
    _check(settings, names, lambda value: value >= 0, "`{name}` must be 0 or more, not {value}")


def up_to_one(settings: object, *names: str, low: float = 0) -> None:
    """Raises ``ValueError`` where a field that is set is less than ``low`` or more than 1."""
    message = f"`{{name}}` must be from {low} to 1, not {{value}}"
    _check(settings, names, lambda value: low <= value <= 1, message)


def less_than_one(settings: object, *names: str) -> None:
    """Raises ``ValueError`` where a field that is set is less than 0, or 1 or more."""
    _check(settings, names, lambda value: 0 <= value < 1, "`{name}` must be 0 or more and less than 1, not {value}")


def _check(settings: object, names: tuple[str, ...], holds: Callable[[float], bool], message: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and not holds(value):
            raise ValueError(message.format(name=name, value=value))


def changed(settings: object, *names: str) -> str | None:
    """Returns the first of these fields whose value is not the default."""
    return next((name for name in names if getattr(settings, name) != getattr(type(settings), name)), None)
