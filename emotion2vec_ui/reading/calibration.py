"""Fits what `familiarity` needs of a model to labelled recordings: temperature, growth, distances.

No recording is judged by itself: distances are to recordings of other groups (speakers, where they
are known), and the calibration error is that of groups which the temperature was not fitted on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.reading import familiarity
from emotion2vec_ui.reading.familiarity import FloatArray, Reference
from emotion2vec_ui.reading.scoring import softmax

NEIGHBOURS = 10
"""Of the distance to the nearest references; measured best for the built-in model
(training/README.md)."""

MAX_TEMPERATURE = 20.0
MIN_TEMPERATURE = 0.3
MAX_SLOPE = 5.0

MAX_REFERENCES = 1500
"""References kept, drawn at random: more cost time with every recording."""

RANKS = np.linspace(0, 1, 101)
"""Of the distances that are kept."""

FOLDS = 5
ECE_BINS = 15


@dataclass(frozen=True)
class Answers:
    """A model's answers to labelled recordings.

    Attributes:
        logits: float (n, labels), as the model gives them.
        embeddings: float (n, dim).
        truth: int64 (n,), the right label's place.
        groups: (n,), recordings of one group are never compared with each other; at least two.
    """

    logits: np.ndarray
    embeddings: np.ndarray
    truth: NDArray[np.int64]
    groups: np.ndarray


@dataclass(frozen=True)
class Fitted:
    """A reference, and what it changes for groups that it was not fitted on.

    Attributes:
        reference: fitted on all answers.
        ece_before: expected calibration error of the model's own scores.
        ece_after: the same after tempering.
    """

    reference: Reference
    ece_before: float
    ece_after: float


def fit(answers: Answers, weights_sha256: str, seed: int = 0) -> Fitted:
    """Fits a reference.

    Args:
        answers: of the model that it is for.
        weights_sha256: hex, of that model's checkpoint.
        seed: of the draw of references.
    """
    unit = familiarity.unit_rows(answers.embeddings)
    drawn = np.random.default_rng(seed).permutation(len(unit))[:MAX_REFERENCES]
    norms = np.linalg.norm(answers.embeddings, axis=1)
    low, high = np.quantile(norms, [0.025, 0.975]).tolist()
    blank = Reference(
        embeddings=unit[np.sort(drawn)],
        neighbours=NEIGHBOURS,
        quantiles=np.array([0.0, 1.0]),
        temperature=1.0,
        slope=0.0,
        max_temperature=MAX_TEMPERATURE,
        norm_range=(low, high),
        weights_sha256=weights_sha256,
    )
    distances = np.empty(len(unit))
    for train, test in _folds(answers.groups):
        others = replace(blank, embeddings=unit[np.intersect1d(drawn, train)])
        distances[test] = [familiarity.distance(one, others) for one in unit[test]]
    tempered = np.empty_like(answers.logits, np.float64)
    for train, test in _folds(answers.groups):
        part = _tempered_by(blank, answers, distances, train)
        heat = familiarity.temperatures(distances[test], part)
        tempered[test] = answers.logits[test] / heat[:, None]
    return Fitted(
        reference=_tempered_by(blank, answers, distances, np.arange(len(unit))),
        ece_before=ece(softmax(answers.logits), answers.truth),
        ece_after=ece(softmax(tempered), answers.truth),
    )


def _folds(groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import GroupKFold

    splitter = GroupKFold(min(FOLDS, len(np.unique(groups))))
    yield from splitter.split(groups, groups=groups)


def _tempered_by(
    blank: Reference, answers: Answers, distances: FloatArray, use: np.ndarray
) -> Reference:
    """`blank` with distances, temperature and slope of the answers `use`: least log loss."""
    from scipy.optimize import minimize

    known = replace(blank, quantiles=np.quantile(distances[use], RANKS))
    logits, truth = answers.logits[use].astype(np.float64), answers.truth[use]

    def log_loss(log_temperature_and_slope: FloatArray) -> float:
        log_temperature, slope = log_temperature_and_slope.tolist()
        hot = replace(known, temperature=float(np.exp(log_temperature)), slope=slope)
        scores = softmax(logits / familiarity.temperatures(distances[use], hot)[:, None])
        return float(-np.log(scores[np.arange(len(truth)), truth] + 1e-12).mean())

    bounds = [(np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)), (0.0, MAX_SLOPE)]
    found = minimize(log_loss, np.array([0.0, 0.1]), bounds=bounds, method="L-BFGS-B")
    log_temperature, slope = found.x.tolist()
    return replace(known, temperature=float(np.exp(log_temperature)), slope=slope)


def ece(scores: np.ndarray, truth: np.ndarray) -> float:
    """Expected calibration error with 15 equal bins of the top score; scores (n, labels)."""
    found = bins(scores.max(1), scores.argmax(1) == truth)
    gaps = [one.count / len(truth) * abs(one.confidence - one.accuracy) for one in found]
    return float(sum(gaps))


@dataclass(frozen=True)
class Bin:
    """Recordings of about one confidence.

    Attributes:
        low, high: of the confidence, 0 to 1; a value at the edge belongs to the higher bin.
        count: recordings.
        confidence: their mean.
        accuracy: share of right answers among them.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def bins(top: np.ndarray, right: np.ndarray) -> tuple[Bin, ...]:
    """The bins of the calibration error that hold recordings, rising.

    Args:
        top: float (n,), the confidence, 0 to 1.
        right: bool (n,), whether the answer was right.
    """
    place = np.minimum((top * ECE_BINS).astype(int), ECE_BINS - 1)
    return tuple(
        Bin(
            low=one / ECE_BINS,
            high=(one + 1) / ECE_BINS,
            count=int((place == one).sum()),
            confidence=float(top[place == one].mean()),
            accuracy=float(right[place == one].mean()),
        )
        for one in np.unique(place).tolist()
    )
