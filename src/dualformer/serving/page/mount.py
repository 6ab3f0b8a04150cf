"""Mounts the page in an application and deletes its old files."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from dualformer.serving import require_web_extra
from dualformer.serving.page.examples import render_examples
from dualformer.serving.page.request_filter import RequestFilter
from dualformer.serving.service import Service

_EXAMPLES = "examples"
_KEEP_SECONDS = 15 * 60.0
"""Seconds for which uploads, recordings and files made from them are kept."""
_SWEEP_SECONDS = 60.0
"""Seconds between two searches for old files."""


def mount_page(app: FastAPI, service: Service, folder: Path, *, trains: bool = False) -> None:
    """Mounts the page at ``/`` of ``app``, behind the routes that ``app`` has already.

    ``trains``: there is another page at ``train/``, to which this one links. Uploads, recordings and answers lie in
    ``folder``, for a quarter of an hour; the caller removes it when ``app`` has ended. There is one page in a process:
    where Gradio keeps its files is a variable of the environment. Raises ``DualFormerError`` where Gradio
    cannot be imported.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    require_web_extra("gradio")  # not before: Gradio reads these when it is imported
    import gradio as gr

    from dualformer.serving.page.page_layout import make_page, make_theme

    blocks = make_page(service, folder=folder, examples=render_examples(folder / _EXAMPLES), trains=trains)
    # An application between the two, so that the filter is in front of all that Gradio adds.
    inner = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gr.mount_gradio_app(
        inner,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size=service.limits.max_bytes,
        theme=make_theme(),
        css=Path(__file__).with_name("style.css").read_text(encoding="utf-8"),
    )
    around = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(outer: FastAPI) -> AsyncIterator[Any]:
        async with around(outer) as state, inner.router.lifespan_context(inner):
            sweeping = asyncio.create_task(_sweep(folder))
            try:
                yield state
            finally:
                sweeping.cancel()

    app.router.lifespan_context = lifespan
    app.mount("/", RequestFilter(inner, service, folder))


async def _sweep(folder: Path) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        await asyncio.to_thread(remove_old, folder, _KEEP_SECONDS)


def remove_old(folder: Path, seconds: float) -> None:
    """Removes what in ``folder`` is older than ``seconds``, except the examples."""
    for path in folder.iterdir():
        try:
            made = path.stat().st_mtime
        except FileNotFoundError:  # the page has just removed it
            continue
        if path.name == _EXAMPLES or time.time() - made <= seconds:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
