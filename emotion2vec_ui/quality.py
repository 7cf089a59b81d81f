"""How good a recording is: clipping, spectrum, noise, silence, each with figure and verdict.

Two steps, because preprocessing hides faults: `SourceMeter` sees the decoded file as it is, block
by block, and `assess` sees the 16 kHz mono samples that the model hears.
No model of emotions, no language, no page; every conclusion is a code.

Check codes, with the unit of their figure, and the warning codes they may raise:

==================  ========  ======================================================================
check               unit      warnings
==================  ========  ======================================================================
clipping            fraction  clipping
clipping_hidden     dbfs      clipping_hidden (the level at which the tops are flat)
bandwidth           hz        bandwidth_telephone, bandwidth_upsampled, bandwidth_lossy,
                              bandwidth_narrow
low_band            db        low_band_weak (100-300 Hz, relative to all speech)
presence_band       db        presence_band_weak (2-4 kHz, relative to all speech)
dropouts            fraction  dropouts (share of speech quieter than the recording's own noise)
snr                 db        snr_low (under 20), snr_unstable (under 10)
level               dbfs      level_low
speech_present      s         speech_missing, speech_short
speech_share        fraction  speech_share_low
leading_silence     s         leading_silence_short
trailing_silence    s         trailing_silence_short
onset               db        onset_cut (level of the first 20 ms, relative to speech)
offset              db        offset_cut (the same of the last 20 ms)
duration            s         duration_short, duration_long
dc_offset           fraction  dc_offset
channels            corr      channels_opposed, channels_differ
codec               (none)    codec_telephone
resampling          hz        resampled_up
==================  ========  ======================================================================

Remedies: ``lower_gain``, ``undo_gain_at_source``, ``use_original_recording``, ``use_wider_band``,
``use_higher_bitrate``, ``check_low_cut``, ``uncover_microphone``, ``check_connection``,
``quieter_place``, ``move_closer``, ``speak``, ``trim_silence``, ``keep_300_ms``,
``start_earlier``, ``stop_later``, ``record_longer``, ``aim_for_3_to_8_s``, ``split_by_sentence``,
``remove_dc``, ``fix_channel_polarity``, ``split_channels``, ``use_lossless``; empty when there is
nothing to do.

What is left out: several speakers in one channel and overlapping speech. Telling them needs a
speaker model; pitch and level cannot do it honestly on emotional speech. Two *channels* that hold
different sounds are told (``channels_differ``), since mixing them to mono makes speakers overlap.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FloatArray = NDArray[np.float64]

RATE_HZ = 16_000

# --- thresholds ---------------------------------------------------------------------------------
# "The article" is the guide of the WebUI that this program rebuilds.

# The article: aim for 20 dB; under 10 dB the result is unstable and neutral rises.
SNR_TARGET_DB = 20.0
SNR_UNSTABLE_DB = 10.0
# The article: keep 0.3 s at both ends. Speech is found two windows (64 ms) early at most.
MARGIN_S = 0.3
MARGIN_MEASURED_S = 0.236
# The article: best 3-8 s, advised 1-30 s.
DURATION_BEST_S = (3.0, 8.0)
DURATION_ADVISED_S = (1.0, 30.0)
# Chosen, not calibrated: one clipped sample in a thousand is a few clipped peaks per second.
CLIPPED_WARN = 0.001
CLIPPED_FAIL = 0.01
# The model hears up to 8 kHz; resamplers and codecs take the last kHz without harm.
BANDWIDTH_FULL_HZ = 7000.0
# A fall of this much, from the mean of the 500 Hz below to everything 300 Hz above, is an edge.
# Chosen between natural speech and the steep filters of codecs and resamplers.
EDGE_DROP_DB = 20.0
# Narrow-band telephony passes 300-3400 Hz (ITU-T G.712) and ends below 4 kHz (8 kHz sampling).
BANDWIDTH_TELEPHONE_HZ = 4200.0
BANDWIDTH_FAIL_HZ = 2500.0
# Set on 300 recordings of three corpora (EMO-DB, RAVDESS, nEMO). The low band is under -33 dB in
# 98 % of them once everything under 300 Hz is cut; as they are, in no man's voice, but in a tenth
# of the women's of RAVDESS, who shout above 300 Hz. So it is a hint only.
# The upper band is never under -26 dB.
LOW_BAND_WEAK_DB = -33.0
PRESENCE_BAND_WEAK_DB = -35.0
# A linear recording never gets quieter than its own noise. In the narrow band (200 Hz, 40 ms) noise
# power scatters by 1.5 dB: 12 dB below its mean is eight standard deviations.
DROPOUT_BELOW_NOISE_DB = 12.0
DROPOUT_WARN = 0.02
DROPOUT_FAIL = 0.10
# Chosen, not calibrated.
LEVEL_LOW_DBFS = -45.0
SPEECH_SHORT_S = 0.5
SPEECH_SHARE_LOW = 0.3
DC_OFFSET_WARN = 0.02
# The first or last 20 ms are speech when they come this near to the active level and stand clear of
# the noise.
EDGE_S = 0.02
EDGE_NEAR_SPEECH_DB = -20.0
EDGE_ABOVE_NOISE_DB = 10.0
EDGE_MARGIN_S = 0.1
# Two channels: mixing loses more than 6 dB / they have little in common.
CHANNELS_OPPOSED_CORR = -0.5
CHANNELS_DIFFER_CORR = 0.3
CHANNEL_SILENT_DB = 25.0

# Verdicts of these never lower the verdict on the whole: hints for next time, or things that the
# model does not hear (it normalises each clip, which removes level and offset).
ADVISORY = frozenset(
    {"low_band", "leading_silence", "trailing_silence", "level", "dc_offset", "codec", "resampling"}
)

LOSSY_CODECS = ("mp3", "mp2", "aac", "opus", "vorbis", "wma", "ac3")
TELEPHONE_CODECS = ("ulaw", "mulaw", "alaw", "amr", "gsm", "g72", "g711", "speex", "evrc", "qcelp")

# --- analysis sizes -----------------------------------------------------------------------------

# 16 ms windows every 8 ms: short enough to fall into the closure of a stop consonant.
FFT = 256
HOP = 128
BIN_HZ = RATE_HZ / FFT
BLOCK_FRAMES = 3750  # 30 s: bounds the memory, and the noise may differ from block to block
# Minimum statistics (Martin 2001) by quantile: per 62.5 Hz band smoothed over 5 frames and 3 bands,
# the 2 % quantile over time. For stationary noise it lies at this share of the mean; measured on
# 60 s of white noise with this very smoothing.
NOISE_QUANTILE = 0.02
NOISE_QUANTILE_RATIO = 0.444
SMOOTH_FRAMES = 5
SMOOTH_BINS = 3
# An SNR over this says more about the codec's silence than about the room.
SNR_CEILING_DB = 60.0

# silero-vad: windows of 512 samples after 64 samples of context, at 16 kHz.
VAD_WINDOW = 512
VAD_CONTEXT = 64
VAD_BLOCK_WINDOWS = 1024
VAD_WINDOW_S = VAD_WINDOW / RATE_HZ
# silero's own defaults: on from 0.5, off under 0.35, 30 ms pad.
VAD_ON = 0.5
VAD_OFF = 0.35
VAD_PAD_S = 0.03
# silero misses shouting and wailing with a pitch over 400 Hz. A window also counts as speech when
# it is loud (within 25 dB of the loud ones, 15 dB over the quiet ones), periodic (normalised
# autocorrelation over 0.7 somewhere between 80 and 800 Hz), and silero sees a trace of speech
# within 2 s. Chosen on RAVDESS.
VOICED_NEAR_LOUD_DB = 25.0
VOICED_ABOVE_QUIET_DB = 15.0
VOICED_PERIODICITY = 0.7
VOICED_LAGS = (RATE_HZ // 800, RATE_HZ // 80)
VOICED_REACH_S = 2.0
# Clearly no speech: for the noise estimate a wrong "pause" is worse than a missed one.
VAD_PAUSE = 0.15
# Pauses up to 0.2 s belong to speech (the hangover of ITU-T P.56); shorter bursts are no speech.
VAD_HANGOVER_S = 0.2
VAD_MIN_SPEECH_S = 0.09
# The least pause from which the noise is measured directly.
PAUSE_MIN_S = 0.3

PICTURE_COLUMNS = 400
PICTURE_BINS = 128

_TINY = 1e-20  # -200 dB: keeps logarithms finite

_vad_lock = threading.Lock()


@dataclass(frozen=True)
class SourceFigures:
    """Figures of the decoded file, before any preprocessing.

    Attributes:
        sample_rate_hz: As the file has it.
        channels: As the file has it.
        samples: Per channel.
        peak_dbfs: Largest magnitude of all channels; -inf is given as -200.
        clipped_fraction: Share of samples (of all channels) that lie on flat tops or beyond full
            scale; 0 to 1. Lossy coding bends flat tops: of clipping before it at most 40 % is
            still seen, and often next to nothing after MP3 and AAC.
        flat_top_runs: Number of places where three or more samples in a row share the top level.
        hidden_clipping_dbfs: Level of the flat tops when they lie below full scale (gain was
            lowered after clipping), else None.
        over_fraction: Share of samples beyond full scale, as decoders of lossy files give them.
        dc_offset: Largest mean of a channel, as magnitude; full scale is 1.
        bandwidth_hz: Highest frequency with content: a sharp edge, or half the sample rate.
        spectral_edge: Whether there is such an edge.
        channel_correlation: Of the first two channels; None for mono or when one is silent.
        channel_level_difference_db: Between the loudest and the quietest of them; None for mono.
        psd_hz: Frequencies of `psd_db`, at most 128.
        psd_db: Mean power density in dB relative to full scale squared per Hz.
    """

    sample_rate_hz: int
    channels: int
    samples: int
    peak_dbfs: float
    clipped_fraction: float
    flat_top_runs: int
    hidden_clipping_dbfs: float | None
    over_fraction: float
    dc_offset: float
    bandwidth_hz: float
    spectral_edge: bool
    channel_correlation: float | None
    channel_level_difference_db: float | None
    psd_hz: tuple[float, ...]
    psd_db: tuple[float, ...]


@dataclass(frozen=True)
class Check:
    """One property of the recording.

    Attributes:
        code: Which property; see the module's table.
        value: The figure, None where it cannot be told.
        unit: `fraction`, `dbfs`, `db`, `hz`, `s`, `corr` or empty.
        threshold: What the figure is held against, None where there is none.
        verdict: `ok`, `warn`, `fail` or `unknown`.
        remedy: A code for what to do; empty when there is nothing. An `ok` may carry a tip.
        warning: A code for what is wrong; empty when `ok` or `unknown`.
    """

    code: str
    value: float | None
    unit: str
    threshold: float | None
    verdict: str
    remedy: str = ""
    warning: str = ""


@dataclass(frozen=True)
class Picture:
    """Enough to draw the recording without the audio.

    Attributes:
        column_s: Width of one envelope column.
        envelope_min: Lowest sample per column, at most 400 columns.
        envelope_max: Highest sample per column.
        spectrum_hz: Band centres, 128 bands up to 8 kHz.
        spectrum_db: Mean power density of each, dB relative to full scale squared per Hz.
    """

    column_s: float
    envelope_min: tuple[float, ...]
    envelope_max: tuple[float, ...]
    spectrum_hz: tuple[float, ...]
    spectrum_db: tuple[float, ...]


@dataclass(frozen=True)
class Quality:
    """The report on one recording.

    Attributes:
        verdict: `good`, `fair` (something warns) or `poor` (something fails); hints do not count.
        checks: In the order of the module's table.
        warnings: Codes, in the order of the checks.
        speech: (start_s, end_s) of each stretch of speech, in order, not overlapping.
        picture: For plots.
        source: The figures of the file.
    """

    verdict: str
    checks: tuple[Check, ...]
    warnings: tuple[str, ...]
    speech: tuple[tuple[float, float], ...]
    picture: Picture
    source: SourceFigures


# --- the file as it is --------------------------------------------------------------------------


class SourceMeter:
    """Measures the decoded signal block by block, in memory that does not grow with its length."""

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

    def update(self, block: np.ndarray) -> None:
        """Take the next block.

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
            # Not `@`: BLAS would wake threads of its own for it, on cores that the model needs.
            pair = x[:, :2].astype(np.float64)
            self._product += np.einsum("ni,nj->ij", pair, pair)

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
        """Count the samples that share the level of the two before them."""
        # Only the upper three quarters are ever asked for, and they are few.
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
        """The figures of everything that was given."""
        if not self._power_frames and len(self._rest):
            # Shorter than one frame: padded, since a rough spectrum is better than none.
            self._add_spectrum(np.zeros(self._fft - len(self._rest), dtype=np.float32))
        clipped, runs, hidden = self._clipping()
        bandwidth_hz, edge = self._bandwidth()
        correlation, difference_db = self._compare_channels()
        total = max(1, self._samples * self._channels)
        psd_hz, psd_db = self._psd_summary()
        return SourceFigures(
            sample_rate_hz=self._rate_hz,
            channels=self._channels,
            samples=self._samples,
            peak_dbfs=_db(self._peak**2),
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
        )

    def _clipping(self) -> tuple[int, int, float | None]:
        """Samples on flat tops, places with three in a row, and the level if it is a hidden one.

        A flat top piles samples up at one level. A smooth peak is a parabola: as many of its
        samples lie within d of the top as between d and 4 d below it, so a pile-up well beyond
        that is a flat top. The single full-scale sample of a peak-normalised file is none.
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
                # follow a clipped one); the lowest quarter is left to quiet and silence.
                floor = top // 4 + 64
                candidates = [top]
                if floor < top and flat[floor:].any():
                    candidates.append(floor + int(flat[floor:].argmax()))
                for level in candidates:
                    d = max(2, level // 1000)
                    piled = int(count[max(0, level - d) : level + d + 1].sum())
                    below = int(count[max(0, level - 5 * d) : max(0, level - d)].sum())
                    in_a_row = int(flat[max(0, level - d) : level + d + 1].sum())
                    # Three in a row, or so many in ones and twos that chance is out.
                    if piled > 3 * below + 2 and ((in_a_row and piled >= 5) or piled >= 15):
                        samples += piled
                        runs += in_a_row
                        # 0.5 dB: converters and decoders clip a little below full scale too.
                        if level * self._STEP < 0.944:
                            level_dbfs = _db((level * self._STEP) ** 2)
                            hidden = level_dbfs if hidden is None else max(hidden, level_dbfs)
                        break
        return samples, runs, hidden

    def _bandwidth(self) -> tuple[float, bool]:
        """Highest frequency with content, and whether the spectrum ends there with an edge."""
        nyquist = self._rate_hz / 2
        bin_hz = self._rate_hz / self._fft
        if not self._power_frames or not self._power.any():
            return 0.0, False
        smooth = max(1, round(100 / bin_hz))
        power = ndimage.uniform_filter1d(self._power / self._power_frames, smooth, mode="nearest")
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
        if self._channels < 2 or not self._samples:
            return None, None
        mean = self._sum[:2] / self._samples
        covariance = self._product / self._samples - np.outer(mean, mean)
        power = np.maximum(np.diag(covariance), 0)
        difference_db = abs(_db(float(power[0])) - _db(float(power[1])))
        if power.min() <= 1e-12:
            return None, difference_db
        return float(covariance[0, 1] / np.sqrt(power[0] * power[1])), difference_db

    def _psd_summary(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if not self._power_frames:
            return (), ()
        density = self._power / self._power_frames
        density = density * 2 / (self._rate_hz * float((self._window**2).sum()))
        hz = np.arange(len(density)) * self._rate_hz / self._fft
        groups = min(PICTURE_BINS, len(density))
        starts = np.arange(groups) * len(density) // groups
        size = np.diff(starts, append=len(density))
        mean = np.add.reduceat(density, starts) / size
        return (
            tuple((np.add.reduceat(hz, starts) / size).round(1).tolist()),
            _rounded_db(mean),
        )


# --- what the model hears -----------------------------------------------------------------------


def assess(
    samples: np.ndarray,
    source: SourceFigures,
    *,
    codec: str = "",
    source_rate_hz: int,
    duration_s: float,
) -> Quality:
    """Report on a recording.

    Never raises on odd audio (silence, constants, 25 ms): what cannot be told is `unknown`.

    Args:
        samples: float32 (n,), mono, 16 kHz: what the model hears.
        source: What `SourceMeter` found in the file.
        codec: Name of the codec as the decoder gives it (`mp3`, `pcm_mulaw`, `ULAW`), or empty.
        source_rate_hz: Sample rate of the file.
        duration_s: Duration of the file.
    """
    x = np.ascontiguousarray(samples, dtype=np.float32).reshape(-1)
    if not np.isfinite(x).all():
        x = np.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)
    frames = _analyse(x)
    probability = speech_probability(x)
    speech = speech_segments(probability, len(x) / RATE_HZ)
    heard = _hear(x, frames, probability, speech)

    # Letters and digits only: decoders write the same codec as pcm_mulaw, ULAW and mu-law.
    codec_name = re.sub(r"[^a-z0-9]", "", codec.lower())
    checks = (
        *_clipping_checks(source),
        _bandwidth_check(source, codec_name, source_rate_hz),
        *_band_checks(heard),
        *_level_checks(heard),
        *_speech_checks(heard),
        _duration_check(duration_s),
        _held("dc_offset", source.dc_offset, "fraction", DC_OFFSET_WARN, "remove_dc", "dc_offset",
              over=True),
        *_channel_checks(source),
        _codec_check(codec_name),
        _held("resampling", float(source_rate_hz), "hz", float(RATE_HZ), "use_wider_band",
              "resampled_up"),
    )  # fmt: skip
    counted = {c.verdict for c in checks if c.code not in ADVISORY}
    return Quality(
        verdict="poor" if "fail" in counted else "fair" if "warn" in counted else "good",
        checks=checks,
        warnings=tuple(c.warning for c in checks if c.warning),
        speech=speech,
        picture=_picture(x, frames),
        source=source,
    )


@dataclass(frozen=True)
class _Frames:
    """Powers on the 8 ms grid; full scale squared, each (frames,) float32 unless said otherwise."""

    total: NDArray[np.float32]  # without DC
    low: NDArray[np.float32]  # 100-300 Hz
    presence: NDArray[np.float32]  # 2-4 kHz
    mean: FloatArray  # (129,): mean power per band
    quiet_noise: float  # noise power by minimum statistics, median over the blocks
    time_s: FloatArray  # centre of each frame


@dataclass(frozen=True)
class _Heard:
    """What the checks share: the samples, where speech is, and how loud it and the noise are."""

    x: NDArray[np.float32]
    frames: _Frames
    vad_known: bool
    speech: tuple[tuple[float, float], ...]
    in_speech: NDArray[np.bool_]  # (frames,)
    pause: NDArray[np.bool_]  # (frames,): surely no speech
    noise: float | None  # power, full scale squared
    speech_power: float | None  # the same, without the noise

    @property
    def pauses_suffice(self) -> bool:
        return int(self.pause.sum()) * HOP / RATE_HZ >= PAUSE_MIN_S


def _held(
    code: str,
    value: float | None,
    unit: str,
    limit: float,
    remedy: str,
    warning: str,
    *,
    fail_at: float | None = None,
    fail_warning: str = "",
    over: bool = False,
    shown: float | None = None,
) -> Check:
    """A figure held against a limit: under it is bad, or over it with `over`.

    `shown` is the threshold to report where measuring allows for less than is asked.
    """
    threshold = limit if shown is None else shown
    if value is None:
        return Check(code, None, unit, threshold, "unknown")

    def beyond(bound: float | None) -> bool:
        return bound is not None and (value > bound if over else value < bound)

    if beyond(fail_at):
        return Check(code, value, unit, threshold, "fail", remedy, fail_warning or warning)
    if beyond(limit):
        return Check(code, value, unit, threshold, "warn", remedy, warning)
    return Check(code, value, unit, threshold, "ok")


def _clipping_checks(source: SourceFigures) -> tuple[Check, Check]:
    clipping = _held(
        "clipping", source.clipped_fraction, "fraction", CLIPPED_WARN, "lower_gain", "clipping",
        fail_at=CLIPPED_FAIL, over=True,
    )  # fmt: skip
    level = source.hidden_clipping_dbfs
    if level is None or clipping.verdict == "ok":
        return clipping, Check("clipping_hidden", level, "dbfs", None, "ok")
    return clipping, Check(
        "clipping_hidden", level, "dbfs", None, "warn", "undo_gain_at_source", "clipping_hidden"
    )


def _bandwidth_check(source: SourceFigures, codec_name: str, source_rate_hz: int) -> Check:
    # Above 8 kHz the model hears nothing, whatever the file holds.
    band_hz = min(source.bandwidth_hz, RATE_HZ / 2)
    warning, remedy = "bandwidth_narrow", "use_wider_band"
    if band_hz <= BANDWIDTH_TELEPHONE_HZ:
        warning = "bandwidth_telephone"
        if source_rate_hz >= RATE_HZ:
            # An 8 kHz recording in a bigger file: the lost band cannot come back.
            warning, remedy = "bandwidth_upsampled", "use_original_recording"
    elif any(c in codec_name for c in LOSSY_CODECS):
        warning, remedy = "bandwidth_lossy", "use_higher_bitrate"
    return _held("bandwidth", band_hz or None, "hz", BANDWIDTH_FULL_HZ, remedy, warning,
                 fail_at=BANDWIDTH_FAIL_HZ)  # fmt: skip


def _band_checks(heard: _Heard) -> tuple[Check, Check, Check]:
    frames = heard.frames
    total = float(frames.total[heard.in_speech].mean()) if heard.in_speech.any() else 0.0

    def relative_db(band: NDArray[np.float32]) -> float | None:
        return _db(float(band[heard.in_speech].mean()) / total) if total > 0 else None

    lost_share: float | None = None
    if total > 0 and heard.pauses_suffice:
        lost = np.zeros(len(frames.total), dtype=bool)
        for band in (frames.low, frames.presence):
            smooth = ndimage.uniform_filter1d(band, SMOOTH_FRAMES, mode="nearest")
            # The median: a dropout may also fall into a pause.
            noise = float(np.median(smooth[heard.pause]))
            # A mean over five frames this low means that all five are low.
            lost |= ndimage.maximum_filter1d(
                smooth < noise * 10 ** (-DROPOUT_BELOW_NOISE_DB / 10), SMOOTH_FRAMES
            )
        lost_share = float(lost[heard.in_speech].mean())
    return (
        _held("low_band", relative_db(frames.low), "db", LOW_BAND_WEAK_DB, "check_low_cut",
              "low_band_weak"),
        _held("presence_band", relative_db(frames.presence), "db", PRESENCE_BAND_WEAK_DB,
              "uncover_microphone", "presence_band_weak"),
        _held("dropouts", lost_share, "fraction", DROPOUT_WARN, "check_connection", "dropouts",
              fail_at=DROPOUT_FAIL, over=True),
    )  # fmt: skip


def _level_checks(heard: _Heard) -> tuple[Check, Check]:
    snr_db = level_dbfs = None
    if heard.speech_power is not None:
        level_dbfs = _db(heard.speech_power)
        if heard.noise is not None:
            snr_db = min(SNR_CEILING_DB, _db(heard.speech_power / heard.noise))
    return (
        _held("snr", snr_db, "db", SNR_TARGET_DB, "quieter_place", "snr_low",
              fail_at=SNR_UNSTABLE_DB, fail_warning="snr_unstable"),
        _held("level", level_dbfs, "dbfs", LEVEL_LOW_DBFS, "move_closer", "level_low"),
    )  # fmt: skip


def _speech_checks(heard: _Heard) -> tuple[Check, ...]:
    length_s = len(heard.x) / RATE_HZ
    speech_s = share = leading_s = trailing_s = None
    if heard.speech:
        speech_s = float(sum(end - start for start, end in heard.speech))
        share = speech_s / length_s
        leading_s = heard.speech[0][0]
        trailing_s = max(0.0, length_s - heard.speech[-1][1])
    if heard.vad_known and not heard.speech:
        present = Check(
            "speech_present", 0.0, "s", SPEECH_SHORT_S, "fail", "speak", "speech_missing"
        )
    else:
        present = _held(
            "speech_present", speech_s, "s", SPEECH_SHORT_S, "record_longer", "speech_short"
        )
    edge = max(1, round(EDGE_S * RATE_HZ))
    return (
        present,
        _held("speech_share", share, "fraction", SPEECH_SHARE_LOW, "trim_silence",
              "speech_share_low"),
        _held("leading_silence", leading_s, "s", MARGIN_MEASURED_S, "keep_300_ms",
              "leading_silence_short", shown=MARGIN_S),
        _held("trailing_silence", trailing_s, "s", MARGIN_MEASURED_S, "keep_300_ms",
              "trailing_silence_short", shown=MARGIN_S),
        _edge_check("onset", heard, heard.x[:edge], leading_s, "start_earlier"),
        _edge_check("offset", heard, heard.x[-edge:], trailing_s, "stop_later"),
    )  # fmt: skip


def _edge_check(
    code: str, heard: _Heard, part: NDArray[np.float32], margin_s: float | None, remedy: str
) -> Check:
    """Whether the first or last 20 ms are speech already: it was cut into."""
    if margin_s is None or heard.speech_power is None:
        return Check(code, None, "db", EDGE_NEAR_SPEECH_DB, "unknown")
    power = float(np.var(part, dtype=np.float64))
    value = _db(power / heard.speech_power)
    cut = (
        value > EDGE_NEAR_SPEECH_DB
        and power > (heard.noise or 0.0) * 10 ** (EDGE_ABOVE_NOISE_DB / 10)
        # A knock before a pause is no speech; silero takes up to 0.1 s to be sure of speech.
        and margin_s <= EDGE_MARGIN_S
    )
    if cut:
        return Check(code, value, "db", EDGE_NEAR_SPEECH_DB, "warn", remedy, f"{code}_cut")
    return Check(code, value, "db", EDGE_NEAR_SPEECH_DB, "ok")


def _duration_check(duration_s: float) -> Check:
    shortest, longest = DURATION_ADVISED_S
    if duration_s < shortest:
        return _held("duration", duration_s, "s", shortest, "record_longer", "duration_short")
    if duration_s > longest:
        return _held("duration", duration_s, "s", longest, "split_by_sentence", "duration_long",
                     over=True)  # fmt: skip
    best = DURATION_BEST_S[0] <= duration_s <= DURATION_BEST_S[1]
    return Check("duration", duration_s, "s", longest, "ok", "" if best else "aim_for_3_to_8_s")


def _channel_checks(source: SourceFigures) -> tuple[Check, ...]:
    """Nothing for mono; two channels that cancel or that hold different sounds are told."""
    if source.channels < 2:
        return ()
    value = source.channel_correlation
    silent = (source.channel_level_difference_db or 0.0) > CHANNEL_SILENT_DB
    if value is None or silent:
        # One channel is empty: the mix is the other one, only quieter.
        return (Check("channels", value, "corr", CHANNELS_DIFFER_CORR, "ok"),)
    if value < CHANNELS_OPPOSED_CORR:
        return (_held("channels", value, "corr", CHANNELS_OPPOSED_CORR, "fix_channel_polarity",
                      "channels_opposed"),)  # fmt: skip
    return (_held("channels", value, "corr", CHANNELS_DIFFER_CORR, "split_channels",
                  "channels_differ"),)  # fmt: skip


def _codec_check(codec_name: str) -> Check:
    if any(c in codec_name for c in TELEPHONE_CODECS):
        return Check("codec", None, "", None, "warn", "use_lossless", "codec_telephone")
    lossy = any(c in codec_name for c in LOSSY_CODECS)
    tip = "use_lossless" if lossy else ""
    return Check("codec", None, "", None, "ok" if codec_name else "unknown", tip)


def _hear(
    x: NDArray[np.float32],
    frames: _Frames,
    probability: NDArray[np.float32],
    speech: tuple[tuple[float, float], ...],
) -> _Heard:
    """Speech, pauses, and the powers of speech and noise.

    Two estimates of the noise: its mean over the pauses, exact where there are any; and minimum
    statistics, which need none. Speech taken for pause makes the first too high, speech without
    closures makes the second too high, nothing makes either much too low: the lower one counts.
    """
    in_speech = _inside(frames.time_s, speech)
    pause = np.zeros(len(frames.total), dtype=bool)
    if len(probability):
        quiet = ndimage.maximum_filter1d(probability, 5, mode="nearest") < VAD_PAUSE
        window = (frames.time_s / VAD_WINDOW_S).astype(int)
        pause = quiet[np.minimum(window, len(quiet) - 1)]
    heard = _Heard(x, frames, bool(len(probability)), speech, in_speech, pause, None, None)
    both = float(frames.total[in_speech].mean()) if in_speech.any() else 0.0
    if both <= _TINY:
        return heard
    estimates = [frames.quiet_noise] if np.isfinite(frames.quiet_noise) else []
    if heard.pauses_suffice:
        estimates.append(float(frames.total[pause].mean()))
    if not estimates:
        return replace(heard, speech_power=both)
    noise = max(min(estimates), _TINY)
    # At -10 dB and below the difference is noise itself: the floor keeps the figure finite.
    return replace(heard, noise=noise, speech_power=max(both - noise, 0.1 * noise))


def _analyse(x: NDArray[np.float32]) -> _Frames:
    """Powers on the 8 ms grid, in blocks of 30 s so that the spectra of an hour never coexist."""
    if len(x) < FFT:
        x = np.pad(x, (0, FFT - len(x)))
    n = 1 + (len(x) - FFT) // HOP
    offset = np.float32(x.mean(dtype=np.float64))
    window = np.hanning(FFT + 1)[:FFT].astype(np.float32)
    # Parseval with the window's energy: the sum over the bands is the mean square of the signal.
    scale = np.float32(2.0 / (FFT * float((window**2).sum())))
    # Bins at 125 and 188 Hz: the window's main lobe makes them hear 60 to 310 Hz.
    low_bins = slice(2, 4)
    presence_bins = slice(round(2000 / BIN_HZ), round(4000 / BIN_HZ) + 1)
    total, low, presence = (np.zeros(n, dtype=np.float32) for _ in range(3))
    mean = np.zeros(FFT // 2 + 1)
    noises = []
    views = np.lib.stride_tricks.sliding_window_view(x, FFT)[::HOP]
    for start in range(0, n, BLOCK_FRAMES):
        block = slice(start, min(n, start + BLOCK_FRAMES))
        # Without the mean, which the window would smear into the lowest bands.
        spectrum = np.fft.rfft((views[block] - offset) * window)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32) * scale
        mean += power.sum(axis=0, dtype=np.float64)
        low[block] = power[:, low_bins].sum(axis=1)
        presence[block] = power[:, presence_bins].sum(axis=1)
        total[block] = power[:, 1:].sum(axis=1)
        # A last block of a few frames has no quantile to speak of.
        if len(power) >= 4 * SMOOTH_FRAMES:
            smooth = ndimage.uniform_filter1d(power[:, 1:], SMOOTH_FRAMES, axis=0)
            smooth = smooth[SMOOTH_FRAMES // 2 : -(SMOOTH_FRAMES // 2)]
            smooth = ndimage.uniform_filter1d(smooth, SMOOTH_BINS, axis=1)
            floor = np.quantile(smooth, NOISE_QUANTILE, axis=0)
            noises.append(float(floor.sum()) / NOISE_QUANTILE_RATIO)
    return _Frames(
        total=total,
        low=low,
        presence=presence,
        mean=mean / n,
        quiet_noise=float(np.median(noises)) if noises else float("nan"),
        time_s=(np.arange(n) * HOP + FFT / 2) / RATE_HZ,
    )


def _inside(time_s: FloatArray, segments: tuple[tuple[float, float], ...]) -> NDArray[np.bool_]:
    """Which of the rising times lie in the rising, disjoint segments."""
    if not segments:
        return np.zeros(len(time_s), dtype=bool)
    bounds = np.array(segments).reshape(-1)
    inside: NDArray[np.bool_] = np.searchsorted(bounds, time_s, side="right") % 2 == 1
    return inside


def _picture(x: NDArray[np.float32], frames: _Frames) -> Picture:
    columns = min(PICTURE_COLUMNS, len(x))
    width = max(1, -(-len(x) // max(1, columns)))
    starts = np.arange(0, len(x), width)
    lowest = np.minimum.reduceat(x, starts) if len(x) else np.zeros(0)
    highest = np.maximum.reduceat(x, starts) if len(x) else np.zeros(0)
    density = frames.mean[1:] / BIN_HZ
    return Picture(
        column_s=width / RATE_HZ,
        envelope_min=tuple(lowest.astype(np.float64).round(4).tolist()),
        envelope_max=tuple(highest.astype(np.float64).round(4).tolist()),
        spectrum_hz=tuple(float(i * BIN_HZ) for i in range(1, FFT // 2 + 1)),
        spectrum_db=_rounded_db(density),
    )


def _db(power: float) -> float:
    return float(10 * np.log10(max(power, _TINY)))


def _rounded_db(power: FloatArray) -> tuple[float, ...]:
    return tuple((10 * np.log10(np.maximum(power, _TINY))).round(1).tolist())


# --- speech activity ----------------------------------------------------------------------------


@functools.cache
def _vad_session() -> Any | None:
    """The silero-vad model, or None where package or runtime are missing; call under `_vad_lock`.

    The package is found without being imported: its import pulls in torch.
    """
    try:
        import onnxruntime

        # Nothing is reported to anybody from recordings of people, not even that they were heard.
        onnxruntime.disable_telemetry_events()
        spec = importlib.util.find_spec("silero_vad")
        folders = list(spec.submodule_search_locations or []) if spec else []
        # The variant that takes a whole sequence of windows per call.
        path = Path(folders[0]) / "data" / "silero_vad_16k_sequence.onnx"
        options = onnxruntime.SessionOptions()
        # One thread: the emotion model owns the cores.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception:
        # A broken optional part must not cost the recognition: the checks say "unknown".
        return None


def speech_probability(samples: np.ndarray) -> NDArray[np.float32]:
    """Probability of speech per 32 ms window, by silero-vad (MIT licence) and voicing.

    Loud voiced sound that silero leaves out, such as a high-pitched shout, is raised to 0.5.

    Args:
        samples: float32 (n,), mono, 16 kHz, finite.

    Returns:
        float32 (ceil(n / 512),), 0 to 1; empty where there is no model or no audio.
    """
    with _vad_lock:
        session = _vad_session()
    n = -(-len(samples) // VAD_WINDOW)
    if session is None or not n:
        return np.zeros(0, dtype=np.float32)
    # Scores of emotions do not depend on gain, so neither may the gate; silero does (it misses
    # speech at -60 dBFS). The loud windows are brought to -20 dBFS, by 60 dB at most.
    whole = samples[: len(samples) // VAD_WINDOW * VAD_WINDOW].reshape(-1, VAD_WINDOW)
    if not len(whole):
        whole = samples.reshape(1, -1)
    mean = whole.mean(axis=1, keepdims=True)
    rms = np.sqrt(np.maximum(((whole - mean) ** 2).mean(axis=1), 0))
    loud = float(np.quantile(rms, 0.95))
    gain = np.float32(min(1000.0, 0.1 / max(loud, 1e-9)))
    offset = np.float32(samples.mean(dtype=np.float64))

    hidden = np.zeros((1, 1, 128), dtype=np.float32)
    cell = np.zeros((1, 1, 128), dtype=np.float32)
    out = []
    for first in range(0, n, VAD_BLOCK_WINDOWS):
        windows = min(VAD_BLOCK_WINDOWS, n - first)
        block = np.zeros(VAD_CONTEXT + windows * VAD_WINDOW, dtype=np.float32)
        begin = first * VAD_WINDOW - VAD_CONTEXT
        part = samples[max(0, begin) : first * VAD_WINDOW + windows * VAD_WINDOW]
        at = max(0, -begin)
        block[at : at + len(part)] = (part - offset) * gain
        views = np.lib.stride_tricks.sliding_window_view(block, VAD_CONTEXT + VAD_WINDOW)
        values, hidden, cell = session.run(
            None, {"input": np.ascontiguousarray(views[::VAD_WINDOW]), "h": hidden, "c": cell}
        )
        out.append(values.reshape(-1))
    return _add_voiced(samples, rms, np.concatenate(out))


def _add_voiced(
    samples: NDArray[np.float32], rms: NDArray[np.float32], probability: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Raise the probability to `VAD_ON` where loud periodic sound stands near silero's speech."""
    n = len(rms)
    power = np.maximum(rms.astype(np.float64) ** 2, _TINY)
    loud, quiet = np.quantile(power, 0.95), np.quantile(power, 0.05)
    floor = max(
        loud * 10 ** (-VOICED_NEAR_LOUD_DB / 10), quiet * 10 ** (VOICED_ABOVE_QUIET_DB / 10)
    )
    reach = 2 * round(VOICED_REACH_S / VAD_WINDOW_S) + 1
    near = ndimage.maximum_filter1d(probability[:n], reach, mode="nearest") >= VAD_OFF
    open_windows = np.flatnonzero((probability[:n] < VAD_ON) & near & (power > floor))
    # Two windows long: the longest period (200 samples) must fit several times.
    open_windows = open_windows[open_windows * VAD_WINDOW + 2 * VAD_WINDOW <= len(samples)]
    out = probability.copy()
    for first in range(0, len(open_windows), VAD_BLOCK_WINDOWS):
        at = open_windows[first : first + VAD_BLOCK_WINDOWS]
        pieces = samples[at[:, None] * VAD_WINDOW + np.arange(2 * VAD_WINDOW)]
        pieces = (pieces - pieces.mean(axis=1, keepdims=True)) * np.hanning(2 * VAD_WINDOW)
        # Wiener-Khinchin; padded to twice the length against wrapping round. Divided by the
        # window's own autocorrelation, a periodic sound reaches 1 at its period (Boersma 1993).
        spectra = np.fft.rfft(pieces, 4 * VAD_WINDOW)
        correlation = np.fft.irfft(np.abs(spectra) ** 2)[:, : VOICED_LAGS[1] + 1]
        taper = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(2 * VAD_WINDOW), 4 * VAD_WINDOW)) ** 2)
        correlation /= np.maximum(correlation[:, :1], _TINY)
        correlation /= taper[: VOICED_LAGS[1] + 1] / taper[0]
        voiced = correlation[:, VOICED_LAGS[0] :].max(axis=1) > VOICED_PERIODICITY
        out[at[voiced]] = VAD_ON
    return out


