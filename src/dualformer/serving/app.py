"""The HTTP application over a service: its routes and its error responses."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from difflib import get_close_matches
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from dualformer._version import __version__
from dualformer.datasets.samples import first_few
from dualformer.serving.auth import AuthMiddleware, error_response, set_outcome
from dualformer.serving.request_error import RequestError, quoted
from dualformer.serving.schemas import FAILURES, STOPPING, UPLOAD, Labels, description, labels_of
from dualformer.serving.service import Service
from dualformer.serving.train_page.routes import train_routes
from dualformer.serving.train_page.trainer import Trainer
from dualformer.serving.uploads import parse_boundary, receive_file

_THRESHOLD = "The least probability of the classes above; if not given, theirs of weights for several labels, or 0.5"
_ALLOWED_METHODS = ("GET", "POST")
_ALLOWED_HEADERS = ("Authorization", "Content-Type")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ORIGIN = re.compile(r"https?://[^/?#\s,*]+")


def _check_query(request: Request) -> None:
    """Raises ``RequestError`` for query parameters that the route does not have, which names them and near misses."""
    route: APIRoute = request.scope["route"]
    known = [parameter.alias for parameter in route.dependant.query_params]
    unknown = [name for name in request.query_params if name not in known]
    if not unknown:
        return
    near = dict.fromkeys(match for name in unknown for match in get_close_matches(name.lower(), known, 1))
    hint = f", perhaps you meant {' or '.join(near)}" if near else ""
    takes = f"takes {' and '.join(known)}" if known else "takes none"
    raise RequestError(
        "bad_request", f"unknown query parameter {first_few(map(quoted, unknown))}{hint}: {route.path} {takes}"
    )


_STRICT: dict[str, Any] = {"dependencies": [Depends(_check_query)]}


class _CORSMiddleware(CORSMiddleware):
    """Starlette's, but that it refuses a browser's question beforehand as everything else is refused."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" and scope["method"] == "OPTIONS" else {}
        if not {"origin", "access-control-request-method"} <= {*headers}:
            await super().__call__(scope, receive, send)
            return
        response = self.preflight_response(Headers(scope=scope))
        if response.status_code >= 400:
            allowed = f"{' and '.join(_ALLOWED_METHODS)} with {' and '.join(_ALLOWED_HEADERS)}"
            origin = headers["origin"]
            refused = (
                f"pages of {quoted(origin)} may send {allowed} alone"
                if self.is_allowed_origin(origin)
                else f"pages of {quoted(origin)} may not use this server: whoever runs it names those that may"
            )
            kept = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
            response = error_response(RequestError("bad_request", refused), scope)
            response.headers.update(kept)
        await response(scope, receive, send)


def make_app(
    service: Service,
    *,
    token: str | None = None,
    ui: bool = False,
    trainer: Trainer | None = None,
    cors: Sequence[str] = (),
) -> FastAPI:
    """Returns the application, which closes the service and the trainer when it shuts down.

    ``token``: without it, as ``Authorization: Bearer …``, only /health and /ready answer. ``ui``: the page at ``/``,
    and with a ``trainer`` another one at ``/train/``, on which recognisers are trained.
    ``cors``: origins, as ``https://example.org``, whose pages in a browser may use it; ``*`` for all.
    Raises ``ValueError`` for an empty token, for a page beside a token, which it has no way to ask for, for a
    ``trainer`` without ``ui``, and for what is no origin.
    """
    if token is not None and not token.strip():
        raise ValueError("the token is empty: choose one of many random characters, or none")
    if ui and token is not None:
        raise ValueError("the web page cannot ask for a token: leave one of them out, or let a proxy ask")
    if trainer is not None and not ui:
        raise ValueError("a trainer has a page: it goes with `ui=True`")
    check_origins(cors)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            if trainer is not None:
                await asyncio.to_thread(trainer.close)
            await service.close()

    # The pages that show OpenAPI to people load scripts from elsewhere; the schema itself is a route below.
    app = FastAPI(title="dualformer", version=__version__, lifespan=lifespan, openapi_url=None)
    app.add_middleware(AuthMiddleware, metrics=service.metrics, token=token)
    if cors:  # around the token, which a browser's question beforehand does not send
        app.add_middleware(
            _CORSMiddleware,
            allow_origins=list(cors),
            allow_methods=_ALLOWED_METHODS,
            allow_headers=_ALLOWED_HEADERS,
        )
    _add_error_handlers(app)
    _add_status(app, service)

    @app.post("/predict", summary="The labels of a video", responses=FAILURES, openapi_extra=UPLOAD, **_STRICT)
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

        @app.get("/", summary="What there is here", **_STRICT)
        async def index() -> dict[str, object]:
            return description(service)

    if trainer is not None:
        app.include_router(train_routes(service, trainer))
    _add_other_methods(app)
    if ui:
        from dualformer.serving.page.mount import mount_page  # starting Gradio takes seconds

        mount_page(app, service, service.folder.path / "page", trains=trainer is not None)
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
    @app.get("/health", summary="Whether the process is alive", **_STRICT)
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/ready", summary="Whether requests are taken", responses=STOPPING, **_STRICT)
    async def ready() -> dict[str, str]:
        if not service.is_ready:
            raise RequestError("shutting_down", "the server is shutting down: try another one")
        return {"status": "ready"}

    @app.get("/metrics", summary="Counts and times, for Prometheus", response_class=Response, **_STRICT)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/openapi.json", include_in_schema=False, **_STRICT)
    async def openapi(request: Request) -> dict[str, Any]:
        mounted = request.scope.get("root_path", "").rstrip("/")
        return app.openapi() | ({"servers": [{"url": mounted}]} if mounted else {})


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
