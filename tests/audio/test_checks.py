"""Each check on signals made with a known fault."""

import dataclasses
import json
import time

import numpy as np
import pytest
import soxr
from scipy import signal

from emotion2vec_ui.audio import checks, speech
from tests.audio.signals import (
    FS,
    babble,
    check,
    clipped,
    low_passed,
    measure,
    mix,
    report,
    reverberant,
    speechlike,
)


def test_clipping_verdicts():
    x = speechlike(5)
    assert check(report(clipped(x, 0.0005)[0]), "clipping").verdict == "ok"
    assert check(report(clipped(x, 0.004)[0]), "clipping").verdict == "warn"
    q = report(clipped(x, 0.05)[0])
    assert check(q, "clipping").verdict == "fail"
    assert (q.verdict, check(q, "clipping").remedy) == ("poor", "lower_gain")


def test_snr_verdicts():
    x = speechlike(6)
    assert check(report(mix(x, 26)), "snr").verdict == "ok"
    low = report(mix(x, 15))
    assert (check(low, "snr").verdict, low.verdict) == ("warn", "fair")
    assert "snr_low" in low.warnings
    unstable = report(mix(x, 5))
    assert (check(unstable, "snr").verdict, unstable.verdict) == ("fail", "poor")
    assert "snr_unstable" in unstable.warnings


def test_telephone_audio_in_its_own_rate_is_recognised():
    q = report(soxr.resample(mix(speechlike(4), 30), FS, 8000), 8000, codec="pcm_mulaw")
    assert {"bandwidth_telephone", "codec_telephone", "resampled_up"} <= set(q.warnings)


def test_a_lossy_file_with_a_cut_band_blames_the_bit_rate():
    q = report(low_passed(mix(speechlike(4), 30), 5500), codec="mp3float")
    assert "bandwidth_lossy" in q.warnings
    assert "bandwidth_narrow" in report(low_passed(mix(speechlike(4), 30), 5500)).warnings


def test_low_cut_and_covered_microphone():
    x = mix(speechlike(5), 40)
    assert {check(report(x), c).verdict for c in ("low_band", "presence_band")} == {"ok"}
    thin = signal.fftconvolve(x, signal.firwin(801, 320, fs=FS, pass_zero=False), mode="same")
    assert "low_band_weak" in report(thin).warnings
    dull = signal.sosfilt(signal.butter(6, 900, fs=FS, output="sos"), x)
    assert "presence_band_weak" in report(dull).warnings


