"""The degradations are what they say, and the report reads them right.

`predict` is a stand-in here: the module takes any function from clips to scores.
"""

import dataclasses
import json

import numpy as np
import pytest
from scipy import signal

from emotion2vec_ui.audio import damage as robustness
from emotion2vec_ui.audio.damage import Condition
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.pipeline.robustness import run

FS = 16_000
CONDITIONS = {c.code: c for c in robustness.conditions()}
CODECS = [c.code for c in CONDITIONS.values() if c.kind == "codec"]


def clip(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """Syllables of filtered noise and harmonics, 4 per second, with a pause in the middle."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * FS)) / FS
    voice = sum(np.sin(2 * np.pi * 140 * k * t + k) / k for k in range(1, 20))
    breath = signal.lfilter([1], [1, -0.6], rng.standard_normal(len(t)))
    x = (voice + 0.2 * breath) * np.abs(np.sin(2 * np.pi * 2 * t))
    x[int(0.45 * len(t)) : int(0.6 * len(t))] = 0
    return (0.1 * x).astype(np.float32)


def tone(hz: float = 1000.0, seconds: float = 1.5) -> np.ndarray:
    n = int(seconds * FS)
    ramp = np.minimum(1, np.minimum(np.arange(n), np.arange(n)[::-1]) / 800)
    return (0.3 * ramp * np.sin(2 * np.pi * hz * np.arange(n) / FS)).astype(np.float32)


# --- level ----------------------------------------------------------------------------------------


def test_active_level_of_steady_sound_is_its_rms():
    x = tone(seconds=5)
    assert robustness.active_level_dbfs(x) == pytest.approx(20 * np.log10(0.3 / 2**0.5), abs=0.2)


def test_active_level_leaves_the_pauses_out():
    # 1 s on, 1 s off: the mean level is 3 dB under the tone's; P.56 counts 0.2 s of hangover and
    # the decay of its envelope as activity, 10 log10(1 / 1.3) = -1.1 dB.
    x = tone(seconds=20) * (np.arange(20 * FS) // FS % 2 == 0)
    below = robustness.active_level_dbfs(x) - 20 * np.log10(0.3 / 2**0.5)
    assert -1.4 < below < -0.7
    assert robustness.active_level_dbfs(x * 0.01) == pytest.approx(
        robustness.active_level_dbfs(x) - 40, abs=0.01
    )


# --- noises ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [c for c, v in CONDITIONS.items() if v.snr_db is not None])
def test_snr_is_exact(code):
    x, condition = clip(), CONDITIONS[code]
    added = robustness.damaged(x, condition, 3).astype(np.float64) - x
    snr_db = robustness.active_level_dbfs(x) - 10 * np.log10(np.mean(added**2))
    assert snr_db == pytest.approx(condition.snr_db, abs=0.01)


def test_the_seed_decides_and_only_the_level_changes_with_the_snr():
    x = clip()
    for kind in ("fan", "babble"):
        loud, soft = CONDITIONS[f"{kind}_0"], CONDITIONS[f"{kind}_20"]
        a = robustness.damaged(x, loud, 1)
        np.testing.assert_array_equal(a, robustness.damaged(x, loud, 1))
        assert not np.array_equal(a, robustness.damaged(x, loud, 2))
        np.testing.assert_allclose((a - x) / 10, robustness.damaged(x, soft, 1) - x, atol=1e-5)


def test_fan_is_stationary_and_low():
    x = clip(4)
    added = robustness.damaged(x, CONDITIONS["fan_0"], 0) - x
    halves = [np.mean(part**2) for part in np.array_split(added, 4)]
    assert max(halves) / min(halves) < 1.6
    hz, power = signal.welch(added, FS, nperseg=2048)
    octave = power[(hz > 900) & (hz < 1100)].mean() / power[(hz > 1900) & (hz < 2100)].mean()
    assert 10 * np.log10(octave) == pytest.approx(6, abs=1)


def test_babble_is_not_the_clip_itself():
    x = clip(4)
    added = robustness.damaged(x, CONDITIONS["babble_0"], 0) - x
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
    y = robustness.damaged(x, CONDITIONS[code], 0)
    assert y.shape == x.shape and y.dtype == np.float32
    assert 20 * np.log10(level_at(y, 1000) / level_at(x, 1000)) == pytest.approx(0, abs=1.0)
    x = clip()
    y = robustness.damaged(x, CONDITIONS[code], 0)
    lag = int(signal.correlate(y, x, method="fft").argmax()) - (len(x) - 1)
    assert abs(lag) <= 8  # half a millisecond


@pytest.mark.parametrize("code", ["telephone", "resampled_8k"])
def test_telephone_ends_below_4_khz(code):
    y = robustness.damaged(tone(6000), CONDITIONS[code], 0)
    assert level_at(y, 6000) < 0.3 * 0.01
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * FS).astype(np.float32)
    hz, power = signal.welch(robustness.damaged(noise, CONDITIONS[code], 0), FS, nperseg=1024)
    assert power[hz > 4200].sum() < 0.001 * power.sum()


def test_the_coarser_codec_is_further_from_the_original():
    x = clip()
    error = {c: np.mean((robustness.damaged(x, CONDITIONS[c], 0) - x) ** 2) for c in CODECS}
    assert error["mp3_128"] < error["mp3_64"] < np.mean(x**2)
    assert error["telephone"] > 0


def test_loud_clips_do_not_clip_in_the_codec():
    x = clip() * 20
    assert np.abs(x).max() > 1.5
    y = robustness.damaged(x, CONDITIONS["mp3_128"], 0)
    assert np.corrcoef(x, y)[0, 1] > 0.99


@pytest.mark.parametrize("code", CONDITIONS)
@pytest.mark.parametrize("n", [400, 5000])
def test_every_condition_takes_short_and_silent_clips(code, n):
    assert robustness.damaged(np.zeros(n, np.float32), CONDITIONS[code], 0).shape == (n,)
    y = robustness.damaged(clip()[:n], CONDITIONS[code], 0)
    assert y.shape == (n,) and np.isfinite(y).all()


def test_codecs_are_deterministic():
    x = clip()
    for code in CODECS:
        a, b = (robustness.damaged(x, CONDITIONS[code], 0) for _ in range(2))
        np.testing.assert_array_equal(a, b)


# --- report ---------------------------------------------------------------------------------------


def noise_meter(clean: np.ndarray):
    """A stand-in that knows the clean clip: happy when near it, neutral as it drowns in noise.

    Its leader changes where the noise's power passes a tenth of the clip's.
    """

    def predict(clips: list[np.ndarray]) -> np.ndarray:
        out = np.full((len(clips), 9), 0.01)
        for row, x in zip(out, clips, strict=True):
            share = min(1.0, float(np.mean((x - clean) ** 2) / np.mean(clean**2)) / 0.2)
            row[EMOTIONS.index("happy")] = 0.93 - 0.93 * share
            row[EMOTIONS.index("neutral")] = 0.93 * share
        return out / out.sum(axis=1, keepdims=True)

    return predict


def test_report_finds_where_the_answer_flips():
    x = clip()
    report = run(x, noise_meter(x), seed=5)
    assert [o.condition.code for o in report.outcomes] == list(CONDITIONS)
    clean = report.outcomes[0]
    assert (clean.emotion, clean.delta, clean.flipped) == ("happy", 0.0, False)
    # Mean power over active level: the pause takes 0.4 to 0.9 dB. A tenth of the mean power is thus
    # an SNR of 10.4 to 10.9 dB: at 15 dB it holds, at 10 dB it has flipped.
    assert report.flip_snr_db == {"fan": 10.0, "babble": 10.0}
    # Neutral takes all that happy had: 0.93 of 1.0, averaged over 5 and 0 dB.
    assert report.neutral_rise["fan"] == pytest.approx(0.92, abs=0.02)
    by_code = {o.condition.code: o for o in report.outcomes}
    assert by_code["fan_0"].emotion == "neutral"
    assert by_code["fan_0"].delta == pytest.approx(-0.92, abs=0.02)
    assert by_code["fan_30"].flipped is False
    falling = [by_code[f"fan_{snr}"].scores["happy"] for snr in (30, 25, 20, 15, 10, 5)]
    assert falling == sorted(falling, reverse=True)
    json.dumps(dataclasses.asdict(report), allow_nan=False)


def test_report_of_a_rock_and_determinism():
    x = clip()

    def constant(clips):
        return np.tile(np.eye(9)[0], (len(clips), 1))

    report = run(x, constant)
    assert report.flip_snr_db == {"fan": None, "babble": None}
    assert report.flipped_codes == ()
    assert report.neutral_rise == {"fan": 0.0, "babble": 0.0}
    assert run(x, noise_meter(x), 1) == run(x, noise_meter(x), 1)


def test_a_missing_encoder_is_an_outcome_and_not_the_end(monkeypatch):
    monkeypatch.setitem(robustness._CODECS, "opus_24", ("no_such_encoder", "ogg", 48_000, 1))
    x = clip()
    report = run(x, noise_meter(x))
    (missing,) = [o for o in report.outcomes if o.error]
    assert (missing.condition.code, missing.scores, missing.flipped) == ("opus_24", {}, False)
    assert len(report.outcomes) == len(CONDITIONS)


def test_wrong_use_is_told():
    with pytest.raises(ValueError, match="predict gave"):
        run(clip(), lambda clips: np.zeros((1, 9)))
    with pytest.raises(ValueError, match="without an SNR"):
        robustness.damaged(clip(), Condition("fan", "fan"), 0)
