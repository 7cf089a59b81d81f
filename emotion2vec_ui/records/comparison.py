"""Several results side by side: differences of their scores, similarity of their embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emotion2vec_ui.errors import BadField
from emotion2vec_ui.records import store
from emotion2vec_ui.records.index import History
from emotion2vec_ui.records.index_file import Row, row_of
from emotion2vec_ui.records.report import Report

MIN_COMPARED, MAX_COMPARED = 2, 8


@dataclass(frozen=True)
class Compared:
    """One result in a comparison.

    Attributes:
        row: as in the index.
        report: its report.
        scores: the nine, of the whole recording.
        differences: the same less those of the first result.
    """

    row: Row
    report: Report
    scores: dict[str, float]
    differences: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """Results side by side; the first is what the others are compared with.

    Attributes:
        results: in the order asked for.
        distances: total variation between the first's scores and each: 0 (equal) to 1 (disjoint).
        similarity: cosine of the embeddings, one row and column per result; None where one of the
            two has none, or they come from different models.
        caveats: "models_differ" (scores and embeddings of two models are not on one scale),
            "qualities_differ", "same_recording", "granularities_differ".
    """

    results: list[Compared]
    distances: list[float]
    similarity: list[list[float | None]]
    caveats: list[str]


def compare(history: History, folders: Sequence[str]) -> Comparison:
    """Several results side by side.

    Raises:
        BadField: fewer than 2 or more than 8 different folders.
        ResultNotFound: one of them is not there.
    """
    names = list(dict.fromkeys(folders))
    if not MIN_COMPARED <= len(names) <= MAX_COMPARED:
        allowed = f"{MIN_COMPARED}-{MAX_COMPARED} different results"
        raise BadField(field="folder", value=str(len(names)), allowed=allowed)
    reports = [history.get(name) for name in names]
    rows = [row_of(name, one) for name, one in zip(names, reports, strict=True)]
    first = rows[0].scores
    compared = [
        Compared(
            row,
            report,
            row.scores,
            {key: round(row.scores[key] - first[key], 6) for key in first},
        )
        for row, report in zip(rows, reports, strict=True)
    ]
    distances = [
        round(sum(abs(value) for value in one.differences.values()) / 2, 6) for one in compared
    ]
    vectors = [store.utterance_embedding(history.outputs / name) for name in names]
    return Comparison(compared, distances, _similarity(rows, vectors), _caveats(rows))


def _similarity(
    rows: Sequence[Row], vectors: Sequence[np.ndarray | None]
) -> list[list[float | None]]:
    def cosine(i: int, j: int) -> float | None:
        a, b = vectors[i], vectors[j]
        if a is None or b is None or rows[i].model != rows[j].model or a.shape != b.shape:
            return None
        a, b = a.astype(np.float64), b.astype(np.float64)
        lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
        return round(float(a @ b) / lengths, 6) if lengths > 0 else None

    return [[cosine(i, j) for j in range(len(rows))] for i in range(len(rows))]


def _caveats(rows: Sequence[Row]) -> list[str]:
    def distinct(values: Iterator[Any]) -> int:
        return len(set(values))

    found = []
    if distinct(row.model for row in rows) > 1:
        found.append("models_differ")
    if distinct(row.quality for row in rows) > 1:
        found.append("qualities_differ")
    if distinct(row.granularity for row in rows) > 1:
        found.append("granularities_differ")
    if rows[0].sha256 and distinct(row.sha256 for row in rows) == 1:
        found.append("same_recording")
    return found
