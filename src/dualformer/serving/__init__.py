"""Serves a recogniser over HTTP and as a web page.

``service`` turns files into predictions under limits, ``app`` is the HTTP application over it, and ``server`` runs the
application; ``page`` and ``train_page`` are its web pages. Needs the extra ``web``.
"""

import importlib

from dualformer.errors import DualFormerError

_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def require_web_extra(*more: str) -> None:
    """Raises ``DualFormerError`` with the command that installs the extra, where one of its packages (or of ``more``)
    cannot be imported."""
    for name in (*_NEEDED, *more):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise DualFormerError(
                f"serve: {name} cannot be imported ({error}); pip install 'dualformer[web]'"
            ) from error
