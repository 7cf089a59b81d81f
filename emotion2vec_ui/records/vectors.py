"""Utterance embeddings of all results: one flat file per model, its row numbers in the index.

A file holds rows of `dim` float16 and nothing else, so that it is searched where it lies, by memory
map. Which row belongs to which result stands in the index: in the same transaction as the result
itself, which is committed after the rows are on the disk. A process killed in between leaves rows
that nothing names; they are written over. A row that is no longer needed is free from the next
transaction on: never within the same, so that no row is overwritten that the index, as the disk has
it, still names.

Embeddings of different models are never in one file: a space is a model's id, its weights and its
dimension.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

FILE_PREFIX = ".vectors-"

DTYPE = np.dtype("<f2")
"""Half the memory to search of float32. Cosines of compact's embeddings change by less than 1e-4
(tests/lab/test_index.py)."""

STEP_ROWS = 4096
"""A file grows by so many rows, of which empty ones take no room on the disk: a map of it is made
anew only then, and every new map costs a page fault for each page that is read."""

TABLES = ("spaces", "free_rows", "freed")


@dataclass(frozen=True)
class EmbeddingSpace:
    """What one model's embeddings have in common: they can be compared.

    Attributes:
        model: id of the model.
        weights_sha256: of its checkpoint; None where its results do not tell.
        dim: dimension of its utterance embeddings.
        count: results that have one.
        newest: the latest of them, local time, "YYYY-MM-DD HH:MM:SS".
    """

    model: str
    weights_sha256: str | None
    dim: int
    count: int
    newest: str


@dataclass(frozen=True)
class Snapshot:
    """The rows of one space as they were at one moment.

    Attributes:
        space: number of the space in the index.
        rows: float16 (size, dim): every row that was ever in use, mapped, read only.
        free: int64 (n,): those among them that belong to no result.
        freed: a number that changes when rows of any space are freed: while it is the same, none
            of these rows can have been written over.
    """

    space: int
    rows: NDArray[np.float16]
    free: NDArray[np.int64]
    freed: int


def usable(vector: np.ndarray) -> NDArray[np.float16] | None:
    """The vector as it is kept, float16 (dim,); None where no cosine with it can be told."""
    with np.errstate(over="ignore"):
        kept = vector.astype(DTYPE)
    if kept.ndim != 1 or not np.isfinite(kept).all() or not kept.any():
        return None
    return kept


class Writer:
    """Adds and frees rows inside one transaction of the index.

    Args:
        db: in a write transaction.
        folder: of the files.
    """

    def __init__(self, db: sqlite3.Connection, folder: Path) -> None:
        self._db = db
        self._folder = folder
        self._open: dict[int, _OpenFile] = {}
        self._freed: list[tuple[int, int]] = []

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.handle.close()

    def add(
        self, model: str, weights_sha256: str | None, embedding: np.ndarray
    ) -> tuple[int, int] | tuple[None, None]:
        """Writes an utterance embedding.

        Args:
            model: id of the model that gave it.
            weights_sha256: of its checkpoint; None where that is not known.
            embedding: float (dim,).

        Returns:
            Its space and its row; Nones where it is not usable.

        Raises:
            OSError: it cannot be written.
        """
        vector = usable(embedding)
        if vector is None:
            return None, None
        file = self._file((model, weights_sha256 or "", len(vector)))
        number = file.free.pop() if file.free else file.size
        file.size = max(file.size, number + 1)
        file.write(number, vector)
        return file.space, number

    def free(self, folder: str) -> None:
        """Frees the row of a result that is about to lose its place in the index."""
        query = "SELECT space, vector FROM results WHERE folder = ? AND space IS NOT NULL"
        self._freed += self._db.execute(query, (folder,)).fetchall()

    def flush(self) -> None:
        """Brings the rows to the disk, then notes what is in use. To be called before the commit.

        Raises:
            OSError: they cannot be written.
        """
        for file in self._open.values():
            os.fsync(file.handle.fileno())
            self._db.execute("UPDATE spaces SET size = ? WHERE id = ?", (file.size, file.space))
            taken = [(file.space, number) for number in file.taken]
            self._db.executemany("DELETE FROM free_rows WHERE space = ? AND number = ?", taken)
        if self._freed:
            self._db.executemany("INSERT INTO free_rows VALUES (?, ?)", self._freed)
            self._db.execute("UPDATE freed SET times = times + 1")

    def _file(self, key: tuple[str, str, int]) -> _OpenFile:
        found = self._db.execute(
            "SELECT id, file, size FROM spaces WHERE (model, weights_sha256, dim) = (?, ?, ?)", key
        ).fetchone()
        if found is None:
            # A name that no other index ever uses: one built anew begins with files of its own.
            name = f"{FILE_PREFIX}{uuid.uuid4().hex}"
            self._db.execute(
                "INSERT INTO spaces (model, weights_sha256, dim, file, size)"
                " VALUES (?, ?, ?, ?, 0)",
                (*key, name),
            )
            return self._file(key)
        space, name, size = found
        if space not in self._open:
            path = self._folder / name
            query = "SELECT number FROM free_rows WHERE space = ? ORDER BY number DESC"
            free = [number for (number,) in self._db.execute(query, (space,))]
            # A file that has rows was there when the index was opened.
            handle = path.open("r+b" if size else "w+b", buffering=0)
            self._open[space] = _OpenFile(space, handle, size, free)
        return self._open[space]


class _OpenFile:
    """One file while a transaction adds to it."""

    def __init__(self, space: int, handle: BinaryIO, size: int, free: list[int]) -> None:
        self.space = space
        self.handle = handle
        self.size = size
        self.free = free
        self.taken: list[int] = []

    def write(self, number: int, vector: NDArray[np.float16]) -> None:
        self.taken.append(number)
        needed = _file_bytes(number + 1, len(vector))
        if os.fstat(self.handle.fileno()).st_size < needed:
            self.handle.truncate(needed)
        self.handle.seek(number * vector.nbytes)
        content = memoryview(vector.tobytes())
        while content:
            content = content[self.handle.write(content) :]


class Reader:
    """Maps the files of one folder, each once until it has grown.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._maps: dict[str, NDArray[np.float16]] = {}

    def snapshot(self, db: sqlite3.Connection, space: int) -> Snapshot:
        """The rows of a space of the index.

        Raises:
            OSError: its file is not there or was cut.
        """
        query = "SELECT file, size, dim FROM spaces WHERE id = ?"
        name, size, dim = db.execute(query, (space,)).fetchone()
        query = "SELECT number FROM free_rows WHERE space = ?"
        free = [number for (number,) in db.execute(query, (space,))]
        rows = self._map(name, size, dim)[:size]
        return Snapshot(space, rows, np.array(free, np.int64), freed(db))

    def _map(self, name: str, size: int, dim: int) -> NDArray[np.float16]:
        mapped = self._maps.get(name)
        if mapped is None or len(mapped) < size:
            shape = (-(-size // STEP_ROWS) * STEP_ROWS, dim)
            try:
                mapped = np.memmap(self.folder / name, DTYPE, "r", shape=shape)
            except ValueError as error:  # numpy's word for a file that is too short
                raise OSError(str(error)) from None
            # A plain array over the same memory: each slice of a memmap costs microseconds.
            self._maps[name] = mapped = np.asarray(mapped)
        return mapped


def make_tables(db: sqlite3.Connection) -> None:
    """Makes the tables of an index without embeddings; those of an earlier one are gone."""
    # `size` rows were ever in use; those of them that are not now stand in free_rows.
    db.execute(
        "CREATE TABLE spaces (id INTEGER PRIMARY KEY, model TEXT NOT NULL,"
        " weights_sha256 TEXT NOT NULL, dim INTEGER NOT NULL, file TEXT NOT NULL,"
        " size INTEGER NOT NULL, UNIQUE (model, weights_sha256, dim))"
    )
    db.execute(
        "CREATE TABLE free_rows (space INTEGER, number INTEGER, PRIMARY KEY (space, number))"
        " WITHOUT ROWID"
    )
    # Begun anywhere, so that no snapshot of an earlier index is taken for one of this.
    db.execute("CREATE TABLE freed (times INTEGER NOT NULL)")
    db.execute("INSERT INTO freed VALUES (?)", (secrets.randbits(62),))


def freed(db: sqlite3.Connection) -> int:
    """A number that changes when rows are freed."""
    (times,) = db.execute("SELECT times FROM freed").fetchone()
    return int(times)


def check_files(db: sqlite3.Connection, folder: Path) -> None:
    """Looks whether every file that the index names is there and whole.

    Raises:
        OSError: one is not.
    """
    for name, size, dim in db.execute("SELECT file, size, dim FROM spaces WHERE size > 0"):
        if (folder / name).stat().st_size < _file_bytes(size, dim):
            raise OSError(f"{name} was cut")


def remove_unnamed(db: sqlite3.Connection, folder: Path) -> None:
    """Removes files that the index does not name: of an earlier index, or of a killed process.

    Args:
        db: in a write transaction, so that no other process is making one.
        folder: of the files.
    """
    named = {name for (name,) in db.execute("SELECT file FROM spaces")}
    for path in folder.glob(f"{FILE_PREFIX}*"):
        if path.name not in named:
            with contextlib.suppress(OSError):
                path.unlink()


def spaces(db: sqlite3.Connection) -> list[EmbeddingSpace]:
    """Every space that has results; that with most first, of equal ones the latest."""
    query = (
        "SELECT s.model, s.weights_sha256, s.dim, count(*), max(r.timestamp)"
        " FROM results AS r JOIN spaces AS s ON s.id = r.space"
        " GROUP BY s.id ORDER BY count(*) DESC, max(r.timestamp) DESC"
    )
    return [
        EmbeddingSpace(model, weights_sha256 or None, dim, count, newest)
        for model, weights_sha256, dim, count, newest in db.execute(query)
    ]


def find(db: sqlite3.Connection, model: str, weights_sha256: str | None, dim: int) -> int | None:
    """The number of a space in this index; None where there is none."""
    found = db.execute(
        "SELECT id FROM spaces WHERE (model, weights_sha256, dim) = (?, ?, ?)",
        (model, weights_sha256 or "", dim),
    ).fetchone()
    return None if found is None else int(found[0])


def _file_bytes(rows: int, dim: int) -> int:
    """The size of a file of so many rows, in whole steps."""
    return -(-rows // STEP_ROWS) * STEP_ROWS * dim * DTYPE.itemsize
