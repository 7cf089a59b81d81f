"""The robustness test: how far it is, and its result in sentences, a plot and a table.

The plot shows the score of the clean clip's leader over the falling SNR; below it two lanes show
who leads at each level. Lines are stretched to the width there is; words and marks are laid over
them as HTML, which keeps its size on a phone.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import ClassVar

from emotion2vec_ui.audio.damage import LOW_SNR_BELOW_DB, SNRS_DB, conditions
from emotion2vec_ui.drawing.figures import megabytes, percent, points
from emotion2vec_ui.drawing.render import View
from emotion2vec_ui.drawing.status_view import ModelStateView, model_state
from emotion2vec_ui.models.holder import Status
from emotion2vec_ui.records.robustness import Outcome, RobustnessTest, to_json
from emotion2vec_ui.texts import Phrase

NOISES = ("fan", "babble")
"""The noises that have a line in the plot."""

NEAR = 0.15
"""Two faces at the same SNR whose scores differ by less than this would cover each other."""

COLUMN = 100
"""Width of one SNR in the plot's own units; its height is 100 too."""


def n_conditions() -> int:
    """How often the robustness test recognises the clip besides the clean one."""
    return len(conditions()) - 1


# --- while it runs --------------------------------------------------------------------------------


@dataclass(frozen=True)
class RobustnessProgressView(View):
    """How far the robustness test is.

    Attributes:
        name: of the recording.
        words: what it does or how many conditions are done; None while it waits for the model.
        model: its state while the test waits for it, else None.
        share: done part of the conditions, 0 to 1; None before they begin.
        seconds: since the start.
    """

    template: ClassVar[str] = "robustness_progress.html"

    name: str
    words: Phrase | None
    model: ModelStateView | None
    share: float | None
    seconds: float


def robustness_progress(
    name: str, step: str, share: float, seconds: float, status: Status
) -> RobustnessProgressView:
    """How far the robustness test is; arguments as of `status_view.progress`."""
    words, model = None, None
    if step == "inference":
        total = n_conditions() + 1
        words = Phrase("ui.robustness.done", done=round(share * total), total=total)
    elif step == "model" and status.answering is None:
        model = model_state(status)
    else:
        words = Phrase("ui.robustness.prepare")
    return RobustnessProgressView(
        name=name,
        words=words,
        model=model,
        share=share if step == "inference" else None,
        seconds=seconds,
    )


# --- its result -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mark:
    """A point of the plot.

    Attributes:
        left, top: its place as CSS lengths.
        face: who leads where another emotion does than in the clean clip, else None.
        beside: whether a face of the other noise is so near that this one is moved sideways.
    """

    left: str
    top: str
    face: str | None
    beside: bool


@dataclass(frozen=True)
class Piece:
    """Neighbouring SNRs with the same leader: how many, who, and whether the clean one lost."""

    width: int
    emotion: str
    flipped: bool


@dataclass(frozen=True)
class Noise:
    """One noise in the plot.

    Attributes:
        kind: one of `NOISES`.
        line: the score of the clean leader over the SNRs as an SVG path.
        marks: its points.
        lane: who leads at each SNR.
    """

    kind: str
    line: str
    marks: tuple[Mark, ...]
    lane: tuple[Piece, ...]


@dataclass(frozen=True)
class PlotView(View):
    """The plot and its lanes.

    Attributes:
        title: whose score it shows.
        note: the plot in a sentence, for those who cannot see it.
        noises: its lines and lanes.
        width: in units of its lines.
        clean_y: height of the clean clip's score, downwards.
        unstable_from: left edge of the SNRs under 10 dB, as a CSS length.
        snrs_db: the SNRs, falling.
    """

    template: ClassVar[str] = "robustness_plot.html"

    title: Phrase
    note: Phrase
    noises: tuple[Noise, ...]
    width: int
    clean_y: str
    unstable_from: str
    snrs_db: tuple[str, ...]


@dataclass(frozen=True)
class ConditionRow:
    """A line of the table.

    Attributes:
        code: of the condition.
        name: of the condition.
        emotion: the leader; None where there is no outcome.
        confidence: the leader's score.
        change: of the clean leader's score, in points; empty for the clean clip.
        flipped: whether another emotion leads than in the clean clip.
        error: why there is no outcome, or empty.
    """

    code: str
    name: Phrase
    emotion: str | None
    confidence: str
    change: str
    flipped: bool
    error: str


@dataclass(frozen=True)
class RobustnessView(View):
    """A robustness test.

    Attributes:
        emotion: the clean clip's leader.
        confidence: its score.
        sayings: what was found, each a sentence.
        plot: the two noises.
        change_title: heads the column of changes.
        rows: of the table, the clean clip first.
        file_name, file_size, file_address: of all figures as JSON: a download that is in the page
            itself, so that nothing need be kept on the server.
        model: id of the one that answered.
    """

    template: ClassVar[str] = "robustness.html"

    emotion: str
    confidence: str
    sayings: tuple[Phrase, ...]
    plot: PlotView
    change_title: Phrase
    rows: tuple[ConditionRow, ...]
    file_name: str
    file_size: str
    file_address: str
    model: str


