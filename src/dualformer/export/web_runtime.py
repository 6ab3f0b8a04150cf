"""Finds ONNX Runtime Web, of one version: in a folder or tarball that is named, in the cache, or at the npm registry.

Neither npm nor Node.js is needed. The tarball is held against the digest that stands here, wherever it comes from.
"""

import base64
import hashlib
import io
import json
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path

from dualformer.errors import DualFormerError
from dualformer.files import atomic_write
from dualformer.user_cache import user_cache

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""SHA-512 of the tarball in base64, as the registry lists it."""
TARBALL = f"{PACKAGE}-{VERSION}.tgz"
REGISTRY = "https://registry.npmjs.org"
PARTS: Mapping[str, Mapping[str, str]] = {
    "wasm": {
        "script": "ort.wasm.min.js",
        "module": "ort-wasm-simd-threaded.mjs",
        "binary": "ort-wasm-simd-threaded.wasm",
    },
    "webgpu": {
        "script": "ort.webgpu.min.js",
        "module": "ort-wasm-simd-threaded.asyncify.mjs",
        "binary": "ort-wasm-simd-threaded.asyncify.wasm",
    },
}
"""Files of the package's folder ``dist``, by what computes and what they are."""
_TIMEOUT = 60.0
_MOST = 2**28
"""Bytes that a tarball may have."""

RuntimeFiles = Mapping[str, bytes]
"""Content by the name of the file in `PARTS`."""


class RuntimeMissingError(DualFormerError):
    """ONNX Runtime Web is not where it was looked for. One line with the remedy."""


def find_runtime(place: Path | None = None, *, say: Callable[[str], None] = lambda line: None) -> RuntimeFiles:
    """Returns the files of ONNX Runtime Web.

    ``place``: the tarball of the registry, or a folder with the package (``node_modules/onnxruntime-web``, its
    ``dist``, or the folder above ``node_modules``); None: the cache, or the registry, and then it is kept in the cache.
    ``say`` is called with a line before it is fetched.
    Errors: ``FileNotFoundError``; ``ValueError`` for another version or what is no such package;
    `RuntimeMissingError` where it cannot be fetched.
    """
    if place is None:
        return _unpacked(_cached() or _fetched(say))
    if place.is_dir():
        return _in_folder(place)
    if not place.is_file():
        raise FileNotFoundError(f"`runtime={place}`: there is no such file or folder")
    if not _is_intact(tarball := place.read_bytes()):
        raise ValueError(
            f"`runtime={place}`: not {TARBALL} of the npm registry, or a damaged one (its SHA-512 differs)"
        )
    return _unpacked(tarball)


def registry() -> str:
    """Returns the address of the registry as npm is told it: by the environment, or by the user's ``.npmrc``."""
    for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry"):
        if os.environ.get(name):
            return os.environ[name].rstrip("/")
    settings = Path(os.environ.get("NPM_CONFIG_USERCONFIG") or "~/.npmrc").expanduser()
    if settings.is_file():
        for line in settings.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "registry" and value.strip():
                return value.strip().strip("\"'").rstrip("/")
    return REGISTRY


def _cached() -> bytes | None:
    folder = user_cache()
    if folder is None or not (folder / TARBALL).is_file():
        return None
    tarball = (folder / TARBALL).read_bytes()
    return tarball if _is_intact(tarball) else None


def _fetched(say: Callable[[str], None]) -> bytes:
    url = f"{registry()}/{PACKAGE}/-/{TARBALL}"
    remedy = f"fetch {url} elsewhere, and name the file by `runtime`"
    if not url.startswith(("https://", "http://")):
        raise RuntimeMissingError(f"{url}: not an address of a registry; {remedy}")
    say(f"fetching {url}")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            tarball = answer.read(_MOST)
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise RuntimeMissingError(f"{url}: ONNX Runtime Web cannot be fetched ({reason}); {remedy}") from error
    if not _is_intact(tarball):
        raise RuntimeMissingError(f"{url}: what came is not {PACKAGE} {VERSION} (its SHA-512 differs); {remedy}")
    folder = user_cache()
    if folder is not None:
        atomic_write(folder / TARBALL, lambda path: path.write_bytes(tarball))
    return tarball


def _is_intact(tarball: bytes) -> bool:
    return base64.b64encode(hashlib.sha512(tarball).digest()).decode() == INTEGRITY


def _unpacked(tarball: bytes) -> RuntimeFiles:
    with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as archive:
        found = {name: archive.extractfile(f"package/dist/{name}") for name in _names()}
        return {name: file.read() for name, file in found.items() if file is not None}


def _in_folder(place: Path) -> RuntimeFiles:
    package = next((one for one in (place, place.parent, place / "node_modules" / PACKAGE) if _version_of(one)), None)
    if package is None:
        raise ValueError(f"`runtime={place}`: no folder of the npm package {PACKAGE}: it has no package.json of it")
    if _version_of(package) != VERSION:
        raise ValueError(f"`runtime={place}`: {PACKAGE} {_version_of(package)}, and {VERSION} is needed")
    if missing := [name for name in _names() if not (package / "dist" / name).is_file()]:
        raise ValueError(f"`runtime={place}`: {package / 'dist' / missing[0]} is missing; install the package anew")
    return {name: (package / "dist" / name).read_bytes() for name in _names()}


def _version_of(package: Path) -> str | None:
    try:
        about = json.loads((package / "package.json").read_bytes())
    except (OSError, ValueError):
        return None
    return about.get("version") if isinstance(about, dict) and about.get("name") == PACKAGE else None


def _names() -> list[str]:
    return [name for files in PARTS.values() for name in files.values()]
