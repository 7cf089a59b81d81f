"""Where speech is found, and where it is not."""

import importlib.util
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from emotion2vec_ui.audio.speech import (
    VAD_ON,
    SpeechDetector,
    speech_probability,
    speech_segments,
)
from tests.audio.signals import FS, check, mix, needs_data, noise, recordings, report, speechlike

MARGIN_S = 0.08  # of the silence before and after speech
SHARE = 0.10  # of the share of speech


def test_vad_equals_the_stock_model_run_step_by_step():
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = importlib.util.find_spec("silero_vad").submodule_search_locations[0]
    stock = onnxruntime.InferenceSession(
        str(Path(folder) / "data" / "silero_vad.onnx"), providers=["CPUExecutionProvider"]
    )
    x = mix(speechlike(5), 20)
    x -= x.mean()
    windows = x[: len(x) // 512 * 512].reshape(-1, 512)
    x *= 0.1 / np.quantile(windows.std(axis=1), 0.95)
    state, context, expected = np.zeros((2, 1, 128), np.float32), np.zeros(64, np.float32), []
    for start in range(0, len(x), 512):
        window = np.zeros(512, np.float32)
        window[: len(x[start : start + 512])] = x[start : start + 512]
        given = np.concatenate([context, window])[None]
        p, state = stock.run(None, {"input": given, "state": state, "sr": np.array(16_000)})
        context = window[-64:]
        expected.append(p.item())
    ours = speech_probability(x)
    raised = ours == np.float32(VAD_ON)  # voicing, beside silero
    assert raised.mean() < 0.3
    np.testing.assert_allclose(ours[~raised], np.array(expected)[~raised], atol=2e-3)


def test_silence_at_both_ends_is_measured():
    speech = speechlike(3, pause_s=0.1)
    for lead_s, tail_s in ((0.3, 0.3), (1.0, 0.5), (0.5, 2.0)):
        x = np.concatenate([np.zeros(int(lead_s * FS)), speech, np.zeros(int(tail_s * FS))])
        q = report(mix(x, 40))
        assert check(q, "leading_silence").value == pytest.approx(lead_s, abs=MARGIN_S)
        # The synthetic phrase ends in up to 0.1 s of pause of its own.
        assert check(q, "trailing_silence").value == pytest.approx(tail_s, abs=MARGIN_S + 0.1)
        assert {check(q, f"{side}_silence").verdict for side in ("leading", "trailing")} == {"ok"}
        share = check(q, "speech_share").value
        assert share == pytest.approx(3 / (3 + lead_s + tail_s), abs=SHARE)


@pytest.mark.parametrize("kind", ["white", "fan"])
def test_noise_alone_is_not_speech(kind):
    q = report(noise(kind, 3 * FS) * 0.05)
    assert "speech_missing" in q.warnings
    assert (q.verdict, q.speech, check(q, "snr").value) == ("poor", (), None)


@needs_data
def test_speech_is_found_in_recordings_also_when_shouted():
    # Reference: frames within 30 dB of the loud ones, in recordings whose room is 50 dB down.
    found = []
    for x in recordings("ravdess", 40):
        power = np.square(x[: len(x) // 320 * 320]).reshape(-1, 320).mean(axis=1)
        loud = power > np.quantile(power, 0.98) * 1e-3
        seconds = (np.arange(len(power)) + 0.5) * 0.02
        inside = np.zeros(len(power), dtype=bool)
        for start, end in report(x).speech:
            inside |= (seconds >= start) & (seconds <= end)
        found.append((inside & loud).sum() / loud.sum())
    assert np.mean(found) > 0.95
    assert np.quantile(found, 0.05) > 0.75


# --- in pieces ------------------------------------------------------------------------------------


def pieces(x: np.ndarray, seed: int) -> list[np.ndarray]:
    """The signal divided at random: empty pieces, single samples, windows, many seconds."""
    rng = np.random.default_rng(seed)
    out = []
    while len(x):
        size = int(rng.choice([0, 1, 160, 320, 511, 512, 513, 4096, 40_000, 600_000]))
        out.append(x[:size])
        x = x[size:]
    return out


def detected(parts: list[np.ndarray], look_ahead_s: float) -> np.ndarray:
    detector = SpeechDetector(look_ahead_s)
    return np.concatenate([*(detector.feed(part) for part in parts), detector.finish()])


def speech_s(x: np.ndarray, look_ahead_s: float) -> float:
    stretches = speech_segments(detected([x], look_ahead_s), len(x) / FS)
    return sum(end - start for start, end in stretches)


def changing_level() -> np.ndarray:
    """50 s: speech, silence, speech 26 dB softer, and an unfilled window at the end."""
    loud, soft = mix(speechlike(20, 1), 30), mix(speechlike(20, 2), 20) * 0.05
    silence = 1e-5 * noise("white", 10 * FS)
    return np.concatenate([loud, silence, soft]).astype(np.float32)[:-100]


@pytest.mark.parametrize("look_ahead_s", [0.1, 0.5, 5, 32])
def test_the_pieces_do_not_change_the_result(look_ahead_s):
    x = changing_level()
    whole = detected([x], look_ahead_s)
    assert len(whole) == -(-len(x) // 512)
    for seed in range(3):
        np.testing.assert_array_equal(detected(pieces(x, seed), look_ahead_s), whole)


@pytest.mark.parametrize("n", [0, 1, 400, 511, 512, 513, 1536])
def test_very_short_audio_in_pieces(n):
    x = speechlike(1)[3000 : 3000 + n]
    whole = speech_probability(x)
    assert len(whole) == -(-n // 512)
    np.testing.assert_array_equal(detected([x[:300], x[300:]], 32), whole)


@pytest.mark.parametrize("look_ahead_s", [0.1, 0.5, 5])
def test_a_window_waits_for_the_look_ahead_and_no_longer(look_ahead_s):
    x = changing_level()
    detector = SpeechDetector(look_ahead_s)
    returned = 0
    for start in range(0, len(x), 320):
        piece = x[start : start + 320]
        returned += len(detector.feed(piece))
        fed = (start + len(piece)) // 512
        assert fed - round(look_ahead_s / 0.032) <= returned <= fed


@pytest.mark.parametrize("look_ahead_s", [0.1, 0.5, 5, 32])
def test_speech_after_silence_and_at_any_level_is_found(look_ahead_s):
    x = mix(speechlike(6, pause_s=0.1), 40)
    for gain in (1, 1e-3):  # -20 and -80 dBFS
        late = np.concatenate([1e-5 * noise("white", 60 * FS), x]).astype(np.float32) * gain
        assert speech_s(late, look_ahead_s) == pytest.approx(6, rel=0.15)


@needs_data
@pytest.mark.parametrize("silence_s", [0, 5])
def test_half_a_second_of_look_ahead_finds_the_speech_of_all_recordings(silence_s):
    rng = np.random.default_rng(0)
    close = []
    for corpus in ("emodb", "ravdess", "nemo"):
        for x in recordings(corpus, 10):
            silence = 1e-4 * rng.standard_normal(silence_s * FS).astype(np.float32)
            x = np.concatenate([silence, x])
            soon, late = speech_s(x, 0.5), speech_s(x, 32)
            assert soon > 0.5 * late
            close.append(abs(soon - late) <= 0.1 * late)
    assert np.mean(close) > 0.8


def test_memory_does_not_grow_with_the_audio():
    """After 6 minutes the levels of 5 minutes are remembered; later audio adds nothing."""
    x = mix(speechlike(30), 25)
    detector = SpeechDetector(0.5)
    held = []
    tracemalloc.start()
    try:
        for _ in range(16):
            detector.feed(x)
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(held[12:]) < 1.01 * held[12]
    assert held[12] < 4e6


@pytest.mark.slow
def test_an_hour_is_judged_like_its_minutes():
    """The same minute 60 times: from the seventh on, the levels and the result repeat."""
    x = mix(speechlike(60), 25)[: 1875 * 512]
    found = detected([x] * 60, 32).reshape(60, 1875) >= VAD_ON
    assert (found[7:59].mean(axis=1) > 0.7).all()
    assert np.mean(found[8:59] == found[7]) > 0.99
