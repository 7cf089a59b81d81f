"""All utterance embeddings of one model, with the results that they belong to.

Embeddings of different models have nothing to do with each other: every comparison is inside one
space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.errors import NoEmbeddings, NoEmbeddingsOfModel, TooFewEmbeddings
from emotion2vec_ui.records.index import History
from emotion2vec_ui.records.index_file import Row
from emotion2vec_ui.records.vectors import EmbeddingSpace


@dataclass(frozen=True)
class Space:
    """The embeddings of one model, all of one moment.

    Attributes:
        model: id of the model.
        weights_sha256: of its checkpoint; None where its results do not tell.
        rows: the result of each embedding.
        vectors: float16 (n, dim), in the order of `rows`, as the model gave them: not normalised,
            all finite, none zero. Read only, and of the file itself where nothing was deleted: a
            result removed while one computes may lend its row to a new one.
    """

    model: str
    weights_sha256: str | None
    rows: tuple[Row, ...]
    vectors: NDArray[np.float16]


def spaces(history: History) -> tuple[EmbeddingSpace, ...]:
    """Which models have embeddings: that with most first, of equal ones the latest."""
    return tuple(history.spaces())


def space(history: History, model: str | None = None) -> Space:
    """The embeddings of one model.

    Args:
        history: of the results.
        model: its id; None for the model with most embeddings. Of one that answered with several
            weights, those with most embeddings.

    Raises:
        NoEmbeddings: there are none.
        NoEmbeddingsOfModel: there are, but of other models.
    """
    while True:
        known = spaces(history)
        found = next((one for one in known if model in (None, one.model)), None)
        if found is None:
            if model is None or not known:
                raise NoEmbeddings()
            names = dict.fromkeys(one.model for one in known)
            raise NoEmbeddingsOfModel(model=model[:200], known=", ".join(names))
        snapshot = history.snapshot(found.model, found.weights_sha256, found.dim)
        rows = None if snapshot is None else history.rows_at(snapshot)
        # None: a result was removed just now, and with it perhaps the last.
        if snapshot is not None and rows:
            used = snapshot.rows
            if len(snapshot.free):
                used = np.delete(used, snapshot.free, axis=0)
            return Space(found.model, found.weights_sha256, tuple(rows), used)


def check_enough(found: Space, minimum: int) -> None:
    """Refuses what cannot be told from so few recordings.

    Raises:
        TooFewEmbeddings: there are fewer than `minimum`.
    """
    if len(found.rows) < minimum:
        raise TooFewEmbeddings(count=len(found.rows), model=found.model, minimum=minimum)
