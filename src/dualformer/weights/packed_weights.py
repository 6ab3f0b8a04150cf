"""Weights and exported models as bytes, for machines that do not see their files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualformer.weights.exported.exported_files import format_of, openvino_files
from dualformer.weights.locate import resolve_weights


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedWeights:
    """The files of weights or of an exported model."""

    name: str
    """The file that is opened; nothing for a folder with all of them."""
    files: dict[str, NDArray[np.uint8]]
    """Bytes by name, as an array, which Ray shares among the processes of a machine."""

    @classmethod
    def of(cls, path_or_hub_id: Path | str) -> PackedWeights:
        """Reads all files that an opened network is made of. Errors: those of `resolve_weights`, ``OSError``."""
        kind, path = format_of(path_or_hub_id), Path(path_or_hub_id)
        if kind == "openvino":
            return cls(name="", files={file.name: _read(file) for file in openvino_files(path)})
        path = resolve_weights(path_or_hub_id) if kind is None else path
        return cls(name=path.name, files={path.name: _read(path)})

    @contextmanager
    def unpacked(self) -> Iterator[Path]:
        """Gives a path to open the network by, which is gone at the end."""
        with tempfile.TemporaryDirectory(prefix="dualformer-", ignore_cleanup_errors=True) as folder:
            for name, data in self.files.items():
                data.tofile(Path(folder, name))
            yield Path(folder, self.name)


def _read(path: Path) -> NDArray[np.uint8]:
    return np.fromfile(path, dtype=np.uint8)
