"""Checks of numbers in settings; the error names the field."""


def more_than_zero(settings: object, *names: str) -> None:
    """``ValueError`` where a field that is set is 0 or less."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value > 0:
            raise ValueError(f"`{name}` must be more than 0, not {value}")


def not_negative(settings: object, *names: str) -> None:
    """``ValueError`` where a field that is set is less than 0."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value >= 0:
            raise ValueError(f"`{name}` must be 0 or more, not {value}")


def between(settings: object, *names: str, low: float = 0, high: float = 1) -> None:
    """``ValueError`` where a field that is set is less than ``low`` or not less than ``high``."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not low <= value < high:
            raise ValueError(f"`{name}` is {value}; it must lie between 0 and 1")


def changed(settings: object, *names: str) -> str | None:
    """Returns the first of these fields whose value is not the default."""
    return next((name for name in names if getattr(settings, name) != getattr(type(settings), name)), None)
