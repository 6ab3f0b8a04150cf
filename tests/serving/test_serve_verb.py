"""``dualformer serve`` as a process, and the client that comes as an example."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from made_server import film, read_all, until

from dualformer.cli.main import main
from dualformer.datasets.rendered import ALL, Difficulty, Scene, render
from dualformer.serving import require_web_extra
from dualformer.video.encode import write_video

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "examples" / "client.py"
TOKEN = "a token that was made up"


@contextmanager
def serve(temp: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dualformer", "serve", "--port", "0", "--device", "cpu", "--temp", str(temp), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, (line, process.stderr.read() if process.stderr else "")
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


def ask(url: str, *arguments: str, token: str | None = None) -> tuple[int, list[dict]]:
    """Exit code of the example, and what it prints."""
    environment = {**os.environ, **({} if token is None else {"DUALFORMER_TOKEN": token})}
    done = subprocess.run(
        [sys.executable, str(CLIENT), "--url", url, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_a_rendered_video_gets_its_label_and_a_signal_ends_the_server(tmp_path: Path) -> None:
    scene = Scene(classes=ALL, difficulty=Difficulty.at(0.3), wrap=True)
    names = ("right", "left-right", "down-up")
    for name in names:
        write_video(tmp_path / f"{name}.mp4", render(scene, ALL.index(name), (3, 1)).frames, fps=scene.fps)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "temp").mkdir()
    files = [str(tmp_path / f"{name}.mp4") for name in (*names, "bad")]
    with serve(tmp_path / "temp", "--weights", "rendered", "--token-file", str(tmp_path / "token")) as (process, url):
        code, said = ask(url, *files, "--top", "2", token=TOKEN)
        assert code == 1
        assert [each.get("label") for each in said] == [*names, None]
        assert all(len(each["top"]) == 2 and each["model"] == "rendered" for each in said[:3])
        assert said[3]["error"].startswith("415: the video: it cannot be opened")
        code, said = ask(url, files[0], token="another")
        assert code == 1 and said[0]["error"].startswith("401: send the token")

        process.send_signal(signal.SIGTERM)
        out, log = process.communicate(timeout=60)
        assert process.returncode == 0
    assert out.splitlines()[-1] == "stopped"
    refused = [line for line in log.splitlines() if line.startswith("refused")]
    assert len(refused) == 2 and TOKEN not in log and "Traceback" not in log
    assert list((tmp_path / "temp").iterdir()) == []


def test_a_signal_lets_a_request_end(tmp_path: Path) -> None:
    content = film(tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "temp").mkdir()
    with serve(tmp_path / "temp", "--weights", "rendered", "--grace", "20") as (process, url):
        port = int(url.rpartition(":")[2])
        head = b'--xyz\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'
        body = head + content + b"\r\n--xyz--\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=xyz\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body)
            )
            connection.sendall(body[:500])
            until(lambda: any(path.name != "in-use" for path in (tmp_path / "temp").glob("*/*")))
            process.send_signal(signal.SIGINT)

            def refuses() -> bool:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=60).close()
                except ConnectionRefusedError:
                    return True
                return False

            until(refuses)
            connection.sendall(body[500:])
            assert read_all(connection).startswith("HTTP/1.1 200")
        assert process.wait(60) == 0
    assert list((tmp_path / "temp").iterdir()) == []


def test_the_client_comes_back_when_it_is_told_to(tmp_path: Path) -> None:
    path = film(tmp_path / 'a "b".mp4')
    answers = iter([(429, "1"), (503, None), (200, None)])
    bodies: list[bytes] = []

    class Busy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            status, retry_after = next(answers)
            content = json.dumps({"label": "up"} if status == 200 else {"error": {"message": "busy"}}).encode()
            self.send_response(status)
            if retry_after:
                self.send_header("Retry-After", retry_after)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        code, said = ask(f"http://127.0.0.1:{server.server_port}", str(path))
    finally:
        server.shutdown()
        server.server_close()
    assert (code, said) == (0, [{"label": "up"}])
    assert len(bodies) == 3 and all(path.read_bytes() in body for body in bodies)
    code, said = ask(f"http://127.0.0.1:{server.server_port}", str(path), "--patience", "1")
    assert code == 1 and "gave up after 1 s" in said[0]["error"]
    code, said = ask("http://127.0.0.1:1", str(tmp_path / "absent.mp4"))
    assert code == 1 and "absent.mp4" in said[0]["error"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "70000"], "--port must be 0 to 65535, not 70000"),
        (["--max-seconds", "0"], "max_seconds must be a positive number, not 0"),
        (["--batch", "0"], "--batch must be at least 1, not 0"),
        (["--workers", "0"], "--workers must be at least 1, not 0"),
        (["--grace", "0"], "--grace must be a number of at least 1, not 0"),
        (["--grace", "inf"], "--grace must be a number of at least 1, not inf"),
        (["--batch-ms", "inf"], "--batch-ms must be a number of 0 or more, not inf"),
        (["--max-mib", "0"], "--max-mib must be a number of at least a byte, not 0"),
        (["--train", "folder"], "--train is a page: it goes with --ui"),
        (["--runtime", "folder"], "--runtime is about --train"),
        (["--ui", "--train", "folder", "--train-mib", "0"], "--train-mib must be a number of at least a byte, not 0"),
        (["--ui", "--train", "folder", "--runtime", "none"], "--runtime none: there is no such file or folder"),
        (["--decode-mib", "inf"], "--decode-mib must be a number of at least a byte, not inf"),
    ],
)
def test_wrong_options_of_serve(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--weights", "rendered", *options]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def no_such_host(*wanted: object, **how: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_a_wrong_start_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def line(code: int, *options: str) -> str:
        assert main(["serve", "--weights", "rendered", *options]) == code
        (said,) = capsys.readouterr().err.splitlines()
        return said

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "choose another --host or --port" in line(1, "--port", str(port))
    with monkeypatch.context() as unknown:
        unknown.setattr(socket, "getaddrinfo", no_such_host)
        assert (
            line(1, "--host", "nowhere") == "dualformer: nowhere:8000: Name or service not known: choose another --host"
        )
    assert line(2, "--port", "0", "--temp", "nowhere").startswith("dualformer: nowhere: there is no such folder")
    (tmp_path / "empty").write_text("\n")
    assert "holds no token" in line(2, "--token-file", str(tmp_path / "empty"))
    monkeypatch.setenv("DUALFORMER_TOKEN", "")
    assert "DUALFORMER_TOKEN holds no token" in line(2)
    monkeypatch.setenv("DUALFORMER_TOKEN", TOKEN)
    assert "--ui cannot ask for a token" in line(2, "--ui")


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    require_web_extra()
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert main(["serve", "--weights", "rendered"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "prometheus_client cannot be imported" in said and said.endswith("pip install 'dualformer[web]'")
    assert importlib.import_module("dualformer.serving").__doc__
