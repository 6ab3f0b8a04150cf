"""The errors of requests: a code for programs, its HTTP status, and a line for people with the remedy."""

from typing import Any, Literal, get_args

from dualformer.errors import DualFormerError

Code = Literal[
    "bad_request",
    "unauthorized",
    "not_found",
    "method_not_allowed",
    "conflict",
    "upload_too_slow",
    "file_too_large",
    "unsupported_body",
    "unsupported_file",
    "does_not_decode",
    "too_long",
    "too_many_frames",
    "too_many_pixels",
    "too_slow_to_decode",
    "too_much_memory",
    "decoder_died",
    "cannot_explain",
    "too_many_requests",
    "internal_error",
    "shutting_down",
]

_CODES: dict[int, tuple[Code, ...]] = {
    400: ("bad_request",),
    401: ("unauthorized",),
    404: ("not_found",),
    405: ("method_not_allowed",),
    409: ("conflict",),  # with what there is, or is done, at the moment
    408: ("upload_too_slow",),
    413: ("file_too_large",),
    415: ("unsupported_body", "unsupported_file"),  # no video in a form
    422: (  # a video, but none that is accepted
        *("does_not_decode", "too_long", "too_many_frames", "too_many_pixels", "too_slow_to_decode"),
        *("too_much_memory", "decoder_died", "cannot_explain"),
    ),
    429: ("too_many_requests",),
    500: ("internal_error",),
    503: ("shutting_down",),
}
STATUS: dict[Code, int] = {code: status for status, codes in _CODES.items() for code in codes}
assert set(STATUS) == set(get_args(Code))

_MAX_QUOTED = 120
"""Characters of a client's text in a message."""
_RETRY_AFTER = {"too_many_requests": 1, "shutting_down": 5}
"""Seconds after which it is worth trying again."""


class RequestError(DualFormerError):
    """A request that is refused. ``status`` is the HTTP status; the message is one line that says what helps."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(" ".join(message.split()))
        self.code: Code = code
        self.status = STATUS[code]
        self.retry_after: int | None = _RETRY_AFTER.get(code)
        """Seconds."""

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.code == "unauthorized" else {})

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON body of the response."""
        return {"error": {"code": self.code, "message": str(self)}}


def quoted(text: str) -> str:
    """Returns text of a client in quotes on one line, shortened, fit for an error message or the log."""
    return repr(text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…")
