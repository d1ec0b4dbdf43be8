"""Names, images and vectors as keys of 64 bits: eight bytes each, so that one process can compare those of a large day.

Of ten million, two share a key in one day of 370,000 (n² / 2^65). A check that fails by it names the files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
LARGEST = 2**64 - 1


def of(items: Iterable[Any]) -> Keys:
    """The keys of texts, or of contiguous buffers such as the rows of an array."""
    hashed = (hashlib.blake2b(item.encode() if isinstance(item, str) else item, digest_size=8) for item in items)
    return np.frombuffer(b"".join(one.digest() for one in hashed), "<u8").astype(np.uint64)


def lots(keys: Keys, seed: str) -> Keys:
    """Another key for each of `keys`: the smallest are a sample drawn at random, and the same one for the same `seed`.

    The mixing function of SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
    """
    mixed = keys + of([seed])
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def within(keys: Keys, ordered: Keys) -> NDArray[np.bool_]:
    """For each of `keys`, whether it is among those of `ordered`, which ascend."""
    if not len(ordered):
        return np.zeros(len(keys), np.bool_)
    places = np.searchsorted(ordered, keys)
    places[places == len(ordered)] = 0
    found: NDArray[np.bool_] = ordered[places] == keys
    return found


def repeated(ordered: Keys) -> Keys:
    """Those of `ordered`, which ascend, that are there more than once; each once."""
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
