"""Damages a clip in a known way: noise at a given SNR, codecs, a narrower band.

Condition codes (``Condition.code``): ``clean``; ``fan_30`` ... ``fan_0`` (noise like that of an
air conditioner, at that SNR in dB); ``babble_30`` ... ``babble_0`` (several speakers); ``mp3_128``,
``mp3_64``, ``aac_64``, ``opus_24`` (kbit/s); ``telephone`` (8 kHz, G.711 mu-law); ``resampled_8k``
(8 kHz and back).

The noises:

- *fan*: Gaussian noise with the spectrum of a ventilator, falling by 6 dB per octave above 150 Hz.
- *babble*: eight voices made from the clip itself: shifted in time, every other one reversed, and
  resampled by a factor between 0.8 and 1.25, which shifts pitch and formants. It has the spectrum
  and the modulation of real babble but no other words, and the speaker's own emotion; a clip
  without speech gives no babble but a blurred copy of itself.

SNR is the active speech level of the clip (ITU-T P.56, method B) over the noise's mean power.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.frames import SAMPLE_RATE_HZ

FloatArray = NDArray[np.float64]
Samples = NDArray[np.float32]

Noise = Literal["fan", "babble"]
NOISES: tuple[Noise, ...] = ("fan", "babble")
# "The article" is the guide of the WebUI that this program rebuilds: it tests from 30 dB down, and
# under 10 dB the score of neutral rises.
SNRS_DB = (30.0, 25.0, 20.0, 15.0, 10.0, 5.0, 0.0)
LOW_SNR_BELOW_DB = 10.0
# ITU-T P.56 (2011), method B: smoothing time constant, hangover, and the margin between the active
# level and the threshold of activity.
P56_TIME_S = 0.03
P56_HANGOVER_S = 0.2
P56_MARGIN_DB = 15.9
BABBLE_VOICES = 8
# How far a decoder's start may lie from the original's, searched by cross-correlation.
# 150 ms: the longest priming of these codecs (AAC, 2112 samples at 44.1 kHz) with room.
ALIGN_WITHIN_S = 0.15


@dataclass(frozen=True)
class Condition:
    """One way to damage a clip."""

    __pydantic_config__: ClassVar[dict[str, bool]] = {"use_attribute_docstrings": True}

    code: str
    """Name of the condition, such as `clean`, `fan_20`, `mp3_64` or `telephone`."""
    kind: Literal["clean", "fan", "babble", "codec", "band"]
    """What is done: nothing, noise of a fan or of several speakers added, coded and decoded, or
    limited to 4 kHz."""
    snr_db: float | None = None
    """Signal-to-noise ratio in dB, 0 to 30; null where no noise is added."""


# (encoder, container, sample rate in Hz, bit/s) of each codec; None: the encoder has no bit rate.
_CODECS: dict[str, tuple[str, str, int, int | None]] = {
    "mp3_128": ("libmp3lame", "mp3", 44_100, 128_000),
    "mp3_64": ("libmp3lame", "mp3", 44_100, 64_000),
    "aac_64": ("aac", "adts", 44_100, 64_000),
    "opus_24": ("libopus", "ogg", 48_000, 24_000),
    "telephone": ("pcm_mulaw", "wav", 8_000, None),
}


def conditions() -> tuple[Condition, ...]:
    """Returns all conditions: the clean clip, each noise by falling SNR, the codecs, the band."""
    noisy = [
        Condition(f"{noise}_{snr_db:.0f}", noise, snr_db) for noise in NOISES for snr_db in SNRS_DB
    ]
    codecs = [Condition(code, "codec") for code in _CODECS]
    return (Condition("clean", "clean"), *noisy, *codecs, Condition("resampled_8k", "band"))


def damaged(samples: np.ndarray, condition: Condition, seed: int) -> Samples:
    """Returns the clip under one condition.

    Args:
        samples: float32 (n,), mono, 16 kHz, n >= 1.
        condition: One of `conditions`.
        seed: Of the noise; the same noise is used at every SNR, so that only its level changes.

    Returns:
        float32 (n,), aligned with the input to within a sample or two. Not clipped: the model
        takes any level.

    Raises:
        OSError or ValueError (from PyAV): this build of FFmpeg lacks the encoder.
    """
    import soxr

    x = np.ascontiguousarray(samples, dtype=np.float32)
    if condition.kind == "clean":
        return x.copy()
    if condition.kind == "band":
        narrow = soxr.resample(x, SAMPLE_RATE_HZ, 8000)
        return _fit(soxr.resample(narrow, 8000, SAMPLE_RATE_HZ), len(x))
    if condition.kind == "codec":
        return _through_codec(x, condition.code)
    if condition.snr_db is None:
        raise ValueError(f"{condition.code}: a noise without an SNR")
    rng = np.random.default_rng(seed)
    noise = _fan(len(x), rng) if condition.kind == "fan" else _babble(x, rng)
    power = float(np.mean(noise**2))
    if power <= 0 or not x.any():
        return x.copy()
    wanted = 10 ** ((active_level_dbfs(x) - condition.snr_db) / 10)
    return (x + np.sqrt(wanted / power) * noise).astype(np.float32)


# --- level and noises -----------------------------------------------------------------------------


def active_level_dbfs(samples: np.ndarray) -> float:
    """Returns the active speech level by ITU-T P.56, method B: the level while somebody speaks.

    The envelope (twice smoothed magnitude) is compared with thresholds in steps of 3 dB. The result
    is the level over the time above the threshold that lies 15.9 dB below that level.

    Args:
        samples: float (n,), mono, 16 kHz, full scale 1.0.

    Returns:
        dB relative to full scale squared; -200 for silence.
    """
    from scipy import ndimage, signal

    x = np.asarray(samples, dtype=np.float64)
    energy = float((x**2).sum())
    if energy <= 1e-20:
        return -200.0
    g = np.exp(-1 / (SAMPLE_RATE_HZ * P56_TIME_S))
    envelope = signal.lfilter([1 - g], [1, -g], np.abs(x))
    envelope = signal.lfilter([1 - g], [1, -g], envelope)
    hang = int(P56_HANGOVER_S * SAMPLE_RATE_HZ)
    # A sample is active while the envelope was over the threshold within the hangover.
    recent = ndimage.maximum_filter1d(envelope, hang, mode="constant", origin=(hang - 1) // 2)
    thresholds = recent.max() * 2.0 ** np.arange(-30, 0.5, 0.5)
    active = len(recent) - np.searchsorted(np.sort(recent), thresholds)
    level = 10 * np.log10(energy / np.maximum(active, 1))
    distance = level - 20 * np.log10(thresholds)
    # The level is read where the distance first passes the margin as the threshold rises. Later it
    # may grow again: near the top all energy is divided by only a few samples.
    passed = np.flatnonzero(distance <= P56_MARGIN_DB)
    if not len(passed) or not passed[0]:
        # Shorter than the envelope takes to rise: the mean level.
        return float(10 * np.log10(energy / len(x)))
    at = int(passed[0])
    share = (distance[at - 1] - P56_MARGIN_DB) / (distance[at - 1] - distance[at])
    return float(level[at - 1] + share * (level[at] - level[at - 1]))


def _fan(n: int, rng: np.random.Generator) -> FloatArray:
    """Returns n samples of fan noise; see the module's docstring."""
    white = rng.standard_normal(n)
    hz = np.fft.rfftfreq(n, 1 / SAMPLE_RATE_HZ)
    return np.fft.irfft(np.fft.rfft(white) / np.sqrt(1 + (hz / 150) ** 2), n)


