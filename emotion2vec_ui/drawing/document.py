"""One result, or several side by side, as a page to read, print and hand over.

A single HTML text in one language: style and drawings inline, no script, nothing fetched.
A result with only the fields of the first WebUI has a shorter report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlencode

from markupsafe import Markup

from emotion2vec_ui import __version__, texts
from emotion2vec_ui.audio.load import Source
from emotion2vec_ui.drawing import render
from emotion2vec_ui.drawing.recording_view import AxisView, PictureView, QualityView, WaveView
from emotion2vec_ui.drawing.render import View, Words, draw
from emotion2vec_ui.drawing.result_view import LeaderView, LogView, ScoresView
from emotion2vec_ui.drawing.time_view import (
    LegendView,
    TableView,
    TimelineView,
    known,
    segment_table,
    utterance_table,
    weighted_words,
)
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records.comparison import Compared, Comparison
from emotion2vec_ui.records.report import Embedding, Model, Report, Timing, now_text
from emotion2vec_ui.texts import Phrase

STYLE = render.TEMPLATES / "report.css"
DARK_STYLE = render.TEMPLATES / "report_dark.css"

MAX_ROWS = 40
"""Rows of a table over time: two columns of twenty. The exports hold them all."""


def report_page(
    report: Report, *, lang: str, folder_name: str, audio_url: str | None = None
) -> str:
    """A result's page.

    Args:
        report: of either granularity, of any version.
        lang: one of `texts.languages()`.
        folder_name: of the result; it stands on the page as its number.
        audio_url: where the page can play what the model heard; None on paper.
    """
    return _page(
        lambda one: f"{texts.text('report.title', one)} · {folder_name}",
        _report_view(report, folder_name, audio_url),
        lang,
        parameters={} if audio_url else None,
    )


def comparison_page(comparison: Comparison, *, lang: str) -> str:
    """Several results side by side, the first as the reference."""
    folders = [one.row.folder for one in comparison.results]
    return _page(
        Phrase("report.comparison"),
        ComparisonView(comparison, LimitsView(None)),
        lang,
        parameters={"folder": folders},
    )


def _page(
    title: Words, body: View, lang: str, *, parameters: Mapping[str, Sequence[str]] | None
) -> str:
    links: tuple[LanguageLink, ...] = ()
    if parameters is not None:
        links = tuple(
            LanguageLink(
                address="?" + urlencode({**parameters, "lang": one}, doseq=True),
                name=texts.text("language.name", one),
                tag=render.tag(one),
                is_current=one == lang,
            )
            for one in texts.languages()
        )
    foot = Phrase("report.foot", version=__version__, time=now_text())
    return str(draw(DocumentView(title, render.tag(lang), links, body, foot), lang))


@dataclass(frozen=True)
class LanguageLink:
    """The same page in one language."""

    address: str
    name: str
    tag: str
    is_current: bool


@dataclass(frozen=True)
class DocumentView(View):
    """A whole page around its content.

    Attributes:
        title: of the window and of the PDF.
        tag: of its language, for HTML.
        languages: the same page in each language; none on paper.
        body: the content.
        foot: the last line.
    """

    template: ClassVar[str] = "document.html"

    title: Words
    tag: str
    languages: tuple[LanguageLink, ...]
    body: View
    foot: Words

    @property
    def style(self) -> Markup:
        """The style sheet."""
        return Markup(STYLE.read_text(encoding="utf-8"))

    @property
    def dark_style(self) -> Markup:
        """Its colours on a dark screen."""
        return Markup(DARK_STYLE.read_text(encoding="utf-8"))

    @property
    def faces(self) -> Markup:
        """The faces that the page refers to."""
        return render.sprite()


# --- one result -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class LimitsView(View):
    """What such a result can and cannot say; it belongs on every copy that is handed over.

    Attributes:
        model: whose licence is named; None where it is not known, or there are several.
    """

    template: ClassVar[str] = "limits.html"

    model: Model | None


@dataclass(frozen=True)
class FactsView(View):
    """File, model and timing."""

    template: ClassVar[str] = "facts.html"

    granularity: str
    source: Source
    model: Model
    timing: Timing
    embedding: Embedding | None


@dataclass(frozen=True)
class PrintedTimeView(View):
    """The scores over time with their segments, then the table of sentences or of segments."""

    template: ClassVar[str] = "printed_time.html"

    timeline: TimelineView
    axis: AxisView
    legend: LegendView
    weighted: Phrase
    table: TableView

    @property
    def left_out(self) -> int:
        """Rows of the table that are not printed."""
        return max(0, len(self.table.rows) - MAX_ROWS)

    @property
    def max_rows(self) -> int:
        """Rows of the table that are."""
        return MAX_ROWS


@dataclass(frozen=True)
class ReportView(View):
    """The page of one result; what a result of the first WebUI does not tell is None.

    `is_limited`: whether the built-in model answered.
    """

    template: ClassVar[str] = "report.html"

    name: str
    timestamp: str
    folder_name: str
    audio_url: str | None
    is_limited: bool
    leader: LeaderView
    scores: ScoresView
    over_time: PrintedTimeView | None
    recording: QualityView | None
    facts: FactsView | None
    log: LogView
    limits: LimitsView


def _report_view(report: Report, folder_name: str, audio_url: str | None) -> ReportView:
    source, model, timing = report.source, report.model, report.timing
    facts = None
    if source and model and timing:
        facts = FactsView(report.granularity, source, model, timing, report.embedding)
    return ReportView(
        name=report.recording_name(folder_name),
        timestamp=report.timestamp,
        folder_name=folder_name,
        audio_url=audio_url,
        is_limited=model is not None and model.is_built_in,
        leader=LeaderView(report, unfolded=True),
        scores=ScoresView(report.nine_scores, report.distribution.margin, report.subclasses),
        over_time=_over_time(report),
        recording=_recording(report),
        facts=facts,
        log=LogView(report),
        limits=LimitsView(model),
    )


def _recording(report: Report) -> QualityView | None:
    source, quality = report.source, report.quality
    if source is None or quality is None:
        return None
    picture = PictureView(WaveView(quality), AxisView(source.duration_s))
    return QualityView(quality, source.codec, picture, unfolded=True)


def _over_time(report: Report) -> PrintedTimeView | None:
    source, weighted = report.source, report.weighted
    if source is None or weighted is None:
        return None
    segments, utterances = known(report.segments), known(report.utterances)
    timeline = TimelineView(source.duration_s, segments, report.curve, report.labels or ())
    return PrintedTimeView(
        timeline=timeline,
        axis=AxisView(source.duration_s),
        legend=LegendView(report.nine_scores, timeline.drawn),
        weighted=weighted_words("report.time.weighted", weighted),
        # Sentences say more than segments where there are both; one table keeps to the page.
        table=utterance_table(utterances) if utterances else segment_table(segments),
    )


# --- several results ------------------------------------------------------------------------------


@dataclass(frozen=True)
class ComparisonView(View):
    """Several results side by side, each with a letter; differences are from the first."""

    template: ClassVar[str] = "comparison.html"

    comparison: Comparison
    limits: LimitsView

    @property
    def columns(self) -> list[Compared]:
        """The results."""
        return self.comparison.results

    @property
    def ranked(self) -> list[str]:
        """The emotions by the highest score that any result gives them."""
        return sorted(EMOTIONS, key=lambda emotion: -max(c.scores[emotion] for c in self.columns))

    @property
    def has_cosines(self) -> bool:
        """Whether any two results have embeddings to compare."""
        return any(
            cell is not None
            for i, row in enumerate(self.comparison.similarity)
            for j, cell in enumerate(row)
            if i != j
        )
