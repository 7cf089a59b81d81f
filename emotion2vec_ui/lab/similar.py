"""Which recordings are most like one: by the cosine of utterance embeddings, all compared.

Every embedding of the model is compared: nothing is approximated, so nothing is missed. USearch
does it in place, on the float16 rows of the file (benchmarks/results/lab.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.errors import (
    BadField,
    EmbeddingUnusable,
    NoEmbeddingOfResult,
    NoEmbeddings,
    NoEmbeddingsOfModel,
    OtherModel,
)
from emotion2vec_ui.lab.index import spaces
from emotion2vec_ui.pipeline.recogniser import Embedded
from emotion2vec_ui.records import store
from emotion2vec_ui.records.index import History
from emotion2vec_ui.records.index_file import Row
from emotion2vec_ui.records.vectors import Snapshot, usable

TOP = 10
"""How many are given where it is not said."""
MAX_TOP = 1000

MORE = 16
"""Found beyond those wanted, before they are put in order by cosines in float64: USearch rounds."""

DECIMALS = 6


@dataclass(frozen=True)
class Neighbour:
    """A result and how like it is: the cosine of the two embeddings, -1 to 1."""

    row: Row
    cosine: float


@dataclass(frozen=True)
class SimilarRecording:
    """A recording that was found."""

    folder: str
    """Its result's."""
    name: str
    """Of the recording's file; empty where an old result does not tell."""
    emotion: str
    """The leader, one of the nine keys."""
    confidence: float
    """The leader's score, 0 to 1."""
    cosine: float
    """Of its embedding and that asked about, -1 to 1; 1 for the same recording."""
    result_url: str
    """Address of its result.json."""


@dataclass(frozen=True)
class Similar:
    """The recordings most like one, nearest first."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    query: str
    """The recording's name, or the result's folder."""
    model: str
    """Whose embeddings were compared."""
    results: tuple[SimilarRecording, ...]
    """Nearest first; one that is itself in the index comes first."""


Embed = Callable[[Path, str], Embedded]
"""Path and name of a recording in, its embedding out: `Recogniser.embed`."""


def to_recording(history: History, embedded: Embedded, *, top: int = TOP) -> list[Neighbour]:
    """The results most like a recording, nearest first.

    Args:
        history: of the results.
        embedded: the recording.
        top: at most so many, 1 to `MAX_TOP`.

    Raises:
        BadField: `top` is out of range.
        NoEmbeddings: there is nothing to compare with.
        EmbeddingUnusable: the recording's embedding is not finite, or zero.
    """
    model = embedded.model
    found = _nearest(
        history, embedded.source.name, embedded.vector, model.id, model.weights_sha256, top
    )
    # Of equal cosines the recording itself comes first.
    is_other = {one.row.folder: one.row.sha256 != embedded.source.sha256 for one in found}
    return sorted(found, key=lambda one: (-one.cosine, is_other[one.row.folder]))


def to_result(
    history: History, folder: str, *, top: int = TOP, embed: Embed | None = None
) -> list[Neighbour]:
    """The results most like a result, itself first.

    Args:
        history: of the results.
        folder: of the result.
        top: at most so many, itself included.
        embed: recognises the recording of a result that has no embedding, which is then kept with
            it; without this, such a result is an error.

    Raises:
        BadField: `top` is out of range.
        ResultNotFound: there is no such result.
        NoEmbeddingOfResult: it has no embedding, and cannot be given one.
        OtherModel: it has none, and another model than its own answers now.
        NoEmbeddings: embeddings are not kept (`--no-index`).
        EmbeddingUnusable: its embedding is not finite, or zero.
    """
    report = history.get(folder)
    path = history.path(folder)
    vector = store.utterance_embedding(path)
    model = report.model
    if model is None:  # of the first WebUI: which model gave its embedding is not known
        raise NoEmbeddingOfResult(name=folder)
    if vector is None:
        recording = path / store.AUDIO_NAME
        if embed is None or not recording.is_file():
            raise NoEmbeddingOfResult(name=folder)
        embedded = embed(recording, report.recording_name(folder))
        now = embedded.model
        if (now.id, now.weights_sha256) != (model.id, model.weights_sha256):
            raise OtherModel(name=folder, model=model.id, answering=now.id)
        vector = embedded.vector
        if history.embeddings:
            history.add_embedding(folder, vector)
    found = _nearest(history, folder, vector, model.id, model.weights_sha256, top)
    # Of equal cosines it comes first itself.
    return sorted(found, key=lambda one: (-one.cosine, one.row.folder != folder))


def answer(query: str, neighbours: list[Neighbour], *, root_path: str = "") -> Similar:
    """What was found as the API and the command line answer it: contract section 10."""
    return Similar(
        query,
        neighbours[0].row.model or "",
        tuple(
            SimilarRecording(
                folder=one.row.folder,
                name=one.row.name,
                emotion=one.row.emotion,
                confidence=one.row.confidence,
                cosine=one.cosine,
                result_url=store.files_of(
                    one.row.folder, has_embedding=False, root_path=root_path
                ).result_url,
            )
            for one in neighbours
        ),
    )


def _nearest(
    history: History,
    name: str,
    vector: np.ndarray,
    model: str,
    weights_sha256: str | None,
    top: int,
) -> list[Neighbour]:
    if not 1 <= top <= MAX_TOP:
        raise BadField(field="top", value=str(top), allowed=f"1-{MAX_TOP}")
    query = usable(vector)
    if query is None:
        raise EmbeddingUnusable(name=name)
    while True:
        snapshot = history.snapshot(model, weights_sha256, len(query))
        n_used = 0 if snapshot is None else len(snapshot.rows) - len(snapshot.free)
        if snapshot is None or not n_used:
            known = dict.fromkeys(one.model for one in spaces(history))
            if not known:
                raise NoEmbeddings()
            raise NoEmbeddingsOfModel(model=model, known=", ".join(known))
        numbers, cosines = _search(snapshot, query, min(top, n_used))
        rows = history.rows_at(snapshot, numbers.tolist())
        # None: a result was removed just now; the rows found may be another's by now.
        if rows is not None:
            return [
                Neighbour(row, round(cosine, DECIMALS))
                for row, cosine in zip(rows, cosines.tolist(), strict=True)
            ]


def _search(
    snapshot: Snapshot, query: NDArray[np.float16], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The rows of the highest cosines, highest first, and these cosines."""
    from usearch.index import MetricKind, search

    # Free rows hold what was removed: so many more are asked for, then left out.
    wanted = min(len(snapshot.rows), count + MORE + len(snapshot.free))
    found = search(snapshot.rows, query, wanted, metric=MetricKind.Cos, exact=True)
    numbers = np.asarray(found.keys, np.int64)
    numbers = numbers[~np.isin(numbers, snapshot.free)]
    rows = snapshot.rows[numbers].astype(np.float64)
    exact = query.astype(np.float64)
    cosines = rows @ exact / (np.linalg.norm(rows, axis=1) * np.linalg.norm(exact))
    order = np.argsort(-cosines, kind="stable")[:count]
    return numbers[order], np.clip(cosines[order], -1.0, 1.0)
