"""Images that the tests make: smooth pictures in any format, by Pillow, which is also what reading is held against."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

ORIENTATION = 0x112


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    """A picture (H, W, 3) in which no turn or mirror image is the same, without fine detail that formats lose."""
    y, x = np.mgrid[:height, :width] / (max(height, width) - 1)
    planes = (255 * x, 255 * y, 127 + 60 * np.sin(5 * x) * np.cos(3 * y + 1))
    return np.stack(planes, axis=-1).astype(np.uint8)


def save(path: Path, picture: NDArray[Any], mode: str = "RGB", *, orientation: int | None = None, **how: Any) -> Path:
    """Writes a picture in one of Pillow's modes; ``orientation`` is what a camera writes into EXIF, 1 to 8."""
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    Image.fromarray(picture).convert(mode).save(path, **({"exif": exif} if orientation else {}), **how)
    return path


def opened(path: Path) -> NDArray[np.uint8]:
    """RGB (H, W, 3) as Pillow shows it, upright."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def tiled(avif: bytes, columns: int, side: int) -> bytes:
    """An AVIF file whose picture is put together from ``columns`` times the picture of ``avif``, side by side."""
    top = dict(_boxes(avif))
    properties = dict(_boxes(dict(_boxes(dict(_boxes(top[b"meta"][4:]))[b"iprp"]))[b"ipco"]))
    tiles, whole = range(1, columns + 1), columns + 1
    grid = struct.pack(">BBBBHH", 0, 0, 0, columns - 1, columns * side, side)
    ftyp = _box(b"ftyp", b"avif", bytes(4), b"mif1avif")

    def meta(start: int) -> bytes:
        items = [_full(b"infe", 2, 1, struct.pack(">HH", i, 0), b"av01\0") for i in tiles]
        items.append(_full(b"infe", 2, 0, struct.pack(">HH", whole, 0), b"grid\0"))
        length = len(top[b"mdat"])
        places = [struct.pack(">HHHHII", i, 0, 0, 1, start, length) for i in tiles]
        places.append(struct.pack(">HHHHII", whole, 1, 0, 1, 0, len(grid)))
        sizes = [_full(b"ispe", 0, 0, struct.pack(">II", w, side)) for w in (side, columns * side)]
        owned = [struct.pack(">HBBB", i, 2, 1, 0x82) for i in tiles] + [struct.pack(">HBB", whole, 1, 3)]
        return _full(
            b"meta", 0, 0,
            _full(b"hdlr", 0, 0, bytes(4), b"pict", bytes(13)),
            _full(b"pitm", 0, 0, struct.pack(">H", whole)),
            _full(b"iinf", 0, 0, struct.pack(">H", whole), *items),
            _full(b"iref", 0, 0, _box(b"dimg", struct.pack(f">HH{columns}H", whole, columns, *tiles))),
            _box(
                b"iprp",
                _box(b"ipco", sizes[0], _box(b"av1C", properties[b"av1C"]), sizes[1]),
                _full(b"ipma", 0, 0, struct.pack(">I", whole), *owned),
            ),
            _box(b"idat", grid),
            _full(b"iloc", 1, 0, struct.pack(">BBH", 0x44, 0, whole), *places),
        )  # fmt: skip

    return ftyp + meta(len(ftyp) + len(meta(0)) + 8) + _box(b"mdat", top[b"mdat"])


def _boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    while data:
        size, kind = struct.unpack(">I4s", data[:8])
        found.append((kind, data[8:size]))
        data = data[size:]
    return found


def _box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _full(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)
