"""Weights that travel as bytes are the same files elsewhere."""

from pathlib import Path

import pytest

from dualformer.weights.exported.exported_files import CONSTANTS, GRAPH
from dualformer.weights.locate import SHIPPED, TENSORS_FILE
from dualformer.weights.packed_weights import PackedWeights


@pytest.mark.parametrize(
    ("named", "files", "opened"),
    [
        ("nano.safetensors", ("nano.safetensors",), "nano.safetensors"),
        ("", (TENSORS_FILE,), TENSORS_FILE),
        ("model.onnx", ("model.onnx",), "model.onnx"),
        ("", (GRAPH, CONSTANTS), ""),
        (GRAPH, (GRAPH, CONSTANTS), ""),
    ],
)
def test_all_files_of_a_network_come_out_as_they_went_in(
    tmp_path: Path, named: str, files: tuple[str, ...], opened: str
) -> None:
    for number, name in enumerate(files):
        (tmp_path / name).write_bytes(bytes(range(number, 100)))
    (tmp_path / "other.bin").write_bytes(b"nobody's")
    packed = PackedWeights.of(str(tmp_path / named))
    assert set(packed.files) == set(files)
    with packed.unpacked() as path:
        folder = path.parent if opened else path
        assert path == folder / opened and folder != tmp_path
        for name in files:
            assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()
    assert not folder.exists()


def test_weights_of_the_package_are_packed_by_their_name() -> None:
    assert set(PackedWeights.of("rendered").files) == {SHIPPED["rendered"]}
    with pytest.raises(FileNotFoundError, match="no such weights"):
        PackedWeights.of("nowhere.safetensors")
