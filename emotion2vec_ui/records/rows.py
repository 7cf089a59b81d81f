"""A result as one row of a table of many recordings: contract section 10."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from emotion2vec_ui import texts
from emotion2vec_ui.errors import EmotionError, SubclassRefused
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading.timeline import Segment
from emotion2vec_ui.records.report import Report, rounded
from emotion2vec_ui.records.store import files_of
from emotion2vec_ui.records.subclasses import Card
from emotion2vec_ui.texts import Phrase

OK = "ok"

COLUMNS = (
    "path",
    "sha256",
    "status",
    "emotion",
    "confidence",
    *(f"score_{emotion}" for emotion in EMOTIONS),
    "band",
    "familiarity",
    "quality",
    "warnings",
    "duration_s",
    "model",
    "error",
)
"""The columns of every table, in their order; flags add more after them."""

RESULT_COLUMNS = ("folder", "result_url")
"""Those of recordings that are kept as results of their own."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One recording; what a recording with an error does not have is None."""

    path: str
    """Relative to what was given, with `/`; bytes that are no text as `\\xNN`."""
    sha256: str | None
    """Of the file; None where it could not be read."""
    status: str
    """`ok` or the code of an error."""
    model: str
    """Id of the model."""
    emotion: str | None = None
    """The leader, one of the nine keys."""
    confidence: float | None = None
    """Its score, 0 to 1."""
    scores: tuple[float, ...] | None = None
    """All nine in the order of `labels.EMOTIONS`; they sum to 1."""
    band: str | None = None
    """high, medium, low or unreliable."""
    familiarity: float | None = None
    """0 to 1; None where the model has no reference."""
    quality: str | None = None
    """Verdict over the recording: good, fair or poor."""
    warnings: tuple[str, ...] = ()
    """Codes of what limits the result."""
    duration_s: float | None = None
    """Of the recording, in s."""
    error: Mapping[str, str] | None = None
    """What was wrong, by language."""
    folder: str | None = None
    """Of the result that it is kept as; None where none was asked for."""
    subclasses: Mapping[str, float] | None = None
    """By column, parts of a base emotion's score: see `subclass_columns`."""
    segments: tuple[Segment, ...] | None = None
    """Stretches of one emotion, where frames were asked for."""
    embedding: np.ndarray | None = None
    """float32 (dim,), where it was asked for."""


def of_report(
    path: str, report: Report, *, segments: bool, embedding: np.ndarray | None = None
) -> Row:
    """The row of a recording that was recognised.

    Args:
        path: of the file, as it stands in the table.
        report: with source, model and quality.
        segments: whether the table has them.
        embedding: float32 (dim,), or None where the table has none.
    """
    assert report.source and report.model and report.quality
    reliability = report.reliability
    return Row(
        path=path,
        sha256=report.source.sha256,
        status=OK,
        model=report.model.id,
        emotion=report.emotion,
        confidence=report.confidence,
        scores=tuple(report.nine_scores[emotion] for emotion in EMOTIONS),
        band=reliability.band,
        familiarity=rounded(reliability.familiarity),
        quality=report.quality.verdict,
        warnings=tuple(warning.code for warning in report.warnings),
        duration_s=rounded(report.source.duration_s),
        subclasses={
            _column(name, label): share
            for name, divided in report.subclasses.items()
            for label, share in {**divided.scores, "none": divided.none}.items()
        }
        if report.subclasses
        else None,
        segments=tuple(Segment(**rounded(asdict(one))) for one in report.segments)
        if segments
        else None,
        embedding=embedding,
    )


def of_error(path: str, sha256: str | None, model: str, error: EmotionError) -> Row:
    """The row of a recording that could not be recognised; its words name no folder."""
    told = error.public()
    words = {lang: told.message(lang) for lang in texts.languages()}
    return Row(path=path, sha256=sha256, status=error.code, model=model, error=words)


def subclass_columns(cards: Iterable[Card]) -> tuple[str, ...]:
    """The columns that sets of sub-classes add.

    Raises:
        SubclassRefused: two of them would have the same name.
    """
    columns = [_column(card.name, one) for card in cards for one in (*card.classes, "none")]
    for column in columns:
        if columns.count(column) > 1:
            raise SubclassRefused(problem=Phrase("subclass.same_column", column=column))
    return tuple(columns)


def _column(name: str, label: str) -> str:
    return f"subclass_{name}_{label}"


def cells(row: Row, lang: str, root_path: str = "") -> dict[str, Any]:
    """The row's cells by column, in order; `error` in `lang`, addresses below `root_path`.

    What flags add comes last, where the row has it.
    """
    scores = row.scores or (None,) * len(EMOTIONS)
    values: dict[str, Any] = {
        "path": row.path,
        "sha256": row.sha256,
        "status": row.status,
        "emotion": row.emotion,
        "confidence": row.confidence,
        **{f"score_{name}": score for name, score in zip(EMOTIONS, scores, strict=True)},
        "band": row.band,
        "familiarity": row.familiarity,
        "quality": row.quality,
        "warnings": list(row.warnings),
        "duration_s": row.duration_s,
        "model": row.model,
        "error": row.error[lang] if row.error else None,
    }
    if row.folder is not None:
        files = files_of(row.folder, has_embedding=False, root_path=root_path)
        values |= dict(zip(RESULT_COLUMNS, (row.folder, files.result_url), strict=True))
    values |= row.subclasses or {}
    if row.segments is not None:
        values["segments"] = [asdict(segment) for segment in row.segments]
    if row.embedding is not None:
        values["embedding"] = row.embedding
    return values


def to_json(row: Row) -> str:
    """The row without its embedding, for `from_json`."""
    content = {**vars(row), "embedding": None}
    if row.segments is not None:
        content["segments"] = [asdict(segment) for segment in row.segments]
    return json.dumps(content, ensure_ascii=False)


def from_json(content: str, embedding: np.ndarray | None = None) -> Row:
    """The row that `to_json` wrote, with its embedding."""
    values = json.loads(content)
    for name in ("scores", "warnings"):
        if values[name] is not None:
            values[name] = tuple(values[name])
    if values["segments"] is not None:
        values["segments"] = tuple(Segment(**one) for one in values["segments"])
    return Row(**{**values, "embedding": embedding})
