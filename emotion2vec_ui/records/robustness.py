"""The outcome of a robustness test: the same recording recognised under noise and codecs."""

from __future__ import annotations

from dataclasses import dataclass

from emotion2vec_ui.audio.damage import Condition
from emotion2vec_ui.audio.load import Source
from emotion2vec_ui.records.report import Model


@dataclass(frozen=True)
class Outcome:
    """What the model says under one condition.

    Attributes:
        condition: The condition.
        scores: Per label; sums to 1.
        emotion: The leader.
        confidence: The leader's score.
        delta: Change of the *clean* leader's score, -1 to 1.
        flipped: Whether another emotion leads than in the clean clip.
        error: Empty, or why there is no outcome (a codec that this build of FFmpeg lacks);
            `scores` is then empty.
    """

    condition: Condition
    scores: dict[str, float]
    emotion: str
    confidence: float
    delta: float
    flipped: bool
    error: str = ""


@dataclass(frozen=True)
class RobustnessTest:
    """A robustness test of one recording, with what was tested.

    Attributes:
        source: The file as it came.
        model: Which model answered.
        used_s: How much of the recording was used.
        outcomes: One per condition, the clean clip first.
        flip_snr_db: Per noise, the highest SNR at which the leader differs from the clean one;
            None where it never does.
        flipped_codes: Conditions without added noise that flip.
        neutral_rise: Per noise, the mean score of neutral under 10 dB less that of the clean clip.
        seed: Of the noises.
    """

    source: Source
    model: Model
    used_s: float
    outcomes: tuple[Outcome, ...]
    flip_snr_db: dict[str, float | None]
    flipped_codes: tuple[str, ...]
    neutral_rise: dict[str, float]
    seed: int


def to_json(test: RobustnessTest) -> bytes:
    """The test as JSON, its fields in their order."""
    from pydantic_core import to_json as encode

    return encode(test, indent=1)
