"""A result as the page shows it: everything on the right-hand side, made from its report."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from emotion2vec_ui import texts
from emotion2vec_ui.audio.load import Source
from emotion2vec_ui.drawing.figures import percent
from emotion2vec_ui.drawing.recording_view import PlayerView, QualityView, WaveView
from emotion2vec_ui.drawing.render import View, Words
from emotion2vec_ui.drawing.time_view import (
    LegendView,
    OverTimeView,
    TimelineView,
    known,
    segment_table,
    utterance_table,
)
from emotion2vec_ui.reading import familiarity, scoring
from emotion2vec_ui.reading.scoring import Band
from emotion2vec_ui.records import sentences
from emotion2vec_ui.records.report import (
    Distribution,
    Embedding,
    Model,
    Report,
    ReportWarning,
    SubclassScores,
    Timing,
)
from emotion2vec_ui.records.store import AUDIO_NAME
from emotion2vec_ui.texts import Phrase

MAX_WARNINGS = 3
"""Warnings shown beside the answer; the rest can be unfolded."""


@dataclass(frozen=True)
class Zone:
    """A band's part of the scale of confidence, as a share of it."""

    band: Band
    share: float


def _zones() -> tuple[Zone, ...]:
    bands: tuple[Band, ...] = ("unreliable", "low", "medium", "high")
    edges = (0.0, scoring.LOW_FROM, scoring.MEDIUM_FROM, scoring.HIGH_ABOVE, 1.0)
    return tuple(
        Zone(band, high - low)
        for band, (low, high) in zip(bands, itertools.pairwise(edges), strict=True)
    )


@dataclass(frozen=True)
class LeaderView(View):
    """The emotion, its confidence on the scale of bands, the advice and what limits it.

    Attributes:
        report: of either granularity, of any version.
        unfolded: all warnings are in sight: paper cannot be unfolded.
    """

    template: ClassVar[str] = "leader.html"

    report: Report
    unfolded: bool = False

    @property
    def zones(self) -> tuple[Zone, ...]:
        """The scale of bands, from the lowest."""
        return _zones()

    @property
    def trusted(self) -> float:
        """What the band is of: the calibrated confidence, or where there is none the confidence."""
        calibrated = self.report.reliability.calibrated_confidence
        return self.report.confidence if calibrated is None else calibrated

    @property
    def is_recalibrated(self) -> bool:
        """Whether that is another figure than the score."""
        return percent(self.trusted) != percent(self.report.confidence)

    @property
    def is_unfamiliar(self) -> bool:
        """Whether the recording is unlike what the model knows."""
        return "unfamiliar" in self.report.reliability.caveats

    @property
    def unfamiliar_below(self) -> float:
        """The familiarity below which it is."""
        return familiarity.UNFAMILIAR_BELOW

    def advice(self, lang: str) -> str:
        """What to do with the result."""
        return sentences.advice(self.report, lang)

    def shape(self, lang: str) -> str:
        """The shape of the scores."""
        return sentences.distribution(self.report, lang)

    @property
    def warnings(self) -> tuple[Words, ...]:
        """The warnings in sight."""
        return self._warnings[:MAX_WARNINGS]

    @property
    def more_warnings(self) -> tuple[Words, ...]:
        """Those that are folded away."""
        return self._warnings[MAX_WARNINGS:]

    @property
    def _warnings(self) -> tuple[Words, ...]:
        # What limits the claim itself first, then what limits the recording.
        ranked = sorted(self.report.warnings, key=lambda one: not texts.has(f"caveat.{one.code}"))
        return tuple(_warning(one, self.report.granularity) for one in ranked)


def _warning(warning: ReportWarning, granularity: str) -> Words:
    try:
        return Phrase(sentences.warning_key(warning.code, granularity))
    except KeyError:
        # Of a later version, which wrote its sentence beside it.
        return warning.text


@dataclass(frozen=True)
class DividedScore:
    """How one set of sub-classes divides the score of its base.

    Attributes:
        name, version: of the set.
        is_small: trained on too little to be relied on.
        parts: sub-class and score, highest first.
        none: what none of them has.
    """

    name: str
    version: int
    is_small: bool
    parts: tuple[tuple[str, float], ...]
    none: float


@dataclass(frozen=True)
class ScoreRow:
    """One emotion, its score, and the sets of sub-classes that divide it."""

    emotion: str
    score: float
    divided: tuple[DividedScore, ...]


