"""A package that passes for ONNX Runtime Web, with small files."""

import json
from pathlib import Path

from dualformer.export.web_runtime import PARTS, VERSION

FILES = {name: f"content of {name}".encode() for files in PARTS.values() for name in files.values()}


def package(folder: Path, version: str = VERSION) -> Path:
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": "onnxruntime-web", "version": version}))
    for name, content in FILES.items():
        (folder / "dist" / name).write_bytes(content)
    return folder
