"""How good a model's answers to labelled recordings are: the figures of speech emotion recognition.

* UAR, unweighted average recall: the mean of the recalls of the classes that the labels have. All
  nine answers are allowed; one that no label has is a wrong one.
* WA, weighted accuracy: the share of right answers. Macro F1: the mean of the classes' F1 scores.
* Intervals are of 95 %, by bootstrap (Efron): whole speakers are drawn with replacement, because
  what varies between test sets is who speaks; without speakers, recordings are.
* The calibration error and its bins are those of `calibration`, of the confidence as it is shown.
* Risk at a coverage: the share of wrong answers among the most confident (El-Yaniv and Wiener, On
  the Foundations of Noise-free Selective Classification, 2010).

The values are audmetric's (https://audeering.github.io/audmetric), lazily imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading import calibration
from emotion2vec_ui.reading.calibration import Bin
from emotion2vec_ui.reading.familiarity import FloatArray

N_BOOTSTRAP = 2000
"""Draws for an interval; with 2,000 the ends of a 95 % interval rest on 50 draws each."""

CHUNK = 250
"""Draws at a time, for memory: 250 x 5,000 speakers take 10 MB."""

INTERVAL = (0.025, 0.975)

RISK_POINTS = 200
"""Of a curve of risk over coverage: what a page has pixels for."""

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A value of 0 to 1 and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassFigures:
    """One class that the labels have.

    Attributes:
        emotion: its name.
        clips: that have it.
        recall: share of them that were answered so.
        precision: share of the answers that were right; None where there was no such answer.
        f1: harmonic mean of both.
    """

    emotion: str
    clips: int
    recall: float
    precision: float | None
    f1: float


@dataclass(frozen=True)
class RiskPoint:
    """The recordings with at least this confidence.

    Attributes:
        confidence: the least of them.
        coverage: their share of all, 0 to 1.
        risk: share of wrong answers among them, 0 to 1.
    """

    confidence: float
    coverage: float
    risk: float


@dataclass(frozen=True)
class Answers:
    """Labelled recordings and what a model answered.

    Attributes:
        truth: int64 (n,), the right label's place in `labels.EMOTIONS`.
        scores: float (n, 9); rows sum to 1.
        speakers: (n,), one name for each; None where they are not all known.
    """

    truth: IntArray
    scores: FloatArray
    speakers: Sequence[str] | None

    @property
    def answer(self) -> IntArray:
        """int64 (n,): the place of the highest score."""
        return self.scores.argmax(1)


@dataclass(frozen=True)
class Figures:
    """How good the answers are.

    Attributes:
        clips: recordings.
        speakers: that were told apart; 0 where intervals are by recording.
        uar, wa, macro_f1: see the module.
        uar_own_classes: the UAR where only the classes that the labels have may be answered.
        classes: those, in the order of `labels.EMOTIONS`.
        confusion: recordings by label (rows, as `classes`) and answer (columns, all nine).
        ece: expected calibration error, 0 to 1.
        bins: of the confidence, those that hold recordings.
        risk: from the most confident recordings to all.
        aurc: area under that curve, 0 to 1: the mean risk over all coverages.
    """

    clips: int
    speakers: int
    uar: Estimate
    wa: Estimate
    macro_f1: Estimate
    uar_own_classes: Estimate
    classes: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, ...], ...]
    ece: float
    bins: tuple[Bin, ...]
    risk: tuple[RiskPoint, ...]
    aurc: float


def figures(answers: Answers, seed: int = 0) -> Figures:
    """All figures of some answers; at least one.

    Args:
        answers: of one model.
        seed: of the bootstrap: the same seed gives the same intervals.
    """
    truth, answer = answers.truth, answers.answer
    own = np.unique(truth)
    within = own[answers.scores[:, own].argmax(1)]
    counts = confusion(truth, answer)
    drawn = _drawn(truth, answer, answers.speakers, seed)
    drawn_within = _drawn(truth, within, answers.speakers, seed)
    classes = _classes(truth, answer)
    top = answers.scores.max(1)
    risk, aurc = _risk(top, answer == truth)
    return Figures(
        clips=len(truth),
        speakers=0 if answers.speakers is None else len(set(answers.speakers)),
        uar=_estimate(uar(truth, answer), _recall_means(drawn)),
        wa=_estimate(_accuracy(truth, answer), _diagonals(drawn).sum(1) / drawn.sum((1, 2))),
        macro_f1=_estimate(float(np.mean([one.f1 for one in classes])), _f1_means(drawn)),
        uar_own_classes=_estimate(uar(truth, within), _recall_means(drawn_within)),
        classes=classes,
        confusion=tuple(tuple(row) for row in counts[own].tolist()),
        ece=calibration.ece(answers.scores, truth),
        bins=calibration.bins(top, answer == truth),
        risk=risk,
        aurc=aurc,
    )


def uar(truth: np.ndarray, answer: np.ndarray) -> float:
    """Unweighted average recall over the classes that occur in `truth`; both are int (n,)."""
    import audmetric

    recalls = audmetric.recall_per_class(truth, answer, _LABELS)
    return float(np.mean([recalls[one] for one in np.unique(truth).tolist()]))


def confusion(truth: np.ndarray, answer: np.ndarray) -> IntArray:
    """Recordings by label (rows) and answer (columns), int64 (9, 9); both are int (n,)."""
    counts = np.zeros((len(EMOTIONS), len(EMOTIONS)), np.int64)
    np.add.at(counts, (truth, answer), 1)
    return counts


# All nine: audmetric drops the recordings whose answer is not among the labels that it is given.
_LABELS = list(range(len(EMOTIONS)))


def _accuracy(truth: np.ndarray, answer: np.ndarray) -> float:
    import audmetric

    return float(audmetric.accuracy(truth, answer))


def _classes(truth: IntArray, answer: IntArray) -> tuple[ClassFigures, ...]:
    import audmetric

    recalls = audmetric.recall_per_class(truth, answer, _LABELS)
    precisions = audmetric.precision_per_class(truth, answer, _LABELS)
    f1 = audmetric.fscore_per_class(truth, answer, _LABELS)
    return tuple(
        ClassFigures(
            emotion=EMOTIONS[one],
            clips=int((truth == one).sum()),
            recall=recalls[one],
            precision=precisions[one] if (answer == one).any() else None,
            f1=f1[one],
        )
        for one in np.unique(truth).tolist()
    )


def _risk(top: FloatArray, right: NDArray[np.bool_]) -> tuple[tuple[RiskPoint, ...], float]:
    """The curve of risk over coverage, at most `RISK_POINTS`, and the area under it.

    Recordings of equal confidence come in together: no threshold can tell them apart.
    """
    order = np.argsort(-top, kind="stable")
    confidence, wrong = top[order], np.cumsum(~right[order])
    count = np.arange(1, len(top) + 1)
    last = np.flatnonzero(np.append(confidence[1:] < confidence[:-1], True))
    coverage, risk = count[last] / len(top), wrong[last] / count[last]
    # Each step of coverage at the risk of its end.
    area = float(np.sum(np.diff(coverage, prepend=0.0) * risk))
    kept = np.unique(np.linspace(0, len(last) - 1, min(RISK_POINTS, len(last))).round().astype(int))
    points = tuple(
        RiskPoint(float(confidence[last[one]]), float(coverage[one]), float(risk[one]))
        for one in kept.tolist()
    )
    return points, area


# --- intervals ------------------------------------------------------------------------------------


def _drawn(
    truth: IntArray, answer: IntArray, speakers: Sequence[str] | None, seed: int
) -> IntArray:
    """Confusion matrices of the bootstrap's draws, int64 (draws, 9, 9)."""
    rng = np.random.default_rng(seed)
    n = len(EMOTIONS)
    if speakers is None:
        # Recordings with the same label and answer are alike to every figure here: drawing them
        # one by one is drawing cells of the matrix by their counts.
        share = confusion(truth, answer).ravel() / len(truth)
        return rng.multinomial(len(truth), share, N_BOOTSTRAP).reshape(-1, n, n)
    _, speaker = np.unique(np.asarray(speakers), return_inverse=True)
    count = int(speaker.max()) + 1
    counts = np.zeros((count, n, n), np.int64)
    np.add.at(counts, (speaker, truth, answer), 1)
    times = [
        rng.multinomial(count, np.full(count, 1 / count), CHUNK) @ counts.reshape(count, -1)
        for _ in range(N_BOOTSTRAP // CHUNK)
    ]
    return np.concatenate(times).reshape(-1, n, n)


def _diagonals(drawn: IntArray) -> IntArray:
    return np.diagonal(drawn, axis1=1, axis2=2)


def _recall_means(drawn: IntArray) -> FloatArray:
    """UAR of each draw, over the classes that it has."""
    clips = drawn.sum(2)
    recalls = _diagonals(drawn) / np.maximum(clips, 1)
    return recalls.sum(1) / (clips > 0).sum(1)


def _f1_means(drawn: IntArray) -> FloatArray:
    """Macro F1 of each draw, over the classes that it has."""
    clips = drawn.sum(2)
    f1 = 2 * _diagonals(drawn) / np.maximum(clips + drawn.sum(1), 1)
    return f1.sum(1) / (clips > 0).sum(1)


def _estimate(value: float, draws: FloatArray) -> Estimate:
    low, high = np.quantile(draws, INTERVAL).tolist()
    return Estimate(value, low, high)
