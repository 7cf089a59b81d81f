"""Powers of speech and noise, and the picture."""

import numpy as np
import pytest

from tests.audio.signals import FS, check, mix, needs_data, recordings, report, speechlike

SNR_DB = 3.0  # from 0 to 30 dB, with and without pauses


@pytest.mark.parametrize("kind", ["white", "fan"])
@pytest.mark.parametrize("snr_db", [0, 5, 10, 15, 20, 25, 30])
def test_snr_with_pauses(snr_db, kind):
    for seed in range(2):
        value = check(report(mix(speechlike(6, seed), snr_db, kind)), "snr").value
        assert value == pytest.approx(snr_db, abs=SNR_DB)


@needs_data
@pytest.mark.parametrize("kind", ["white", "fan"])
@pytest.mark.parametrize("snr_db", [0, 10, 20, 30])
def test_snr_of_recordings_with_pauses(snr_db, kind):
    # RAVDESS has a second of silence at both ends.
    for x in recordings("ravdess"):
        value = check(report(mix(x, snr_db, kind)), "snr").value
        assert value == pytest.approx(snr_db, abs=SNR_DB)


@needs_data
@pytest.mark.parametrize("corpus", ["emodb", "nemo"])
@pytest.mark.parametrize("snr_db", [0, 10, 20, 30])
def test_snr_of_recordings_without_pauses(snr_db, corpus):
    for x in recordings(corpus):
        # A recording is not free of noise: its own adds to what is mixed in. (Some are at 22 dB;
        # without a pause, what speech hides of it is read as noise too.)
        own_db = check(report(x), "snr").value
        expected = -10 * np.log10(10 ** (-snr_db / 10) + 10 ** (-own_db / 10))
        assert check(report(mix(x, snr_db)), "snr").value == pytest.approx(expected, abs=SNR_DB)


def test_picture_is_small_and_true():
    x = speechlike(7)
    picture = report(x).picture
    assert len(picture.envelope_max) <= 400 and len(picture.spectrum_db) <= 128
    assert max(picture.envelope_max) == pytest.approx(float(x.max()), abs=1e-4)
    assert min(picture.envelope_min) == pytest.approx(float(x.min()), abs=1e-4)
    assert len(picture.envelope_max) * picture.column_s == pytest.approx(7, abs=picture.column_s)
    tone = report(0.5 * np.sin(2 * np.pi * 2000 * np.arange(FS) / FS)).picture
    assert tone.spectrum_hz[int(np.argmax(tone.spectrum_db))] == 2000
