"""Emotion over time: the ribbon of segments, the stacked scores, and the tables below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import numpy as np

from emotion2vec_ui.drawing import svg
from emotion2vec_ui.drawing.figures import clock, percent
from emotion2vec_ui.drawing.recording_view import PlayerView
from emotion2vec_ui.drawing.render import View
from emotion2vec_ui.drawing.svg import Area, Piece
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading.scoring import Band, Peak, Weighted
from emotion2vec_ui.reading.timeline import Curve, Segment
from emotion2vec_ui.records.report import Utterance
from emotion2vec_ui.texts import Phrase

MAX_ROWS = 200
"""Rows of a table on the page: more would make scrolling heavy; the files hold all."""

DRAWN_FROM = 0.03
"""An emotion that never reaches this score and leads no segment is neither drawn nor named: its
area would be a line of a few pixels."""

T = TypeVar("T", Segment, Utterance)


def known(rows: Sequence[T]) -> tuple[T, ...]:
    """The rows of a stored report; an emotion that is none of the nine is shown as unknown."""
    return tuple(
        one if one.emotion in EMOTIONS else replace(one, emotion="unknown") for one in rows
    )


@dataclass(frozen=True)
class TimelineView(View):
    """Segments as a coloured ribbon, and below it the nine scores as stacked areas."""

    template: ClassVar[str] = "timeline.html"

    duration_s: float
    segments: tuple[Segment, ...]
    curve: Curve | None
    labels: tuple[str, ...]

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The ribbon."""
        return svg.ribbon(self.segments, self.duration_s)

    @property
    def areas(self) -> tuple[Area, ...]:
        """The stacked scores; none where the report has no curve."""
        return () if self.curve is None else svg.areas(self.curve, self.labels, self.drawn)

    @property
    def drawn(self) -> frozenset[str]:
        """The emotions that are visible in either drawing."""
        drawn = {one.emotion for one in self.segments}
        if self.curve is not None:
            highest = np.asarray(self.curve.scores).max(axis=0)
            drawn |= {
                label
                for label, score in zip(self.labels, highest, strict=True)
                if score >= DRAWN_FROM
            }
        return frozenset(drawn)


@dataclass(frozen=True)
class LegendView(View):
    """The emotions of a timeline with colour and score, highest first.

    Attributes:
        scores: of the whole recording.
        drawn: the emotions that the timeline shows.
    """

    template: ClassVar[str] = "legend.html"

    scores: dict[str, float]
    drawn: frozenset[str]

    @property
    def named(self) -> tuple[str, ...]:
        """Keys of the emotions."""
        ranked = sorted(self.scores, key=lambda emotion: -self.scores[emotion])
        return tuple(one for one in ranked if one in self.drawn)


@dataclass(frozen=True)
class OverTimeView(View):
    """Waveform, segments and the nine scores over time, on one axis with one player."""

    template: ClassVar[str] = "over_time.html"

    player: PlayerView
    legend: LegendView
    weighted: Weighted

    @property
    def peak(self) -> Peak:
        """The window with the highest score."""
        return self.weighted.peak

    @property
    def peak_words(self) -> Phrase:
        """That window's emotion, score and time."""
        return Phrase(
            "ui.time.peak",
            emotion=Phrase(f"emotion.{self.peak.emotion}"),
            percent=percent(self.peak.score),
            start=clock(self.peak.start_s),
            end=clock(self.peak.end_s),
        )

    @property
    def leader(self) -> str:
        """The emotion with the highest weighted score."""
        return weighted_leader(self.weighted)

    @property
    def leader_words(self) -> Phrase:
        """It and its score."""
        return weighted_words("ui.time.weighted", self.weighted)


def weighted_leader(weighted: Weighted) -> str:
    """The emotion with the highest weighted score."""
    return max(weighted.scores, key=weighted.scores.__getitem__)


def weighted_words(key: str, weighted: Weighted) -> Phrase:
    """The text `key` with the highest weighted score and its emotion."""
    leader = weighted_leader(weighted)
    return Phrase(
        key, emotion=Phrase(f"emotion.{leader}"), percent=percent(weighted.scores[leader])
    )


@dataclass(frozen=True)
class Row:
    """One line of a table over time; `band` is None in a table without bands."""

    start_s: float
    end_s: float
    emotion: str
    confidence: float
    band: Band | None


@dataclass(frozen=True)
class TableView(View):
    """Stretches of the recording, each with its emotion.

    Attributes:
        title: key of the heading.
        rows: all of them.
        has_bands: whether they have one.
    """

    template: ClassVar[str] = "table.html"

    title: str
    rows: tuple[Row, ...]
    has_bands: bool

    @property
    def shown(self) -> tuple[Row, ...]:
        """The rows that are drawn."""
        return self.rows[:MAX_ROWS]

    @property
    def left_out(self) -> int:
        """How many more there are."""
        return max(0, len(self.rows) - MAX_ROWS)


def segment_table(segments: Sequence[Segment]) -> TableView:
    """The stretches of one emotion."""
    rows = (Row(one.start_s, one.end_s, one.emotion, one.confidence, None) for one in segments)
    return TableView("ui.segments", tuple(rows), has_bands=False)


def utterance_table(utterances: Sequence[Utterance]) -> TableView:
    """The stretches of speech recognised by themselves."""
    rows = (
        Row(one.start_s, one.end_s, one.emotion, one.confidence, one.band) for one in utterances
    )
    return TableView("ui.utterances", tuple(rows), has_bands=True)
