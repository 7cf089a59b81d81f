"""Fits a head of sub-classes to embeddings, and judges it on speakers that it was not fitted on.

All figures of a card come from nested cross-validation: the outer folds hold speakers back; the
regularisation and the temperature are chosen inside each fold, by folds that hold other speakers
back. Each sub-class weighs the same everywhere: how many samples of each somebody collected says
nothing about how often they occur.

The samples are standardised, then rotated into the space that they span (at most as many
directions as samples). A logistic regression with an L2 penalty, the nearest centroid and all
distances are the same there, for a fraction of the time where an embedding is wider than there are
samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.reading import calibration, familiarity
from emotion2vec_ui.reading.scoring import softmax
from emotion2vec_ui.reading.subclass_head import Head
from emotion2vec_ui.records.subclasses import Bin, CurvePoint, Judged, MoreSamples

FOLDS = 5
INNER_FOLDS = 4

REGULARISATIONS: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""C of scikit-learn's LogisticRegression. Standardised embeddings of 512 and 1024 numbers are
separable by any C above 1 where there are some hundred samples."""

NONE_QUANTILE = 0.95
"""Of the samples' distances to those of other speakers: by definition one in twenty recordings of a
new speaker and a trained kind is told to be none of them. Chosen."""

CURVE_SHARES = (0.125, 0.25, 0.5, 1.0)
CURVE_REPEATS = 3
"""Draws of each share below 1, which are averaged."""

GAIN_WORTH = 0.02
"""A rise of the UAR by doubling the samples that is worth collecting them. Chosen."""

RELIABILITY_BINS = 10
BOOTSTRAPS = 2000
CONFIDENCE = 0.95

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Fitted:
    """A head and how well its kind does on speakers that it was not fitted on.

    Attributes:
        head: fitted on all samples.
        regularisation: its C.
        judged: UAR of such heads.
        others: the same of `lda` and `nearest_centroid`, on the same folds.
        confusion: int64 (classes, classes): rows truth, columns answer.
        ece: expected calibration error of the leading share.
        reliability: the diagram behind it.
        curve: UAR by number of samples.
        more_samples: what the curve says.
    """

    head: Head
    regularisation: float
    judged: Judged
    others: dict[str, Judged]
    confusion: Labels
    ece: float
    reliability: tuple[Bin, ...]
    curve: tuple[CurvePoint, ...]
    more_samples: MoreSamples


def fit(
    embeddings: np.ndarray,
    truth: Labels,
    speakers: np.ndarray,
    classes: Sequence[str],
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    seed: int = 0,
) -> Fitted:
    """Fits and judges a head.

    Args:
        embeddings: float (n, dim), all finite.
        truth: int64 (n,), place in `classes` of each.
        speakers: (n,), who speaks; at least three of each class.
        classes: names of the sub-classes.
        on_progress: called with the number of steps done and of all.
        seed: of the draws.
    """
    # Of hundreds of small fits on busy cores: OpenBLAS's threads wait for each other there, and all
    # took 14 times as long.
    with _one_blas_thread():
        return _fit(embeddings, truth, speakers, classes, on_progress, seed)


def _fit(
    embeddings: np.ndarray,
    truth: Labels,
    speakers: np.ndarray,
    classes: Sequence[str],
    on_progress: Callable[[int, int], None],
    seed: int,
) -> Fitted:
    n_classes = len(classes)
    folds = _folds(truth, speakers, FOLDS)
    steps = len(folds) + 2
    logits = np.zeros((len(truth), n_classes))
    answers = {name: np.zeros_like(truth) for name in ("lda", "nearest_centroid")}
    curve = _Curve(truth, speakers, n_classes, np.random.default_rng(seed))
    for done, (train, test) in enumerate(folds):
        on_progress(done, steps)
        space = _Space(embeddings[train])
        inside, outside = space.rotate(embeddings[train]), space.rotate(embeddings[test])
        penalty, temperature = _tune(inside, truth[train], speakers[train])
        logits[test] = _logits(inside, truth[train], outside, penalty) / temperature
        for name, answer in answers.items():
            answer[test] = _other(name, n_classes).fit(inside, truth[train]).predict(outside)
        curve.add(inside, truth[train], outside, test, penalty, logits[test].argmax(1))
    on_progress(len(folds), steps)
    head, penalty = head_of(embeddings, truth, speakers, classes, seed)
    on_progress(len(folds) + 1, steps)
    shares = softmax(logits)
    guess = shares.argmax(1)
    bins, ece = reliability(shares, truth)
    points, verdict = curve.read()
    fitted = Fitted(
        head=head,
        regularisation=penalty,
        judged=judge(truth, guess, speakers, n_classes),
        others={
            name: judge(truth, answer, speakers, n_classes) for name, answer in answers.items()
        },
        confusion=by_speaker(truth, guess, np.zeros_like(truth), n_classes)[0],
        ece=ece,
        reliability=bins,
        curve=points,
        more_samples=verdict,
    )
    on_progress(steps, steps)
    return fitted


