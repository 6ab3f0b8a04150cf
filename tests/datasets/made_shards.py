"""What the tests of shards start from: a small data set, and a web server that can also be a bad one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from dualformer.datasets.shards.read_shards import ShardLocation, find_shards, load_index
from dualformer.datasets.shards.shard_index import Index
from dualformer.datasets.shards.write_shards import WriteResult, write_shards
from dualformer.datasets.splits import open_all_splits
from dualformer.video.encode import write_video


def make_videos(root: Path, *, train: int = 12, val: int = 4, frames: int = 6) -> Path:
    """``root`` with train/ and val/, two classes each, of noise: no two videos are alike."""
    rng = np.random.default_rng(7)
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            folder = root / split / ("clap", "wave")[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            picture = rng.integers(0, 256, (frames, 6, 8, 3), dtype=np.uint8).repeat(6, axis=1).repeat(6, axis=2)
            write_video(folder / f"v{number:02d}.mp4", picture, fps=25)
    return root


def pack(data: Path | str, out: Path, *, size: int = 20_000, seed: int = 0) -> WriteResult:
    return write_shards(open_all_splits(data)[0], out, made_from="test", size=size, seed=seed)


def location_of(data: Path | str) -> ShardLocation:
    place = find_shards(data)
    assert place is not None
    return place


def index_in(data: Path | str) -> Index:
    return load_index(location_of(data))


class Requests(list[tuple[str, str]]):
    """(path, range) of each request that was answered."""


@contextmanager
def served(folder: Path, *, ranges: bool = True, failures: int = 0) -> Iterator[tuple[str, Requests]]:
    """The address of a web server over ``folder``, and its requests.

    Without ``ranges`` it sends whole files whatever it is asked for. The first ``failures`` requests for parts fail.
    """
    seen = Requests()
    left = [failures]

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = folder / self.path.lstrip("/")
            asked = self.headers.get("Range", "")
            if not path.is_file():
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if asked and body and left[0]:
                left[0] -= 1
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = path.read_bytes()
            total = len(data)
            first, last = 0, total - 1
            if asked and ranges:
                start, end = asked.removeprefix("bytes=").split("-")
                first, last = int(start), min(int(end or last), last)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{last}/{total}")
            else:
                self.send_response(200)
            self.send_header("Accept-Ranges", "bytes" if ranges else "none")
            self.send_header("Content-Length", str(last - first + 1))
            self.end_headers()
            if body:
                seen.append((path.name, asked))
                self.wfile.write(data[first : last + 1])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as it is called
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
