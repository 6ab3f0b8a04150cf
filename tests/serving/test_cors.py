"""Pages of other origins: what a browser asks beforehand, who is let in, and that nobody is unless it is said."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from made_server import refusal, serving

from dualformer.cli.serve import Options, run
from dualformer.serving.app import make_app

HERE, THERE = "https://example.org", "http://localhost:5173"
TOKEN = "a long secret"


@contextmanager
def client(*cors: str, token: str | None = None) -> Iterator[TestClient]:
    with serving() as service, TestClient(make_app(service, token=token, cors=cors)) as made:
        yield made


def preflight(made: TestClient, origin: str, method: str = "POST") -> Any:
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    return made.options("/predict", headers={**asked, "Access-Control-Request-Headers": "authorization"})


def test_without_the_option_no_page_of_another_origin_is_let_in() -> None:
    with client() as made:
        for response in (made.get("/", headers={"Origin": HERE}), preflight(made, HERE)):
            assert not [name for name in response.headers if name.startswith("access-control")]
        options = made.options("/predict")
        assert (options.status_code, options.headers["allow"], options.content) == (204, "OPTIONS, POST", b"")
        assert made.options("/").headers["allow"] == "GET, OPTIONS"
        assert made.options("/nothing").status_code == 404


@pytest.mark.parametrize("token", [None, TOKEN])
def test_named_origins_are_let_in_also_with_a_token_and_to_errors(token: str | None) -> None:
    with client(HERE, THERE, token=token) as made:
        for origin in (HERE, THERE):
            asked = preflight(made, origin)
            assert asked.status_code == 200
            assert asked.headers["access-control-allow-origin"] == origin
            assert "POST" in asked.headers["access-control-allow-methods"]
            assert "authorization" in asked.headers["access-control-allow-headers"].lower()
            refused = made.post("/predict", headers={"Origin": origin})
            assert refused.status_code == (401 if token else 415)
            assert refused.headers["access-control-allow-origin"] == origin
        other = preflight(made, "https://evil.example")
        assert other.status_code == 400 and "access-control-allow-origin" not in other.headers
        assert preflight(made, HERE, method="DELETE").status_code == 400
        authorized = {"Origin": HERE} | ({"Authorization": f"Bearer {TOKEN}"} if token else {})
        assert made.get("/", headers=authorized).headers["access-control-allow-origin"] == HERE


@pytest.mark.parametrize(
    ("origin", "method", "said"),
    [
        ("https://evil.example", "POST", "pages of 'https://evil.example' may not use this server"),
        (HERE, "DELETE", f"pages of '{HERE}' may send GET and POST with Authorization and Content-Type alone"),
    ],
)
def test_refused_questions_beforehand_are_json_and_logged(
    origin: str, method: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dualformer")
    with client(HERE) as made:
        response = preflight(made, origin, method)
    assert refusal(response.status_code, response.text) == (400, "bad_request")
    assert response.headers["content-type"] == "application/json" and "Origin" in response.headers["vary"]
    assert response.json()["error"]["message"].startswith(said)
    lines = [record.getMessage() for record in caplog.records if record.name == "dualformer"]
    assert len(lines) == 1 and f"OPTIONS '/predict' 400 bad_request: {said}" in lines[0]


def test_all_origins() -> None:
    with client("*") as made:
        assert preflight(made, "https://anywhere.example").headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in made.get("/", headers={"Origin": HERE}).headers


@pytest.mark.parametrize(
    "origin", ["example.org", "https://example.org/", "https://a.org,https://b.org", "https://*.org", ""]
)
def test_what_is_no_origin_is_refused_before_weights_are_read(origin: str) -> None:
    with pytest.raises(ValueError, match=r"`cors`: .* is no origin: write scheme and host alone"):
        run(Options(weights="nowhere.safetensors", cors=(origin,)))
