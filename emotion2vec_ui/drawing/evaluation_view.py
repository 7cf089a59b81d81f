"""An evaluation as a page: how good a model is on somebody's labels, where, and for whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from emotion2vec_ui import __version__
from emotion2vec_ui.drawing import render, svg
from emotion2vec_ui.drawing.document import LimitsView
from emotion2vec_ui.drawing.figures import percent, points
from emotion2vec_ui.drawing.many_document import BATCH_STYLE, ManyDocumentView
from emotion2vec_ui.drawing.render import View, Words, draw
from emotion2vec_ui.drawing.svg import Bar, Box
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading.metrics import ClassFigures, Estimate, Figures
from emotion2vec_ui.records.evaluation import (
    Check,
    Evaluation,
    Gap,
    Group,
    Grouping,
    Left,
    Published,
)
from emotion2vec_ui.texts import Phrase

STYLE = render.TEMPLATES / "evaluation.css"

MAX_GROUPS = 24
"""Rows of a table of groups; the JSON has all of them."""

IN_POINTS = ("change_uar",)
"""Tests whose figures are differences."""


def evaluation_page(found: Evaluation, *, lang: str) -> str:
    """The page.

    Args:
        found: what it shows.
        lang: that it opens in, one of `texts.languages()`.
    """
    body = EvaluationView(
        found=found,
        plots=PlotsView(found.figures),
        groups=tuple(GroupsView(one) for one in found.groupings),
        checks=ChecksView("evaluate.checks", _rows(found.checks)),
        robustness=ChecksView("evaluate.robustness", _rows(found.robustness or ())),
        limits=LimitsView(found.model),
    )
    foot = Phrase("report.foot", version=__version__, time=found.timestamp)
    styles = (BATCH_STYLE, STYLE)
    return str(draw(ManyDocumentView(lang, "evaluate.title", styles, body, foot)))


def check_words(check: Check) -> Phrase:
    """What a test is of."""
    match check.test:
        case "uar":
            return Phrase("evaluate.test.uar")
        case "recall" | "precision":
            emotion = Phrase(f"emotion.{check.subject}")
            return Phrase(f"evaluate.test.{check.test}", emotion=emotion)
        case "sex":
            return Phrase("evaluate.test.sex", group=Phrase(f"evaluate.gender.{check.subject}"))
        case _:
            change = Phrase(f"evaluate.change.{check.subject}")
            return Phrase(f"evaluate.test.{check.test}", change=change)


def check_figure(check: Check, value: float) -> str:
    """The value or the threshold of a test."""
    return points(value) if check.test in IN_POINTS else percent(value)


def caveat_words(found: Evaluation) -> tuple[Phrase, ...]:
    """What limits the figures, the gravest first."""
    facts = {
        "names": ", ".join(found.trained_on),
        "count": found.known_clips,
        "clips": found.figures.clips,
        "speakers": found.figures.speakers,
    }
    return tuple(Phrase(f"evaluate.caveat.{code}", **facts) for code in found.caveats)


def gap_words(gap: Gap | None) -> Phrase:
    """How far apart groups are."""
    if gap is None:
        return Phrase("evaluate.no_gap")
    return Phrase(
        "evaluate.gap",
        best=gap.best,
        worst=gap.worst,
        points=f"{100 * gap.difference:.1f}",
        classes=tuple(Phrase(f"emotion.{one}.inline") for one in gap.classes),
    )


@dataclass(frozen=True)
class ConfusionCell:
    """One pair of label and answer; `share` is of the label's recordings, 0 to 1."""

    count: int
    share: str
    is_right: bool


@dataclass(frozen=True)
class ConfusionRow:
    """One label's recordings by answer."""

    emotion: str
    clips: int
    cells: tuple[ConfusionCell, ...]


@dataclass(frozen=True)
class CheckRow:
    """One test as it is shown."""

    words: Words
    value: str
    threshold: str
    clips: int
    is_at_most: bool
    passed: bool


def _rows(checks: Sequence[Check]) -> tuple[CheckRow, ...]:
    return tuple(
        CheckRow(
            words=check_words(one),
            value=check_figure(one, one.value),
            threshold=check_figure(one, one.threshold),
            clips=one.clips,
            is_at_most=one.area == "fairness",
            passed=one.passed,
        )
        for one in checks
    )


