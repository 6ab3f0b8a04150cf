"""Writes a count with its noun, in the singular for one."""


def counted(number: int, one: str, many: str = "") -> str:
    """Returns ``1 file``, ``2 files`` or ``3 classes``. ``many``: the plural, where it is not made by -s or -es."""
    hisses = one.endswith(("s", "x", "ch", "sh")) and not one.endswith("epoch")
    regular = f"{one}es" if hisses else f"{one}s"
    return f"{number} {one if number == 1 else many or regular}"
