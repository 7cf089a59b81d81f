"""Finds dropouts: gaps of nothing, with hard edges, inside sound.

A pause fades: within the last 2 ms before it the sound is near its noise already. A lost packet or
a full buffer leaves digital zero right beside loud sound.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.frames import SAMPLE_RATE_HZ

# The shortest packet of speech codecs is 10 ms; closures of stop consonants have soft edges.
GAP_MIN_S = 0.01
# Longer ones are pauses that somebody cut out.
GAP_MAX_S = 1.0
# Nothing: 60 dB under the speech, which lies below the noise of rooms.
NOTHING_BELOW_SPEECH_DB = 60.0
# The 2 ms beside a gap are speech when they reach this; chosen, not calibrated.
EDGE_S = 0.002
EDGE_BELOW_SPEECH_DB = 35.0
BLOCK_SAMPLES = 30 * SAMPLE_RATE_HZ


def find_gaps(
    x: NDArray[np.float32], zero: float, speech_power: float
) -> tuple[tuple[float, float], ...]:
    """Returns (start_s, end_s) of each gap, rising and disjoint.

    Args:
        x: (n,), 16 kHz mono, full scale 1.
        zero: Value of the samples in a gap.
        speech_power: Mean power of the speech, relative to full scale squared, over 0.
    """
    nothing = np.float32(np.sqrt(speech_power) * 10 ** (-NOTHING_BELOW_SPEECH_DB / 20))
    edge = round(EDGE_S * SAMPLE_RATE_HZ)
    edge_power = speech_power * 10 ** (-EDGE_BELOW_SPEECH_DB / 10)
    shortest, longest = (round(s * SAMPLE_RATE_HZ) for s in (GAP_MIN_S, GAP_MAX_S))
    gaps = []
    # Blocks overlap by the longest gap, and each gives the gaps that start in it.
    for first in range(0, len(x), BLOCK_SAMPLES):
        begin = max(0, first - edge)
        part = x[begin : first + BLOCK_SAMPLES + longest + edge] - np.float32(zero)
        quiet = np.abs(part) <= nothing
        bounds = np.flatnonzero(np.diff(quiet)) + 1
        if len(quiet) and quiet[0]:
            bounds = bounds[1:]  # the end of a run that started before
        runs = bounds[: len(bounds) // 2 * 2].reshape(-1, 2)
        lengths = runs[:, 1] - runs[:, 0]
        for start, stop in runs[(lengths >= shortest) & (lengths <= longest)]:
            if not first <= begin + start < first + BLOCK_SAMPLES:
                continue
            beside = (part[max(0, start - edge) : start], part[stop : stop + edge])
            if all(np.mean(np.square(side, dtype=np.float64)) >= edge_power for side in beside):
                gaps.append(((begin + start) / SAMPLE_RATE_HZ, (begin + stop) / SAMPLE_RATE_HZ))
    return tuple(gaps)
