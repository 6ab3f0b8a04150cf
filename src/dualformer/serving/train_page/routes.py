"""The requests of the page at ``/train``: its files, the clips, the training, and what that has given."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from fastapi.responses import FileResponse, RedirectResponse
from starlette.responses import Response

from dualformer.pages import ELEMENT, PALETTE
from dualformer.serving.request_error import RequestError
from dualformer.serving.service import Service
from dualformer.serving.train_page.class_clips import clip_suffix
from dualformer.serving.train_page.trainer import WEB, WEIGHTS, Trainer
from dualformer.serving.uploads import parse_boundary, receive_file

_PAGE, *_PAGE_PARTS = (Path(__file__).with_name(name) for name in ("page.html", "page.css", "page.js"))
_ASKED_BY = "x-dualformer-page"
"""A header that the page sends with all that changes something. Pages of other origins cannot, as no preflight allows
it: without it, any page that a visitor opens could add clips and start trainings here."""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; media-src 'self' blob:; frame-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # the next training writes files of the same names
}


def _check_asked_by_page(request: Request) -> None:
    if request.method not in ("GET", "HEAD") and _ASKED_BY not in request.headers:
        raise RequestError("bad_request", f"what changes something needs a header {_ASKED_BY}, as the page sends it")


def train_routes(service: Service, trainer: Trainer) -> APIRouter:
    """Returns the routes, all below ``/train``. Uploads are received and read under the limits of ``service``."""
    router = APIRouter(prefix="/train", dependencies=[Depends(_check_asked_by_page)], include_in_schema=False)

    @router.get("")
    async def without_slash() -> Response:
        return RedirectResponse("train/", headers=_HEADERS)

    @router.get("/")
    async def page() -> Response:
        return _file(_PAGE)

    for path in (*_PAGE_PARTS, ELEMENT, PALETTE):
        router.get(f"/{path.name}")(_answer_with(path))

    @router.get("/state")
    def state() -> dict[str, Any]:
        limits = service.limits
        return {**trainer.state(), "limits": {"bytes": limits.max_bytes, "seconds": limits.max_seconds}}

    @router.post("/classes")
    def add_class(name: Annotated[str, Body(embed=True)]) -> dict[str, str]:
        return {"name": trainer.clips.add_class(name)}

    @router.delete("/classes/{name}")
    def remove_class(name: str) -> dict[str, str]:
        _check_not_running(trainer)
        trainer.clips.remove(name)
        return {"removed": name}

    @router.post("/classes/{name}/clips")
    async def add_clip(name: str, request: Request) -> dict[str, Any]:
        boundary = parse_boundary(request.headers, service.limits)
        trainer.clips.check_room()
        path = trainer.incoming / secrets.token_hex(8)
        try:
            with service.slot():
                source = await receive_file(request.stream(), boundary, path, service.limits)
                clip_suffix(source)
                frames, seconds = await service.check_decodes(path)
                if frames < 2:
                    raise RequestError("unsupported_file", f"{source!r} has a single picture: send a video")
                return {"clip": trainer.clips.add(name, path, source), "frames": frames, "seconds": seconds}
        finally:
            path.unlink(missing_ok=True)

    @router.get("/classes/{name}/clips/{clip}")
    def clip(name: str, clip: str) -> Response:
        return _file(trainer.clips.clip(name, clip))

    @router.delete("/classes/{name}/clips/{clip}")
    def remove_clip(name: str, clip: str) -> dict[str, str]:
        _check_not_running(trainer)
        trainer.clips.remove(name, clip)
        return {"removed": clip}

    @router.post("/start")
    def start(
        epochs: Annotated[int | None, Body()] = None,
        flip: Annotated[bool, Body()] = False,
        resume: Annotated[bool, Body()] = False,
    ) -> dict[str, bool]:
        trainer.start(epochs=epochs, flip=flip, resume=resume)
        return {"started": True}

    @router.post("/stop")
    def stop() -> dict[str, bool]:
        trainer.stop()
        return {"stopping": True}

    @router.get("/weights")
    def weights() -> Response:
        return _file(_made(trainer, WEIGHTS), save_as=WEIGHTS)

    @router.get("/web.zip")
    def archive() -> Response:
        return _file(_made(trainer, f"{WEB}.zip"), save_as="recogniser.zip")

    @router.get("/live/{name}")
    def live(name: str) -> Response:
        folder = _made(trainer, WEB)
        return _file(next((path for path in folder.iterdir() if path.name == name), folder / "nothing"), policy=False)

    return router


def _check_not_running(trainer: Trainer) -> None:
    if trainer.is_running:
        raise RequestError("conflict", "a training uses the clips: stop it first, or wait for its end")


def _made(trainer: Trainer, name: str) -> Path:
    path = trainer.recogniser / name
    if not path.exists():
        raise RequestError("not_found", "nothing was trained yet: record clips, and train")
    return path


def _answer_with(path: Path) -> Callable[[], Response]:
    return lambda: _file(path)


def _file(path: Path, *, save_as: str | None = None, policy: bool = True) -> Response:
    """Returns a file, which a browser is to save under the name ``save_as``. ``policy``: the page's; without it, that
    in the file holds alone."""
    if not path.is_file():
        raise RequestError("not_found", "there is no such file")
    headers = {name: value for name, value in _HEADERS.items() if policy or name != "Content-Security-Policy"}
    return FileResponse(path, headers=headers, filename=save_as)
