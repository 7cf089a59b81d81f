"""Change a recording a little, as the world does: the answer should stay.

The first nine are the small changes of audEERING's test framework (Derington et al.,
arXiv 2312.06270), at its strongest setting or beyond; the rest are what recordings of strangers
went through before they came here.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import soxr
from scipy import signal

from emotion2vec_ui.frames import SAMPLE_RATE_HZ

Rng = np.random.Generator
Change = Callable[[np.ndarray, Rng], np.ndarray]

ROOM_RT60_S = 0.8
SILENCE_S = 2.5
SILENCE_DB = -60.0  # near silence, under the clip's RMS
CROP_S = 0.15
MP3_BITS_PER_S, OPUS_BITS_PER_S = 32_000, 12_000


def gain(wave: np.ndarray, rng: Rng) -> np.ndarray:
    """Raise or lower the level by 2 dB."""
    return wave * 10 ** (rng.choice([-2.0, 2.0]) / 20)


def additive_tone(wave: np.ndarray, rng: Rng) -> np.ndarray:
    """Add a sine between 5 and 7 kHz, 40 dB under the clip."""
    time_s = np.arange(len(wave)) / SAMPLE_RATE_HZ
    tone = np.sin(2 * np.pi * rng.uniform(5000, 7000) * time_s)
    return wave + tone * np.sqrt(2) * wave.std() * 10 ** (-40 / 20)


def append_zeros(wave: np.ndarray, rng: Rng) -> np.ndarray:
    """Put 1,000 zeros behind the end."""
    del rng
    return np.append(wave, np.zeros(1000, wave.dtype))


def clip(wave: np.ndarray, rng: Rng) -> np.ndarray:
    """Clip 0.3 % of the samples."""
    del rng
    limit = np.quantile(np.abs(wave), 0.997)
    return np.clip(wave, -limit, limit)


def crop_start(wave: np.ndarray, rng: Rng) -> np.ndarray:
    """Cut 150 ms from the start."""
    del rng
    return wave[int(CROP_S * SAMPLE_RATE_HZ) :]


def crop_end(wave: np.ndarray, rng: Rng) -> np.ndarray:
    """Cut 150 ms from the end."""
    del rng
    return wave[: -int(CROP_S * SAMPLE_RATE_HZ)]


def high_pass(wave: np.ndarray, rng: Rng) -> np.ndarray:
    """Remove what lies under 150 Hz (Butterworth, first order)."""
    del rng
    return signal.sosfilt(_butter(1, 150.0, "highpass"), wave)


def low_pass(wave: np.ndarray, rng: Rng) -> np.ndarray:
    """Remove what lies over 6.5 kHz (Butterworth, first order)."""
    del rng
    return signal.sosfilt(_butter(1, 6500.0, "lowpass"), wave)


def white_noise(wave: np.ndarray, rng: Rng) -> np.ndarray:
    """Add white noise at 30 dB SNR."""
    return wave + rng.standard_normal(len(wave)) * wave.std() * 10 ** (-30 / 20)


def mp3(wave: np.ndarray, rng: Rng) -> np.ndarray:
    """Pass through MP3 at 32 kbit/s, 44.1 kHz."""
    del rng
    return through_codec(wave, "libmp3lame", "mp3", 44_100, MP3_BITS_PER_S)


def opus(wave: np.ndarray, rng: Rng) -> np.ndarray:
    """Pass through Opus at 12 kbit/s."""
    del rng
    return through_codec(wave, "libopus", "ogg", 48_000, OPUS_BITS_PER_S)


def room(wave: np.ndarray, rng: Rng) -> np.ndarray:
    """Convolve with a room of RT60 0.8 s, direct and reverberant sound equally strong."""
    return reverberate(wave, ROOM_RT60_S, 0.0, rng)


def silence(wave: np.ndarray, rng: Rng) -> np.ndarray:
    """Put 2.5 s of near silence before the start and behind the end."""
    n = int(SILENCE_S * SAMPLE_RATE_HZ)
    floor = rng.standard_normal(len(wave) + 2 * n) * wave.std() * 10 ** (SILENCE_DB / 20)
    floor[n : n + len(wave)] += wave
    return floor


CHANGES: dict[str, Change] = {
    one.__name__: one
    for one in (
        gain, additive_tone, append_zeros, clip, crop_start, crop_end, high_pass, low_pass,
        white_noise, mp3, opus, room, silence,
    )
}  # fmt: skip


def reverberate(
    wave: np.ndarray, rt60_s: float, reverberant_to_direct_db: float, rng: Rng
) -> np.ndarray:
    """Convolve with an impulse and exponentially decaying noise."""
    time_s = np.arange(int(rt60_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail = rng.standard_normal(len(time_s)) * 10 ** (-3 * time_s / rt60_s)
    tail *= 10 ** (reverberant_to_direct_db / 20) / np.linalg.norm(tail)
    tail[0] = 1
    return signal.fftconvolve(wave, tail)[: len(wave)]


def through_codec(
    wave: np.ndarray, encoder: str, container: str, rate_hz: int, bits_per_s: int
) -> np.ndarray:
    """Encode and decode in memory by FFmpeg; the codec's delay stays, as it does in files."""
    import av

    gain = 0.7 / (np.abs(wave).max() + 1e-9)
    source = soxr.resample(np.asarray(wave * gain, np.float32), SAMPLE_RATE_HZ, rate_hz)
    memory = io.BytesIO()
    with av.open(memory, "w", format=container) as file:
        stream = file.add_stream(encoder, rate=rate_hz, layout="mono")
        stream.bit_rate = bits_per_s
        frame = av.AudioFrame.from_ndarray(source[None], "fltp", "mono")
        frame.rate = rate_hz
        convert = av.AudioResampler(
            format=stream.format, layout="mono", rate=rate_hz,
            frame_size=stream.codec_context.frame_size or None,
        )  # fmt: skip
        for part in [*convert.resample(frame), *convert.resample(None)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    memory.seek(0)
    with av.open(memory) as file:
        convert = av.AudioResampler(format="fltp", layout="mono", rate=rate_hz)
        decoded = [
            part.to_ndarray()[0]
            for packet in file.decode(audio=0)
            for part in convert.resample(packet)
        ]
    return soxr.resample(np.concatenate(decoded), rate_hz, SAMPLE_RATE_HZ) / gain


def _butter(order: int, cutoff_hz: float, kind: str) -> np.ndarray:
    return signal.butter(order, cutoff_hz, kind, fs=SAMPLE_RATE_HZ, output="sos")