@dataclass(frozen=True)
class ScoresView(View):
    """All nine scores as bars, highest first; sub-classes below their base."""

    template: ClassVar[str] = "scores.html"

    scores: dict[str, float]
    margin: float
    subclasses: dict[str, SubclassScores] | None = None

    @property
    def ranked(self) -> tuple[ScoreRow, ...]:
        """The emotions by falling score."""
        ranked = sorted(self.scores, key=lambda emotion: -self.scores[emotion])
        return tuple(ScoreRow(one, self.scores[one], self._divided(one)) for one in ranked)

    def _divided(self, emotion: str) -> tuple[DividedScore, ...]:
        return tuple(
            DividedScore(
                name=name,
                version=one.version,
                is_small=one.small,
                parts=tuple(sorted(one.scores.items(), key=lambda part: -part[1])),
                none=one.none,
            )
            for name, one in (self.subclasses or {}).items()
            if one.base == emotion
        )


@dataclass(frozen=True)
class DownloadsView(View):
    """Links to every file of a result, all of them as zip, and other programs' formats.

    Attributes:
        folder_name: of the result.
        files: name and size in bytes of each.
        has_segments: the exports hold segments; else the one result of an utterance.
        has_sentences: there are exports sentence by sentence.
    """

    template: ClassVar[str] = "downloads.html"

    folder_name: str
    files: tuple[tuple[str, int], ...]
    has_segments: bool = False
    has_sentences: bool = False


@dataclass(frozen=True)
class EmbeddingView(View):
    """What embedding.npy holds, and whether its norm is usual."""

    template: ClassVar[str] = "embedding.html"

    embedding: Embedding


@dataclass(frozen=True)
class LogView(View):
    """The processing log: lines of a fixed form, then notes on unusual figures."""

    template: ClassVar[str] = "log.html"

    report: Report

    @property
    def lines(self) -> tuple[Words, ...]:
        """What each line says."""
        notes = (partial(sentences.note, one) for one in sentences.notes(self.report))
        return (*sentences.log_facts(self.report), *notes)


@dataclass(frozen=True)
class DetailsView(View):
    """Where the answer comes from: model, file, timing."""

    template: ClassVar[str] = "details.html"

    model: Model
    source: Source
    timing: Timing
    distribution: Distribution


@dataclass(frozen=True)
class OldResultView(View):
    """Said above the files of a result of the first WebUI, which has nothing more to show."""

    template: ClassVar[str] = "old_result.html"


@dataclass(frozen=True)
class ResultView(View):
    """Cards below each other: the whole of a result.

    Attributes:
        cards: from the top.
        is_limited: the built-in model answered: no band may look like a reason to rely on it.
    """

    template: ClassVar[str] = "result.html"

    cards: tuple[View, ...]
    is_limited: bool = False


def result_view(report: Report, folder_name: str, files: Sequence[tuple[str, int]]) -> ResultView:
    """The whole right-hand side of the page for one report.

    Args:
        report: of any granularity; of one of the first WebUI only the files are shown.
        folder_name: of the result.
        files: name and size in bytes of each file in it (`records.store.files_in`).
    """
    source, model, quality, timing = report.source, report.model, report.quality, report.timing
    if source is None or model is None or quality is None or timing is None:
        return ResultView((OldResultView(), DownloadsView(folder_name, tuple(files))))

    cards: list[View] = [
        LeaderView(report),
        ScoresView(report.nine_scores, report.distribution.margin, report.subclasses),
    ]
    wave = WaveView(quality)
    audio_url = f"file=outputs/{folder_name}/{AUDIO_NAME}"
    if report.weighted is None:
        player = PlayerView(source.duration_s, audio_url, (wave,))
        cards.append(QualityView(quality, source.codec, player))
    else:
        segments = known(report.segments)
        timeline = TimelineView(source.duration_s, segments, report.curve, report.labels or ())
        player = PlayerView(source.duration_s, audio_url, (wave, timeline))
        cards.append(
            OverTimeView(player, LegendView(report.nine_scores, timeline.drawn), report.weighted)
        )
        cards.append(segment_table(segments))
        if report.utterances:
            cards.append(utterance_table(known(report.utterances)))
        cards.append(QualityView(quality, source.codec, drawing=None))
    cards.append(
        DownloadsView(
            folder_name,
            tuple(files),
            has_segments=report.granularity == "frame",
            has_sentences=bool(report.utterances),
        )
    )
    if report.embedding:
        cards.append(EmbeddingView(report.embedding))
    cards.append(LogView(report))
    cards.append(DetailsView(model, source, timing, report.distribution))
    return ResultView(tuple(cards), is_limited=model.is_built_in)


@dataclass(frozen=True)
class ShownView(View):
    """A result on the main page: which recording it is of, a link to its own page, all of it."""

    template: ClassVar[str] = "shown.html"

    name: str
    folder_name: str
    report: Report
    result: ResultView


def shown(report: Report, folder_name: str, files: Sequence[tuple[str, int]]) -> ShownView:
    """A result under its name; arguments as of `result_view`."""
    return ShownView(
        name=folder_name if report.source is None else report.source.name,
        folder_name=folder_name,
        report=report,
        result=result_view(report, folder_name, files),
    )
