"""The outcome of a robustness test: the same recording recognised under noise and codecs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emotion2vec_ui.audio.damage import Condition, Noise
from emotion2vec_ui.audio.load import Source
from emotion2vec_ui.records.report import Model


@dataclass(frozen=True)
class Outcome:
    """What the model says under one condition."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    condition: Condition
    """What was done to the recording."""
    scores: dict[str, float]
    """The nine scores by name, summing to 1."""
    emotion: str
    """The leader, one of the nine keys."""
    confidence: float
    """The leader's score, 0 to 1."""
    delta: float
    """Change of the clean recording's leader's score, -1 to 1."""
    flipped: bool
    """Whether another emotion leads than in the clean recording."""
    error: str = ""
    """Empty, or why there is no outcome (a codec that this build of FFmpeg lacks); `scores` is
    then empty."""


@dataclass(frozen=True)
class RobustnessTest:
    """A robustness test of one recording, with what was tested."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    source: Source
    """The file as it came."""
    model: Model
    """Which model answered."""
    used_s: float
    """How much of the recording was used, in s."""
    outcomes: tuple[Outcome, ...]
    """One per condition, the clean clip first."""
    flip_snr_db: dict[Noise, float | None]
    """For each noise, the highest SNR in dB at which another emotion leads, or null."""
    flipped_codes: tuple[str, ...]
    """Codes of conditions without added noise under which another emotion leads."""
    neutral_rise: dict[Noise, float]
    """For each noise, the mean score of neutral below 10 dB less that of the clean recording."""
    seed: int
    """Of the noises: the same seed gives the same figures."""


def to_json(test: RobustnessTest) -> bytes:
    """The test as JSON, its fields in their order."""
    from pydantic_core import to_json as encode

    return encode(test, indent=1)
