"""Small changes: each does what it says, to the amount that the framework sets."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from benchmarks.synthetic_audio import speechlike
from emotion2vec_ui.audio.small_changes import CHANGES, change, white_noise

CLIP = speechlike(2.0)
SEEDS = range(12)
RATE_HZ = 16_000


def db(ratio: float) -> float:
    return float(20 * np.log10(ratio))


def test_the_same_seed_gives_the_same_clip_and_the_original_stays(subtests):
    for name in CHANGES:
        with subtests.test(name=name):
            before = CLIP.copy()
            one, same, other = (change(CLIP, name, seed) for seed in (1, 1, 7))
            assert np.array_equal(one, same) and one.dtype == np.float32
            assert np.array_equal(CLIP, before)
            assert any(not np.array_equal(one, change(CLIP, name, seed)) for seed in SEEDS)
            assert not np.array_equal(CLIP, one) and not np.array_equal(CLIP, other)


def test_what_is_cut_or_added():
    for seed in SEEDS:
        for name, sign in (("append_zeros", 1), ("prepend_zeros", 1), ("crop_beginning", -1),
                           ("crop_end", -1)):  # fmt: skip
            found = change(CLIP, name, seed)
            assert sign * (len(found) - len(CLIP)) in (100, 500, 1000), name
        longer = change(CLIP, "append_zeros", seed)
        assert np.array_equal(longer[: len(CLIP)], CLIP) and not longer[len(CLIP) :].any()
        shorter = change(CLIP, "crop_beginning", seed)
        assert np.array_equal(shorter, CLIP[-len(shorter) :])


def test_gain_is_of_whole_decibels():
    gains = {round(db(change(CLIP, "gain", seed)[500] / CLIP[500]), 3) for seed in SEEDS}
    assert gains <= {-2.0, -1.0, 1.0, 2.0} and len(gains) > 1


def test_noise_and_tone_have_their_levels():
    for seed in SEEDS:
        noise = change(CLIP, "white_noise", seed) - CLIP
        snr_db = db(np.sqrt((CLIP**2).mean() / (noise**2).mean()))
        assert min(abs(snr_db - wanted) for wanted in (35, 40, 45)) < 0.2
        tone = change(CLIP, "additive_tone", seed) - CLIP
        peak_db = db(np.abs(CLIP).max() / np.abs(tone).max())
        assert min(abs(peak_db - wanted) for wanted in (40, 45, 50)) < 0.2
        hz, power = signal.periodogram(tone, RATE_HZ)
        assert 5000 <= hz[power.argmax()] <= 7000


def test_white_noise_of_a_given_ratio():
    noise = white_noise(CLIP, 20.0, np.random.default_rng(0)) - CLIP
    assert db(np.sqrt((CLIP**2).mean() / (noise**2).mean())) == pytest.approx(20, abs=0.1)


def test_clipping_flattens_the_loudest_samples_only():
    for seed in SEEDS:
        clipped = change(CLIP, "clip", seed)
        share = (clipped != CLIP).mean()
        assert 0.0005 < share < 0.0035
        assert np.abs(clipped).max() < np.abs(CLIP).max()


def test_filters_are_of_first_order():
    """White noise through them: 3 dB down at the cutoff, 6 dB an octave beyond."""
    rng = np.random.default_rng(0)
    white = rng.standard_normal(1 << 18).astype(np.float32)
    hz, before = signal.welch(white, RATE_HZ, nperseg=4096)

    def response_db(name: str, at_hz: float) -> float:
        _, after = signal.welch(change(white, name, seed=0), RATE_HZ, nperseg=4096)
        at = np.abs(hz - at_hz).argmin()
        around = slice(max(at - 2, 1), at + 3)
        return float(10 * np.log10(after[around].mean() / before[around].mean()))

    assert response_db("highpass_filter", 12) < -10
    assert response_db("highpass_filter", 2000) == pytest.approx(0, abs=0.2)
    assert response_db("lowpass_filter", 500) == pytest.approx(0, abs=0.2)
    assert response_db("lowpass_filter", 7900) < -3
