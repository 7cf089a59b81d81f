"""Files are decoded in order, one ahead; each gives what it gives by itself."""

import time

import numpy as np
import pytest

from benchmarks.synthetic_audio import speechlike, write_soundfile
from emotion2vec_ui.audio.load import load
from emotion2vec_ui.audio.prefetching import Prefetcher
from emotion2vec_ui.errors import AudioDecodeError, AudioTooLong, AudioUnreadable


def test_each_file_gives_what_it_gives_alone(tmp_path):
    paths = [
        write_soundfile(tmp_path / f"{n}.wav", speechlike(n), 16_000, "WAV", "PCM_16")
        for n in (1, 2, 4)
    ]
    bad = tmp_path / "notes.wav"
    bad.write_text("no sound")
    asked = [paths[0], bad, tmp_path / "absent.wav", paths[2], paths[1], paths[0]]
    errors = {
        bad: AudioDecodeError,
        tmp_path / "absent.wav": AudioUnreadable,
        paths[2]: AudioTooLong,
    }
    decode = Prefetcher(asked, max_duration_s=3.0)
    for path in asked:
        if path in errors:
            with pytest.raises(errors[path]):
                decode(path, path.name)
            continue
        clip, alone = decode(path, path.name), load(path)
        np.testing.assert_array_equal(clip.samples, alone.samples)
        assert (clip.source, clip.quality) == (alone.source, alone.quality)
    decode.stop()


def test_the_next_file_is_read_before_it_is_asked_for(tmp_path):
    paths = [
        write_soundfile(tmp_path / f"{n}.wav", speechlike(2, seed=n), 16_000, "WAV", "PCM_16")
        for n in range(3)
    ]
    decode = Prefetcher(paths, max_duration_s=60.0)
    decode(paths[0], paths[0].name)
    deadline = time.monotonic() + 60
    while not decode._coming[1].done():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    paths[1].unlink()
    assert decode(paths[1], paths[1].name).duration_s == pytest.approx(2)
    decode.stop()
