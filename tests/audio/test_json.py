"""The dataclasses that end up in result.json read back from JSON and describe their fields."""

import dataclasses
import functools

import numpy as np
from pydantic import TypeAdapter

from emotion2vec_ui.audio.checks import Check, Quality
from emotion2vec_ui.audio.damage import Condition, conditions
from emotion2vec_ui.audio.levels import Picture
from emotion2vec_ui.audio.load import Clip, Source, load
from emotion2vec_ui.audio.source import SourceFigures
from emotion2vec_ui.reading import timeline
from emotion2vec_ui.reading.scoring import Peak, Weighted, softmax, weighted_frames
from emotion2vec_ui.reading.timeline import Curve, Segment
from emotion2vec_ui.records.robustness import Outcome, RobustnessTest
from emotion2vec_ui.server.schemas import Answer
from tests import past
from tests.conftest import ROOT


@functools.cache
def clip() -> Clip:
    return load(ROOT / "emotion2vec_ui" / "page" / "assets" / "examples" / "en.wav")


def frame_logits() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(250, 9)).cumsum(axis=0)


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
    Outcome: lambda: past.robustness().outcomes[-1],
    RobustnessTest: past.robustness,
}

ROOTS = dict.fromkeys([Condition, Outcome, RobustnessTest], RobustnessTest)
"""The documents that they are part of; of the API's answer where not named."""


def test_it_reads_back_as_it_was(subtests):
    for made in MADE:
        with subtests.test(made=made.__name__):
            adapter, value = TypeAdapter(made), MADE[made]()
            assert isinstance(value, made)
            assert adapter.validate_json(adapter.dump_json(value)) == value


def test_every_field_is_described_to_users_of_the_api(subtests):
    for made in MADE:
        with subtests.test(made=made.__name__):
            whole = TypeAdapter(ROOTS.get(made, Answer)).json_schema()
            properties = (whole["$defs"] | {RobustnessTest.__name__: whole})[made.__name__][
                "properties"
            ]
            assert list(properties) == [field.name for field in dataclasses.fields(made)]
            # A field described in the words of its own class has the class's description.
            described = {
                name for name, schema in properties.items() if {"description", "$ref"} & set(schema)
            }
            assert described == set(properties)