def robustness_result(test: RobustnessTest) -> RobustnessView:
    """The view of a finished test."""
    clean = test.outcomes[0]
    content = to_json(test)
    return RobustnessView(
        emotion=clean.emotion,
        confidence=percent(clean.confidence),
        sayings=tuple(_sayings(test)),
        plot=_plot(test.outcomes),
        change_title=Phrase("robustness.column.change", emotion=Phrase(f"emotion.{clean.emotion}")),
        rows=tuple(_row(one) for one in test.outcomes),
        file_name=f"{PurePath(test.source.name).stem}_robustness.json",
        file_size=megabytes(len(content)),
        file_address=f"data:application/json;base64,{base64.b64encode(content).decode()}",
        model=test.model.id,
    )


def _sayings(test: RobustnessTest) -> Iterator[Phrase]:
    """Where the leader changes, what codecs do, and what becomes of neutral."""
    for kind, snr_db in test.flip_snr_db.items():
        name = Phrase(f"robustness.{kind}")
        if snr_db is None:
            yield Phrase("robustness.holds", kind=name)
        else:
            yield Phrase("robustness.flips_at", kind=name, snr_db=snr_db)
    if test.flipped_codes:
        names = tuple(Phrase(f"robustness.{code}") for code in test.flipped_codes)
        yield Phrase("robustness.codecs_flip", names=names)
    else:
        yield Phrase("robustness.codecs_hold")
    rises = {kind: points(rise) for kind, rise in test.neutral_rise.items()}
    yield Phrase("robustness.neutral", **rises)
    if test.used_s < test.source.duration_s - 0.5:
        yield Phrase("robustness.first_part", seconds=test.used_s)
    if test.model.is_built_in:
        yield Phrase("caveat.compact_model")


def _plot(outcomes: Sequence[Outcome]) -> PlotView:
    clean = outcomes[0]
    lead = clean.emotion
    noisy = {kind: [one for one in outcomes if one.condition.kind == kind] for kind in NOISES}
    stable = sum(snr_db >= LOW_SNR_BELOW_DB for snr_db in SNRS_DB)
    name = Phrase(f"emotion.{lead}")
    at_0_db = {kind: percent(rows[-1].scores[lead]) for kind, rows in noisy.items()}
    return PlotView(
        title=Phrase("robustness.plot", emotion=name),
        note=Phrase("robustness.note", emotion=name, clean=percent(clean.confidence), **at_0_db),
        noises=tuple(
            Noise(kind, _line(rows, lead), _marks(kind, noisy, lead), _lane(rows))
            for kind, rows in noisy.items()
        ),
        width=COLUMN * len(SNRS_DB),
        clean_y=f"{100 - 100 * clean.confidence:.1f}",
        unstable_from=f"{stable / len(SNRS_DB):.2%}",
        snrs_db=tuple(f"{snr_db:.0f}" for snr_db in SNRS_DB),
    )


def _line(rows: Sequence[Outcome], lead: str) -> str:
    at = (
        f"{COLUMN * i + COLUMN // 2} {100 - 100 * one.scores[lead]:.1f}"
        for i, one in enumerate(rows)
    )
    return f"M{'L'.join(at)}"


def _marks(kind: str, noisy: Mapping[str, Sequence[Outcome]], lead: str) -> tuple[Mark, ...]:
    """A dot where the leader holds; where it does not, the face of who leads instead."""
    rows = noisy[kind]
    marks = []
    for i, one in enumerate(rows):
        score = one.scores[lead]
        # Only two faces are moved apart; a dot may lie under a face.
        beside = one.flipped and any(
            others[i].flipped and abs(others[i].scores[lead] - score) < NEAR
            for other, others in noisy.items()
            if other != kind
        )
        face = one.emotion if one.flipped else None
        marks.append(Mark(f"{(i + 0.5) / len(rows):.2%}", f"{1 - score:.1%}", face, beside))
    return tuple(marks)


def _lane(rows: Sequence[Outcome]) -> tuple[Piece, ...]:
    runs = itertools.groupby(rows, key=lambda one: (one.emotion, one.flipped))
    return tuple(Piece(len(list(run)), emotion, flipped) for (emotion, flipped), run in runs)


def _row(outcome: Outcome) -> ConditionRow:
    condition = outcome.condition
    name = Phrase(f"robustness.{condition.code}")
    if condition.snr_db is not None:
        kind = Phrase(f"robustness.{condition.kind}.short")
        name = Phrase("robustness.noise", kind=kind, snr_db=condition.snr_db)
    return ConditionRow(
        code=condition.code,
        name=name,
        emotion=outcome.emotion or None,
        confidence=percent(outcome.confidence),
        change="" if condition.kind == "clean" else points(outcome.delta),
        flipped=outcome.flipped,
        error=outcome.error,
    )
