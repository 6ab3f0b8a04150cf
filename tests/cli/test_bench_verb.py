"""``dualformer bench``: tables, files, JSON and complaints, with networks of nothing."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from dualformer.cli import bench
from dualformer.cli.main import main, parse
from dualformer.video.encode import write_video

pytestmark = pytest.mark.usefixtures("small_products")

Capture = pytest.CaptureFixture[str]
TINY = ("dualformer_nano", "--clip", "4x32x32", "--rounds", "1", "--threads", "1", "--no-memory", "--device", "cpu")


def test_two_formats_are_tabled_and_written(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "sub" / "speed.md"
    assert main(["bench", *TINY, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    text = out.read_text(encoding="utf-8")
    assert text in printed and f"written: {out}" in printed
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    head, _, *body = table
    assert [row[head.index("dtype")] for row in body] == ["float32", "bfloat16"]
    assert {row[head.index("memory, MB")] for row in body} == {"–"}
    assert all(float(row[head.index("clips/s")]) > 0 for row in body)
    command = next(line for line in text.splitlines() if line.startswith("Command: ")).split("`")[1]
    again = parse(bench, "bench", shlex.split(command)[2:])
    assert bench.command_of(again) == command
    assert again == parse(bench, "bench", list(TINY))


def test_json_is_all_that_is_printed(tmp_path: Path, capsys: Capture) -> None:
    video = tmp_path / "clip.mp4"
    write_video(video, np.random.default_rng(0).integers(0, 256, (12, 32, 48, 3), dtype=np.uint8), fps=25)
    arguments = ["bench", *TINY, "--dtype", "float32", "--batch", "1", "2", "--video", str(video), "--views", "1x3"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["setting"]["batch"] for row in found["figures"]] == [1, 2]
    assert [row["views"] for row in found["files"]] == ["1x3", "1x3"]
    assert found["video"] == str(video)
    assert found["rounds"] == 1 and found["machine"]["cores"] >= 1
    for row in found["figures"]:
        assert row["share"] == pytest.approx(row["flops"] / row["peak"])
        assert row["clips_per_second"] == pytest.approx(row["setting"]["batch"] / row["p50"])


def test_what_there_is_not_is_named(capsys: Capture) -> None:
    assert main(["bench", *TINY, "--dtype", "float32", "int8"]) == 0
    assert "left out: eager in int8, which there is not" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dualformer_huge"], "'dualformer_huge' is no weights file"),
        (["--rounds", "0"], "--rounds must be at least 1, not 0"),
        (["--seconds", "0"], "--seconds must be more than 0, not 0"),
        (["--batch", "0"], "--batch must be at least 1, not 0"),
        (["--clip", "big"], "32x224x224"),
        (["--dtype", "int8"], "there is no eager in int8: choose another --dtype or --backend"),
        (["--device", "tpu"], "no device 'tpu' here"),
        (["dualformer_nano", "--clip", "4x32x32", "--video", "absent.mp4", "--rounds", "1"], "absent.mp4"),
        (["dualformer_nano", "--clip", "4x32x48", "--backend", "onnx", "--dtype", "float32"], "square views only"),
    ],
)
def test_wrong_calls(arguments: list[str], message: str, capsys: Capture) -> None:
    assert main(["bench", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1
