"""The report of one recognition, by a real model on a real recording."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emotion2vec_ui.audio.load import load
from emotion2vec_ui.models.holder import ModelHolder
from emotion2vec_ui.pipeline.recogniser import Recogniser
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
