"""Rooms, other voices, gaps, spaced microphones and bit rates, on signals made with them.

Speech is espeak-ng's where it is installed, else a synthesiser's vowels.
"""

import shutil
import subprocess

import numpy as np
import pytest
import soundfile
import soxr

from benchmarks.synthetic_audio import write_av
from emotion2vec_ui.audio import coding
from emotion2vec_ui.audio.channels import LagMeter
from emotion2vec_ui.audio.gaps import find_gaps
from emotion2vec_ui.audio.load import load
from tests.audio.signals import FS, babble, check, mix, noise, report, reverberant, speechlike

TEXTS = (
    "The quick brown fox jumps over the lazy dog, and then it sits down to rest.",
    "Please remember to close the window before you leave the house tonight.",
)
needs_espeak = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="no espeak-ng")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """float32 (n,) of each text, by voices of different pitch."""
    out = []
    for number, text in enumerate(TEXTS):
        path = tmp_path_factory.mktemp("espeak") / "a.wav"
        command = ["espeak-ng", "-v", "en", "-p", str(30 + 40 * number), "-w", path, text]
        subprocess.run(command, check=True, timeout=30)
        samples, rate_hz = soundfile.read(path, dtype="float32")
        out.append(soxr.resample(samples, rate_hz, FS))
    return out


@needs_espeak
def test_speech_alone_has_none_of_these_faults(spoken):
    for x in spoken:
        faults = {"dropouts", "reverberant", "voices_several", "snr_low", "snr_unstable"}
        assert not faults & set(report(mix(x, 35)).warnings)


@needs_espeak
def test_a_room_is_told_with_its_reverberation_time(spoken):
    for x in spoken:
        for decay_s in (0.6, 0.8):
            room = check(report(mix(reverberant(x, decay_s), 40)), "reverberation")
            assert room.warning == "reverberant"
            assert room.value == pytest.approx(decay_s, rel=0.35)
        dry = check(report(mix(x, 40)), "reverberation")
        assert dry.verdict == "ok" and dry.value < 0.3


def test_steady_noise_and_hum_are_no_room_and_no_babble():
    x = speechlike(5)
    hum = 0.02 * np.sign(np.sin(2 * np.pi * 50 * np.arange(len(x)) / FS))
    for sound in (mix(x, 10), mix(x, 10, "fan"), x + hum):
        assert not {"reverberant", "voices_several"} & set(report(sound).warnings)


def test_with_several_voices_the_noise_has_no_figure():
    x = speechlike(5)
    assert "voices_several" not in report(mix(x, 40)).warnings
    for snr_db in (10, 0):
        q = report(babble(x, snr_db))
        assert "voices_several" in q.warnings
        assert (check(q, "snr").value, check(q, "snr").verdict) == (None, "unknown")
        assert q.verdict == "fair"


def test_four_gaps_are_found_where_they_are():
    x = mix(speechlike(5), 40)
    at_s = [start for start, _ in ((0.3, 0), (0.8, 0), (2.5, 0), (4.1, 0))]
    holes = x.copy()
    power = np.convolve(x**2, np.ones(800) / 800, mode="same")
    starts = []
    for near_s in at_s:
        near = slice(int(near_s * FS), int((near_s + 0.4) * FS))
        start = near.start + int(power[near].argmax())
        holes[start : start + 640] = 0
        starts.append(start / FS)
    found = find_gaps(holes, 0.0, float(np.mean(x**2)))
    assert np.array(found)[:, 0] == pytest.approx(starts, abs=1e-3)
    assert np.array(found)[:, 1] == pytest.approx(np.add(starts, 0.04), abs=1e-3)
    assert "dropouts" in report(holes).warnings
    # The same with an offset that came in after the gaps, and one that came in before.
    assert "dropouts" in report(holes + 0.05).warnings
    before = x + 0.05
    for start in starts:
        before[round(start * FS) : round(start * FS) + 640] = 0
    assert "dropouts" in report(before).warnings


