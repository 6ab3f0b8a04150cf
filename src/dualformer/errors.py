"""What goes wrong, in one line that names the file or option and the remedy.

Two kinds, which the command line tells apart by exit code: a wrong call (``ValueError``, ``FileNotFoundError``: 2) and
work that failed (``DualFormerError``: 1). Every room subclasses the latter.
"""


class DualFormerError(RuntimeError):
    """Work that could not be done: a bad file, bad data, a full disk. The message is one line."""