def _one_blas_thread() -> AbstractContextManager[Any]:
    # What is not loaded yet cannot be limited.
    import scipy.linalg  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    from threadpoolctl import ThreadpoolController  # comes with scikit-learn

    limited: AbstractContextManager[Any] = (
        ThreadpoolController().select(internal_api="openblas").limit(limits=1)
    )
    return limited


# --- fitting --------------------------------------------------------------------------------------


class _Space:
    """Standardises embeddings, and rotates them into the space that these span.

    Args:
        embeddings: float (n, dim).
    """

    def __init__(self, embeddings: np.ndarray) -> None:
        from scipy.linalg import svd

        given = np.asarray(embeddings, np.float64)
        self.mean = given.mean(axis=0)
        spread = given.std(axis=0)
        # A number that never changes says nothing; it stays 0.
        self.scale = np.where(spread > 1e-12, spread, 1.0)
        _, _, self.directions = svd((given - self.mean) / self.scale, full_matrices=False)

    def rotate(self, embeddings: np.ndarray) -> Array:
        """Coordinates (n, at most dim) in that space; what lies outside it is dropped."""
        standardised = (np.asarray(embeddings, np.float64) - self.mean) / self.scale
        rotated: Array = standardised @ self.directions.T
        return rotated


def _folds(truth: Labels, groups: np.ndarray, n: int) -> list[tuple[Labels, Labels]]:
    """Indices to train and to test on; no speaker in both, every class in every training part."""
    from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold

    n_classes = len(np.unique(truth))
    rows = np.zeros((len(truth), 1))
    n_groups = len(np.unique(groups))
    # Each class must reach every training part: not sure where one has fewer speakers than folds.
    fewest = min(len(np.unique(groups[truth == one])) for one in np.unique(truth))
    if fewest >= n:
        splitter = StratifiedGroupKFold(min(n, n_groups), shuffle=True, random_state=0)
        folds = list(splitter.split(rows, truth, groups))
        if all(len(np.unique(truth[train])) == n_classes for train, _ in folds):
            return folds
    return list(LeaveOneGroupOut().split(rows, truth, groups))


def _tune(given: Array, truth: Labels, groups: np.ndarray) -> tuple[float, float]:
    """C and temperature of least log loss on speakers that were not fitted on."""
    folds = _folds(truth, groups, INNER_FOLDS)
    weights = _weights(truth)
    found = []
    for penalty in REGULARISATIONS:
        logits = np.zeros((len(truth), len(np.unique(truth))))
        for train, test in folds:
            logits[test] = _logits(given[train], truth[train], given[test], penalty)
        temperature, loss = _temper(logits, truth, weights)
        found.append((loss, penalty, temperature))
    _, penalty, temperature = min(found)
    return penalty, temperature


def _temper(logits: Array, truth: Labels, weights: Array) -> tuple[float, float]:
    """Temperature of least weighted log loss, and that loss."""
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(truth))

    def loss(log_temperature: float) -> float:
        right = softmax(logits / np.exp(log_temperature))[rows, truth]
        return float(np.average(-np.log(right + 1e-12), weights=weights))

    bounds = np.log([calibration.MIN_TEMPERATURE, calibration.MAX_TEMPERATURE])
    found = minimize_scalar(loss, bounds=bounds, method="bounded")
    return float(np.exp(found.x)), float(found.fun)


