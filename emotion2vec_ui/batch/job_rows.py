"""The rows of a job as the page shows them: filtered, sorted, a page at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from emotion2vec_ui.records.rows import OK, Row

RESULTS = ("ok", "error")

_BY: dict[str, Callable[[Row], Any]] = {
    "name": lambda row: (),
    "confidence": lambda row: (row.confidence is None, -(row.confidence or 0.0)),
    "confidence_low": lambda row: (row.confidence is None, row.confidence or 0.0),
    "duration": lambda row: -(row.duration_s or 0.0),
    "errors": lambda row: row.status == OK,
}
"""Keys to sort by; what is equal stays in the order of names, which rows come in."""

SORTS = tuple(_BY)


@dataclass(frozen=True)
class RowFilter:
    """What to show. Within a field any of its values fits; the fields must all fit.

    Attributes:
        emotion: of the nine.
        band: high, medium, low or unreliable.
        quality: good, fair or poor.
        result: of `RESULTS`.
        text: part of the path, in any case.
        sort: one of `SORTS`.
    """

    emotion: tuple[str, ...] = ()
    band: tuple[str, ...] = ()
    quality: tuple[str, ...] = ()
    result: tuple[str, ...] = ()
    text: str = ""
    sort: str = "name"

    def fits(self, row: Row) -> bool:
        """Whether a row is to be shown."""
        wanted = (
            (self.emotion, row.emotion),
            (self.band, row.band),
            (self.quality, row.quality),
            (self.result, "ok" if row.status == OK else "error"),
        )
        return all(not values or value in values for values, value in wanted) and (
            self.text.casefold() in row.path.casefold()
        )


@dataclass(frozen=True)
class RowPage:
    """Some rows of those found.

    Attributes:
        rows: those shown.
        total: how many were found.
        counts: of all rows of the job, those of each emotion.
    """

    rows: tuple[Row, ...]
    total: int
    counts: Mapping[str, int]


def select(rows: Iterable[Row], wanted: RowFilter, *, offset: int, limit: int) -> RowPage:
    """The rows that fit, sorted, from `offset` on at most `limit`."""
    counts: Counter[str] = Counter()
    found = []
    for row in rows:
        if row.emotion is not None:
            counts[row.emotion] += 1
        if wanted.fits(row):
            found.append(row)
    found.sort(key=_BY[wanted.sort])
    return RowPage(tuple(found[offset : offset + limit]), len(found), counts)
