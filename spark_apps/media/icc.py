"""ICC profiles made from primaries and a curve, for files that name their colours by numbers and bring no profile.

Numbers of ITU-T H.273 (PNG's `cICP`, HEIF's and AVIF's `nclx`), and PNG's `gAMA` and `cHRM`.
"""

from __future__ import annotations

import struct

import numpy as np

Chromaticities = tuple[float, ...]
"""x and y of white, red, green and blue (CIE 1931)."""
Curve = tuple[float, ...]
"""ICC.1:2022, 10.18: parameters g, or g, a, b, c, d, of a curve from stored values to light."""

_D65 = (0.3127, 0.3290)
SRGB = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB,
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
"""H.273, table 2."""
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_CURVES: dict[int, Curve] = {
    **dict.fromkeys((1, 6, 13, 14, 15), SRGB_CURVE),
    4: (2.2,),
    5: (2.8,),
    8: (1.0,),
}
"""H.273, table 3. The curves of cameras (1, 6, 14, 15) are shown as sRGB's by screens. PQ and HLG are left out: no
picture with one white follows from them."""
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def of_numbers(primaries: int, transfer: int) -> bytes | None:
    """The profile of two numbers of H.273; None: they name none, or one that is not converted here."""
    if primaries not in _PRIMARIES or transfer not in _CURVES:
        return None
    return rgb(_PRIMARIES[primaries], _CURVES[transfer])


def rgb(chromaticities: Chromaticities, curve: Curve) -> bytes | None:
    """A profile of the class monitor; None: the chromaticities span no colours."""
    white, *colours = (
        np.array([x, y, 1 - x - y]) for x, y in zip(chromaticities[::2], chromaticities[1::2], strict=True)
    )
    matrix = np.array(colours).T
    if white[1] <= 0 or abs(np.linalg.det(matrix)) < 1e-6:
        return None
    white = white / white[1]
    matrix = matrix * np.linalg.solve(matrix, white)
    adapted = np.linalg.solve(_BRADFORD, np.diag(_BRADFORD @ _D50 / (_BRADFORD @ white)) @ _BRADFORD) @ matrix
    tags = {b"%cXYZ" % name: b"XYZ \0\0\0\0" + _fixed(*column) for name, column in zip(b"rgb", adapted.T, strict=True)}
    return _profile(b"RGB ", tags | {b"%cTRC" % name: _curve(curve) for name in b"rgb"})


def grey(curve: Curve) -> bytes:
    """A profile of one channel."""
    return _profile(b"GRAY", {b"kTRC": _curve(curve)})


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """ICC.1:2022, 7.2 and 7.3: header, table of tags, their data."""
    tags = tags | {b"wtpt": b"XYZ \0\0\0\0" + _fixed(*_D50)}
    at, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    head = struct.pack(">I4xI4s4s4s12x4s28x", at + len(data), 0x04300000, b"mntr", space, b"XYZ ", b"acsp")
    head += _fixed(*_D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def _curve(curve: Curve) -> bytes:
    return b"para" + struct.pack(">4xHxx", 0 if len(curve) == 1 else 3) + _fixed(*curve)


def _fixed(*numbers: float) -> bytes:
    """s15Fixed16Number."""
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))