def test_dropouts_are_holes_below_the_recordings_own_noise():
    x = mix(speechlike(6, pause_s=0.9), 35)
    assert check(report(x), "dropouts").value == 0
    holes = x.copy()
    for start in range(FS // 2, 6 * FS, FS // 3):
        holes[start : start + FS * 6 // 100] = 0  # 60 ms of every 333 ms
    dropouts = check(report(holes), "dropouts")
    assert dropouts.verdict in ("warn", "fail")
    assert 0.05 <= dropouts.value <= 0.25  # 18 % were lost; the edges of each hole are not seen


def test_speech_cut_into_is_told_at_the_right_end():
    x = mix(np.concatenate([np.zeros(FS // 2), speechlike(3, pause_s=0.1), np.zeros(FS // 2)]), 40)
    assert not {"onset_cut", "offset_cut"} & set(report(x).warnings)
    # Into the first syllable, and into the last but one second.
    assert "onset_cut" in report(x[FS // 2 + 1600 :]).warnings
    assert "offset_cut" not in report(x[FS // 2 + 1600 :]).warnings
    start = speechlike(3, pause_s=0.1)
    loud = int(np.argmax(np.abs(start[2 * FS :]))) + 2 * FS
    assert "offset_cut" in report(x[: FS // 2 + loud]).warnings


def test_short_margins_are_a_tip_unless_speech_is_cut():
    fade = np.concatenate([np.zeros(1600), speechlike(4, pause_s=0.1), np.zeros(1600)])
    q = report(mix(fade, 40))
    assert (q.verdict, q.warnings) == ("good", ())
    for code in ("leading_silence", "trailing_silence"):
        tip = check(q, code)
        assert (tip.verdict, tip.remedy, tip.threshold) == ("ok", "keep_300_ms", None)
        assert 0 < tip.value < 0.236
    cut = report(mix(fade, 40)[3200:])
    assert {"onset_cut", "leading_silence_short"} <= set(cut.warnings)
    assert "trailing_silence_short" not in cut.warnings


def test_gain_changes_nothing_but_the_level():
    x = mix(speechlike(4), 25)
    loud, quiet = report(x), report(x * 0.003)
    assert quiet.speech == loud.speech
    assert check(quiet, "snr").value == pytest.approx(check(loud, "snr").value, abs=0.1)
    assert "level_low" in quiet.warnings
    assert quiet.verdict == loud.verdict  # the model normalises: a hint only


def test_duration(subtests):
    for seconds, verdict, remedy in [
        (0.6, "warn", "record_longer"),
        (2.0, "ok", "aim_for_3_to_8_s"),
        (5.0, "ok", ""),
        (20.0, "ok", "aim_for_3_to_8_s"),
        (31.0, "warn", "split_by_sentence"),
    ]:
        with subtests.test(seconds=seconds):
            duration = check(report(mix(speechlike(seconds), 30)), "duration")
            assert (duration.verdict, duration.remedy) == (verdict, remedy)


def test_offset_is_told_and_does_not_disturb_the_rest():
    x = mix(speechlike(4), 25)
    plain, shifted = report(x), report(x + 0.05)
    assert "dc_offset" in shifted.warnings
    assert check(shifted, "dc_offset").value == pytest.approx(0.05, abs=1e-3)
    assert shifted.speech == plain.speech
    assert check(shifted, "snr").value == pytest.approx(check(plain, "snr").value, abs=0.5)


def test_channels():
    a, b = mix(speechlike(3, 1), 30), mix(speechlike(3, 2), 30)
    assert "channels" not in [c.code for c in report(a).checks]
    assert not report(np.stack([a, a * 0.5], axis=1)).source.channel_correlation < 0.99
    assert "channels_opposed" in report(np.stack([a, -a * 0.9], axis=1)).warnings
    assert "channels_differ" in report(np.stack([a, b], axis=1)).warnings
    assert check(report(np.stack([a, a * 0.5], axis=1)), "channel_lag").verdict == "ok"
    empty = report(np.stack([a, np.zeros_like(a)], axis=1))
    assert not {"channels_differ", "channels_opposed"} & set(empty.warnings)


def test_a_good_recording_is_good():
    x = np.concatenate([np.zeros(FS // 2), speechlike(4, pause_s=0.2), np.zeros(FS // 2)])
    q = report(mix(x, 35))
    assert (q.verdict, q.warnings) == ("good", ())


ODD = {
    "nothing": np.zeros(0),
    "one sample": np.ones(1),
    "25 ms of silence": np.zeros(400),
    "25 ms of noise": np.random.default_rng(0).standard_normal(400),
    "silence": np.zeros(FS),
    "constant": np.full(FS, 0.5),
    "full-scale constant": np.full(FS, 1.0),
    "not a number": np.full(FS, np.nan),
    "infinite": np.full(FS, np.inf),
    "one click": np.eye(1, FS, 5000)[0],
    "square wave": np.sign(np.sin(np.arange(FS) * 0.1)),
    "far over full scale": np.random.default_rng(0).standard_normal(FS) * 1e6,
    "tiny": np.random.default_rng(0).standard_normal(FS) * 1e-12,
}


def test_odd_audio_is_reported_and_never_raises(subtests):
    for name in ODD:
        with subtests.test(name=name):
            q = report(ODD[name].astype(np.float32))
            assert q.verdict in ("fair", "poor")
            assert q.speech == ()
            text = json.dumps(dataclasses.asdict(q), allow_nan=False)
            assert len(text) < 60_000


def test_every_code_is_in_the_modules_table():
    doc = checks.__doc__
    x = mix(speechlike(3), 5)
    seen = [report(x), report(np.zeros(FS)), report(np.stack([x, -x], axis=1), codec="mp3")]
    for q in seen:
        for c in q.checks:
            assert c.code in doc and c.warning in doc
            assert not c.remedy or f"``{c.remedy}``" in doc
            assert bool(c.warning) == (c.verdict in ("warn", "fail"))


def test_without_the_vad_the_checks_say_unknown(monkeypatch):
    monkeypatch.setattr(speech, "_vad_session", lambda: None)
    q = report(mix(speechlike(3), 30))
    assert check(q, "speech_present").verdict == "unknown"
    assert check(q, "snr").verdict == "unknown"


def test_fast_enough():
    x = mix(speechlike(5), 25)
    source = measure(x)
    report(x)
    took = []
    for _ in range(10):
        start = time.process_time()
        checks.assess(x, source, source_rate_hz=FS, duration_s=5.0)
        took.append(time.process_time() - start)
    # Processor time, for the machine may be busy; 14 ms on two cores that also train a model.
    assert min(took) < 0.06
    long = np.tile(x, 24)  # 2 minutes; an hour is 30 times that
    start = time.process_time()
    report(long)
    assert time.process_time() - start < 4


# --- thresholds -----------------------------------------------------------------------------------


def various_recordings() -> list[checks.Quality]:
    x = speechlike(4)
    padded = np.concatenate([np.zeros(FS // 2), speechlike(3, pause_s=0.1), np.zeros(FS // 2)])
    kept_s = [np.concatenate([np.zeros(n), speechlike(3), np.zeros(n)]) for n in (2400, 4000, 4480)]
    knock = mix(padded, 30)
    knock[:200] += 0.3
    noisy = mix(x, 25)
    stereo = [
        np.stack(pair, axis=1)
        for pair in ((noisy, noisy), (noisy, -noisy), (noisy, np.zeros_like(noisy)))
    ]
    no_bass = signal.firwin(801, 320, fs=FS, pass_zero=False)
    different = np.stack([noisy, mix(speechlike(4, 2), 25)], axis=1)
    holes = mix(speechlike(6, pause_s=0.9), 35)
    for start in range(FS // 2, 6 * FS, FS // 3):
        holes[start : start + FS * 6 // 100] = 0
    return [
        *(report(mix(x, snr_db)) for snr_db in (0, 9, 15, 30)),
        *(report(clipped(x, share)[0]) for share in (0.0005, 0.004, 0.05)),
        *(report(mix(y, 40)) for y in kept_s),
        *(report(y) for y in (*stereo, different)),
        *(report(mix(speechlike(s), 30)) for s in (0.6, 2.0, 31.0)),
        *(report(low_passed(noisy, hz)) for hz in (2000, 3400, 5500)),
        *(report(ODD[name].astype(np.float32)) for name in ODD),
        report(signal.fftconvolve(noisy, no_bass, mode="same")),
        report(mix(np.concatenate([np.zeros(9 * FS), speechlike(2), np.zeros(FS)]), 40)),
        report(noisy + 0.05),
        report(noisy * 0.001),
        report(noisy[FS // 2 + 1600 :]),
        report(knock),
        report(holes),
        report(x, 8000, codec="pcm_mulaw"),
        report(noisy, codec="mp3", bits_per_s=32_000),
        report(noisy, codec="opus", bits_per_s=24_000),
        report(reverberant(x, 0.8)),
        report(babble(x, 10)),
        report(np.stack([noisy, np.roll(noisy, 32)], axis=1)),
    ]


def test_verdict_value_threshold_and_bound_agree():
    seen = set()
    for q in various_recordings():
        for c in q.checks:
            seen.add((c.code, c.verdict))
            assert (c.bound == "none") == (c.threshold is None), c
            if c.threshold is None:
                continue
            if c.value is None:
                assert c.verdict == "unknown", c
                continue
            limit = c.threshold
            if c.code in ("leading_silence", "trailing_silence"):
                # 0.3 s is asked for; 0.236 s is enough, since speech is found 64 ms early at most.
                assert limit == 0.3
                limit = 0.236
            good = c.value <= limit if c.bound == "at_most" else c.value >= limit
            assert good == (c.verdict == "ok"), c
    # Each check with a threshold was seen on both sides of it.
    codes = {code for code, _ in seen} - {"clipping_hidden", "codec"}
    assert {code for code, verdict in seen if verdict in ("warn", "fail")} >= codes
    assert {code for code, verdict in seen if verdict == "ok"} >= codes
