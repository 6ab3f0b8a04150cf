"""Writes a folder with a page that runs an exported network in a browser: from any static server, or as a file.

Pages of files may load scripts and nothing else, so that the network and its runtime lie in scripts, in base64. The
page's policy forbids it every connection. Its own code is in the folder ``web`` beside this module.
"""

import base64
import dataclasses
import gzip
import json
import secrets
from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dualformer._version import __version__
from dualformer.export.export_comparison import TOLERANCES
from dualformer.export.export_data import rendered_clips
from dualformer.export.web_runtime import PARTS, VERSION, RuntimeFiles
from dualformer.pages import ELEMENT, PALETTE
from dualformer.plurals import counted
from dualformer.video.clip_reader import Views
from dualformer.weights.exported.exported_network import load_exported
from dualformer.weights.exported.runtime import import_extra

PAGE = "index.html"
SCRIPTS = ("card.js", "sampling.js", "pixels.js", "colours.js", "containers.js", "film.js", "scores.js", "network.js",
           ELEMENT.name, "page.js")  # fmt: skip
"""In the order in which they are loaded; the first is written for each network."""
_SOURCES = Path(__file__).parent / "web"
_STYLES, _NOTICE = (PALETTE.name, "page.css"), "NOTICE.txt"
_SHARED = {path.name: path for path in (ELEMENT, PALETTE)}
_PIECE = 24 * 2**20
"""Bytes of a script with a piece of the model: browsers keep a script whole in memory, and their text has an end."""
_AWAY = 1e-3
"""How far the page's logits of its check clip may be from those of ONNX Runtime here, as a part of the largest logit.
A GPU computes less exactly than a processor; more than that is another answer."""
_LICENCE = """\
ONNX Runtime Web {version}
https://github.com/microsoft/onnxruntime

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def check_web_folder(out: Path) -> None:
    """Raises ``ValueError`` where ``out`` is a file, or a folder of anything but an older page."""
    if out.is_file() or out.suffix.lower() in (".onnx", ".pt2"):
        raise ValueError(f"`out={out}`: a web page is a folder, of another name")
    if out.is_dir() and any(out.iterdir()) and not (out / SCRIPTS[0]).is_file():
        raise ValueError(f"`out={out}`: there is {next(out.iterdir()).name} in this folder; choose a new or empty one")


def write_web_page(model: Path, folder: Path, *, name: str, views: Views, runtime: RuntimeFiles) -> None:
    """Writes the page of an ``.onnx`` file with a card into a new folder.

    ``name``: the page's heading. ``views``: of each video, unless the reader chooses others. ``runtime``: as
    `find_runtime` returns it. The page runs one rendered clip before it says anything of others, and refuses to go on
    where its answer is not that of ONNX Runtime here.
    """
    network = load_exported(model)
    about, card = network.export_card, network.card
    clip = rendered_clips(card.preprocessing, count=1).views
    logits = network(clip)[0].tolist()
    del network
    folder.mkdir(parents=True)
    nonce = secrets.token_urlsafe(12)
    data = model.read_bytes()
    packed = _packed(data)
    pieces = [packed[at : at + _PIECE] for at in range(0, len(packed), _PIECE)]
    model_scripts = [f"model-{number}.js" for number in range(1, len(pieces) + 1)]
    for script, piece in zip(model_scripts, pieces, strict=True):
        _write_parts(folder / script, [("model", piece)])
    for provider, files in PARTS.items():
        parts = [(f"{provider}.{kind}", _packed(runtime[file])) for kind, file in files.items()]
        _write_parts(folder / f"runtime-{provider}.js", parts)
    shown = {
        "name": name,
        "labels": card.class_names,
        "multi_label": card.multi_label,
        "thresholds": card.thresholds,
        "preprocessing": dataclasses.asdict(card.preprocessing),
        "views": dataclasses.asdict(views),
        "scripts": model_scripts,
        "check": {
            "clip": base64.b64encode(_packed(clip.numpy().tobytes())).decode(),
            "logits": logits,
            "tolerance": max(_AWAY, TOLERANCES[about.precision]),
        },
        "on_cpu": _grouped_convolutions(data),
    }
    (folder / SCRIPTS[0]).write_text(f"const DUALFORMER_CARD = {json.dumps(shown)};\n", encoding="utf-8")
    for source in (*SCRIPTS[1:], *_STYLES):
        (folder / source).write_bytes(_SHARED.get(source, _SOURCES / source).read_bytes())
    (folder / _NOTICE).write_text(_LICENCE.format(version=VERSION), encoding="utf-8")
    environment = Environment(loader=FileSystemLoader(_SOURCES), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template(f"{PAGE}.jinja").render(
        card=shown,
        nonce=nonce,
        scripts=SCRIPTS,
        styles=_STYLES,
        version=__version__,
        runtime=VERSION,
        classes=counted(len(card.class_names), "class", "classes"),
        clip=card.preprocessing.describe(),
        network=f"{about.precision}, clips of {' x '.join(map(str, about.view))}, {len(data) / 1e6:.1f} MB",
        provenance=card.provenance,
        licence=card.licence,
        digest=about.digest,
    )
    (folder / PAGE).write_text(page, encoding="utf-8")


def _grouped_convolutions(model: bytes) -> list[str]:
    """Returns the names of the grouped convolutions over time and space, which ONNX Runtime has on no GPU by WebGPU."""
    onnx = import_extra("onnx", "`format=web`")
    graph = onnx.load_from_string(model).graph
    volumes = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 5}
    return [
        node.name
        for node in graph.node
        if node.op_type == "Conv"
        and node.input[1] in volumes
        and any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)
    ]


def _packed(content: bytes) -> bytes:
    return gzip.compress(content, 6, mtime=0)


def _write_parts(path: Path, parts: Iterable[tuple[str, bytes]]) -> None:
    """Writes calls of ``addPart``."""
    with path.open("w", encoding="ascii") as file:
        for name, packed in parts:
            file.write(f"addPart({json.dumps(name)}, {json.dumps(base64.b64encode(packed).decode())});\n")
