"""Many short texts or bytes looked for in many bytes at once: as fast for a thousand as for one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

import numpy as np

WORD = 8
"""Bytes of the end of a probe by which it is found first. No probe may be shorter."""
SLICE = 64
"""Bytes from the middle of a photo by which it is known: there, two photos have no such run in common."""
_NAME_GOES_ON = re.compile(rb"[\w.%~/-]")


class Probes:
    """What is looked for: `names`, which must end where they are found, and other `parts` of bytes."""

    def __init__(self, names: Iterable[bytes], parts: Iterable[bytes]) -> None:
        self.names = frozenset(one for one in names if len(one) >= WORD)
        self._by_end: dict[int, list[bytes]] = {}
        for one in {*self.names, *(part for part in parts if len(part) >= WORD)}:
            self._by_end.setdefault(int.from_bytes(one[-WORD:], "little"), []).append(one)
        self._ends = np.array(sorted(self._by_end), np.uint64)
        self._low = np.zeros(2**16, bool)
        self._low[(self._ends & np.uint64(0xFFFF)).astype(int)] = True
        self.longest = max(map(len, [one for some in self._by_end.values() for one in some]), default=0)

    def found(self, content: bytes) -> Iterator[bytes]:
        """Each place where one of them is, as what was found there."""
        for shift in range(min(WORD, len(content))) if self._by_end else ():
            words = np.frombuffer(content, "<u8", (len(content) - shift) // WORD, shift)
            likely = np.flatnonzero(self._low[(words & np.uint64(0xFFFF)).astype(np.int32)])
            for place in likely[np.isin(words[likely], self._ends)].tolist():
                end = shift + WORD * (place + 1)
                for one in self._by_end[int(words[place])]:
                    if content[max(0, end - len(one)) : end] == one and not self._goes_on(one, content, end):
                        yield one

    def _goes_on(self, one: bytes, content: bytes, end: int) -> bool:
        """Whether it is the beginning of a longer name."""
        return one in self.names and _NAME_GOES_ON.match(content, end) is not None


def spellings(uri: str) -> Iterator[bytes]:
    """How the name of a file may be written: as it is, as JSON does, and as a path or bucket and key."""
    plain = unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri.partition("://")[2] or uri
    for name in (uri, plain):
        yield name.encode(errors="surrogateescape")
        yield name.encode("ascii", errors="backslashreplace")


def of_content(content: bytes) -> bytes:
    """By which bytes a photo is looked for; all of a small one."""
    begin = max(0, (len(content) - SLICE) // 2)
    return content[begin : begin + SLICE]