def test_gaps_are_found_once_across_blocks():
    x = np.random.default_rng(0).standard_normal(61 * FS).astype(np.float32)
    edges = (30 * FS - 320, 60 * FS)  # across and right at the bounds of blocks
    for start in edges:
        x[start : start + 640] = 0
    assert find_gaps(x, 0.0, 1.0) == tuple((s / FS, (s + 640) / FS) for s in edges)


def test_pauses_of_digital_zero_with_soft_edges_are_no_gaps():
    x = speechlike(6, pause_s=0.3)  # its pauses are zeros
    assert check(report(x), "dropouts").value == 0


def test_lag_and_coherence_of_two_channels(subtests):
    # Each channel has its own noise: the same in both would be something in common.
    a, b = (
        speechlike(4, seed) + 1e-3 * noise("white", 4 * FS, seed).astype(np.float32)
        for seed in (1, 2)
    )
    near, far = (reverberant(a, 0.4, seed=seed) for seed in (4, 5))
    for name, pair, lag_ms, warnings in [
        ("2 ms", (a, np.roll(a, 32)), 2.0, {"channels_spaced"}),
        ("-15 ms, inverted", (np.roll(a, 240), -0.5 * a), -15.0, {"channels_spaced"}),
        ("a room", (near, np.roll(far, 80)), 5.0, {"channels_spaced"}),
        ("polarity", (a, -a * 0.9), 0.0, {"channels_opposed"}),
        ("two talkers", (a, b), None, {"channels_differ"}),
        ("a call with crosstalk", (a + 0.03 * b, b + 0.03 * a), None, {"channels_differ"}),
        ("one sound", (a, a * 0.5), 0.0, set()),
    ]:
        with subtests.test(name):
            q = report(np.stack(pair, axis=1))
            assert {code for code in q.warnings if code.startswith("channels_")} == warnings
            if lag_ms is None:
                assert abs(q.source.channel_coherence) < 0.2
            else:
                assert q.source.channel_lag_ms == pytest.approx(lag_ms, abs=0.07)


def test_the_lag_does_not_depend_on_how_the_audio_comes():
    pair = np.stack([speechlike(3, 1), np.roll(speechlike(3, 1), 50)], axis=1)
    whole, pieces = LagMeter(FS), LagMeter(FS)
    whole.update(pair)
    for start in range(0, len(pair), 777):
        pieces.update(pair[start : start + 777])
    assert whole.finish() == pieces.finish()


def test_bit_rates_of_files(tmp_path, subtests):
    x = mix(speechlike(4), 40)
    for codec, container, rate_hz, bits_per_s, low in [
        ("libmp3lame", "mp3", 16_000, 32_000, True),
        ("libmp3lame", "mp3", 44_100, 64_000, False),
        ("libopus", "ogg", 48_000, 12_000, True),
        ("libopus", "webm", 48_000, 12_000, True),
        ("libopus", "ogg", 48_000, 32_000, False),
        ("aac", "mp4", 44_100, 64_000, False),
    ]:
        with subtests.test(f"{codec} {container} {bits_per_s}"):
            path = tmp_path / f"a.{container}"
            sound = soxr.resample(x, FS, rate_hz)
            write_av(path, sound, rate_hz, container, codec, bit_rate=bits_per_s)
            q = load(path).quality
            assert ("bit_rate_low" in q.warnings) == low
            assert check(q, "bit_rate").value == pytest.approx(bits_per_s, rel=0.4)
    soundfile.write(tmp_path / "a.wav", x, FS)
    assert "bit_rate" not in [c.code for c in load(tmp_path / "a.wav").quality.checks]


def test_names_of_lossy_codecs():
    names = ("MPEG_LAYER_III", "mp3float", "OPUS", "VORBIS", "aac")
    assert all(coding.is_lossy(coding.plain_name(name)) for name in names)
    assert not any(coding.is_lossy(coding.plain_name(name)) for name in ("PCM_16", "flac", "ULAW"))
