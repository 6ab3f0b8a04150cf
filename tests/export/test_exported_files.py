"""What an exported model says of itself, and that a changed, moved or foreign one is noticed."""

import dataclasses
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from made_exports import WAYS, Made, card_of, small_network

from dualformer.export.export_weights import ExportReport
from dualformer.weights.errors import WeightsError
from dualformer.weights.exported.export_card import ExportCard, ExportFormat, ExportPrecision
from dualformer.weights.exported.exported_files import (
    format_of,
    has_card,
    is_exported,
    read_export_card,
    size_of,
    write_digest,
)
from dualformer.weights.exported.exported_network import load_exported
from dualformer.weights.open_network import open_card, open_network

FORMATS: tuple[ExportFormat, ...] = ("torch", "onnx", "openvino")


def copy_of(made: Made, kind: ExportFormat, folder: Path) -> Path:
    path = made.reports[kind, "fp32"].path
    return Path((shutil.copytree if path.is_dir() else shutil.copyfile)(path, folder / path.name))


def main_file(path: Path) -> Path:
    return path / "model.xml" if path.is_dir() else path


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_the_card_travels_with_the_model(made: Made, way: tuple[ExportFormat, ExportPrecision]) -> None:
    report = made.reports[way]
    about = read_export_card(report.path)
    assert (about.card, about.format, about.precision, about.batch) == (made.card, *way, None)
    assert about.digest == report.digest and len(about.digest) == 64
    assert about.made_with["torch"] == torch.__version__
    hint = {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}[way[1]]
    assert about.options == ({"INFERENCE_PRECISION_HINT": hint} if way[0] == "openvino" else {})
    assert open_card(report.path) == made.card
    assert size_of(report.path) == report.bytes
    if way[0] == "openvino":
        assert read_export_card(report.path / "model.xml") == about


