"""The extractor `audio`: sounds to statistics of their log-mel spectrogram, without a trained model.

Reads what libsndfile reads: WAV, FLAC, OGG, MP3, AIFF. Good for near-duplicates and for telling kinds of sound apart.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_apps.extractors import BadFile, Extractor

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 16_000
"""Samples a second that every sound is brought to."""
FRAME, HOP = 400, 160
"""Samples: windows of 25 ms, one every 10 ms, as is usual in speech recognition."""
MAX_SECONDS = 300
"""Of a longer sound only the beginning is read, which bounds the memory that one file takes."""
FLOOR = 1e-7
"""Added to the energies before the logarithm: silence is -70 dB, just above what rounding to 16 bits leaves."""
QUANTILES = (0.05, 0.95)


class Audio(Extractor):
    """Sounds to 256 floats: for each of 64 mel bands the mean, the standard deviation, and the 5 % and 95 % quantile
    over time of its energy in decibels."""

    bands = 64
    name = "logmel_64"
    dim = 4 * bands

    def __init__(self) -> None:
        import torch

        self._window = torch.hann_window(FRAME)
        self._filters = torch.from_numpy(mel_filters(self.bands).astype(np.float32))

    def prepare(self, content: bytes) -> NDArray[np.float32]:
        """Mono samples at 16 kHz, float32 [n], n at least one window. Raises BadFile."""
        import soundfile
        from scipy.signal import resample_poly

        try:
            with soundfile.SoundFile(io.BytesIO(content)) as sound:
                rate = sound.samplerate
                samples = sound.read(MAX_SECONDS * rate, dtype="float32", always_2d=True).mean(axis=1)
        except (soundfile.SoundFileError, ValueError, TypeError) as error:
            reason = getattr(error, "error_string", error)  # without the name of the stream
            raise BadFile("not_audio", f"{reason}"[:300]) from error
        if not len(samples):
            raise BadFile("truncated", "It has a header and no sound.")
        if not np.isfinite(samples).all():
            raise BadFile("corrupt", "Some samples are not numbers.")
        if rate != RATE:
            shared = gcd(rate, RATE)
            samples = resample_poly(samples, RATE // shared, rate // shared).astype(np.float32)
        return np.pad(samples, (0, max(0, FRAME - len(samples))))

    def extract(self, items: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.stack([self._statistics(samples) for samples in items])

    def _statistics(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            spectrum = torch.stft(
                torch.from_numpy(samples), FRAME, HOP, window=self._window, center=False, return_complex=True
            )
            decibels = 10 * torch.log10(self._filters @ spectrum.abs().square() + FLOOR)
            found = [decibels.mean(dim=1), decibels.std(dim=1, correction=0)]
            found += list(decibels.quantile(torch.tensor(QUANTILES), dim=1))
            return np.asarray(torch.cat(found).numpy(), np.float32)

    def reference(self, content: bytes) -> NDArray[np.float32]:
        """The same definition in numpy, window by window, in double precision."""
        samples = self.prepare(content).astype(np.float64)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)
        starts = range(0, len(samples) - FRAME + 1, HOP)
        power = np.stack([np.abs(np.fft.rfft(window * samples[start : start + FRAME])) ** 2 for start in starts])
        decibels = 10 * np.log10(power @ mel_filters(self.bands).T + FLOOR)
        found: list[Any] = [decibels.mean(axis=0), decibels.std(axis=0), *np.quantile(decibels, QUANTILES, axis=0)]
        return np.concatenate(found).astype(np.float32)


def mel_filters(bands: int) -> NDArray[np.float64]:
    """Triangular filters [bands, FRAME // 2 + 1] over 0 to 8 kHz, equally wide in mel.

    mel = 2595 log10(1 + f / 700): O'Shaughnessy, "Speech Communication: Human and Machine" (1987), as in HTK.
    """
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    frequencies = np.linspace(0, RATE / 2, FRAME // 2 + 1)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    filters: NDArray[np.float64] = np.clip(np.minimum(rising, falling), 0, None)
    return filters
