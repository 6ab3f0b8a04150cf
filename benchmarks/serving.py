"""A server under load: clients with good videos, and others that send whatever does harm, at the same time.

    python benchmarks/serving.py                                   # 16 clients, two minutes
    python benchmarks/serving.py --seconds 20 --clients 4 --bad FOLDER

Starts ``dualformer serve`` with the weights ``rendered`` as a process of its own. Good clients upload rendered videos
as fast as they are answered, wait as long as a 429 or 503 asks them to, and hold every answer against what `Recognizer`
says. Beside them come, in turn: every file of the folder --bad, uploads that are too large, heads and bodies that never
end, wrong types, zip and video bombs, playlists, names like paths, missing and wrong tokens, and clients that hang up.

Prints requests a second, latencies, answers by kind, memory of the server and of its processes, and what is left in its
temporary folder. Ends with 1 if an answer is not one of those expected, memory grows after the first half minute by
more than --grow MiB, or something is left. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import http.client
import io
import itertools
import json
import os
import re
import secrets
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from dualformer.datasets.rendered import ALL, Difficulty, Scene, render
from dualformer.inference.recognizer import Recognizer
from dualformer.video.container import VideoError
from dualformer.video.encode import write_video

MIB = 2**20
LIMIT_MIB, HEAD_SECONDS, UPLOAD_SECONDS, DECODE_SECONDS = 8, 3.0, 6.0, 8.0
NOT_NOW = (429, 503)
GONE = 0
"""In place of a status: the client hung up, or the server."""
GONE_NAME = "hung up"

Outcome = tuple[int, str | None]
"""Status, and the label that was said."""


@dataclass(kw_only=True)
class Server:
    """The process, and what it answers with."""

    process: subprocess.Popen[bytes]
    port: int
    token: str

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=120)

    def post(
        self, content: bytes, name: str = "clip.mp4", *, token: str | None = "", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to an upload. ``token``: None for none."""
        body, kind = form(content, name)
        headers = {"Content-Type": kind, **(headers or {})}
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.token}"
        return self.send(body, headers)

    def send(self, body: bytes | Iterator[bytes], headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent
                connection.request("POST", "/predict", body, headers, encode_chunked=not isinstance(body, bytes))
            answer = connection.getresponse()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()


def form(content: bytes, name: str) -> tuple[bytes, str]:
    boundary = secrets.token_hex(16)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="video"; filename="{name}"\r\n\r\n'.encode()
    return head + content + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


@dataclass(kw_only=True)
class Tally:
    """What was answered. Threads share it."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: str, status: int, problem: str | None, seconds: float | None = None) -> None:
        with self.lock:
            self.answers[kind, status] += 1
            if problem is not None:
                self.wrong.append(f"{kind}: {problem}")
            if seconds is not None:
                self.latencies.append(seconds)


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A request that should be refused with one of ``expected``, or for being one too many."""

    kind: str
    send: Callable[[Server], int]
    expected: tuple[int, ...]
    slow: bool = False


def good_videos(folder: Path, recognizer: Recognizer) -> list[tuple[bytes, str]]:
    """Rendered clips, and what they are labelled."""
    scene = Scene(classes=ALL, difficulty=Difficulty.at(0.5), wrap=True)
    found: list[tuple[bytes, str]] = []
    for number in range(len(ALL)):
        path = folder / f"{number}.mp4"
        write_video(path, render(scene, number, (5, number)).frames, fps=scene.fps)
        found.append((path.read_bytes(), recognizer(path).label))
    return found


def bad_requests(folder: Path, recognizer: Recognizer, real: Path | None, good: bytes) -> list[Bad]:
    """In the order in which they come."""

    def upload(content: bytes, name: str = "clip.mp4", **how: str | None) -> Callable[[Server], int]:
        return lambda server: server.post(content, name, **how)[0]  # type: ignore[arg-type]  # token alone

    found: list[Bad] = []
    for path in sorted(real.iterdir()) if real is not None else ():
        try:
            recognizer(path)
            expected: tuple[int, ...] = (200,)
        except VideoError:
            expected = (400, 415, 422)
        if path.stat().st_size > LIMIT_MIB * MIB:
            expected = (413,)
        found.append(Bad(kind=f"file {path.name}", send=upload(path.read_bytes(), path.name), expected=expected))
    large = b"\0" * (LIMIT_MIB * MIB + 1)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr("clip.mp4", b"\0" * 100 * MIB)
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    return [
        *found,
        Bad(kind="too large", send=upload(large), expected=(413,)),
        Bad(kind="too large, no length said", send=_chunked, expected=(413,)),
        Bad(kind="JSON", send=lambda s: s.send(b"{}", _authorised(s, "application/json"))[0], expected=(415,)),
        Bad(kind="empty file", send=upload(b""), expected=(400,)),
        Bad(kind="text", send=upload(b"hello " * 1000, "notes.txt"), expected=(415,)),
        Bad(kind="zip bomb", send=upload(archive.getvalue(), "clip.zip"), expected=(415,)),
        Bad(kind="gzip bomb", send=upload(gzip.compress(b"\0" * 100 * MIB), "clip.mp4.gz"), expected=(415,)),
        Bad(kind="gzip as encoding", send=_encoded, expected=(415,)),
        Bad(kind="playlist", send=upload(playlist, "list.m3u8"), expected=(415,)),
        Bad(kind="picture of 900 million pixels", send=upload(_png(30_000)), expected=(415, 422)),
        Bad(kind="frames of 8192x8192", send=upload(_flat(folder, 8192, 8192, 2)), expected=(422,)),
        Bad(kind="an hour in little", send=upload(_flat(folder, 16, 16, 36_000, fps=10)), expected=(422,)),
        # Within the limits but for the time of decoding, which depends on the machine.
        Bad(kind="59 s of 3840x2160", send=upload(_flat(folder, 3840, 2160, 590, fps=10)), expected=(200, 422)),
        Bad(kind="name ../../etc/passwd", send=upload(good, "../../etc/passwd"), expected=(200,)),
        Bad(kind="no token", send=upload(good, token=None), expected=(401,)),
        Bad(kind="wrong token", send=upload(good, token="x"), expected=(401,)),
        Bad(kind="no HTTP", send=_no_http, expected=(400,)),
        Bad(kind="hangs up", send=_hangs_up, expected=(GONE,)),
        Bad(kind="slow head", send=_slow_head, expected=(408,), slow=True),
        Bad(kind="slow body", send=_slow_body, expected=(408,), slow=True),
    ]


def _authorised(server: Server, kind: str) -> dict[str, str]:
    return {"Content-Type": kind, "Authorization": f"Bearer {server.token}"}


def _chunked(server: Server) -> int:
    body, kind = form(b"\0" * (LIMIT_MIB * MIB + MIB), "clip.mp4")
    chunks = (body[start : start + 2**16] for start in range(0, len(body), 2**16))
    return server.send(chunks, {**_authorised(server, kind), "Transfer-Encoding": "chunked"})[0]


def _encoded(server: Server) -> int:
    body, kind = form(b"\0" * 100 * MIB, "clip.mp4")
    return server.send(gzip.compress(body, 1), {**_authorised(server, kind), "Content-Encoding": "gzip"})[0]


def _status(connection: socket.socket) -> int:
    found = re.search(rb"HTTP/1\.1 (\d+)", connection.recv(2**16))
    return int(found[1]) if found else GONE


def _no_http(server: Server) -> int:
    with server.connect() as connection:
        connection.sendall(b"\x16\x03\x01\x02 hello\r\n\r\n")
        return _status(connection)


def _head(server: Server, length: int) -> bytes:
    return (
        f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=xyz\r\n"
        f"Authorization: Bearer {server.token}\r\nContent-Length: {length}\r\n\r\n"
        '--xyz\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'
    ).encode()


def _hangs_up(server: Server) -> int:
    with server.connect() as connection:
        connection.sendall(_head(server, MIB) + b"\0" * 10_000)
    return GONE


def _drip(connection: socket.socket, data: bytes) -> int:
    """A byte every half second, until there is an answer."""
    connection.settimeout(0.5)
    for place in itertools.count():
        try:
            return _status(connection)
        except TimeoutError:
            pass
        except ConnectionResetError:
            return GONE
        connection.sendall(data[place % len(data) :][:1])
    raise AssertionError


def _slow_head(server: Server) -> int:
    with server.connect() as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        return _drip(connection, b"slowly")


def _slow_body(server: Server) -> int:
    with server.connect() as connection:
        connection.sendall(_head(server, MIB))
        return _drip(connection, b"\0")


def _png(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * MIB)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _flat(folder: Path, width: int, height: int, frames: int, *, fps: int = 25) -> bytes:
    """H.264 of one grey, which takes next to no bytes: ten frames, over and over."""
    path = folder / f"{width}x{height}.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        frame = av.VideoFrame.from_ndarray(np.full((height * 3 // 2, width), 128, dtype=np.uint8), format="yuv420p")
        packets = []
        for number in range(min(10, frames)):
            frame.pts = number
            packets += stream.encode(frame)
        packets += stream.encode()
        tick = packets[0].time_base
        assert tick is not None
        contents = [(bytes(packet), packet.is_keyframe) for packet in packets]
        for number in range(frames):
            content, is_key = contents[number % len(contents)]
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.is_keyframe = stream, tick, is_key
            packet.pts = packet.dts = round(number / fps / tick)
            container.mux(packet)
    return path.read_bytes()


def be_good(server: Server, videos: list[tuple[bytes, str]], tally: Tally, end: float, number: int) -> None:
    for content, label in itertools.islice(itertools.cycle(videos), number, None):
        if time.monotonic() > end:
            return
        begun = time.monotonic()
        try:
            status, headers, body = server.post(content)
        except (OSError, http.client.HTTPException) as error:
            tally.note("good", GONE, f"{type(error).__name__}: {error}")
            continue
        if status == 200:
            said = json.loads(body)["label"]
            problem = None if said == label else f"{said} in place of {label}"
            tally.note("good", status, problem, time.monotonic() - begun)
        elif status in NOT_NOW and headers.get("retry-after", "").isdecimal():
            tally.note("good", status, None)
            time.sleep(float(headers["retry-after"]))
        else:
            tally.note("good", status, f"{status} {body[:300]!r}")


def be_bad(server: Server, requests: list[Bad], tally: Tally, end: float) -> None:
    """Sends each until it is not one too many: then the answer has to be the right one."""
    for bad in itertools.cycle(requests):
        status = NOT_NOW[0]
        while status in NOT_NOW:
            if time.monotonic() > end:
                return
            try:
                status = bad.send(server)
            except (OSError, http.client.HTTPException) as error:
                tally.note(bad.kind, GONE, f"{type(error).__name__}: {error}")
                break
            wrong = status not in (*bad.expected, *NOT_NOW)
            tally.note(bad.kind, status, f"answered by {status}" if wrong else None)


def family(pid: int) -> list[int]:
    """A process and those that it or they have started."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = status.read_text(encoding="ascii", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(status.parent.name)] = int(text.rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def memory(pid: int) -> tuple[float, float, float, int]:
    """MiB: of the server alone; of all its processes, pages that several share counted for each, and once; how many
    processes."""
    resident, proportional, count = [], 0.0, 0
    for each in family(pid):
        try:
            text = Path(f"/proc/{each}/smaps_rollup").read_text(encoding="ascii")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        sizes = dict(re.findall(r"^(Rss|Pss): +(\d+) kB", text, flags=re.MULTILINE))
        if sizes:
            resident.append(int(sizes["Rss"]) / 1024)
            proportional += int(sizes["Pss"]) / 1024
            count += 1
    return resident[0], sum(resident), proportional, count


def start(folder: Path, log: Path) -> Server:
    token = secrets.token_hex(16)
    (folder / "token").write_text(token)
    (folder / "temp").mkdir()
    options = ("--weights", "rendered", "--device", "cpu", "--port", "0", "--token-file", str(folder / "token"))
    limits = ("--max-mib", LIMIT_MIB, "--header-seconds", HEAD_SECONDS, "--upload-seconds", UPLOAD_SECONDS)
    more = ("--decode-seconds", DECODE_SECONDS, "--temp", folder / "temp")
    command = [sys.executable, "-m", "dualformer", "serve", *options, *map(str, limits), *map(str, more)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log.open("wb"))
    assert process.stdout is not None
    found = re.search(rb"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
    assert found, log.read_text()
    return Server(process=process, port=int(found[1]), token=token)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--bad", type=Path, help="folder of files to send besides")
    parser.add_argument("--grow", type=float, default=64, help="MiB that memory may grow by after half a minute")
    options = parser.parse_args()
    tally = Tally()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recognizer = Recognizer.load("rendered", device="cpu")
        videos = good_videos(folder, recognizer)
        bad = bad_requests(folder, recognizer, options.bad, videos[0][0])
        server = start(folder, folder / "log")
        pid = server.process.pid
        print("| seconds | server, MiB | all, MiB | all, shared once, MiB | processes |\n|---|---|---|---|---|")
        rows = [memory(pid)]
        print(f"| 0 | {rows[0][0]:.0f} | {rows[0][1]:.0f} | {rows[0][2]:.0f} | {rows[0][3]} |", flush=True)
        begun = time.monotonic()
        end = begun + options.seconds
        threads = [
            *(threading.Thread(target=be_good, args=(server, videos, tally, end, i)) for i in range(options.clients)),
            threading.Thread(target=be_bad, args=(server, [each for each in bad if not each.slow], tally, end)),
            threading.Thread(target=be_bad, args=(server, [each for each in bad if each.slow], tally, end)),
        ]
        for thread in threads:
            thread.start()
        step = min(30.0, options.seconds / 4)
        for moment in np.arange(step, options.seconds + 0.1, step):
            time.sleep(max(0.0, begun + moment - time.monotonic()))
            rows.append(row := memory(pid))
            print(f"| {moment:.0f} | {row[0]:.0f} | {row[1]:.0f} | {row[2]:.0f} | {row[3]} |", flush=True)
        for thread in threads:
            thread.join()
        time.sleep(1)
        rows.append(row := memory(pid))
        print(f"| idle | {row[0]:.0f} | {row[1]:.0f} | {row[2]:.0f} | {row[3]} |", flush=True)
        left = [path.name for path in (folder / "temp").glob("*/*") if path.name != "in-use"]
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(60)
        left += [path.name for path in (folder / "temp").iterdir()]
        log = (folder / "log").read_text(errors="replace")

    latencies = np.array(tally.latencies)
    good = tally.answers["good", 200]
    grown = rows[-2][0] - rows[1][0]
    print(
        f"\n{options.clients} clients, {options.seconds:g} s on {len(os.sched_getaffinity(0))} cores: {good} videos, "
        f"{good / options.seconds:.1f} a second; latency {np.percentile(latencies, 50):.2f} s (median), "
        f"{np.percentile(latencies, 95):.2f} s (95 %)"
    )
    print("\n| request | answers |\n|---|---|")
    for kind in dict.fromkeys(kind for kind, _ in tally.answers):
        answers = (each for each in sorted(tally.answers.items()) if each[0][0] == kind)
        print(f"| {kind} | {', '.join(f'{count} × {status or GONE_NAME}' for (_, status), count in answers)} |")
    print(
        f"\nserver: {grown:+.1f} MiB after the first {step:.0f} s; exit code {code}; left behind: {left or 'nothing'}"
    )
    print(f"log: {log.count('refused ')} refusals, {log.count('Traceback')} tracebacks")
    for line in tally.wrong[:20]:
        print(f"WRONG {line}")
    return int(bool(tally.wrong or left or code or grown > options.grow or "Traceback" in log))


if __name__ == "__main__":
    sys.exit(main())