def test_cards_are_read_without_what_runs_the_models(made: Made) -> None:
    paths = [str(made.reports[kind, "fp32"].path) for kind in FORMATS]
    code = (
        "import sys; from dualformer.weights.exported.exported_files import read_export_card; "
        f"[read_export_card(path) for path in {paths!r}]; "
        "print(sorted({'onnx', 'onnxruntime', 'openvino', 'nncf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
@pytest.mark.parametrize(("old", "new"), [(b"110.0", b"101.0"), (b"blink", b"black")])
def test_an_edited_card_is_noticed(made: Made, tmp_path: Path, kind: ExportFormat, old: bytes, new: bytes) -> None:
    path = copy_of(made, kind, tmp_path)
    content = main_file(path).read_bytes()
    assert content.count(old) == 1
    main_file(path).write_bytes(content.replace(old, new))
    with pytest.raises(WeightsError, match=r"small-fp32.*labels or preprocessing were changed after .* export it anew"):
        load_exported(path)


def test_an_edited_card_in_an_archive_is_noticed(made: Made, tmp_path: Path) -> None:
    path = copy_of(made, "torch", tmp_path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    [place] = [name for name in entries if name.endswith("/extra/dualformer")]
    entries[place] = entries[place].replace(b"110.0", b"101.0")
    _write_archive(path, entries)
    with pytest.raises(WeightsError, match=r"small-fp32\.pt2: its weights, labels or preprocessing were changed"):
        load_exported(path)


def test_exchanged_weights_are_noticed(made: Made, exchanged: dict[ExportFormat, ExportReport], tmp_path: Path) -> None:
    path = copy_of(made, "torch", tmp_path)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(exchanged["torch"].path) as second:
        entries = {name: archive.read(name) for name in archive.namelist()}
        entries |= {name: second.read(name) for name in second.namelist() if "/weights/" in name}
    _write_archive(path, entries)
    with pytest.raises(WeightsError, match=r"small-fp32\.pt2: its weights, .* were changed"):
        load_exported(path)
    path = copy_of(made, "openvino", tmp_path)
    shutil.copyfile(exchanged["openvino"].path / "model.bin", path / "model.bin")
    with pytest.raises(WeightsError, match=r"openvino: its weights, .* were changed"):
        load_exported(path)
    path = copy_of(made, "onnx", tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"small-fp32\.onnx: its weights, .* were changed"):
        load_exported(path)


def _write_archive(path: Path, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("part", ["model.bin", "model.xml"])
def test_a_part_that_was_left_behind_is_named(made: Made, tmp_path: Path, part: str) -> None:
    path = copy_of(made, "openvino", tmp_path)
    (path / part).unlink()
    with pytest.raises(WeightsError, match=rf"{part}: this part of the exported model is missing; copy model\.xml and"):
        open_network(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_half_a_file_is_noticed(made: Made, tmp_path: Path, kind: ExportFormat) -> None:
    path = main_file(copy_of(made, kind, tmp_path))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match=rf"{path.name}: .*damaged.*; get it anew"):
        open_network(path)
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match=r"get it anew"):
        open_network(path)


def test_foreign_models_have_no_card(tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.Flatten(), (torch.zeros(2, 3, 4),))
    torch.export.save(program, tmp_path / "foreign.pt2")
    assert is_exported(tmp_path / "foreign.pt2") and not has_card(tmp_path / "foreign.pt2")
    with pytest.raises(WeightsError, match=r"foreign\.pt2: an exported model without a dualformer card .* `dualformer"):
        open_network(tmp_path / "foreign.pt2")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.onnx: there is no such exported model"):
        open_network(tmp_path / "nowhere.onnx")


def test_what_names_an_exported_model(made: Made, tmp_path: Path) -> None:
    assert [format_of(made.reports[kind, "fp32"].path) for kind in FORMATS] == list(FORMATS)
    assert [format_of(name) for name in ("a.PT2", "b/c.onnx", "tiny.safetensors", "a/b")] == [
        "torch",
        "onnx",
        None,
        None,
    ]
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "model.bin").touch()  # beside weights it is none of ours
    assert format_of(tmp_path) is None
    assert not is_exported(made.weights) and not has_card(made.weights)
    model, card = open_network(made.weights)
    assert card == made.card and isinstance(model, torch.nn.Module)


def test_cards_are_checked_when_they_are_made_and_read(made: Made) -> None:
    card = ExportCard(card=made.card, format="onnx", precision="int8", batch=4)
    assert ExportCard.from_json(card.to_json()) == card
    assert card.view == (4, 36, 36)
    for field, value, message in (
        ("format", "tflite", "format must be one of torch, onnx, openvino"),
        ("precision", "fp16", "precision must be one of fp32, bf16, int8"),
        ("batch", 0, "batch must be a whole number"),
        ("version", 2, "export version 2 is unknown"),
        ("digest", "short", "digest must be text of 64"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(card, **{field: value})
        with pytest.raises(WeightsError, match=message):
            ExportCard.from_json(json.dumps({**json.loads(card.to_json()), field: value}))
    data = json.loads(card.to_json())
    with pytest.raises(WeightsError, match="unknown keys colour"):
        ExportCard.from_json(json.dumps({**data, "colour": "red"}))
    with pytest.raises(WeightsError, match="missing keys batch"):
        ExportCard.from_json(json.dumps({key: value for key, value in data.items() if key != "batch"}))


def test_a_seal_is_that_of_the_content(tmp_path: Path, made: Made) -> None:
    """The same model has the same digest wherever it lies, and another label another one."""
    digests = set()
    for name, labels in (("a", made.card.labels), ("b", made.card.labels), ("c", made.card.labels[::-1])):
        path = tmp_path / f"{name}.pt2"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data", "numbers")
        card = dataclasses.replace(card_of(small_network()), labels=labels)
        sealed = write_digest(path, ExportCard(card=card, format="torch", precision="fp32"))
        assert read_export_card(path) == sealed
        digests.add(sealed.digest)
    assert len(digests) == 2
