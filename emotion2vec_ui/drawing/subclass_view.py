"""Sets of sub-classes on the lab's page: the list, a set's card, and the form that trains one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from emotion2vec_ui.drawing import svg
from emotion2vec_ui.drawing.figures import clock
from emotion2vec_ui.drawing.render import View, Words
from emotion2vec_ui.drawing.svg import Bar, Box, LearningCurve
from emotion2vec_ui.errors import EmotionError
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading.calibration import Bin as ReliabilityBin
from emotion2vec_ui.records.subclasses import Card, Coverage, Gap
from emotion2vec_ui.texts import Phrase

MOST_LEFT_OUT = 20
"""Lines of a manifest shown as left out; card.json has all of them."""

UNKNOWN = "unknown"
"""What a card calls a gender or an age that the manifest does not have."""


@dataclass(frozen=True)
class UarView(View):
    """A UAR with its interval, on a track of 0 to 1 with a mark where guessing is.

    Attributes:
        figure: such as `0.87`.
        low, high: of the interval, likewise.
        place, guessing: on the track, as CSS percentages.
        span: the interval on it.
    """

    template: ClassVar[str] = "subclass_uar.html"

    figure: str
    low: str
    high: str
    place: str
    guessing: str
    span: Box


def _uar(uar: float, interval: tuple[float, float], chance: float) -> UarView:
    low, high = interval
    return UarView(
        figure=f"{uar:.2f}",
        low=f"{low:.2f}",
        high=f"{high:.2f}",
        place=f"{uar:.2%}",
        guessing=f"{chance:.2%}",
        span=svg.span(low, high),
    )


@dataclass(frozen=True)
class KeptSet:
    """A set as the page finds it.

    Attributes:
        card: of the version that is used.
        versions: all of them, rising.
        is_usable: whether the answering model can use it; None while none answers.
    """

    card: Card
    versions: tuple[int, ...]
    is_usable: bool | None


@dataclass(frozen=True)
class SetLine:
    """A set in the list; `versions` are the numbers of all versions, in words."""

    kept: KeptSet
    classes: str
    versions: str
    uar: UarView
    is_open: bool


@dataclass(frozen=True)
class DamagedSet:
    """A set whose card cannot be read: it can only be removed."""

    name: str
    problem: Words


@dataclass(frozen=True)
class SubclassListView(View):
    """All sets, below them the opened card.

    Attributes:
        lines: the sets.
        damaged: those whose cards cannot be read.
        opened: the card, if one is open.
        said: what was done.
        failure: what prevented it.
    """

    template: ClassVar[str] = "subclass_list.html"

    lines: tuple[SetLine, ...]
    damaged: tuple[DamagedSet, ...]
    opened: View | None
    said: Phrase | None
    failure: View | None


def subclass_list(
    sets: Sequence[KeptSet],
    damaged: Mapping[str, EmotionError],
    *,
    opened: Card | None = None,
    said: Phrase | None = None,
    failure: View | None = None,
) -> SubclassListView:
    """The list of sets.

    Args:
        sets: those that can be read.
        damaged: by name what is wrong with the others.
        opened: the card that is shown, of one of `sets`.
        said: what was done.
        failure: what prevented it.
    """
    found = {one.card.name: one for one in sets}
    shown = None
    if opened is not None and opened.name in found:
        shown = _card(opened, found[opened.name])
    return SubclassListView(
        lines=tuple(
            SetLine(
                kept=one,
                classes=", ".join(one.card.classes),
                versions=", ".join(map(str, one.versions)),
                uar=_uar(one.card.uar, one.card.uar_interval, one.card.chance),
                is_open=shown is not None and shown.card.name == one.card.name,
            )
            for one in sets
        ),
        damaged=tuple(DamagedSet(name, error.public().message) for name, error in damaged.items()),
        opened=shown,
        said=said,
        failure=failure,
    )


# --- the card -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CoverageColumn:
    """What the samples of a sub-class cover.

    Attributes:
        label: the sub-class.
        samples, speakers: how many.
        genders, ages, quality: the value in words, and the samples that have it.
        length: the median, and from the shortest to the longest.
        left_out: copies, by bytes and by sound.
        gaps: what is thin.
    """

    label: str
    samples: int
    speakers: int
    genders: tuple[tuple[Words, int], ...]
    ages: tuple[tuple[Words, int], ...]
    quality: tuple[tuple[Words, int], ...]
    length: Words
    left_out: int
    gaps: tuple[Gap, ...]


@dataclass(frozen=True)
class ConfusionRow:
    """The samples of one sub-class by answer: count, share of the row, whether it is right."""

    label: str
    cells: tuple[tuple[int, str, bool], ...]


@dataclass(frozen=True)
class SubclassCardView(View):
    """A version of a set: what it was trained on, and how well it does.

    Attributes:
        card: of the version.
        kept: its set.
        uar: of the version.
        others: other heads on the same folds: what they are, UAR, interval.
        columns: what the samples cover.
        confusion: rows truth, columns answer.
        bars: the reliability diagram.
        curve: the learning curve.
        chance_y: where guessing lies in it.
        curve_words: the curve in figures.
        left_out: lines of the manifest that were not used, of many the first `MOST_LEFT_OUT`.
        more_left_out: how many are not shown.
    """

    template: ClassVar[str] = "subclass_card.html"

    card: Card
    kept: KeptSet
    uar: UarView
    others: tuple[tuple[str, str, str], ...]
    columns: tuple[CoverageColumn, ...]
    confusion: tuple[ConfusionRow, ...]
    bars: tuple[Bar, ...]
    curve: LearningCurve
    chance_y: str
    curve_words: str
    left_out: tuple[Phrase, ...]
    more_left_out: int

    @property
    def is_used(self) -> bool:
        """Whether it is this version that is used."""
        return self.card.version == self.kept.card.version


def _card(card: Card, kept: KeptSet) -> SubclassCardView:
    left_out = tuple(
        Phrase(
            "subclass.left_out",
            path=one.path,
            reason=Phrase(f"subclass.left_out.{one.reason}", detail=one.detail),
        )
        for one in card.left_out[:MOST_LEFT_OUT]
    )
    return SubclassCardView(
        card=card,
        kept=kept,
        uar=_uar(card.uar, card.uar_interval, card.chance),
        others=tuple(
            (f"subclass.kind.{name}", f"{one.uar:.2f}", "{:.2f}–{:.2f}".format(*one.uar_interval))
            for name, one in card.others.items()
        ),
        columns=tuple(_column(label, one) for label, one in card.coverage.items()),
        confusion=tuple(
            ConfusionRow(
                label,
                tuple(
                    (count, f"{count / (sum(row) or 1):.3f}", place == own)
                    for place, count in enumerate(row)
                ),
            )
            for own, (label, row) in enumerate(zip(card.classes, card.confusion, strict=True))
        ),
        bars=svg.reliability(
            [
                ReliabilityBin(one.from_share, one.to_share, one.samples, one.share, one.right)
                for one in card.reliability
            ]
        ),
        curve=svg.learning_curve(card.learning_curve),
        chance_y=f"{100 - 100 * card.chance:.2f}",
        curve_words=", ".join(f"{one.samples}: {one.uar:.2f}" for one in card.learning_curve),
        left_out=left_out,
        more_left_out=len(card.left_out) - len(left_out),
    )


def _column(label: str, covered: Coverage) -> CoverageColumn:
    lengths = covered.duration_s
    return CoverageColumn(
        label=label,
        samples=covered.samples,
        speakers=covered.speakers,
        genders=_counts(covered.genders),
        ages=_counts(covered.ages),
        quality=tuple(
            (Phrase(f"lab.quality.{name}"), count)
            for name, count in covered.quality.items()
            if count
        ),
        length=Phrase(
            "subclass.page.length",
            median=clock(lengths.median),
            shortest=clock(lengths.min),
            longest=clock(lengths.max),
        ),
        left_out=covered.copies + covered.near_copies,
        gaps=covered.gaps,
    )


def _counts(counts: Mapping[str, int]) -> tuple[tuple[Words, int], ...]:
    unknown = Phrase("subclass.page.unknown")
    return tuple((unknown if name == UNKNOWN else name, count) for name, count in counts.items())


# --- training -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SubclassTrainingView(View):
    """The form that collects samples and trains a set; the script fills it.

    Attributes:
        enough_samples, enough_speakers: of each sub-class, below which a set is small.
        fewest_samples, fewest_speakers: of each, below which there is no training.
        emotions: of which one is divided.
        steps: of a training, as the API has them, and before the first.
        missing: what may be missing before there can be a training.
    """

    template: ClassVar[str] = "subclass_training.html"

    enough_samples: int
    enough_speakers: int
    fewest_samples: int
    fewest_speakers: int
    emotions: tuple[str, ...] = EMOTIONS
    steps: tuple[str, ...] = ("send", "hear", "fit")
    missing: tuple[str, ...] = ("samples", "labels", "far", "speakers", "small", "base", "name")
