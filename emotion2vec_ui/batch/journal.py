"""Every row as soon as it is known, in a SQLite file beside the table: what a run goes on from.

Each row is a transaction of its own in SQLite's write-ahead log: a process killed at any moment
leaves whole rows only, and a path has one row. The table itself is written from here at the end.
While a run has the file open no other can: SQLite's own lock, which ends with the process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path

import numpy as np

from emotion2vec_ui.batch.manifest import Found
from emotion2vec_ui.errors import BatchDiskFull, OutputError, ResultsFileError
from emotion2vec_ui.records.rows import OK, Row, from_json, to_json
from emotion2vec_ui.texts import Phrase

SCHEMA = "emotion2vec_ui.batch/1"

FINAL = (
    OK,
    "cannot_decode",
    "audio_empty",
    "audio_not_finite",
    "audio_silent",
    "audio_too_short",
)
"""What is true of a file's content, and need not be found out again while it stays the same. Other
errors (a file that could not be read, no memory) may be gone the next time."""

PAGE = 500
"""Rows fetched at a time."""

_TABLES = """
CREATE TABLE IF NOT EXISTS terms (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS done (
    path BLOB PRIMARY KEY,
    bytes INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    sha256 TEXT,
    status TEXT NOT NULL,
    duration_s REAL,
    row TEXT NOT NULL,
    embedding BLOB
);
"""


@dataclass(frozen=True)
class Terms:
    """What all rows of one table have in common; a run on other terms needs another file.

    Attributes:
        schema: of the journal.
        root: the folder that paths are relative to.
        model: its id.
        weights_sha256: of its checkpoint.
        precision: that it ran in.
        reference_sha256: of what tells familiarity, or "-".
        granularity: "utterance" or "frame".
        embedding: numbers in each embedding, 0 for none.
        subclass: sets of sub-classes with their versions, or "-".
    """

    schema: str
    root: str
    model: str
    weights_sha256: str
    precision: str
    reference_sha256: str
    granularity: str
    embedding: int
    subclass: str = "-"


@dataclass(frozen=True)
class Todo:
    """A file without a row that holds good.

    Attributes:
        file: as it was listed.
        known_sha256: of the file when it was recognised, where its size is still the same.
    """

    file: Found
    known_sha256: str | None


@dataclass(frozen=True)
class Amount:
    """How many files, and their bytes together."""

    files: int
    bytes: int


class Journal:
    """The rows that are done, and the files that are not.

    Args:
        path: of the SQLite file; made when absent.

    Raises:
        ResultsFileError: another run has it open, or it is damaged.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        with self._told():
            self._db = sqlite3.connect(path, timeout=0, check_same_thread=False)
            try:
                # In this order, no shared memory is used, which network file systems lack.
                self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
                self._db.executescript(_TABLES)
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Lets another run open it."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._db.close()

    def remove(self) -> None:
        """Closes and deletes it."""
        self.close()
        for suffix in ("", "-wal"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    def agree(self, terms: Terms) -> None:
        """Sets the terms of a journal without rows.

        Raises:
            ResultsFileError: it has rows on other terms.
        """
        wanted = {name: str(value) for name, value in asdict(terms).items()}
        with self._told(), self._db:
            found = dict(self._db.execute("SELECT name, value FROM terms"))
            if self._db.execute("SELECT 1 FROM done LIMIT 1").fetchone() is None:
                self._db.execute("DELETE FROM terms")
                self._db.executemany("INSERT INTO terms VALUES (?, ?)", wanted.items())
                return
        for field in fields(Terms):
            # Journals of earlier versions have no sub-classes.
            if found.get(field.name, "-") != wanted[field.name]:
                problem = Phrase(
                    "batch.other_terms",
                    what=Phrase(f"batch.terms.{field.name}"),
                    found=_short(found.get(field.name, "-")),
                    wanted=_short(wanted[field.name]),
                )
                raise ResultsFileError(path=self.path, problem=problem)

    def list_files(self, files: Iterable[Found]) -> tuple[Amount, Amount]:
        """Takes in what is to be recognised.

        Args:
            files: all of them; one that comes twice counts once.

        Returns:
            How much there is altogether, and how much of it has no row that holds good.
        """
        final = f"(done.status IN ({', '.join('?' * len(FINAL))}))"
        with self._told():
            self._db.executescript(
                "DROP TABLE IF EXISTS temp.listed; DROP TABLE IF EXISTS temp.todo;"
            )
            self._db.execute(
                "CREATE TEMP TABLE listed "
                "(number INTEGER PRIMARY KEY, path BLOB UNIQUE, bytes INTEGER, modified_ns INTEGER)"
            )
            rows = ((os.fsencode(one.name), one.bytes, one.modified_ns) for one in files)
            while page := list(islice(rows, PAGE)):
                with self._db:
                    self._db.executemany(
                        "INSERT OR IGNORE INTO listed (path, bytes, modified_ns) VALUES (?, ?, ?)",
                        page,
                    )
            with self._db:
                self._db.execute(
                    "CREATE TEMP TABLE todo (number INTEGER PRIMARY KEY, path BLOB, bytes INTEGER, "
                    "modified_ns INTEGER, known_sha256 TEXT)"
                )
                self._db.execute(
                    "INSERT INTO todo SELECT number, listed.path, listed.bytes, "
                    f"listed.modified_ns, CASE WHEN done.bytes = listed.bytes AND {final} "
                    "THEN done.sha256 END AS known_sha256 "
                    "FROM listed LEFT JOIN done USING (path) "
                    "WHERE done.path IS NULL OR done.bytes <> listed.bytes "
                    f"OR done.modified_ns <> listed.modified_ns OR NOT {final} ORDER BY number",
                    (*FINAL, *FINAL),
                )
            amounts = [
                self._db.execute(f"SELECT count(*), total(max(bytes, 0)) FROM {name}").fetchone()
                for name in ("listed", "todo")
            ]
        everything, todo = (Amount(count, int(size)) for count, size in amounts)
        return everything, todo

    def todo(self) -> Iterator[Todo]:
        """The listed files without a row that holds good, in order."""
        last = 0
        while True:
            with self._told():
                page = self._db.execute(
                    "SELECT number, path, bytes, modified_ns, known_sha256 FROM todo "
                    "WHERE number > ? ORDER BY number LIMIT ?",
                    (last, PAGE),
                ).fetchall()
            if not page:
                return
            last = page[-1][0]
            for _, path, size, modified_ns, known_sha256 in page:
                yield Todo(Found(os.fsdecode(path), size, modified_ns), known_sha256)

    def add(self, file: Found, row: Row) -> None:
        """Keeps a row, in place of an older one of the same path."""
        embedding = None if row.embedding is None else row.embedding.astype("<f4").tobytes()
        with self._told(), self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO done VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    os.fsencode(file.name),
                    file.bytes,
                    file.modified_ns,
                    row.sha256,
                    row.status,
                    row.duration_s,
                    to_json(row),
                    embedding,
                ),
            )

    def touch(self, file: Found) -> None:
        """Notes a file's new time, where its content is the same."""
        with self._told(), self._db:
            self._db.execute(
                "UPDATE done SET modified_ns = ? WHERE path = ?",
                (file.modified_ns, os.fsencode(file.name)),
            )

    def counts(self) -> tuple[int, int, float]:
        """Rows, those of them with an error, and s of audio in all."""
        with self._told():
            found = self._db.execute(
                "SELECT count(*), count(*) FILTER (WHERE status <> ?), total(duration_s) FROM done",
                (OK,),
            ).fetchone()
        rows, failed, audio_s = found
        return rows, failed, audio_s

    def rows(self, *, failed_only: bool = False) -> Iterator[tuple[Row, float]]:
        """Every row by path, and when its file was last written, in s since 1970."""
        last = b""
        condition = f"status <> '{OK}'" if failed_only else "1"
        while True:
            with self._told():
                page = self._db.execute(
                    "SELECT path, modified_ns, row, embedding FROM done "
                    f"WHERE path > ? AND {condition} ORDER BY path LIMIT ?",
                    (last, PAGE),
                ).fetchall()
            if not page:
                return
            last = page[-1][0]
            for _, modified_ns, content, embedding in page:
                vector = None if embedding is None else np.frombuffer(embedding, "<f4")
                yield from_json(content, vector), modified_ns / 1e9

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """One thread at a time; SQLite's errors as ours."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise self._known(error) from error

    def _known(self, error: sqlite3.Error) -> OutputError:
        # SQLite's texts: its codes reach Python from 3.11 on only.
        text = str(error)
        if "full" in text:
            free_mb = shutil.disk_usage(self.path.parent).free / 1e6
            return BatchDiskFull(free_mb=free_mb, path=self.path)
        if "locked" in text:
            return ResultsFileError(path=self.path, problem=Phrase("batch.locked"))
        if "not a database" in text or "malformed" in text or "no such column" in text:
            problem = Phrase("batch.damaged", detail=text)
            return ResultsFileError(path=self.path, problem=problem)
        return OutputError(path=self.path, problem=text)


def _short(value: str) -> str:
    """A hash by its first digits."""
    return value[:12] if len(value) == 64 else value
