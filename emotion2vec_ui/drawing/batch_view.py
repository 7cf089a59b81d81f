"""A table of many recordings as a page: how emotions are distributed, what is wrong, what to hear.

One file in every language, with a switch that needs no script: it is read where no server runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import ClassVar
from urllib.parse import quote

from emotion2vec_ui import __version__
from emotion2vec_ui.drawing import svg
from emotion2vec_ui.drawing.document import LimitsView
from emotion2vec_ui.drawing.figures import percent
from emotion2vec_ui.drawing.many_document import BATCH_STYLE, ManyDocumentView
from emotion2vec_ui.drawing.render import View, Words, draw
from emotion2vec_ui.drawing.svg import Piece, Rect, Tick
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records.report import BANDS, Model, now_text
from emotion2vec_ui.records.sentences import warning_key
from emotion2vec_ui.records.summary import Failure, Heard, Part, Summary
from emotion2vec_ui.texts import Phrase

QUALITIES = ("good", "fair", "poor")

NOT_OF_THE_RECORDING = ("compact_model", "flat_distribution", "near_tie")
"""Warnings about the model or its scores: the first is on every recording or none."""


def batch_page(
    summary: Summary, model: Model, *, root: Path | str, folder: Path, name: str, lang: str
) -> str:
    """The page.

    Args:
        summary: of the table.
        model: that answered.
        root: the folder that the table's paths are relative to, or an address as text.
        folder: where the page will stand; links lead from there.
        name: of the table.
        lang: that the page opens in, one of `texts.languages()`.
    """

    def link(path: str) -> FileLink:
        if isinstance(root, str):
            return FileLink(path, f"{root.partition('?')[0].rstrip('/')}/{quote(path)}")
        return FileLink(path, _address(root / path, folder))

    body = BatchView(
        name=name,
        model=model,
        timestamp=now_text(),
        summary=summary,
        over_time=OverTimeView(summary.periods, summary.period_unit) if summary.periods else None,
        folders=tuple(FolderRow(part, link(part.name or ".")) for part in summary.folders),
        clearest=HearView("batch.report.clearest", _heard(summary.clearest, link)),
        divided=HearView("batch.report.divided", _heard(summary.divided, link)),
        problems=tuple(
            ProblemRow(
                words=Phrase(warning_key(problem.code, "utterance")),
                count=problem.count,
                share=problem.count / summary.recognised,
                examples=tuple(link(path) for path in problem.examples),
            )
            for problem in summary.problems
            if problem.code not in NOT_OF_THE_RECORDING
        ),
        failures=tuple(FailureRow(one, link(one.path)) for one in summary.failures),
        limits=LimitsView(model),
    )
    foot = Phrase("report.foot", version=__version__, time=body.timestamp)
    return str(draw(ManyDocumentView(lang, "batch.report.title", (BATCH_STYLE,), body, foot)))


def _address(target: Path, folder: Path) -> str:
    """From the page to a file; as both may be moved together, without the path to them."""
    try:
        relative = os.path.relpath(target, folder)
    except ValueError:  # another drive of Windows
        return target.as_uri()
    # Names that begin like an address ("a:b.wav") are none.
    return "./" + quote(PurePath(relative).as_posix().encode("utf-8", "surrogateescape"))


def _heard(recordings: tuple[Heard, ...], link: Callable[[str], FileLink]) -> tuple[HeardRow, ...]:
    return tuple(HeardRow(one, link(one.path)) for one in recordings)


@dataclass(frozen=True)
class FileLink:
    """A file by its name in the table, and the way to it."""

    name: str
    address: str


@dataclass(frozen=True)
class FolderRow:
    """One folder's recordings; an empty name stands for all the others together."""

    part: Part
    link: FileLink

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Its emotions side by side."""
        return svg.shares(self.part.counts)

    @property
    def leader(self) -> str | None:
        """The most frequent emotion."""
        counts = self.part.counts
        return max(counts, key=lambda emotion: counts[emotion]) if counts else None

    @property
    def leader_share(self) -> float:
        """Of the recordings that have an emotion, 0 to 1."""
        return max(self.part.counts.values()) / self.part.recognised


@dataclass(frozen=True)
class HeardRow:
    """One recording to hear."""

    heard: Heard
    link: FileLink


@dataclass(frozen=True)
class ProblemRow:
    """One problem of recordings; `share` is of all that were recognised, 0 to 1."""

    words: Words
    count: int
    share: float
    examples: tuple[FileLink, ...]


@dataclass(frozen=True)
class FailureRow:
    """One recording with an error."""

    failure: Failure
    link: FileLink

    def words(self, lang: str) -> str:
        """What was wrong."""
        return self.failure.error.get(lang, self.failure.code)


@dataclass(frozen=True)
class OverTimeView(View):
    """Recordings by when their files were written, as stacked columns."""

    template: ClassVar[str] = "batch_time.html"

    periods: tuple[Part, ...]
    unit: str

    @property
    def columns(self) -> tuple[Rect, ...]:
        """The drawing, 1000 wide and 100 high."""
        return svg.stacked_columns([period.counts for period in self.periods], EMOTIONS)

    @property
    def ticks(self) -> tuple[Tick, ...]:
        """Names of some of the periods."""
        return svg.column_ticks([period.name for period in self.periods])

    @property
    def most(self) -> int:
        """Recordings of the highest column."""
        return max(period.recognised for period in self.periods)

    @property
    def emotions(self) -> tuple[str, ...]:
        """Those that occur, for the legend."""
        return tuple(one for one in EMOTIONS if any(one in p.counts for p in self.periods))


@dataclass(frozen=True)
class HearView(View):
    """Recordings to hear first, and by what rule: `title` and `title.why` are texts."""

    template: ClassVar[str] = "batch_hear.html"

    title: str
    rows: tuple[HeardRow, ...]


@dataclass(frozen=True)
class BatchView(View):
    """The page's content."""

    template: ClassVar[str] = "batch.html"

    name: str
    model: Model
    timestamp: str
    summary: Summary
    over_time: OverTimeView | None
    folders: tuple[FolderRow, ...]
    clearest: HearView
    divided: HearView
    problems: tuple[ProblemRow, ...]
    failures: tuple[FailureRow, ...]
    limits: LimitsView

    @property
    def hours(self) -> str:
        """Of audio, such as `12.3`; in minutes below one hour (see `has_hours`)."""
        return f"{self.summary.audio_s / (3600 if self.has_hours else 60):.1f}"

    @property
    def has_hours(self) -> bool:
        """Whether there is an hour of audio."""
        return self.summary.audio_s >= 3600

    @property
    def emotions(self) -> tuple[tuple[str, int, str, str], ...]:
        """Each emotion that occurs: its name, count, share, and mean confidence."""
        total = self.summary.recognised
        return tuple(
            (emotion, count, percent(count / total), percent(self.summary.mean_confidence[emotion]))
            for emotion, count in self.summary.counts.items()
            if count
        )

    @property
    def bands(self) -> tuple[tuple[str, int, str], ...]:
        """Each band: its name, count and share."""
        return _shares(BANDS, self.summary.bands)

    @property
    def qualities(self) -> tuple[tuple[str, int, str], ...]:
        """Each verdict: its name, count and share."""
        return _shares(QUALITIES, self.summary.qualities)

    @property
    def more_failures(self) -> int:
        """Recordings with an error that are not named."""
        return self.summary.failed - len(self.failures)


def _shares(names: tuple[str, ...], counts: Mapping[str, int]) -> tuple[tuple[str, int, str], ...]:
    total = sum(counts.values()) or 1
    return tuple(
        (name, counts.get(name, 0), percent(counts.get(name, 0) / total)) for name in names
    )