def speech_segments(probability: np.ndarray, length_s: float) -> tuple[tuple[float, float], ...]:
    """Stretches of speech from the probability per window.

    On from 0.5, off under 0.35; pauses up to 0.2 s are bridged (the hangover of ITU-T P.56),
    what is then shorter than 0.09 s is dropped, and 30 ms are added at both sides.

    Args:
        probability: (windows,), one per 32 ms.
        length_s: Length of the audio; no segment reaches beyond it.
    """
    if not len(probability):
        return ()
    # Hysteresis without a loop: a stretch over the lower threshold that touches the upper one.
    labels, found = ndimage.label(probability >= VAD_OFF)
    if not found:
        return ()
    peak = ndimage.maximum(probability, labels, np.arange(1, found + 1))
    active = np.isin(labels, np.flatnonzero(np.asarray(peak) >= VAD_ON) + 1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
    merged: list[list[float]] = []
    for start, end in edges.reshape(-1, 2) * VAD_WINDOW_S:
        if merged and start - merged[-1][1] <= VAD_HANGOVER_S:
            merged[-1][1] = float(end)
        else:
            merged.append([float(start), float(end)])
    kept = [(a, b) for a, b in merged if b - a >= VAD_MIN_SPEECH_S]
    # Pads cannot meet: 2 * 30 ms is less than the 0.2 s that separate two stretches.
    return tuple((max(0.0, a - VAD_PAD_S), min(length_s, b + VAD_PAD_S)) for a, b in kept)
