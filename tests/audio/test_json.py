"""The dataclasses that end up in result.json read back from JSON and describe their fields."""

import dataclasses
import functools

import numpy as np
import pytest
from pydantic import TypeAdapter

from emotion2vec_ui.audio.checks import Check, Quality
from emotion2vec_ui.audio.damage import Condition, conditions
from emotion2vec_ui.audio.levels import Picture
from emotion2vec_ui.audio.load import Clip, Source, load
from emotion2vec_ui.audio.source import SourceFigures
from emotion2vec_ui.pipeline.robustness import Outcome, RobustnessReport, run
from emotion2vec_ui.reading import timeline
from emotion2vec_ui.reading.scoring import Peak, Weighted, softmax, weighted_frames
from emotion2vec_ui.reading.timeline import Curve, Segment
from tests.conftest import ROOT


@functools.cache
def clip() -> Clip:
    return load(ROOT / "emotion2vec_ui" / "page" / "assets" / "examples" / "en.wav")


def frame_logits() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(250, 9)).cumsum(axis=0)


def loudness(clips: list[np.ndarray]) -> np.ndarray:
    """Nine scores that depend on the clip: softmax of the levels of nine parts."""
    return softmax([[np.log(part.std() + 1e-9) for part in np.array_split(x, 9)] for x in clips])


MADE = {
    Source: lambda: clip().source,
    Quality: lambda: clip().quality,
    Check: lambda: clip().quality.checks[0],
    Picture: lambda: clip().quality.picture,
    SourceFigures: lambda: clip().quality.source,
    Weighted: lambda: weighted_frames(softmax(frame_logits())),
    Peak: lambda: weighted_frames(softmax(frame_logits())).peak,
    Segment: lambda: timeline.segments(frame_logits())[0],
    Curve: lambda: timeline.curve(frame_logits(), 40),
    Condition: lambda: conditions()[1],
    Outcome: lambda: run(clip().samples[:16_000], loudness).outcomes[-1],
    RobustnessReport: lambda: run(clip().samples[:16_000], loudness),
}


@pytest.mark.parametrize("made", MADE, ids=lambda one: one.__name__)
def test_it_reads_back_as_it_was(made):
    adapter, value = TypeAdapter(made), MADE[made]()
    assert isinstance(value, made)
    assert adapter.validate_json(adapter.dump_json(value)) == value


@pytest.mark.parametrize("made", MADE, ids=lambda one: one.__name__)
def test_every_field_is_described_to_users_of_the_api(made):
    properties = TypeAdapter(made).json_schema()["properties"]
    assert list(properties) == [field.name for field in dataclasses.fields(made)]
    assert [name for name, schema in properties.items() if not schema.get("description")] == []
