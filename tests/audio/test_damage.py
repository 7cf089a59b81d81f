"""Damaged audio has the noise, codec and band that its condition says."""

import numpy as np
import pytest
from scipy import signal

from emotion2vec_ui.audio.damage import Condition, active_level_dbfs, conditions, damaged
from tests.audio.signals import FS, syllables, tone

CONDITIONS = {c.code: c for c in conditions()}
CODECS = [c.code for c in CONDITIONS.values() if c.kind == "codec"]


# --- level ----------------------------------------------------------------------------------------


def test_active_level_of_steady_sound_is_its_rms():
    x = tone(seconds=5)
    assert active_level_dbfs(x) == pytest.approx(20 * np.log10(0.3 / 2**0.5), abs=0.2)


def test_active_level_leaves_the_pauses_out():
    # 1 s on, 1 s off: the mean level is 3 dB under the tone's; P.56 counts 0.2 s of hangover and
    # the decay of its envelope as activity, 10 log10(1 / 1.3) = -1.1 dB.
    x = tone(seconds=20) * (np.arange(20 * FS) // FS % 2 == 0)
    below = active_level_dbfs(x) - 20 * np.log10(0.3 / 2**0.5)
    assert -1.4 < below < -0.7
    assert active_level_dbfs(x * 0.01) == pytest.approx(active_level_dbfs(x) - 40, abs=0.01)


# --- noises ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [c for c, v in CONDITIONS.items() if v.snr_db is not None])
def test_snr_is_exact(code):
    x, condition = syllables(), CONDITIONS[code]
    added = damaged(x, condition, 3).astype(np.float64) - x
    snr_db = active_level_dbfs(x) - 10 * np.log10(np.mean(added**2))
    assert snr_db == pytest.approx(condition.snr_db, abs=0.01)


def test_the_seed_decides_and_only_the_level_changes_with_the_snr():
    x = syllables()
    for kind in ("fan", "babble"):
        loud, soft = CONDITIONS[f"{kind}_0"], CONDITIONS[f"{kind}_20"]
        a = damaged(x, loud, 1)
        np.testing.assert_array_equal(a, damaged(x, loud, 1))
        assert not np.array_equal(a, damaged(x, loud, 2))
        np.testing.assert_allclose((a - x) / 10, damaged(x, soft, 1) - x, atol=1e-5)


def test_fan_is_stationary_and_low():
    x = syllables(4)
    added = damaged(x, CONDITIONS["fan_0"], 0) - x
    halves = [np.mean(part**2) for part in np.array_split(added, 4)]
    assert max(halves) / min(halves) < 1.6
    hz, power = signal.welch(added, FS, nperseg=2048)
    octave = power[(hz > 900) & (hz < 1100)].mean() / power[(hz > 1900) & (hz < 2100)].mean()
    assert 10 * np.log10(octave) == pytest.approx(6, abs=1)


def test_babble_is_not_the_clip_itself():
    x = syllables(4)
    added = damaged(x, CONDITIONS["babble_0"], 0) - x
    likeness = signal.correlate(added, x, method="fft") / (
        np.linalg.norm(added) * np.linalg.norm(x)
    )
    assert np.abs(likeness).max() < 0.6
    # Eight voices fill the pause that the clip has.
    assert np.mean(added[int(1.9 * FS) : int(2.3 * FS)] ** 2) > 0.2 * np.mean(added**2)


# --- codecs and bands ---------------------------------------------------------------------------


def level_at(x: np.ndarray, hz: float) -> float:
    middle = x[FS // 4 : FS // 4 + FS]
    return 2 * abs(np.dot(middle, np.exp(-2j * np.pi * hz * np.arange(FS) / FS))) / FS


@pytest.mark.parametrize("code", [*CODECS, "resampled_8k"])
def test_codecs_keep_a_tone_the_length_and_the_place(code):
    x = tone()
    y = damaged(x, CONDITIONS[code], 0)
    assert y.shape == x.shape and y.dtype == np.float32
    assert 20 * np.log10(level_at(y, 1000) / level_at(x, 1000)) == pytest.approx(0, abs=1.0)
    x = syllables()
    y = damaged(x, CONDITIONS[code], 0)
    lag = int(signal.correlate(y, x, method="fft").argmax()) - (len(x) - 1)
    assert abs(lag) <= 8  # half a millisecond


@pytest.mark.parametrize("code", ["telephone", "resampled_8k"])
def test_telephone_ends_below_4_khz(code):
    y = damaged(tone(6000), CONDITIONS[code], 0)
    assert level_at(y, 6000) < 0.3 * 0.01
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * FS).astype(np.float32)
    hz, power = signal.welch(damaged(noise, CONDITIONS[code], 0), FS, nperseg=1024)
    assert power[hz > 4200].sum() < 0.001 * power.sum()


def test_the_coarser_codec_is_further_from_the_original():
    x = syllables()
    error = {c: np.mean((damaged(x, CONDITIONS[c], 0) - x) ** 2) for c in CODECS}
    assert error["mp3_128"] < error["mp3_64"] < np.mean(x**2)
    assert error["telephone"] > 0


def test_loud_clips_do_not_clip_in_the_codec():
    x = syllables() * 20
    assert np.abs(x).max() > 1.5
    y = damaged(x, CONDITIONS["mp3_128"], 0)
    assert np.corrcoef(x, y)[0, 1] > 0.99


@pytest.mark.parametrize("code", CONDITIONS)
@pytest.mark.parametrize("n", [400, 5000])
def test_every_condition_takes_short_and_silent_clips(code, n):
    assert damaged(np.zeros(n, np.float32), CONDITIONS[code], 0).shape == (n,)
    y = damaged(syllables()[:n], CONDITIONS[code], 0)
    assert y.shape == (n,) and np.isfinite(y).all()


def test_codecs_are_deterministic():
    x = syllables()
    for code in CODECS:
        a, b = (damaged(x, CONDITIONS[code], 0) for _ in range(2))
        np.testing.assert_array_equal(a, b)


def test_a_noise_needs_an_snr():
    with pytest.raises(ValueError, match="without an SNR"):
        damaged(syllables(), Condition("fan", "fan"), 0)
