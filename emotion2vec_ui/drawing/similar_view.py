"""The recordings most like the one that is shown: to hear, and to open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from emotion2vec_ui.drawing.figures import percent
from emotion2vec_ui.drawing.render import View
from emotion2vec_ui.records.index_file import Row
from emotion2vec_ui.records.store import files_of


@dataclass(frozen=True)
class SimilarRow:
    """A recording, as it is shown."""

    folder: str
    name: str
    time: str
    emotion: str
    confidence: str
    cosine: str
    audio_url: str


@dataclass(frozen=True)
class SimilarView(View):
    """A card with a row for each recording.

    Attributes:
        model: whose embeddings were compared.
        rows: the nearest first.
    """

    template: ClassVar[str] = "similar.html"

    model: str
    rows: tuple[SimilarRow, ...]


def similar_recordings(model: str, found: Iterable[tuple[Row, float]]) -> SimilarView:
    """The card for results and their cosines, the nearest first."""
    return SimilarView(
        model,
        tuple(
            SimilarRow(
                folder=row.folder,
                name=row.name or row.folder,
                time=row.timestamp[:16],
                emotion=row.emotion,
                confidence=percent(row.confidence),
                cosine=f"{cosine:.3f}",
                # Relative to the page, as all its addresses: it may stand behind a proxy's prefix.
                audio_url=files_of(row.folder, has_embedding=False).audio_url.lstrip("/"),
            )
            for row, cosine in found
        ),
    )
