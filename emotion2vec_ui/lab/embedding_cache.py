"""Embeddings of recordings that sub-classes were trained on, so that training again is quick.

One SQLite file, which may be deleted at any time. An embedding belongs to the bytes of a recording,
the weights that made it and the precision they ran in.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emotion2vec_ui.errors import OutputError

_TABLE = """
CREATE TABLE IF NOT EXISTS embeddings (
    sha256 TEXT, weights_sha256 TEXT, precision TEXT,
    embedding BLOB, duration_s REAL, quality TEXT,
    PRIMARY KEY (sha256, weights_sha256, precision)
) WITHOUT ROWID
"""

WAIT_S = 30.0
"""For another process that writes."""


@dataclass(frozen=True)
class Heard:
    """What is kept of a recording.

    Attributes:
        embedding: float32 (dim,), of the whole recording.
        duration_s: of what the model heard.
        quality: the verdict on the recording.
    """

    embedding: np.ndarray
    duration_s: float
    quality: str


class EmbeddingCache:
    """The cache of one model.

    Args:
        path: of the file; made when absent.
        weights_sha256, precision: of the model.
    """

    def __init__(self, path: Path, weights_sha256: str, precision: str) -> None:
        self._path = path
        self._model = (weights_sha256, precision)
        with self._open() as connection:
            connection.execute(_TABLE)

    def get(self, sha256: str) -> Heard | None:
        """What is kept of the recording with these bytes; None where nothing is."""
        with self._open() as connection:
            row = connection.execute(
                "SELECT embedding, duration_s, quality FROM embeddings "
                "WHERE sha256 = ? AND weights_sha256 = ? AND precision = ?",
                (sha256, *self._model),
            ).fetchone()
        if row is None:
            return None
        return Heard(np.frombuffer(row[0], np.float32).copy(), row[1], row[2])

    def put(self, sha256: str, heard: Heard) -> None:
        """Keeps what was found of a recording.

        Raises:
            OutputError: it cannot be written.
        """
        content = np.ascontiguousarray(heard.embedding, np.float32).tobytes()
        with self._open() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?, ?, ?, ?)",
                (sha256, *self._model, content, heard.duration_s, heard.quality),
            )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # A connection for each use: the work is that of a file system's, and threads may share us.
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=WAIT_S)) as connection, connection:
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise OutputError(path=self._path.name, problem=str(error)) from error
