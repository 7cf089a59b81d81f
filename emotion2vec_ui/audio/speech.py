"""Finds speech: its probability per window of 32 ms, and the stretches that follow from it.

The probability is silero-vad's (MIT licence), with two additions: the input is brought to the level
that silero was trained for, and loud voiced sound, which silero may miss, counts as speech.
`SpeechDetector` takes audio in pieces, as it is recorded; `speech_probability` runs it over a whole
recording.
"""

from __future__ import annotations

import functools
import importlib.util
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.audio.decibels import TINY
from emotion2vec_ui.frames import SAMPLE_RATE_HZ

# silero-vad: windows of 512 samples after 64 samples of context, at 16 kHz.
VAD_WINDOW = 512
VAD_CONTEXT = 64
VAD_WINDOW_S = VAD_WINDOW / SAMPLE_RATE_HZ
# silero's own defaults: on from 0.5, off under 0.35, 30 ms pad.
VAD_ON = 0.5
VAD_OFF = 0.35
VAD_PAD_S = 0.03
# Pauses up to 0.2 s belong to speech (the hangover of ITU-T P.56); shorter bursts are no speech.
VAD_HANGOVER_S = 0.2
VAD_MIN_SPEECH_S = 0.09

# The loud windows (the 95 % quantile of the level) are brought to -20 dBFS, by 60 dB at most.
LOUD_QUANTILE = 0.95
QUIET_QUANTILE = 0.05
LOUD_TARGET = 0.1
MAX_GAIN = 1000.0
# silero is recurrent: after amplified silence it misses speech for seconds. The gain is kept until
# it is 6 dB off, and after a change silero's state is computed anew from the last 2 s. Chosen on
# recordings with 5 s of silence before them.
GAIN_TOLERANCE_DB = 6.0
REPLAY_WINDOWS = 62

