"""Measures the decoded file block by block: clipping, offset, spectrum, channels.

It takes the signal before mixing and resampling, which would hide these faults. What the figures
mean is decided in `audio.checks`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.audio.channels import LagMeter
from emotion2vec_ui.audio.decibels import db, rounded_db
from emotion2vec_ui.audio.moving import moving_mean

EDGE_DROP_DB = 20.0
"""A fall of this much, from the mean of the 500 Hz below to everything 300 Hz above, is a band
limit. Chosen between natural speech and the steep filters of codecs and resamplers."""

PSD_BANDS = 128
"""Most bands of the mean spectrum in `SourceFigures`."""


@dataclass(frozen=True)
class SourceFigures:
    """Figures of the decoded file, before any preprocessing."""

    sample_rate_hz: int
    """Sample rate of the file, in Hz."""
    channels: int
    """Number of channels in the file."""
    samples: int
    """Number of samples per channel."""
    peak_dbfs: float
    """Largest magnitude of all channels, in dBFS (dB relative to full scale); at least -200."""
    clipped_fraction: float
    """Share of the samples of all channels that lie on flat tops or beyond full scale, 0 to 1.
    Lossy coding bends flat tops: of clipping before it at most 40 % is still found, and often next
    to nothing after MP3 and AAC."""
    flat_top_runs: int
    """Number of samples that share the top level with the two samples before them."""
    hidden_clipping_dbfs: float | None
    """Level of the flat tops in dB relative to full scale, where they lie below it because the gain
    was lowered after clipping; else null."""
    over_fraction: float
    """Share of the samples beyond full scale, 0 to 1; decoders of lossy files give such samples."""
    dc_offset: float
    """Largest magnitude of a channel's mean; full scale is 1."""
    bandwidth_hz: float
    """Highest frequency with content, in Hz: the band limit, or half the sample rate; 0 for
    silence."""
    spectral_edge: bool
    """Whether the spectrum ends with a steep edge at `bandwidth_hz`."""
    channel_correlation: float | None
    """Correlation of the first two channels, -1 to 1; null for mono or when one is silent."""
    channel_level_difference_db: float | None
    """Level difference of the first two channels in dB, at least 0; null for mono."""
    psd_hz: tuple[float, ...]
    """Frequencies of `psd_db` in Hz, rising, at most 128."""
    psd_db: tuple[float, ...]
    """Mean power density per frequency, in dB relative to full scale squared per Hz."""
    channel_lag_ms: float | None = None
    """By how many ms the second channel is later than the first where they match best, -20 to 20;
    null for mono, when one is silent, and in results of earlier versions."""
    channel_coherence: float | None = None
    """Mean coherence of the first two channels at that lag, -1 to 1, negative for opposite
    polarity; null where `channel_lag_ms` is."""