@dataclass(frozen=True)
class PlotsView(View):
    """Reliability diagram, and risk over coverage."""

    template: ClassVar[str] = "evaluation_plots.html"

    figures: Figures

    @property
    def bars(self) -> tuple[Bar, ...]:
        """Of the reliability diagram."""
        return svg.reliability(self.figures.bins)

    @property
    def risk(self) -> str:
        """The curve's path."""
        return svg.risk(self.figures.risk)

    @property
    def steps(self) -> tuple[tuple[str, str, str], ...]:
        """Confidence, coverage and risk where about a quarter, half, three quarters and all are."""
        found = []
        for share in (0.25, 0.5, 0.75, 1.0):
            one = min(self.figures.risk, key=lambda point: abs(point.coverage - share))
            found.append((percent(one.confidence), percent(one.coverage), percent(one.risk)))
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class GroupsView(View):
    """One column's groups."""

    template: ClassVar[str] = "evaluation_groups.html"

    grouping: Grouping

    @property
    def rows(self) -> tuple[tuple[Group, Box], ...]:
        """The groups with the lowest UAR, each with its interval on a track."""
        return tuple((one, svg.span(one.uar)) for one in self.grouping.groups[:MAX_GROUPS])

    @property
    def more(self) -> int:
        """Groups that are not shown."""
        return max(0, len(self.grouping.groups) - MAX_GROUPS)

    @property
    def gap(self) -> Words:
        """How far apart they are."""
        return gap_words(self.grouping.gap)


@dataclass(frozen=True)
class ChecksView(View):
    """Tests with thresholds; `title` and `title.why` are texts."""

    template: ClassVar[str] = "evaluation_checks.html"

    title: str
    rows: tuple[CheckRow, ...]


@dataclass(frozen=True)
class EvaluationView(View):
    """The page's content."""

    template: ClassVar[str] = "evaluation.html"

    found: Evaluation
    plots: PlotsView
    groups: tuple[GroupsView, ...]
    checks: ChecksView
    robustness: ChecksView
    limits: LimitsView

    @property
    def caveats(self) -> tuple[Phrase, ...]:
        """What limits the figures."""
        return caveat_words(self.found)

    @property
    def is_known(self) -> bool:
        """Whether the model learnt from such recordings."""
        return bool(self.found.trained_on or self.found.known_clips)

    @property
    def headline(self) -> tuple[tuple[str, str, str], ...]:
        """Text, value and interval of the main figures."""
        figures = self.found.figures
        named: tuple[tuple[str, Estimate], ...] = (
            ("evaluate.uar", figures.uar),
            ("evaluate.wa", figures.wa),
            ("evaluate.macro_f1", figures.macro_f1),
            ("evaluate.uar_own_classes", figures.uar_own_classes),
        )
        return tuple((key, percent(one.value), interval(one)) for key, one in named)

    @property
    def classes(self) -> tuple[tuple[ClassFigures, str, str], ...]:
        """Each class, its recall as a CSS percentage, and its precision."""
        return tuple(
            (one, percent(one.recall), "–" if one.precision is None else percent(one.precision))
            for one in self.found.figures.classes
        )

    @property
    def answers(self) -> tuple[str, ...]:
        """Emotions that were answered or are labels: the columns of the confusion matrix."""
        figures = self.found.figures
        own = {one.emotion for one in figures.classes}
        sums = [sum(column) for column in zip(*figures.confusion, strict=True)]
        return tuple(one for one, n in zip(EMOTIONS, sums, strict=True) if n or one in own)

    @property
    def confusion(self) -> tuple[ConfusionRow, ...]:
        """The matrix by label."""
        figures = self.found.figures
        shown = [EMOTIONS.index(one) for one in self.answers]
        return tuple(
            ConfusionRow(
                emotion=one.emotion,
                clips=one.clips,
                cells=tuple(
                    ConfusionCell(
                        row[place], f"{row[place] / one.clips:.3f}", EMOTIONS[place] == one.emotion
                    )
                    for place in shown
                ),
            )
            for one, row in zip(figures.classes, figures.confusion, strict=True)
        )

    @property
    def names(self) -> tuple[tuple[str, str, int], ...]:
        """Labels that stand for an emotion: label, emotion, recordings."""
        return tuple(
            (label, emotion, clips) for label, (emotion, clips) in self.found.names.items()
        )

    @property
    def left(self) -> Left:
        """What is not judged."""
        return self.found.left

    @property
    def left_labels(self) -> tuple[tuple[str, int], ...]:
        """Labels that stand for no emotion of the model's, and how many have them."""
        return tuple(self.left.labels.items())

    @property
    def left_errors(self) -> tuple[tuple[str, int], ...]:
        """Codes of errors, and how many recordings have them."""
        return tuple(self.left.errors.items())

    @property
    def published(self) -> tuple[tuple[Published, str, str, str, str], ...]:
        """Each corpus with the authors' UAR and WA, and those here."""
        return tuple(
            (one, percent(one.uar), percent(one.here_uar), percent(one.wa), percent(one.here_wa))
            for one in self.found.published
        )

    @property
    def hours(self) -> str:
        """Of audio."""
        return f"{self.found.audio_s / 3600:.2f}"


def interval(estimate: Estimate) -> str:
    """An interval in percent, such as `65.2–77.1`."""
    return f"{100 * estimate.low:.1f}–{100 * estimate.high:.1f}"
