"""ONNX Runtime Web is taken from where it is named, from the cache, or from the registry, and only in its version."""

import base64
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dualformer.export import web_runtime
from dualformer.export.web_runtime import TARBALL, VERSION, RuntimeMissingError, find_runtime, registry
from dualformer.user_cache import CACHE_VARIABLE
from made_web_runtime import FILES, package


@pytest.fixture
def tarball(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """One with small files, which counts as the right one."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in FILES.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    digest = hashlib.sha512(made.getvalue()).digest()
    monkeypatch.setattr(web_runtime, "INTEGRITY", base64.b64encode(digest).decode())
    return made.getvalue()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9/")
    return tmp_path / "cache"


@pytest.fixture
def server(tarball: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A registry; what was asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(tarball)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{serving.server_port}/npm/")
        yield asked
        serving.shutdown()


def test_it_is_fetched_once_and_kept(cache: Path, server: list[str], tarball: bytes) -> None:
    said: list[str] = []
    assert find_runtime(say=said.append) == FILES
    assert server == [f"/npm/onnxruntime-web/-/{TARBALL}"]
    assert len(said) == 1 and said[0].startswith("fetching http://127.0.0.1")
    assert (cache / TARBALL).read_bytes() == tarball
    assert find_runtime() == FILES and len(server) == 1
    (cache / TARBALL).write_bytes(tarball[:-5])  # damaged: fetched anew
    assert find_runtime() == FILES and len(server) == 2


def test_without_a_cache_it_is_fetched_each_time(
    server: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    assert find_runtime() == find_runtime() == FILES
    assert len(server) == 2 and list(tmp_path.iterdir()) == []


def test_what_came_must_be_the_right_version(cache: Path, server: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_runtime, "INTEGRITY", "another")
    with pytest.raises(RuntimeMissingError, match=r"what came is not onnxruntime-web .* name the file by `runtime`"):
        find_runtime()
    assert not cache.exists()


def test_offline_it_says_what_to_fetch(cache: Path) -> None:
    with pytest.raises(
        RuntimeMissingError, match=rf"http://127.0.0.1:9/onnxruntime-web/-/{TARBALL}: .* fetch .* by `runtime`"
    ):
        find_runtime()


def test_a_tarball_that_is_named(cache: Path, tarball: bytes, tmp_path: Path) -> None:
    path = tmp_path / "any-name.tgz"
    path.write_bytes(tarball)
    assert find_runtime(path) == FILES
    path.write_bytes(tarball + b"x")
    with pytest.raises(ValueError, match=r"any-name.tgz`: not onnxruntime-web-[\d.]+tgz of the npm registry"):
        find_runtime(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        find_runtime(tmp_path / "missing")


def test_a_folder_that_is_named(cache: Path, tmp_path: Path) -> None:
    installed = package(tmp_path / "node_modules" / "onnxruntime-web")
    for place in (tmp_path, installed, installed / "dist"):
        assert find_runtime(place) == FILES
    with pytest.raises(ValueError, match=f"onnxruntime-web 1.2.3, and {VERSION} is needed"):
        find_runtime(package(tmp_path / "old", "1.2.3"))
    with pytest.raises(ValueError, match="no folder of the npm package"):
        find_runtime(tmp_path / "node_modules")
    (installed / "dist" / "ort.wasm.min.js").unlink()
    with pytest.raises(ValueError, match=r"ort.wasm.min.js is missing"):
        find_runtime(installed)


def test_the_registry_is_the_one_that_npm_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NPM_CONFIG_USERCONFIG", str(tmp_path / ".npmrc"))
    assert registry() == "https://registry.npmjs.org"
    (tmp_path / ".npmrc").write_text("fund=false\nregistry = https://mirror.example/npm/\n")
    assert registry() == "https://mirror.example/npm"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://other.example/")
    assert registry() == "https://other.example"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "file:///etc")
    with pytest.raises(RuntimeMissingError, match="not an address of a registry"):
        web_runtime._fetched(print)