# silero misses shouting and wailing with a pitch over 400 Hz. A window also counts as speech when
# it is loud (within 25 dB of the loud ones, 15 dB over the quiet ones), periodic (normalised
# autocorrelation over 0.7 somewhere between 80 and 800 Hz), and silero gives 0.35 or more to a
# window within 2 s. Chosen on RAVDESS.
VOICED_NEAR_LOUD_DB = 25.0
VOICED_ABOVE_QUIET_DB = 15.0
VOICED_PERIODICITY = 0.7
VOICED_LAGS = (SAMPLE_RATE_HZ // 800, SAMPLE_RATE_HZ // 80)
VOICED_REACH_WINDOWS = 62

LOOK_AHEAD_S = 32.0
"""Look-ahead for whole recordings, where delay does not matter: 30 s for the levels and 2 s for
voicing, so that a recording up to 30 s, the longest that the article advises, has one gain."""
LEVEL_WINDOWS = round(300 / VAD_WINDOW_S)
"""Windows whose levels are remembered: 5 minutes."""
STEP_WINDOWS = 31
"""Windows that share one level and one call of silero: 1 s."""
BLOCK_SAMPLES = 1024 * VAD_WINDOW
"""Samples processed at a time: 33 s, which bounds the memory however large a piece is."""

Floats = NDArray[np.float32]
_NONE: Floats = np.zeros(0, dtype=np.float32)

_vad_lock = threading.Lock()


@functools.cache
def _vad_session() -> Any | None:
    """Returns the silero-vad model, or None without package or runtime; call under `_vad_lock`.

    The package is found without being imported: its import pulls in torch.
    """
    try:
        import onnxruntime

        # These are recordings of people: no usage data leaves the machine.
        onnxruntime.disable_telemetry_events()
        spec = importlib.util.find_spec("silero_vad")
        folders = list(spec.submodule_search_locations or []) if spec else []
        # The variant that takes a whole sequence of windows per call.
        path = Path(folders[0]) / "data" / "silero_vad_16k_sequence.onnx"
        options = onnxruntime.SessionOptions()
        # One thread: the emotion model uses all cores.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception:
        # A broken optional part must not fail the recognition: the checks say "unknown".
        return None


def speech_probability(samples: np.ndarray) -> Floats:
    """Returns the probability of speech per 32 ms window of a recording; see `SpeechDetector`.

    Args:
        samples: float32 (n,), mono, 16 kHz, finite.

    Returns:
        float32 (ceil(n / 512),), 0 to 1; empty where there is no model or no audio.
    """
    detector = SpeechDetector(LOOK_AHEAD_S)
    return np.concatenate([detector.feed(samples), detector.finish()])


class SpeechDetector:
    """Computes the probability of speech per 32 ms window for audio that arrives in pieces.

    The result does not depend on how the audio is divided into pieces: it is equal bit for bit.
    Memory is bounded by the look-ahead, however long the audio is.

    Level: emotion scores do not depend on gain, so neither may speech detection; silero does (it
    misses speech at -60 dBFS). The audio is amplified so that the loud windows of the last 5
    minutes and of the look-ahead reach -20 dBFS.
    Voicing: loud periodic sound near silero's speech, such as a high-pitched shout, is raised to
    0.5.

    A window's probability is returned when `look_ahead_s` of audio after its start was fed, or by
    `finish`. Up to 2 s and at most half of that are used for voicing, the rest for the levels.
    Measured on 210 recordings of EMO-DB, RAVDESS and nEMO against one gain per recording: with 32 s
    and with 5 s the stretches of speech are the same; with 0.5 s speech is found in the same
    recordings, and its duration differs by more than 5 % in 9 % of them.

    Example:
        >>> detector = SpeechDetector(look_ahead_s=0.5)
        >>> for piece in pieces:  # float32 (n,), 16 kHz, any n
        ...     probability = detector.feed(piece)
        >>> probability = detector.finish()

    Args:
        look_ahead_s: Delay in s, at least 0.1. The shorter it is, the less certain are the levels
            at the beginning.
    """

    def __init__(self, look_ahead_s: float) -> None:
        with _vad_lock:
            self._session = _vad_session()
        ahead = max(3, round(look_ahead_s / VAD_WINDOW_S))
        self._reach_ahead = min(VOICED_REACH_WINDOWS, ahead // 2)
        self._step = min(STEP_WINDOWS, ahead - self._reach_ahead)
        self._level_ahead = ahead - self._reach_ahead - self._step

        # Per window, by its number from the start of the audio.
        self._rest = _NONE  # samples that do not fill a window yet
        self._windows = _Tail(np.zeros((0, VAD_WINDOW), dtype=np.float32))
        self._rms = _Tail(_NONE)  # without the window's mean
        self._mean = _Tail(np.zeros(0))
        self._probability = _Tail(_NONE)  # silero's
        self._voiced_floor = _Tail(np.zeros(0))  # the least RMS of a voiced window
        self._returned = 0

        self._gain = 0.0
        self._clear_state()

    def feed(self, samples: np.ndarray) -> Floats:
        """Takes the next samples and returns the probabilities of the windows decided by them.

        Args:
            samples: float32 (n,), mono, 16 kHz, finite; any n.

        Returns:
            float32 (windows,), 0 to 1, following those returned before; may be empty.
        """
        if self._session is None:
            return _NONE
        decided = [_NONE]
        for start in range(0, len(samples), BLOCK_SAMPLES):
            joined = np.concatenate([self._rest, samples[start : start + BLOCK_SAMPLES]])
            whole = len(joined) // VAD_WINDOW * VAD_WINDOW
            self._rest = joined[whole:].copy()
            if not whole:
                continue
            windows = joined[:whole].reshape(-1, VAD_WINDOW)
            self._windows.append(windows)
            self._add_levels(windows)
            while self._windows.stop >= self._probability.stop + self._step + self._level_ahead:
                stop = self._probability.stop + self._step
                self._run_silero(stop, levels_stop=stop + self._level_ahead)
            decided.append(self._decide(self._probability.stop - self._reach_ahead))
        return np.concatenate(decided)

    def finish(self) -> Floats:
        """Returns the probabilities of all windows not returned yet; call it once, at the end.

        Samples that do not fill a window count as one.
        """
        if self._session is None:
            return _NONE
        total = self._windows.stop + bool(len(self._rest))
        if not self._windows.stop and total:
            self._add_levels(self._rest[None])
        while self._probability.stop < total:
            stop = min(total, self._probability.stop + self._step)
            self._run_silero(stop, levels_stop=self._rms.stop)
        return self._decide(total)

    def _add_levels(self, windows: Floats) -> None:
        """Adds mean and RMS of windows, (windows, samples)."""
        mean = windows.mean(axis=1, keepdims=True)
        self._mean.append(mean[:, 0].astype(np.float64))
        self._rms.append(np.sqrt(((windows - mean) ** 2).mean(axis=1)))

    def _clear_state(self) -> None:
        """Sets silero's recurrent state to that at the start of a recording."""
        self._hidden = np.zeros((1, 1, 128), dtype=np.float32)
        self._cell = np.zeros((1, 1, 128), dtype=np.float32)

    def _run_silero(self, stop: int, levels_stop: int) -> None:
        """Adds silero's probabilities of the next windows, up to `stop`.

        Args:
            stop: Number of the window after the last one.
            levels_stop: The same of the windows whose levels set the gain.
        """
        start = self._probability.stop
        first = start - LEVEL_WINDOWS
        quiet, loud = np.quantile(
            self._rms.part(first, levels_stop), [QUIET_QUANTILE, LOUD_QUANTILE]
        )
        offset = np.float32(self._mean.part(first, levels_stop).mean())
        gain = min(MAX_GAIN, LOUD_TARGET / max(float(loud), 1e-9))
        if not self._gain or abs(20 * np.log10(gain / self._gain)) > GAIN_TOLERANCE_DB:
            self._gain = gain
            self._clear_state()
            replay_start = max(0, start - REPLAY_WINDOWS)
            if replay_start < start:
                self._call_silero(self._silero_input(replay_start, start, offset))
        probability = self._call_silero(self._silero_input(start, stop, offset))
        self._probability.append(probability)
        floor = max(
            loud * 10 ** (-VOICED_NEAR_LOUD_DB / 20), quiet * 10 ** (VOICED_ABOVE_QUIET_DB / 20)
        )
        self._voiced_floor.append(np.full(len(probability), floor))

    def _silero_input(self, start: int, stop: int, offset: np.float32) -> Floats:
        """Returns windows, each after 64 samples of context, without offset and amplified.

        Args:
            start: Number of the first window.
            stop: Number of the window after the last one; may include the unfilled window.
            offset: The audio's mean.

        Returns:
            float32 (windows, 576); 0 before the start and after the end of the audio.
        """
        context = self._windows.part(start - 1, start)[:, -VAD_CONTEXT:].reshape(-1)
        samples = self._windows.part(start, stop).reshape(-1)
        if stop > self._windows.stop:
            samples = np.concatenate([samples, self._rest])
        before = VAD_CONTEXT - len(context)
        joined = np.zeros(VAD_CONTEXT + (stop - start) * VAD_WINDOW, dtype=np.float32)
        joined[before : VAD_CONTEXT + len(samples)] = np.concatenate([context, samples]) - offset
        joined *= np.float32(self._gain)
        views = np.lib.stride_tricks.sliding_window_view(joined, VAD_CONTEXT + VAD_WINDOW)
        return np.ascontiguousarray(views[::VAD_WINDOW])

    def _call_silero(self, windows: Floats) -> Floats:
        """Returns silero's probabilities of the next windows, (windows, 576); keeps its state."""
        assert self._session is not None
        values, self._hidden, self._cell = self._session.run(
            None, {"input": windows, "h": self._hidden, "c": self._cell}
        )
        return values.reshape(-1)

    def _decide(self, stop: int) -> Floats:
        """Returns the probabilities of the next windows, up to `stop`, with voicing."""
        start = self._returned
        if stop <= start:
            return _NONE
        out = self._probability.part(start, stop).copy()
        out[self._voiced(start, min(stop, self._windows.stop), out) - start] = VAD_ON
        self._returned = stop

        self._windows.drop_before(min(stop, self._probability.stop - REPLAY_WINDOWS - 1))
        self._rms.drop_before(self._probability.stop - LEVEL_WINDOWS)
        self._mean.drop_before(self._probability.stop - LEVEL_WINDOWS)
        self._probability.drop_before(stop - VOICED_REACH_WINDOWS)
        self._voiced_floor.drop_before(stop)
        return out

    def _voiced(self, start: int, stop: int, probability: Floats) -> NDArray[np.intp]:
        """Returns which full windows are voiced speech that silero missed.

        Args:
            start: Number of the first window.
            stop: Number of the window after the last one.
            probability: (windows,), silero's, from `start` on.
        """
        windows = np.arange(start, stop)
        # Windows that silero takes for possible speech, also before `start` and after `stop`.
        first = max(0, start - VOICED_REACH_WINDOWS)
        known = self._probability.part(first, min(stop + self._reach_ahead, self._windows.stop))
        possible = first + np.flatnonzero(known >= VAD_OFF)
        near = np.searchsorted(possible, windows - VOICED_REACH_WINDOWS, side="left") < (
            np.searchsorted(possible, windows + self._reach_ahead, side="right")
        )
        loud = self._rms.part(start, stop) > self._voiced_floor.part(start, stop)
        # Two windows long: the longest period (200 samples) must fit several times.
        followed = windows + 2 <= self._windows.stop
        candidates = windows[(probability[: len(windows)] < VAD_ON) & near & loud & followed]
        if not len(candidates):
            return candidates
        samples = self._windows.part(start, stop + 1)
        first_of_pair = candidates - start
        pairs = np.concatenate([samples[first_of_pair], samples[first_of_pair + 1]], axis=1)
        return candidates[periodicity(pairs, VOICED_LAGS) > VOICED_PERIODICITY]


class _Tail:
    """The end of an array that grows, addressed by the row's number in the whole array."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self._rows = rows
        self._start = 0

    @property
    def stop(self) -> int:
        """Rows appended in all."""
        return self._start + len(self._rows)

    def append(self, rows: NDArray[Any]) -> None:
        """Adds rows at the end."""
        self._rows = np.concatenate([self._rows, rows])

    def part(self, start: int, stop: int) -> NDArray[Any]:
        """Returns rows `start` to `stop`, without those before the first and after the last."""
        return self._rows[max(0, start - self._start) : max(0, stop - self._start)]

    def drop_before(self, number: int) -> None:
        """Drops the rows before the one with this number."""
        self._rows = self._rows[max(0, number - self._start) :]
        self._start = max(self._start, number)


def periodicity(pieces: NDArray[np.floating[Any]], lags: tuple[int, int]) -> NDArray[np.float64]:
    """Returns the highest normalised autocorrelation at the lags of voice.

    Args:
        pieces: (pieces, samples).
        lags: The shortest and the longest, in samples.

    Returns:
        (pieces,), up to 1 for a periodic sound.
    """
    samples = pieces.shape[1]
    taper = np.hanning(samples)
    # Wiener-Khinchin; padded to twice the length, since the correlation would be circular.
    # Divided by the window's own autocorrelation, a periodic sound reaches 1 at its period
    # (Boersma 1993).
    spectra = np.fft.rfft((pieces - pieces.mean(axis=1, keepdims=True)) * taper, 2 * samples)
    correlation = np.fft.irfft(np.abs(spectra) ** 2)[:, : lags[1] + 1]
    of_taper = np.fft.irfft(np.abs(np.fft.rfft(taper, 2 * samples)) ** 2)[: lags[1] + 1]
    correlation /= np.maximum(correlation[:, :1], TINY)
    correlation /= of_taper / of_taper[0]
    return correlation[:, lags[0] :].max(axis=1)


def speech_segments(probability: np.ndarray, length_s: float) -> tuple[tuple[float, float], ...]:
    """Returns the stretches of speech that follow from the probability per window.

    On from 0.5, off under 0.35; pauses up to 0.2 s are bridged (the hangover of ITU-T P.56),
    what is then shorter than 0.09 s is dropped, and 30 ms are added at both sides.

    Args:
        probability: (windows,), one per 32 ms.
        length_s: Length of the audio; no segment reaches beyond it.

    Returns:
        (start_s, end_s) of each, rising and disjoint.
    """
    if not len(probability):
        return ()
    possible = probability >= VAD_OFF
    edges = np.flatnonzero(np.diff(possible, prepend=False, append=False)).reshape(-1, 2)
    # Hysteresis: a stretch over the lower threshold that also reaches the upper one.
    active = [(a, b) for a, b in edges if probability[a:b].max() >= VAD_ON]
    merged: list[list[float]] = []
    for start, end in np.array(active).reshape(-1, 2) * VAD_WINDOW_S:
        if merged and start - merged[-1][1] <= VAD_HANGOVER_S:
            merged[-1][1] = float(end)
        else:
            merged.append([float(start), float(end)])
    kept = [(a, b) for a, b in merged if b - a >= VAD_MIN_SPEECH_S]
    # Pads cannot meet: 2 * 30 ms is less than the 0.2 s that separate two stretches.
    return tuple((max(0.0, a - VAD_PAD_S), min(length_s, b + VAD_PAD_S)) for a, b in kept)
