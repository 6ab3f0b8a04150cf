"""Converts HDR pictures (PQ, HLG) to SDR, by one formula that is the same on every machine.

1. Light in units of reference white, 203 cd/m² (ITU-R BT.2408): PQ by the EOTF of SMPTE ST 2084; HLG by the inverse
   OETF of BT.2100 and its OOTF for a display of 1,000 cd/m² (gamma 1.2).
2. From the primaries of BT.2020 to those of BT.709 by the matrix of BT.2407; what lies outside is clipped.
3. Tone mapping x → f(x), by which all three colours of a pixel are multiplied so that the largest, x, becomes f(x):
   f(x) = x up to j = 0.5; above, Möbius' curve through f(j) = j, f'(j) = 1 and f(p) = 1, with the peak
   p = 1000/203; 1 above the peak.
4. The inverse of the EOTF of BT.1886, a power of 1/2.4, and 8 bits.
"""

from functools import lru_cache
from typing import Literal

import av.video.frame
import numpy as np
from numpy.typing import NDArray

Transfer = Literal["PQ", "HLG"]

_TRANSFERS: dict[int, Transfer] = {16: "PQ", 18: "HLG"}  # by the code points of ITU-T H.273
_BT2020 = 9
_WHITE, _PEAK = 203.0, 1000.0
_KNEE = 0.5
_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], dtype=np.float32
)
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], dtype=np.float32)
_STEPS = 4095  # of the table of the last step, even in the root of light: more than 8 bits tell apart


def hdr_transfer(frame: av.video.frame.VideoFrame) -> Transfer | None:
    """Returns the transfer characteristic of an HDR frame, None for SDR."""
    return _TRANSFERS.get(int(frame.color_trc))


def hdr_note(transfer: Transfer) -> str:
    """Returns a sentence on what is done to a video."""
    return f"HDR ({transfer}) is converted to SDR: {_WHITE:g} cd/m² is white, brighter light is compressed"


def to_sdr(picture: NDArray[np.uint16], transfer: Transfer, *, wide: bool = True) -> NDArray[np.uint8]:
    """Returns a picture uint8 (H, W, 3) for one of 16 bits (H, W, 3) in R'G'B' of BT.2100, full range.

    ``wide``: its primaries are those of BT.2020, otherwise those of BT.709.
    """
    light = _light_table(transfer)[picture]
    if transfer == "HLG":
        light *= np.power(light @ _LUMINANCE, 0.2)[..., None] * (_PEAK / _WHITE)
    if wide:
        light = light @ _TO_BT709.T
    np.clip(light, 0, None, out=light)
    brightest = light.max(axis=-1)
    light *= (_tone(brightest) / np.maximum(brightest, 1e-6))[..., None]
    steps = np.rint(np.sqrt(np.clip(light, 0, 1)) * _STEPS).astype(np.uint16)
    return _code_table()[steps]


def has_wide_primaries(frame: av.video.frame.VideoFrame) -> bool:
    """Returns whether a frame has the primaries of BT.2020, as HDR has unless it says otherwise."""
    return int(frame.color_primaries) in (_BT2020, 2, 0)


def _tone(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns step 3's f."""
    j, peak = _KNEE, _PEAK / _WHITE
    # (b² + 2bj + j²) / (b − a) · (x + a) / (x + b), as FFmpeg's filter tonemap has it.
    a = -j * j * (peak - 1) / (j * j - 2 * j + peak)
    b = (j * j - 2 * j * peak + peak) / max(peak - 1, 1e-6)
    above = (b * b + 2 * b * j + j * j) / (b - a) * (x + a) / (x + b)
    return np.where(x <= j, x, np.minimum(above, 1)).astype(np.float32)


@lru_cache
def _light_table(transfer: Transfer) -> NDArray[np.float32]:
    """Returns (65536,): the light of each code, of PQ in units of white, of HLG that of the scene from 0 to 1."""
    code = np.arange(2**16) / (2**16 - 1)
    if transfer == "PQ":
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = code ** (1 / m2)
        return (10000 / _WHITE * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12).astype(np.float32)


@lru_cache
def _code_table() -> NDArray[np.uint8]:
    """Returns step 4 for the root of light, from 0 to 1 in `_STEPS`."""
    return np.rint(255 * (np.arange(_STEPS + 1) / _STEPS) ** (2 / 2.4)).astype(np.uint8)
