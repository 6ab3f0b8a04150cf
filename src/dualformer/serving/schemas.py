"""The JSON of requests and answers, as OpenAPI documents it."""

from pydantic import BaseModel

from dualformer.serving.request_error import STATUS
from dualformer.serving.service import Service, TimedPrediction
from dualformer.serving.uploads import FIELD


class Scored(BaseModel):
    """A class and its probability."""

    label: str
    probability: float


class Timing(BaseModel):
    """Seconds."""

    upload: float
    decode: float
    wait: float
    """For a process that decodes, and for the batch."""
    network: float
    """Of the batch that the video was in."""


class Labels(BaseModel):
    """What a video shows."""

    label: str
    """The most likely class."""
    probability: float
    top: list[Scored]
    """The most likely classes, best first."""
    above: list[Scored] | None
    """All classes as likely as ``threshold``, best first. If it is not given, those as likely as the weights' own
    thresholds, of weights for several labels; null of others."""
    source: str
    """The name of the file, without folders."""
    frames: int
    seconds: float
    timing: Timing
    model: str


class Error(BaseModel):
    code: str
    """For programs."""
    message: str
    """For people: what is wrong and what helps, in one line."""


class Failure(BaseModel):
    error: Error


def labels_of(service: Service, result: TimedPrediction, *, top: int, threshold: float | None, upload: float) -> Labels:
    """Returns a prediction as JSON."""
    prediction = result.prediction
    return Labels(
        label=prediction.label,
        probability=prediction.probability,
        top=[Scored(label=label, probability=p) for label, p in prediction.top(top)],
        above=[Scored(label=label, probability=p) for label, p in prediction.above(threshold)]
        if prediction.multi_label or threshold is not None
        else None,
        source=prediction.source,
        frames=result.frames,
        seconds=result.seconds,
        timing=Timing(upload=upload, decode=result.decode, wait=result.wait, network=result.network),
        model=service.name,
    )


_MEANING = {
    400: "The form has no file, several, an empty one, or something else in it; a wrong query",
    401: "No bearer token, or a wrong one",
    408: "The upload took too long",
    413: "The file has too many bytes",
    415: "The body is no form, or the file no video or image",
    422: "The video does not decode, or is too long, too large, or too much work",
    429: "Too many requests are in work: try again after Retry-After seconds",
    500: "A fault of the server, which its log tells about",
    503: "The server is shutting down: try again after Retry-After seconds",
}
"""Of the errors of /predict."""
assert {*_MEANING, 404, 405, 409} == set(STATUS.values())

FAILURES: dict[int | str, dict[str, object]] = {
    status: {
        "model": Failure,
        "description": f"{meaning}. Codes: {', '.join(code for code, of in STATUS.items() if of == status)}",
    }
    for status, meaning in _MEANING.items()
}
STOPPING: dict[int | str, dict[str, object]] = {503: {"model": Failure, "description": _MEANING[503]}}

_FILE = {"type": "string", "format": "binary", "description": "A video or image file"}
_FORM = {"schema": {"type": "object", "required": [FIELD], "properties": {FIELD: _FILE}}}
UPLOAD = {"requestBody": {"required": True, "content": {"multipart/form-data": _FORM}}}


def description(service: Service) -> dict[str, object]:
    """Returns the JSON of ``GET /``: the model, its limits and the paths."""
    recognizer, limits = service.recognizer, service.limits
    return {
        "service": "dualformer",
        "model": service.name,
        "classes": len(recognizer.labels),
        "several_labels": recognizer.card.multi_label,
        "views": str(recognizer.views),
        "limits": {
            name: getattr(limits, name)
            for name in ("max_bytes", "max_seconds", "max_frames", "max_pixels", "concurrency")
        },
        "paths": ["/predict", "/health", "/ready", "/metrics", "/openapi.json"],
    }
