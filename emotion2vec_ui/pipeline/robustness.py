"""The article's robustness test (5.3): at which noise and with which codec the answer changes.

Deterministic by seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from emotion2vec_ui.audio.damage import LOW_SNR_BELOW_DB, Condition, conditions, degrade
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records.robustness import Outcome


@dataclass(frozen=True)
class RobustnessReport:
    """All outcomes, the clean clip first.

    Attributes:
        outcomes: One per condition, in the order of `conditions`.
        flip_snr_db: Per noise, the highest SNR at which the leader differs from the clean one;
            None where it never does.
        flipped_codes: Conditions without added noise that flip.
        neutral_rise: Per noise, the mean score of neutral under 10 dB less that of the clean clip.
        seed: Of the noises.
    """

    outcomes: tuple[Outcome, ...]
    flip_snr_db: dict[str, float | None]
    flipped_codes: tuple[str, ...]
    neutral_rise: dict[str, float]
    seed: int


def run(
    samples: np.ndarray, predict: Callable[[list[np.ndarray]], np.ndarray], seed: int = 0
) -> RobustnessReport:
    """Score the clip under every condition.

    Args:
        samples: float32 (n,), mono, 16 kHz.
        predict: Takes clips (float32, 16 kHz) and gives their scores, (clips, 9), in the order of
            `EMOTIONS`, rows summing to 1. Called once with all clips.
        seed: Of the noises.
    """
    clips: list[np.ndarray] = []
    done: list[Condition] = []
    missing: dict[str, str] = {}
    for condition in conditions():
        try:
            clips.append(degrade(samples, condition, seed))
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
    kinds = ("fan", "babble")
    return RobustnessReport(
        outcomes=tuple(outcomes),
        flip_snr_db={kind: _flip_snr_db(outcomes, kind) for kind in kinds},
        flipped_codes=tuple(
            o.condition.code for o in outcomes if o.flipped and o.condition.snr_db is None
        ),
        neutral_rise={kind: _neutral_rise(outcomes, kind) for kind in kinds},
        seed=seed,
    )


def _flip_snr_db(outcomes: Sequence[Outcome], kind: str) -> float | None:
    flips = [o.condition.snr_db for o in outcomes if o.condition.kind == kind and o.flipped]
    return max((f for f in flips if f is not None), default=None)


def _neutral_rise(outcomes: Sequence[Outcome], kind: str) -> float:
    low = [
        o.scores["neutral"]
        for o in outcomes
        if o.condition.kind == kind and (o.condition.snr_db or 0.0) < LOW_SNR_BELOW_DB
    ]
    return float(np.mean(low)) - outcomes[0].scores["neutral"]
