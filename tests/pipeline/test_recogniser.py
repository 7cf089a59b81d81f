"""The report of one recognition, by a real model on a real recording."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.synthetic_audio import write_soundfile
from emotion2vec_ui.audio.load import load
from emotion2vec_ui.models.holder import ModelHolder
from emotion2vec_ui.pipeline.recogniser import Recogniser
from emotion2vec_ui.reading.familiarity import UNFAMILIAR_BELOW
from emotion2vec_ui.records.report import Report
from emotion2vec_ui.settings import Settings
from tests.past import EXAMPLE


@pytest.fixture
def recogniser(tmp_path: Path) -> Iterator[Callable[[str], Recogniser]]:
    """Makes recognisers by the value of --model, and stops them."""
    made: list[Recogniser] = []

    def make(model: str) -> Recogniser:
        settings = Settings(model=model, device="cpu", outputs=tmp_path / "outputs")
        holder = ModelHolder(settings)
        holder.start()
        made.append(Recogniser(settings, holder, lambda path, name: load(path, name=name)))
        return made[-1]

    yield make
    for one in made:
        one.stop(10)


def analyse(recogniser: Recogniser, **options: Any) -> Report:
    return recogniser.analyse(EXAMPLE, save=False, **options).report


def test_only_the_built_in_model_has_its_caveat(recogniser, tiny_dir, tmp_path):
    """Whatever the directory of another model is called."""
    place = shutil.copytree(tiny_dir, tmp_path / "compact-x")
    other = analyse(recogniser(str(place)))
    assert other.model.id == "compact-x"
    assert "compact_model" not in other.reliability.caveats
    built_in = analyse(recogniser("compact"))
    assert "compact_model" in built_in.reliability.caveats


def test_the_built_in_models_embedding_norm_is_judged_by_its_card(recogniser):
    embedding = analyse(recogniser("compact"), extract_embedding=True).embedding
    low, high = embedding.norm_range
    side = (embedding.norm >= low) + (embedding.norm > high)
    assert embedding.norm_verdict == ("low", "normal", "high")[side]


def test_speech_unlike_the_training_speech_is_told_so(recogniser, tmp_path):
    """The example is a synthetic voice: the built-in model never heard one."""
    report = analyse(recogniser("compact"))
    assert report.reliability.familiarity < UNFAMILIAR_BELOW
    assert report.reliability.advice_code == "treat_as_guess_ask_large_model"
    assert report.confidence < 0.5
    assert report.warnings[0].code == "unfamiliar" and report.warnings[0].text


def test_what_the_model_learnt_is_familiar(recogniser, tmp_path):
    """Noise is taught, as unknown."""
    noise = (0.1 * np.random.default_rng(0).standard_normal(48_000)).astype(np.float32)
    path = write_soundfile(tmp_path / "noise.wav", noise, 16_000, "WAV", "PCM_16")
    report = recogniser("compact").analyse(path, save=False).report
    assert report.emotion == "unknown" and report.reliability.familiarity > 0.9
    assert "unfamiliar" not in [one.code for one in report.warnings]


def test_the_built_in_models_confidence_is_calibrated_already(recogniser):
    for granularity in ("utterance", "frame"):
        report = analyse(recogniser("compact"), granularity=granularity)
        assert report.reliability.calibrated_confidence == pytest.approx(
            report.confidence, abs=1e-6
        )


def test_without_a_reference_nothing_is_pretended(recogniser, tiny_dir):
    reliability = analyse(recogniser(str(tiny_dir))).reliability
    assert reliability.familiarity is reliability.calibrated_confidence is None
    assert "unfamiliar" not in reliability.caveats
