"""Which recordings stand apart from the others of their model, and why.

Two things make the score. *Neighbours*: the mean Euclidean distance to the nearest other recordings
(Angiulli and Pizzuti, Fast Outlier Detection in High Dimensional Spaces, 2002), found by
scikit-learn. *Norm*: how far the embedding's length is outside the range that was measured for the
model. Poor quality is named beside them and changes no score.

Cosine distances, which say how like two recordings of speech are, do not find what is no speech:
compact gives noises and tones long embeddings of nearly one direction. Nor does the local outlier
factor, to which several noises are each other's usual surroundings. Both were tried
(benchmarks/results/outliers.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.errors import TooFewEmbeddings
from emotion2vec_ui.lab.index import Space, space
from emotion2vec_ui.models import files, norms
from emotion2vec_ui.reading.scoring import ARTICLE_NORM_RANGE, norm_verdict
from emotion2vec_ui.records.index import History
from emotion2vec_ui.settings import COMPACT, Settings

MIN_RECORDINGS = 20
"""Fewer have no neighbourhood to stand apart from; chosen."""

NEIGHBOUR_SHARE = 0.1
"""Of the collection, so many nearest recordings count: fewer that are alike are no crowd. Any share
from 0.05 to 0.5 does as well on the first half of the benchmark."""

MAX_COMPARED = 2000
"""Of a larger collection, each recording is compared with so many, drawn once by a fixed seed: the
time then grows with the number of recordings, not with its square. Chosen."""

APART_FROM = 1.0
"""The score from which a recording counts as an outlier."""

FAR_SPREADS = 3.5
"""Distances so many robust standard deviations above the median have score 1: the limit of Iglewicz
and Hoaglin, How to Detect and Handle Outliers, 1993."""

Reason = Literal["far_from_neighbours", "norm_low", "norm_high", "poor_quality"]

DECIMALS = 4


@dataclass(frozen=True)
class Outlier:
    """A recording that stands apart."""

    folder: str
    """Its result's."""
    name: str
    """Of the recording's file; empty where an old result does not tell."""
    score: float
    """The higher, the further apart; from 1 on it is listed."""
    norm: float
    """L2 norm of its utterance embedding."""
    reasons: tuple[Reason, ...]
    """Why: far_from_neighbours, norm_low, norm_high; and poor_quality where the recording is."""


@dataclass(frozen=True)
class Outliers:
    """How far each recording of a model stands apart."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    model: str
    """Whose embeddings were compared."""
    count: int
    """How many recordings were compared."""
    scores: dict[str, float]
    """Of each result's folder: the higher, the further apart."""
    outliers: tuple[Outlier, ...]
    """Those with a score from 1 on, the worst first."""
    norm_range: tuple[float, float] | None
    """Lowest and highest usual norm, as measured for this model; null where it was not."""
    article_range: tuple[float, float]
    """What the guide of the original WebUI gives; it is of another model than most."""


def find(history: History, settings: Settings, *, model: str | None = None) -> Outliers:
    """Which recordings stand apart.

    Args:
        history: of the results.
        settings: tell where the model's measured range of norms is.
        model: id of the model whose recordings; None for that with most.

    Raises:
        NoEmbeddings: there is nothing to compare.
        TooFewEmbeddings: there is too little.
    """
    found = space(history, model)
    if len(found.rows) < MIN_RECORDINGS:
        raise TooFewEmbeddings(count=len(found.rows), minimum=MIN_RECORDINGS, model=found.model)
    norm_range = _norm_range(found, settings)
    apart, lengths = distances(found.vectors)
    far = far_scores(apart)
    scores = combined(far, lengths, norm_range)
    outliers = []
    for i in np.argsort(-scores, kind="stable"):
        if scores[i] < APART_FROM:
            break
        row = found.rows[i]
        reasons: list[Reason] = []
        if far[i] >= APART_FROM:
            reasons.append("far_from_neighbours")
        verdict = norm_verdict(float(lengths[i]), norm_range)
        if verdict == "low":
            reasons.append("norm_low")
        if verdict == "high":
            reasons.append("norm_high")
        if row.quality == "poor":
            reasons.append("poor_quality")
        score, norm = round(float(scores[i]), DECIMALS), round(float(lengths[i]), DECIMALS)
        outliers.append(Outlier(row.folder, row.name, score, norm, tuple(reasons)))
    return Outliers(
        model=found.model,
        count=len(found.rows),
        scores={
            row.folder: round(score, DECIMALS)
            for row, score in zip(found.rows, scores.tolist(), strict=True)
        },
        outliers=tuple(outliers),
        norm_range=norm_range,
        article_range=ARTICLE_NORM_RANGE,
    )


def distances(vectors: NDArray[np.float16]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far each embedding is from its neighbours, and how long it is.

    Args:
        vectors: (n, dim), n at least `MIN_RECORDINGS`.

    Returns:
        Mean Euclidean distance to the nearest others, (n,); L2 norm, (n,).
    """
    from sklearn.neighbors import NearestNeighbors

    every = vectors.astype(np.float32)
    chosen = np.arange(len(every))
    if len(every) > MAX_COMPARED:
        chosen = np.random.default_rng(0).choice(len(every), MAX_COMPARED, replace=False)
    count = neighbours(len(chosen))
    nearest = NearestNeighbors(n_neighbors=count + 1).fit(every[chosen])
    found, which = nearest.kneighbors(every)
    # A recording is not its own neighbour. Where it is not among those chosen, the last is dropped.
    is_other = chosen[which] != np.arange(len(every))[:, None]
    is_other[:, -1] &= ~is_other.all(axis=1)
    means = np.where(is_other, found, 0.0).sum(axis=1) / count
    return means, np.linalg.norm(every, axis=1).astype(np.float64)


def neighbours(compared: int) -> int:
    """How many nearest recordings count among so many."""
    return max(1, round(NEIGHBOUR_SHARE * compared))


def far_scores(apart: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distances on a scale of their own: 0 up to the median, 1 at `FAR_SPREADS` above it."""
    median = np.median(apart)
    # 1.4826: of a normal distribution, the standard deviation over the median deviation.
    spread = 1.4826 * np.median(np.abs(apart - median))
    return np.asarray(np.maximum(0.0, apart - median) / max(FAR_SPREADS * spread, 1e-9))


def combined(
    far: NDArray[np.float64],
    lengths: NDArray[np.float64],
    norm_range: tuple[float, float] | None,
) -> NDArray[np.float64]:
    """The score: how far from its neighbours, and how far outside the usual norms.

    Args:
        far: (n,), of `far_scores`.
        lengths: (n,), L2 norms.
        norm_range: lowest and highest usual norm; None where it was not measured.
    """
    if norm_range is None:
        return far
    low, high = norm_range
    outside = np.maximum(0.0, np.maximum(low - lengths, lengths - high)) / (high - low)
    return far + outside


def _norm_range(found: Space, settings: Settings) -> tuple[float, float] | None:
    """The range measured for the model of these embeddings, wherever its files are."""
    if found.model != files.wanted_id(settings):
        if found.model != COMPACT and not files.is_hub_id(found.model):
            return None  # of a directory that these settings do not name
        settings = replace(settings, model=found.model)
    location = files.resolve(settings)
    return None if location is None else norms.norm_range(location, found.weights_sha256)
