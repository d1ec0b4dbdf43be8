"""Landing zones for the other extractors: a folder of short texts and a folder of sounds, each with broken files.

Both are made here, the same on every machine: notes on six subjects, and six kinds of sound at several pitches.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]

PARTITIONS = {"text": "texts", "audio": "sounds"}
"""By extractor: the partition, which is also the folder's name."""

NOTES = {
    "weather": (
        "Rain is expected all night, with strong wind on the coast.",
        "A cold front brings snow to the mountains by Friday.",
        "The week stays sunny and dry, up to thirty degrees.",
        "Thunderstorms and hail moved across the valley.",
        "Fog lies over the river until noon.",
    ),
    "cooking": (
        "Fry the onions slowly in butter until they are golden.",
        "Knead the dough for ten minutes and let it rise.",
        "Season the soup with salt, pepper and a little lemon.",
        "Bake the cake at medium heat for forty minutes.",
        "Boil the pasta, keep a cup of its water for the sauce.",
    ),
    "databases": (
        "The query is slow because the table has no index on that column.",
        "Each transaction is written to the log before it is committed.",
        "Partition the table by day so that old rows can be dropped.",
        "A join of two large tables shuffles data over the network.",
        "The replica lags behind the primary database by a minute.",
    ),
    "football": (
        "The striker scored twice in the second half.",
        "A penalty in the last minute decided the match.",
        "The goalkeeper saved three shots and kept the lead.",
        "The coach changed the defence after the first goal.",
        "Their team won the cup for the fourth time.",
    ),
    "music": (
        "The orchestra tuned before the symphony began.",
        "She practises scales on the piano every morning.",
        "The choir sang in four voices without instruments.",
        "His guitar solo ends the second song of the album.",
        "A quartet of strings played in the old church.",
    ),
    "medicine": (
        "The doctor measured the patient's blood pressure twice.",
        "Take the tablets after meals for five days.",
        "The fracture healed well and the cast was removed.",
        "A fever above thirty-nine degrees needs treatment.",
        "The nurse changed the bandage and cleaned the wound.",
    ),
}
RATES = (8_000, 16_000, 22_050, 44_100, 48_000)
PITCHES = (220, 330, 440, 660, 880)
"""Hertz; each pitch is recorded at one of the rates, so that the rate tells nothing about the kind."""


def prepare(root: Path, extractor: str) -> Path:
    """Makes the folder for `extractor` below `root`, and returns it."""
    folder = root / PARTITIONS[extractor]
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (_texts if extractor == "text" else _sounds)().items():
        (folder / name).write_bytes(content)
    return folder


def _texts() -> dict[str, bytes]:
    files = {
        f"{subject}-{number}.txt": f"{note}\n".encode()
        for subject, notes in NOTES.items()
        for number, note in enumerate(notes, 1)
    }
    return files | {
        "copy of cooking-1.txt": files["cooking-1.txt"],
        "latin-1.txt": "Größe und Maß".encode("latin-1"),
        "nothing.txt": b"",
        "program.txt": b"\x7fELF\x02\x01\x01\0\0",
    }


def _sounds() -> dict[str, bytes]:
    def sine(t: Samples, hertz: float) -> Samples:
        return np.asarray(np.sin(2 * np.pi * hertz * t))

    kinds: dict[str, Callable[[Samples, float], Samples]] = {
        "tone": sine,
        "chord": lambda t, hertz: (sine(t, hertz) + sine(t, 1.26 * hertz) + sine(t, 1.5 * hertz)) / 3,
        "pluck": lambda t, hertz: sine(t, hertz) * np.exp(-3 * t) + sine(t, 2 * hertz) * np.exp(-6 * t) / 2,
        "rising": lambda t, hertz: sine(t * (1 + t), hertz),
        "beating": lambda t, hertz: sine(t, hertz) * (sine(t, 4) > 0),
        "noise": lambda t, hertz: np.random.default_rng(int(hertz)).normal(0, 0.3, len(t)),
    }
    files = {
        f"{kind}-{pitch}.{'flac' if rate == RATES[3] else 'wav'}": _sound(make, pitch, rate)
        for kind, make in kinds.items()
        for pitch, rate in zip(PITCHES, RATES, strict=True)
    }
    return files | {
        "copy of tone-440.wav": files["tone-440.wav"],
        "cut.wav": files["tone-220.wav"][:44],
        "nothing.wav": b"",
        "letter.wav": b"This is a letter, whatever the name says.",
    }


def _sound(make: Callable[[Samples, float], Samples], pitch: float, rate: int) -> bytes:
    import soundfile

    samples = 0.5 * make(np.arange(2 * rate) / rate, pitch)
    target = io.BytesIO()
    soundfile.write(target, samples, rate, format="FLAC" if rate == RATES[3] else "WAV")
    return target.getvalue()
