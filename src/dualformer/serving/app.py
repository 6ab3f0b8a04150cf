"""The HTTP application over a service: its routes and its error responses."""

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from dualformer._version import __version__
from dualformer.serving.auth import AuthMiddleware, error_response, set_outcome
from dualformer.serving.request_error import RequestError
from dualformer.serving.schemas import FAILURES, STOPPING, UPLOAD, Labels, description, labels_of
from dualformer.serving.service import Service
from dualformer.serving.uploads import parse_boundary, receive_file

_THRESHOLD = "Of weights for several labels; theirs if not given, or 0.5"


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ORIGIN = re.compile(r"https?://[^/?#\s,*]+")


def make_app(service: Service, *, token: str | None = None, ui: bool = False, cors: Sequence[str] = ()) -> FastAPI:
    """Returns the application, which closes the service when it shuts down.

    ``token``: without it, as ``Authorization: Bearer …``, only /health and /ready answer. ``ui``: the page at ``/``.
    ``cors``: origins, as ``https://example.org``, whose pages in a browser may use it; ``*`` for all.
    Raises ``ValueError`` for an empty token, for a page beside a token, which it has no way to ask for, and for what is
    no origin.
    """
    if token is not None and not token.strip():
        raise ValueError("the token is empty: choose one of many random characters, or none")
    if ui and token is not None:
        raise ValueError("the web page cannot ask for a token: leave one of them out, or let a proxy ask")

    check_origins(cors)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await service.close()

    # The pages that show OpenAPI to people load scripts from elsewhere.
    app = FastAPI(title="dualformer", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(AuthMiddleware, metrics=service.metrics, token=token)
    if cors:  # around the token, which a browser's question beforehand does not send
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    _add_error_handlers(app)
    _add_status(app, service)

    @app.post("/predict", summary="The labels of a video", responses=FAILURES, openapi_extra=UPLOAD)
    async def predict(
        request: Request,
        top: Annotated[int, Query(ge=1, le=1000, description="How many classes to name")] = 5,
        threshold: Annotated[float | None, Query(ge=0, le=1, description=_THRESHOLD)] = None,
    ) -> Labels:
        begun = time.monotonic()
        boundary = parse_boundary(request.headers, service.limits)
        with service.slot(), service.folder.file() as path:
            name = await receive_file(request.stream(), boundary, path, service.limits)
            upload = time.monotonic() - begun
            service.metrics.upload.observe(upload)
            result = await service.predict_timed(path, name)
            return labels_of(service, result, top=top, threshold=threshold, upload=upload)

    if not ui:

        @app.get("/", summary="What there is here")
        async def index() -> dict[str, object]:
            return description(service)

    _add_other_methods(app)
    if ui:
        from dualformer.serving.page.mount import mount_page  # starting Gradio takes seconds

        mount_page(app, service, service.folder.path / "page")
    return app


def check_origins(origins: Sequence[str]) -> None:
    """Raises ``ValueError`` for what is no origin, as a browser sends it, nor ``*``."""
    if wrong := [origin for origin in origins if origin != "*" and not _ORIGIN.fullmatch(origin)]:
        raise ValueError(
            f"`cors`: {wrong[0]!r} is no origin: write scheme and host alone, as in https://example.org, or * for all"
        )


def _add_other_methods(app: FastAPI) -> None:
    """Answers OPTIONS of every path, and says of others which there are, though the page takes any path behind."""
    own: dict[str, set[str]] = {}
    for route in app.routes:
        if isinstance(route, Route):
            own.setdefault(route.path, set()).update(route.methods or ())
    for path, methods in own.items():
        app.router.routes.append(
            Route(path, _answer_for(methods), methods=sorted(_METHODS - methods), include_in_schema=False)
        )


def _answer_for(methods: set[str]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        if request.method != "OPTIONS":
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(methods))})
        return Response(status_code=204, headers={"Allow": ", ".join(sorted({*methods, "OPTIONS"}))})

    return answer


def _add_status(app: FastAPI, service: Service) -> None:
    @app.get("/health", summary="Whether the process is alive")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/ready", summary="Whether requests are taken", responses=STOPPING)
    async def ready() -> dict[str, str]:
        if not service.is_ready:
            raise RequestError("shutting_down", "the server is shutting down: try another one")
        return {"status": "ready"}

    @app.get("/metrics", summary="Counts and times, for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def request_error(request: Request, error: RequestError) -> Response:
        return error_response(error, request.scope)

    @app.exception_handler(RequestValidationError)
    async def wrong_query(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return error_response(RequestError("bad_request", f"{first['loc'][-1]}: {first['msg']}"), request.scope)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        errors = {
            404: RequestError("not_found", "there is nothing here: GET / tells what there is"),
            405: RequestError("method_not_allowed", "this path takes another method: /openapi.json tells which"),
        }
        otherwise = RequestError("bad_request", "this is no request that is understood")
        response = error_response(errors.get(error.status_code, otherwise), request.scope)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(ClientDisconnect)
    async def disconnected(request: Request, _: ClientDisconnect) -> Response:
        set_outcome(request.scope, "client_gone")
        return Response(status_code=400)  # which nobody reads

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        # uvicorn's log has all of it; the client's message has nothing of it.
        told = RequestError("internal_error", "the server has a fault, which its log tells about")
        return error_response(told, request.scope)