def _regression(given: Array, truth: Labels, penalty: float) -> tuple[Array, Array]:
    """Weights (classes, dim) and bias (classes,) of a logistic regression; classes weigh alike."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=penalty, class_weight="balanced", max_iter=2000)
    model.fit(given, truth)
    weights, bias = model.coef_, model.intercept_
    if len(weights) == 1:  # of two classes it keeps the difference only
        weights, bias = np.vstack([0 * weights, weights]), np.array([0.0, bias[0]])
    return weights, bias


def _logits(given: Array, truth: Labels, asked: Array, penalty: float) -> Array:
    weights, bias = _regression(given, truth, penalty)
    logits: Array = asked @ weights.T + bias
    return logits


def head_of(
    embeddings: np.ndarray,
    truth: Labels,
    speakers: np.ndarray,
    classes: Sequence[str],
    seed: int = 0,
) -> tuple[Head, float]:
    """The head of all samples, and its C; arguments as of `fit`."""
    space = _Space(embeddings)
    inside = space.rotate(embeddings)
    penalty, temperature = _tune(inside, truth, speakers)
    weights, bias = _regression(inside, truth, penalty)
    unit = familiarity.unit_rows(embeddings)
    drawn = np.random.default_rng(seed).permutation(len(unit))[: calibration.MAX_REFERENCES]
    drawn.sort()
    samples, said_by = unit[drawn], speakers[drawn]
    # Not more than there are samples of others for the speaker with the most.
    others = len(drawn) - int(np.unique(said_by, return_counts=True)[1].max())
    neighbours = min(calibration.NEIGHBOURS, others)
    distances = np.concatenate(
        [
            _distances(unit[speakers == one], samples[said_by != one], neighbours)
            for one in np.unique(speakers)
        ]
    )
    head = Head(
        classes=tuple(classes),
        mean=space.mean.astype(np.float32),
        scale=space.scale.astype(np.float32),
        weights=(weights @ space.directions).astype(np.float32),
        bias=bias.astype(np.float32),
        temperature=temperature,
        samples=samples,
        neighbours=neighbours,
        none_above=float(np.quantile(distances, NONE_QUANTILE)),
    )
    return head, penalty


def _distances(unit: np.ndarray, others: np.ndarray, neighbours: int) -> Array:
    """Cosine distance of each row to the k-th nearest of `others`."""
    return np.array([familiarity.kth_distance(one, others, neighbours) for one in unit])


def _other(name: str, n_classes: int) -> Any:
    """What logistic regression is compared with."""
    from sklearn.covariance import LedoitWolf
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.neighbors import NearestCentroid

    if name == "nearest_centroid":
        return NearestCentroid()
    return LinearDiscriminantAnalysis(
        solver="lsqr",
        covariance_estimator=LedoitWolf(),
        priors=np.full(n_classes, 1 / n_classes),
    )


# --- judging --------------------------------------------------------------------------------------


def _weights(truth: Labels) -> Array:
    """Weights (n,) by which each class has the same sum."""
    counts = np.bincount(truth)
    weights: Array = len(truth) / (np.count_nonzero(counts) * counts[truth])
    return weights


def by_speaker(truth: Labels, guess: Labels, speakers: np.ndarray, n_classes: int) -> Labels:
    """Confusion of each speaker: int64 (speakers, classes, classes), rows truth."""
    names, who = np.unique(speakers, return_inverse=True)
    tables = np.zeros((len(names), n_classes, n_classes), np.int64)
    np.add.at(tables, (who, truth, guess), 1)
    return tables


def uar(tables: np.ndarray) -> Array:
    """Unweighted average recall of confusions (..., classes, classes); of classes that occur."""
    asked = tables.sum(axis=-1)
    right = np.diagonal(tables, axis1=-2, axis2=-1)
    recalls = np.divide(right, asked, out=np.full(asked.shape, np.nan), where=asked > 0)
    mean: Array = np.nanmean(recalls, axis=-1)
    return mean


def judge(truth: Labels, guess: Labels, speakers: np.ndarray, n_classes: int) -> Judged:
    """UAR with its 95 % interval: whole speakers are drawn with replacement.

    What varies between two tests is who speaks; recordings of one speaker are not independent.
    """
    tables = by_speaker(truth, guess, speakers, n_classes)
    drawn = uar(np.tensordot(_draws(len(tables)), tables, axes=1))
    return Judged(float(uar(tables.sum(axis=0))), interval(drawn, len(tables)))


def interval(drawn: Array, n_speakers: int) -> tuple[float, float]:
    """The 95 % interval of what was drawn by whole speakers.

    Percentiles alone are too narrow where speakers are few. They are taken as far out as Student's
    t with the unbiased variance would (expanded percentile interval: Hesterberg, What Teachers
    Should Know About the Bootstrap, The American Statistician 69(4), 2015).
    """
    from scipy.stats import norm, t

    deviations = t.ppf((1 + CONFIDENCE) / 2, n_speakers - 1)
    rank = norm.cdf(-deviations * np.sqrt(n_speakers / (n_speakers - 1)))
    low, high = np.quantile(drawn, [rank, 1 - rank]).tolist()
    return low, high


def _draws(n_speakers: int) -> Labels:
    """How often each speaker is drawn: int64 (BOOTSTRAPS, n_speakers)."""
    rng = np.random.default_rng(0)
    counts: Labels = rng.multinomial(n_speakers, np.full(n_speakers, 1 / n_speakers), BOOTSTRAPS)
    return counts


def reliability(shares: Array, truth: Labels) -> tuple[tuple[Bin, ...], float]:
    """The reliability diagram of the leading share, and the expected calibration error.

    Bins are of equal width, from the least share that can lead to 1; classes weigh alike.
    """
    weights = _weights(truth)
    least = 1 / shares.shape[1]
    top, right = shares.max(1), shares.argmax(1) == truth
    edges = np.linspace(least, 1, RELIABILITY_BINS + 1)
    place = np.clip(np.searchsorted(edges, top, side="right") - 1, 0, RELIABILITY_BINS - 1)
    bins, ece = [], 0.0
    for one in np.unique(place):
        inside = place == one
        share = float(np.average(top[inside], weights=weights[inside]))
        rate = float(np.average(right[inside], weights=weights[inside]))
        low, high = edges[one : one + 2].tolist()
        bins.append(Bin(low, high, int(inside.sum()), share, rate))
        ece += float(weights[inside].sum() / weights.sum()) * abs(share - rate)
    return tuple(bins), ece


class _Curve:
    """Heads trained on parts of the samples of each fold, judged on that fold's speakers.

    Args:
        truth, speakers: of all samples.
        n_classes: how many sub-classes.
        rng: of the draws.
    """

    def __init__(
        self, truth: Labels, speakers: np.ndarray, n_classes: int, rng: np.random.Generator
    ) -> None:
        self._truth, self._speakers, self._n_classes, self._rng = truth, speakers, n_classes, rng
        self._guesses = {
            share: np.zeros((1 if share == 1 else CURVE_REPEATS, len(truth)), np.int64)
            for share in CURVE_SHARES
        }
        self._sizes: dict[float, list[int]] = {share: [] for share in CURVE_SHARES}

    def add(
        self,
        inside: Array,
        truth: Labels,
        outside: Array,
        test: Labels,
        penalty: float,
        of_all: Labels,
    ) -> None:
        """Adds one fold: its training part, its test part and what a head of all answered."""
        for share, guesses in self._guesses.items():
            if share == 1:
                guesses[0, test] = of_all
                self._sizes[share].append(len(truth))
                continue
            for repeat in guesses:
                use = self._part(truth, share)
                self._sizes[share].append(len(use))
                repeat[test] = _logits(inside[use], truth[use], outside, penalty).argmax(1)

    def _part(self, truth: Labels, share: float) -> Labels:
        """A share of each class, at least two of it."""
        parts = []
        for one in np.unique(truth):
            members = self._rng.permutation(np.flatnonzero(truth == one))
            parts.append(members[: max(2, round(share * len(members)))])
        return np.sort(np.concatenate(parts))

    def read(self) -> tuple[tuple[CurvePoint, ...], MoreSamples]:
        """The curve, and whether twice the samples would help, by what the last doubling did."""
        tables = {
            share: [
                by_speaker(self._truth, guess, self._speakers, self._n_classes) for guess in guesses
            ]
            for share, guesses in self._guesses.items()
        }
        points = tuple(
            CurvePoint(
                samples=round(float(np.mean(self._sizes[share]))),
                uar=float(np.mean([uar(one.sum(axis=0)) for one in of_share])),
            )
            for share, of_share in tables.items()
        )
        n_speakers = len(np.unique(self._speakers))
        draws = _draws(n_speakers)

        def drawn(share: float) -> Array:
            values = [uar(np.tensordot(draws, one, axes=1)) for one in tables[share]]
            return np.mean(values, axis=0)

        low, high = interval(drawn(1.0) - drawn(0.5), n_speakers)
        if low > 0:
            return points, "would_help"
        return points, "would_not_help" if high < GAIN_WORTH else "unclear"
