"""Whether what serving needs is installed."""

from __future__ import annotations

import importlib

from dualformer.errors import DualFormerError

_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def need_web(*more: str) -> None:
    """Raises ``DualFormerError`` with the command that installs what cannot be imported; ``more`` besides the usual."""
    for name in (*_NEEDED, *more):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise DualFormerError(
                f"serve: {name} cannot be imported ({error}); pip install 'dualformer[web]'"
            ) from error
