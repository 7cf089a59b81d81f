"""Where speech is: silero-vad, helped by voicing, and the stretches that follow from both."""

from __future__ import annotations

import functools
import importlib.util
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from emotion2vec_ui.audio.decibels import TINY
from emotion2vec_ui.frames import SAMPLE_RATE_HZ

# silero-vad: windows of 512 samples after 64 samples of context, at 16 kHz.
VAD_WINDOW = 512
VAD_CONTEXT = 64
VAD_BLOCK_WINDOWS = 1024
VAD_WINDOW_S = VAD_WINDOW / SAMPLE_RATE_HZ
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
VOICED_LAGS = (SAMPLE_RATE_HZ // 800, SAMPLE_RATE_HZ // 80)
VOICED_REACH_S = 2.0
# Pauses up to 0.2 s belong to speech (the hangover of ITU-T P.56); shorter bursts are no speech.
VAD_HANGOVER_S = 0.2
VAD_MIN_SPEECH_S = 0.09

_vad_lock = threading.Lock()


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
    power = np.maximum(rms.astype(np.float64) ** 2, TINY)
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
        correlation /= np.maximum(correlation[:, :1], TINY)
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
