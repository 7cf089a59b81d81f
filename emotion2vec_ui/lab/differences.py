"""What sets some recordings apart from all others, told from what the index knows of each."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records.clusters import Difference
from emotion2vec_ui.records.filters import QUALITIES
from emotion2vec_ui.records.index_file import Row

MIN_EFFECT = 0.5
"""In standard deviations: what Cohen calls a medium effect (Statistical Power Analysis, 1988)."""

MOST = 3
"""Told of one cluster."""

ROUNDING = 1e-9
"""Of the values: equal ones may differ by it in their mean."""

EPOCH = datetime.datetime(1970, 1, 1)


def differences(rows: Sequence[Row], inside: NDArray[np.bool_]) -> list[Difference]:
    """The largest differences between the recordings inside and all others.

    A difference of means is divided by the standard deviation over all recordings, which makes
    shares, seconds and dates comparable. A row that does not tell a figure does not count for it.

    Args:
        rows: all recordings.
        inside: which of them are meant (n,).

    Returns:
        At most `MOST`, of at least `MIN_EFFECT`, largest first.
    """
    found = []
    for code, values in _figures(rows):
        known = np.isfinite(values)
        here, elsewhere = values[known & inside], values[known & ~inside]
        if len(here) == 0 or len(elsewhere) == 0:
            continue
        spread = values[known].std()
        if spread <= ROUNDING * np.abs(values[known]).max():
            continue  # all the same
        mean, other = float(here.mean()), float(elsewhere.mean())
        effect = (mean - other) / float(spread)
        if abs(effect) >= MIN_EFFECT:
            found.append(Difference(code, round(mean, 4), round(other, 4), round(effect, 3)))
    return sorted(found, key=lambda one: -abs(one.effect))[:MOST]


def _figures(rows: Sequence[Row]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Each figure's code with its value for every row, NaN where a row does not tell it."""

    def column(value: Callable[[Row], float | None]) -> NDArray[np.float64]:
        return np.array([value(row) for row in rows], np.float64)

    leaders = np.array([row.emotion for row in rows])
    for emotion in EMOTIONS:
        yield f"emotion.{emotion}", (leaders == emotion).astype(np.float64)
    judged = np.array([row.quality is not None for row in rows])
    verdicts = np.array([row.quality or "" for row in rows])
    for verdict in QUALITIES:
        yield f"quality.{verdict}", np.where(judged, verdicts == verdict, np.nan)
    yield "duration_s", column(lambda row: row.duration_s)
    yield "confidence", column(lambda row: row.confidence)
    yield "familiarity", column(lambda row: row.familiarity)
    yield "time_s", column(lambda row: _seconds(row.timestamp))


def _seconds(timestamp: str) -> float:
    """Of a local time, counted as if there were no summer time."""
    return (datetime.datetime.fromisoformat(timestamp) - EPOCH).total_seconds()
