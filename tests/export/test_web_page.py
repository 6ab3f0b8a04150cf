"""The folder of a web page: what is in it, what is escaped, what is refused."""

import base64
import gzip
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made_exports import PRE, card_of, small_network

from dualformer.cli.main import main
from dualformer.export import web_page
from dualformer.export.export_data import rendered_clips
from dualformer.export.export_weights import ExportReport, export_weights
from dualformer.export.web_page import check_web_folder, write_web_page
from dualformer.model.network import DualFormer
from dualformer.video.clip_reader import Views
from dualformer.video.transforms import normalize
from dualformer.weights.card import Card
from dualformer.weights.exported.exported_network import load_exported
from dualformer.weights.safetensors_file import save_weights
from made_web_runtime import FILES, package

for module in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(module, reason="the extra [export] is not installed")

MODEL = small_network()
CARD = card_of(MODEL)
EVIL = "</script><img src=x onerror=alert(1)>"


def write_page(model: DualFormer, card: Card, out: Path, *, name: str = "small", views: str = "2x1") -> ExportReport:
    def pack(path: Path, folder: Path) -> None:
        write_web_page(path, folder, name=name, views=Views.parse(views), runtime=FILES)

    clips = rendered_clips(card.preprocessing, count=2)
    return export_weights(model, card, out, format="onnx", batch=1, clips=clips, pack=pack)


def parts_of(script: Path) -> dict[str, bytes]:
    calls = re.findall(r'^addPart\("([\w.]+)", "([\w+/=]+)"\);$', script.read_text(), flags=re.MULTILINE)
    return {name: base64.b64decode(text) for name, text in calls}


def test_the_folder_holds_the_network_its_card_and_the_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_page, "_PIECE", 200_000)
    card = replace(CARD, labels=(EVIL, *CARD.labels[1:]), provenance=EVIL)
    report = write_page(MODEL, card, tmp_path / "page", name=EVIL)
    assert report.path == tmp_path / "page"
    assert list(tmp_path.iterdir()) == [report.path], "and nothing else is left"
    assert report.bytes == sum(file.stat().st_size for file in report.path.iterdir())
    scripts = sorted(report.path.glob("model-*.js"), key=lambda path: int(path.stem.partition("-")[2]))
    assert len(scripts) > 1
    network = tmp_path / "taken-out.onnx"
    network.write_bytes(gzip.decompress(b"".join(parts_of(script)["model"] for script in scripts)))
    loaded = load_exported(network)
    assert loaded.card == card and loaded.export_card.batch == 1
    told: dict[str, Any] = json.loads(
        (report.path / "card.js").read_text().removeprefix("const DUALFORMER_CARD = ").rstrip(";\n")
    )
    assert told["labels"][0] == EVIL and told["views"] == {"clips": 2, "crops": 1}
    assert told["scripts"] == [script.name for script in scripts]
    clip = torch.frombuffer(
        bytearray(gzip.decompress(base64.b64decode(told["check"]["clip"]))), dtype=torch.uint8
    ).reshape(1, PRE.frames, PRE.crop, PRE.crop, 3)
    with torch.no_grad():
        assert torch.allclose(torch.tensor(told["check"]["logits"]), MODEL(normalize(clip, PRE))[0], atol=1e-4)
    for provider in ("wasm", "webgpu"):
        runtime = parts_of(report.path / f"runtime-{provider}.js")
        assert gzip.decompress(runtime[f"{provider}.script"]) == FILES[web_page.PARTS[provider]["script"]]
    page = (report.path / "index.html").read_text()
    assert EVIL not in page and page.count("&lt;/script&gt;") >= 4
    assert "MIT License" in (report.path / "NOTICE.txt").read_text()


def test_the_page_may_ask_nobody_for_anything(tmp_path: Path) -> None:
    page = write_page(MODEL, CARD, tmp_path / "page").path
    html = (page / "index.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    rules = [rule.strip() for rule in policy[1].split(";")]
    assert "default-src 'none'" in rules
    assert not {"connect-src", "frame-src", "font-src"} & {rule.split()[0] for rule in rules}
    assert not any(word in policy[1] for word in ("http", "*", "'unsafe-inline'", "'unsafe-eval'", "'self'"))
    code = "".join(path.read_text() for path in page.glob("*.js") if path.stat().st_size < 50_000) + html
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|sendBeacon|innerHTML)\b|\beval\(", code)
    assert not re.search(r"https?://", code)
    listed = re.findall(r'<script defer src="([^"]+)" nonce="([^"]+)">', html)
    listed += re.findall(r'<link rel="stylesheet" href="([^"]+)" nonce="([^"]+)">', html)
    assert {"element.js", "palette.css", "page.css"} < {name for name, _ in listed}
    assert all((page / name).is_file() and f"'nonce-{nonce}'" in policy[1] for name, nonce in listed)
    assert write_page(MODEL, CARD, page).path == page, "an older page is written over"


def test_what_is_no_page_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for out, said in ((tmp_path, "there is notes.txt in this folder"), (tmp_path / "notes.txt", "is a folder")):
        with pytest.raises(ValueError, match=said):
            check_web_folder(out)


def test_the_command_line_writes_it_beside_the_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "mine.safetensors"
    save_weights(weights, MODEL, CARD)
    runtime = package(tmp_path / "runtime")
    words = ["export", str(weights), "--format", "web"]
    assert main([*words, "--runtime", str(runtime), "--clips", "2", "--views", "1x3"]) == 0
    said = capsys.readouterr().out
    assert "web, fp32, 6 classes, 1 view at a time of 4x36x36" in said
    assert f"next: open {tmp_path / 'mine-web' / 'index.html'} in a browser" in said
    assert "<h1>mine</h1>" in (tmp_path / "mine-web" / "index.html").read_text()
    for more, expected in (
        (["--precision", "bf16"], "browsers do not compute in it"),
        (["--batch", "4"], "runs one view at a time"),
        (["--runtime", str(tmp_path / "none")], "--runtime .*none: there is no such file or folder"),
    ):
        assert main([*words, *more]) == 2
        assert re.search(expected, capsys.readouterr().err)
    assert main(["export", str(weights), "--format", "onnx", "--runtime", str(runtime)]) == 2
    assert "--runtime is about --format web" in capsys.readouterr().err
