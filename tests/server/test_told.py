"""A faulty recording is told: the fault is made here, its words are found in the answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import requests
import soundfile
import soxr

from emotion2vec_ui import texts
from tests.conftest import ROOT

EXAMPLE = ROOT / "emotion2vec_ui" / "page" / "assets" / "examples" / "en.wav"


def clipped(speech: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int, str]:
    return np.clip(speech / np.abs(speech).max() * 8, -1, 1), 16000, "PCM_16"


def noisy(speech: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int, str]:
    power = np.mean(speech[np.abs(speech) > 0.01] ** 2)
    return (
        speech + np.sqrt(power / 10 ** (5 / 10)) * rng.standard_normal(len(speech)),
        16000,
        "FLOAT",
    )


def telephone(speech: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int, str]:
    return soxr.resample(speech, 16000, 8000), 8000, "ULAW"


def telephone_resampled_up(
    speech: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, int, str]:
    narrow = soxr.resample(speech, 16000, 8000)
    return soxr.resample(narrow, 8000, 44100), 44100, "PCM_16"


def cut_at_both_ends(speech: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int, str]:
    loud = np.flatnonzero(np.abs(speech) > 0.3 * np.abs(speech).max())
    middle = loud[len(loud) // 2]
    return speech[middle : middle + 16000], 16000, "PCM_16"


def test_a_faulty_recording_is_told(server, tmp_path: Path, subtests: pytest.Subtests):
    for lang in ["zh", "en"]:
        for fault, codes in [
            (clipped, {"clipping"}),
            (noisy, {"snr_unstable"}),
            (telephone, {"bandwidth_telephone", "codec_telephone"}),
            (telephone_resampled_up, {"bandwidth_upsampled"}),
            (cut_at_both_ends, {"onset_cut", "leading_silence_short"}),
        ]:
            with subtests.test(lang=lang, fault=fault.__name__):
                speech, rate = soundfile.read(EXAMPLE)
                assert rate == 16000
                samples, rate, subtype = fault(speech, np.random.default_rng(0))
                path = tmp_path / "a.wav"
                soundfile.write(path, samples, rate, subtype=subtype)
                with path.open("rb") as file:
                    report = requests.post(
                        f"{server.url}/api/predict",
                        files={"audio": file},
                        headers={"Accept-Language": lang},
                        timeout=60,
                    ).json()
                told = {warning["code"]: warning["text"] for warning in report["warnings"]}
                assert codes <= set(told), told
                for code in codes:
                    assert told[code] == texts.text(f"quality.{code}", lang)
                # However sure the model is, the recording limits how far to rely on it.
                verdict = report["quality"]["verdict"]
                assert verdict in ("fair", "poor")
                assert f"quality_{verdict}" in report["reliability"]["caveats"]


def test_the_clean_example_is_not_accused(server):
    with EXAMPLE.open("rb") as file:
        report = requests.post(
            f"{server.url}/api/predict", files={"audio": file}, timeout=60
        ).json()
    faults = {"clipping", "clipping_hidden", "snr_low", "snr_unstable", "bandwidth_telephone"}
    assert not faults & {warning["code"] for warning in report["warnings"]}
