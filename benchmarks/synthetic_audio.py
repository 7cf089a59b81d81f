"""Recordings for tests and benchmarks, made as they run: tones and speech-like sound."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import soundfile

RATE_HZ = 16_000


def tone(
    frequency_hz: float, duration_s: float, rate_hz: int, amplitude: float = 0.25
) -> np.ndarray:
    """float32 (n,): a sine."""
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    return (amplitude * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.float32)


def speechlike(duration_s: float, rate_hz: int = RATE_HZ, seed: int = 0) -> np.ndarray:
    """float32 (n,): a buzz with moving pitch and syllables; not speech, but shaped like it."""
    rng = np.random.default_rng(seed)
    n = round(duration_s * rate_hz)
    time_s = np.arange(n) / rate_hz
    pitch_hz = 120 + 40 * np.sin(2 * np.pi * 0.7 * time_s + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / rate_hz
    voice = sum(np.sin(k * phase) / k for k in range(1, 20) if 200 * k < rate_hz / 2)
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * time_s), 0, None) ** 0.5
    noise = 0.003 * rng.standard_normal(n)
    return (0.12 * voice * syllables + noise).astype(np.float32)


def write_soundfile(
    path: Path, samples: np.ndarray, rate_hz: int, container: str, subtype: str
) -> Path:
    """Through libsndfile."""
    soundfile.write(path, samples, rate_hz, format=container, subtype=subtype)
    return path


def write_av(
    path: Path,
    samples: np.ndarray,
    rate_hz: int,
    container: str,
    codec: str,
    *,
    bit_rate: int = 128_000,
    video: bool = False,
) -> Path:
    """Through FFmpeg: `samples` (n,) or (n, channels)."""
    planar = np.atleast_2d(samples.T).astype(np.float32)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(planar)]
    with av.open(str(path), "w", format=container) as file:
        track = file.add_stream(codec, rate=rate_hz, layout=layout)
        track.bit_rate = bit_rate
        if video:
            picture = file.add_stream("mpeg4", rate=10, width=64, height=48)
            picture.pix_fmt = "yuv420p"
            for i in range(10):
                image = np.full((48, 64, 3), 25 * i, np.uint8)
                file.mux(picture.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
            file.mux(picture.encode(None))
        fifo = av.AudioResampler(
            format=track.format,
            layout=layout,
            rate=rate_hz,
            frame_size=track.codec_context.frame_size or None,
        )
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planar), "fltp", layout)
        frame.rate = rate_hz
        for out in [*fifo.resample(frame), *fifo.resample(None)]:
            file.mux(track.encode(out))
        file.mux(track.encode(None))
    return path
