"""The page of jobs: where files are dropped, the list of jobs, an opened one and its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote

from emotion2vec_ui.drawing import svg
from emotion2vec_ui.drawing.figures import clock, percent
from emotion2vec_ui.drawing.history_view import UNKNOWN, Pager, pager
from emotion2vec_ui.drawing.render import View, Words
from emotion2vec_ui.drawing.status_view import NoteView, time_left
from emotion2vec_ui.drawing.svg import Piece
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records.rows import OK, Row
from emotion2vec_ui.texts import Phrase

TABLES = {"CSV": "csv?bom=true", "JSON": "json", "Parquet": "parquet"}
"""Tables to download: name and ending of the address."""


@dataclass(frozen=True)
class UploadView(View):
    """Where files are dropped, and what is chosen for them.

    Attributes:
        files: that one job may hold.
        limit_mb: and their MB.
    """

    template: ClassVar[str] = "jobs_upload.html"

    files: int
    limit_mb: float

    @property
    def limit_bytes(self) -> int:
        """As the browser counts."""
        return int(self.limit_mb * 1e6)


@dataclass(frozen=True)
class JobCard:
    """One job, as it is shown.

    Attributes:
        id: of the job.
        name: of its first file or of its archive.
        sent: local time.
        status: of `job_list.STATUSES`.
        files: how many recordings.
        done: those that have a row.
        failed: those of them with an error.
        audio_s: of those that were recognised.
        speed: seconds of audio per second, 0 where it is not being done.
        eta_s: seconds until the end, or None.
        model: id of the model that answers, or None before it has begun.
        problem: why it failed or waits, or None.
        hint: what to do about that, or None.
        saves: whether each recording is kept as a result of its own.
    """

    id: str
    name: str
    sent: str
    status: str
    files: int
    done: int
    failed: int
    audio_s: float
    speed: float
    eta_s: float | None
    model: str | None
    problem: Words | None
    hint: Words | None
    saves: bool

    @property
    def share(self) -> float:
        """Done part, 0 to 1."""
        return self.done / self.files

    @property
    def more(self) -> int:
        """Files beside the one that it is named after; of an archive none."""
        return 0 if self.name.lower().endswith(".zip") else self.files - 1

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return self.status not in ("QUEUED", "IN_PROGRESS")

    @property
    def shown_status(self) -> str:
        """Its status, or HELD_UP where it waits for more than its turn."""
        return "HELD_UP" if self.status == "QUEUED" and self.problem is not None else self.status

    @property
    def pill(self) -> str:
        """Class of the pill that names its status."""
        return {
            "COMPLETED": "ok",
            "FAILED": "fail",
            "HELD_UP": "warn",
            "IN_PROGRESS": "band-medium",
        }.get(self.shown_status, "quiet")

    @property
    def has_bar(self) -> bool:
        """Whether there is a share to show: what waits and has none needs no empty bar."""
        return self.done > 0 or self.status == "IN_PROGRESS"

    @property
    def left(self) -> Phrase | None:
        """How long it will take."""
        return time_left(self.eta_s)

    @property
    def length(self) -> str:
        """Of the audio that was recognised."""
        return clock(self.audio_s)


@dataclass(frozen=True)
class JobListView(View):
    """All jobs; `opened` is the id of the one that is open, or empty."""

    template: ClassVar[str] = "jobs_list.html"

    jobs: tuple[JobCard, ...]
    opened: str
    is_cut: bool


@dataclass(frozen=True)
class JobHeadView(View):
    """The opened job's name and state, and what can be done with it.

    It is apart from what changes with every recording: a question that was opened stays open.
    """

    template: ClassVar[str] = "jobs_head.html"

    job: JobCard


@dataclass(frozen=True)
class JobProgressView(View):
    """How far the opened job is, what came of it, and its tables.

    Attributes:
        job: the job.
        counts: recordings of each emotion.
    """

    template: ClassVar[str] = "jobs_progress.html"

    job: JobCard
    counts: Mapping[str, int]

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The emotions side by side."""
        return svg.shares(self.counts)

    @property
    def emotions(self) -> tuple[tuple[str, int, str], ...]:
        """Each emotion that occurs: its name, count and share."""
        total = sum(self.counts.values())
        return tuple(
            (one, self.counts[one], percent(self.counts[one] / total))
            for one in EMOTIONS
            if self.counts.get(one)
        )

    @property
    def has_results(self) -> bool:
        """Whether history and lab have something of it."""
        return self.job.saves and self.job.has_ended and self.job.done > self.job.failed

    @property
    def tables(self) -> tuple[tuple[str, str], ...]:
        """Each table to download: its name and address."""
        base = f"api/jobs/{self.job.id}/results"
        return tuple((name, f"{base}.{ending}") for name, ending in TABLES.items())


@dataclass(frozen=True)
class JobRow:
    """A line of the table, as it is shown.

    Attributes:
        path: of the recording in the job.
        address: of the recording itself.
        folder: of the result that it is kept as, or None.
        emotion: None where there is an error.
        confidence: of the emotion.
        band: of the confidence.
        quality: verdict over the recording.
        length: of the recording.
        error: what was wrong, or None.
    """

    path: str
    address: str
    folder: str | None
    emotion: str | None
    confidence: str
    band: str | None
    quality: str | None
    length: str
    error: Words | None


@dataclass(frozen=True)
class JobRowsView(View):
    """The table and its pager.

    Attributes:
        total: recordings found.
        rows: those shown.
        built_in: whether the built-in model answered.
        note: in the place of the table where there are none.
        pager: None where all fit on one page.
    """

    template: ClassVar[str] = "jobs_rows.html"

    total: int
    rows: tuple[JobRow, ...]
    built_in: bool
    note: NoteView | None
    pager: Pager | None


def job_rows(
    job: JobCard, rows: tuple[Row, ...], total: int, *, offset: int, limit: int
) -> JobRowsView:
    """The rows of a job.

    Args:
        job: the job.
        rows: those shown.
        total: how many were found.
        offset: of the first that is shown.
        limit: rows of a page.
    """
    note = None
    if not rows:
        note = NoteView(Phrase("history.none_fit"))
    return JobRowsView(
        total=total,
        rows=tuple(_row(job.id, row) for row in rows),
        built_in=any("compact_model" in row.warnings for row in rows),
        note=note,
        pager=pager(offset, len(rows), total, limit) if total > len(rows) else None,
    )


def _row(job_id: str, row: Row) -> JobRow:
    error = row.error or {}
    return JobRow(
        path=row.path,
        address=f"api/jobs/{job_id}/files/{quote(row.path)}",
        folder=row.folder,
        emotion=row.emotion,
        confidence=UNKNOWN if row.confidence is None else percent(row.confidence),
        band=row.band,
        quality=row.quality,
        length=UNKNOWN if row.duration_s is None else clock(row.duration_s),
        error=None if row.status == OK else lambda lang: error.get(lang, row.status),
    )
