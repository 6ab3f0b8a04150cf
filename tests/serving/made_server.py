"""Small services, servers on a free port of this machine, and what is sent to them."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra [web] is not installed")

import httpx
import numpy as np
import torch
from torch import Tensor

from dualformer.inference.recognizer import Recognizer
from dualformer.serving.app import make_app
from dualformer.serving.limits import Limits
from dualformer.serving.server import bind, make_server
from dualformer.serving.service import Service
from dualformer.video.encode import write_video
from dualformer.video.transforms import normalize
from dualformer.weights.exported.export_card import ExportCard
from dualformer.weights.exported.exported_network import ExportedNetwork
from dualformer.weights.exported.runtime import Runtime
from small_weights import small_network

LABELS = ("up", "down", "left", "right", "still")
WAIT = 30.0
"""Seconds after which what should happen does not."""


@cache
def small_recognizer(*, multi_label: bool = False, temporal: bool = False) -> Recognizer:
    """Random weights that tell clips apart; 2 views of 4 frames of 32 pixels. ``temporal``: with a temporal head."""
    model, card = small_network(LABELS, multi_label=multi_label, head="temporal" if temporal else "pooled")
    return Recognizer(model, card, device="cpu", views="2x1", views_per_batch=8)


class _Inside(Runtime):
    """A network in place of a program that was exported from it."""

    def __init__(self, recognizer: Recognizer) -> None:
        pre = recognizer.preprocessing
        super().__init__((None, pre.frames, pre.crop, pre.crop, 3), torch.uint8)
        self._recognizer = recognizer

    def runs_on(self, device: torch.device) -> bool:
        return device.type == "cpu"

    @torch.inference_mode()
    def run(self, inputs: Tensor, output: int = 0) -> Tensor:
        return self._recognizer.model(normalize(inputs, self._recognizer.preprocessing))


def exported_recognizer() -> Recognizer:
    """Says what `small_recognizer` says, and is an exported model to everybody else."""
    inside = small_recognizer()
    network = ExportedNetwork(
        _Inside(inside), ExportCard(card=inside.card, format="torch", precision="fp32"), name="/a/model.pt2"
    )
    return Recognizer(network, inside.card, device="cpu", views="2x1", views_per_batch=8)


def film(path: Path, *, frames: int = 24, height: int = 48, width: int = 64, seed: int = 0) -> Path:
    """Blocks of random colours, at 25 frames a second."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (frames, height // 8, width // 8, 3), dtype=np.uint8)
    write_video(path, blocks.repeat(8, axis=1).repeat(8, axis=2), fps=25)
    return path


@contextmanager
def serving(recognizer: Recognizer | None = None, limits: Limits | None = None, **settings: Any) -> Iterator[Service]:
    """A service with one process that decodes."""
    service = Service(recognizer or small_recognizer(), limits, workers=1, **settings)
    try:
        yield service
    finally:
        service.close_now()


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server that answers, and what it says in its process."""

    service: Service
    port: int
    stop: Callable[[], None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def predict(self, content: bytes, name: str = "clip.mp4", **how: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/predict", files={"video": (name, content)}, timeout=WAIT, **how)

    def refusal(self, response: httpx.Response) -> tuple[int, str]:
        """Status and code, of an answer that has nothing in it but a code and one line."""
        return refusal(response.status_code, response.text)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT)

    def metrics(self) -> dict[str, float]:
        return samples(self.service.metrics.text().decode())

    def left(self) -> list[str]:
        """Files of the service besides its lock."""
        return [path.name for path in self.service.folder.path.iterdir() if path.name != "in-use"]


def refusal(status: int, text: str) -> tuple[int, str]:
    body = json.loads(text)
    assert set(body) == {"error"} and set(body["error"]) == {"code", "message"}, body
    message = body["error"]["message"]
    assert message and "\n" not in message and "Traceback" not in message, message
    assert tempfile.gettempdir() not in message, message
    return status, body["error"]["code"]


@contextmanager
def running(service: Service, *, token: str | None = None) -> Iterator[Running]:
    """Answers in a thread."""
    listening = bind("127.0.0.1", 0)
    server = make_server(make_app(service, token=token), service, grace=5)

    def stop() -> None:
        server.should_exit = True

    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        until(lambda: server.started)
        yield Running(service=service, port=listening.getsockname()[1], stop=stop)
    finally:
        stop()
        thread.join(WAIT)
        assert not thread.is_alive()


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.01)


def samples(text: str) -> dict[str, float]:
    """Metrics by their names with labels, in Prometheus's text format."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def form(*parts: tuple[str, bytes], end: bool = True) -> tuple[bytes, str]:
    """A multipart body of parts, each its header lines and its content; and its content type."""
    pieces = [f"--xyz\r\n{head}\r\n\r\n".encode() + content + b"\r\n" for head, content in parts]
    return b"".join(pieces) + (b"--xyz--\r\n" if end else b""), "multipart/form-data; boundary=xyz"


def part(name: str = "video", filename: str | None = "clip.mp4") -> str:
    """Header lines of a part."""
    return f'Content-Disposition: form-data; name="{name}"' + ("" if filename is None else f'; filename="{filename}"')


def read_all(connection: socket.socket) -> str:
    """All that comes until the server hangs up."""
    pieces: list[bytes] = []
    while piece := connection.recv(2**16):
        pieces.append(piece)
    return b"".join(pieces).decode()
