"""What is measured in the decoded file: clipping, bandwidth, spectrum."""

import numpy as np
import pytest
import soxr

from emotion2vec_ui.audio.source import SourceMeter
from tests.audio.signals import (
    FS,
    check,
    clipped,
    low_passed,
    measure,
    mix,
    needs_data,
    noise,
    recordings,
    report,
    speechlike,
)

# The bounds that the tests hold the figures to.
CLIPPING_RELATIVE = 0.10
BANDWIDTH_HZ = 300.0


@pytest.mark.parametrize("share", [0.002, 0.01, 0.05, 0.2])
def test_clipped_share(share):
    for seed in range(4):
        y, true = clipped(speechlike(5, seed), share)
        figures = measure(y)
        assert figures.clipped_fraction == pytest.approx(true, rel=CLIPPING_RELATIVE)
        assert figures.hidden_clipping_dbfs is None


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_clipping_hidden_by_later_gain(share):
    y, true = clipped(speechlike(5), share)
    dither = np.random.default_rng(0).uniform(-0.5, 0.5, len(y))
    figures = measure(np.round(y * 0.5 * 32767 + dither) / 32768)
    assert figures.clipped_fraction == pytest.approx(true, rel=CLIPPING_RELATIVE)
    assert figures.hidden_clipping_dbfs == pytest.approx(-6.02, abs=0.1)
    q = report(y * 0.5)
    assert {"clipping", "clipping_hidden"} <= set(q.warnings)


@needs_data
@pytest.mark.parametrize("corpus", ["emodb", "ravdess", "nemo"])
def test_clipped_share_of_recordings(corpus):
    for x in recordings(corpus):
        assert measure(x).clipped_fraction == 0
        for share in (0.005, 0.02):
            y, true = clipped(x, share)
            assert measure(y).clipped_fraction == pytest.approx(true, rel=CLIPPING_RELATIVE)


def test_a_peak_normalised_file_and_a_full_scale_tone_are_not_clipped():
    x = speechlike(3)
    assert measure(x / np.abs(x).max()).clipped_fraction == 0
    for hz in (50, 100, 440, 997):
        tone = np.sin(2 * np.pi * hz * np.arange(3 * 48_000) / 48_000)
        assert measure(np.round(tone * 32767) / 32768, 48_000).clipped_fraction == 0


def test_blocks_do_not_change_the_figures():
    y, _ = clipped(speechlike(3), 0.02)
    whole = measure(y)
    for size in (500, 4099):
        meter = SourceMeter(FS, 1)
        for start in range(0, len(y), size):
            meter.update(y[start : start + size, None].astype(np.float32))
        parts = meter.finish()
        assert parts.clipped_fraction == whole.clipped_fraction
        assert parts.flat_top_runs == whole.flat_top_runs
        assert parts.bandwidth_hz == whole.bandwidth_hz
        np.testing.assert_allclose(parts.psd_db, whole.psd_db, atol=0.11)


@pytest.mark.parametrize("corner_hz", [3400, 4000, 5500, 7000])
def test_bandwidth_of_low_passed_noise_and_speech(corner_hz):
    pink = noise("fan", 4 * FS)
    loud_top = noise("white", 4 * FS) * 0.05
    for x in (pink / np.abs(pink).max() / 2, loud_top, mix(speechlike(4), 25)):
        figures = measure(low_passed(x, corner_hz))
        assert figures.bandwidth_hz == pytest.approx(corner_hz, abs=BANDWIDTH_HZ)
        assert figures.spectral_edge


@needs_data
@pytest.mark.parametrize("corner_hz", [3400, 4000, 5500, 7000])
def test_bandwidth_of_low_passed_recordings(corner_hz):
    for corpus in ("emodb", "ravdess", "nemo"):
        for x in recordings(corpus):
            bandwidth_hz = measure(low_passed(x, corner_hz)).bandwidth_hz
            assert bandwidth_hz == pytest.approx(corner_hz, abs=BANDWIDTH_HZ)


@needs_data
def test_full_band_recordings_are_not_called_narrow():
    for corpus in ("emodb", "ravdess", "nemo"):
        for x in recordings(corpus):
            assert measure(x).bandwidth_hz > 7000


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_telephone_audio_in_a_bigger_file_is_recognised(rate_hz):
    x = mix(speechlike(4), 30)
    q = report(soxr.resample(soxr.resample(x, FS, 8000), 8000, rate_hz), rate_hz)
    bandwidth = check(q, "bandwidth")
    # Resamplers end a little under half the rate: soxr at 0.95 of it.
    assert bandwidth.value == pytest.approx(3850, abs=BANDWIDTH_HZ)
    assert (bandwidth.verdict, bandwidth.warning) == ("warn", "bandwidth_upsampled")
    assert q.verdict == "fair"


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 16_000, 44_100, 48_000, 96_000])
def test_any_rate_is_measured(rate_hz):
    x = noise("white", rate_hz) * 0.1
    figures = measure(x, rate_hz)
    assert figures.bandwidth_hz == rate_hz / 2
    assert len(figures.psd_db) <= 128
    # White noise of variance 0.01 has a flat density of 0.01 / (rate / 2).
    assert np.median(figures.psd_db) == pytest.approx(10 * np.log10(0.02 / rate_hz), abs=0.5)
