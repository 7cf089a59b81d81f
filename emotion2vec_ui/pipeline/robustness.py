"""The robustness test: at which noise and with which codec the recognised emotion changes.

The conditions are those of the article (5.3), made by `audio.damage`; the same seed gives the same
report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emotion2vec_ui.audio.damage import (
    LOW_SNR_BELOW_DB,
    NOISES,
    Condition,
    Noise,
    conditions,
    damaged,
)
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records.robustness import Outcome


@dataclass(frozen=True)
class RobustnessReport:
    """The outcomes under all conditions and what follows from them."""

    __pydantic_config__: ClassVar[dict[str, bool]] = {"use_attribute_docstrings": True}

    outcomes: tuple[Outcome, ...]
    """One per condition, the clean clip first, then each noise by falling SNR, then the codecs."""
    flip_snr_db: dict[Noise, float | None]
    """Per noise, the highest SNR in dB at which another emotion leads than in the clean clip; null
    where none does."""
    flipped_codes: tuple[str, ...]
    """Codes of the conditions without added noise under which another emotion leads."""
    neutral_rise: dict[Noise, float]
    """Per noise, the mean score of neutral under 10 dB less that of the clean clip, -1 to 1."""
    seed: int
    """Seed of the noises."""


def run(
    samples: np.ndarray, predict: Callable[[list[np.ndarray]], np.ndarray], seed: int = 0
) -> RobustnessReport:
    """Scores the clip under every condition.

    Args:
        samples: float32 (n,), mono, 16 kHz.
        predict: Takes clips (float32, 16 kHz) and returns their scores, (clips, 9), in the order
            of `EMOTIONS`, rows summing to 1. Called once with all clips.
        seed: Of the noises.

    Raises:
        ValueError: `predict` returned another shape.
    """
    clips: list[np.ndarray] = []
    done: list[Condition] = []
    missing: dict[str, str] = {}
    for condition in conditions():
        try:
            clips.append(damaged(samples, condition, seed))
            done.append(condition)
        except (OSError, ValueError) as error:
            if condition.kind != "codec":
                raise
            missing[condition.code] = str(error) or type(error).__name__
    scores = np.asarray(predict(clips), dtype=np.float64)
    if scores.shape != (len(clips), len(EMOTIONS)):
        raise ValueError(f"predict gave {scores.shape}, expected ({len(clips)}, {len(EMOTIONS)})")

    by_code = {c.code: row for c, row in zip(done, scores, strict=True)}
    clean = by_code["clean"]
    lead = int(clean.argmax())
    outcomes = []
    for condition in conditions():
        if condition.code in missing:
            reason = missing[condition.code]
            outcomes.append(Outcome(condition, {}, "", 0.0, 0.0, False, reason))
            continue
        row = by_code[condition.code]
        top = int(row.argmax())
        outcomes.append(
            Outcome(
                condition=condition,
                scores={e: float(v) for e, v in zip(EMOTIONS, row, strict=True)},
                emotion=EMOTIONS[top],
                confidence=float(row[top]),
                delta=float(row[lead] - clean[lead]),
                flipped=top != lead,
            )
        )
    return RobustnessReport(
        outcomes=tuple(outcomes),
        flip_snr_db={noise: _flip_snr_db(outcomes, noise) for noise in NOISES},
        flipped_codes=tuple(
            o.condition.code for o in outcomes if o.flipped and o.condition.snr_db is None
        ),
        neutral_rise={noise: _neutral_rise(outcomes, noise) for noise in NOISES},
        seed=seed,
    )


def _flip_snr_db(outcomes: Sequence[Outcome], noise: Noise) -> float | None:
    flips = [o.condition.snr_db for o in outcomes if o.condition.kind == noise and o.flipped]
    return max((f for f in flips if f is not None), default=None)


def _neutral_rise(outcomes: Sequence[Outcome], noise: Noise) -> float:
    low = [
        o.scores["neutral"]
        for o in outcomes
        if o.condition.kind == noise and (o.condition.snr_db or 0.0) < LOW_SNR_BELOW_DB
    ]
    return float(np.mean(low)) - outcomes[0].scores["neutral"]