def _babble(x: Samples, rng: np.random.Generator) -> FloatArray:
    """Returns the sum of eight changed copies of the clip; see the module's docstring."""
    import soxr

    out = np.zeros(len(x))
    # Steps of a quarter tone or so rather than random factors: no two voices may coincide.
    factors = np.geomspace(0.8, 1.25, BABBLE_VOICES)
    for voice, factor in enumerate(rng.permutation(factors)):
        copy = soxr.resample(x, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ * factor)
        if voice % 2:
            copy = copy[::-1]
        # Repeated to fill, from a random start: a speaker does not begin with the clip.
        start = int(rng.integers(len(copy))) if len(copy) else 0
        out += np.take(copy, np.arange(start, start + len(x)), mode="wrap") if len(copy) else 0.0
    return out


# --- codecs ---------------------------------------------------------------------------------------


def _through_codec(x: Samples, code: str) -> Samples:
    """Encodes and decodes in memory, then removes the codec's delay and cuts to length."""
    import av
    import soxr

    encoder, container, rate_hz, bits_per_s = _CODECS[code]
    # Half a second of silence after the clip: encoders drop or fade what does not fill a frame.
    padded = np.concatenate([x, np.zeros(SAMPLE_RATE_HZ // 2, dtype=np.float32)])
    # Integer codecs clip; the gain is undone afterwards.
    gain = min(1.0, 0.89 / max(1e-9, float(np.abs(x).max())))
    source = soxr.resample(padded * np.float32(gain), SAMPLE_RATE_HZ, rate_hz).astype(np.float32)

    memory = io.BytesIO()
    with av.open(memory, "w", format=container) as file:
        stream = file.add_stream(encoder, rate=rate_hz)
        stream.layout = "mono"
        if bits_per_s is not None:
            stream.bit_rate = bits_per_s
        frame = av.AudioFrame.from_ndarray(source[None], format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        # The encoder's own sample format; it cuts the frames to its size by itself.
        converter = av.AudioResampler(
            format=stream.codec_context.format, layout="mono", rate=rate_hz
        )
        for part in [*converter.resample(frame), *converter.resample(None)]:
            part.pts = None
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))

    memory.seek(0)
    decoded = []
    with av.open(memory) as file:
        to_float = av.AudioResampler(format="fltp", layout="mono", rate=rate_hz)
        for packet in file.decode(audio=0):
            decoded += [part.to_ndarray()[0] for part in to_float.resample(packet)]
        decoded += [part.to_ndarray()[0] for part in to_float.resample(None)]
    y = soxr.resample(np.concatenate(decoded), rate_hz, SAMPLE_RATE_HZ) / np.float32(gain)
    return _fit(y[_delay(x, y) :], len(x))


def _delay(x: Samples, y: Samples) -> int:
    """Returns by how many samples `y` lags behind `x`, 0 to `ALIGN_WITHIN_S`, by correlation."""
    from scipy import signal

    reach = int(ALIGN_WITHIN_S * SAMPLE_RATE_HZ)
    n = min(len(x), len(y), 10 * SAMPLE_RATE_HZ)
    correlation = signal.correlate(y[: n + reach], x[:n], mode="full", method="fft")
    # Index n - 1 is no delay.
    lags = correlation[n - 1 : n + reach]
    if not len(lags) or lags.max() <= 0:
        return 0
    # The first peak that is as high as the highest: a steady tone correlates after every period.
    padded = np.concatenate([[-np.inf], lags, [-np.inf]])
    peak = (padded[1:-1] >= padded[:-2]) & (padded[1:-1] >= padded[2:])
    return int(np.flatnonzero(peak & (lags >= 0.995 * lags.max()))[0])


def _fit(y: np.ndarray, n: int) -> Samples:
    """Cuts or fills with zeros to n samples."""
    out = np.zeros(n, dtype=np.float32)
    out[: min(n, len(y))] = y[:n]
    return out
