"""Every format comes out as 16 kHz mono with its tone intact; everything else says why not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import resample_poly

from benchmarks.synthetic_audio import speechlike, tone, write_av, write_soundfile
from emotion2vec_ui import errors
from emotion2vec_ui.audio.load import load, to_pcm16
from emotion2vec_ui.frames import SAMPLE_RATE_HZ

TONE_HZ = 1_000.0
AMPLITUDE = 0.25


def peak(samples: np.ndarray) -> tuple[float, float]:
    """Frequency in Hz and amplitude of the strongest sine in the middle second."""
    middle = len(samples) // 2
    part = samples[middle - 8000 : middle + 8000].astype(np.float64)
    window = np.hanning(len(part))
    spectrum = np.abs(np.fft.rfft(part * window))
    at = int(np.argmax(spectrum))
    return at * SAMPLE_RATE_HZ / len(part), 2 * spectrum[at] / window.sum()


def sounds(channels: int, rate: int, seconds: float = 2.0) -> np.ndarray:
    mono = tone(TONE_HZ, seconds, rate, AMPLITUDE)
    return mono if channels == 1 else np.repeat(mono[:, None], channels, axis=1)


SOUNDFILE_CASES = [
    *[
        ("WAV", sub, rate, 1)
        for sub in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32")
        for rate in (8000, 44100)
    ],
    *[("WAV", "FLOAT", rate, 1) for rate in (8000, 11025, 16000, 22050, 32000, 48000, 96000)],
    ("WAV", "DOUBLE", 48000, 1),
    ("WAV", "PCM_16", 44100, 2),
    ("WAV", "PCM_16", 48000, 6),
    ("WAV", "ULAW", 8000, 1),
    ("AIFF", "PCM_16", 44100, 2),
    ("FLAC", "PCM_16", 44100, 2),
    ("FLAC", "PCM_24", 96000, 1),
    ("OGG", "VORBIS", 44100, 2),
    ("OGG", "OPUS", 48000, 1),
    ("MP3", "MPEG_LAYER_III", 44100, 2),
]
AV_CASES = [
    ("mp3", "libmp3lame", 44100, 1, False),
    ("ipod", "aac", 44100, 2, False),
    ("adts", "aac", 48000, 1, False),
    ("webm", "libopus", 48000, 1, False),
    ("ogg", "libopus", 48000, 2, False),
    ("mp4", "aac", 44100, 2, True),
    ("matroska", "pcm_s16le", 48000, 6, True),
    ("mov", "aac", 44100, 1, True),
]


def test_libsndfile_formats_keep_the_tone(tmp_path, subtests):
    for container, subtype, rate, channels in SOUNDFILE_CASES:
        with subtests.test(container=container, subtype=subtype, rate=rate, channels=channels):
            path = write_soundfile(tmp_path / "a", sounds(channels, rate), rate, container, subtype)
            check_tone(path, rate, channels)


def test_ffmpeg_formats_keep_the_tone(tmp_path, subtests):
    for container, codec, rate, channels, video in AV_CASES:
        sound = sounds(channels, rate)
        with subtests.test(container=container, codec=codec, channels=channels):
            path = write_av(tmp_path / "a", sound, rate, container, codec, video=video)
            check_tone(path, rate, channels)


def check_tone(path: Path, rate: int, channels: int) -> None:
    clip = load(path)
    frequency, amplitude = peak(clip.samples)
    assert frequency == pytest.approx(TONE_HZ, abs=1.0)
    # 0.5 dB: the lossy codecs' own error; what is lossless is checked tighter below.
    assert 20 * abs(np.log10(amplitude / AMPLITUDE)) < 0.5
    assert clip.samples.dtype == np.float32 and clip.samples.ndim == 1
    assert (clip.source.sample_rate, clip.source.channels) == (rate, channels)
    # Codecs pad to whole frames.
    assert clip.duration_s == pytest.approx(2.0, abs=0.06)
    assert not clip.truncated


def test_variable_bit_rate_mp3_has_its_true_length(tmp_path):
    path = write_av(
        tmp_path / "a.mp3", speechlike(5, 44100), 44100, "mp3", "libmp3lame", bit_rate=0
    )
    assert load(path).duration_s == pytest.approx(5.0, abs=0.06)


def test_16_khz_16_bit_passes_bit_for_bit(tmp_path):
    pcm = to_pcm16(speechlike(1))
    path = write_soundfile(tmp_path / "a.wav", pcm, 16000, "WAV", "PCM_16")
    clip = load(path)
    np.testing.assert_array_equal(to_pcm16(clip.samples), pcm)
    assert clip.source.sample_rate == 16_000
    assert clip.source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_stereo_is_the_plain_mean(tmp_path):
    left, right = tone(500, 1, 16000), tone(900, 1, 16000)
    path = write_soundfile(tmp_path / "a.wav", np.stack([left, right], 1), 16000, "WAV", "FLOAT")
    np.testing.assert_allclose(load(path).samples, (left + right) / 2, atol=1e-7)


def test_resampling_agrees_with_scipy_in_the_speech_band(tmp_path, subtests):
    for rate in [8000, 44100, 48000, 96000]:
        with subtests.test(rate=rate):
            # A multi-tone inside both filters' pass bands: there two right resamplers are equal.
            source = sum(tone(f, 2, rate, 0.05) for f in (150, 440, 1330, 3100))
            path = write_soundfile(tmp_path / "a.wav", source, rate, "WAV", "FLOAT")
            common = np.gcd(rate, 16000)
            reference = resample_poly(source, 16000 // common, rate // common)
            middle = slice(4000, -4000)
            np.testing.assert_allclose(load(path).samples[middle], reference[middle], atol=2e-4)


def test_what_lies_above_8_khz_does_not_fold_back(tmp_path):
    path = write_soundfile(tmp_path / "a.wav", tone(11_000, 2, 48000), 48000, "WAV", "FLOAT")
    samples = load(path).samples
    assert np.abs(samples[4000:-4000]).max() < 1e-5  # -88 dB below the tone


def test_a_wrong_extension_does_not_matter(tmp_path):
    path = write_soundfile(tmp_path / "a.wav", sounds(1, 44100), 44100, "FLAC", "PCM_16")
    assert load(path).source.container == "FLAC"


def test_a_cut_file_is_read_as_far_as_it_goes_and_said(tmp_path):
    path = write_soundfile(tmp_path / "a.wav", speechlike(4), 16000, "WAV", "PCM_16")
    path.write_bytes(path.read_bytes()[:64_044])
    clip = load(path)
    assert clip.truncated and clip.duration_s == pytest.approx(2.0, abs=0.01)


def test_a_text_file_named_wav_names_each_decoders_reason(tmp_path):
    path = tmp_path / "notes.wav"
    path.write_text("this is not audio\n" * 100)
    with pytest.raises(errors.AudioDecodeError) as caught:
        load(path)
    text = str(caught.value)
    assert "libsndfile: " in text and "FFmpeg: " in text and "notes.wav" in text
    assert str(tmp_path) not in text


def test_a_playlist_is_not_followed(tmp_path):
    secret = write_soundfile(tmp_path / "secret.wav", speechlike(1), 16000, "WAV", "PCM_16")
    for content in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{secret}'\n",
    ):
        path = tmp_path / "list.m3u8"
        path.write_text(content)
        with pytest.raises(errors.AudioDecodeError):
            load(path)


def test_unusable_recordings_have_their_own_error(tmp_path, subtests):
    for samples, expected in [
        (np.zeros(0), errors.AudioEmpty),
        (np.zeros(16000), errors.AudioSilent),
        (np.full(16000, 0.1), errors.AudioSilent),
        (tone(440, 0.0249, 16000), errors.AudioTooShort),
        (np.r_[tone(440, 1, 16000), np.nan], errors.AudioNotFinite),
        (np.r_[tone(440, 1, 16000), np.inf], errors.AudioNotFinite),
    ]:
        with subtests.test(error=expected.__name__, end=samples[-1:]):
            path = write_soundfile(tmp_path / "a.wav", samples, 16000, "WAV", "FLOAT")
            with pytest.raises(expected):
                load(path)


def test_a_file_of_no_bytes_is_empty(tmp_path):
    (tmp_path / "a.wav").touch()
    with pytest.raises(errors.AudioEmpty):
        load(tmp_path / "a.wav")


def test_25_ms_is_the_shortest(tmp_path):
    path = write_soundfile(tmp_path / "a.wav", tone(440, 0.025, 16000), 16000, "WAV", "FLOAT")
    assert len(load(path).samples) == 400


def test_a_long_file_is_refused_from_its_header(tmp_path):
    path = write_soundfile(tmp_path / "b.wav", speechlike(3), 16000, "WAV", "PCM_16")
    with pytest.raises(errors.AudioTooLong) as caught:
        load(path, max_duration_s=2)
    assert caught.value.facts == {"duration_s": 3.0, "limit_s": 2}


def test_a_long_stream_without_a_length_is_refused_while_decoding(tmp_path):
    path = write_av(tmp_path / "a.aac", speechlike(5, 48000), 48000, "adts", "aac")
    with pytest.raises(errors.AudioTooLong):
        load(path, max_duration_s=3)
