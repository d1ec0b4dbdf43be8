"""Small valid pictures that are cruel to a decoder."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

BLOCKS_PER_RUN = 32_767
"""The longest run of empty 8 x 8 blocks that one symbol of a progressive JPEG can stand for (ITU-T T.81, G.1.2.2)."""


def slow_jpeg(scans: int, runs: int = 44) -> bytes:
    """A grey progressive JPEG of `runs` x 2.1 million pixels that says `scans` times over: nothing changes here.

    A scan that leaves every block as it was takes some 100 bytes, but a decoder walks through the whole picture for it
    (ITU-T T.81, annex G). The default has 92 million pixels, fewer than `--max-pixels` refuses.
    """
    width, height = 8 * 217, 8 * 151 * runs  # 217 x 151 blocks are one run
    quantisation = b"\xff\xdb" + struct.pack(">HB", 67, 0) + bytes([1] * 64)
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, height, width, 1) + bytes([1, 0x11, 0])
    no_difference = _huffman_table(0x00, symbol=0x00)
    empty_blocks = _huffman_table(0x10, symbol=0xE0)  # a run of 2^14 blocks and as many more as 14 bits say
    first = _scan(0, 0, "0" * (BLOCKS_PER_RUN * runs))
    again = _scan(1, 63, ("0" + "1" * 14) * runs)
    return b"\xff\xd8" + quantisation + frame + no_difference + empty_blocks + first + again * scans + b"\xff\xd9"


def vast_tiff(side: int) -> bytes:
    """A white picture of `side` x `side` 32-bit numbers: a small file whose decoding takes some 30 bytes a pixel."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((side, side), 1e6, np.float32)).save(buffer, "TIFF", compression="tiff_adobe_deflate")
    return buffer.getvalue()


def _huffman_table(destination: int, symbol: int) -> bytes:
    """A table with one symbol, whose code is a single 0."""
    return b"\xff\xc4" + struct.pack(">HB", 20, destination) + bytes([1] + [0] * 15) + bytes([symbol])


def _scan(first: int, last: int, bits: str) -> bytes:
    """A scan of the coefficients `first` to `last` of the only component."""
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    return b"\xff\xda" + struct.pack(">HB", 8, 1) + bytes([1, 0, first, last, 0]) + data
