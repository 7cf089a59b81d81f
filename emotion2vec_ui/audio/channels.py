"""Compares two channels: one talk through two microphones, or two parties of a call.

The cross-correlation over lags up to 20 ms is weighted by the mean spectra of both channels (the
smoothed coherence transform, SCOT: Knapp and Carter 1976). Its peak is the mean coherence: 1 for a
mere delay, whatever the sound is, and near 0 for two talkers. Memory does not grow with the length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_LAG_S = 0.02
"""The largest lag looked for: 7 m in air."""

BLOCK_S = 0.25
"""Length of the pieces that spectra are taken of: much longer than the lag."""

# Hum and rumble are common to unrelated channels.
LOWEST_HZ = 100.0
HIGHEST_HZ = 8000.0


@dataclass(frozen=True)
class Lag:
    """The best match of two channels."""

    lag_s: float
    """By how much the second channel is later, in s, -0.02 to 0.02."""
    coherence: float
    """The mean coherence there, -1 to 1; negative: of opposite polarity."""


class LagMeter:
    """Finds the lag between two channels, block by block.

    Args:
        sample_rate_hz: Sample rate in Hz.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        self._rate_hz = sample_rate_hz
        self._block = int(2 ** np.ceil(np.log2(max(64, BLOCK_S * sample_rate_hz))))
        bins = self._block + 1
        self._cross = np.zeros(bins, dtype=np.complex128)
        self._power = np.zeros((2, bins))
        self._rest = np.zeros((0, 2), dtype=np.float32)

    def update(self, pair: NDArray[np.float32]) -> None:
        """Adds the next block, (n, 2), finite; n is arbitrary."""
        joined = np.concatenate([self._rest, pair])
        whole = len(joined) // self._block * self._block
        for start in range(0, whole, self._block):
            self._add(joined[start : start + self._block])
        self._rest = joined[whole:].copy()

    def finish(self) -> Lag | None:
        """Returns the best match of all blocks; None where a channel is silent."""
        if len(self._rest):
            self._add(self._rest)
            self._rest = self._rest[:0]
        hz = np.arange(self._block + 1) * self._rate_hz / (2 * self._block)
        used = (hz >= LOWEST_HZ) & (hz <= HIGHEST_HZ)
        # Smoothed over 100 Hz: spectra of few blocks are rough.
        width = max(1, round(100 / (hz[1] - hz[0])))
        smooth = np.convolve(np.ones(width) / width, self._power[0], mode="same")
        smooth_other = np.convolve(np.ones(width) / width, self._power[1], mode="same")
        product = np.sqrt(smooth * smooth_other)
        used &= product > product.max() * 1e-9
        if not used.any() or product.max() <= 1e-20:
            return None
        weighted = np.zeros(self._block + 1, dtype=np.complex128)
        weighted[used] = self._cross[used] / product[used]
        correlation = np.fft.irfft(weighted) * 2 * self._block / (2 * used.sum())
        reach = int(MAX_LAG_S * self._rate_hz)
        lags = np.arange(-reach, reach + 1)
        # What the channels share of a block grows shorter with the lag.
        at_lags = correlation[lags] / (1 - np.abs(lags) / self._block)
        best = int(np.abs(at_lags).argmax())
        return Lag(
            lag_s=float(lags[best] / self._rate_hz),
            coherence=float(np.clip(at_lags[best], -1, 1)),
        )

    def _add(self, pair: NDArray[np.float32]) -> None:
        # Padded to twice the length, since the correlation would be circular.
        spectra = np.fft.rfft(pair.T, 2 * self._block)
        self._cross += np.conj(spectra[0]) * spectra[1]
        self._power += spectra.real**2 + spectra.imag**2