class SourceMeter:
    """Measures the decoded signal block by block, in memory that does not grow with its length.

    Example:
        >>> meter = SourceMeter(sample_rate_hz=44_100, channels=2)
        >>> for block in blocks:  # float32 (n, 2)
        ...     meter.update(block)
        >>> figures = meter.finish()

    Args:
        sample_rate_hz: Sample rate of the file, in Hz.
        channels: Number of channels, at least 1.
    """

    # Amplitudes are counted in steps of 16-bit PCM up to +-2.0; lossy decoders exceed full scale.
    _STEP = 1 / 32768
    _LEVELS = 65536

    def __init__(self, sample_rate_hz: int, channels: int) -> None:
        self._rate_hz = int(sample_rate_hz)
        self._channels = int(channels)
        self._samples = 0
        self._peak = 0.0
        self._over = 0
        self._sum = np.zeros(channels)
        self._product = np.zeros((2, 2))
        # [channel, level from -2.0 to 2.0]: how many samples, and how many third-in-a-row samples.
        self._count = np.zeros((channels, 2 * self._LEVELS + 1), dtype=np.int64)
        self._flat = np.zeros((channels, 2 * self._LEVELS + 1), dtype=np.int64)
        self._last: NDArray[np.int32] = np.zeros((0, channels), dtype=np.int32)
        # About 20 Hz per bin at any rate.
        self._fft = int(2 ** round(np.log2(max(self._rate_hz, 64) / 20)))
        self._window = np.hanning(self._fft + 1)[: self._fft].astype(np.float32)
        self._power = np.zeros(self._fft // 2 + 1)
        self._power_frames = 0
        self._rest: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._lag = LagMeter(self._rate_hz) if channels > 1 else None

    def update(self, block: np.ndarray) -> None:
        """Adds the next block.

        Args:
            block: float32 (n, channels), full scale is 1.0; values that are not finite count as 0.
        """
        x = np.asarray(block, dtype=np.float32)
        x = x.reshape(-1, self._channels)
        if not len(x):
            return
        if not np.isfinite(x).all():
            x = np.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)
        self._samples += len(x)
        self._peak = max(self._peak, float(x.max()), float(-x.min()))
        self._over += int(np.count_nonzero(np.abs(x) > 1.0))
        # Column by column: a sum over the short axis of interleaved channels is ten times slower.
        self._sum += [x[:, channel].sum(dtype=np.float64) for channel in range(self._channels)]
        if self._channels > 1:
            # Not `@`: BLAS would start threads of its own for it, on cores that the model needs.
            pair = x[:, :2].astype(np.float64)
            self._product += np.einsum("ni,nj->ij", pair, pair)
        if self._lag is not None:
            self._lag.update(x[:, :2])

        scaled = x * np.float32(1 / self._STEP)
        if self._peak > 2:
            np.clip(scaled, -self._LEVELS, self._LEVELS, out=scaled)
        levels = np.rint(scaled, out=scaled).astype(np.int32)
        joined = np.concatenate([self._last, levels])
        for channel in range(self._channels):
            self._count[channel] += np.bincount(
                levels[:, channel] + self._LEVELS, minlength=2 * self._LEVELS + 1
            )
            self._count_flat(channel, joined[:, channel])
        self._last = joined[-2:]

        self._add_spectrum(x[:, 0] if self._channels == 1 else x.mean(axis=1))

    def _count_flat(self, channel: int, levels: NDArray[np.int32]) -> None:
        """Counts the samples that share the level of the two before them."""
        # `_clipping` reads only the upper three quarters, which few samples reach.
        floor = min(self._peak, 2.0) / self._STEP / 4
        at = np.flatnonzero(np.abs(levels) > floor)
        at = at[at >= 2]
        # One step of tolerance: dither and rounding after a change of gain.
        near = np.abs(levels[at] - levels[at - 1]) <= 1
        near &= np.abs(levels[at] - levels[at - 2]) <= 1
        np.add.at(self._flat[channel], levels[at[near]] + self._LEVELS, 1)

    def _add_spectrum(self, mono: NDArray[np.float32]) -> None:
        joined = np.concatenate([self._rest, mono])
        frames = len(joined) // self._fft
        used = frames * self._fft
        if frames:
            spectrum = np.fft.rfft(joined[:used].reshape(frames, self._fft) * self._window)
            self._power += (spectrum.real**2 + spectrum.imag**2).sum(axis=0)
            self._power_frames += frames
        self._rest = joined[used:].copy()

    def finish(self) -> SourceFigures:
        """Returns the figures of all blocks."""
        if not self._power_frames and len(self._rest):
            # Shorter than one frame: padded, since a rough spectrum is better than none.
            self._add_spectrum(np.zeros(self._fft - len(self._rest), dtype=np.float32))
        clipped, runs, hidden = self._clipping()
        bandwidth_hz, edge = self._bandwidth()
        correlation, difference_db = self._compare_channels()
        lag = None if self._lag is None or correlation is None else self._lag.finish()
        total = max(1, self._samples * self._channels)
        psd_hz, psd_db = self._psd_summary()
        return SourceFigures(
            sample_rate_hz=self._rate_hz,
            channels=self._channels,
            samples=self._samples,
            peak_dbfs=db(self._peak**2),
            clipped_fraction=max(clipped, self._over) / total,
            flat_top_runs=runs,
            hidden_clipping_dbfs=hidden,
            over_fraction=self._over / total,
            dc_offset=float(np.abs(self._sum / max(1, self._samples)).max()),
            bandwidth_hz=bandwidth_hz,
            spectral_edge=edge,
            channel_correlation=correlation,
            channel_level_difference_db=difference_db,
            psd_hz=psd_hz,
            psd_db=psd_db,
            channel_lag_ms=None if lag is None else 1000 * lag.lag_s,
            channel_coherence=None if lag is None else lag.coherence,
        )

    def _clipping(self) -> tuple[int, int, float | None]:
        """Returns samples on flat tops, those third in a row, and the level if below full scale.

        A flat top has many samples at one level. A smooth peak is a parabola: as many of its
        samples lie within d of the top as between d and 4 d below it, so many more than that are a
        flat top. The single full-scale sample of a peak-normalised file is none.
        """
        samples = runs = 0
        hidden: float | None = None
        for channel in range(self._channels):
            for step in (1, -1):
                # Levels from 0 upwards, of one sign.
                count = self._count[channel, self._LEVELS :: step]
                flat = self._flat[channel, self._LEVELS :: step]
                top = int(np.flatnonzero(count)[-1]) if count.any() else 0
                if not top:
                    continue
                # The top itself, and the level with the most flat tops (a loud passage may
                # follow a clipped one), outside the lowest quarter, where quiet passages lie.
                floor = top // 4 + 64
                candidates = [top]
                if floor < top and flat[floor:].any():
                    candidates.append(floor + int(flat[floor:].argmax()))
                for level in candidates:
                    d = max(2, level // 1000)
                    piled = int(count[max(0, level - d) : level + d + 1].sum())
                    below = int(count[max(0, level - 5 * d) : max(0, level - d)].sum())
                    in_a_row = int(flat[max(0, level - d) : level + d + 1].sum())
                    # Three in a row, or too many in ones and twos to be chance.
                    if piled > 3 * below + 2 and ((in_a_row and piled >= 5) or piled >= 15):
                        samples += piled
                        runs += in_a_row
                        # 0.5 dB: converters and decoders clip a little below full scale too.
                        if level * self._STEP < 0.944:
                            level_dbfs = db((level * self._STEP) ** 2)
                            hidden = level_dbfs if hidden is None else max(hidden, level_dbfs)
                        break
        return samples, runs, hidden

    def _bandwidth(self) -> tuple[float, bool]:
        """Returns the highest frequency with content, and whether a steep edge ends it."""
        nyquist = self._rate_hz / 2
        bin_hz = self._rate_hz / self._fft
        if not self._power_frames or not self._power.any():
            return 0.0, False
        smooth = max(1, round(100 / bin_hz))
        power = moving_mean(self._power / self._power_frames, smooth)
        level_db = 10 * np.log10(np.maximum(power, power.max() * 1e-13))
        above_from = round(300 / bin_hz)
        # The highest level in all that lies 300 Hz or more above each frequency.
        above = np.full(len(level_db), np.inf)
        running = np.maximum.accumulate(level_db[::-1])[::-1]
        above[: len(level_db) - above_from] = running[above_from:]
        # The mean level in the 500 Hz below it.
        width = max(1, round(500 / bin_hz))
        total = np.concatenate([[0.0], np.cumsum(level_db)])
        at = np.arange(len(level_db))
        start = np.maximum(0, at - width)
        below = (total[at + 1] - total[start]) / (at + 1 - start)
        drop = below - above
        drop[: round(1000 / bin_hz)] = -np.inf  # an edge under 1 kHz is a tone, not a band limit
        drop[-max(2, round(100 / bin_hz)) :] = -np.inf
        edges = np.flatnonzero(drop >= EDGE_DROP_DB)
        if not len(edges):
            return nyquist, False
        best = int(edges[np.argmax(drop[edges])])
        # From the pass band's level 10 dB down: the corner of any filter steep enough to be found.
        inside = np.flatnonzero(level_db >= below[best] - 10)
        return float(inside[-1] * bin_hz), True

    def _compare_channels(self) -> tuple[float | None, float | None]:
        """Returns correlation and level difference in dB of the first two channels."""
        if self._channels < 2 or not self._samples:
            return None, None
        mean = self._sum[:2] / self._samples
        covariance = self._product / self._samples - np.outer(mean, mean)
        power = np.maximum(np.diag(covariance), 0)
        difference_db = abs(db(float(power[0])) - db(float(power[1])))
        if power.min() <= 1e-12:
            return None, difference_db
        return float(covariance[0, 1] / np.sqrt(power[0] * power[1])), difference_db

    def _psd_summary(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Returns frequencies and mean power densities of at most `PSD_BANDS` bands."""
        if not self._power_frames:
            return (), ()
        density = self._power / self._power_frames
        density = density * 2 / (self._rate_hz * float((self._window**2).sum()))
        hz = np.arange(len(density)) * self._rate_hz / self._fft
        groups = min(PSD_BANDS, len(density))
        starts = np.arange(groups) * len(density) // groups
        size = np.diff(starts, append=len(density))
        mean = np.add.reduceat(density, starts) / size
        return (
            tuple((np.add.reduceat(hz, starts) / size).round(1).tolist()),
            rounded_db(mean),
        )
