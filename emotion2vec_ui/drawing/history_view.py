"""The page of past results: the table with its tools, an opened result, results side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlencode

from emotion2vec_ui.drawing.figures import clock, percent
from emotion2vec_ui.drawing.render import View
from emotion2vec_ui.drawing.status_view import NoteView
from emotion2vec_ui.records.filters import Filters
from emotion2vec_ui.records.index import Page
from emotion2vec_ui.records.index_file import Row
from emotion2vec_ui.records.report import Report
from emotion2vec_ui.texts import Phrase

UNKNOWN = "–"
"""Shown for what an old result does not tell."""


@dataclass(frozen=True)
class ResultRow:
    """A line of the table, as it is shown."""

    folder: str
    time: str
    name: str
    emotion: str
    confidence: str
    band: str
    built_in: bool
    length: str
    granularity: str
    model: str


@dataclass(frozen=True)
class Pager:
    """Which rows are shown, and where the buttons lead: offsets, or None where there is nothing."""

    shown: Phrase
    previous: int | None
    next: int | None


@dataclass(frozen=True)
class ResultListView(View):
    """The tools, the table and the pager.

    Attributes:
        total: results found.
        damaged: folders that cannot be read.
        csv_address: of all results found.
        rows: those shown.
        note: in the place of the table where there are none.
        pager: None where all fit on one page.
    """

    template: ClassVar[str] = "history_list.html"

    total: int
    damaged: int
    csv_address: str
    rows: tuple[ResultRow, ...]
    note: NoteView | None
    pager: Pager | None


def result_list(page: Page, filters: Filters) -> ResultListView:
    """The results found by `filters`."""
    note = None
    if not page.rows:
        narrowed = Filters(sort=filters.sort, limit=filters.limit) != filters
        note = NoteView(Phrase("history.none_fit" if narrowed else "history.none"))
    return ResultListView(
        total=page.total,
        damaged=page.damaged,
        csv_address=f"api/history.csv?{urlencode(filters.model_dump(), doseq=True)}",
        rows=tuple(_row(row) for row in page.rows),
        note=note,
        pager=pager(filters.offset, len(page.rows), page.total, filters.limit)
        if page.total > len(page.rows)
        else None,
    )


def _row(row: Row) -> ResultRow:
    return ResultRow(
        folder=row.folder,
        time=row.timestamp[:16],
        name=row.name or row.folder,
        emotion=row.emotion,
        confidence=percent(row.confidence),
        band=row.band,
        built_in=row.built_in,
        length=UNKNOWN if row.duration_s is None else clock(row.duration_s),
        granularity=row.granularity,
        model=row.model or UNKNOWN,
    )


def pager(offset: int, shown: int, total: int, limit: int) -> Pager:
    """Below a part of a table.

    Args:
        offset: of the first row that is shown.
        shown: rows that are.
        total: rows there are.
        limit: rows of a page.
    """
    first, last = offset + 1, offset + shown
    return Pager(
        shown=Phrase("history.range", first=first, last=last, total=total),
        previous=max(0, offset - limit) if offset else None,
        next=offset + limit if last < total else None,
    )


@dataclass(frozen=True)
class OpenedResultView(View):
    """A result opened above the table, under a bar with its report, delete and close.

    Attributes:
        name: of the recording.
        folder: of the result.
        result: the result itself.
    """

    template: ClassVar[str] = "history_opened.html"

    name: str
    folder: str
    result: View


def opened_result(report: Report, folder_name: str, result: View) -> OpenedResultView:
    """The bar above a result.

    Args:
        report: of the result.
        folder_name: where it lies.
        result: its view.
    """
    return OpenedResultView(
        name=report.recording_name(folder_name),
        folder=folder_name,
        result=result,
    )


@dataclass(frozen=True)
class OpenedComparisonView(View):
    """The frame around a comparison's own page; the script asks for it in the page's language."""

    template: ClassVar[str] = "history_comparison.html"

    address: str


def opened_comparison(folder_names: tuple[str, ...]) -> OpenedComparisonView:
    """Results side by side, the first as the reference."""
    return OpenedComparisonView(f"comparison?{urlencode({'folder': folder_names}, doseq=True)}")
